/**
 * How large the batches of one bucket are to be, from what they cost.
 *
 * Owns the cost model of the bucket, the size that serves most records per second, and the cap that the latency target
 * sets. Does not own waiting, order or deadlines of records (batcher.ts), nor any clock.
 *
 * Z1 a size is at least 1 and at most maxSize. Z2 without evidence of the contrary all that waits goes, as the fixed rule
 * does it: a smaller size needs trials that have shown it to serve more (size-trials.ts). Z3 the cap never falls because
 * records wait long: smaller batches would make them wait longer. It falls because batches take long.
 */

import { CostModel } from './cost-model.js';
import { classOf, type Expected, HOST_MS, SizeTrials } from './size-trials.js';

export interface SizeLimits {
  readonly maxSize: number;
  /** Infinity for none. */
  readonly targetLatencyMs: number;
  /** Batches a replica may hold: so many may be before the next one. */
  readonly maxInFlight: number;
}

/** What was measured before real records came: size and milliseconds of each run. */
export type WarmUpCosts = readonly (readonly [size: number, ms: number])[];

/** What a bucket is believed to be, for people. */
export interface BucketBelief {
  /** Records that share a batch: empty where all do, else by shape. */
  readonly bucket: string;
  /** Largest batch it is given now. */
  readonly size: number;
  /** Cost of a batch of n: fixedMs + n * perItemMs, about. */
  readonly fixedMs: number;
  readonly perItemMs: number;
  /** How far a batch of `size` is usually off. */
  readonly residualMs: number;
  /** Batches it was learned from, since the pool began, the version changed. */
  readonly samples: number;
  /** Times its costs jumped and were learned anew. */
  readonly jumps: number;
  /** Largest batch that meets targetLatencyMs; maxSize where there is none, or none can meet it. */
  readonly cap: number;
  /** What decides the size. */
  readonly reason: 'unknown' | 'largest' | 'throughput' | 'target' | 'guard';
}

/** A warm-up that shows another size to serve this much more per second is believed. */
const CLEAR_GAIN = 1.1;
/** Where the largest batch takes less than this, its size is nobody's trouble. */
const LONG_MS = 4;
/** First batches under a latency target, while no cost is known. */
const COLD_SIZE = 4;
/** Of the latency target that is planned with; the rest is for timers and the way there and back. */
const PLANNED = 0.96;
/** The guard's cuts and steps: two cuts halve the cap, 32 good batches bring all of it back. */
const CUT = 0.75;
const STEPS = 32;
/**
 * Under a target a trial must not leave more behind than the next batch takes along. So none is made where more waits than
 * this share of the cap, but where so much waits that the target is missed anyway.
 */
const TRIED_UP_TO = 0.5;
const HOPELESS_FROM = 2;

export class AdaptiveSize {
  readonly model = new CostModel();
  /** Mean size of the batches sent lately. */
  recentSize = 0;
  readonly #limits: SizeLimits;
  /** Additive increase, multiplicative decrease; starts open and closes by evidence alone. */
  #guard: number;
  /** What records have from arrival to deadline, about. */
  #timeoutMs = Infinity;
  #best: number;
  #cap: number;
  #size: number;
  /** Something was observed since the sizes were decided. */
  #isStale = false;
  readonly #trials = new SizeTrials();
  #jumpCount = 0;

  constructor(limits: SizeLimits) {
    this.#limits = limits;
    const { maxSize, targetLatencyMs } = limits;
    this.#guard = maxSize;
    this.#best = maxSize;
    this.#cap = targetLatencyMs === Infinity ? maxSize : Math.min(maxSize, COLD_SIZE);
    this.#size = this.#cap;
  }

  /** The time in the system to aim at: the target, or the deadlines that records come with, whichever is shorter. */
  get targetMs(): number {
    return Math.min(this.#limits.targetLatencyMs, this.#timeoutMs);
  }

  /** Largest batch to send (Z1): the smaller of the next two. */
  get size(): number {
    if (this.#isStale) this.#decide();
    return this.#size;
  }

  /** Largest batch worth its time, whatever the target. */
  get best(): number {
    if (this.#isStale) this.#decide();
    return this.#best;
  }

  /** Largest batch that meets the target; maxSize where there is none, or none can. */
  get cap(): number {
    if (this.#isStale) this.#decide();
    return this.#cap;
  }

  /** What runs of the warm-up took, by size: one after another on an idle replica, so they can be compared. */
  seed(costs: WarmUpCosts): void {
    const { maxSize } = this.#limits;
    let best: WarmUpCosts[number] | undefined;
    let top: WarmUpCosts[number] | undefined;
    for (const run of costs) {
      const [size, ms] = run;
      if (size > maxSize) continue;
      this.model.seed(size, ms);
      if (best === undefined || ms / size < best[1] / best[0]) best = run;
      if (top === undefined || size > top[0]) top = run;
    }
    this.#isStale = true;
    if (best === undefined || top === undefined || top[1] < LONG_MS) return;
    if (top[1] / top[0] >= CLEAR_GAIN * (best[1] / best[0])) this.#trials.start(classOf(best[0]));
  }

  /** A batch took this long; its oldest record had `timeoutMs` from its arrival, Infinity for no deadline. */
  observe(size: number, ms: number, timeoutMs = Infinity): void {
    if (timeoutMs === Infinity) this.#timeoutMs = Infinity;
    else if (this.#timeoutMs === Infinity) this.#timeoutMs = timeoutMs;
    else this.#timeoutMs += (timeoutMs - this.#timeoutMs) / 8;
    this.model.observe(size, ms);
    this.#trials.observe(size, ms);
    if (this.model.jumpCount !== this.#jumpCount) {
      this.#jumpCount = this.model.jumpCount;
      this.#trials.restart();
    }
    this.recentSize += (size - this.recentSize) / Math.min(this.model.batchCount, 4);
    if (this.targetMs !== Infinity) this.#guardAgainst(size, ms);
    this.#isStale = true;
  }

  /** Largest n whose batch is expected to take at most `ms`; 0 for none. */
  largestWithin(ms: number, most: number): number {
    if (this.model.isEmpty) return most;
    if (this.model.predict(1) > ms) return 0;
    let low = 1;
    let high = most;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.model.predict(middle) <= ms) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** A size to try now where `count` records wait, in the place of a batch of `size`; 0 for none. */
  probe(count: number, size: number): number {
    const most = Math.min(this.#limits.maxSize, this.cap);
    if (this.targetMs !== Infinity && count > TRIED_UP_TO * most && count < HOPELESS_FROM * most) return 0;
    return this.#trials.propose(count, size, most, this.#expected);
  }

  readonly #expected: Expected = (size, seen) => (this.model.knows(size, seen) ? this.model.predict(size) : 0);

  /**
   * The part of `count` records for one of so many replicas. A part is at least `parts` times the size at which the fixed
   * cost is half of all; 4 spends a fifth on it.
   */
  share(count: number, replicas: number, parts: number): number {
    const { fixedMs, perItemMs, classes } = this.model;
    if (classes.length < 2 || perItemMs === 0) return count;
    const least = Math.ceil((parts * (fixedMs + HOST_MS)) / perItemMs);
    return Math.max(Math.ceil(count / replicas), Math.min(count, least));
  }

  belief(bucket: string): BucketBelief {
    const { model, size, cap } = this;
    return {
      bucket,
      size,
      fixedMs: model.fixedMs,
      perItemMs: model.perItemMs,
      residualMs: model.spread * model.predict(size),
      samples: model.batchCount,
      jumps: model.jumpCount,
      cap,
      reason: this.#reason(),
    };
  }

  #reason(): BucketBelief['reason'] {
    if (this.model.isEmpty) return 'unknown';
    if (this.size < this.best) return this.#guard === this.size ? 'guard' : 'target';
    return this.#best < this.#limits.maxSize ? 'throughput' : 'largest';
  }

  #decide(): void {
    const { maxSize } = this.#limits;
    this.#isStale = false;
    const { bestClass } = this.#trials;
    this.#best = bestClass < 0 ? maxSize : Math.min(maxSize, 2 ** bestClass);
    this.#cap = maxSize;
    if (this.targetMs !== Infinity) {
      const careful = 1 + this.model.spread;
      const mostMs = this.#allowedMs();
      if (mostMs !== Infinity)
        this.#cap = Math.max(1, Math.min(this.#guard, this.largestWithin((PLANNED * mostMs) / careful, maxSize)));
    }
    this.#size = Math.min(this.#best, this.#cap);
  }

  /**
   * What a batch may take under the target: a record that comes just after one has begun waits for it, for what is staged
   * behind it, and for its own. Where not even one record can do that, its own batch alone; else nothing helps: Infinity.
   */
  #allowedMs(): number {
    const { targetMs } = this;
    const leastMs = this.model.predict(1);
    const shareMs = targetMs / (1 + this.#limits.maxInFlight);
    if (leastMs <= PLANNED * shareMs) return shareMs;
    return leastMs <= PLANNED * targetMs ? targetMs : Infinity;
  }

  #guardAgainst(size: number, ms: number): void {
    const { maxSize } = this.#limits;
    // Larger ones were not meant to be in time.
    if (size > this.#cap) return;
    if (ms > this.#allowedMs()) this.#guard = Math.max(1, Math.floor(Math.min(this.#guard, size) * CUT));
    else if (size >= this.size) this.#guard = Math.min(maxSize, this.#guard + Math.max(1, Math.floor(maxSize / STEPS)));
  }
}
