/**
 * Which generation of a pool's replicas serves, and how one takes the place of another.
 *
 * Owns the roll-out that is under way and what is left of the last: the version that is kept, the one that goes, the one
 * that is loaded again. Does not own the slots (slots.ts), which it adds and drains, nor what a roll-out goes by
 * (rollout.ts).
 *
 * F1 work goes to the serving generation only, and to one on trial as far as its share goes. F2 a roll-out that fails
 * changes nothing. F5 of two generations one serves: the old one until the shift, and again after a roll-back. F6 one
 * generation is kept at most, only while no roll-out is under way, and without work. F7 as in slots.ts.
 */

import { invariant, TroupeError } from '../kernel/errors.js';
import { type DeathNotice, describeDeath, type Effect, type PoolNews } from './effects.js';
import { AT_ONCE, type RollbackReason, Rollout, type RolloutRules, type RolloutStep } from './rollout.js';
import { type Cell, type Ending, isAlive, type Slots } from './slots.js';

export interface SuccessionLimits {
  readonly name: string;
  readonly batching: { readonly maxSize: number };
}

interface Kept {
  readonly generation: number;
  readonly version: string | undefined;
  readonly until: number;
}

/** Who hears of it. */
export interface SuccessionOwner {
  emit(effect: Effect): void;
  /** Another generation serves than before. */
  up(): void;
  /** A version has a share of the work now, or no longer. */
  split(): void;
  /** No replica is left, and none will come. */
  noReplica(error: TroupeError): void;
}

export class Succession {
  /** The version that serves. */
  version: string | undefined = undefined;

  readonly #limits: SuccessionLimits;
  readonly #slots: Slots;
  readonly #owner: SuccessionOwner;
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
  /** The replicas start again, and `up` is told when all are ready. */
  #isResuming = false;

  constructor(limits: SuccessionLimits, slots: Slots, owner: SuccessionOwner) {
    this.#limits = limits;
    this.#slots = slots;
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

  get servingGeneration(): number {
    return this.#serving;
  }

  /** Versions that have replicas, whatever their state, or may get some at any time: the one that serves has, at 0 too. */
  get generationCount(): number {
    // Looked at every turn of a pool that scales, and there are hardly ever more than two.
    const { list } = this.#slots;
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
    const { list } = this.#slots;
    let at = 0;
    while ((list[at] as Cell).generation !== generation) at++;
    return at;
  }

  /** The version before is loaded still, and can serve at once. */
  get keepsPrevious(): boolean {
    const kept = this.#kept;
    return (
      kept !== undefined &&
      this.#slots.list.some((cell) => cell.generation === kept.generation && cell.state === 'ready')
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

  /** Until when a version is kept; Infinity where none is. */
  get keptUntil(): number {
    return this.#kept?.until ?? Infinity;
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
    if (this.#serving === 0) this.#slots.replicas = count;
    this.#beginLoading(rollout, count, now);
    this.#slots.startDue(now);
  }

  /** As many as there are to be; or, where they take places, the first of them, or all when the others have gone. */
  #beginLoading({ rules, sides }: Rollout, all: number, now: number): void {
    const { generation, version, fromGeneration } = sides;
    // Of one replica after the other, where there is one.
    const isOne = rules.strategy === 'rolling' && this.#slots.replicas > 1;
    if (rules.strategy !== 'beside')
      for (const cell of [...this.#slots.cells.values()])
        if (cell.generation === fromGeneration && (!isOne || cell.replica === 0)) this.#slots.drain(cell);
    const waitsFor = rules.strategy === 'beside' ? 'nothing' : isOne ? 'place' : 'others';
    const count = isOne ? 1 : all;
    for (let replica = 0; replica < count; replica++)
      this.#slots.add({ replica, generation, version, waitsFor, isProved: fromGeneration === 0 }, now);
  }

  /** The new version has been proved by whoever was to do so. */
  verified(now: number): void {
    const rollout = this.#rollout;
    if (rollout === undefined || rollout.isVerified) return;
    rollout.isVerified = true;
    this.checkUp(now);
  }

  /** Keeps the version on trial: from here on it serves, and the old one goes. */
  promote(now: number): void {
    const rollout = this.#rollout;
    invariant(rollout?.bakes === true, 'only what is on trial is promoted');
    this.#promote(rollout, now);
    this.#slots.startDue(now); // F3: what waited for replicas of the other version waits no longer
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
    return true;
  }

  /** Lets the version go that is kept, if one is. */
  freeKept(): void {
    const kept = this.#kept;
    if (kept === undefined) return;
    this.#kept = undefined;
    this.#slots.hasChanged = true;
    if (this.#leaving !== undefined) this.#tellStep(this.#leaving, 'draining');
    for (const cell of [...this.#slots.cells.values()])
      if (cell.generation === kept.generation) this.#slots.drain(cell);
  }

  /** Gives the new version up. What it has begun it finishes; the old one serves as before. */
  rollBack(reason: RollbackReason, why: string, now: number, cause?: unknown): void {
    const rollout = this.#rollout;
    invariant(rollout !== undefined, 'only what is under way is rolled back');
    const failure = rollout.failure(this.#limits.name, reason, why, cause);
    this.#giveUp(rollout, reason, failure, cause instanceof TroupeError ? cause : failure, now);
    this.#slots.startDue(now);
  }

  /** The replicas start again after a hold: `up` is told when all are ready. */
  resume(): void {
    this.#isResuming = true;
  }

  /** Nothing serves any more, and nothing is under way. */
  reset(): void {
    this.#isResuming = false;
    this.#serving = 0;
    this.#endTrial(undefined);
    this.#restoring = undefined;
    this.freeKept();
  }

  /** The pool stops, and with it what is under way. */
  stop(): void {
    const rollout = this.#rollout;
    if (rollout !== undefined && rollout.sides.fromGeneration !== 0) {
      const failure = rollout.failure(this.#limits.name, 'stopped', 'the pool stops', undefined);
      rollout.stop();
      this.#tellStep(rollout, 'rolled-back', { reason: 'stopped', error: failure });
    }
    this.#endTrial(undefined);
    this.#kept = undefined;
    this.#restoring = undefined;
    this.#serving = 0;
  }

  /** Its version is given up because of it. A kill from outside says nothing about a version that loads; anything else does. */
  isFatal(cell: Cell, { cause }: DeathNotice): boolean {
    const rollout = this.#rollout;
    const isLoading = rollout?.sides.generation === cell.generation && (!rollout.bakes || !cell.isProved);
    return isLoading && cause !== 'killed';
  }

  /** A replica will not come back: its roll-out, or its pool if it was the last, ends with it. */
  lost(cell: Cell, death: DeathNotice, now: number): void {
    const rollout = this.#rollout;
    if (rollout?.bakes === true) {
      const isNew = cell.generation === rollout.sides.generation;
      // While it takes one place after the other it is to have every one; else whichever is left serves.
      if (this.#slots.lives(cell.generation) && !(isNew && rollout.state === 'rolling')) return;
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
    if (this.#slots.replicas === 0 || this.#slots.lives(this.#serving)) {
      this.checkUp(now);
      return;
    }
    this.#noReplica(death);
  }

  /** A version on trial that loses all its replicas, or one after the other, is not waited for. */
  judge(cell: Cell, death: DeathNotice, { expected, inQuarantine }: Ending, now: number): void {
    const rollout = this.#rollout;
    if (rollout?.bakes !== true || expected) return;
    if (death.cause === 'killed' || death.cause === 'stopped') return;
    const { generation } = rollout.sides;
    const isNew = cell.generation === generation;
    if (inQuarantine && !isNew) return;
    const isUnstable = rollout.died(isNew, this.#slots.replicas);
    if (!isNew) return;
    let readyCount = 0;
    for (const one of this.#slots.list) if (one.generation === generation && one.state === 'ready') readyCount++;
    if (readyCount > 0 && !isUnstable) return;
    this.#abortRollout(death, now);
  }

  /** A slot is no more: with the last of them its generation goes. */
  removed(gone: Cell): void {
    // A pool that shrinks may be left with slots that failed long ago; one at 0 is as it is to be.
    if (gone.generation === this.#serving && this.#rollout === undefined && !this.#slots.lives(this.#serving)) {
      if (this.#slots.replicas === 0) return;
      // What ended the one that failed is the reason, not that the last but it obeyed.
      const failed = this.#slots.list.find(({ state }) => state === 'failed');
      this.#noReplica(failed?.lastDeath ?? gone.lastDeath ?? { cause: 'stopped' });
    }
    for (const cell of this.#slots.list) if (cell.generation === gone.generation) return;
    this.#news({ name: 'freed', version: gone.version });
    const leaving = this.#leaving;
    if (leaving === undefined || gone.generation === this.#serving) return;
    this.#leaving = undefined;
    this.#tellStep(leaving, 'freed');
  }

  /** Something has loaded, or need not: goes on with what waits for all of them. */
  checkUp(now: number): void {
    const rollout = this.#rollout;
    if (rollout === undefined || rollout.bakes) this.#checkResumed();
    if (rollout === undefined || rollout.state === 'baking') return;
    for (const cell of this.#slots.list) {
      if (cell.generation === rollout.sides.generation && cell.state !== 'ready') return;
    }
    if (rollout.state === 'loading') rollout.loaded();
    if (rollout.asksForProof()) this.#tellStep(rollout, 'verifying');
    if (rollout.isVerified) this.#shift(rollout, now);
  }

  #checkResumed(): void {
    if (!this.#isResuming) return;
    for (const cell of this.#slots.list) {
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
    for (const cell of this.#slots.list) {
      if (cell.generation !== sides.generation) continue;
      cell.isProved = true;
      count++;
    }
    this.#slots.hasChanged = true;
    if (rules.strategy === 'rolling' && this.#slots.replicas > 1) {
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
    if (isFirst) rollout.roll(count / this.#slots.replicas, maxSize);
    if (isFirst) this.#onShare = generation;
    this.#setShare(rollout, count / this.#slots.replicas);
    this.#tellStep(rollout, 'shifting');
    if (count >= this.#slots.replicas) {
      if (rollout.rules.bakeMs === 0) this.#promote(rollout, now);
      else {
        rollout.bake(maxSize, now);
        this.#tellStep(rollout, 'baking');
      }
      return;
    }
    // Whose place is taken serves no longer; when it is the last, everything goes to the new version.
    if (count === this.#slots.replicas - 1) {
      rollout.split = undefined;
      this.#onShare = NONE;
      this.#serve(generation, version);
      this.#owner.split();
    } else this.#setShare(rollout, count / (this.#slots.replicas - 1));
    rollout.anotherLoads();
    for (const cell of [...this.#slots.cells.values()])
      if (cell.generation === fromGeneration && cell.replica === count) this.#slots.drain(cell);
    this.#slots.add({ replica: count, generation, version, waitsFor: 'place', isProved: false }, now);
    this.#slots.startDue(now);
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
    if (keepMs > 0 && this.#slots.lives(fromGeneration)) {
      this.#kept = { generation: fromGeneration, version: fromVersion, until: now + keepMs };
      this.#tellStep(rollout, 'kept');
      return;
    }
    if (fromGeneration !== 0) this.#tellStep(rollout, 'draining');
    for (const cell of this.#slots.cells.values()) if (cell.generation !== generation) this.#slots.drain(cell);
  }

  /** Whatever of the old version is left goes, and the new one has every place. */
  #takeAll(rollout: Rollout, now: number): void {
    const { generation, version } = rollout.sides;
    const isLast = this.generationCount === 1;
    if (!isLast) this.#tellStep(rollout, 'draining');
    const taken = new Set<number>();
    for (const cell of [...this.#slots.cells.values()]) {
      if (cell.generation !== generation) this.#slots.drain(cell);
      else {
        cell.isProved = true;
        taken.add(cell.replica);
      }
    }
    for (let replica = 0; replica < this.#slots.replicas; replica++)
      if (!taken.has(replica)) this.#slots.add({ replica, generation, version, waitsFor: 'place' }, now);
    if (!isLast) return;
    this.#leaving = undefined;
    this.#tellStep(rollout, 'freed');
  }

  #serve(generation: number, version: string | undefined): void {
    this.#slots.hasChanged = true;
    this.#serving = generation;
    this.version = version;
    this.#owner.up();
    this.#news({ name: 'up', version });
  }

  /** No roll-out is under way any more. `leaving`: its losing side is still to go. */
  #endTrial(leaving: Rollout | undefined): void {
    this.#rollout = undefined;
    this.#leaving = leaving;
    this.#slots.hasChanged = true;
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
    for (const cell of [...this.#slots.cells.values()]) {
      if (cell.generation !== generation) continue;
      if (cell.state === 'stopped') this.#slots.remove(cell);
      else if (hadWork && cell.isProved) this.#slots.drain(cell);
      else this.#slots.stop(cell, true);
    }
    if (rollout.takesPlaces) this.#giveBack(rollout, now);
    if (!this.#slots.lives(this.#serving)) this.#owner.noReplica(error);
  }

  /** The old version is loaded again wherever it had to go. */
  #giveBack(rollout: Rollout, now: number): void {
    const { fromGeneration: generation, fromVersion: version } = rollout.sides;
    const has = new Set<number>();
    for (const cell of this.#slots.list)
      if (cell.generation === generation && cell.state !== 'draining' && cell.state !== 'stopping')
        has.add(cell.replica);
    const waitsFor = rollout.rules.strategy === 'recreate' ? 'others' : 'place';
    for (let replica = 0; replica < this.#slots.replicas; replica++)
      if (!has.has(replica)) this.#slots.add({ replica, generation, version, waitsFor }, now);
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

  #news(news: PoolNews): void {
    this.#owner.emit({ kind: 'news', news });
  }
}

/** No generation has this number. */
const NONE = -1;
