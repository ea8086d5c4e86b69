import test from 'ava';
import { createSystem, defineActor, silentLog, TroupeError, type TroupeError as Failure } from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';

/** An actor whose batches are answered by hand. */
function handDriven() {
  const batches: {
    records: string[];
    answer: (outputs: (string | Error)[]) => void;
    fail: (error: Error) => void;
    signal: AbortSignal;
  }[] = [];
  let arrived = deferred<void>();
  const actor = defineActor<string, string, void>({
    predict: (batch: string[], { signal }) => {
      const gate = deferred<(string | Error)[]>();
      batches.push({ records: batch, answer: gate.resolve, fail: gate.reject, signal });
      arrived.resolve();
      return gate.promise;
    },
  });
  const next = async () => {
    if (batches.length === 0) await arrived.promise;
    arrived = deferred<void>();
    const batch = batches.shift();
    if (batch === undefined) throw new Error('no batch arrived');
    return batch;
  };
  return { actor, next };
}

const quiet = () => createSystem({ log: silentLog });

test('asks made in one turn share a batch, and each gets its own answer', async (t) => {
  await using system = quiet();
  const sizes: number[] = [];
  const pool = await system.spawn<number, number>('double', {
    actor: defineActor<number, number, void>({
      predict: (batch: number[]) => {
        sizes.push(batch.length);
        return batch.map((n) => n * 2);
      },
    }),
  });
  t.deepEqual(await Promise.all([1, 2, 3, 4].map((n) => pool.ask(n))), [2, 4, 6, 8]);
  t.deepEqual(sizes, [4]);
});

test('askMany answers in order, one outcome per record, and feeds itself through a small mailbox', async (t) => {
  await using system = quiet();
  const pool = await system.spawn<number, number>('odd', {
    actor: defineActor<number, number, void>({
      predict: (batch: number[]) => batch.map((n) => (n % 5 === 0 ? new Error(`no ${n}`) : n)),
    }),
    mailbox: { capacity: 8 },
    batching: { maxSize: 4 },
  });
  const outcomes = await pool.askMany(Array.from({ length: 100 }, (_, n) => n));
  t.is(outcomes.length, 100);
  for (const [n, outcome] of outcomes.entries()) {
    if (outcome.ok) t.deepEqual(outcome, { ok: true, value: n, version: undefined });
    else t.is(outcome.error.code, 'PREDICT_FAILED');
    t.is(outcome.ok, n % 5 !== 0);
  }
  const stats = pool.stats();
  t.is(stats.accepted, stats.settled);
  t.is(stats.results, 80);
  t.is(stats.errors.PREDICT_FAILED, 20);
});

test('a full mailbox with overflow reject refuses with MAILBOX_FULL, and the record never ran', async (t) => {
  await using system = quiet();
  const { actor, next } = handDriven();
  const pool = await system.spawn<string, string>('full', {
    actor,
    mailbox: { capacity: 2 },
    batching: { maxSize: 1 },
  });
  const first = pool.ask('a');
  const batch = await next();
  const waiting = [pool.ask('b'), pool.ask('c')];
  const error = await t.throwsAsync<Failure>(pool.ask('d'), { instanceOf: TroupeError, code: 'MAILBOX_FULL' });
  t.is(error?.ran, 'not-started');
  t.true(error?.retryable);
  batch.answer(['A']);
  (await next()).answer(['B']);
  (await next()).answer(['C']);
  t.deepEqual(await Promise.all([first, ...waiting]), ['A', 'B', 'C']);
});

test('a full mailbox with overflow wait lets the caller wait for room', async (t) => {
  await using system = quiet();
  const { actor, next } = handDriven();
  const pool = await system.spawn<string, string>('wait', {
    actor,
    mailbox: { capacity: 1, overflow: 'wait' },
    batching: { maxSize: 1 },
  });
  const asks = ['a', 'b'].map((x) => pool.ask(x));
  (await next()).answer(['A']);
  (await next()).answer(['B']);
  t.deepEqual(await Promise.all(asks), ['A', 'B']);
  t.is(pool.stats().refused, 0);
});

test('a record whose caller gives up while it waits leaves at once and never runs', async (t) => {
  await using system = quiet();
  const { actor, next } = handDriven();
  const pool = await system.spawn<string, string>('cancel', { actor, batching: { maxSize: 1 } });
  const first = pool.ask('a');
  const batch = await next();
  const controller = new AbortController();
  const second = pool.ask('b', { signal: controller.signal });
  controller.abort(new Error('changed my mind'));
  const error = await t.throwsAsync<Failure>(second, { code: 'CANCELLED' });
  t.is(error?.ran, 'not-started');
  t.is((error.cause as Error).message, 'changed my mind');
  batch.answer(['A']);
  t.is(await first, 'A');
  t.is(pool.stats().batches, 1);
});

test('when every caller of a running batch has given up, its signal aborts and its result is dropped', async (t) => {
  await using system = quiet();
  const { actor, next } = handDriven();
  const pool = await system.spawn<string, string>('late', { actor });
  const controller = new AbortController();
  const ask = pool.ask('a', { signal: controller.signal });
  const batch = await next();
  const aborted = deferred<void>();
  batch.signal.addEventListener('abort', () => aborted.resolve());
  controller.abort();
  const error = await t.throwsAsync<Failure>(ask, { code: 'CANCELLED' });
  t.is(error?.ran, 'interrupted');
  await aborted.promise;
  batch.answer(['too late']);
  const again = pool.ask('b');
  (await next()).answer(['B']);
  t.is(await again, 'B');
  t.is(pool.stats().lateResults, 1);
});

test('a deadline that passes in the queue settles the record, which never runs', async (t) => {
  await using system = quiet();
  const { actor, next } = handDriven();
  const pool = await system.spawn<string, string>('deadline', { actor, batching: { maxSize: 1 } });
  const first = pool.ask('a');
  const batch = await next();
  const error = await t.throwsAsync<Failure>(pool.ask('b', { timeoutMs: 5 }), { code: 'DEADLINE_PASSED' });
  t.is(error?.ran, 'not-started');
  batch.answer(['A']);
  t.is(await first, 'A');
  t.is(pool.stats().batches, 1);
});

test('what was told and fails becomes a dead-letter event; tell itself never throws for it', async (t) => {
  await using system = quiet();
  const pool = await system.spawn<string, string>('tell', {
    actor: defineActor<string, string, void>({ predict: (batch: string[]) => batch.map(() => new Error('no')) }),
  });
  const letter = new Promise<{ input: unknown; error: Failure }>((resolve) => pool.once('dead-letter', resolve));
  pool.tell('x');
  const { input, error } = await letter;
  t.is(input, 'x');
  t.is(error.code, 'PREDICT_FAILED');
  await pool.stop();
  const refused = new Promise<{ error: Failure }>((resolve) => pool.once('dead-letter', resolve));
  pool.tell('y');
  t.is((await refused).error.code, 'POOL_STOPPED');
});

test('stop finishes what is held within its time and rejects the rest with POOL_STOPPED', async (t) => {
  await using system = quiet();
  const { actor, next } = handDriven();
  const pool = await system.spawn<string, string>('stop', { actor, batching: { maxSize: 1 }, stopTimeoutMs: 50 });
  const asks = ['a', 'b', 'c'].map((x) => pool.ask(x));
  const settled = Promise.allSettled(asks);
  (await next()).answer(['A']);
  (await next()).answer(['B']);
  await asks[1];
  const report = await pool.stop({ timeoutMs: 20 });
  t.deepEqual(report, { drained: 0, rejected: 1 });
  const results = await settled;
  t.deepEqual(
    results.map((r) => (r.status === 'fulfilled' ? r.value : (r.reason as Failure).code)),
    ['A', 'B', 'POOL_STOPPED'],
  );
  await t.throwsAsync(pool.ask('d'), { code: 'POOL_STOPPED' });
});

test('wrong use is a TypeError at once that names option, expectation and value', async (t) => {
  await using system = quiet();
  const actor = defineActor<number, number, void>({ predict: (batch: number[]) => batch });
  await t.throwsAsync(system.spawn('x', { actor, replicas: 0 }), { instanceOf: TypeError, message: /replicas.*got 0/ });
  await t.throwsAsync(system.spawn('x', { actor, mailbx: {} } as never), { instanceOf: TypeError, message: /mailbx/ });
  await t.throwsAsync(system.spawn('../x', { actor }), { instanceOf: TypeError, message: /1 to 128/ });
  await t.throwsAsync(system.spawn('x', { actor, isolation: 'thread' }), {
    instanceOf: TypeError,
    message: /inline only/,
  });
  const pool = await system.spawn<number, number>('x', { actor });
  await t.throwsAsync(system.spawn('x', { actor }), { instanceOf: TypeError, message: /exists already/ });
  t.throws(() => pool.ask(1, { timeout: 5 } as never), { instanceOf: TypeError, message: /unknown option "timeout"/ });
  t.throws(() => pool.ask(1, { timeoutMs: Number.NaN }), { instanceOf: TypeError, message: /timeoutMs/ });
  t.throws(() => pool.ask(1, { priority: 0.5 }), { instanceOf: TypeError, message: /priority/ });
  t.throws(() => pool.scale(0), { instanceOf: TypeError, message: /scale/ });
  t.throws(() => createSystem({ supervision: { strategy: 'all' } } as never), {
    instanceOf: TypeError,
    message: /strategy/,
  });
});

test('a load that throws rejects spawn with its cause and leaves nothing behind', async (t) => {
  await using system = quiet();
  const actor = defineActor<number, number, void>({
    load: () => {
      throw new RangeError('no weights');
    },
    predict: (batch: number[]) => batch,
  });
  const error = await t.throwsAsync<Failure>(system.spawn('sick', { actor }), { code: 'ACTOR_LOAD_FAILED' });
  t.is((error.cause as Error).message, 'no weights');
  t.is(system.get('sick'), undefined);
  const healthy = await system.spawn<number, number>('sick', {
    actor: defineActor<number, number, void>({ predict: (batch: number[]) => batch }),
  });
  t.is(await healthy.ask(7), 7);
});

test('scaling up waits for the new replicas and scaling down lets running batches finish', async (t) => {
  await using system = quiet();
  const { actor, next } = handDriven();
  const pool = await system.spawn<string, string>('scale', { actor, batching: { maxSize: 1 } });
  await pool.scale(3);
  t.is(pool.stats().replicas.filter((r) => r.state === 'ready').length, 3);
  const asks = ['a', 'b', 'c'].map((x) => pool.ask(x));
  const running = [await next(), await next(), await next()];
  await pool.scale(1);
  for (const batch of running) batch.answer(batch.records);
  t.deepEqual(await Promise.all(asks), ['a', 'b', 'c']);
  t.is(pool.stats().restarts, 0);
});

test('two operators that offer without end take turns, however many records each brings', async (t) => {
  await using system = quiet();
  const order: string[] = [];
  const pool = await system.spawn<string, string>('fair', {
    actor: defineActor<string, string, void>({
      predict: (batch: string[]) => {
        order.push(...batch);
        return batch;
      },
    }),
    mailbox: { capacity: 16 },
    batching: { maxSize: 4 },
  });
  const [many, few] = await Promise.all([
    pool.askMany(Array.from({ length: 200 }, () => 'many')),
    pool.askMany(Array.from({ length: 20 }, () => 'few')),
  ]);
  t.true(many.every((o) => o.ok) && few.every((o) => o.ok));
  t.true(order.lastIndexOf('few') < 100, `the last of 20 came at ${order.lastIndexOf('few')} of 220`);
});
