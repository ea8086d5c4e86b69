import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { isTroupeError, TroupeError } from '../../src/kernel/errors.js';
import type { Isolation } from '../../src/wire/definition.js';
import { record, specOf, TENSOR } from '../host/recorder.js';

/** Answers every batch from the same array, filled with the number of the call. */
const REUSING = `data:text/javascript,${encodeURIComponent(`
  const ys = [1, 2].map((count) => new Float32Array(20000 * count));
  const bytes = [1, 2].map((count) => Buffer.alloc(4 * count));
  const column = (dtype, shape, data) => ({ dtype, shape, data });
  let calls = 0;
  export default {
    signature: {
      inputs: [{ name: 'x', dtype: 'float32', shape: [20000] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [20000] }, { name: 'bytes', dtype: 'uint8', shape: [4] }],
    },
    predict: ({ count }) => {
      const y = ys[count - 1];
      if (y.some((value) => value !== y[0] || value > calls)) throw new Error('somebody wrote into an array of the actor');
      calls++;
      return { count, columns: {
        y: column('float32', [20000], y.fill(calls)), bytes: column('uint8', [4], bytes[count - 1].fill(calls)),
      } };
    },
  };
`)}`;

/** Each record says what predict gives or throws; all of it throws again when it is looked at. */
const HOSTILE = `data:text/javascript,${encodeURIComponent(`
  const trap = () => { throw new Error('trap'); };
  const traps = { get: trap, has: trap, ownKeys: trap, getPrototypeOf: trap, getOwnPropertyDescriptor: trap };
  const lost = () => { const array = new Float32Array(4); structuredClone(array, { transfer: [array.buffer] }); return array; };
  const whole = {
    'list with a trap': () => new Proxy([1], traps),
    'list with a getter': () => Object.defineProperty([1], 0, { get: trap }),
    'then with a getter': () => ({ get then() { return trap(); } }),
    'thrown proxy': () => { throw new Proxy(new Error('thrown'), traps); },
    'rejected proxy': () => Promise.reject(new Proxy(new Error('thrown'), traps)),
  };
  const single = { 'output with a trap': () => new Proxy({}, traps), 'output with a getter': () => ({ get a() { return trap(); } }) };
  export default {
    predict: (batch) => whole[batch[0]]?.() ?? batch.map((record) => single[record]?.() ?? (record === 'lost memory' ? lost() : record)),
  };
`)}`;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** In a function of its own, so that nothing here holds it. */
async function endedLink(isolation: Isolation, now: boolean): Promise<WeakRef<object>> {
  const actor = record(specOf(isolation));
  await actor.ready;
  await actor.ask([1]);
  await actor.link.call('loads', []);
  actor.link.stop({ now });
  await actor.exited;
  return new WeakRef(actor.link);
}

for (const isolation of ['inline', 'thread', 'process'] as const satisfies readonly Isolation[]) {
  test(`${isolation}: what predict gives or throws may throw when it is looked at, and the replica lives on`, async (t) => {
    await using actor = record(specOf(isolation, { actor: HOSTILE }));
    await actor.ready;
    for (const whole of [
      'list with a trap',
      'list with a getter',
      'then with a getter',
      'thrown proxy',
      'rejected proxy',
    ]) {
      const answer = await actor.ask([whole]);
      if (answer.kind === 'failed') t.is(answer.error.code, 'PREDICT_FAILED', whole);
      else t.fail(`${whole}: a reply came`);
    }
    for (const single of ['output with a trap', 'output with a getter', 'lost memory']) {
      const answer = await actor.ask(['before', single, 'after']);
      if (answer.kind === 'failed') {
        t.fail(`${single}: ${answer.error.message}`);
        continue;
      }
      // Inline nothing is copied, so nothing is looked at.
      const [before, between, after] = answer.results;
      t.deepEqual(
        [before, after],
        [
          { ok: true, value: 'before' },
          { ok: true, value: 'after' },
        ],
        single,
      );
      if (isolation !== 'inline' && single !== 'lost memory') {
        t.is(between?.ok === false ? between.error.code : 'a value', 'PREDICT_FAILED', single);
      }
    }
    t.false(actor.told.includes('exited'));
  });

  test(`${isolation}: a batch of rows comes back in order, and a graceful stop ends as stopped`, async (t) => {
    await using actor = record(specOf(isolation));
    const description = await actor.ready;
    t.is(description.signature, undefined);
    t.deepEqual(description.methods, ['loads', 'add', 'fail', 'never']);
    const answer = await actor.ask(['a', { b: 1 }, 3]);
    t.deepEqual(answer, {
      kind: 'reply',
      id: 1,
      results: [
        { ok: true, value: 'a' },
        { ok: true, value: { b: 1 } },
        { ok: true, value: 3 },
      ],
    });
    actor.link.stop();
    t.is((await actor.exited).cause, 'stopped');
    t.deepEqual(actor.told, ['ready', 'reply', 'exited']);
  });

  test(`${isolation}: typed array rows keep the caller's arrays whole, so that a retry finds them`, async (t) => {
    await using actor = record(specOf(isolation));
    await actor.ready;
    const inputs = Array.from({ length: 8 }, (_, index) => new Float32Array(4096).fill(index));
    for (let attempt = 1; attempt <= 3; attempt++) {
      const answer = await actor.ask(inputs);
      if (answer.kind !== 'reply') return t.fail(answer.error.message);
      answer.results.forEach((result, index) => {
        t.true(result.ok);
        if (result.ok) t.deepEqual(result.value, new Float32Array(4096).fill(index));
      });
    }
    t.true(inputs.every((input) => input.length === 4096));
  });

  test(`${isolation}: records of a tensor signature cross in columns, and a misfit fails alone`, async (t) => {
    await using actor = record(specOf(isolation, { actor: TENSOR }));
    t.is((await actor.ready).signature?.inputs.length, 2);
    const good = { x: new Float32Array([1, 2, 3, 4]), kind: 'k' };
    for (let attempt = 1; attempt <= 2; attempt++) {
      const answer = await actor.ask([good, { x: new Float32Array(3), kind: 'k' }, good]);
      if (answer.kind !== 'reply') return t.fail(answer.error.message);
      const [first, second, third] = answer.results;
      t.deepEqual(first, { ok: true, value: { doubled: new Float32Array([2, 4, 6, 8]), sum: 10, kind: 'k' } });
      t.deepEqual(third, first);
      t.false(second?.ok);
      if (second?.ok === false) t.is(second.error.code, 'INPUT_INVALID');
    }
    const none = await actor.ask([{}]);
    t.is(none.kind, 'reply');
    const lie = await actor.ask([{ ...good, kind: 'lie' }]);
    t.is(lie.kind === 'failed' && lie.error.code, 'PROTOCOL_VIOLATION');
    t.regex(lie.kind === 'failed' ? lie.error.message : '', /output "sum"/);
  });

  test(`${isolation}: a throw fails the batch with its cause, an Error in place fails one record`, async (t) => {
    await using actor = record(specOf(isolation));
    await actor.ready;
    const thrown = await actor.ask([1, { do: 'throw' }]);
    if (thrown.kind !== 'failed') return t.fail('a throw must fail the batch');
    t.is(thrown.error.code, 'PREDICT_FAILED');
    t.is(thrown.error.actor, 'tested');
    t.true(thrown.error.cause instanceof RangeError);
    t.like(thrown.error.cause, { message: 'as told', code: 'E_TOLD', shelf: 7 });
    const rejected = await actor.ask([{ do: 'reject' }]);
    t.is(rejected.kind === 'failed' && (rejected.error.cause as Error).name, 'TypeError');
    const placed = await actor.ask(['a', { do: 'error' }, 'c']);
    if (placed.kind !== 'reply') return t.fail(placed.error.message);
    t.deepEqual(
      placed.results.map((result) => (result.ok ? result.value : result.error.code)),
      ['a', 'PREDICT_FAILED', 'c'],
    );
    const short = await actor.ask(['short']);
    t.is(short.kind === 'failed' && short.error.code, 'PROTOCOL_VIOLATION');
  });

  test(`${isolation}: methods answer, fail with their cause, and unknown names are refused`, async (t) => {
    await using actor = record(specOf(isolation));
    await actor.ready;
    t.is(await actor.link.call('add', [2, 3]), 5);
    t.is(await actor.link.call('loads', []), 1);
    const failed = await t.throwsAsync(actor.link.call('fail', []), { instanceOf: TroupeError, code: 'METHOD_FAILED' });
    t.like(failed?.cause, { message: 'method failed', code: 'E_METHOD' });
    for (const name of ['nothing', 'constructor', '__proto__', 'toString']) {
      await t.throwsAsync(actor.link.call(name, []), { code: 'METHOD_NOT_FOUND' });
    }
    const never = t.throwsAsync(actor.link.call('never', []), { instanceOf: TroupeError });
    actor.link.stop({ now: true });
    await never;
  });

  test(`${isolation}: a load that throws ends as load-failed with a typed error`, async (t) => {
    const actor = record(specOf(isolation, { options: { load: 'throw' } }));
    const death = await actor.exited;
    t.is(death.cause, 'load-failed');
    t.true(isTroupeError(death.error) && death.error.code === 'ACTOR_LOAD_FAILED');
    t.like((death.error as Error).cause, { message: 'no weights', code: 'E_WEIGHTS' });
    t.deepEqual(actor.told, ['exited']);
  });

  test(`${isolation}: a load slower than its deadline ends as load-failed`, async (t) => {
    const actor = record(specOf(isolation, { options: { load: 'never' }, loadTimeoutMs: 300 }));
    const death = await actor.exited;
    t.is(death.cause, 'load-failed');
    t.regex((death.error as Error).message, /not loaded after 300 ms/);
  });

  test(`${isolation}: a module that is missing or no definition is ACTOR_INVALID`, async (t) => {
    for (const actor of [new URL('./nowhere.js', import.meta.url).href, import.meta.resolve('../host/recorder.js')]) {
      const death = await record(specOf(isolation, { actor })).exited;
      t.is(death.cause, 'load-failed');
      t.is((death.error as TroupeError).code, 'ACTOR_INVALID');
    }
  });

  test(`${isolation}: a hung promise is given up as hung, and nothing is told afterwards`, async (t) => {
    const actor = record(specOf(isolation));
    await actor.ready;
    const asked = t.throwsAsync(async () => actor.ask([{ do: 'never' }]), { any: true });
    await new Promise((resolve) => setImmediate(resolve));
    actor.link.kill('hung');
    await asked;
    const death = await actor.exited;
    t.is(death.cause, 'hung');
    t.is((death.error as TroupeError).code, 'ACTOR_HUNG');
    t.is(actor.told.at(-1), 'exited');
  });

  test(`${isolation}: a graceful stop lets the running batch finish`, async (t) => {
    const actor = record(specOf(isolation));
    await actor.ready;
    const first = actor.ask(['until-abandoned']);
    const second = actor.ask(['staged']);
    actor.link.stop();
    actor.link.abandon(1);
    t.like(await first, { kind: 'reply', results: [{ ok: true, value: 'abandoned' }] });
    t.like(await second, { kind: 'reply', results: [{ ok: true, value: 'staged' }] });
    t.is((await actor.exited).cause, 'stopped');
  });

  test(`${isolation}: a stop while it loads aborts the load and ends as stopped`, async (t) => {
    const actor = record(specOf(isolation, { options: { load: 'never' } }));
    actor.link.stop();
    t.is((await actor.exited).cause, 'stopped');
    t.deepEqual(actor.told, ['exited']);
  });

  if (isolation === 'inline')
    test('inline: a stop that comes first ends as stopped, although the module of the actor would never be there', async (t) => {
      const actor = 'data:text/javascript,await new Promise(() => undefined)';
      const { link, exited, told } = record(specOf(isolation, { actor, stopTimeoutMs: 20 }));
      link.stop();
      const { cause, error } = await exited;
      t.is(cause, 'stopped');
      t.is(error, undefined);
      t.deepEqual(told, ['exited']);
    });

  test(`${isolation}: a replica that has ended, and its link, are garbage`, async (t) => {
    const links = await Promise.all([true, false].map((now) => endedLink(isolation, now)));
    for (let round = 0; round < 50 && links.some((link) => link.deref() !== undefined); round++) {
      // An own timer of a link may hold it for some time, and what was just read keeps it for this turn.
      await new Promise((resolve) => setTimeout(resolve, 100));
      collectGarbage();
    }
    t.true(links.every((link) => link.deref() === undefined));
  });

  test(`${isolation}: a stop without a drain ends at once, whatever runs`, async (t) => {
    const actor = record(specOf(isolation));
    await actor.ready;
    const asked = actor.ask(['until-abandoned']).catch(() => 'lost');
    actor.link.stop({ now: true });
    t.is(await asked, 'lost');
    t.is((await actor.exited).cause, 'stopped');
  });

  test(`${isolation}: a result stays as it was although the actor uses its arrays again`, async (t) => {
    await using actor = record(specOf(isolation, { actor: REUSING }));
    await actor.ready;
    const results: Record<'y' | 'bytes', ArrayLike<number>>[] = [];
    const x = new Float32Array(20_000).fill(1000);
    for (const records of [[x], [x, x], [x], [x, x], [x, x]]) {
      const answer = await actor.ask(records.map((one) => ({ x: one })));
      if (answer.kind !== 'reply') return t.fail(String(answer.error));
      for (const result of answer.results) if (result.ok) results.push(result.value as (typeof results)[number]);
    }
    const seen = results.map(({ y, bytes }) => [
      y.length,
      bytes.length,
      ...new Set([...Array.from(y), ...Array.from(bytes)]),
    ]);
    t.deepEqual(
      seen,
      [1, 2, 2, 3, 4, 4, 5, 5].map((call) => [20_000, 4, call]),
    );
  });
}
