import test from 'ava';
import { createSystem, defineActor, silentLog } from 'troupe';
import { virtualPool } from './virtual-pool.js';

test('an idle pool answers a probe, and stats know nothing of it', async (t) => {
  const { pool } = await virtualPool();
  const before = pool.stats();
  t.deepEqual(await pool.health(), { ready: true });
  t.deepEqual(await Promise.all([pool.health(), pool.health()]), [{ ready: true }, { ready: true }]);
  t.deepEqual(pool.stats(), before);
  await pool.stop();
});

test('a probe does not wait for a batch to fill, and goes ahead of what waits', async (t) => {
  const { pool, next } = await virtualPool({ batching: { maxSize: 8, maxDelayMs: 60_000 } });
  const ask = pool.ask('a');
  t.deepEqual(await pool.health(), { ready: true });
  t.is(pool.stats().mailbox.held, 1, 'what waits for company still waits');
  pool.flush();
  (await next()).answer(['A']);
  t.is(await ask, 'A');
  await pool.stop();
});

test('a busy pool is ready as long as its batch need not have ended, and not when it is overdue', async (t) => {
  const { pool, clock, next } = await virtualPool({ batchTimeoutMs: 20_000 });
  const first = pool.ask('a');
  const batch = await next();
  const whileUnknown = pool.health();
  for (let part = 0; part < 3; part++) {
    clock.advance(117);
    await new Promise(setImmediate);
  }
  t.deepEqual(await whileUnknown, { ready: true }, 'nobody knows yet how long a batch takes');
  batch.answer(['A']);
  t.is(await first, 'A');
  const second = pool.ask('b');
  const stuck = await next();
  clock.advance(10_000);
  const overdue = pool.health();
  for (let part = 0; part < 3; part++) {
    clock.advance(117);
    await new Promise(setImmediate);
  }
  t.deepEqual(await overdue, { ready: false, why: 'no replica answered a probe within 350 ms' });
  stuck.answer(['B']);
  t.is(await second, 'B');
  t.deepEqual(await pool.health(), { ready: true });
  const { accepted, settled, results, held, batches, errors } = pool.stats();
  t.deepEqual(
    { accepted, settled, results, held, batches, errors },
    { accepted: 2, settled: 2, results: 2, held: 0, batches: 2, errors: {} },
  );
  await pool.stop();
});

test('answers from the cache are no work: a pool whose replica is stuck is not ready, though it hits', async (t) => {
  const { pool, clock, next } = await virtualPool({ batchTimeoutMs: 60_000, timeoutMs: 60_000, cache: true });
  const first = pool.ask('a');
  const batch = await next();
  clock.advance(100);
  batch.answer(['A']);
  await first;
  const second = pool.ask('b');
  const stuck = await next();
  clock.advance(10_000);
  const health = pool.health();
  for (let part = 0; part < 3; part++) {
    t.is(await pool.ask('a'), 'A');
    clock.advance(117);
    await new Promise(setImmediate);
  }
  t.deepEqual(await health, { ready: false, why: 'no replica answered a probe within 350 ms' });
  stuck.answer(['B']);
  t.is(await second, 'B');
  await pool.stop();
});

test('health says which pool is not ready and why, in words that name nothing', async (t) => {
  const system = createSystem({ log: silentLog });
  const echo = defineActor<string, string, void>({ predict: (batch) => batch });
  await system.spawn('good', { actor: echo });
  t.deepEqual(await system.health(), { ready: true, pools: { good: { ready: true } } });
  const bad = await system.spawn('bad', { actor: echo });
  await bad.drain();
  t.deepEqual(await system.health(), {
    ready: false,
    pools: { good: { ready: true }, bad: { ready: false, why: 'it is draining and takes no records' } },
  });
  await system.stop();
  t.deepEqual(await system.health(), { ready: false, pools: {} });
});

test('what a probe meets when its pool stops is no error of the pool', async (t) => {
  const { pool, next } = await virtualPool();
  const ask = pool.ask('a');
  const batch = await next();
  void pool.health();
  const stopped = pool.stop({ timeoutMs: 0 });
  batch.answer(['A']);
  await t.throwsAsync(ask, { code: 'POOL_STOPPED' });
  await stopped;
  t.deepEqual(pool.stats().errors, { POOL_STOPPED: 1 });
  t.is(pool.stats().settled, 1);
});
