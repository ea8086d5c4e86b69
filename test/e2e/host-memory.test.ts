import test from 'ava';
import type { Isolation } from '../../src/wire/definition.js';
import { record, specOf } from '../host/recorder.js';

/**
 * Who owns the memory of a batch. The actors keep every batch they saw, and tell of what they kept before the one they
 * answer: '<first value> x <number of values>'.
 */
const keeping = (handsOver: boolean): string =>
  `data:text/javascript,${encodeURIComponent(`
  const kept = [];
  const told = () => kept.map((array) => array[0] + ' x ' + array.length).join(', ');
  export default {
    handsOver: ${handsOver},
    predict(batch) {
      kept.push(...batch.filter((record) => record.length > 1000));
      return batch.map((record) => record.length > 1000 ? record : told());
    },
  };
`)}`;

const COLUMNS = `data:text/javascript,${encodeURIComponent(`
  const spec = (name) => ({ name, dtype: 'float32', shape: [20000] });
  const fixed = new Float32Array(60000).fill(9);
  export default {
    handsOver: true,
    signature: { inputs: [spec('a'), spec('b')], outputs: [spec('same'), spec('again'), spec('part'), spec('new')] },
    predict: ({ count, columns: { a, b } }) => {
      const column = (data) => ({ dtype: 'float32', shape: [20000], data });
      const made = b.data.map((value) => value + 1);
      return { count, columns: {
        same: column(a.data), again: column(a.data), part: column(fixed.subarray(0, 20000 * count)), new: column(made),
      } };
    },
  };
`)}`;

const VALUES = 40_000;
const isolations = ['inline', 'thread', 'process'] as const satisfies readonly Isolation[];

for (const isolation of isolations) {
  test(`${isolation}: an actor may keep what it was given, and what it returned`, async (t) => {
    await using actor = record(specOf(isolation, { actor: keeping(false) }));
    await actor.ready;
    const inputs = [1, 2, 3].map((value) => new Float32Array(VALUES).fill(value));
    for (const input of inputs) {
      const answer = await actor.ask([input]);
      t.deepEqual(answer.kind === 'reply' && answer.results, [{ ok: true, value: input }]);
    }
    const told = await actor.ask(['?']);
    t.deepEqual(told.kind === 'reply' && told.results, [
      { ok: true, value: inputs.map((input) => `${input[0]} x ${VALUES}`).join(', ') },
    ]);
  });

  test(`${isolation}: columns that are handed over may repeat or be parts, and arrive whole each time`, async (t) => {
    await using actor = record(specOf(isolation, { actor: COLUMNS }));
    await actor.ready;
    for (let round = 1; round <= 6; round++) {
      const inputs = Array.from({ length: round % 2 === 0 ? 2 : 1 }, (_, index) => ({
        a: new Float32Array(20_000).fill(round + index),
        b: new Float32Array(20_000).fill(-round),
      }));
      const answer = await actor.ask(inputs);
      if (answer.kind !== 'reply') return t.fail(String(answer.error));
      t.deepEqual(
        answer.results,
        inputs.map(({ a }) => ({
          ok: true,
          value: {
            same: a,
            again: a,
            part: new Float32Array(20_000).fill(9),
            new: new Float32Array(20_000).fill(1 - round),
          },
        })),
      );
    }
  });
}

for (const isolation of ['thread', 'process'] as const) {
  test(`${isolation}: results that were kept never change, whichever batches follow`, async (t) => {
    for (const handsOver of [false, true]) {
      await using actor = record(specOf(isolation, { actor: keeping(handsOver) }));
      await actor.ready;
      const kept: [number, Float32Array][] = [];
      // Batches of one and of several, two at a time; the caller writes into its array again after each answer.
      const input = new Float32Array(VALUES);
      for (let round = 1; round <= 12; round++) {
        input.fill(round);
        const batch = round % 3 === 0 ? [input, input.slice(0, 30_000)] : [input];
        const answers = await Promise.all([actor.ask(batch), actor.ask(batch)]);
        for (const answer of answers) {
          if (answer.kind !== 'reply') return t.fail();
          for (const result of answer.results) kept.push([round, (result as { value: Float32Array }).value]);
        }
      }
      t.is(kept.length, 32);
      for (const [round, value] of kept) t.true(value.length >= 30_000 && value.every((seen) => seen === round));
      t.is(new Set(kept.map(([, { buffer }]) => buffer)).size, 32);
    }
  });

  test(`${isolation}: an actor that hands over and keeps all the same finds no values in what it kept`, async (t) => {
    await using actor = record(specOf(isolation, { actor: keeping(true) }));
    await actor.ready;
    for (let value = 1; value <= 4; value++) await actor.ask([new Float32Array(VALUES).fill(value)]);
    const told = await actor.ask(['?']);
    if (told.kind !== 'reply') return t.fail();
    const [result] = told.results;
    const seen = (result as { value: string }).value.split(', ');
    t.deepEqual(seen, ['undefined x 0', 'undefined x 0', 'undefined x 0', 'undefined x 0']);
  });
}
