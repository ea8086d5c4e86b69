import test from 'ava';
import { createSystem, defineActor, silentLog } from 'troupe';

/** Rows whose warm-up says that single records are served fastest, and that a batch of eight takes 80 ms. */
const told = defineActor<number, number, void>({
  load: ({ warmedUp, maxBatchSize }) => {
    for (let size = 1; size <= maxBatchSize; size *= 2) warmedUp(size, size === 1 ? 5 : 10 * size);
  },
  predict: (batch: number[]) => batch,
});

test('what load reports of its warm-up is what the batcher starts from', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('told', { actor: told, isolation: 'inline', batching: { maxSize: 8 } });
  t.deepEqual(pool.stats().batcher, [], 'of no shape is anything known before its first record');
  await pool.ask(1);
  const [belief] = pool.stats().batcher;
  t.is(belief?.reason, 'throughput');
  t.is(belief?.size, 1);
  t.is(belief?.samples, 1);
});

test('with batching.adaptive false nothing is believed', async (t) => {
  await using system = createSystem({ log: silentLog });
  const batching = { maxSize: 8, adaptive: false };
  const pool = await system.spawn('told', { actor: told, isolation: 'inline', batching });
  t.deepEqual(await pool.ask(1), 1);
  t.deepEqual(pool.stats().batcher, []);
});

test('a warm-up that reports a size or a time that is none fails the load with a TypeError', async (t) => {
  await using system = createSystem({ log: silentLog });
  const wrongs: readonly (readonly [number, number, RegExp])[] = [
    [0, 1, /size must be a whole number from 1 to 8, got 0/],
    [9, 1, /from 1 to 8, got 9/],
    [1, NaN, /ms must be a number of at least 0, got NaN/],
  ];
  for (const [size, ms, message] of wrongs) {
    const actor = defineActor<number, number, void>({
      load: ({ warmedUp }) => warmedUp(size, ms),
      predict: (batch: number[]) => batch,
    });
    const spawned = system.spawn('wrong', { actor, isolation: 'inline', batching: { maxSize: 8 } });
    await t.throwsAsync(spawned, { code: 'ACTOR_LOAD_FAILED', message });
  }
});
