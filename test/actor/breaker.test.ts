import test from 'ava';
import type { Outcome, TroupeError } from 'troupe';
import type { Submission } from '../../src/actor/infer-target.js';
import { virtualPool } from './virtual-pool.js';

const BREAKER = { windowMs: 1000, minCalls: 2, failureRate: 0.5, openMs: 500 };

/** A pool whose breaker has just opened. */
async function brokenPool() {
  const made = await virtualPool({ breaker: BREAKER });
  const told: string[] = [];
  made.pool.on('breaker', ({ from, to, calls, failures }) => told.push(`${from}-${to} ${failures}/${calls}`));
  const asks = [made.pool.ask('a'), made.pool.ask('b')];
  (await made.next()).answer([new Error('no'), new Error('no')]);
  await Promise.allSettled(asks);
  return { ...made, told };
}

test('while too many calls fail, asks are refused with BREAKER_OPEN and told when to come again', async (t) => {
  const { pool, clock, told } = await brokenPool();
  clock.advance(100);
  const error = await t.throwsAsync<TroupeError>(pool.ask('c'), { code: 'BREAKER_OPEN' });
  t.like(error, { ran: 'not-started', retryable: true, retryAfterMs: 400, actor: 'p' });
  t.deepEqual(told, ['closed-open 2/2']);
  t.deepEqual(pool.stats().breaker, {
    state: 'open',
    calls: 2,
    failures: 2,
    changes: 1,
    refused: 1,
    retryAfterMs: 400,
  });
  t.is(pool.stats().refused, 0, 'a call the breaker refused is not a full mailbox');
  await pool.stop();
});

test('asks, askMany and streams share one breaker', async (t) => {
  const { pool } = await brokenPool();
  const outcomes = await pool.askMany(['c', 'd']);
  t.deepEqual(
    outcomes.map((outcome) => !outcome.ok && outcome.error.code),
    ['BREAKER_OPEN', 'BREAKER_OPEN'],
  );
  const settled = await new Promise<Outcome<string>>((resolve) => {
    const submission: Submission<string, string> = {
      input: 'e',
      sender: pool.openSender('stream'),
      priority: 0,
      deadlineAt: Infinity,
      settled: resolve,
    };
    t.truthy(pool.offer(submission), 'it settles; it is not asked to come again for room');
  });
  t.is(!settled.ok && settled.error.code, 'BREAKER_OPEN');
  await pool.stop();
});

test('after openMs one ask goes through; its success lets all through again', async (t) => {
  const { pool, clock, next, told } = await brokenPool();
  clock.advance(500);
  const probe = pool.ask('c');
  const refused = await t.throwsAsync<TroupeError>(pool.ask('d'), { code: 'BREAKER_OPEN' });
  t.is(refused?.retryAfterMs, 0);
  const batch = await next();
  t.deepEqual(batch.records, ['c']);
  batch.answer(['C']);
  t.is(await probe, 'C');
  const after = [pool.ask('e'), pool.ask('f')];
  (await next()).answer(['E', 'F']);
  t.deepEqual(await Promise.all(after), ['E', 'F']);
  t.deepEqual(told, ['closed-open 2/2', 'open-half-open 2/2', 'half-open-closed 2/2']);
  await pool.stop();
});

test('a probe that is cancelled, or refused by a full mailbox, leaves its place to the next', async (t) => {
  const { pool, clock, next } = await brokenPool();
  clock.advance(500);
  const controller = new AbortController();
  const probe = pool.ask('c', { signal: controller.signal });
  controller.abort();
  await t.throwsAsync(probe, { code: 'CANCELLED' });
  t.is(pool.stats().breaker?.state, 'half-open');
  const large = pool.ask('x'.repeat(70_000_000));
  await t.throwsAsync(large, { code: 'RECORD_TOO_LARGE' });
  const second = pool.ask('d');
  (await next()).answer(['D']);
  t.is(await second, 'D');
  t.is(pool.stats().breaker?.state, 'closed');
  await pool.stop();
});

test('what waited and expired, was cancelled or dropped does not open the breaker; what expired while it ran does', async (t) => {
  const { pool, clock, next } = await virtualPool({ breaker: BREAKER, batching: { maxSize: 1 } });
  const running = pool.ask('a', { timeoutMs: 1000 });
  const batch = await next();
  const waiting = Array.from({ length: 10 }, () => pool.ask('b', { timeoutMs: 10 }));
  clock.advance(10);
  for (const ask of waiting) await t.throwsAsync(ask, { code: 'DEADLINE_PASSED' });
  t.deepEqual([pool.stats().breaker?.state, pool.stats().breaker?.calls], ['closed', 0]);
  clock.advance(990);
  await t.throwsAsync(running, { code: 'DEADLINE_PASSED' });
  t.is(pool.stats().breaker?.failures, 1);
  batch.answer(['A']);
  await pool.stop();
});

test('a pool without the option has no breaker', async (t) => {
  const { pool } = await virtualPool();
  t.is(pool.stats().breaker, undefined);
  await pool.stop();
});
