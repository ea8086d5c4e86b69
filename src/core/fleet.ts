/**
 * The replicas of one pool, for whoever gives them work or commands: the slots (slots.ts) and the succession of their
 * generations (succession.ts) as one.
 *
 * Owns what is of both: how many there are to be, and what the end of a replica means to each. Does not own records: what a
 * dead replica held is the pool core's business, which calls `ended` when it has salvaged it. F1 to F7 stand at the heads of
 * the two.
 */

import { invariant } from '../kernel/errors.js';
import type { Random } from '../kernel/random.js';
import type { ScaleReason } from './autoscaler.js';
import type { DeathNotice } from './effects.js';
import type { Ledger } from './ledger.js';
import type { RollbackReason, Rollout, RolloutRules } from './rollout.js';
import { type Cell, type Ending, isAlive, type SlotLimits, Slots } from './slots.js';
import { Succession, type SuccessionLimits, type SuccessionOwner } from './succession.js';

export interface FleetLimits extends SlotLimits, SuccessionLimits {}

export class Fleet {
  readonly scaleCounts: Record<ScaleReason, number> = {
    'queue-age': 0,
    busy: 0,
    calm: 0,
    idle: 0,
    demand: 0,
    operator: 0,
  };
  readonly deathCounts: Slots['deathCounts'];
  readonly cells: ReadonlyMap<number, Cell>;
  /** The same cells in the same order, for what is gone through every turn. */
  readonly list: readonly Cell[];

  readonly #owner: SuccessionOwner;
  readonly #slots: Slots;
  readonly #succession: Succession;

  constructor(limits: FleetLimits, random: Random, ledger: Ledger, owner: SuccessionOwner) {
    this.#owner = owner;
    this.#slots = new Slots(limits, random, ledger, {
      emit: (effect) => owner.emit(effect),
      removed: (cell) => this.#succession.removed(cell),
    });
    this.#succession = new Succession(limits, this.#slots, owner);
    this.deathCounts = this.#slots.deathCounts;
    this.cells = this.#slots.cells;
    this.list = this.#slots.list;
  }

  // --------------------------------------- as the slots have it, see slots.ts

  get hasChanged(): boolean {
    return this.#slots.hasChanged;
  }

  set hasChanged(hasChanged: boolean) {
    this.#slots.hasChanged = hasChanged;
  }

  get replicas(): number {
    return this.#slots.replicas;
  }

  get readyCount(): number {
    let count = 0;
    for (const cell of this.list) if (this.serves(cell)) count++;
    return count;
  }

  get restartCount(): number {
    return this.#slots.restartCount;
  }

  get replacedCount(): number {
    return this.#slots.replacedCount;
  }

  get streamCount(): number {
    return this.#slots.streamCount;
  }

  get isHeld(): boolean {
    return this.#slots.isHeld;
  }

  get isGone(): boolean {
    return this.#slots.isGone;
  }

  // ------------------------------ as the succession has it, see succession.ts

  serves(cell: Cell): boolean {
    return this.#succession.serves(cell);
  }

  isMain(cell: Cell): boolean {
    return this.#succession.isMain(cell);
  }

  secondTo(cell: Cell, hasKey: boolean): number | undefined {
    return this.#succession.secondTo(cell, hasKey);
  }

  isOnTrial(cell: Cell): boolean {
    return this.#succession.isOnTrial(cell);
  }

  get version(): string | undefined {
    return this.#succession.version;
  }

  get rollout(): Rollout | undefined {
    return this.#succession.rollout;
  }

  get servingGeneration(): number {
    return this.#succession.servingGeneration;
  }

  get generationCount(): number {
    return this.#succession.generationCount;
  }

  get keepsPrevious(): boolean {
    return this.#succession.keepsPrevious;
  }

  get isRestoring(): boolean {
    return this.#succession.isRestoring;
  }

  get isSettled(): boolean {
    return this.#succession.isSettled;
  }

  rollOut(version: string | undefined, count: number, now: number, rules?: RolloutRules): void {
    this.#succession.rollOut(version, count, now, rules);
  }

  verified(now: number): void {
    this.#succession.verified(now);
  }

  promote(now: number): void {
    this.#succession.promote(now);
  }

  rollBack(reason: RollbackReason, why: string, now: number, cause?: unknown): void {
    this.#succession.rollBack(reason, why, now, cause);
  }

  /** The version that is kept serves again, as it stands; the one that served goes. False: none is there. */
  restore(now: number): boolean {
    if (!this.#succession.restore(now)) return false;
    // As many as there were when it was replaced may not be what is wanted now.
    const { servingGeneration, replicas } = this;
    const count = this.list.filter((cell) => cell.generation === servingGeneration && isAlive(cell)).length;
    if (count !== replicas) this.scale(replicas, now);
    this.#slots.startDue(now);
    return true;
  }

  freeKept(): void {
    this.#succession.freeKept();
  }

  // -------------------------------------------------------------- what happens

  ready(cell: Cell, now: number): void {
    this.#slots.ready(cell);
    this.#succession.checkUp(now);
  }

  condemn(cell: Cell): void {
    this.#slots.condemn(cell);
  }

  replace(cell: Cell): void {
    this.#slots.replace(cell);
  }

  idle(cell: Cell): void {
    this.#slots.idle(cell);
  }

  /** A replica has ended and its records are salvaged: what becomes of the slot, and of its version? */
  ended(cell: Cell, death: DeathNotice, ending: Ending, now: number): void {
    const slots = this.#slots;
    const succession = this.#succession;
    succession.rollout?.shadow?.ended(cell.id);
    if (slots.ended(cell, death, ending, !succession.isFatal(cell, death), now)) succession.lost(cell, death, now);
    succession.judge(cell, death, ending, now);
    slots.startDue(now);
    slots.checkHeld();
  }

  /** Time has come for a start, or for the end of what is kept. */
  tick(now: number): void {
    if (this.#succession.keptUntil <= now) this.#succession.freeKept();
    this.#slots.startDue(now);
  }

  /** When `tick` is needed at the latest; Infinity: not at all. */
  nextWakeAt(): number {
    return Math.min(this.#slots.nextStartAt(), this.#succession.keptUntil);
  }

  // --------------------------------------------------------- what it is told to

  /** Grows or shrinks the serving generation, to 0 too; what shrinks finishes its batch first. */
  scale(count: number, now: number, reason: ScaleReason = 'operator'): void {
    const { rollout, servingGeneration: generation, version, isRestoring } = this.#succession;
    invariant(rollout === undefined, 'no scaling during a roll-out');
    const slots = this.#slots;
    const from = slots.replicas;
    const serving = this.list.filter(
      (cell) => cell.generation === generation && cell.state !== 'draining' && cell.state !== 'stopping',
    );
    slots.replicas = count;
    // Of a version that is given up, and took places, something may be left.
    const waitsFor = isRestoring ? 'others' : 'nothing';
    const present = new Set(serving.map((cell) => cell.replica));
    for (let replica = 0; replica < count; replica++) {
      if (!present.has(replica)) slots.add({ replica, generation, version, waitsFor }, now);
    }
    for (const cell of serving) if (cell.replica >= count) slots.drain(cell);
    slots.startDue(now);
    this.scaleCounts[reason]++;
    this.#owner.emit({ kind: 'news', news: { name: 'scaled', from, replicas: count, reason } });
  }

  hold(): void {
    this.#slots.hold();
  }

  /** Starts the replicas again after `hold`, those that had given up with fresh budgets; `up` is told when all are ready. */
  release(now: number): void {
    this.#succession.resume();
    this.#slots.release(now);
    // Of one at 0 nothing is to come up.
    if (this.replicas === 0) this.#succession.checkUp(now);
  }

  /** After a failure: everything anew, with fresh budgets. */
  restart(now: number): void {
    // One that never came up loads what it was to load.
    const version = this.version ?? this.#slots.lastVersion;
    this.#slots.clear();
    this.#succession.reset();
    this.#succession.rollOut(version, Math.max(1, this.replicas), now);
  }

  stopAll(now: boolean): void {
    this.#succession.stop();
    this.#slots.stopAll(now);
  }
}
