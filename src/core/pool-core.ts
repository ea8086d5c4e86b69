/**
 * The decisions of one pool, as one synchronous state machine: it is told what happened and when, and answers with
 * effects. Edges (actor/pump.ts for real, testing/ for the simulator) own timers, threads and sockets.
 *
 * Puts together: mailbox and door, batcher, retry lane, in-flight ledger, deadlines, and the fleet of replicas. What comes
 * in is taken here; feeder.ts gives it to replicas, replies.ts hears what becomes of it, salvage.ts tries it again,
 * settlement.ts ends it.
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

import { invariant, type TroupeError } from '../kernel/errors.js';
import { transition } from '../kernel/lifecycle.js';
import type { Random } from '../kernel/random.js';
import { Admission } from './admission.js';
import type { WarmUpCosts } from './adaptive-size.js';
import { Batcher } from './batcher.js';
import { CallBook } from './call-book.js';
import type { BatchCall, CoreResult, DeathNotice, Effect } from './effects.js';
import { poolFailed, poolStopped } from './failure.js';
import { Fleet } from './fleet.js';
import { Feeder } from './feeder.js';
import { HangWatch } from './hang-watch.js';
import { type Flight, Ledger } from './ledger.js';
import { POOL_LIFECYCLE, type PoolEventName, type PoolState } from './lifecycles.js';
import { Mailbox, type Offer, type Overflow } from './mailbox.js';
import { Outbox } from './outbox.js';
import { PoolCounts } from './pool-counts.js';
import { ModelDesk } from './model-desk.js';
import type { PoolLimits } from './pool-limits.js';
import { Replies } from './replies.js';
import { PROBE_BUCKET, type Request } from './request.js';
import { RetryLane } from './retry-lane.js';
import type { RollbackReason, RolloutRules } from './rollout.js';
import { Salvage } from './salvage.js';
import { Scaling } from './scaling.js';
import { Settlement } from './settlement.js';
import type { Compared } from './shadow.js';
import type { Cell } from './slots.js';
import type { SuccessionOwner } from './succession.js';
import { SIDE } from './traffic-split.js';
import { TrialJudge } from './trial-judge.js';

export class PoolCore implements SuccessionOwner {
  readonly limits: PoolLimits;
  readonly mailbox: Mailbox;
  readonly batcher: Batcher;
  readonly admission: Admission;
  readonly ledger = new Ledger();
  readonly fleet: Fleet;
  readonly counts = new PoolCounts();
  /** Where the pool holds many models: which replica holds which. */
  readonly models: ModelDesk | undefined;
  state: PoolState = 'starting';
  /** Why the pool has failed, while it has. */
  failure: TroupeError | undefined;

  readonly #outbox = new Outbox();
  readonly #settlement: Settlement;
  readonly #feeder: Feeder;
  readonly #salvage: Salvage;
  readonly #replies: Replies;
  readonly #judge: TrialJudge;
  readonly #hangs: HangWatch;
  readonly #scaling: Scaling | undefined;
  readonly #victims: Request[] = [];
  readonly #maxWaitMs: number;
  #drainedTold = false;
  /** What a version on trial told of its warm-up, by generation. */
  #warmUp: { readonly generation: number; readonly costs: WarmUpCosts } | undefined;

  /** `onCall` hears of every batch that has ended, after its records were settled; it only counts. */
  constructor(limits: PoolLimits, random: Random, onCall?: (end: BatchCall) => void) {
    this.limits = limits;
    const mailbox = new Mailbox(limits.mailbox);
    const batcher = new Batcher(limits.batching, limits.maxInFlight);
    const { ledger, counts } = this;
    const outbox = this.#outbox;
    const retries = new RetryLane();
    const calls = new CallBook(onCall);
    const fleet = new Fleet(limits, random, ledger, this);
    const abandoned = (flight: Flight): void => this.#abandoned(flight);
    const settlement = new Settlement(limits.name, { mailbox, ledger, retries, counts, outbox, abandoned });
    const judge = new TrialJudge(fleet, limits.batchTimeoutMs);
    const salvage = new Salvage(limits, { fleet, retries, settlement, judge, calls });
    this.mailbox = mailbox;
    this.#maxWaitMs = mailbox.limits.maxWaitMs ?? Infinity;
    this.batcher = batcher;
    this.fleet = fleet;
    this.admission = new Admission(batcher, mailbox, fleet);
    this.#settlement = settlement;
    this.#judge = judge;
    this.#salvage = salvage;
    const hangs = new HangWatch(fleet, limits.batchTimeoutMs);
    this.#hangs = hangs;
    const models =
      limits.models === undefined
        ? undefined
        : new ModelDesk(limits.models, { pool: limits.name, hangs, fleet, mailbox, retries, settlement, outbox });
    this.models = models;
    const { scaling } = limits;
    if (scaling !== undefined) this.#scaling = new Scaling(scaling, { fleet, mailbox, ledger, retries });
    const feeder = new Feeder(limits, { mailbox, batcher, ledger, fleet, retries, settlement, counts, outbox, models });
    this.#feeder = feeder;
    this.#replies = new Replies({
      batcher,
      ledger,
      fleet,
      settlement,
      salvage,
      judge,
      calls,
      counts,
      outbox,
      models,
      feeder,
    });
  }

  /** Nothing to take: no effects and nobody to tell. */
  get isQuiet(): boolean {
    return this.#outbox.isEmpty;
  }

  /** Effects since the last call, in order. `next`, empty, takes those to come: who looks often gives back what it has read. */
  takeEffects(next?: Effect[]): Effect[] {
    return this.#outbox.takeEffects(next);
  }

  /** Requests settled since the last call, in order; user callbacks come after effects. `next` as in `takeEffects`. */
  takeSettled(next?: Request[]): Request[] {
    return this.#outbox.takeSettled(next);
  }

  /** Accepted and not settled: at the door, waiting, to be retried, in flight. */
  get heldCount(): number {
    return this.counts.held;
  }

  /** The instant `tick` is needed at the latest; Infinity for none. */
  nextWakeAt(): number {
    let wakeAt = this.#feeder.nextWakeAt();
    if (this.#scaling !== undefined && this.#scaling.lookAt < wakeAt) wakeAt = this.#scaling.lookAt;
    if (this.models !== undefined && this.models.wakeAt < wakeAt) wakeAt = this.models.wakeAt;
    return wakeAt;
  }

  /** True: nothing is to be done but to look whether fewer replicas or models would do, which nobody waits for. */
  get onlyLooks(): boolean {
    if (this.#scaling === undefined && this.models === undefined) return false;
    return this.#feeder.nextWakeAt() === Infinity && this.models?.isBusy !== true;
  }

  /**
   * `asleep`: scaled to 0, with nothing to do. `waking`: its first replica since then loads, and none has failed to. In both
   * a record is taken in and waits for the load.
   */
  get rest(): 'asleep' | 'waking' | undefined {
    if (this.#scaling === undefined || this.state !== 'running') return undefined;
    const { fleet } = this;
    if (fleet.replicas === 0) return 'asleep';
    let isWaking = false;
    for (const { state, incarnation } of fleet.list) {
      if (state === 'draining' || state === 'stopping') continue;
      if (state !== 'starting' || incarnation > 1) return undefined;
      isWaking = true;
    }
    return isWaking ? 'waking' : undefined;
  }

  // ------------------------------------------------------------------ records

  /**
   * Takes a request in. `accepted` and `door` mean it will be settled; `dropped` too (at once, by the overflow rule);
   * `full`, `too-large`, `overloaded` (it cannot be in time), `model-refused` (its model cannot be loaded now) and the
   * states that take nothing mean it was refused and nothing is kept.
   */
  offer(
    request: Request,
    overflow: Overflow,
    now: number,
  ): Offer | 'overloaded' | 'closed' | 'failed' | 'model-refused' {
    const { counts } = this;
    if (this.state !== 'running' && this.state !== 'starting') {
      counts.refused++;
      return this.state === 'failed' ? 'failed' : 'closed';
    }
    if (request.model !== undefined && this.models?.refusals.of(request.model, now) !== undefined) {
      counts.refused++;
      return 'model-refused';
    }
    if (request.deadlineAt !== Infinity && refusesLate(overflow) && this.admission.lateBy(request, now) > 0) {
      counts.refused++;
      counts.overloaded++;
      return 'overloaded';
    }
    const split = this.fleet.rollout?.split;
    if (split !== undefined && request.key !== undefined) request.side = split.sideOf(request.key);
    const offer = this.mailbox.offer(request, overflow, this.#victims);
    if (offer === 'full' || offer === 'too-large') {
      if (overflow !== 'try') counts.refused++;
      return offer;
    }
    counts.accepted++;
    this.#scaling?.accepted(request, now);
    if (offer === 'dropped') {
      this.#settlement.drop(request, 'drop-newest dropped this record');
      return offer;
    }
    if (request.deadlineAt !== Infinity && request.bucket !== PROBE_BUCKET)
      request.dueAt = Math.min(request.deadlineAt, request.offeredAt + this.#maxWaitMs);
    this.#settlement.deadlines.add(request);
    if (this.#victims.length > 0) this.#settlement.dropAll(this.#victims);
    if (request.deadlineAt <= now) this.#settlement.expire(now);
    return offer;
  }

  /**
   * Takes in a request whose result is known, in a pool that takes records: it has no place in the mailbox, and settles by
   * `settleKnown` unless it is cancelled before.
   */
  offerKnown(request: Request): void {
    this.counts.accepted++;
    request.place = 'known';
  }

  /** `now`: the whole wait was one for this. False: it has been cancelled. */
  settleKnown(request: Request, value: unknown, version: string | undefined, now: number): boolean {
    if (request.place !== 'known') return false;
    request.sentAt = now;
    this.counts.known++;
    this.#settlement.resolve(request, value, version);
    return true;
  }

  /** The caller gave the request up. Queued work leaves at once; running work is told when nobody waits for it. */
  cancel(request: Request, reason: unknown): void {
    if (request.place !== 'settled' && request.place !== 'nowhere') this.#settlement.cancel(request, reason);
  }

  /** Sends what waits without waiting for company. */
  flush(now: number): void {
    this.batcher.flush(this.mailbox, now);
  }

  /** Gives work to every replica with room; to be called once per turn, after the events of that turn. */
  dispatch(now: number): void {
    this.#settlement.expire(now);
    if (this.mailbox.doorCount > 0) this.mailbox.admit();
    if (this.#scaling !== undefined && this.fleet.replicas === 0 && this.#isOpen()) this.#scaling.wakeForWork(now);
    this.#feeder.feedAll(now);
    if (this.models?.plan(now) === true) this.#feeder.feedAll(now);
    if (this.state === 'draining') this.#checkDrained();
  }

  /** Time has come for something: deadlines, hung batches, restarts, held batches. */
  tick(now: number): void {
    const wakeAt = this.#feeder.replicasWakeAt();
    if (wakeAt <= now) {
      const { rollout } = this.fleet;
      this.#hangs.look(wakeAt, now);
      this.fleet.tick(now);
      if (rollout?.bakes === true) this.#judge.tick(rollout, now);
    }
    this.models?.look(now);
    if (this.#scaling !== undefined && this.#scaling.lookAt <= now) {
      if (this.state === 'running') this.#scaling.look(now);
      else this.#scaling.autoscaler.rest();
    }
    this.dispatch(now);
  }

  // ----------------------------------------------------------------- replicas

  /** First start, or a new version beside the old: all `count` replicas must come up, or nothing has changed. */
  rollOut(version: string | undefined, count: number, now: number, rules?: RolloutRules): void {
    if (this.fleet.servingGeneration !== 0) this.#scaling?.wake(now);
    this.fleet.rollOut(version, Math.max(1, count), now, rules);
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

  /** The version before serves again at once; false: it is not kept. */
  restore(now: number): boolean {
    if (this.state !== 'running' || !this.fleet.restore(now)) return false;
    if (this.fleet.replicas > 0) this.#scaling?.autoscaler.begin(now);
    return true;
  }

  /** Lets the version before go, where it is kept. */
  freeKept(): void {
    this.fleet.freeKept();
  }

  /** Within the bounds of a pool that scales by itself; it goes on from there. */
  scale(count: number, now: number): void {
    const { min, max } = this.limits.scaling ?? { min: 1, max: Infinity };
    invariant(count >= min && count <= max, 'a pool has as many replicas as its bounds allow');
    this.fleet.scale(count, now);
    this.#scaling?.autoscaler.begin(now);
  }

  /** A pool that is scaled to 0 loads its first replica again, as if there were work. */
  wake(now: number): void {
    if (this.#isOpen()) this.#scaling?.wake(now);
  }

  /** The replica has loaded and warmed up, and tells what its warm-up runs took. */
  ready(cellId: number, incarnation: number, now: number, warmUp?: WarmUpCosts): void {
    const cell = this.fleet.cells.get(cellId);
    if (cell === undefined || cell.incarnation !== incarnation || cell.state !== 'starting') return;
    if (warmUp !== undefined) this.#warmUp = { generation: cell.generation, costs: warmUp };
    this.fleet.ready(cell, now);
    this.#scaling?.autoscaler.begin(now);
    if (warmUp !== undefined && this.fleet.isMain(cell)) this.batcher.seed(warmUp);
  }

  /** One result per record of the batch, in order. Stale replies are counted and dropped (L2). */
  reply(cellId: number, incarnation: number, batchId: number, results: readonly CoreResult[], now: number): void {
    this.#replies.answered(cellId, incarnation, batchId, results, now);
  }

  /**
   * So many results of the answer that is told next are token streams: the records are settled by that answer, and the
   * replica is not done with them. It takes further batches up to `maxStreams`, and is not stopped before they end, nor
   * is their model unloaded.
   */
  streamsBegan(cellId: number, incarnation: number, count: number, model?: string): void {
    this.#replies.streamsBegan(cellId, incarnation, count, model);
  }

  /** One of them has come to its end. */
  streamEnded(cellId: number, incarnation: number, model: string | undefined, now: number): void {
    this.#replies.streamEnded(cellId, incarnation, model, now);
  }

  /**
   * A replica answered a batch that it was only shown. How long it took; undefined: nobody waits for it any more.
   */
  shown(cellId: number, batchId: number, now: number): number | undefined {
    return this.#judge.shown(cellId, batchId, now);
  }

  /** Records that a shadow was shown have their outcome on both sides. */
  compared(compared: Compared, now: number): void {
    this.#judge.compared(compared, now);
  }

  /** The batch as a whole failed. A throw is halved until the culprit is alone (P3); a broken contract is not. */
  failed(cellId: number, incarnation: number, batchId: number, error: TroupeError, now: number): void {
    this.#replies.failed(cellId, incarnation, batchId, error, now);
  }

  /** The replica ended. What it held is fenced off, retried or settled; then the fleet decides about its next life. */
  died(cellId: number, incarnation: number, death: DeathNotice, now: number): void {
    this.#replies.died(cellId, incarnation, death, now);
    this.#checkStopped();
  }

  /** The definition says that predict must not run twice for a record: nothing interrupted is retried. */
  setRepeatable(repeatable: boolean): void {
    this.#salvage.isRepeatable = repeatable;
  }

  // ------------------------------------------------------------------ the end

  /** Takes no more; `drained` is told when the last record is settled and the last token stream has ended. */
  drain(): void {
    this.#state('drain');
    this.#checkDrained();
  }

  /** Takes no more, settles what is held with POOL_STOPPED, and stops every replica. Drain first to finish the work. */
  stop(now: boolean): void {
    this.#state('stop');
    this.#scaling?.autoscaler.rest();
    this.#settlement.failAll('POOL_STOPPED', poolStopped, undefined);
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

  // -------------------------------------------- SuccessionOwner, for the fleet

  emit(effect: Effect): void {
    this.#outbox.emit(effect);
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
    this.#settlement.failAll('NO_REPLICA', poolFailed, error);
    this.#outbox.tell({ name: 'failed', error });
  }

  // ------------------------------------------------------------------ private

  /** Nobody waits for the batch any more. One that is staged never runs, so only the one that runs can cost a replica. */
  #abandoned(flight: Flight): void {
    const cell = this.fleet.cells.get(flight.cell) as Cell;
    const mayReplace = this.limits.cancellation === 'replace' && this.state !== 'stopping' && this.state !== 'failed';
    if (mayReplace && cell.flights[0] === flight) this.fleet.replace(cell);
    else this.#outbox.emit({ kind: 'abandon', cell: flight.cell, batchId: flight.batchId });
  }

  /** Something may still be given to replicas. */
  #isOpen(): boolean {
    return this.state === 'running' || this.state === 'starting' || this.state === 'draining';
  }

  #checkDrained(): void {
    if (this.state !== 'draining' || this.heldCount > 0 || this.#drainedTold || this.fleet.streamCount > 0) return;
    this.#drainedTold = true;
    this.#outbox.tell({ name: 'drained' });
  }

  #checkStopped(): void {
    if (this.state !== 'stopping' || !this.fleet.isGone) return;
    this.#state('gone');
    this.#outbox.tell({ name: 'stopped' });
  }

  #state(event: PoolEventName): void {
    this.state = transition('pool', POOL_LIFECYCLE, this.state, event);
  }
}

/** Stream operators hold their records themselves, and where records are dropped those ahead may be dropped. */
function refusesLate(overflow: Overflow): boolean {
  return overflow === 'reject' || overflow === 'wait';
}
