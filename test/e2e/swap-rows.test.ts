import test, { type ExecutionContext } from 'ava';
import {
  createSystem,
  type FreedMemory,
  type Isolation,
  type Pool,
  silentLog,
  type SwapOptions,
  type TroupeError,
} from 'troupe';
import { children } from './family.js';

/**
 * Rows B2 and B3 of the reliability scorecard on real processes and threads, under steady load: whatever is wrong with the
 * new version, the old one answers every record, and the memory of the new one comes back.
 */

const actor = new URL('../fixtures/actors/versions.js', import.meta.url).href;

type Words = Pool<number, string>;

async function spawn(t: ExecutionContext, isolation: Isolation): Promise<Words> {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  return system.spawn<number, string>('versions', {
    actor,
    isolation,
    version: 1,
    replicas: 2,
    loadTimeoutMs: 8000,
    batchTimeoutMs: 20_000,
    memoryLimitBytes: 256 * 2 ** 20,
    batching: { maxSize: 4 },
    attempts: 10,
  });
}

/** Eight askers, one after the other each, until `isOver`; every answer there was. */
async function underLoad(pool: Words, isOver: () => boolean): Promise<string[]> {
  const answers: string[] = [];
  await Promise.all(
    Array.from({ length: 8 }, async (_, asker) => {
      for (let n = asker; !isOver(); n += 8) answers.push(await pool.ask(n));
    }),
  );
  return answers;
}

/** The swap that fails, under load: its error, how long it took, and what callers got meanwhile. */
async function failing(t: ExecutionContext, pool: Words, version: string, options: SwapOptions = {}) {
  let isOver = false;
  const from = performance.now();
  const swap = t.throwsAsync<TroupeError>(pool.swap(version, options), { code: 'SWAP_ROLLED_BACK' }).then((error) => {
    isOver = true;
    return { error, ms: performance.now() - from };
  });
  const answers = await underLoad(pool, () => isOver);
  while (pool.stats().replicas.length > 2) await pool.ask(0);
  return { ...(await swap), answers };
}

for (const [version, isolation] of [
  ['throws-in-load', 'process'],
  ['throws-in-load', 'thread'],
  ['exits-in-load', 'process'],
  ['aborts-in-load', 'process'],
  ['hangs-in-load', 'process'],
  ['grows-in-load', 'process'],
] as const) {
  test.serial(`B2 a version that ${version.replaceAll('-', ' ')} changes nothing, in a ${isolation}`, async (t) => {
    t.timeout(90_000);
    const pool = await spawn(t, isolation);
    const { error, ms, answers } = await failing(t, pool, version);
    t.is(error.reason, 'load-failed');
    t.is(error.step, 'loading');
    t.true(ms < 9000, `${ms} ms, the time-out of a load and a second`);
    t.true(answers.length > 0);
    t.true(answers.every((answer) => answer.endsWith('by 1')));
    t.is(pool.stats().restarts, 0, 'the old version was left alone');
    t.deepEqual(pool.versions(), { current: '1' });
  });
}

for (const version of ['throws-in-predict', 'exits-in-predict', 'lies-in-predict', 'hangs-in-predict'] as const) {
  test.serial(`B2 a version that ${version.replaceAll('-', ' ')} is found by its probes`, async (t) => {
    t.timeout(90_000);
    const pool = await spawn(t, 'process');
    const { error, answers } = await failing(t, pool, version, { verify: { records: [1, 2, 3] } });
    t.is(error.step, 'verifying');
    t.is(error.reason, version === 'exits-in-predict' ? 'replicas-died' : 'verification-failed');
    t.true(answers.every((answer) => answer.endsWith('by 1')));
  });
}

test.serial(
  'B5 a version whose replicas are all killed while they are verified has died, and is not called wrong',
  async (t) => {
    t.timeout(90_000);
    const pool = await spawn(t, 'process');
    const old = new Set(children().map(({ pid }) => pid));
    pool.on('rollout', ({ step }) => {
      if (step !== 'verifying') return;
      for (const { pid } of children()) if (!old.has(pid)) process.kill(pid, 'SIGKILL');
    });
    // Nobody answers before the kill, for this version never does.
    const { error, answers } = await failing(t, pool, 'hangs-in-predict', { verify: { records: [1] } });
    t.is(error.step, 'verifying');
    t.is(error.reason, 'replicas-died');
    t.regex(error.message, /killed|SIGKILL/);
    t.true(answers.every((answer) => answer.endsWith('by 1')));
  },
);

for (const [version, reason] of [
  ['throws-in-predict', 'errors'],
  ['lies-in-predict', 'errors'],
  ['exits-in-predict', 'replicas-died'],
  ['slow-in-predict', 'latency'],
  ['hangs-in-predict', 'latency'],
] as const) {
  test.serial(
    `B3 a canary that ${version.replaceAll('-', ' ')} is taken back within 5 s, and no caller fails`,
    async (t) => {
      t.timeout(90_000);
      const pool = await spawn(t, 'process');
      await pool.askMany(Array.from({ length: 64 }, (_, n) => n));
      let bakedAt = 0;
      let backAt = 0;
      pool.on('rollout', ({ step }) => {
        if (step === 'baking') bakedAt = performance.now();
        if (step === 'rolled-back') backAt = performance.now();
      });
      let isOver = false;
      const swap = t.throwsAsync<TroupeError>(pool.swap(version, { canary: 0.2 }), { code: 'SWAP_ROLLED_BACK' });
      void swap.then(() => (isOver = true));
      const answering = underLoad(pool, () => isOver);
      const error = await swap;
      t.is(error.reason, reason);
      t.true(backAt - bakedAt < 5000, `${backAt - bakedAt} ms`);
      // What hangs is ended with the replica that hangs; nobody waits for that here.
      if (version === 'hangs-in-predict') void answering.catch(() => undefined);
      else t.true((await answering).every((answer) => /by (1|slow-in-predict)$/.test(answer)));
      t.is(pool.version, '1');
    },
  );
}

for (const [version, reason] of [
  ['exits-in-predict', 'replicas-died'],
  ['hangs-in-predict', 'latency'],
] as const) {
  test.serial(
    `a shadow that ${version.replaceAll('-', ' ')} is taken back, and no record is late for it`,
    async (t) => {
      t.timeout(90_000);
      const pool = await spawn(t, 'process');
      const { error, answers } = await failing(t, pool, version, { shadow: 1 });
      t.is(error.reason, reason);
      t.true(answers.length > 0);
      t.true(answers.every((answer) => answer.endsWith('by 1')));
      t.is(pool.stats().restarts, 0, 'the old version was left alone');
    },
  );
}

for (const strategy of ['rolling', 'recreate'] as const) {
  test.serial(`${strategy} in processes: no record fails, nor where the new version does not load`, async (t) => {
    t.timeout(90_000);
    const pool = await spawn(t, 'process');
    const places = new Set<number>();
    pool.on('rollout', () => places.add(pool.stats().replicas.filter(({ state }) => state === 'ready').length));
    const { error, answers } = await failing(t, pool, 'exits-in-load', { strategy });
    t.is(error.reason, 'load-failed');
    t.true(answers.every((answer) => answer.endsWith('by 1')));
    t.is(pool.stats().replicas.filter(({ state, version }) => state === 'ready' && version === '1').length, 2);
    let isOver = false;
    const swap = pool.swap(2, { strategy }).then(() => (isOver = true));
    const both = await underLoad(pool, () => isOver);
    await swap;
    t.true(both.every((answer) => /by [12]$/.test(answer)));
    t.true(both.some((answer) => answer.endsWith('by 2')));
    t.true(
      [...places].every((count) => count <= 2),
      [...places].join(),
    );
  });
}

test.serial('a version in processes gives its memory back, and the event freed says how much', async (t) => {
  t.timeout(60_000);
  const pool = await spawn(t, 'process');
  const before = new Promise<FreedMemory | undefined>((resolve) => pool.once('freed', ({ memory }) => resolve(memory)));
  await pool.swap(2);
  const memory = await before;
  t.is(memory?.of, 'replicas');
  const ratio = (memory?.afterBytes ?? 0) / (memory?.beforeBytes ?? 1);
  t.true(ratio > 0.35 && ratio < 0.65, `${memory?.beforeBytes} bytes before, ${memory?.afterBytes} after`);
});
