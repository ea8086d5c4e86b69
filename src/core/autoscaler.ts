/**
 * How many replicas a pool is to have, by how long its records wait and how busy its replicas are.
 *
 * Pure: told the time and the load, it answers with a number and a reason, or with nothing. Measures nothing and starts
 * nothing (core/scaling.ts does), and says when it wants to look again.
 *
 * A1 never outside min..max. A2 up and down have different thresholds: a load that one number bears is no reason for another.
 * A3 after every change both windows begin anew, once all replicas are up: up again after upAfterMs, down after downAfterMs,
 * at the earliest. A4 while records wait longer than twice the target the number doubles every upAfterMs, plus the load of
 * the model. A5 nothing is changed while a replica that there should be is not up: that is the supervisor's, and more
 * replicas of what does not start would be no help. A6 without work the number sinks to min; to 0 only after idleAfterMs.
 *
 * Sources: desired = ceil(load / target) with a tolerance of a tenth, and the highest of what was needed in the window
 * before it shrinks, from the Kubernetes HorizontalPodAutoscaler (stabilizationWindowSeconds; doubling is its default policy
 * up); separate delays up and down, and load in place of CPU time, from Ray Serve (upscale_delay_s, downscale_delay_s,
 * target_ongoing_requests); zero after a grace time and back with the first request, which waits for it, from Knative and
 * KServe. That only a wait which stands for a whole window counts, and not one that a burst leaves, is CoDel's rule (RFC 8289).
 */

import { invariant } from '../kernel/errors.js';

export interface ScalingLimits {
  /** 0: a pool without work may have none. */
  readonly min: number;
  readonly max: number;
  /** Records that wait longer than this while every replica works are too many for them. */
  readonly targetWaitMs: number;
  /** Share of their time that replicas are to work. */
  readonly targetUtilization: number;
  readonly upAfterMs: number;
  readonly downAfterMs: number;
  readonly idleAfterMs: number;
}

/** A pool at one instant. */
export interface PoolLoad {
  /** How many there are to be. */
  readonly replicas: number;
  /** How many can be given work. */
  readonly ready: number;
  /** Time that replicas have spent on batches since the pool began, all of them together. */
  readonly busyMs: number;
  /** How long the oldest record has waited while no replica was free; 0 where none has. */
  readonly waitedMs: number;
  /** Records are held, waiting or with replicas. */
  readonly hasWork: boolean;
}

/**
 * Why the number changes. `queue-age`: records waited too long; `busy`: replicas worked too much of their time; `calm`: fewer
 * would have done; `idle`: no work for long, to 0; `demand`: a record for a pool at 0; `operator`: somebody asked for it.
 */
export type ScaleReason = (typeof SCALE_REASONS)[number];
export const SCALE_REASONS = ['queue-age', 'busy', 'calm', 'idle', 'demand', 'operator'] as const;

export interface ScaleDecision {
  readonly replicas: number;
  readonly reason: Exclude<ScaleReason, 'demand' | 'operator'>;
}

/** So many looks make up upAfterMs. */
const LOOKS = 8;
/** A look so much too late says that the host stood still; what waited meanwhile waited for the host. */
const STALL_MS = 250;
/** HPA's tolerance: a load that is above its target by less is borne. */
const TOLERANCE = 1.1;
/** Replicas that have no time to spare are busy at least so much of it: between two batches there is a turn of the host. */
const BUSY_LEAST = 0.9;

export class Autoscaler {
  readonly limits: ScalingLimits;
  /** When it wants to be asked; Infinity while there is nothing to decide. */
  lookAt = Infinity;
  readonly #everyMs: number;
  /** Of the last looks, the oldest first; at most one more than LOOKS. */
  readonly #samples: { readonly at: number; readonly busyMs: number }[] = [];
  /** Looks in a row that saw records wait too long. */
  #waiting = 0;
  /** Fewer replicas would have done since then, and so many at most. */
  #calmSince = Infinity;
  #calmMost = 0;
  #lastWorkAt = -Infinity;

  constructor(limits: ScalingLimits) {
    const { min, max, targetUtilization, upAfterMs } = limits;
    invariant(min >= 0 && max >= Math.max(1, min), 'replicas: 0 <= min <= max, max >= 1');
    invariant(targetUtilization > 0 && targetUtilization <= 1, 'targetUtilization is a share');
    this.limits = limits;
    this.#everyMs = Math.max(1, upAfterMs / LOOKS);
  }

  /** With so many a pool begins, and wakes. */
  get least(): number {
    return Math.max(1, this.limits.min);
  }

  /** There is work. */
  touched(now: number): void {
    this.#lastWorkAt = now;
    if (this.lookAt > now + this.#everyMs) this.lookAt = now + this.#everyMs;
  }

  /** A replica has come up, or a new version serves: what was seen says nothing any more (A3). */
  begin(now: number): void {
    this.#forget();
    if (this.#lastWorkAt === -Infinity) this.#lastWorkAt = now;
    this.lookAt = now + this.#everyMs;
  }

  /** Nothing to look at until `begin` or a record. */
  rest(): void {
    this.#forget();
    this.lookAt = Infinity;
  }

  /** What the number of replicas should become; undefined: it stays. */
  look(load: PoolLoad, now: number): ScaleDecision | undefined {
    const { replicas, hasWork } = load;
    if (hasWork) this.#lastWorkAt = now;
    const last = this.#samples.at(-1);
    if (last !== undefined && now - last.at > this.#everyMs + STALL_MS) this.#samples.length = this.#waiting = 0;
    this.#plan(load, now);
    if (replicas === 0 || load.ready !== replicas) {
      this.#forget(); // A5
      return undefined;
    }
    this.#observe(load, now);
    const decision = this.#isIdle(load, now) ? { replicas: 0, reason: 'idle' as const } : this.#byLoad(load, now);
    if (decision?.replicas === 0) this.rest();
    else if (decision !== undefined) this.begin(now);
    return decision;
  }

  #observe({ busyMs, waitedMs }: PoolLoad, now: number): void {
    const samples = this.#samples;
    samples.push({ at: now, busyMs });
    if (samples.length > LOOKS + 1) samples.shift();
    this.#waiting = waitedMs > this.limits.targetWaitMs ? this.#waiting + 1 : 0;
  }

  #isIdle({ hasWork }: PoolLoad, now: number): boolean {
    const { min, idleAfterMs } = this.limits;
    return min === 0 && !hasWork && now - this.#lastWorkAt >= idleAfterMs;
  }

  #byLoad({ replicas, waitedMs }: PoolLoad, now: number): ScaleDecision | undefined {
    const { max, targetWaitMs, targetUtilization } = this.limits;
    const busy = this.#meanBusy();
    if (busy === undefined) return undefined;
    const needed = Math.min(max, Math.max(this.least, Math.ceil(busy / targetUtilization - EPSILON)));
    if (replicas < max) {
      // A4. Where replicas have time to spare, it is not for want of replicas that records wait.
      if (this.#waiting > LOOKS && busy >= replicas * Math.min(targetUtilization, BUSY_LEAST)) {
        const times = Math.min(2, waitedMs / targetWaitMs);
        const wanted = Math.max(replicas + 1, Math.ceil(replicas * times), needed);
        return { replicas: Math.min(max, wanted), reason: 'queue-age' };
      }
      // A2. Where records wait as well, it is seen first whether the queue stands.
      const most = Math.min(TOLERANCE * targetUtilization, (1 + targetUtilization) / 2);
      if (busy > replicas * most + EPSILON && this.#waiting === 0)
        return { replicas: Math.max(replicas + 1, needed), reason: 'busy' };
    }
    return this.#whenCalm(replicas, needed, now);
  }

  #whenCalm(replicas: number, needed: number, now: number): ScaleDecision | undefined {
    if (needed >= replicas || this.#waiting > 0) {
      this.#calmSince = Infinity;
      return undefined;
    }
    const { upAfterMs, downAfterMs } = this.limits;
    if (this.#calmSince === Infinity) {
      this.#calmSince = now;
      this.#calmMost = 0;
    }
    // What is needed is a mean over upAfterMs: before that it tells of the time when it was not calm.
    if (now - this.#calmSince >= upAfterMs) this.#calmMost = Math.max(this.#calmMost, needed);
    if (now - this.#calmSince < downAfterMs) return undefined;
    return { replicas: Math.max(this.#calmMost, needed), reason: 'calm' };
  }

  /** How many replicas worked at once, on the mean of the last upAfterMs; undefined until there is as much to look back on. */
  #meanBusy(): number | undefined {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || this.#samples.length <= LOOKS) return undefined;
    // A replica that died takes the time of its last batch with it.
    return Math.max(0, last.busyMs - first.busyMs) / (last.at - first.at);
  }

  /** While nothing can come of it nobody is woken for a look. */
  #plan({ replicas, ready, hasWork }: PoolLoad, now: number): void {
    const { min, idleAfterMs } = this.limits;
    this.lookAt = now + this.#everyMs;
    if (replicas === 0 || (!hasWork && ready !== replicas)) this.lookAt = Infinity;
    else if (!hasWork && replicas <= this.least)
      this.lookAt = min === 0 ? Math.max(this.lookAt, this.#lastWorkAt + idleAfterMs) : Infinity;
  }

  #forget(): void {
    this.#samples.length = 0;
    this.#waiting = 0;
    this.#calmSince = Infinity;
  }
}

/** Sums of instants are not exact. */
const EPSILON = 1e-6;
