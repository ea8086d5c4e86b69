/**
 * The replicas of one pool: which slots there are, in which state, of which version; who starts, stops and restarts.
 *
 * Owns the cells, their restart windows, the roll-out of a version and the hold of a supervisor. Does not own records:
 * what a dead replica held is the pool core's business, which calls `ended` when it has salvaged it.
 *
 * F1 work goes to the serving generation only, and to one on trial as far as its share goes. F2 a roll-out that fails
 * changes nothing. F3 replicas that restart together start only after the last of them has ended. F4 while held, nothing
 * starts. F5 of two generations one serves: the old one until the shift, and again after a roll-back. F6 one generation is
 * kept at most, only while no roll-out is under way, and without work. F7 where a new version takes the places of the old one,
 * no two replicas of one place live at once, on the way back neither.
 */

import { invariant, TroupeError } from '../kernel/errors.js';
import { transition } from '../kernel/lifecycle.js';
import type { Random } from '../kernel/random.js';
import type { ScaleReason, ScalingLimits } from './autoscaler.js';
import { type DeathNotice, describeDeath, type Effect, type PoolNews } from './effects.js';
import type { Flight, Ledger } from './ledger.js';
import { REPLICA_LIFECYCLE, type ReplicaEvent, type ReplicaState } from './lifecycles.js';
import { type DeathKind, type RestartLimits, RestartWindow } from './restart-window.js';
import { AT_ONCE, type RollbackReason, Rollout, type RolloutRules, type RolloutStep } from './rollout.js';
import { removeAt } from './short-list.js';
import type { RestartType, Strategy } from './supervisor.js';

export interface FleetLimits {
  readonly name: string;
  readonly batching: { readonly maxSize: number };
  readonly restart: RestartLimits;
  readonly restartType: RestartType;
  readonly strategy: Strategy;
  /** Where the pool scales by itself. */
  readonly scaling?: ScalingLimits | undefined;
}

/** One replica slot through all its incarnations. */
export interface Cell {
  readonly id: number;
  readonly replica: number;
  readonly generation: number;
  readonly version: string | undefined;
  readonly window: RestartWindow;
  /** What it was sent and has not answered, the batch it runs first (L3). */
  readonly flights: readonly Flight[];
  /** Token streams that it has begun to answer with and not ended. */
  streams: number;
  incarnation: number;
  state: ReplicaState;
  /** It runs a suspect alone. */
  solo: boolean;
  /** What it waits for before it starts: nothing, the end of whoever has its place, or of every replica of another version too. */
  readonly waitsFor: 'nothing' | 'place' | 'others';
  /** It has loaded and, where that is asked for, proved itself. */
  isProved: boolean;
  /** It was told to die because it hung; telling it once is enough. */
  killed: boolean;
  startAt: number;
  /** It loads or unloads a model, and may stand still for so long beyond the usual; else 0. */
  mayBlockMs: number;
  lastDeath: DeathNotice | undefined;
}

/** What a cell is made from. */
type Slot = Pick<Cell, 'replica' | 'generation' | 'version'> & Partial<Pick<Cell, 'waitsFor' | 'isProved'>>;

interface Kept {
  readonly generation: number;
  readonly version: string | undefined;
  readonly until: number;
}

/** How a replica ended, seen from its work. */
export interface Ending {
  /** It held a batch. */
  readonly wasBusy: boolean;
  /** We had told it to. */
  readonly expected: boolean;
  /** The one suspect it ran is to blame. */
  readonly inQuarantine: boolean;
}

/** Who hears of the fleet as a whole. */
export interface FleetOwner {
  emit(effect: Effect): void;
  /** Another generation serves than before. */
  up(): void;
  /** A version has a share of the work now, or no longer. */
  split(): void;
  /** No replica is left, and none will come. */
  noReplica(error: TroupeError): void;
}

export class Fleet {
  /** The version that serves. */
  version: string | undefined = undefined;
  /** How many replicas there are to be. */
  replicas = 0;
  restartCount = 0;
  readonly scaleCounts: Record<ScaleReason, number> = {
    'queue-age': 0,
    busy: 0,
    calm: 0,
    idle: 0,
    demand: 0,
    operator: 0,
  };
  /** How often a replica was ended because nobody waited for what it ran. */
  replacedCount = 0;
  readonly deathCounts: Record<DeathKind | 'quarantine', number> = {
    init: 0,
    crash: 0,
    hang: 0,
    oom: 0,
    quarantine: 0,
  };
  /** A cell, its flights or which of them serves is no longer as it was when somebody set this to false. */
  hasChanged = true;
  readonly cells = new Map<number, Cell>();
  /** The same cells in the same order, for what is gone through every turn. */
  readonly list: Cell[] = [];

  readonly #limits: FleetLimits;
  readonly #random: Random;
  readonly #ledger: Ledger;
  readonly #owner: FleetOwner;
  #lastCell = 0;
  #lastGeneration = 0;
  #serving = 0;
  #rollout: Rollout | undefined;
  /** The generation that has a share of the work while it is on trial; NONE for none. */
  #onShare = NONE;
  /** The roll-out that is over, while replicas of the version that lost are left. */
  #leaving: Rollout | undefined;
  /** The roll-out that took places and was given up, until the old version has them again. */
  #restoring: Rollout | undefined;
  /** The version before, loaded for as long as it was asked for (F6). */
  #kept: Kept | undefined;
  #isHeld = false;
  #isResuming = false;
  /** What a restart of a pool that never came up is to load. */
  #lastVersion: string | undefined;

  constructor(limits: FleetLimits, random: Random, ledger: Ledger, owner: FleetOwner) {
    this.#limits = limits;
    this.#random = random;
    this.#ledger = ledger;
    this.#owner = owner;
  }

  /** F1: may this replica be given work? */
  serves(cell: Cell): boolean {
    if (cell.state !== 'ready' || !cell.isProved) return false;
    return cell.generation === this.#serving || cell.generation === this.#onShare;
  }

  /** It is of the version that serves, and not of one that only has a share. */
  isMain(cell: Cell): boolean {
    return cell.state === 'ready' && cell.isProved && cell.generation === this.#serving;
  }

  /**
   * Which generation may answer in the place of this replica what that fails on; undefined: none. A version on trial has
   * the old one beside it; for records with a key only once it was rolled back, as they stay where they are.
   */
  secondTo(cell: Cell, hasKey: boolean): number | undefined {
    const rollout = this.#rollout ?? this.#leaving;
    if (rollout === undefined || rollout.sides.generation !== cell.generation) return undefined;
    const mayAsk = rollout.state === 'rolled-back' || (rollout.split !== undefined && !hasKey);
    return mayAsk ? rollout.sides.fromGeneration : undefined;
  }

  /** Its version is on trial, or was and is taken back: the old one is still there. */
  isOnTrial(cell: Cell): boolean {
    const rollout = this.#rollout ?? this.#leaving;
    if (rollout === undefined || rollout.sides.generation !== cell.generation) return false;
    return rollout.bakes || rollout.state === 'rolled-back';
  }

  /** What is under way, until it is promoted or rolled back. */
  get rollout(): Rollout | undefined {
    return this.#rollout;
  }

  /** A supervisor lets nothing start. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  get servingGeneration(): number {
    return this.#serving;
  }

  /** Versions that have replicas, whatever their state, or may get some at any time: the one that serves has, at 0 too. */
  get generationCount(): number {
    // Looked at every turn of a pool that scales, and there are hardly ever more than two.
    const { list } = this;
    const serving = this.#serving;
    let count = serving === 0 ? 0 : 1;
    let last = serving;
    for (let i = 0; i < list.length; i++) {
      const { generation } = list[i] as Cell;
      if (generation === last || generation === serving) continue;
      last = generation;
      if (this.#firstOf(generation) === i) count++;
    }
    return count;
  }

  #firstOf(generation: number): number {
    const { list } = this;
    let at = 0;
    while ((list[at] as Cell).generation !== generation) at++;
    return at;
  }

  /** The version before is loaded still, and can serve at once. */
  get keepsPrevious(): boolean {
    const kept = this.#kept;
    return (
      kept !== undefined && this.list.some((cell) => cell.generation === kept.generation && cell.state === 'ready')
    );
  }

  /** The old version is being loaded again, as the new one that took its place was given up. */
  get isRestoring(): boolean {
    return this.#restoring !== undefined;
  }

  /** One version has replicas, or one and the one that is kept. */
  get isSettled(): boolean {
    return this.generationCount <= (this.#kept === undefined ? 1 : 2);
  }

  get readyCount(): number {
    let count = 0;
    for (const cell of this.list) if (this.serves(cell)) count++;
    return count;
  }

  /** Starts `count` replicas of `version`, beside the old generation if there is one; all must come up. */
  rollOut(version: string | undefined, count: number, now: number, rules: RolloutRules = AT_ONCE): void {
    invariant(this.#rollout === undefined && this.#kept === undefined, 'one roll-out at a time, beside nothing kept');
    const generation = ++this.#lastGeneration;
    const rollout = new Rollout(
      { generation, version, fromGeneration: this.#serving, fromVersion: this.version },
      // The first version of all has nothing beside it to be compared with.
      this.#serving === 0 ? { ...rules, strategy: 'beside', share: 1, bakeMs: 0 } : rules,
    );
    this.#rollout = rollout;
    this.#restoring = undefined;
    if (rollout.rules.strategy === 'recreate') this.#tellStep(rollout, 'draining');
    this.#tellStep(rollout, 'loading');
    if (this.#serving === 0) this.replicas = count;
    this.#beginLoading(rollout, count, now);
    this.startDue(now);
  }

  /** As many as there are to be; or, where they take places, the first of them, or all when the others have gone. */
  #beginLoading({ rules, sides }: Rollout, all: number, now: number): void {
    const { generation, version, fromGeneration } = sides;
    // Of one replica after the other, where there is one.
    const isOne = rules.strategy === 'rolling' && this.replicas > 1;
    if (rules.strategy !== 'beside')
      for (const cell of [...this.cells.values()])
        if (cell.generation === fromGeneration && (!isOne || cell.replica === 0)) this.#drain(cell);
    const waitsFor = rules.strategy === 'beside' ? 'nothing' : isOne ? 'place' : 'others';
    const count = isOne ? 1 : all;
    for (let replica = 0; replica < count; replica++)
      this.#addCell({ replica, generation, version, waitsFor, isProved: fromGeneration === 0 }, now);
  }

  /** Grows or shrinks the serving generation, to 0 too; what shrinks finishes its batch first. */
  scale(count: number, now: number, reason: ScaleReason = 'operator'): void {
    invariant(this.#rollout === undefined, 'no scaling during a roll-out');
    const from = this.replicas;
    const serving = [...this.cells.values()].filter(
      (cell) => cell.generation === this.#serving && cell.state !== 'draining' && cell.state !== 'stopping',
    );
    this.replicas = count;
    // Of a version that is given up, and took places, something may be left.
    const waitsFor = this.#restoring === undefined ? 'nothing' : 'others';
    const present = new Set(serving.map((cell) => cell.replica));
    for (let replica = 0; replica < count; replica++) {
      if (!present.has(replica))
        this.#addCell({ replica, generation: this.#serving, version: this.version, waitsFor }, now);
    }
    for (const cell of serving) if (cell.replica >= count) this.#drain(cell);
    this.startDue(now);
    this.scaleCounts[reason]++;
    this.#news({ name: 'scaled', from, replicas: count, reason });
  }

  /** The new version has been proved by whoever was to do so. */
  verified(now: number): void {
    const rollout = this.#rollout;
    if (rollout === undefined || rollout.isVerified) return;
    rollout.isVerified = true;
    this.#checkUp(now);
  }

  /** Keeps the version on trial: from here on it serves, and the old one goes. */
  promote(now: number): void {
    const rollout = this.#rollout;
    invariant(rollout?.bakes === true, 'only what is on trial is promoted');
    this.#promote(rollout, now);
    this.startDue(now); // F3: what waited for replicas of the other version waits no longer
  }

  /** The version that is kept serves again, as it stands; the one that served goes. False: none is there. */
  restore(now: number): boolean {
    const kept = this.#kept;
    if (kept === undefined || !this.keepsPrevious || this.#rollout !== undefined) return false;
    this.#kept = undefined;
    const { generation, version } = kept;
    const sides = { generation, version, fromGeneration: this.#serving, fromVersion: this.version };
    const rollout = new Rollout(sides, AT_ONCE);
    this.#rollout = rollout;
    rollout.loaded();
    this.#tellStep(rollout, 'shifting');
    this.#promote(rollout, now);
    // As many as there were when it was replaced may not be what is wanted now.
    const count = this.list.filter((cell) => cell.generation === generation && isAlive(cell)).length;
    if (count !== this.replicas) this.scale(this.replicas, now);
    this.startDue(now);
    return true;
  }

  /** Lets the version go that is kept, if one is. */
  freeKept(): void {
    const kept = this.#kept;
    if (kept === undefined) return;
    this.#kept = undefined;
    this.hasChanged = true;
    if (this.#leaving !== undefined) this.#tellStep(this.#leaving, 'draining');
    for (const cell of [...this.cells.values()]) if (cell.generation === kept.generation) this.#drain(cell);
  }

  /** Gives the new version up. What it has begun it finishes; the old one serves as before. */
  rollBack(reason: RollbackReason, why: string, now: number, cause?: unknown): void {
    const rollout = this.#rollout;
    invariant(rollout !== undefined, 'only what is under way is rolled back');
    const failure = rollout.failure(this.#limits.name, reason, why, cause);
    this.#giveUp(rollout, reason, failure, cause instanceof TroupeError ? cause : failure, now);
    this.startDue(now);
  }

  ready(cell: Cell, now: number): void {
    this.#move(cell, 'ready');
    this.#news({ name: 'ready', replica: cell.replica, incarnation: cell.incarnation, version: cell.version });
    if (cell.incarnation > 1) {
      this.restartCount++;
      this.#news({ name: 'restarted', replica: cell.replica, incarnation: cell.incarnation });
    }
    this.#checkUp(now);
  }

  /** The replica hangs: it is told to die, and its end is awaited like any other. */
  condemn(cell: Cell): void {
    if (cell.killed) return;
    cell.killed = true;
    this.#move(cell, 'condemn');
    this.#owner.emit({ kind: 'kill', cell: cell.id });
  }

  /** What it runs is of no use any more: it ends now, and starts again where it was to live on. Blamed on nobody. */
  replace(cell: Cell): void {
    if (cell.killed) return;
    this.replacedCount++;
    // One that was to end or to start again anyway only does so sooner.
    if (cell.state === 'ready') this.#move(cell, 'replace');
    else if (cell.state === 'draining') this.#move(cell, 'stop');
    this.#owner.emit({ kind: 'stop', cell: cell.id, now: true });
  }

  /** A replica has ended and its records are salvaged: what becomes of the slot? */
  ended(cell: Cell, death: DeathNotice, ending: Ending, now: number): void {
    cell.lastDeath = death;
    cell.streams = 0;
    this.#rollout?.shadow?.ended(cell.id);
    this.#afterlife(cell, death, ending, now);
    this.#judgeDeath(cell, death, ending, now);
    this.startDue(now);
    this.#checkHeld();
  }

  /** Token streams of all replicas that have not ended. */
  get streamCount(): number {
    let count = 0;
    for (const { streams } of this.list) count += streams;
    return count;
  }

  /** A replica that drains has answered its last batch, and its last token stream has ended. */
  idle(cell: Cell): void {
    if (cell.state === 'draining') this.#stop(cell, false);
  }

  /** Time has come for a start, or for the end of what is kept. */
  tick(now: number): void {
    if (this.#kept !== undefined && this.#kept.until <= now) this.freeKept();
    this.startDue(now);
  }

  /** Starts what is due. */
  startDue(now: number): void {
    if (this.#isHeld) return; // F4
    const { list } = this;
    for (let i = 0; i < list.length; i++) if ((list[i] as Cell).state === 'recycling') return; // F3
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if ((cell.state !== 'idle' && cell.state !== 'backoff') || cell.startAt > now || this.#mustWait(cell)) continue;
      this.#move(cell, 'start');
      cell.incarnation++;
      cell.killed = false;
      cell.streams = 0;
      this.#owner.emit({
        kind: 'start',
        cell: cell.id,
        replica: cell.replica,
        // All replicas are told the same, so that they are alike whenever they were started.
        replicas: this.#limits.scaling?.max ?? this.replicas,
        incarnation: cell.incarnation,
        version: cell.version,
      });
    }
  }

  /** When `tick` is needed at the latest; Infinity: not at all. */
  nextWakeAt(): number {
    return Math.min(this.#nextStartAt(), this.#kept?.until ?? Infinity);
  }

  #nextStartAt(): number {
    let startAt = Infinity;
    if (this.#isHeld) return startAt;
    const { list } = this;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (cell.state === 'recycling') return Infinity;
      if (cell.state === 'backoff' && cell.startAt < startAt && !this.#mustWait(cell)) startAt = cell.startAt;
    }
    return startAt;
  }

  /** F7. The end of a replica is what lets it start, so nobody need look again before. */
  #mustWait({ id, replica, generation, waitsFor }: Cell): boolean {
    if (waitsFor === 'nothing') return false;
    for (const other of this.list) {
      if (other.id === id || !hasPlace(other)) continue;
      if (other.replica === replica || (waitsFor === 'others' && other.generation !== generation)) return true;
    }
    return false;
  }

  /** Ends every replica until `release`; `held` is told when the last has ended. */
  hold(): void {
    this.#isHeld = true;
    this.hasChanged = true;
    for (const cell of this.cells.values())
      if (cell.state === 'ready' || cell.state === 'starting') this.#recycle(cell);
    this.#checkHeld();
  }

  /** Starts the replicas again after `hold`, those that had given up with fresh budgets; `up` is told when all are ready. */
  release(now: number): void {
    this.#isHeld = false;
    this.#isResuming = true;
    this.hasChanged = true;
    for (const cell of this.cells.values()) if (cell.state === 'backoff') cell.startAt = now;
    for (const cell of [...this.cells.values()].filter((one) => !isAlive(one))) {
      this.#drop(cell);
      this.#addCell(cell, now);
    }
    this.startDue(now);
    // Of one at 0 nothing is to come up.
    if (this.replicas === 0) this.#checkUp(now);
  }

  /** After a failure: everything anew, with fresh budgets. */
  restart(now: number): void {
    for (const cell of this.cells.values()) if (!isAlive(cell)) this.#drop(cell);
    const version = this.version ?? this.#lastVersion;
    this.#isHeld = false;
    this.#isResuming = false;
    this.hasChanged = true;
    this.#serving = 0;
    this.#endTrial(undefined);
    this.#restoring = undefined;
    this.freeKept();
    this.rollOut(version, Math.max(1, this.replicas), now);
  }

  stopAll(now: boolean): void {
    const rollout = this.#rollout;
    if (rollout !== undefined && rollout.sides.fromGeneration !== 0) {
      const failure = rollout.failure(this.#limits.name, 'stopped', 'the pool stops', undefined);
      rollout.stop();
      this.#tellStep(rollout, 'rolled-back', { reason: 'stopped', error: failure });
    }
    this.#endTrial(undefined);
    this.#kept = undefined;
    this.#restoring = undefined;
    this.hasChanged = true;
    this.#serving = 0;
    for (const cell of this.cells.values()) this.#stop(cell, now);
  }

  /** No replica runs or is about to. */
  get isGone(): boolean {
    for (const cell of this.list) if (isAlive(cell)) return false;
    return true;
  }

  #afterlife(cell: Cell, death: DeathNotice, ending: Ending, now: number): void {
    if (cell.state === 'stopping' || cell.state === 'draining') {
      this.#move(cell, 'died');
      this.#remove(cell);
      return;
    }
    if (cell.state === 'recycling' || cell.state === 'replacing') {
      cell.startAt = now;
      this.#move(cell, 'died');
      return;
    }
    // A kill from outside says nothing about the version that loads; anything else does.
    const rollout = this.#rollout;
    const isLoading = rollout?.sides.generation === cell.generation && (!rollout.bakes || !cell.isProved);
    if (isLoading && death.cause !== 'killed') {
      this.#move(cell, 'ended');
      this.#abortRollout(death, now);
      return;
    }
    const { restartType } = this.#limits;
    const comesAgain = restartType === 'permanent' || (restartType === 'transient' && isCrash(death, ending));
    if (!comesAgain) {
      this.#move(cell, 'ended');
      this.#bury(cell, death, now);
      return;
    }
    if (ending.inQuarantine) {
      // Blamed on the record, so the replica starts again at once and keeps its own budget.
      cell.window.diedInQuarantine(now);
      this.deathCounts.quarantine++;
      this.#restartAt(cell, now, now);
      return;
    }
    const kind = kindOf(death);
    this.deathCounts[kind]++;
    const decision = cell.window.died(kind, this.#random, now);
    if (decision.kind === 'restart') {
      this.#restartAt(cell, decision.at, now);
      return;
    }
    this.#move(cell, 'gave-up');
    this.#news({ name: 'replica-failed', replica: cell.replica, death });
    this.#bury(cell, death, now);
  }

  #restartAt(cell: Cell, at: number, now: number): void {
    this.#move(cell, 'died');
    cell.startAt = at;
    this.#news({ name: 'restarting', replica: cell.replica, incarnation: cell.incarnation + 1, delayMs: at - now });
    if (this.#limits.strategy === 'one-for-one') return;
    // Replicas of a generation stand in the order of their start.
    let isAffected = this.#limits.strategy === 'one-for-all';
    for (const sibling of this.list) {
      if (sibling.generation !== cell.generation) continue;
      if (sibling === cell) isAffected = true;
      else if (isAffected && (sibling.state === 'ready' || sibling.state === 'starting')) this.#recycle(sibling);
    }
  }

  /** A replica will not come back: its roll-out, or its pool if it was the last, ends with it. */
  #bury(cell: Cell, death: DeathNotice, now: number): void {
    const rollout = this.#rollout;
    if (rollout?.bakes === true) {
      const isNew = cell.generation === rollout.sides.generation;
      // While it takes one place after the other it is to have every one; else whichever is left serves.
      if (this.#lives(cell.generation) && !(isNew && rollout.state === 'rolling')) return;
      if (isNew) this.#abortRollout(death, now);
      else this.#promote(rollout, now);
      return;
    }
    if (rollout?.sides.generation === cell.generation) {
      this.#abortRollout(death, now);
      return;
    }
    // A new version that loads may yet save the pool; if it fails too, the roll-out tells.
    if (rollout !== undefined) return;
    // What ends in a pool at 0 is what is kept.
    if (this.replicas === 0 || this.#lives(this.#serving)) {
      this.#checkUp(now);
      return;
    }
    this.#noReplica(death);
  }

  #noReplica(death: DeathNotice): void {
    const { name } = this.#limits;
    this.freeKept();
    this.#owner.noReplica(
      new TroupeError(
        'NO_REPLICA',
        `Pool "${name}" has failed: no replica is left, the last one ended because ${describeDeath(death)}`,
        { cause: death.error, actor: name },
      ),
    );
  }

  /** A replica of this generation lives or will live again. */
  #lives(generation: number): boolean {
    for (const cell of this.list) if (cell.generation === generation && isAlive(cell)) return true;
    return false;
  }

  /** A version on trial that loses all its replicas, or one after the other, is not waited for. */
  #judgeDeath(cell: Cell, death: DeathNotice, { expected, inQuarantine }: Ending, now: number): void {
    const rollout = this.#rollout;
    if (rollout?.bakes !== true || expected) return;
    if (death.cause === 'killed' || death.cause === 'stopped') return;
    const { generation } = rollout.sides;
    const isNew = cell.generation === generation;
    if (inQuarantine && !isNew) return;
    const isUnstable = rollout.died(isNew, this.replicas);
    if (!isNew) return;
    let readyCount = 0;
    for (const one of this.list) if (one.generation === generation && one.state === 'ready') readyCount++;
    if (readyCount > 0 && !isUnstable) return;
    this.#abortRollout(death, now);
  }

  #checkUp(now: number): void {
    const rollout = this.#rollout;
    if (rollout === undefined || rollout.bakes) this.#checkResumed();
    if (rollout === undefined || rollout.state === 'baking') return;
    for (const cell of this.list) {
      if (cell.generation === rollout.sides.generation && cell.state !== 'ready') return;
    }
    if (rollout.state === 'loading') rollout.loaded();
    if (rollout.asksForProof()) this.#tellStep(rollout, 'verifying');
    if (rollout.isVerified) this.#shift(rollout, now);
  }

  #checkResumed(): void {
    if (!this.#isResuming) return;
    for (const cell of this.list) {
      // One that has given up again is not waited for.
      if (cell.generation === this.#serving && isAlive(cell) && cell.state !== 'ready') return;
    }
    this.#isResuming = false;
    this.#news({ name: 'up', version: this.version });
    if (this.#restoring !== undefined) this.#tellStep(this.#restoring, 'restored');
    this.#restoring = undefined;
  }

  /** All of the new version that load are up: they are given work. */
  #shift(rollout: Rollout, now: number): void {
    const { rules, sides } = rollout;
    let count = 0;
    for (const cell of this.list) {
      if (cell.generation !== sides.generation) continue;
      cell.isProved = true;
      count++;
    }
    this.hasChanged = true;
    if (rules.strategy === 'rolling' && this.replicas > 1) {
      this.#shiftOne(rollout, count, now);
      return;
    }
    this.#tellStep(rollout, 'shifting');
    if (rules.bakeMs === 0) {
      this.#promote(rollout, now);
      return;
    }
    rollout.bake(this.#limits.batching.maxSize, now);
    // O5: a shadow has nothing to do but what it is shown.
    if (rules.shadow === undefined && rules.share < 1) {
      this.#onShare = sides.generation;
      this.#owner.split();
    } else if (rules.shadow === undefined) this.#serve(sides.generation, sides.version);
    this.#tellStep(rollout, 'baking');
  }

  /** One more replica of the new version works, `count` with it; the next takes its place, if one is left. */
  #shiftOne(rollout: Rollout, count: number, now: number): void {
    const { generation, version, fromGeneration } = rollout.sides;
    const { maxSize } = this.#limits.batching;
    const isFirst = rollout.state === 'verifying';
    if (isFirst) rollout.roll(count / this.replicas, maxSize);
    if (isFirst) this.#onShare = generation;
    this.#setShare(rollout, count / this.replicas);
    this.#tellStep(rollout, 'shifting');
    if (count >= this.replicas) {
      if (rollout.rules.bakeMs === 0) this.#promote(rollout, now);
      else {
        rollout.bake(maxSize, now);
        this.#tellStep(rollout, 'baking');
      }
      return;
    }
    // Whose place is taken serves no longer; when it is the last, everything goes to the new version.
    if (count === this.replicas - 1) {
      rollout.split = undefined;
      this.#onShare = NONE;
      this.#serve(generation, version);
      this.#owner.split();
    } else this.#setShare(rollout, count / (this.replicas - 1));
    rollout.anotherLoads();
    for (const cell of [...this.cells.values()])
      if (cell.generation === fromGeneration && cell.replica === count) this.#drain(cell);
    this.#addCell({ replica: count, generation, version, waitsFor: 'place', isProved: false }, now);
    this.startDue(now);
  }

  /** Of the keys: it only grows, so that none goes back (T3). */
  #setShare({ split }: Rollout, share: number): void {
    if (split === undefined || split.share === share) return;
    split.share = share;
    this.#owner.split();
  }

  /** The new generation serves, and the old one finishes what it holds; then it goes, or waits for as long as it is kept. */
  #promote(rollout: Rollout, now: number): void {
    const { generation, version, fromGeneration, fromVersion } = rollout.sides;
    for (const { cell, batchId } of rollout.shadow?.waiting() ?? [])
      this.#owner.emit({ kind: 'abandon', cell, batchId });
    rollout.promote();
    this.#isResuming = false;
    this.#endTrial(rollout);
    if (this.#serving !== generation) this.#serve(generation, version);
    this.#tellStep(rollout, 'promoted');
    if (rollout.takesPlaces) {
      this.#takeAll(rollout, now);
      return;
    }
    const { keepMs } = rollout.rules;
    if (keepMs > 0 && this.#lives(fromGeneration)) {
      this.#kept = { generation: fromGeneration, version: fromVersion, until: now + keepMs };
      this.#tellStep(rollout, 'kept');
      return;
    }
    if (fromGeneration !== 0) this.#tellStep(rollout, 'draining');
    for (const cell of this.cells.values()) if (cell.generation !== generation) this.#drain(cell);
  }

  /** Whatever of the old version is left goes, and the new one has every place. */
  #takeAll(rollout: Rollout, now: number): void {
    const { generation, version } = rollout.sides;
    const isLast = this.generationCount === 1;
    if (!isLast) this.#tellStep(rollout, 'draining');
    const taken = new Set<number>();
    for (const cell of [...this.cells.values()]) {
      if (cell.generation !== generation) this.#drain(cell);
      else {
        cell.isProved = true;
        taken.add(cell.replica);
      }
    }
    for (let replica = 0; replica < this.replicas; replica++)
      if (!taken.has(replica)) this.#addCell({ replica, generation, version, waitsFor: 'place' }, now);
    if (!isLast) return;
    this.#leaving = undefined;
    this.#tellStep(rollout, 'freed');
  }

  #serve(generation: number, version: string | undefined): void {
    this.hasChanged = true;
    this.#serving = generation;
    this.version = version;
    this.#owner.up();
    this.#news({ name: 'up', version });
  }

  /** No roll-out is under way any more. `leaving`: its losing side is still to go. */
  #endTrial(leaving: Rollout | undefined): void {
    this.#rollout = undefined;
    this.#leaving = leaving;
    this.hasChanged = true;
    if (this.#onShare === NONE) return;
    this.#onShare = NONE;
    this.#owner.split();
  }

  #abortRollout(death: DeathNotice, now: number): void {
    const rollout = this.#rollout;
    invariant(rollout !== undefined, 'a roll-out that fails is under way');
    const { name } = this.#limits;
    const { bakes } = rollout;
    const what = bakes ? 'too many of its replicas ended, the last because' : 'a replica of it ended because';
    const why = `${what} ${describeDeath(death)}`;
    const message = `A replica of "${name}" ended while it loaded: ${describeDeath(death)}`;
    const error =
      death.error instanceof TroupeError
        ? death.error
        : new TroupeError('ACTOR_LOAD_FAILED', message, { cause: death.error, actor: name });
    const reason = rollout.state === 'loading' ? 'load-failed' : 'replicas-died';
    this.#giveUp(rollout, reason, rollout.failure(name, reason, why, bakes ? death.error : error), error, now);
  }

  /** F2. `failure` is for those who asked for the swap; `error` is what lies behind it, where that is known. */
  #giveUp(rollout: Rollout, reason: RollbackReason, failure: TroupeError, error: TroupeError, now: number): void {
    const { generation, version, fromGeneration, fromVersion } = rollout.sides;
    // What a shadow runs nobody waits for.
    const hadWork = rollout.bakes && rollout.shadow === undefined;
    rollout.rollBack();
    this.#endTrial(rollout);
    if (this.#serving !== fromGeneration) this.#serve(fromGeneration, fromVersion);
    this.#news({ name: 'rollout-failed', version, error });
    this.#tellStep(rollout, 'rolled-back', { reason, error: failure });
    for (const cell of [...this.cells.values()]) {
      if (cell.generation !== generation) continue;
      if (cell.state === 'stopped') this.#remove(cell);
      else if (hadWork && cell.isProved) this.#drain(cell);
      else this.#stop(cell, true);
    }
    if (rollout.takesPlaces) this.#giveBack(rollout, now);
    if (!this.#lives(this.#serving)) this.#owner.noReplica(error);
  }

  /** The old version is loaded again wherever it had to go. */
  #giveBack(rollout: Rollout, now: number): void {
    const { fromGeneration: generation, fromVersion: version } = rollout.sides;
    const has = new Set<number>();
    for (const cell of this.list)
      if (cell.generation === generation && cell.state !== 'draining' && cell.state !== 'stopping')
        has.add(cell.replica);
    const waitsFor = rollout.rules.strategy === 'recreate' ? 'others' : 'place';
    for (let replica = 0; replica < this.replicas; replica++)
      if (!has.has(replica)) this.#addCell({ replica, generation, version, waitsFor }, now);
    this.#restoring = rollout;
    this.#isResuming = true;
  }

  #tellStep(rollout: Rollout, step: RolloutStep, why?: { reason: RollbackReason; error: TroupeError }): void {
    const { version: to, fromGeneration, fromVersion: from } = rollout.sides;
    if (fromGeneration === 0) return; // The first start is no roll-out to those who listen.
    const isShared = step === 'baking' || (step === 'shifting' && rollout.state === 'rolling');
    const share = isShared ? rollout.share : undefined;
    this.#news({ name: 'rollout', step, from, to, share, reason: why?.reason, error: why?.error });
  }

  #addCell({ replica, generation, version, waitsFor = 'nothing', isProved = true }: Slot, now: number): void {
    this.#lastVersion = version;
    const id = ++this.#lastCell;
    const cell: Cell = {
      id,
      replica,
      generation,
      version,
      window: new RestartWindow(this.#limits.restart),
      flights: this.#ledger.lane(id),
      streams: 0,
      incarnation: 0,
      state: 'idle',
      solo: false,
      waitsFor,
      isProved,
      killed: false,
      startAt: now,
      mayBlockMs: 0,
      lastDeath: undefined,
    };
    this.cells.set(id, cell);
    this.list.push(cell);
    this.hasChanged = true;
  }

  #drop(cell: Cell): void {
    this.hasChanged = true;
    this.cells.delete(cell.id);
    removeAt(this.list, this.list.indexOf(cell));
    this.#ledger.forget(cell.id);
  }

  #recycle(cell: Cell): void {
    this.#move(cell, 'recycle');
    this.#owner.emit({ kind: 'stop', cell: cell.id, now: false });
  }

  #drain(cell: Cell): void {
    if (cell.state === 'ready' && !isFree(cell)) this.#move(cell, 'drain');
    else this.#stop(cell, false);
  }

  #stop(cell: Cell, now: boolean): void {
    this.#move(cell, 'stop');
    if (cell.state === 'stopped') this.#remove(cell);
    else this.#owner.emit({ kind: 'stop', cell: cell.id, now });
  }

  #remove(gone: Cell): void {
    this.#drop(gone);
    // A pool that shrinks may be left with slots that failed long ago; one at 0 is as it is to be.
    if (gone.generation === this.#serving && this.#rollout === undefined && !this.#lives(this.#serving)) {
      if (this.replicas === 0) return;
      // What ended the one that failed is the reason, not that the last but it obeyed.
      const failed = this.list.find(({ state }) => state === 'failed');
      this.#noReplica(failed?.lastDeath ?? gone.lastDeath ?? { cause: 'stopped' });
    }
    for (const cell of this.list) if (cell.generation === gone.generation) return;
    this.#news({ name: 'freed', version: gone.version });
    const leaving = this.#leaving;
    if (leaving === undefined || gone.generation === this.#serving) return;
    this.#leaving = undefined;
    this.#tellStep(leaving, 'freed');
  }

  #checkHeld(): void {
    if (!this.#isHeld) return;
    for (const { state } of this.list) {
      if (state !== 'backoff' && state !== 'failed' && state !== 'stopped' && state !== 'idle') return;
    }
    this.#news({ name: 'held' });
  }

  #move(cell: Cell, event: ReplicaEvent): void {
    this.hasChanged = true;
    cell.state = transition('replica', REPLICA_LIFECYCLE, cell.state, event);
  }

  #news(news: PoolNews): void {
    this.#owner.emit({ kind: 'news', news });
  }
}

/** Nothing that was asked of it runs. */
export function isFree({ flights, streams }: Pick<Cell, 'flights' | 'streams'>): boolean {
  return flights.length === 0 && streams === 0;
}

/** No generation has this number. */
const NONE = -1;

/** It runs, or is ending: its memory is not there for another. */
function hasPlace({ state }: Cell): boolean {
  return state !== 'idle' && state !== 'backoff' && state !== 'stopped' && state !== 'failed';
}

function isAlive(cell: Cell): boolean {
  return cell.state !== 'failed' && cell.state !== 'stopped';
}

/** OTP's words for an end: exit code 0 or SIGTERM from outside while it had no work is no crash. */
function isCrash(death: DeathNotice, ending: Ending): boolean {
  if (ending.expected) return false;
  if (ending.wasBusy) return true;
  return !(
    (death.cause === 'exit' && death.exitCode === 0) ||
    (death.cause === 'killed' && death.signal === 'SIGTERM')
  );
}

function kindOf(death: DeathNotice): DeathKind {
  switch (death.cause) {
    case 'load-failed':
      return 'init';
    case 'hung':
      return 'hang';
    case 'oom':
      return 'oom';
    default:
      return 'crash';
  }
}
