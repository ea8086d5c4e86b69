import test from 'ava';
import { TroupeError } from '../../src/kernel/errors.js';
import type { HeldState } from '../../src/stream/stage.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { HandTarget, settleDown } from './hand-target.js';
import { contextOf, drain, inferStage, PushStage } from './stage-rig.js';

/** B1 and B7: the operator of the proposal forgot what it held. Here a step tells, and a later run goes on. */

const retry = { attempts: 3, backoffMs: 100, jitter: 0, budget: Infinity };
const crashed = (): TroupeError => new TroupeError('ACTOR_CRASHED', 'exit 3');

/** One record at every position of a queue: settled with a result, and with an error; with the pool; between two tries; let in late; and failed before. */
async function everyPosition() {
  const clock = new VirtualClock();
  const target = new HandTarget<number, number>(4);
  const source = new PushStage().push(0, 1, 2, 3, 4, 5);
  source.pending[5]?.fail(new TroupeError('PARSE_FAILED', 'line 5'));
  const stage = inferStage(target, { retry, timeout: { ms: 1000 } }, source, contextOf({ clock }));
  await target.holds(4);
  const [sent, settled, failed, backoff] = [...target.waiting];
  target.answer(settled!, 100);
  target.fail(failed!, new TroupeError('PREDICT_FAILED', 'no'));
  clock.advance(300);
  target.fail(backoff!, crashed());
  await settleDown();
  return { clock, target, stage, sent };
}

test('a step tells what it holds at every position, without forcing a batch out (B1, B7)', async (t) => {
  const { stage, target } = await everyPosition();
  const flushed = target.flushed;
  const brief = stage.held(false);
  t.deepEqual(brief, [
    { id: '1', attempts: 1, leftMs: 700, outcome: undefined },
    { id: '2', attempts: 1, leftMs: 700, outcome: undefined },
    { id: '3', attempts: 1, leftMs: 700, outcome: undefined },
  ]);
  const full = stage.held(true);
  t.deepEqual(
    full.map(({ id, attempts, leftMs, outcome }) => [id, attempts, leftMs, outcome?.ok]),
    [
      ['0', 0, 700, undefined],
      ['1', 1, 700, true],
      ['2', 1, 700, false],
      ['3', 1, 700, undefined],
      ['4', 0, 700, undefined],
    ],
  );
  t.is(target.flushed, flushed);
  stage.close();
});

test('a run that resumes goes on with attempts and time, and does not ask again for what has its outcome (B1)', async (t) => {
  const before = await everyPosition();
  const saved = new Map(before.stage.held(true).map((state) => [state.id, state]));
  before.stage.close();
  const clock = new VirtualClock();
  const asked: string[] = [];
  const takeHeld = (index: number, id: string): HeldState | undefined => {
    asked.push(`${index} ${id}`);
    const state = saved.get(id);
    saved.delete(id);
    return state;
  };
  const target = new HandTarget<number, number>();
  const source = new PushStage().push(0, 1, 2, 3, 4, 5).end();
  source.pending[5]?.fail(new TroupeError('PARSE_FAILED', 'line 5'));
  const stage = inferStage(target, { retry, timeout: { ms: 1000 } }, source, contextOf({ clock, takeHeld }));
  const out = drain(stage);
  await target.holds(3);
  t.deepEqual(asked, ['1 0', '1 1', '1 2', '1 3', '1 4']);
  t.deepEqual(
    target.waiting.map(({ input, deadlineAt }) => [input, deadlineAt]),
    [
      [0, 700],
      [3, 700],
      [4, 700],
    ],
  );
  target.answer(target.waiting[0]!, 0);
  target.answer(target.waiting[1]!, 400);
  target.fail(target.waiting[0]!, crashed());
  clock.advance(200);
  await settleDown();
  target.fail(target.waiting[0]!, crashed());
  t.deepEqual(
    (await out).map(({ value, error, failure }) => [value, error?.code, failure?.attempts]),
    [
      [0, undefined, undefined],
      [100, undefined, undefined],
      [2, 'PREDICT_FAILED', 1],
      [3, 'ACTOR_CRASHED', 3],
      [400, undefined, undefined],
      [5, 'PARSE_FAILED', undefined],
    ],
  );
});

test('a saved answer of the fallback pool goes through the output of the fallback', async (t) => {
  const second = new HandTarget<number, number>();
  const fallback = { pool: second, output: (_: number, result: number) => `second ${result}` };
  const target = new HandTarget<number, number>();
  const stage = inferStage(target, { fallback: fallback as never }, new PushStage().push(0, 1));
  await target.holds(2);
  target.fail(target.waiting[1]!, crashed());
  await second.holds(1);
  second.answer(second.waiting[0]!, 5);
  const states = stage.held(true);
  t.like(states, [{ id: '1', attempts: 1, outcome: { ok: true, value: 5 }, isFallback: true }]);
  stage.close();
  const takeHeld = (_: number, id: string): HeldState | undefined => states.find((state) => state.id === id);
  const next = inferStage(new HandTarget(), { fallback: fallback as never }, new PushStage(), contextOf({ takeHeld }));
  next.close();
  const source = new PushStage().push(0, 1).end();
  const again = new HandTarget<number, number>();
  const out = drain(inferStage(again, { fallback: fallback as never }, source, contextOf({ takeHeld })));
  await again.holds(1);
  again.answer(again.waiting[0]!, 4);
  t.deepEqual(
    (await out).map(({ kind, value }) => [kind, value]),
    [
      ['value', 4],
      ['fallback', 'second 5'],
    ],
  );
});

test('more records than capacity and room come back from a checkpoint without a dead-lock (FLINK-7949)', async (t) => {
  const takeHeld = (_: number, id: string): HeldState => ({ id, attempts: 1, leftMs: undefined, outcome: undefined });
  for (const order of ['ordered', 'unordered'] as const) {
    const target = new HandTarget<number, number>(2);
    const source = new PushStage().push(...Array.from({ length: 13 }, (_, n) => n)).end();
    const out = drain(inferStage(target, { order, capacity: 4, retry }, source, contextOf({ takeHeld })));
    for (let left = 13; left > 0; left--) {
      await target.holds(1);
      const last = target.waiting.at(order === 'ordered' ? 0 : -1)!;
      target.answer(last, last.input);
      await settleDown(1);
    }
    const values = (await out).map(({ value }) => value as number);
    t.deepEqual(
      [...values].sort((a, b) => a - b),
      Array.from({ length: 13 }, (_, n) => n),
    );
  }
});

test('the ten figures are counted when calls end, not when they are sent (B13)', async (t) => {
  const target = new HandTarget<number, number>();
  const source = new PushStage().push(0, 1, 2).end();
  const stage = inferStage(target, { retry }, source, contextOf());
  await target.holds(3);
  t.like(stage.metrics(), {
    totalBatchesProcessed: 0,
    totalRecordsProcessed: 0,
    recordsInPool: 3,
    asyncCallFailures: 0,
  });
  const call = {
    batchId: 1,
    size: 2,
    waitedMs: 3,
    durationMs: 8,
    trigger: 'size' as const,
    answered: true,
    timedOut: false,
    settledCount: 2,
  };
  const [, b, c] = [...target.waiting];
  for (const submission of [b!, c!]) {
    target.waiting.splice(target.waiting.indexOf(submission), 1);
    submission.settled({ ok: true, value: 1, version: undefined }, call);
  }
  const { batchSize, batchLatencyMs, asyncCallDurationMs, ...rest } = stage.metrics();
  t.like(batchSize, { count: 1, mean: 2 });
  t.like(batchLatencyMs, { count: 1, mean: 3 });
  t.like(asyncCallDurationMs, { count: 1, mean: 8 });
  t.like(rest, {
    inflightBatches: 0,
    totalBatchesProcessed: 1,
    totalRecordsProcessed: 2,
    asyncCallFailures: 0,
    pendingOrderedBatches: 1,
    batchRetryCount: 0,
    batchTimeoutCount: 0,
    retries: 0,
  });
  const [a] = target.waiting;
  target.answer(a!, 0);
  await drain(stage);
  t.like(stage.metrics(), { pendingOrderedBatches: 0, recordsInPool: 0, totalRecordsProcessed: 3 });
});
