import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createSystem, defineActor, type Pool, type RolloutNotice, silentLog, type TroupeError } from 'troupe';
import { copyOf } from '../../src/actor/value-copy.js';
import { deferred } from '../../src/kernel/deferred.js';

interface Scores {
  readonly scores: Float32Array;
}

/** Version 1 doubles; 2 is off by a hundredth; 3 by one on every third record; 4 throws; 5 waits at a gate. */
function doubling(gate = deferred<void>()) {
  return defineActor<number[], Scores, string | undefined>({
    load: ({ version }) => version,
    predict: async (batch: number[][], { state }) => {
      if (state === '4') throw new Error('this model is bad');
      if (state === '5') await gate.promise;
      const off = (n: number): number => (state === '2' ? 0.01 : state === '3' && n % 3 === 0 ? 1 : 0);
      return batch.map(([n = 0]) => ({ scores: new Float32Array([2 * n + off(n)]) }));
    },
  });
}

async function spawn(t: ExecutionContext, gate = deferred<void>()): Promise<Pool<number[], Scores>> {
  const system = createSystem({ log: silentLog });
  t.teardown(async () => {
    gate.resolve();
    await system.stop({ timeoutMs: 0 });
  });
  const actor = doubling(gate);
  return system.spawn<number[], Scores>('p', { actor, isolation: 'inline', version: 1, batching: { maxSize: 4 } });
}

/** Asks until the roll-out is where it is to be; every answer must be that of version 1. */
async function askUntil(t: ExecutionContext, pool: Pool<number[], Scores>, isThere: () => boolean): Promise<void> {
  t.timeout(120_000, 'it never gets there');
  for (let n = 1; !isThere(); n++) {
    const record = [n];
    const answer = pool.ask(record);
    const { scores } = await answer;
    if (scores[0] !== 2 * n) return t.fail(`record ${n} got ${scores[0]}`);
    // Callers may do with theirs what they like.
    record[0] = -1;
    scores[0] = -1;
    // The clock has its turn, too; how many asks a trial lasts is a matter of the machine.
    if (n % 100 === 0) await turn();
  }
}

const bakes = (pool: Pool<number[], Scores>) => () => pool.versions().step === 'baking';

test('a shadow answers nobody, its answers are compared with the tolerance, and promote brings it in', async (t) => {
  const pool = await spawn(t);
  const told: RolloutNotice[] = [];
  pool.on('rollout', (notice) => told.push(notice));
  const swap = pool.swap(2, { shadow: { share: 0.5, tolerance: 0.02 }, bakeMs: 60_000 });
  await askUntil(t, pool, bakes(pool));
  await askUntil(t, pool, () => (pool.versions().shadow?.compared ?? 0) >= 50);
  const { share, shadow, next, current } = pool.versions();
  t.like({ share, next, current }, { share: 0, next: '2', current: '1' });
  t.is(shadow?.agreement, 1, JSON.stringify(shadow));
  t.is(shadow?.failed, 0);
  await pool.promote();
  await swap;
  t.is((await pool.ask([1])).scores[0]?.toFixed(2), '2.01');
  const promoted = told.find(({ step }) => step === 'promoted');
  t.true((promoted?.shadow?.compared ?? 0) >= 50);
  t.is(pool.versions().shadow, undefined);
});

test('a shadow that differs too often is rolled back when its time is over, and its event says how often', async (t) => {
  const pool = await spawn(t);
  const told: RolloutNotice[] = [];
  pool.on('rollout', (notice) => told.push(notice));
  const swap = t.throwsAsync<TroupeError>(pool.swap(3, { shadow: 1, bakeMs: 1500, rollbackOn: { minRecords: 6 } }), {
    code: 'SWAP_ROLLED_BACK',
  });
  await askUntil(t, pool, () => told.some(({ step }) => step === 'rolled-back'));
  const error = await swap;
  t.is(error.reason, 'disagreement', error.message);
  const agreement = told.find(({ step }) => step === 'rolled-back')?.shadow?.agreement ?? 0;
  t.true(agreement > 0.4 && agreement < 0.9, `${agreement}`);
  t.is(pool.version, '1');
});

test('a shadow that throws is rolled back, and one that hangs delays no record', async (t) => {
  const pool = await spawn(t);
  let isOver = false;
  const bad = t.throwsAsync<TroupeError>(pool.swap(4, { shadow: 1 }), { code: 'SWAP_ROLLED_BACK' });
  void bad.then(() => (isOver = true));
  await askUntil(t, pool, () => isOver);
  t.is((await bad).reason, 'errors');
  const gate = deferred<void>();
  const other = await spawn(t, gate);
  const swap = other.swap(5, { shadow: 1, rollbackOn: { latencyFactor: 1e6 } });
  await askUntil(t, other, bakes(other));
  await askUntil(t, other, () => (other.versions().shadow?.dropped ?? 0) >= 50);
  t.is(other.versions().shadow?.compared, 0);
  const rolledBack = t.throwsAsync<TroupeError>(swap, { code: 'SWAP_ROLLED_BACK' });
  const rollback = other.rollback();
  gate.resolve();
  await rollback;
  t.is((await rolledBack).reason, 'operator');
});

test('a record that fails on the old version too says nothing of the new one', async (t) => {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const actor = defineActor<number, number, undefined>({
    load: () => undefined,
    predict: (batch: number[]) => {
      if (batch.some((n) => n % 4 === 0)) throw new Error('a fourth');
      return batch;
    },
  });
  const pool = await system.spawn<number, number>('p', { actor, isolation: 'inline', version: 1 });
  const swap = pool.swap(2, { shadow: 1, bakeMs: 60_000 });
  while (pool.versions().step !== 'baking') await pool.askMany([1]);
  for (let n = 0; (pool.versions().shadow?.compared ?? 100) < 100; n++) await pool.askMany([n]);
  t.is(pool.versions().shadow?.failed, 0);
  t.is(pool.versions().shadow?.agreement, 1);
  await pool.promote();
  await swap;
});

test('what a shadow did is a metric: records by outcome, and how long its batches took', async (t) => {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const options = { actor: doubling(), isolation: 'inline', version: 1 } as const;
  const pool = await system.spawn<number[], Scores>('p', options);
  const swap = pool.swap(2, { shadow: 1, bakeMs: 60_000 });
  await askUntil(t, pool, bakes(pool));
  await askUntil(t, pool, () => (pool.versions().shadow?.compared ?? 0) >= 10);
  await pool.promote();
  await swap;
  const text = system.metrics();
  const differed = Number(/troupe_shadow_records_total\{pool="p",outcome="differed"\} (\d+)/.exec(text)?.[1]);
  t.true(differed >= 10, `${differed}`);
  t.regex(text, /troupe_shadow_call_seconds_count\{pool="p"\} [1-9]/);
});

test('planSwap says what a shadow would be shown, and wrong options are refused', async (t) => {
  const pool = await spawn(t);
  t.like(await pool.planSwap(2, { shadow: 0.2 }), { share: 0, shadow: 0.2, bakeMs: 30_000 });
  const wrong: readonly (readonly [unknown, RegExp])[] = [
    [{ shadow: 0 }, /shadow.share must be a number above 0 and at most 1, got 0/],
    [{ shadow: { share: 2 } }, /shadow.share must be a number above 0 and at most 1, got 2/],
    [{ shadow: { tolerance: -1 } }, /shadow.tolerance must be a number of at least 0, got -1/],
    [{ shadow: { minAgreement: 2 } }, /shadow.minAgreement must be a number from 0 to 1, got 2/],
    [{ shadow: { part: 1 } }, /unknown option "part"; expected share, tolerance, minAgreement/],
    [{ shadow: 'all' }, /expected an object of options/],
    [{ shadow: 1, bakeMs: 0 }, /shadow needs a bakeMs above 0/],
    [{ shadow: 1, canary: 0.1 }, /canary and shadow exclude each other/],
  ];
  for (const [options, message] of wrong)
    t.throws(() => pool.swap(2, options as never), { instanceOf: TypeError, message });
});

test('a copy shares nothing with what it was made of, and is as large as what it shows', (t) => {
  const batch = new Float32Array(1000).fill(1);
  const value = {
    view: batch.subarray(10, 14),
    bytes: Buffer.from('abc'),
    list: [{ n: 1n }],
    at: new Date(5),
    none: null,
  };
  const copy = copyOf(value) as typeof value;
  t.deepEqual({ ...copy, bytes: [...copy.bytes] }, { ...value, bytes: [...value.bytes] } as never);
  t.is(copy.view.buffer.byteLength, 16);
  value.bytes[0] = 0;
  batch.fill(2);
  t.is(copy.bytes[0], 97);
  t.is(copy.view[0], 1);
  t.throws(() => copyOf({ call: () => 1 }), { instanceOf: TypeError });
});
