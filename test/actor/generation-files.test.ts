import test from 'ava';
import { createSystem, defineActor, silentLog, type TroupeError } from 'troupe';
import { GenerationFiles } from '../../src/actor/generation-files.js';
import type { LocatedModel } from '../../src/models/repository.js';
import { addTree, makeTree } from '../models/model-tree.js';

const word = (text: string): string => `parameters { key: "word" value { string_value: "${text}" } }`;

/** Answers with the word in its config.pbtxt; `bad` does not load, and `half` only in the first place. */
const told = defineActor<string, string, string>({
  load({ modelConfig, replica }) {
    const { parameters } = modelConfig as { parameters: Record<string, { string_value: string }> };
    const said = parameters['word']?.string_value ?? 'nothing';
    if (said === 'bad' || (said === 'half' && replica > 0)) throw new Error('no such word');
    return said;
  },
  predict: (batch: string[], { state }) => batch.map(() => state),
});

const plan = (dir: string) => ({ actor: told, isolation: 'inline' as const, model: `${dir}/net` });

test('after a refused swap to the version that serves, and after a plan, restarts go by the config that was verified', async (t) => {
  const dir = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': word('first') });
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, string>('p', { ...plan(dir), replicas: 2 });
  addTree(dir, { 'net/config.pbtxt': word('bad') });
  for (const strategy of ['beside', 'rolling', 'recreate'] as const) {
    const error = await t.throwsAsync<TroupeError>(pool.swap(1, { strategy }), { code: 'SWAP_ROLLED_BACK' });
    t.is(error.reason, 'load-failed', strategy);
    t.is(await pool.ask('x'), 'first', strategy);
    await pool.restart();
    t.is(await pool.ask('x'), 'first', `${strategy}: restarted`);
  }
  addTree(dir, { 'net/config.pbtxt': word('second') });
  await pool.planSwap(1);
  await pool.scale(3);
  await pool.restart();
  t.deepEqual(
    new Set((await pool.askMany(Array<string>(60).fill('x'))).map((one) => one.ok && one.value)),
    new Set(['first']),
  );

  await pool.swap(1);
  t.is(await pool.ask('x'), 'second', 'a swap that comes about is the way to the new one');
  addTree(dir, { 'net/config.pbtxt': word('third') });
  await pool.restart();
  t.is(await pool.ask('x'), 'second');
});

test('what is on trial restarts by its own files, and what is kept comes back as it was', async (t) => {
  const dir = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': word('first') });
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, string>('p', plan(dir));
  addTree(dir, { 'net/config.pbtxt': word('second') });
  await pool.swap(1, { keepPreviousMs: 600_000 });
  t.is(await pool.ask('x'), 'second');
  await pool.rollback();
  await pool.restart();
  t.is(await pool.ask('x'), 'first', 'the one that was kept was loaded by the first config');
});

for (const strategy of ['rolling', 'recreate'] as const)
  test(`${strategy}: the old version that has gone already comes back by its own files, whenever the new one is given up`, async (t) => {
    const dir = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': word('first') });
    await using system = createSystem({ log: silentLog });
    const pool = await system.spawn<string, string>('p', { ...plan(dir), replicas: 2 });
    const answers = async () => {
      const outcomes = await pool.askMany(Array<string>(60).fill('x'));
      return new Set(outcomes.map((one) => one.ok && `${one.value} by ${one.version}`));
    };
    addTree(dir, { 'net/2/m': '', 'net/config.pbtxt': word('half') });
    await t.throwsAsync<TroupeError>(pool.swap(2, { strategy }), { code: 'SWAP_ROLLED_BACK', message: /no such word/ });
    t.deepEqual(await answers(), new Set(['first by 1']));

    addTree(dir, { 'net/config.pbtxt': word('second') });
    const baking = new Promise<void>((resolve) => pool.on('rollout', ({ step }) => step === 'baking' && resolve()));
    const swap = pool.swap(2, { strategy, bakeMs: 600_000 });
    await baking;
    t.deepEqual(await answers(), new Set(['second by 2']));
    const over = t.throwsAsync<TroupeError>(swap, { code: 'SWAP_ROLLED_BACK' });
    await pool.rollback();
    t.is((await over)?.reason, 'operator');
    t.deepEqual(await answers(), new Set(['first by 1']));
    await pool.restart();
    t.deepEqual(await answers(), new Set(['first by 1']));
  });

test('of many swaps only the files of generations that are left are remembered', (t) => {
  const files = new GenerationFiles();
  const of = (version: string) => ({ version, model: { version } as LocatedModel });
  files.rollOut(of('1'));
  t.is(files.startOf(1)?.version, '1');
  files.serves(1);
  for (let generation = 2; generation < 500; generation++) {
    files.rollOut(of('2'));
    t.is(files.startOf(generation)?.version, '2');
    files.rolledBack();
    t.is(files.of(generation), undefined);
    t.is(files.startOf(1)?.version, '1');
  }
  files.rollOut(of('3'));
  files.rolledBack();
  t.is(files.startOf(500)?.version, '1', 'one that was given up before it started is of no other');
  files.keep(new Set([500]));
  t.is(files.of(1), undefined);
  t.is(files.of(500)?.version, '1');
});
