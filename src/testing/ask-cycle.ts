import { PoolCore } from '../core/pool-core.js';
import { Request } from '../core/request.js';
import type { Effect } from '../core/effects.js';
import { POOL_SHAPE } from './pool-shape.js';
import { Scheduler } from './scheduler.js';
import { forkRandom } from './seeds.js';

const RUNS = 50;
const REPLY = 1;
const WAKE = 2;
const READY = 3;

/**
 * Two actors of one replica each, and each asks the other inside predict. The first ask goes A, B, A, and the second
 * call of A can never start, because A waits for B. Only the deadline can end it; it must end every link of the chain,
 * once, in bounded time.
 */
export function askCycle(): { runs: number; fired: number; problem: string | undefined } {
  let fired = 0;
  for (let seed = 1; seed <= RUNS; seed++) {
    const { problem, deadlocks } = runCycle(seed);
    fired += deadlocks;
    if (problem !== undefined) return { runs: seed, fired, problem: `seed ${seed}: ${problem}` };
  }
  return { runs: RUNS, fired, problem: fired === 0 ? 'no cycle ever closed' : undefined };
}

interface Call {
  readonly pool: number;
  /** The batch that waits for this answer. */
  readonly waits:
    | { readonly pool: number; readonly cell: number; readonly batchId: number; readonly size: number }
    | undefined;
  settled: number;
}

function runCycle(seed: number): { problem: string | undefined; deadlocks: number } {
  const scheduler = new Scheduler(seed);
  const random = forkRandom(seed, 0);
  const pools = [0, 1].map(
    (pool) => new PoolCore({ ...POOL_SHAPE, name: pool === 0 ? 'a' : 'b' }, forkRandom(seed, pool)),
  );
  const calls: Call[] = [];
  let deadlocks = 0;
  let problem: string | undefined;
  const timeoutMs = 20 + random() * 200;

  const ask = (pool: number, waits: Call['waits'], deadlineAt: number): void => {
    const call: Call = { pool, waits, settled: 0 };
    calls.push(call);
    const request = new Request({
      id: calls.length,
      input: 0,
      owner: call,
      sender: 0,
      priority: 0,
      bucket: '',
      bytes: 1,
      weight: 1,
      offeredAt: scheduler.now,
      deadlineAt,
    });
    (pools[pool] as PoolCore).offer(request, 'reject', scheduler.now);
  };

  const apply = (pool: number, effect: Effect): void => {
    if (effect.kind === 'start') scheduler.schedule(scheduler.now + 1, READY, pool, effect);
    // predict asks the other actor, with what is left of its own time.
    if (effect.kind === 'send') {
      const { cell, batchId, requests } = effect;
      ask(1 - pool, { pool, cell, batchId, size: requests.length }, (requests[0] as Request).deadlineAt - 1);
    }
  };

  const settle = (request: Request): void => {
    const call = request.owner as Call;
    if (++call.settled > 1) problem = 'an ask was settled twice';
    // The innermost can only expire; whoever waited for it may then still answer in time.
    if (request.error?.code === 'DEADLINE_PASSED') deadlocks++;
    else if (request.error !== undefined) problem ??= `an ask of the cycle ended as ${request.error.code}`;
    if (scheduler.now > request.deadlineAt + 1e-6)
      problem = `an ask ended ${scheduler.now - request.deadlineAt} ms late`;
    if (call.waits !== undefined) scheduler.schedule(scheduler.now, REPLY, 0, call.waits);
  };

  const turn = (): void => {
    for (let again = true; again; ) {
      again = false;
      for (const [index, core] of pools.entries()) {
        core.dispatch(scheduler.now);
        for (const effect of core.takeEffects()) {
          again = true;
          apply(index, effect);
        }
        for (const request of core.takeSettled()) {
          again = true;
          settle(request);
        }
      }
    }
    for (const [index, core] of pools.entries()) {
      const wakeAt = core.nextWakeAt();
      if (wakeAt < Infinity) scheduler.schedule(wakeAt, WAKE, index, undefined);
    }
  };

  for (const core of pools) core.rollOut('1', 1, 0);
  ask(0, undefined, timeoutMs);
  turn();
  for (let events = 0; scheduler.pop(); events++) {
    if (events > 10_000) return { problem: 'the cycle never ends', deadlocks };
    const core = pools[scheduler.a] as PoolCore;
    if (scheduler.kind === WAKE) core.tick(scheduler.now);
    if (scheduler.kind === READY) {
      const { cell, incarnation } = scheduler.ref as Extract<Effect, { kind: 'start' }>;
      core.ready(cell, incarnation, scheduler.now);
    }
    if (scheduler.kind === REPLY) {
      const { pool, cell, batchId, size } = scheduler.ref as NonNullable<Call['waits']>;
      const results = Array.from({ length: size }, () => ({ ok: true, value: 0 }) as const);
      (pools[pool] as PoolCore).reply(cell, 1, batchId, results, scheduler.now);
    }
    turn();
    if (calls.every(({ settled }) => settled === 1)) break;
  }
  if (calls.some(({ settled }) => settled !== 1)) problem ??= 'an ask never ended';
  if (deadlocks === 0) problem ??= 'no ask of the cycle expired';
  if (calls.length < 3) problem ??= 'the cycle never closed';
  return { problem, deadlocks };
}
