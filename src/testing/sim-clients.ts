/**
 * Who sends records: askers that come whether there is room or not, and stream operators that stop pulling when the
 * mailbox is full, come back when there is room, and hold at most their own capacity of unconsumed records.
 *
 * C1 an operator never holds more than its capacity. C2 an ordered operator hands on in the order it pulled.
 * C3 every record a client made is done once: consumed, or refused.
 */

import type { Overflow } from '../core/mailbox.js';
import type { Scenario } from './scenario.js';
import { FAULT as FAULTS } from './faults.js';
import { POISON, SimRecord } from './sim-record.js';
import { EVENT as EVENTS, type World } from './world.js';

// A constant of this module is a number in the compiled code; one that was imported is looked up each time.
const EVENT = EVENTS;
const FAULT = FAULTS;

/** What a client needs of its pool. */
export interface ClientPool {
  /** False: refused, nothing was kept. */
  offer(record: SimRecord, client: SimClient, overflow: Overflow, deadlineAt: number): 'taken' | 'full' | 'closed';
  wantRoom(client: SimClient): void;
}

export interface ClientRules {
  readonly index: number;
  readonly kind: 'asker' | 'operator';
  readonly total: number;
}

export class SimClient {
  readonly index: number;
  readonly kind: 'asker' | 'operator';
  readonly isAsker: boolean;
  readonly total: number;
  madeCount = 0;
  doneCount = 0;
  refusedCount = 0;
  /** Operator: pulled and not yet consumed. */
  holdCount = 0;
  mostHeld = 0;
  waitsForRoom = false;
  /** Ids of first sends, per bucket and priority, for the order check. */
  readonly lastSentSeq: number[] = [];
  #refused: SimRecord | undefined;
  /** By sequence number; what was handed on leaves a hole. */
  readonly #reorder: (SimRecord | undefined)[] = [];
  #reorderCount = 0;
  #emitted = 0;
  readonly #unconsumed: SimRecord[] = [];
  #pullPlanned = false;
  #consumePlanned = false;
  readonly #isSlow: boolean;
  readonly #world: World;
  readonly #pool: ClientPool;
  readonly #scenario: Scenario;

  constructor(world: World, pool: ClientPool, rules: ClientRules) {
    this.#world = world;
    this.#pool = pool;
    this.#scenario = world.scenario;
    this.index = rules.index;
    this.kind = rules.kind;
    this.isAsker = rules.kind === 'asker';
    this.total = rules.total;
    this.#isSlow = rules.kind === 'operator' && world.strikes(FAULT['slow-consumer']);
    this.#planPull();
  }

  get isDone(): boolean {
    return this.doneCount === this.total;
  }

  /** More records have arrived at the client. */
  arrive(): void {
    this.#pullPlanned = false;
    const { burst } = this.#scenario;
    for (let i = 0; i < burst && this.madeCount < this.total; i++) {
      if (this.isAsker) this.#ask();
      else if (!this.#pull()) return;
      // A burst is as many arrivals as it has records; the event itself was counted already.
      if (i > 0) this.#world.eventCount++;
    }
    this.#planPull();
  }

  /** There may be room again. */
  room(): void {
    this.waitsForRoom = false;
    const record = this.#refused;
    if (record === undefined) return;
    this.#refused = undefined;
    this.#world.eventCount++;
    if (this.#offer(record)) this.#planPull();
  }

  settled(record: SimRecord): void {
    if (this.isAsker) {
      this.#finish(record);
      return;
    }
    if (!this.#scenario.ordered) {
      this.#emit(record);
      return;
    }
    if (record.seq === this.#emitted && this.#reorderCount === 0) {
      this.#emitted++;
      this.#emit(record);
      return;
    }
    if (this.#reorder[record.seq] === undefined) this.#reorderCount++;
    this.#reorder[record.seq] = record;
    if (this.#reorderCount > this.#scenario.operatorCapacity)
      this.#world.violate('bounded', `reorder buffer of client ${this.index} holds ${this.#reorderCount}`);
    for (;;) {
      const next = this.#reorder[this.#emitted];
      if (next === undefined) return;
      this.#reorder[this.#emitted++] = undefined;
      this.#reorderCount--;
      this.#emit(next);
    }
  }

  /** The consumer takes one. */
  consume(): void {
    this.#consumePlanned = false;
    const record = this.#unconsumed.shift();
    if (record === undefined) return;
    this.#release(record);
    this.#planConsume();
  }

  #make(): SimRecord {
    const world = this.#world;
    const { recordBytes } = this.#scenario;
    const seq = this.madeCount++;
    const id = seq * 16 + this.index;
    const poison = this.#poison();
    const [low, high] = recordBytes;
    const bytes = low === high ? low : low + Math.floor(world.clients.next() * (high - low + 1));
    return new SimRecord(id, this.index, seq, poison, bytes);
  }

  #poison(): number {
    const world = this.#world;
    if (world.strikes(FAULT['poison-throw'])) return POISON.throws;
    if (world.strikes(FAULT['poison-row'])) return POISON.row;
    return world.strikes(FAULT['poison-crash']) ? POISON.crashes : POISON.none;
  }

  #ask(): void {
    const world = this.#world;
    const record = this.#make();
    const { timeoutMs, overflow } = this.#scenario;
    const deadlineAt = timeoutMs === 0 ? Infinity : world.now + timeoutMs * (0.2 + world.clients.next());
    const offer = this.#pool.offer(record, this, overflow, deadlineAt);
    if (offer === 'taken') this.#mayCancel(record);
    else this.#refuse(record);
  }

  #pull(): boolean {
    if (this.#refused !== undefined) return false;
    if (this.holdCount >= this.#scenario.operatorCapacity) return false;
    this.holdCount++;
    if (this.holdCount > this.mostHeld) this.mostHeld = this.holdCount;
    return this.#offer(this.#make());
  }

  /** False: stop pulling. */
  #offer(record: SimRecord): boolean {
    const { timeoutMs } = this.#scenario;
    const world = this.#world;
    const hasDeadline = timeoutMs > 0 && this.index % 2 === 0;
    const deadlineAt = hasDeadline ? world.now + timeoutMs * (0.5 + world.clients.next()) : Infinity;
    switch (this.#pool.offer(record, this, 'try', deadlineAt)) {
      case 'taken':
        this.#mayCancel(record);
        return true;
      case 'full':
        this.#refused = record;
        this.waitsForRoom = true;
        this.#pool.wantRoom(this);
        return false;
      case 'closed':
        this.#refuse(record);
        return true;
    }
  }

  #mayCancel(record: SimRecord): void {
    const world = this.#world;
    if (!world.strikes(FAULT.cancel)) return;
    const { gapMs, costMs } = this.#scenario;
    world.after(world.clients.next() * 10 * (gapMs + costMs), EVENT.cancel, 0, record);
  }

  #refuse(record: SimRecord): void {
    this.refusedCount++;
    record.isDone = true;
    if (this.isAsker) this.doneCount++;
    else this.settled(record);
  }

  #emit(record: SimRecord): void {
    if (!this.#isSlow || !this.#world.isSafe) {
      this.#release(record);
      return;
    }
    this.#unconsumed.push(record);
    this.#planConsume();
  }

  #release(record: SimRecord): void {
    this.holdCount--;
    this.#finish(record);
    this.#planPull();
  }

  #finish(record: SimRecord): void {
    record.isDone = true;
    this.doneCount++;
    if (this.doneCount > this.madeCount)
      this.#world.violate('one-outcome', `client ${this.index} has more outcomes than records`);
  }

  #planPull(): void {
    if (this.#pullPlanned || this.madeCount >= this.total) return;
    if (!this.isAsker && (this.#refused !== undefined || this.holdCount >= this.#scenario.operatorCapacity)) return;
    this.#pullPlanned = true;
    const { gapMs, burst } = this.#scenario;
    this.#world.after(gapMs * burst * 2 * this.#world.clients.next(), EVENT.arrive, this.index, undefined);
  }

  #planConsume(): void {
    if (this.#consumePlanned || this.#unconsumed.length === 0) return;
    this.#consumePlanned = true;
    this.#world.after(this.#scenario.consumeMs * 2 * this.#world.clients.next(), EVENT.consume, this.index, undefined);
  }
}
