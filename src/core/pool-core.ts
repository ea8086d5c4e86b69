/**
 * The decisions of one pool, as one synchronous state machine: it is told what happened and when, and answers with
 * effects. Edges (actor/pool.ts for real, testing/ for the simulator) own timers, threads and sockets.
 *
 * Puts together: mailbox and door, batcher, retry lane, in-flight ledger, deadlines, and the fleet of replicas.
 *
 * P1 every accepted request is settled exactly once: accepted = settled + held. P2 queued records never die with a
 * replica. P3 a batch that throws is halved until the culprit is alone; a batch that kills its replica is replayed one
 * by one. P4 a suspect runs alone on its replica, so blame is exact. P5 of the records of one key at most one is with a
 * replica or about to be tried again. P6 while two versions share the work, what is tried again for its blame or its key
 * goes to the version that had it; what only failed on the new one is asked of the old one too.
 *
 * How to drive it: call an event method, then take `takeEffects` and carry them out, then `takeSettled` and tell the
 * callers; call `dispatch` when a turn is over, and `tick` no later than `nextWakeAt`.
 */

import { type ErrorCode, invariant, type Ran, TroupeError } from '../kernel/errors.js';
import { transition } from '../kernel/lifecycle.js';
import type { Random } from '../kernel/random.js';
import { Admission } from './admission.js';
import type { WarmUpCosts } from './adaptive-size.js';
import { Batcher, type BatchLimits, TRIGGERS, type Trigger } from './batcher.js';
import { Deadlines } from './deadlines.js';
import { type BatchCall, type CoreResult, type DeathNotice, type Effect, type PoolNews } from './effects.js';
import {
  type Buried,
  buried,
  cancelledInFlight,
  cancelledWaiting,
  dropped,
  expiredInFlight,
  expiredWaiting,
  Failure,
  located,
  type Located,
  notReplayed,
  poolFailed,
  poolStopped,
  tryTimedOut,
} from './failure.js';
import { type Cell, Fleet, type FleetLimits, type FleetOwner } from './fleet.js';
import { type Flight, Ledger } from './ledger.js';
import { POOL_LIFECYCLE, type PoolEventName, type PoolState, type ReplicaState } from './lifecycles.js';
import { Mailbox, type MailboxLimits, type Offer, type Overflow } from './mailbox.js';
import { PROBE_BUCKET, type Request } from './request.js';
import { ANY, RetryLane } from './retry-lane.js';
import type { RollbackReason, Rollout, RolloutRules } from './rollout.js';
import { emptied } from './short-list.js';
import { ALL_SIDES, SIDE } from './traffic-split.js';

export interface PoolLimits extends FleetLimits {
  readonly mailbox: MailboxLimits;
  readonly batching: BatchLimits;
  readonly maxInFlight: number;
  readonly batchTimeoutMs: number;
  /** How many deaths a record survives at most. */
  readonly attempts: number;
  /** What becomes of a replica whose batch nobody waits for any more: it is told, or another takes its place. */
  readonly cancellation: 'signal' | 'replace';
}

/** A tick that comes this much too late says that the host stood still; what runs then has this much more time. */
const STALL_MS = 250;
const FORGIVEN_MS = 5000;

const NO_TRIGGERS = Object.fromEntries(TRIGGERS.map((trigger) => [trigger, 0])) as Record<Trigger, number>;

export class PoolCore implements FleetOwner {
  readonly limits: PoolLimits;
  readonly mailbox: Mailbox;
  readonly batcher: Batcher;
  readonly admission: Admission;
  readonly ledger = new Ledger();
  readonly fleet: Fleet;
  state: PoolState = 'starting';
  /** Why the pool has failed, while it has. */
  failure: TroupeError | undefined;

  // What happened, for stats.
  acceptedCount = 0;
  settledCount = 0;
  refusedCount = 0;
  /** Of those refused: what waits already would have taken longer than their deadline allows. */
  overloadedCount = 0;
  resolvedCount = 0;
  lateResultCount = 0;
  batchCount = 0;
  batchedCount = 0;
  readonly errorCounts = new Map<ErrorCode, number>();
  readonly triggerCounts: Record<Trigger, number> = { ...NO_TRIGGERS };

  readonly #deadlines = new Deadlines();
  readonly #retries = new RetryLane();
  readonly #victims: Request[] = [];
  readonly #onCall: ((end: BatchCall) => void) | undefined;
  #effects: Effect[] = [];
  #settled: Request[] = [];
  #drainedTold = false;
  // Of the last survey; false once the fleet has changed.
  #hasRoom = false;
  #idleCount = 0;
  /** What idle replicas may take: not all of it while two versions share the work. */
  #idleSides: number = ALL_SIDES;
  /** What a version on trial told of its warm-up, by generation. */
  #warmUp: { readonly generation: number; readonly costs: WarmUpCosts } | undefined;
  /** When a batch counts as hung, or a replica is to start. */
  #replicasWakeAt = Infinity;
  #repeatable = true;

  /** `onCall` hears of every batch that has ended, after its records were settled; it only counts. */
  constructor(limits: PoolLimits, random: Random, onCall?: (end: BatchCall) => void) {
    this.limits = limits;
    this.#onCall = onCall;
    this.mailbox = new Mailbox(limits.mailbox);
    this.batcher = new Batcher(limits.batching, limits.maxInFlight);
    this.fleet = new Fleet(limits, random, this.ledger, this);
    this.admission = new Admission(this.batcher, this.mailbox, this.fleet);
  }

  /** Nothing to take: no effects and nobody to tell. */
  get isQuiet(): boolean {
    return this.#effects.length === 0 && this.#settled.length === 0;
  }

  /** Effects since the last call, in order. `next`, empty, takes those to come: who looks often gives back what it has read. */
  takeEffects(next?: Effect[]): Effect[] {
    const effects = this.#effects;
    if (next !== undefined) this.#effects = next;
    else if (effects.length > 0) this.#effects = [];
    return effects;
  }

  /** Requests settled since the last call, in order; user callbacks come after effects. `next` as in `takeEffects`. */
  takeSettled(next?: Request[]): Request[] {
    const settled = this.#settled;
    if (next !== undefined) this.#settled = next;
    else if (settled.length > 0) this.#settled = [];
    return settled;
  }

  /** Accepted and not settled: at the door, waiting, to be retried, in flight. */
  get heldCount(): number {
    return this.acceptedCount - this.settledCount;
  }

  /** The instant `tick` is needed at the latest; Infinity for none. */
  nextWakeAt(): number {
    if (this.fleet.hasChanged) this.#survey();
    let wakeAt = this.#replicasWakeAt;
    const deadlineAt = this.#deadlines.nextAt;
    if (deadlineAt < wakeAt) wakeAt = deadlineAt;
    if (this.#idleCount > 0) {
      const formAt = this.batcher.wakeAt(this.mailbox, this.#idleSides);
      if (formAt < wakeAt) wakeAt = formAt;
    }
    return wakeAt;
  }

  // ------------------------------------------------------------------ records

  /**
   * Takes a request in. `accepted` and `door` mean it will be settled; `dropped` too (at once, by the overflow rule);
   * `full`, `too-large`, `overloaded` (it cannot be in time) and the states that take nothing mean it was refused and
   * nothing is kept.
   */
  offer(request: Request, overflow: Overflow, now: number): Offer | 'overloaded' | 'closed' | 'failed' {
    if (this.state !== 'running' && this.state !== 'starting') {
      this.refusedCount++;
      return this.state === 'failed' ? 'failed' : 'closed';
    }
    if (request.deadlineAt !== Infinity && refusesLate(overflow) && this.admission.lateBy(request, now) > 0) {
      this.refusedCount++;
      this.overloadedCount++;
      return 'overloaded';
    }
    const split = this.fleet.rollout?.split;
    if (split !== undefined && request.key !== undefined) request.side = split.sideOf(request.key);
    const offer = this.mailbox.offer(request, overflow, this.#victims);
    if (offer === 'full' || offer === 'too-large') {
      if (overflow !== 'try') this.refusedCount++;
      return offer;
    }
    this.acceptedCount++;
    if (offer === 'dropped') {
      this.#drop(request, 'drop-newest dropped this record');
      return offer;
    }
    this.#deadlines.add(request);
    if (this.#victims.length > 0) this.#dropVictims();
    if (request.deadlineAt <= now) this.#expire(now);
    return offer;
  }

  #dropVictims(): void {
    const victims = this.#victims;
    for (let i = 0; i < victims.length; i++)
      this.#drop(victims[i] as Request, 'drop-oldest dropped this record for a newer one');
    emptied(victims);
  }

  /** The caller gave the request up. Queued work leaves at once; running work is told when nobody waits for it. */
  cancel(request: Request, reason: unknown): void {
    if (request.place === 'settled' || request.place === 'nowhere') return;
    const words = request.place === 'in-flight' ? cancelledInFlight : cancelledWaiting;
    this.#leave(request);
    this.#fail(request, 'CANCELLED', ranOf(request), words, reason);
  }

  /** Sends what waits without waiting for company. */
  flush(now: number): void {
    this.batcher.flush(this.mailbox, now);
  }

  /** Gives work to every replica with room; to be called once per turn, after the events of that turn. */
  dispatch(now: number): void {
    this.#expire(now);
    if (this.mailbox.doorCount > 0) this.mailbox.admit();
    if (this.mailbox.held > 0 || !this.#retries.isEmpty) {
      if (this.fleet.hasChanged) this.#survey();
      if (this.#hasRoom) this.#feedAll(now);
    }
    if (this.state === 'draining') this.#checkDrained();
  }

  /** Time has come for something: deadlines, hung batches, restarts, held batches. */
  tick(now: number): void {
    if (this.fleet.hasChanged) this.#survey();
    if (this.#replicasWakeAt <= now) {
      const { list, rollout } = this.fleet;
      if (now - this.#replicasWakeAt > STALL_MS) this.#forgive(now);
      for (let i = 0; i < list.length; i++) {
        const cell = list[i] as Cell;
        const running = cell.flights[0];
        if (running !== undefined && running.startedAt + this.limits.batchTimeoutMs <= now) this.fleet.condemn(cell);
      }
      this.fleet.startDue(now);
      if (rollout?.bakes === true) this.#judgeTime(rollout, now);
    }
    this.dispatch(now);
  }

  /**
   * The host itself stood still (a blocked loop, a stopped process): answers may wait unread, and the replicas may have
   * stood still with it. What runs gets a moment more, once, before it counts as hung.
   */
  #forgive(now: number): void {
    const { batchTimeoutMs } = this.limits;
    const { list } = this.fleet;
    this.fleet.rollout?.stalled(now);
    for (let i = 0; i < list.length; i++) {
      const running = (list[i] as Cell).flights[0];
      if (running === undefined || running.forgiven) continue;
      running.forgiven = true;
      running.startedAt = Math.max(running.startedAt, now - batchTimeoutMs + Math.min(batchTimeoutMs, FORGIVEN_MS));
      this.fleet.hasChanged = true;
    }
  }

  // ----------------------------------------------------------------- replicas

  /** First start, or a new version beside the old: all `count` replicas must come up, or nothing has changed. */
  rollOut(version: string | undefined, count: number, now: number, rules?: RolloutRules): void {
    this.fleet.rollOut(version, count, now, rules);
  }

  /** The version that loads has been proved, where its rules want that. */
  verified(now: number): void {
    this.fleet.verified(now);
  }

  /** Ends the trial of a version in its favour; false: none is on trial. */
  promote(now: number): boolean {
    if (this.fleet.rollout?.bakes !== true) return false;
    this.fleet.promote(now);
    return true;
  }

  /** Gives up the version that loads or is on trial; false: there is none. */
  rollBack(reason: RollbackReason, why: string, now: number, cause?: unknown): boolean {
    // The first version of all cannot be given up for another.
    if (this.fleet.rollout === undefined || this.fleet.rollout.sides.fromGeneration === 0) return false;
    this.fleet.rollBack(reason, why, now, cause);
    return true;
  }

  scale(count: number, now: number): void {
    this.fleet.scale(count, now);
  }

  /** The replica has loaded and warmed up, and tells what its warm-up runs took. */
  ready(cellId: number, incarnation: number, now: number, warmUp?: WarmUpCosts): void {
    const cell = this.fleet.cells.get(cellId);
    if (cell === undefined || cell.incarnation !== incarnation || cell.state !== 'starting') return;
    if (warmUp !== undefined) this.#warmUp = { generation: cell.generation, costs: warmUp };
    this.fleet.ready(cell, now);
    if (warmUp !== undefined && this.fleet.isMain(cell)) this.batcher.seed(warmUp);
  }

  /** One result per record of the batch, in order. Stale replies are counted and dropped (L2). */
  reply(cellId: number, incarnation: number, batchId: number, results: readonly CoreResult[], now: number): void {
    const cell = this.fleet.cells.get(cellId);
    const flight = this.#answered(cell, incarnation, batchId, now);
    if (flight === undefined || cell === undefined) return;
    invariant(results.length === flight.requests.length, 'a link gives one result per record');
    const { version } = cell;
    // The last batches of a version that was replaced tell nothing of the one that serves.
    if (this.fleet.isMain(cell) && !isProbe(flight.requests)) {
      const { bucket, deadlineAt, offeredAt } = flight.requests[0] as Request;
      this.batcher.learn(bucket, flight.requests.length, now - flight.startedAt, deadlineAt - offeredAt);
    }
    const call = this.#ended(flight, true, now);
    const { rollout } = this.fleet;
    let again: Request[] | undefined;
    let failedCount = 0;
    for (let i = 0; i < results.length; i++) {
      const request = flight.requests[i] as Request;
      const result = results[i] as CoreResult;
      if (request.place === 'settled') {
        this.lateResultCount++;
        continue;
      }
      if (!result.ok) {
        failedCount++;
        if (this.#secondTo(cell, request) !== undefined) {
          again ??= [];
          again.push(request);
          continue;
        }
      }
      request.call = call;
      call.settledCount++;
      if (result.ok) {
        request.value = result.value;
        request.version = version;
        this.resolvedCount++;
        this.#settle(request);
      } else this.#settleFailure(request, this.#locate(result.error, cell, request, [request]));
    }
    if (again !== undefined) this.#askSecond(again, cell);
    this.#onCall?.(call);
    this.#free(cell);
    if (rollout !== undefined) this.#judge(rollout, cell, flight, failedCount, now);
  }

  /** The batch as a whole failed. A throw is halved until the culprit is alone (P3); a broken contract is not. */
  failed(cellId: number, incarnation: number, batchId: number, error: TroupeError, now: number): void {
    const cell = this.fleet.cells.get(cellId);
    const flight = this.#answered(cell, incarnation, batchId, now);
    if (flight === undefined || cell === undefined) return;
    const left = flight.requests.filter((request) => request.place === 'in-flight');
    const call = this.#ended(flight, false, now);
    const { rollout } = this.fleet;
    const isSplit =
      error.code === 'PREDICT_FAILED' && flight.requests.length > 1 && this.#repeatable && left.length > 0;
    if (isSplit) {
      const half = Math.ceil(left.length / 2);
      this.#unsend(left);
      this.#retries.putFirst([left.slice(0, half), left.slice(half)], 'split', cell.generation);
    } else if (error.ran === 'failed' && left.every((request) => this.#secondTo(cell, request) !== undefined)) {
      this.#askSecond(left, cell);
    } else {
      call.settledCount = left.length;
      const first = left[0];
      const failure = first === undefined ? undefined : this.#locate(error, cell, first, left);
      for (const request of left) {
        request.call = call;
        this.#settleFailure(request, failure as Failure);
      }
    }
    // One that was given up before it began was no call.
    if (error.code !== 'CANCELLED') this.#onCall?.(call);
    this.#free(cell);
    if (rollout !== undefined && !isSplit && error.code !== 'CANCELLED')
      this.#judge(rollout, cell, flight, left.length, now);
  }

  /** The replica ended. What it held is fenced off, retried or settled; then the fleet decides about its next life. */
  died(cellId: number, incarnation: number, death: DeathNotice, now: number): void {
    const cell = this.fleet.cells.get(cellId);
    if (cell === undefined || cell.incarnation !== incarnation) return;
    const flights = this.ledger.closeAll(cellId);
    this.fleet.hasChanged = true;
    let heldCount = 0;
    for (const flight of flights) heldCount += flight.waiting;
    // A batch that hung its replica is to blame even where the replica was to end anyway; for a crash on the way out it is not.
    const expected = endsByUs(cell.state) && !cell.killed;
    const inQuarantine = cell.solo && isBlamed(death.cause) && !expected;
    cell.solo = false;
    const { replica, version } = cell;
    this.#news({ name: 'died', replica, incarnation, version, death, heldCount });
    this.#salvage(cell, flights, death, expected, now);
    this.#expire(now);
    this.fleet.ended(cell, death, { wasBusy: flights.length > 0, expected, inQuarantine }, now);
    this.#checkStopped();
  }

  /** The definition says that predict must not run twice for a record: nothing interrupted is retried. */
  setRepeatable(repeatable: boolean): void {
    this.#repeatable = repeatable;
  }

  // ------------------------------------------------------------------ the end

  /** Takes no more; `drained` is told when the last record is settled. */
  drain(): void {
    this.#state('drain');
    this.#checkDrained();
  }

  /** Takes no more, settles what is held with POOL_STOPPED, and stops every replica. Drain first to finish the work. */
  stop(now: boolean): void {
    this.#state('stop');
    this.#settleAll('POOL_STOPPED', poolStopped, undefined);
    this.fleet.stopAll(now);
    this.#checkStopped();
  }

  /** Ends every replica but keeps the mailbox, until `release`; `held` is told when the last has ended. */
  hold(): void {
    this.fleet.hold();
  }

  /** Starts the replicas again after `hold`, or a failed pool with fresh budgets; `up` is told when all are ready. */
  release(now: number): void {
    if (this.state !== 'failed') {
      this.fleet.release(now);
      return;
    }
    this.#state('restart');
    this.failure = undefined;
    this.#drainedTold = false;
    this.fleet.restart(now);
  }

  // ------------------------------------------------- FleetOwner, for the fleet

  emit(effect: Effect): void {
    this.#effects.push(effect);
  }

  up(): void {
    this.batcher.forget();
    if (this.#warmUp?.generation === this.fleet.servingGeneration) this.batcher.seed(this.#warmUp.costs);
    this.#state('up');
  }

  split(): void {
    const split = this.fleet.rollout?.split;
    this.mailbox.resort((key) => split?.sideOf(key) ?? SIDE.any);
  }

  noReplica(error: TroupeError): void {
    if (this.state === 'failed') return;
    this.failure = error;
    this.#state('fail');
    this.#settleAll('NO_REPLICA', poolFailed, error);
    this.#news({ name: 'failed', error });
  }

  // ------------------------------------------------------------------ private

  /** What every turn asks of the replicas, gone through only after something about them has changed. */
  #survey(): void {
    const { fleet } = this;
    const { list } = fleet;
    const { batchTimeoutMs, maxInFlight } = this.limits;
    const { rollout } = fleet;
    const bakes = rollout?.bakes === true;
    fleet.hasChanged = false;
    let wakeAt = fleet.nextStartAt();
    if (bakes && rollout.bakedAt < wakeAt) wakeAt = rollout.bakedAt;
    let idleCount = 0;
    let idleNewCount = 0;
    let replicaCount = 0;
    this.#hasRoom = false;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      const { flights } = cell;
      const serves = fleet.serves(cell);
      if (serves) replicaCount++;
      if (flights.length < maxInFlight && serves) {
        this.#hasRoom = true;
        if (flights.length === 0) {
          idleCount++;
          if (bakes && cell.generation === rollout.sides.generation) idleNewCount++;
        }
      }
      if (flights.length > 0 && !cell.killed) {
        const hungAt = (flights[0] as Flight).startedAt + batchTimeoutMs;
        if (hungAt < wakeAt) wakeAt = hungAt;
        if (bakes && cell.generation === rollout.sides.generation)
          wakeAt = Math.min(wakeAt, rollout.overdueAt(flights[0] as Flight));
      }
    }
    this.#replicasWakeAt = wakeAt;
    this.#idleCount = idleCount;
    this.#idleSides =
      rollout?.split === undefined ? ALL_SIDES : sidesOf(rollout, idleCount - idleNewCount, idleNewCount);
    this.batcher.replicaCount = replicaCount;
  }

  /** Idle replicas first: none is given a second batch while another has none. */
  #feedAll(now: number): void {
    const { mailbox } = this;
    const { list, rollout } = this.fleet;
    if (rollout?.split !== undefined) return this.#feedBoth(rollout, now);
    const { maxInFlight } = this.limits;
    let idleCount = this.#idleCount;
    for (let inFlight = 0; inFlight < maxInFlight; inFlight++) {
      for (let i = 0; i < list.length; i++) {
        const cell = list[i] as Cell;
        if (cell.flights.length !== inFlight || !this.fleet.serves(cell)) continue;
        if (this.#feed(cell, inFlight === 0 ? Math.max(1, idleCount--) : 0, now)) {
          if (mailbox.doorCount > 0) mailbox.admit();
          if (mailbox.held === 0 && this.#retries.isEmpty) return;
        } else if (this.#retries.isEmpty && !cell.solo) break; // What is not due here is due at no other like it.
      }
    }
  }

  /** As `feedAll`, where two versions share the work: the one that is behind its share is asked first. */
  #feedBoth(rollout: Rollout, now: number): void {
    const { mailbox } = this;
    while (mailbox.held > 0 || !this.#retries.isEmpty) {
      const newFirst = rollout.split?.newIsNext === true;
      if (!this.#feedOne(rollout, newFirst, now) && !this.#feedOne(rollout, !newFirst, now)) break;
      if (mailbox.doorCount > 0) mailbox.admit();
    }
    // What the idle ones may take has changed with the balance between the versions.
    this.fleet.hasChanged = true;
  }

  /** Gives one batch to a replica of the new or the old version, the emptiest first; false: none takes anything. */
  #feedOne(rollout: Rollout, isNew: boolean, now: number): boolean {
    const { list } = this.fleet;
    const { generation, fromGeneration } = rollout.sides;
    const { split } = rollout;
    if (split === undefined) return false;
    const own = isNew ? generation : fromGeneration;
    const sides = isNew ? SIDE.new | (split.newIsNext ? SIDE.any : 0) : SIDE.old | SIDE.any;
    let idleCount = 0;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (cell.generation === own && cell.flights.length === 0 && this.fleet.serves(cell)) idleCount++;
    }
    for (let inFlight = 0; inFlight < this.limits.maxInFlight; inFlight++) {
      for (let i = 0; i < list.length; i++) {
        const cell = list[i] as Cell;
        if (cell.generation !== own || cell.flights.length !== inFlight || !this.fleet.serves(cell)) continue;
        const other = isNew ? fromGeneration : generation;
        if (!this.#feed(cell, inFlight === 0 ? idleCount : 0, now, sides, other)) continue;
        const { requests, trigger } = cell.flights.at(-1) as Flight;
        if (trigger !== 'retry' && trigger !== 'split' && trigger !== 'quarantine' && !isProbe(requests))
          split.sent(isNew, requests.length);
        return true;
      }
    }
    return false;
  }

  /**
   * `idleCount`: how many replicas are idle, this one among them; 0 where it is not. While two versions share the work,
   * `sides` says what this one may take of what waits, and `other` whose retries are not for it.
   */
  #feed(cell: Cell, idleCount: number, now: number, sides?: number, other?: number): boolean {
    const isIdle = idleCount > 0;
    // P4: a suspect needs an idle replica, so none is kept busy while one waits.
    if (!isIdle && (cell.solo || this.#retries.suspectIsNext(other))) return false;
    const again = this.#retries.isEmpty ? undefined : this.#takeRetry(isIdle, now, other);
    const formed = again ?? this.batcher.form(this.mailbox, idleCount, this.#deadlines.nextAt, now, sides);
    if (formed === undefined || formed.requests.length === 0) return false;
    const { requests, trigger } = formed;
    const flight = this.ledger.open(cell.id, cell.incarnation, requests, trigger, now);
    this.fleet.hasChanged = true;
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i] as Request;
      request.place = 'in-flight';
      request.flight = flight;
      request.sentAt = now;
      request.sendCount++;
      if (request.callTimeoutMs !== Infinity)
        this.#deadlines.move(request, Math.min(request.deadlineAt, now + request.callTimeoutMs));
    }
    cell.solo = formed.trigger === 'quarantine'; // P4
    this.batchCount++;
    this.batchedCount += requests.length;
    countTrigger(this.triggerCounts, trigger);
    this.#effects.push({ kind: 'send', cell: cell.id, batchId: flight.batchId, requests, trigger });
    return true;
  }

  #takeRetry(
    replicaIsIdle: boolean,
    now: number,
    other: number | undefined,
  ): { requests: Request[]; trigger: Trigger } | undefined {
    for (;;) {
      const group = this.#retries.take(replicaIsIdle, other);
      if (group === undefined || group.trigger !== 'quarantine' || this.#quarantineHasRoom(now)) return group;
      const { quarantineMax } = this.limits.restart;
      for (const suspect of group.requests)
        this.#fail(suspect, 'ACTOR_CRASHED', 'interrupted', notReplayed, quarantineMax);
    }
  }

  #quarantineHasRoom(now: number): boolean {
    for (const cell of this.fleet.list) if (!cell.window.quarantineHasRoom(now)) return false;
    return true;
  }

  /** The flight that this answers, closed; of a slot that is gone (`cell` undefined) every reply is stale. */
  #answered(cell: Cell | undefined, incarnation: number, batchId: number, now: number): Flight | undefined {
    const flight = this.ledger.close(cell?.id ?? GONE, incarnation, batchId, now);
    if (flight === undefined || cell === undefined) return undefined;
    this.fleet.hasChanged = true;
    cell.solo = false;
    if (isProbe(flight.requests)) return flight;
    cell.window.progressed();
    this.batcher.observe(now - flight.startedAt);
    return flight;
  }

  /** A replica that drains may have given its last answer. */
  #free(cell: Cell): void {
    if (cell.flights.length === 0) this.fleet.idle(cell);
  }

  #ended(flight: Flight, answered: boolean, now: number): EndedCall {
    if (this.#onCall === undefined) return NO_CALL;
    const { batchId, requests, sentAt, trigger, timedOut } = flight;
    const size = requests.length;
    let oldestAt = sentAt;
    for (let i = 0; i < size; i++) {
      const { offeredAt } = requests[i] as Request;
      if (offeredAt < oldestAt) oldestAt = offeredAt;
    }
    const waitedMs = sentAt - oldestAt;
    return { batchId, size, waitedMs, durationMs: now - sentAt, trigger, answered, timedOut, settledCount: 0 };
  }

  /** What a dead replica held: blamed, retried as it was, or settled. */
  #salvage(cell: Cell, flights: readonly Flight[], death: DeathNotice, expected: boolean, now: number): void {
    const again: Request[][] = [];
    const suspects: Request[][] = [];
    const blamed = isBlamed(death.cause);
    for (let at = 0; at < flights.length; at++) {
      const flight = flights[at] as Flight;
      const left = flight.requests.filter((request) => request.place === 'in-flight');
      // Only the batch it ran can have killed it; the staged ones behind go again as they are.
      const ran = at === 0 && !expected;
      if (death.cause === 'hung' && at === 0) flight.timedOut = true;
      const call = this.#ended(flight, false, now);
      const whole: Request[] = [];
      // Counted here: where nobody listens to calls, all of them are one.
      let lostCount = 0;
      for (const request of left) {
        if (ran) request.deathCount++;
        // What kills a version on trial twice may be the version's fault: it is no culprit while another may still answer.
        const isCulprit = ran && blamed && flight.trigger === 'quarantine' && !this.fleet.isOnTrial(cell);
        if (!this.#repeatable || isCulprit || request.deathCount >= this.limits.attempts) {
          request.call = call;
          call.settledCount++;
          lostCount++;
          this.#settleFailure(request, this.#deathFailure(cell, death, request));
        } else if (ran && (blamed || request.deathCount > 1)) suspects.push([request]);
        else if (flight.trigger === 'quarantine')
          suspects.push([request]); // stopped before it was cleared
        else whole.push(request);
      }
      this.#unsend(left);
      if (lostCount > 0) this.#judgeLoss(cell, lostCount);
      again.push(whole);
      if (ran || (at === 0 && flight.timedOut)) this.#onCall?.(call);
    }
    const hasKeys = again.some((group) => group.some(({ key }) => key !== undefined));
    this.#retries.putFirst(again, 'retry', hasKeys ? cell.generation : ANY);
    for (const suspect of suspects.reverse())
      this.#retries.putFirst([suspect], 'quarantine', this.#secondTo(cell, suspect[0] as Request) ?? cell.generation);
  }

  /** P6: what failed on the new version alone is no failure yet, where the old one may still answer. */
  #secondTo(cell: Cell, { key }: Request): number | undefined {
    return this.#repeatable ? this.fleet.secondTo(cell, key !== undefined) : undefined;
  }

  #askSecond(requests: Request[], cell: Cell): void {
    if (requests.length === 0) return;
    this.#unsend(requests);
    this.#retries.putFirst([requests], 'retry', this.#secondTo(cell, requests[0] as Request));
  }

  /** A batch was answered or has failed for good while a version is on trial, or loads and is to be. */
  #judge(rollout: Rollout, cell: Cell, { requests, startedAt }: Flight, failedCount: number, now: number): void {
    const { generation, fromGeneration } = rollout.sides;
    if (rollout !== this.fleet.rollout || rollout.rules.bakeMs === 0 || isProbe(requests)) return;
    if (cell.generation !== generation && cell.generation !== fromGeneration) return;
    rollout.trial.observe(cell.generation === generation, requests.length, failedCount, now - startedAt);
    this.#heed(rollout, now);
  }

  /** Records were lost with their replica. The fleet, which is told of its end next, heeds it. */
  #judgeLoss(cell: Cell, count: number): void {
    const { rollout } = this.fleet;
    if (rollout?.bakes === true) rollout.trial.lost(cell.generation === rollout.sides.generation, count);
  }

  #heed(rollout: Rollout, now: number): void {
    const verdict = rollout.bakes ? rollout.trial.verdict() : undefined;
    if (verdict !== undefined) this.fleet.rollBack(verdict.reason, verdict.what, now);
  }

  /** A batch of the new version takes far too long, or its time of trial is over. */
  #judgeTime(rollout: Rollout, now: number): void {
    if (rollout !== this.fleet.rollout) return;
    const { generation } = rollout.sides;
    for (const { generation: own, flights } of this.fleet.list) {
      const running = own === generation ? flights[0] : undefined;
      if (running === undefined || rollout.overdueAt(running) > now) continue;
      const ms = Math.round(now - running.startedAt);
      this.fleet.rollBack(
        'latency',
        `a batch of ${running.requests.length} has run for ${ms} ms without an answer`,
        now,
      );
      return;
    }
    if (rollout.bakedAt <= now) this.fleet.promote(now);
  }

  /** What comes back from a replica has its whole deadline again; the end of the try is over with the try. */
  #unsend(requests: readonly Request[]): void {
    for (const request of requests)
      if (request.place === 'in-flight') this.#deadlines.move(request, request.deadlineAt);
  }

  #settleAll<Detail>(code: ErrorCode, make: (failure: Failure<Detail>) => TroupeError, detail: Detail): void {
    if (this.heldCount === 0) return;
    const held: Request[] = [];
    for (const flight of this.ledger.flights()) {
      for (const request of flight.requests) if (request.place === 'in-flight') held.push(request);
    }
    held.push(...this.#retries.empty(), ...this.mailbox.empty());
    for (const request of held) {
      if (request.place === 'in-flight') this.#leave(request);
      this.#fail(request, code, ranOf(request), make, detail);
    }
  }

  #expire(now: number): void {
    for (;;) {
      const request = this.#deadlines.takeDue(now);
      if (request === undefined) return;
      const inFlight = request.place === 'in-flight';
      if (inFlight) (request.flight as Flight).timedOut = true;
      this.#leave(request);
      const ofTry = request.dueAt < request.deadlineAt;
      const make = ofTry ? tryTimedOut : inFlight ? expiredInFlight : expiredWaiting;
      this.#fail(request, 'DEADLINE_PASSED', ranOf(request), make, undefined);
    }
  }

  /** Takes a request out of wherever it is held, without settling it. */
  #leave(request: Request): void {
    if (request.place === 'mailbox' || request.place === 'door') this.mailbox.remove(request);
    else if (request.place === 'in-flight') {
      const flight = request.flight as Flight;
      flight.waiting--;
      if (flight.waiting === 0) this.#abandon(flight);
    }
    request.place = 'nowhere';
  }

  /** Nobody waits for the batch any more. One that is staged never runs, so only the one that runs can cost a replica. */
  #abandon(flight: Flight): void {
    const cell = this.fleet.cells.get(flight.cell) as Cell;
    const mayReplace = this.limits.cancellation === 'replace' && this.state !== 'stopping' && this.state !== 'failed';
    if (mayReplace && cell.flights[0] === flight) this.fleet.replace(cell);
    else this.#effects.push({ kind: 'abandon', cell: flight.cell, batchId: flight.batchId });
  }

  #drop(request: Request, what: string): void {
    const { held, heldBytes, limits } = this.mailbox;
    this.#fail(request, 'MAILBOX_DROPPED', 'not-started', dropped, { what, held, heldBytes, limits });
  }

  #fail<Detail>(
    request: Request,
    code: ErrorCode,
    ran: Ran,
    make: (failure: Failure<Detail>) => TroupeError,
    detail: Detail,
  ): void {
    this.#settleFailure(request, new Failure(code, ran, request, this.limits.name, make, detail));
  }

  #settleFailure(request: Request, failure: Failure): void {
    request.failure = failure;
    this.errorCounts.set(failure.code, (this.errorCounts.get(failure.code) ?? 0) + 1);
    this.#settle(request);
  }

  #settle(request: Request): void {
    invariant(request.place !== 'settled', 'P1: a record settles once');
    this.#deadlines.remove(request);
    request.place = 'settled';
    if (request.key !== undefined) this.mailbox.settled(request, request.key);
    this.settledCount++;
    this.#settled.push(request);
  }

  #checkDrained(): void {
    if (this.state !== 'draining' || this.heldCount > 0 || this.#drainedTold) return;
    this.#drainedTold = true;
    this.#news({ name: 'drained' });
  }

  #checkStopped(): void {
    if (this.state !== 'stopping' || !this.fleet.isGone) return;
    this.#state('gone');
    this.#news({ name: 'stopped' });
  }

  #locate(error: TroupeError, cell: Cell, request: Request, requests: readonly Request[]): Failure<Located> {
    const { replica, incarnation, version } = cell;
    const detail = { error, replica, incarnation, version, requests };
    return new Failure(error.code, error.ran, request, this.limits.name, located, detail);
  }

  #deathFailure(cell: Cell, death: DeathNotice, request: Request): Failure<Buried> {
    const code: ErrorCode =
      death.cause === 'oom' ? 'ACTOR_OOM' : death.cause === 'hung' ? 'ACTOR_HUNG' : 'ACTOR_CRASHED';
    const { replica, incarnation, version } = cell;
    const detail = { death, replica, incarnation, version };
    return new Failure(code, 'interrupted', request, this.limits.name, buried, detail);
  }

  #news(news: PoolNews): void {
    this.#effects.push({ kind: 'news', news });
  }

  #state(event: PoolEventName): void {
    this.state = transition('pool', POOL_LIFECYCLE, this.state, event);
  }
}

/** No replica slot has this id. */
const GONE = 0;

/** Stream operators hold their records themselves, and where records are dropped those ahead may be dropped. */
function refusesLate(overflow: Overflow): boolean {
  return overflow === 'reject' || overflow === 'wait';
}

function endsByUs(state: ReplicaState): boolean {
  return state === 'stopping' || state === 'recycling' || state === 'replacing';
}

/** Ends that the record being run can have caused. A signal from outside is nobody's fault. */
function isBlamed(cause: DeathNotice['cause']): boolean {
  return cause !== 'killed' && cause !== 'stopped' && cause !== 'load-failed';
}

/** By name and not by key: every batch is counted, and a look-up by key of ten costs more than the rest of its books. */
function countTrigger(counts: Record<Trigger, number>, trigger: Trigger): void {
  switch (trigger) {
    case 'size':
      counts.size++;
      break;
    case 'bytes':
      counts.bytes++;
      break;
    case 'weight':
      counts.weight++;
      break;
    case 'delay':
      counts.delay++;
      break;
    case 'idle':
      counts.idle++;
      break;
    case 'deadline':
      counts.deadline++;
      break;
    case 'flush':
      counts.flush++;
      break;
    case 'split':
      counts.split++;
      break;
    case 'quarantine':
      counts.quarantine++;
      break;
    case 'retry':
      counts.retry++;
      break;
  }
}

type EndedCall = { -readonly [K in keyof BatchCall]: BatchCall[K] };

/** Probes share no batch with records. */
function isProbe(requests: readonly Request[]): boolean {
  return requests[0]?.bucket === PROBE_BUCKET;
}

/** What is written to where nobody counts calls. */
const NO_CALL: EndedCall = {
  batchId: 0,
  size: 0,
  waitedMs: 0,
  durationMs: 0,
  trigger: 'idle',
  answered: false,
  timedOut: false,
  settledCount: 0,
};

/** What waits and may be taken by the replicas that are idle. */
function sidesOf({ split }: Rollout, idleOld: number, idleNew: number): number {
  const any = idleOld > 0 || split?.newIsNext === true ? SIDE.any : 0;
  return (idleOld > 0 ? SIDE.old | any : 0) | (idleNew > 0 ? SIDE.new | any : 0);
}

/** A record that was never sent cannot have run. */
function ranOf(request: Request): Ran {
  return request.sendCount === 0 ? 'not-started' : 'interrupted';
}
