/**
 * Who is given what, and when: the replicas with room, the emptiest first; what is to be tried again before what waits.
 *
 * Owns the survey of the replicas, which is gone through only after something about them has changed. P4 a suspect runs
 * alone on its replica, so blame is exact. F1 (fleet) only what serves is given work; while two versions share it, each
 * as far as its share goes.
 */

import type { Batcher, Shelf, Trigger } from './batcher.js';
import { notReplayed } from './failure.js';
import type { Fleet } from './fleet.js';
import type { Cell } from './slots.js';
import type { Flight, Ledger } from './ledger.js';
import type { Mailbox } from './mailbox.js';
import type { ModelDesk } from './model-desk.js';
import type { Outbox } from './outbox.js';
import type { PoolCounts } from './pool-counts.js';
import type { PoolLimits } from './pool-limits.js';
import { isProbe, type Request } from './request.js';
import type { RetryLane } from './retry-lane.js';
import type { Rollout } from './rollout.js';
import type { Settlement } from './settlement.js';
import { ALL_SIDES, SIDE } from './traffic-split.js';

export interface FeederParts {
  readonly mailbox: Mailbox;
  readonly batcher: Batcher;
  readonly ledger: Ledger;
  readonly fleet: Fleet;
  readonly retries: RetryLane;
  readonly settlement: Settlement;
  readonly counts: PoolCounts;
  readonly outbox: Outbox;
  /** Where the pool holds many models. */
  readonly models: ModelDesk | undefined;
}

export class Feeder {
  readonly #limits: PoolLimits;
  readonly #mailbox: Mailbox;
  readonly #batcher: Batcher;
  readonly #ledger: Ledger;
  readonly #fleet: Fleet;
  readonly #retries: RetryLane;
  readonly #settlement: Settlement;
  readonly #counts: PoolCounts;
  readonly #outbox: Outbox;
  readonly #models: ModelDesk | undefined;
  readonly #maxStreams: number;
  // Of the last survey, until the fleet changes otherwise than by what is given here.
  #roomCount = 0;
  #idleCount = 0;
  /** What idle replicas may take: not all of it while two versions share the work. */
  #idleSides: number = ALL_SIDES;
  #replicasWakeAt = Infinity;
  /** A batch was answered that may have been the first to hang. */
  #wakeIsStale = false;

  constructor(limits: PoolLimits, parts: FeederParts) {
    this.#limits = limits;
    this.#mailbox = parts.mailbox;
    this.#batcher = parts.batcher;
    this.#ledger = parts.ledger;
    this.#fleet = parts.fleet;
    this.#retries = parts.retries;
    this.#settlement = parts.settlement;
    this.#counts = parts.counts;
    this.#outbox = parts.outbox;
    this.#models = parts.models;
    this.#maxStreams = limits.maxStreams ?? Infinity;
  }

  /** When a batch counts as hung, a replica is to start, or a trial is over. */
  replicasWakeAt(): number {
    if (this.#fleet.hasChanged) this.#survey();
    if (this.#wakeIsStale) this.#lookForHung();
    return this.#replicasWakeAt;
  }

  /** When something is due: for replicas, by a deadline, or because a batch has waited long enough. */
  nextWakeAt(): number {
    let wakeAt = this.replicasWakeAt();
    const deadlineAt = this.#settlement.deadlines.nextAt;
    if (deadlineAt < wakeAt) wakeAt = deadlineAt;
    // Where nothing is held back for company, an idle replica leaves nothing to wait for.
    if (this.#idleCount > 0 && this.#limits.batching.maxDelayMs > 0) {
      const formAt = this.#batcher.wakeAt(this.#mailbox, this.#idleSides, this.#models?.holdings);
      if (formAt < wakeAt) wakeAt = formAt;
    }
    return wakeAt;
  }

  /** Gives work to every replica with room. Asked every turn, where mostly nothing waits or no replica has room. */
  feedAll(now: number): void {
    if (this.#mailbox.held === 0 && this.#retries.isEmpty) return;
    if (this.#roomCount > 0 || this.#fleet.hasChanged) this.#feedAll(now);
  }

  #feedAll(now: number): void {
    if (this.#fleet.hasChanged) this.#survey();
    if (this.#roomCount === 0) return;
    const { rollout } = this.#fleet;
    if (rollout?.split !== undefined) this.#feedBoth(rollout, now);
    else this.#feedServing(now);
  }

  #survey(): void {
    const fleet = this.#fleet;
    const { list } = fleet;
    const { batchTimeoutMs, maxInFlight } = this.#limits;
    const { rollout } = fleet;
    const bakes = rollout?.bakes === true;
    fleet.hasChanged = false;
    this.#wakeIsStale = false;
    let wakeAt = fleet.nextWakeAt();
    if (bakes && rollout.bakedAt < wakeAt) wakeAt = rollout.bakedAt;
    let idleCount = 0;
    let idleNewCount = 0;
    let replicaCount = 0;
    let roomCount = 0;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      const { flights } = cell;
      const serves = fleet.serves(cell);
      if (serves) replicaCount++;
      if (flights.length < maxInFlight && cell.streams < this.#maxStreams && serves) {
        roomCount++;
        if (flights.length === 0) {
          idleCount++;
          if (bakes && cell.generation === rollout.sides.generation) idleNewCount++;
        }
      }
      if (flights.length > 0 && !cell.killed) {
        const hungAt = (flights[0] as Flight).startedAt + batchTimeoutMs + cell.mayBlockMs;
        if (hungAt < wakeAt) wakeAt = hungAt;
        if (bakes && cell.generation === rollout.sides.generation)
          wakeAt = Math.min(wakeAt, overdueAt(rollout, flights[0] as Flight));
      }
    }
    if (bakes && rollout.shadow !== undefined) wakeAt = Math.min(wakeAt, rollout.shownOverdueAt(batchTimeoutMs));
    this.#replicasWakeAt = wakeAt;
    this.#roomCount = roomCount;
    this.#idleCount = idleCount;
    this.#idleSides =
      rollout?.split === undefined ? ALL_SIDES : sidesOf(rollout, idleCount - idleNewCount, idleNewCount);
    this.#batcher.replicaCount = replicaCount;
  }

  /** Of a survey what batches change; no roll-out is under way. */
  #lookForHung(): void {
    const fleet = this.#fleet;
    const { list } = fleet;
    const { batchTimeoutMs } = this.#limits;
    this.#wakeIsStale = false;
    let wakeAt = fleet.nextWakeAt();
    for (let i = 0; i < list.length; i++) {
      const { flights, killed, mayBlockMs } = list[i] as Cell;
      if (flights.length === 0 || killed) continue;
      const hungAt = (flights[0] as Flight).startedAt + batchTimeoutMs + mayBlockMs;
      if (hungAt < wakeAt) wakeAt = hungAt;
    }
    this.#replicasWakeAt = wakeAt;
  }

  /** Idle replicas first: none is given a second batch while another has none. */
  #feedServing(now: number): void {
    const mailbox = this.#mailbox;
    const { list } = this.#fleet;
    const { maxInFlight } = this.#limits;
    let idleCount = this.#idleCount;
    for (let inFlight = 0; inFlight < maxInFlight; inFlight++) {
      for (let i = 0; i < list.length; i++) {
        const cell = list[i] as Cell;
        if (cell.flights.length !== inFlight || cell.streams >= this.#maxStreams) continue;
        if (!this.#fleet.serves(cell)) continue;
        if (this.#feed(cell, inFlight === 0 ? Math.max(1, idleCount--) : 0, now)) {
          if (mailbox.doorCount > 0) mailbox.admit();
          if (mailbox.held === 0 && this.#retries.isEmpty) return;
        } else if (this.#retries.isEmpty && !cell.solo && this.#models === undefined) break; // What is not due here is due at no other like it.
      }
    }
  }

  /** Where two versions share the work: the one that is behind its share is asked first. */
  #feedBoth(rollout: Rollout, now: number): void {
    const mailbox = this.#mailbox;
    while (mailbox.held > 0 || !this.#retries.isEmpty) {
      const newFirst = rollout.split?.newIsNext === true;
      if (!this.#feedOne(rollout, newFirst, now) && !this.#feedOne(rollout, !newFirst, now)) break;
      if (mailbox.doorCount > 0) mailbox.admit();
    }
    // What the idle ones may take has changed with the balance between the versions.
    this.#fleet.hasChanged = true;
  }

  /** Gives one batch to a replica of the new or the old version, the emptiest first; false: none takes anything. */
  #feedOne(rollout: Rollout, isNew: boolean, now: number): boolean {
    const { list } = this.#fleet;
    const { generation, fromGeneration } = rollout.sides;
    const { split } = rollout;
    if (split === undefined) return false;
    const own = isNew ? generation : fromGeneration;
    const sides = isNew ? SIDE.new | (split.newTakesAny ? SIDE.any : 0) : SIDE.old | SIDE.any;
    let idleCount = 0;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (cell.generation !== own || cell.flights.length > 0 || cell.streams >= this.#maxStreams) continue;
      if (this.#fleet.serves(cell)) idleCount++;
    }
    for (let inFlight = 0; inFlight < this.#limits.maxInFlight; inFlight++) {
      for (let i = 0; i < list.length; i++) {
        const cell = list[i] as Cell;
        if (cell.generation !== own || cell.flights.length !== inFlight || !this.#fleet.serves(cell)) continue;
        if (cell.streams >= this.#maxStreams) continue;
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
    const { deadlines } = this.#settlement;
    // P4: a suspect needs an idle replica, so none is kept busy while one waits.
    const shelf = this.#models?.holdings.of(cell);
    if (!isIdle && (cell.solo || this.#retries.suspectIsNext(other, shelf))) return false;
    // Nor one that loads a model: which of the two ended it could not be told.
    const mayBeAlone = isIdle && cell.mayBlockMs === 0;
    const again = this.#retries.isEmpty ? undefined : this.#takeRetry(mayBeAlone, now, other, shelf);
    const formed = again ?? this.#batcher.form(this.#mailbox, idleCount, deadlines.nextAt, now, sides, shelf);
    if (formed === undefined || formed.requests.length === 0) return false;
    const { requests, trigger } = formed;
    const flight = this.#ledger.open(cell.id, cell.incarnation, requests, trigger, now, cell.flights);
    this.#given(cell, now);
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i] as Request;
      request.place = 'in-flight';
      request.flight = flight;
      request.sentAt = now;
      request.sendCount++;
      if (request.callTimeoutMs !== Infinity)
        deadlines.move(request, Math.min(request.deadlineAt, now + request.callTimeoutMs));
      else if (request.dueAt < request.deadlineAt) deadlines.move(request, request.deadlineAt); // It waits no more.
    }
    cell.solo = formed.trigger === 'quarantine'; // P4
    this.#counts.sent(requests.length, trigger);
    const { model } = requests[0] as Request;
    if (model !== undefined) this.#models?.sent(cell, model);
    this.#outbox.emit({ kind: 'send', cell: cell.id, batchId: flight.batchId, requests, trigger });
    const { rollout } = this.#fleet;
    if (rollout?.shadow !== undefined && again === undefined && !isProbe(requests)) this.#show(rollout, requests, now);
    return true;
  }

  /**
   * This replica has answered a batch, which is closed. While batches alone come and go, the survey is put right instead of
   * made anew.
   */
  answered(cell: Cell): void {
    const fleet = this.#fleet;
    if (fleet.hasChanged) return;
    if (fleet.rollout !== undefined || this.#models !== undefined) {
      fleet.hasChanged = true;
      return;
    }
    this.#wakeIsStale = true;
    if (!fleet.serves(cell) || cell.streams >= this.#maxStreams) return;
    const { length } = cell.flights;
    if (length === this.#limits.maxInFlight - 1) this.#roomCount++;
    if (length === 0) this.#idleCount++;
  }

  /** And this one has one more. */
  #given({ flights, mayBlockMs }: Cell, now: number): void {
    if (this.#fleet.rollout !== undefined || this.#models !== undefined) {
      this.#fleet.hasChanged = true;
      return;
    }
    const { batchTimeoutMs, maxInFlight } = this.#limits;
    if (flights.length === maxInFlight) this.#roomCount--;
    if (flights.length > 1) return;
    this.#idleCount--;
    const hungAt = now + batchTimeoutMs + mayBlockMs;
    if (hungAt < this.#replicasWakeAt) this.#replicasWakeAt = hungAt;
  }

  /** To a version that is watched as a shadow, if this batch is due and there is room. */
  #show({ shadow, sides }: Rollout, requests: readonly Request[], now: number): void {
    if (shadow === undefined || !shadow.isDue(requests.length)) return;
    const batch = shadow.open(this.#fleet.list, sides.generation, requests.length, now);
    if (batch === undefined) this.#counts.shadowDropped += requests.length;
    else this.#outbox.emit({ kind: 'show', cell: batch.cell, batchId: batch.batchId, requests });
  }

  #takeRetry(
    replicaIsIdle: boolean,
    now: number,
    other: number | undefined,
    shelf: Shelf | undefined,
  ): { requests: Request[]; trigger: Trigger } | undefined {
    for (;;) {
      const group = this.#retries.take(replicaIsIdle, other, shelf);
      if (group === undefined || group.trigger !== 'quarantine' || this.#quarantineHasRoom(now)) return group;
      const { quarantineMax } = this.#limits.restart;
      for (const suspect of group.requests)
        this.#settlement.fail(suspect, 'ACTOR_CRASHED', 'interrupted', notReplayed, quarantineMax);
    }
  }

  #quarantineHasRoom(now: number): boolean {
    for (const cell of this.#fleet.list) if (!cell.window.quarantineHasRoom(now)) return false;
    return true;
  }
}

function overdueAt(rollout: Rollout, { startedAt, requests }: Flight): number {
  return rollout.overdueAt(startedAt, requests.length);
}

/** What waits and may be taken by the replicas that are idle. */
function sidesOf({ split }: Rollout, idleOld: number, idleNew: number): number {
  const any = idleOld > 0 || split?.newTakesAny === true ? SIDE.any : 0;
  return (idleOld > 0 ? SIDE.old | any : 0) | (idleNew > 0 ? SIDE.new | any : 0);
}
