import test, { type ExecutionContext } from 'ava';
import { createSystem, defineActor, type Pool, silentLog, type SwapOptions, type TroupeError } from 'troupe';

/** A model that answers with its version, and keeps books of how many copies are loaded at once. */
function models(broken: readonly string[] = []) {
  let resident = 0;
  let most = 0;
  const loads: string[] = [];
  const actor = defineActor<number, string, string>({
    load: ({ version = 'none' }) => {
      loads.push(version);
      most = Math.max(most, ++resident);
      if (broken.includes(version)) {
        resident--;
        throw new Error(`model ${version} is broken`);
      }
      return version;
    },
    predict: (batch: number[], { state }) => batch.map((record) => `${record} by ${state}`),
    unload: () => void resident--,
  });
  return { actor, loads, most: () => most };
}

async function spawn(
  t: ExecutionContext,
  parts: ReturnType<typeof models>,
  replicas = 3,
): Promise<Pool<number, string>> {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  return system.spawn<number, string>('p', { actor: parts.actor, isolation: 'inline', version: 1, replicas });
}

/** Askers who go on while it runs: what they got. Half of them have a key. */
async function asking(pool: Pool<number, string>, run: () => Promise<unknown>): Promise<string[][]> {
  let isOver = false;
  const askers = Array.from({ length: 8 }, async (_, asker) => {
    const got: string[] = [];
    for (let n = 0; !isOver || n < 10; n++) got.push(await pool.ask(n, asker % 2 === 0 ? { key: `k${asker}` } : {}));
    return got;
  });
  await run();
  isOver = true;
  return Promise.all(askers);
}

for (const strategy of ['rolling', 'recreate'] as const) {
  test(`${strategy} never holds more copies than the pool has replicas, fails nobody and takes no key back`, async (t) => {
    const parts = models();
    const pool = await spawn(t, parts);
    const steps: string[] = [];
    pool.on('rollout', ({ step, share }) => steps.push(share === undefined ? step : `${step} ${share.toFixed(2)}`));
    const got = await asking(pool, () => pool.swap(2, { strategy }));
    t.is(parts.most(), 3);
    t.deepEqual(parts.loads, ['1', '1', '1', '2', '2', '2']);
    t.is(pool.version, '2');
    for (const [asker, answers] of got.entries()) {
      const versions = answers.map((answer) => answer.slice(-1));
      t.regex(versions.join(''), /^[12]+$/);
      if (asker % 2 === 0) t.deepEqual(versions, [...versions].sort(), 'a key never goes back');
    }
    t.deepEqual(
      steps,
      strategy === 'rolling'
        ? ['loading', 'shifting 0.33', 'shifting 0.67', 'shifting 1.00', 'promoted', 'freed']
        : ['draining', 'loading', 'shifting', 'promoted', 'freed'],
    );
    t.deepEqual(pool.versions(), { current: '2', previous: '1' });
    await pool.rollback();
    t.is(await pool.ask(1), '1 by 1');
    t.is(parts.most(), 3, 'the way back is the same');
  });

  test(`${strategy} with a version that does not load brings the old one back before the swap rejects`, async (t) => {
    const parts = models(['2']);
    const pool = await spawn(t, parts, 2);
    const got = await asking(pool, async () => {
      const error = await t.throwsAsync<TroupeError>(pool.swap(2, { strategy }), { code: 'SWAP_ROLLED_BACK' });
      t.is(error.reason, 'load-failed');
      t.is(pool.stats().replicas.filter(({ state, version }) => state === 'ready' && version === '1').length, 2);
    });
    t.true(got.flat().every((answer) => answer.endsWith('by 1')));
    t.is(parts.most(), 2);
    t.deepEqual(pool.versions(), { current: '1' });
  });

  test(`${strategy} is verified replica by replica, and a wrong answer takes it back`, async (t) => {
    const parts = models();
    const pool = await spawn(t, parts, 2);
    await pool.swap(2, { strategy, verify: { records: [7], expect: ['7 by 2'] } });
    const swap = pool.swap(3, { strategy, verify: { records: [7], expect: ['7 by 2'] } });
    const error = await t.throwsAsync<TroupeError>(swap, { code: 'SWAP_ROLLED_BACK' });
    t.is(error.reason, 'verification-failed');
    t.is(await pool.ask(1), '1 by 2');
    await pool.rollback();
    t.is(await pool.ask(1), '1 by 1');
  });
}

test('two newer wishes end one that takes places, and the last one serves', async (t) => {
  const parts = models();
  const pool = await spawn(t, parts, 2);
  const outcomes = await Promise.allSettled([2, 3, 4].map((version) => pool.swap(version, { strategy: 'recreate' })));
  t.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'rejected', 'fulfilled'],
  );
  t.is(await pool.ask(1), '1 by 4');
  t.is(parts.most(), 2);
});

test('a strategy that leaves no room for both versions takes no canary, shadow or kept version', async (t) => {
  const pool = await spawn(t, models());
  const wrong: readonly (readonly [SwapOptions, RegExp])[] = [
    [{ strategy: 'blue' as never }, /strategy must be one of beside, rolling, recreate, got blue/],
    [{ strategy: 'rolling', canary: 0.1 }, /canary needs both versions loaded, which strategy rolling avoids/],
    [{ strategy: 'recreate', shadow: 1 }, /shadow needs both versions loaded/],
    [{ strategy: 'recreate', keepPreviousMs: 5 }, /keepPreviousMs needs both versions loaded/],
  ];
  for (const [options, message] of wrong) t.throws(() => pool.swap(2, options), { instanceOf: TypeError, message });
  t.like(await pool.planSwap(2, { strategy: 'recreate', bakeMs: 5 }), {
    strategy: 'recreate',
    steps: ['draining', 'loading', 'shifting', 'baking', 'promoted', 'freed'],
  });
});
