import test, { type ExecutionContext } from 'ava';
import {
  type Column,
  type Columns,
  createSystem,
  defineActor,
  type Pool,
  type RolloutNotice,
  silentLog,
  type TroupeError,
} from 'troupe';
import { type Deferred, deferred } from '../../src/kernel/deferred.js';

/** A model that answers with its version; versions listed as slow load when their gate opens, broken ones not at all. */
function models({ slow = [] as string[], broken = [] as string[], bad = [] as string[] } = {}) {
  const gates = new Map<string, Deferred<void>>(slow.map((version) => [version, deferred<void>()]));
  const loads: (string | undefined)[] = [];
  let resident = 0;
  let mostResident = 0;
  const actor = defineActor<number, string, string>({
    load: async ({ version }) => {
      loads.push(version);
      mostResident = Math.max(mostResident, ++resident);
      await gates.get(version ?? '')?.promise;
      if (broken.includes(version ?? '')) {
        resident--;
        throw new Error(`model ${version} is broken`);
      }
      return version ?? 'none';
    },
    predict: (batch: number[], { state }) => {
      if (bad.includes(state)) throw new Error(`model ${state} is bad`);
      return batch.map((record) => `${record} by ${state}`);
    },
    unload: () => void resident--,
  });
  return { actor, loads, gates, most: () => mostResident };
}

async function spawn(
  t: ExecutionContext,
  parts: ReturnType<typeof models>,
  replicas = 1,
): Promise<Pool<number, string>> {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  return system.spawn<number, string>('p', { actor: parts.actor, isolation: 'inline', version: 1, replicas });
}

function stepsOf(pool: Pool<number, string>): RolloutNotice[] {
  const told: RolloutNotice[] = [];
  pool.on('rollout', (notice) => told.push(notice));
  return told;
}

const rolledBack = async (t: ExecutionContext, swap: Promise<void>, reason: string): Promise<TroupeError> => {
  const error = await t.throwsAsync<TroupeError>(swap, { code: 'SWAP_ROLLED_BACK' });
  t.is(error.reason, reason);
  return error;
};

test('a swap tells its steps in order, and versions() says what serves and what served before', async (t) => {
  const pool = await spawn(t, models());
  const told = stepsOf(pool);
  t.deepEqual(pool.versions(), { current: '1' });
  await pool.swap(2);
  t.deepEqual(
    told.map(({ step, from, to }) => `${step} ${from} ${to}`),
    ['loading 1 2', 'shifting 1 2', 'promoted 1 2', 'draining 1 2', 'freed 1 2'],
  );
  t.deepEqual(pool.versions(), { current: '2', previous: '1' });
  t.is(await pool.ask(1), '1 by 2');
});

test('a canary shares the records until it is promoted, and every result names the version that made it', async (t) => {
  const pool = await spawn(t, models());
  const baking = new Promise<void>((resolve) => pool.on('rollout', ({ step }) => step === 'baking' && resolve()));
  const swap = pool.swap(2, { canary: 0.25 });
  await baking;
  t.deepEqual(pool.versions(), { current: '1', next: '2', step: 'baking', share: 0.25 });
  const byNew: boolean[] = [];
  for (let n = 0; n < 40; n++) byNew.push((await pool.ask(n)) === `${n} by 2`);
  t.is(byNew.filter(Boolean).length, 10);
  for (const outcome of await pool.askMany([1, 2, 3]))
    t.is(outcome.ok && outcome.value.split(' ').at(-1), outcome.ok && outcome.version);
  await pool.promote();
  await swap;
  t.is(pool.version, '2');
  t.is(await pool.ask(1), '1 by 2');
});

test('a canary that fails is rolled back by itself, and no caller sees a failure', async (t) => {
  const pool = await spawn(t, models({ bad: ['2'] }));
  const swap = pool.swap(2, { canary: 0.5 });
  const over = rolledBack(t, swap, 'errors');
  let asked = 0;
  for (let isOver = false; !isOver; asked++) {
    t.is(await pool.ask(asked), `${asked} by 1`);
    isOver = pool.versions().next === undefined && asked > 0 && pool.stats().replicas.length === 1;
    if (asked > 1000) t.fail('it is never rolled back');
  }
  const error = await over;
  t.is(error.step, 'baking');
  t.is(pool.version, '1');
  t.true(asked < 120, `${asked} records`);
});

test('a version that does not load changes nothing, and the error says at which step and why', async (t) => {
  const pool = await spawn(t, models({ broken: ['2'] }));
  const told = stepsOf(pool);
  const error = await rolledBack(t, pool.swap(2), 'load-failed');
  t.is(error.step, 'loading');
  t.regex(error.message, /Pool "p" stays on version 1: version 2 was rolled back while loading: .*model 2 is broken/s);
  t.is((error.cause as TroupeError).code, 'ACTOR_LOAD_FAILED');
  t.deepEqual(
    told.map(({ step }) => step),
    ['loading', 'rolled-back', 'freed'],
  );
  t.deepEqual(pool.versions(), { current: '1' });
  t.is(await pool.ask(1), '1 by 1');
});

test('B4: a newer swap ends the one that loads, and at most two versions are resident', async (t) => {
  const parts = models({ slow: ['2'] });
  const pool = await spawn(t, parts);
  const first = rolledBack(t, pool.swap(2), 'superseded');
  while (pool.versions().step !== 'loading') await pool.ask(0);
  const second = rolledBack(t, pool.swap(3), 'superseded');
  const third = pool.swap(4);
  await second;
  parts.gates.get('2')?.resolve();
  await first;
  await third;
  t.is(pool.version, '4');
  t.deepEqual(parts.loads, ['1', '2', '4'], 'the one in the middle was never loaded');
  t.true(parts.most() <= 2);
  t.deepEqual(pool.versions(), { current: '4', previous: '1' });
});

test('B4: callers who swap all at once get one version, the last, and those who ask never notice', async (t) => {
  const parts = models();
  const pool = await spawn(t, parts, 2);
  const wishes = Array.from({ length: 32 }, (_, n) => String(2 + (n % 7)));
  let asks = 0;
  const asking = (async () => {
    for (; asks < 300; asks++) t.regex(await pool.ask(asks), /^\d+ by \d$/);
  })();
  const outcomes = await Promise.allSettled(wishes.map((version) => pool.swap(version)));
  await asking;
  t.is(pool.version, wishes.at(-1));
  t.is(outcomes.at(-1)?.status, 'fulfilled');
  for (const outcome of outcomes)
    if (outcome.status === 'rejected') t.is((outcome.reason as TroupeError).reason, 'superseded');
  t.true(parts.most() <= 4, `${parts.most()} replicas of two versions of two`);
});

test('two callers who want the same swap share it', async (t) => {
  const parts = models();
  const pool = await spawn(t, parts);
  const one = pool.swap(2);
  t.is(pool.swap(2), one);
  t.is(pool.swap('2', {}), one);
  await one;
  t.deepEqual(parts.loads, ['1', '2']);
});

test('rollback while a version bakes gives it up; afterwards it brings the one before back', async (t) => {
  const parts = models();
  const pool = await spawn(t, parts);
  const swap = rolledBack(t, pool.swap(2, { bakeMs: 60_000 }), 'operator');
  while (pool.versions().step !== 'baking') await pool.ask(0);
  t.is(await pool.ask(1), '1 by 2', 'without a canary it gets everything at once');
  await pool.rollback();
  await swap;
  t.is(await pool.ask(1), '1 by 1');
  t.deepEqual(parts.loads, ['1', '2'], 'the old version had never gone');
  await pool.swap(3);
  await pool.rollback();
  t.is(await pool.ask(1), '1 by 1');
  t.deepEqual(pool.versions(), { current: '1', previous: '3' });
});

test('a version that is kept is called back without a load, and goes before another is loaded', async (t) => {
  const parts = models();
  const pool = await spawn(t, parts);
  const told = stepsOf(pool);
  await pool.swap(2, { keepPreviousMs: 60_000 });
  t.deepEqual(pool.versions(), { current: '2', previous: '1', previousIsKept: true });
  await pool.rollback();
  t.is(await pool.ask(1), '1 by 1');
  t.deepEqual(pool.versions(), { current: '1', previous: '2' });
  t.deepEqual(parts.loads, ['1', '2'], 'nothing was loaded for it');
  await pool.swap(3, { keepPreviousMs: 60_000 });
  await pool.swap(4);
  t.true(parts.most() <= 2);
  t.deepEqual(told.map(({ step, from, to }) => `${step} ${from} ${to}`).slice(-11), [
    'loading 1 3',
    'shifting 1 3',
    'promoted 1 3',
    'kept 1 3',
    'draining 1 3',
    'freed 1 3',
    'loading 3 4',
    'shifting 3 4',
    'promoted 3 4',
    'draining 3 4',
    'freed 3 4',
  ]);
  t.deepEqual(pool.versions(), { current: '4', previous: '3' });
});

test('a version with other tensors is refused before it has work, and the error lists every difference', async (t) => {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const tensor = (name: string, size: number) => ({ name, dtype: 'float32', shape: [size] }) as const;
  const actor = defineActor<{ x: Float32Array }, { y: Float32Array }, string | undefined>({
    load: ({ version }: { version?: string }) => version,
    signature: (version: string | undefined) =>
      version === '2'
        ? { inputs: [tensor('x', 3)], outputs: [tensor('z', 1)] }
        : { inputs: [tensor('x', 2)], outputs: [tensor('y', 2)] },
    predict: ({ count, columns }: Columns) => ({ count, columns: { y: columns['x'] as Column } }),
  } as never);
  const pool = await system.spawn<{ x: Float32Array }, { y: Float32Array }>('p', {
    actor,
    isolation: 'inline',
    version: 1,
  });
  const error = await rolledBack(t, pool.swap(2), 'load-failed');
  t.is((error.cause as TroupeError).code, 'SIGNATURE_MISMATCH');
  t.true(
    error.message.includes(
      'input "x" is float32[3], not float32[2]; output "y" (float32[2]) is missing; output "z" (float32[1]) is new',
    ),
    error.message,
  );
  t.deepEqual((await pool.ask({ x: new Float32Array([1, 2]) })).y, new Float32Array([1, 2]));
});

test('while replicas of a version that failed still end, rollback means the version before, and a second swap is its own', async (t) => {
  const gate = deferred<void>();
  let loads = 0;
  const actor = defineActor<number, string, string>({
    load: ({ version }) => {
      if (version === '3' && ++loads % 2 === 0) throw new Error('model 3 is broken');
      return version ?? 'none';
    },
    predict: (batch: number[], { state }) => batch.map((record) => `${record} by ${state}`),
    unload: (state) => (state === '3' ? gate.promise : undefined),
  });
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const pool = await system.spawn('p', { actor, isolation: 'inline', version: 1, replicas: 2 });
  await pool.swap(2);
  const first = await rolledBack(t, pool.swap(3), 'load-failed');
  const again = pool.swap(3);
  gate.resolve();
  t.not(await rolledBack(t, again, 'load-failed'), first);
  await pool.rollback();
  t.is(pool.version, '1');
  t.is(await pool.ask(1), '1 by 1');
});

test('a listener that is told of a promotion may roll back or swap at once, and no swap is told otherwise than it went', async (t) => {
  const pool = await spawn(t, models());
  const asked: Promise<void>[] = [];
  const once = (act: () => Promise<void>) => {
    const hear = ({ step }: RolloutNotice): void => {
      if (step !== 'promoted') return;
      pool.off('rollout', hear);
      asked.push(act());
    };
    pool.on('rollout', hear);
  };
  once(() => pool.rollback());
  await t.notThrowsAsync(pool.swap(2));
  await Promise.all(asked.splice(0));
  t.is(await pool.ask(1), '1 by 1');
  once(() => pool.swap(3));
  await t.notThrowsAsync(pool.swap(2));
  await Promise.all(asked);
  t.is(await pool.ask(1), '1 by 3');
  t.deepEqual(pool.versions(), { current: '3', previous: '2' });
});

test('a listener that is told that a version loads may give it up, or stop the pool: all ends, and is told once', async (t) => {
  const pool = await spawn(t, models(), 2);
  const told = stepsOf(pool);
  const asked: Promise<unknown>[] = [];
  const wishes = [() => pool.rollback(), () => pool.stop({ timeoutMs: 0 })];
  pool.on('rollout', ({ step }) => {
    if (step === 'loading') asked.push((wishes.shift() as () => Promise<unknown>)());
  });
  await rolledBack(t, pool.swap(2), 'operator');
  await Promise.all(asked);
  t.is(await pool.ask(1), '1 by 1');
  t.deepEqual(
    told.splice(0).map(({ step }) => step),
    ['loading', 'rolled-back', 'freed'],
  );
  await rolledBack(t, pool.swap(3), 'stopped');
  await Promise.all(asked);
  t.deepEqual(
    told.filter(({ step }) => step !== 'freed').map(({ step }) => step),
    ['loading', 'rolled-back'],
  );
});

test('a listener may promote and roll back in one breath: the swap has come about, and is undone', async (t) => {
  const pool = await spawn(t, models());
  const asked: Promise<void>[] = [];
  pool.on('rollout', ({ step }) => {
    if (step === 'baking') asked.push(pool.promote(), pool.rollback());
  });
  await t.notThrowsAsync(pool.swap(2, { canary: 0.5, bakeMs: 600_000 }));
  await Promise.all(asked);
  t.is(await pool.ask(1), '1 by 1');
  t.deepEqual(pool.versions(), { current: '1', previous: '2' });
});

test('while an old version that made room is loaded again, rollback waits for it, and the same swap again is another', async (t) => {
  const parts = models({ slow: ['2', '3'] });
  const pool = await spawn(t, parts);
  const loaded = async (version: string, count: number): Promise<void> => {
    while (parts.loads.filter((one) => one === version).length < count) await new Promise(setImmediate);
  };
  const told = stepsOf(pool);
  const over = rolledBack(t, pool.swap(2, { strategy: 'recreate' }), 'operator').then(() => told.at(-1)?.step);
  await loaded('2', 1);
  const back = [pool.rollback(), pool.rollback()];
  const again = pool.swap(2, { strategy: 'recreate' });
  parts.gates.get('2')?.resolve();
  await loaded('1', 2);
  t.is(await over, 'restored', 'told when the old version is back, and not by the second rollback');
  await Promise.all([...back, again]);
  t.is(await pool.ask(1), '1 by 2');
});

test('with nothing to promote and nothing to go back to, the error says what there is', async (t) => {
  const parts = models({ slow: ['2'] });
  const pool = await spawn(t, parts);
  await t.throwsAsync(pool.promote(), { code: 'NO_ROLLOUT', message: /version 1: nothing to promote/ });
  await t.throwsAsync(pool.rollback(), { code: 'NO_ROLLOUT', message: /none served before/ });
  const swap = pool.swap(2, { canary: 0.5 });
  while (pool.versions().step !== 'loading') await pool.ask(0);
  await t.throwsAsync(pool.promote(), { code: 'NO_ROLLOUT', message: /version 2 is loading/ });
  parts.gates.get('2')?.resolve();
  while (pool.versions().step !== 'baking') await pool.ask(0);
  await pool.promote();
  await swap;
});

test('a change of scale waits for the swap before it, and a stop ends the swap', async (t) => {
  const parts = models({ slow: ['3'] });
  const pool = await spawn(t, parts);
  const swap = pool.swap(2);
  await pool.scale(3);
  await swap;
  t.deepEqual(
    pool.stats().replicas.map(({ version }) => version),
    ['2', '2', '2'],
  );
  const stopped = rolledBack(t, pool.swap(3), 'stopped');
  while (pool.versions().step !== 'loading') await pool.ask(0);
  parts.gates.get('3')?.resolve();
  await pool.stop();
  await stopped;
});

test('probes are answered by every replica before the new version has any work, and count as no records', async (t) => {
  const parts = models();
  const pool = await spawn(t, parts, 2);
  const told = stepsOf(pool);
  await pool.swap(2, { verify: { records: [1, 2], expect: ['1 by 2', '2 by 2'] } });
  t.deepEqual(
    told.map(({ step }) => step),
    ['loading', 'verifying', 'shifting', 'promoted', 'draining', 'freed'],
  );
  t.is(pool.version, '2');
  t.is(pool.stats().accepted, 0);
  t.is(pool.stats().staleReplies, 0);
});

test('a version that answers probes wrongly, or fails on them, is taken back with the probe that shows it', async (t) => {
  const pool = await spawn(t, models({ bad: ['3'] }));
  const wrong = await rolledBack(
    t,
    pool.swap(2, { verify: { records: [1], expect: ['1 by 9'] } }),
    'verification-failed',
  );
  t.is(wrong.step, 'verifying');
  t.regex(wrong.message, /probe 1 of 1: its result: expected "1 by 9", got "1 by 2"/);
  const failed = await rolledBack(t, pool.swap(3, { verify: { records: [1] } }), 'verification-failed');
  t.regex(failed.message, /version 3 was rolled back while verifying: .*model 3 is bad/s);
  while (pool.versions().step === 'draining') await pool.ask(0);
  t.deepEqual(pool.versions(), { current: '1' });
  t.is(pool.stats().replicas.length, 1);
  t.is(await pool.ask(1), '1 by 1');
});

test('a version that never answers its probes is given up after loadTimeoutMs', async (t) => {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const actor = defineActor<number, number, string | undefined>({
    load: ({ version }) => version,
    predict: (batch: number[], { state }) => (state === '2' ? new Promise<number[]>(() => {}) : batch),
  });
  const options = { actor, isolation: 'inline', version: 1, loadTimeoutMs: 1000, stopTimeoutMs: 10 } as const;
  const pool = await system.spawn<number, number>('silent', options);
  const error = await rolledBack(t, pool.swap(2, { verify: { records: [1] } }), 'verification-failed');
  t.regex(error.message, /has not answered the probes within loadTimeoutMs 1000/);
  t.is(await pool.ask(1), 1);
});

test('a swap that is superseded while it is verified ends there, whatever the probes say', async (t) => {
  const gate = deferred<void>();
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const actor = defineActor<number, string, string | undefined>({
    load: ({ version }) => version,
    predict: async (batch: number[], { state }) => {
      if (state === '2') await gate.promise;
      return batch.map((record) => `${record} by ${state}`);
    },
  });
  const pool = await system.spawn<number, string>('p', { actor, isolation: 'inline', version: 1 });
  const over = rolledBack(t, pool.swap(2, { verify: { records: [1], expect: ['wrong'] } }), 'superseded');
  while (pool.versions().step !== 'verifying') await pool.ask(0);
  const next = pool.swap(3);
  await over;
  gate.resolve();
  await next;
  t.is(pool.version, '3');
});

test('what is freed says how much memory there was before and after', async (t) => {
  const pool = await spawn(t, models());
  const freed: unknown[] = [];
  pool.on('freed', (notice) => freed.push(notice));
  await pool.swap(2);
  t.like(freed, [{ version: '1', memory: { of: 'host' } }]);
  const { memory } = freed[0] as { memory: { beforeBytes: number; afterBytes: number } };
  t.true(memory.beforeBytes > 2 ** 20 && memory.afterBytes > 2 ** 20);
});

test('planSwap says what a swap would do, and does nothing', async (t) => {
  const parts = models({ slow: ['3'] });
  const pool = await spawn(t, parts, 2);
  t.deepEqual(await pool.planSwap(2), {
    from: '1',
    to: '2',
    replicas: 2,
    strategy: 'beside',
    steps: ['loading', 'shifting', 'promoted', 'draining', 'freed'],
    joins: false,
  });
  const options = { canary: 0.1, bakeMs: 100, verify: { records: [1, 2] } };
  t.deepEqual(await pool.planSwap(2, options), {
    from: '1',
    to: '2',
    replicas: 2,
    strategy: 'beside',
    steps: ['loading', 'verifying', 'shifting', 'baking', 'promoted', 'draining', 'freed'],
    probes: 2,
    share: 0.1,
    bakeMs: 100,
    joins: false,
  });
  t.deepEqual(parts.loads, ['1', '1']);
  const swap = rolledBack(t, pool.swap(3), 'operator');
  while (pool.versions().step !== 'loading') await pool.ask(0);
  t.like(await pool.planSwap(2), { from: '1', to: '2', ends: '3', joins: false });
  t.true((await pool.planSwap(3)).joins);
  const rollback = pool.rollback();
  parts.gates.get('3')?.resolve();
  await rollback;
  await swap;
  await t.throwsAsync(() => pool.planSwap(2, { canary: 2 }), { instanceOf: TypeError });
});

test('wrong options throw at once and name option, expectation and value', async (t) => {
  const pool = await spawn(t, models());
  const wrong: readonly (readonly [unknown, RegExp])[] = [
    [{ canary: 1 }, /canary must be a number above 0 and below 1, got 1/],
    [{ canary: 0 }, /canary must be a number above 0/],
    [{ canary: '0.1' }, /canary must be a number/],
    [{ canary: 0.1, bakeMs: 0 }, /canary needs a bakeMs above 0/],
    [{ bakeMs: -1 }, /bakeMs must be a number of milliseconds from 0/],
    [{ bakeMs: NaN }, /bakeMs .* got NaN/],
    [{ keepPreviousMs: -1 }, /keepPreviousMs must be a number of milliseconds from 0 .* got -1/],
    [{ rollbackOn: {} }, /rollbackOn needs a bakeMs above 0/],
    [{ bakeMs: 1, rollbackOn: { errorRate: 2 } }, /rollbackOn.errorRate must be a number from 0 to 1, got 2/],
    [{ bakeMs: 1, rollbackOn: { latencyFactor: 1 } }, /latencyFactor must be a number above 1/],
    [{ bakeMs: 1, rollbackOn: { minRecords: 0.5 } }, /minRecords must be a whole number of at least 1, got 0.5/],
    [{ bakeMs: 1, rollbackOn: { rate: 1 } }, /unknown option "rate"; expected errorRate, latencyFactor, minRecords/],
    [{ share: 0.1 }, /unknown option "share"; expected strategy, canary, shadow, bakeMs/],
    [{ verify: {} }, /verify.records must be an array of at least one record/],
    [{ verify: { records: [] } }, /verify.records must be an array of at least one record/],
    [{ verify: { records: [1], expect: [1, 2] } }, /verify.expect must be an array of as many results .*, 1/],
    [{ verify: { records: [1], tolerance: -1 } }, /verify.tolerance must be a number of at least 0, got -1/],
    [{ verify: { records: [1], wanted: [] } }, /unknown option "wanted"; expected records, expect, tolerance/],
    [null, /expected an object of options, got null/],
  ];
  for (const [options, message] of wrong)
    t.throws(() => pool.swap(2, options as never), { instanceOf: TypeError, message });
  t.throws(() => pool.swap(undefined as never), { instanceOf: TypeError, message: /expected a version/ });
  t.is(pool.version, '1');
});
