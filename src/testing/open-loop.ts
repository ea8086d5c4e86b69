/**
 * Open-loop load on one pool, told the time: senders that ask at their own rate whatever becomes of it, some of them
 * again at once when they are refused or time out. For what a closed loop cannot show: metastable overload (C2) and how
 * a shared batcher divides itself among unequal senders (C5).
 */
import { PoolCore } from '../core/pool-core.js';
import { Request } from '../core/request.js';
import type { Effect } from '../core/effects.js';
import { POOL_SHAPE } from './pool-shape.js';
import { Scheduler } from './scheduler.js';
import { Chance, forkRandom } from './seeds.js';

const REPLY = 1;
const WAKE = 2;
const READY = 3;
const ARRIVE = 4;

const BATCH_MAX = 8;
const COST_MS = 10;
/** Records per second that one replica with full batches can do. */
const CAPACITY = (1000 / COST_MS) * BATCH_MAX;
const TIMEOUT_MS = 500;

interface Phase {
  readonly untilMs: number;
  /** Records per second, all in all, of each sender. */
  readonly rates: readonly number[];
}

interface Load {
  readonly phases: readonly Phase[];
  /** Naive tries again, at once, of what is refused or expires. */
  readonly tries: number;
  readonly timeoutMs: number;
  /** As infer steps do: refused records are kept back and offered again when there is room. Otherwise: as askers. */
  readonly holdsBack: boolean;
}

/** So many records a sender keeps back; its source is read no further. */
const BACKLOG_MAX = 64;

interface Ask {
  readonly sender: number;
  readonly firstAt: number;
  try: number;
}

interface Seen {
  /** By sender: when each ask that has a result was made first, and how long it took. */
  readonly results: { readonly at: number; readonly tookMs: number }[][];
  refusedCount: number;
  retryCount: number;
  readonly core: PoolCore;
}

function drive(seed: number, { phases, tries, timeoutMs, holdsBack }: Load): Seen {
  const scheduler = new Scheduler(seed);
  const core = new PoolCore(
    {
      ...POOL_SHAPE,
      mailbox: { capacity: 256, capacityBytes: 64_000_000, ageingMs: 1000 },
      batching: { ...POOL_SHAPE.batching, maxSize: BATCH_MAX, maxDelayMs: 2 },
    },
    forkRandom(seed, 21),
  );
  const senders = phases[0]?.rates.length ?? 0;
  const seen: Seen = { results: Array.from({ length: senders }, () => []), refusedCount: 0, retryCount: 0, core };
  const endMs = phases[phases.length - 1]?.untilMs ?? 0;
  // One for each, so that the arrivals of one sender do not depend on those of another.
  const chances = Array.from({ length: senders }, (_, sender) => new Chance(seed, 22 + sender));
  const backlogs: Ask[][] = Array.from({ length: senders }, () => []);
  const waiting = new Set<number>();
  let ids = 0;
  let wakeAt = Infinity;

  const arriveNext = (sender: number): void => {
    const phase = phases.find(({ untilMs }) => scheduler.now < untilMs);
    if (phase === undefined) return;
    const rate = phase.rates[sender] as number;
    const gapMs =
      rate === 0
        ? phase.untilMs - scheduler.now + 1e-3
        : (-Math.log(1 - (chances[sender] as Chance).next()) * 1000) / rate;
    scheduler.schedule(scheduler.now + gapMs, ARRIVE, sender, undefined);
  };
  const offer = (ask: Ask): boolean => {
    const request = new Request({
      id: ++ids,
      input: 0,
      owner: ask,
      sender: ask.sender,
      priority: 0,
      bucket: '',
      bytes: 1,
      weight: 1,
      offeredAt: scheduler.now,
      deadlineAt: scheduler.now + timeoutMs,
    });
    const offered = core.offer(request, holdsBack ? 'try' : 'reject', scheduler.now);
    if (offered === 'accepted' || offered === 'door' || offered === 'dropped') return true;
    seen.refusedCount++;
    if (!holdsBack) again(ask);
    return false;
  };
  const offerBacklog = (sender: number): void => {
    const backlog = backlogs[sender] as Ask[];
    while (backlog.length > 0 && !waiting.has(sender)) {
      if (offer(backlog[0] as Ask)) backlog.shift();
      else {
        core.mailbox.wantRoom(sender);
        waiting.add(sender);
      }
    }
  };
  /** True where somebody was let in. */
  const callWaiting = (): boolean => {
    let hasCalled = false;
    for (const sender of [...waiting]) {
      if (!core.mailbox.hasRoomFor(sender)) continue;
      waiting.delete(sender);
      core.mailbox.gotRoom(sender);
      offerBacklog(sender);
      hasCalled = true;
    }
    return hasCalled;
  };
  const arrive = (ask: Ask): void => {
    const backlog = backlogs[ask.sender] as Ask[];
    if (!holdsBack) offer(ask);
    else if (backlog.length < BACKLOG_MAX) {
      backlog.push(ask);
      offerBacklog(ask.sender);
    }
  };
  /** At once, as clients without backoff do; a little later, so that time goes on. */
  const again = (ask: Ask): void => {
    if (ask.try >= tries) return;
    ask.try++;
    seen.retryCount++;
    scheduler.schedule(scheduler.now + 1, ARRIVE, -1, ask);
  };
  const settle = (request: Request): void => {
    const ask = request.owner as Ask;
    if (request.error === undefined)
      seen.results[ask.sender]?.push({ at: ask.firstAt, tookMs: scheduler.now - ask.firstAt });
    else again(ask);
  };
  const apply = (effect: Effect): void => {
    if (effect.kind === 'start') scheduler.schedule(scheduler.now + 1, READY, 0, effect);
    if (effect.kind === 'send') scheduler.schedule(scheduler.now + COST_MS, REPLY, 0, effect);
  };
  const turn = (): void => {
    for (let moves = true; moves; ) {
      moves = false;
      core.dispatch(scheduler.now);
      for (const effect of core.takeEffects()) {
        moves = true;
        apply(effect);
      }
      for (const request of core.takeSettled()) {
        moves = true;
        settle(request);
      }
      if (callWaiting()) moves = true;
    }
    const next = core.nextWakeAt();
    if (next >= wakeAt || next === Infinity) return;
    wakeAt = next;
    scheduler.schedule(next, WAKE, 0, undefined);
  };

  core.rollOut('1', 1, 0);
  for (let sender = 0; sender < senders; sender++) arriveNext(sender);
  turn();
  while (scheduler.pop() && scheduler.now <= endMs + timeoutMs * (tries + 1)) {
    const { kind, a, ref, now } = scheduler;
    if (kind === WAKE) {
      if (now < wakeAt) continue;
      wakeAt = Infinity;
      core.tick(now);
    } else if (kind === READY) {
      const { cell, incarnation } = ref as Extract<Effect, { kind: 'start' }>;
      core.ready(cell, incarnation, now);
    } else if (kind === REPLY) {
      const { cell, batchId, requests } = ref as Extract<Effect, { kind: 'send' }>;
      const results = requests.map(() => ({ ok: true, value: 0 }) as const);
      core.reply(cell, 1, batchId, results, now);
    } else if (ref === undefined) {
      if (now < endMs) {
        const phase = phases.find(({ untilMs }) => now < untilMs);
        if ((phase?.rates[a] ?? 0) > 0) arrive({ sender: a, firstAt: now, try: 1 });
        arriveNext(a);
      }
    } else offer(ref as Ask);
    turn();
  }
  return seen;
}

function p99(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? Infinity;
}

interface Shown {
  readonly runs: number;
  readonly fired: number;
  readonly problem: string | undefined;
}

/** Ten times the load for 30 s, then half of it, from clients that ask three times: 2 s later nothing is left of it. */
export function metastableOverload(): Shown {
  const runs = 3;
  let fired = 0;
  for (let seed = 1; seed <= runs; seed++) {
    const overMs = 30_000;
    const endMs = overMs + 10_000;
    const load = (rate: number): Load => ({
      phases: [
        { untilMs: overMs, rates: [rate] },
        { untilMs: endMs, rates: [CAPACITY / 2] },
      ],
      tries: 3,
      timeoutMs: TIMEOUT_MS,
      holdsBack: false,
    });
    const calm = drive(seed, load(CAPACITY / 2));
    const stormy = drive(seed, load(10 * CAPACITY));
    fired += stormy.refusedCount;
    const since = (seen: Seen, at: number): number[] =>
      (seen.results[0] ?? []).filter((result) => result.at >= at).map(({ tookMs }) => tookMs);
    const normal = p99(since(calm, overMs + 2000));
    const after = since(stormy, overMs + 2000);
    const expected = since(calm, overMs + 2000).length;
    if (p99(after) > 1.5 * normal)
      return { runs: seed, fired, problem: `seed ${seed}: p99 ${p99(after)} ms after the storm, ${normal} ms without` };
    if (after.length < 0.95 * expected)
      return {
        runs: seed,
        fired,
        problem: `seed ${seed}: ${after.length} results after the storm, ${expected} without`,
      };
    const during = (stormy.results[0] ?? []).filter(({ at }) => at < overMs).length;
    if (during < 0.9 * CAPACITY * (overMs / 1000))
      return { runs: seed, fired, problem: `seed ${seed}: ${during} results in 30 s of overload` };
  }
  return { runs, fired, problem: undefined };
}

/** One stream has ten times what the pool can do, nine have little: they wait at most twice as long as without it. */
export function fairShare(): Shown {
  const runs = 3;
  let fired = 0;
  for (let seed = 1; seed <= runs; seed++) {
    const light = Array.from({ length: 9 }, () => CAPACITY / 40);
    const load = (hot: number): Load => ({
      phases: [{ untilMs: 10_000, rates: [hot, ...light] }],
      tries: 1,
      timeoutMs: 5000,
      holdsBack: true,
    });
    const alone = drive(seed, load(0));
    const beside = drive(seed, load(10 * CAPACITY));
    fired += beside.refusedCount;
    const latency = (seen: Seen): number[] => seen.results.slice(1).flatMap((all) => all.map(({ tookMs }) => tookMs));
    const before = p99(latency(alone));
    const after = p99(latency(beside));
    const [served, expected] = [latency(beside).length, latency(alone).length];
    if (served < 0.99 * expected)
      return { runs: seed, fired, problem: `seed ${seed}: ${served} results of light senders, alone ${expected}` };
    if (after > 2 * before)
      return { runs: seed, fired, problem: `seed ${seed}: p99 of light senders ${after} ms, alone ${before} ms` };
  }
  return { runs, fired, problem: undefined };
}
