/**
 * One roll-out: a version that is brought up beside the one that serves, proved, watched, and kept or given up.
 *
 * Owns the step it is at, the rules it goes by, the time it is watched until, what is held against it and its share of
 * the work. Does not own replicas (succession.ts) or records (pool-core.ts); it is told what happened and when.
 *
 * O1 it ends exactly once: promoted or rolled back. O2 it has work only while it bakes. O3 what it is watched for counts
 * from the shift on; the old version is looked at from the beginning. O4 a pause of the host is not held against it. O5 as a
 * shadow it is shown work, and answers nobody.
 */

import { invariant, TroupeError } from '../kernel/errors.js';
import { type LifecycleTable, transition } from '../kernel/lifecycle.js';
import { Shadow, type ShadowRules } from './shadow.js';
import { TrafficSplit } from './traffic-split.js';
import { Trial, TRIAL_DEFAULTS, type TrialLimits } from './trial.js';

export type RolloutState = 'loading' | 'verifying' | 'rolling' | 'baking' | 'promoted' | 'rolled-back';
type RolloutEvent = 'loaded' | 'roll' | 'shift' | 'promote' | 'roll-back' | 'stop';

/**
 * Where the new version is loaded. `beside`: next to the old one, which goes when it is over. `rolling`: one replica after
 * the other in the place of an old one. `recreate`: when the old one has gone.
 */
export type SwapStrategy = 'beside' | 'rolling' | 'recreate';

/** How a roll-out goes. `roll`: the first of its replicas works. `stop`: its pool ends, and with it what was under way. */
export const ROLLOUT_LIFECYCLE: LifecycleTable<RolloutState, RolloutEvent> = {
  loading: { loaded: 'verifying', 'roll-back': 'rolled-back', stop: 'rolled-back' },
  verifying: { roll: 'rolling', shift: 'baking', promote: 'promoted', 'roll-back': 'rolled-back', stop: 'rolled-back' },
  rolling: { shift: 'baking', promote: 'promoted', 'roll-back': 'rolled-back', stop: 'rolled-back' },
  baking: { promote: 'promoted', 'roll-back': 'rolled-back', stop: 'rolled-back' },
  promoted: { stop: 'promoted' },
  'rolled-back': { stop: 'rolled-back' },
};

/** What people are told of, in this order; a roll-out skips what it has not. */
export type RolloutStep =
  | 'loading'
  | 'verifying'
  | 'shifting'
  | 'baking'
  | 'promoted'
  | 'kept'
  | 'draining'
  | 'freed'
  | 'rolled-back'
  | 'restored';

/** Why a roll-out was given up. */
export type RollbackReason =
  | 'load-failed'
  | 'verification-failed'
  | 'errors'
  | 'latency'
  | 'disagreement'
  | 'unproven'
  | 'replicas-died'
  | 'operator'
  | 'superseded'
  | 'stopped';

export interface RolloutRules {
  readonly strategy: SwapStrategy;
  /** Share of the records for the new version while it bakes; 1: all of them. */
  readonly share: number;
  /** How long the new version is watched before the old one is let go; 0: not at all. */
  readonly bakeMs: number;
  /** It is given no work before `verified`. */
  readonly verifies: boolean;
  readonly rollbackOn: TrialLimits;
  /** While it bakes it is only shown a share of the records, and answers none; `share` is 1 then. */
  readonly shadow?: ShadowRules;
  /** How long the old version stays loaded once the new one is promoted; 0: not at all. */
  readonly keepMs: number;
}

/** Everything goes to the new version as soon as it is up, for good. */
export const AT_ONCE: RolloutRules = {
  strategy: 'beside',
  share: 1,
  bakeMs: 0,
  verifies: false,
  rollbackOn: TRIAL_DEFAULTS,
  keepMs: 0,
};

export interface RolloutSides {
  readonly generation: number;
  readonly version: string | undefined;
  /** 0: nothing serves yet. */
  readonly fromGeneration: number;
  readonly fromVersion: string | undefined;
}

/** After a pause of the host what runs is not overdue for this long (O4). */
const GRACE_MS = 1000;
const DEATHS_LEAST = 2;

export class Rollout {
  readonly sides: RolloutSides;
  readonly rules: RolloutRules;
  readonly trial: Trial;
  /** Undefined unless both versions are given work. */
  split: TrafficSplit | undefined;
  /** Undefined unless the new version is shown work; stays for what it tells when it is over. */
  shadow: Shadow | undefined;
  isVerified: boolean;
  #state: RolloutState = 'loading';
  #proofAsked = false;
  #bakedAt = Infinity;
  #graceUntil = -Infinity;
  #deaths = 0;
  #oldDeaths = 0;

  constructor(sides: RolloutSides, rules: RolloutRules) {
    invariant(rules.share > 0 && rules.share <= 1 && rules.bakeMs >= 0, 'a roll-out has a share and a time');
    invariant(rules.share === 1 || rules.bakeMs > 0, 'a share of the work is for a time');
    invariant(
      rules.shadow === undefined || (rules.share === 1 && rules.bakeMs > 0),
      'a shadow is for a time, and has no work',
    );
    invariant(
      rules.strategy === 'beside' || (rules.share === 1 && rules.shadow === undefined && rules.keepMs === 0),
      'a share of the work, a shadow and a way back at once need both versions',
    );
    this.sides = sides;
    this.rules = rules;
    this.trial = new Trial(rules.rollbackOn);
    this.isVerified = !rules.verifies;
  }

  get state(): RolloutState {
    return this.#state;
  }

  /** O2. It has work, or is shown some, and what comes back tells of it. */
  get bakes(): boolean {
    return this.#state === 'baking' || this.#state === 'rolling';
  }

  /** The old one is not left as it is: its replicas go before those of the new one come. */
  get takesPlaces(): boolean {
    return this.rules.strategy !== 'beside';
  }

  /** The part of the records that it answers while it bakes; of those with a key, while it rolls. */
  get share(): number {
    if (this.rules.shadow !== undefined) return 0;
    return this.split?.share ?? this.rules.share;
  }

  /** True once for all that it has loaded, and again after `anotherLoads`: somebody is to prove it. */
  asksForProof(): boolean {
    if (this.isVerified || this.#proofAsked) return false;
    this.#proofAsked = true;
    return true;
  }

  /** One more of its replicas loads, which has proved nothing. */
  anotherLoads(): void {
    this.isVerified = !this.rules.verifies;
    this.#proofAsked = false;
  }

  /** All its replicas are up. */
  loaded(): void {
    this.#move('loaded');
  }

  /** The first of its replicas is given work, beside those of the old version. */
  roll(share: number, maxSize: number): void {
    this.#move('roll');
    this.split = new TrafficSplit(share, maxSize, true);
  }

  /** It is given work from now on, and watched. */
  bake(maxSize: number, now: number): void {
    this.#move('shift');
    this.#bakedAt = now + this.rules.bakeMs;
    const { share, shadow } = this.rules;
    if (share < 1) this.split = new TrafficSplit(share, maxSize);
    if (shadow !== undefined) this.shadow = new Shadow(shadow, maxSize, this.sides.generation);
  }

  promote(): void {
    this.#move('promote');
    this.split = undefined;
  }

  rollBack(): void {
    this.#move('roll-back');
    this.split = undefined;
  }

  stop(): void {
    this.#move('stop');
    this.split = undefined;
  }

  /** When the watch is over; Infinity while it has not begun. */
  get bakedAt(): number {
    return this.#bakedAt;
  }

  /** When a batch of so many records of the new version is held against it, unless it is answered before. */
  overdueAt(startedAt: number, records: number): number {
    return Math.max(startedAt + this.trial.overdueMs(records), this.#graceUntil);
  }

  /** When a batch that the new version is shown is held against it; Infinity: none is. */
  shownOverdueAt(batchTimeoutMs: number): number {
    let at = Infinity;
    if (this.shadow !== undefined)
      for (const { startedAt, size } of this.shadow.running())
        at = Math.min(at, this.overdueAt(startedAt, size), Math.max(startedAt + batchTimeoutMs, this.#graceUntil));
    return at;
  }

  /** O4: the host stood still until now. */
  stalled(now: number): void {
    this.#graceUntil = now + GRACE_MS;
  }

  /**
   * A replica ended, by its own fault and not by that of one record. True: the new version has lost as many as it has
   * replicas, and more than the old one.
   */
  died(isNew: boolean, replicas: number): boolean {
    if (isNew) this.#deaths++;
    else this.#oldDeaths++;
    return isNew && this.#deaths >= Math.max(DEATHS_LEAST, replicas) && this.#deaths > this.#oldDeaths;
  }

  /** What callers of a swap are told when it does not come about. */
  failure(pool: string, reason: RollbackReason, why: string, cause: unknown): TroupeError {
    const { version, fromVersion } = this.sides;
    const message = `Pool "${pool}" stays on version ${fromVersion ?? 'none'}: version ${version ?? 'none'} was rolled back while ${this.#state}: ${why}`;
    return new TroupeError('SWAP_ROLLED_BACK', message, { cause, actor: pool, step: this.#state, reason });
  }

  #move(event: RolloutEvent): void {
    this.#state = transition('rollout', ROLLOUT_LIFECYCLE, this.#state, event);
  }
}
