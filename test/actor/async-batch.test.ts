import test from 'ava';
import type { BatchCall, TroupeError } from 'troupe';
import { virtualPool } from './virtual-pool.js';

test('the ten figures of AsyncBatch are counted when a batch has ended', async (t) => {
  const { pool, clock, next } = await virtualPool({ batching: { maxSize: 4 } });
  const asks = ['a', 'b', 'c', 'd', 'e', 'f'].map((text) => pool.ask(text));
  const first = await next();
  t.is(first.records.length, 4);
  t.like(pool.stats().asyncBatch, { inflightBatches: 1, totalBatchesProcessed: 0, totalRecordsProcessed: 0 });
  clock.advance(10);
  first.answer(['A', 'B', 'C', 'D']);
  const second = await next();
  clock.advance(30);
  second.answer(['E', 'F']);
  await Promise.all(asks);
  const { asyncBatch } = pool.stats();
  t.deepEqual(Object.keys(asyncBatch), [
    'batchSize',
    'batchLatencyMs',
    'asyncCallDurationMs',
    'inflightBatches',
    'totalBatchesProcessed',
    'totalRecordsProcessed',
    'asyncCallFailures',
    'pendingOrderedBatches',
    'batchRetryCount',
    'batchTimeoutCount',
  ]);
  t.like(asyncBatch, {
    inflightBatches: 0,
    totalBatchesProcessed: 2,
    totalRecordsProcessed: 6,
    asyncCallFailures: 0,
    pendingOrderedBatches: 0,
    batchRetryCount: 0,
    batchTimeoutCount: 0,
  });
  t.like(asyncBatch.batchSize, { count: 2, mean: 3, max: 4 });
  t.like(asyncBatch.batchLatencyMs, { count: 2, mean: 5, max: 10 });
  t.like(asyncBatch.asyncCallDurationMs, { count: 2, mean: 20, max: 30 });
  t.true(asyncBatch.asyncCallDurationMs.p99 >= 27 && asyncBatch.asyncCallDurationMs.p99 <= 30);
  await pool.stop();
});

test('a batch that throws counts as a failed call, its halves as retries, its records once', async (t) => {
  const { pool, next } = await virtualPool();
  const asks = [pool.ask('a'), pool.ask('b')];
  (await next()).fail(new Error('bad'));
  (await next()).fail(new Error('bad'));
  (await next()).answer(['B']);
  await Promise.allSettled(asks);
  t.like(pool.stats().asyncBatch, {
    totalBatchesProcessed: 3,
    totalRecordsProcessed: 2,
    asyncCallFailures: 2,
    batchRetryCount: 2,
  });
  await pool.stop();
});

test('a batch in which time runs out counts as one timeout, however many of its records expire', async (t) => {
  const { pool, clock, next } = await virtualPool();
  const asks = [pool.ask('a', { timeoutMs: 5 }), pool.ask('b', { timeoutMs: 6 }), pool.ask('c')];
  const batch = await next();
  clock.advance(5);
  clock.advance(1);
  batch.answer(['A', 'B', 'C']);
  await Promise.allSettled(asks);
  t.like(pool.stats().asyncBatch, { batchTimeoutCount: 1, totalRecordsProcessed: 1, asyncCallFailures: 0 });
  await pool.stop();
});

test('all records of a batch carry the same call; those that expired before its end carry none', async (t) => {
  const { pool, clock, next } = await virtualPool();
  const sender = pool.openSender('test');
  const calls = new Map<string, BatchCall | undefined>();
  for (const [input, deadlineAt] of [
    ['a', Infinity],
    ['b', 5],
    ['c', Infinity],
  ] as const) {
    pool.offer({ input, sender, priority: 0, deadlineAt, settled: (_, call) => void calls.set(input, call) });
  }
  const batch = await next();
  clock.advance(7);
  batch.answer(['A', 'B', 'C']);
  await pool.drain();
  t.deepEqual(calls.get('a'), {
    batchId: 1,
    size: 3,
    waitedMs: 0,
    durationMs: 7,
    trigger: 'idle',
    answered: true,
    timedOut: true,
    settledCount: 2,
  });
  t.is(calls.get('a'), calls.get('c'));
  t.is(calls.get('b'), undefined);
  await pool.stop();
});

test('callTimeoutMs expires each try that long after its send, and not while the record waits', async (t) => {
  const { pool, clock, next } = await virtualPool({ batching: { maxSize: 1 } });
  const sender = pool.openSender('test');
  const settled: string[] = [];
  const offer = (input: string): unknown =>
    pool.offer({
      input,
      sender,
      priority: 0,
      deadlineAt: Infinity,
      callTimeoutMs: 10,
      settled: (outcome) =>
        settled.push(outcome.ok ? outcome.value : `${input} ${outcome.error.code} ${outcome.error.ran}`),
    });
  offer('a');
  const first = await next();
  clock.advance(5);
  offer('b');
  const aborted = new Promise((resolve) => first.signal.addEventListener('abort', resolve));
  clock.advance(5);
  t.deepEqual(settled, ['a DEADLINE_PASSED interrupted']);
  await aborted;
  clock.advance(20);
  first.answer(['late']);
  const second = await next();
  clock.advance(9);
  second.answer(['B']);
  await pool.drain();
  t.deepEqual(settled, ['a DEADLINE_PASSED interrupted', 'B']);
  await pool.stop();
});

test('what an error asks to wait before another try reaches the caller', async (t) => {
  const { pool, next } = await virtualPool();
  const asks = [pool.ask('a'), pool.ask('b'), pool.ask('c')];
  (await next()).answer([Object.assign(new Error('busy'), { retryAfterMs: 250 }), new Error('no'), 'C']);
  const [a, b] = await Promise.allSettled(asks);
  t.is((a as PromiseRejectedResult).reason.retryAfterMs, 250);
  t.is(((b as PromiseRejectedResult).reason as TroupeError).retryAfterMs, undefined);
  const thrown = pool.ask('d');
  (await next()).fail(Object.assign(new Error('busy'), { retryAfterMs: 70 }));
  t.is((await t.throwsAsync<TroupeError>(thrown))?.retryAfterMs, 70);
  await pool.stop();
});
