/**
 * How large the batches of one bucket are to be, from what they cost.
 *
 * Owns the cost model of the bucket, the size that serves most records per second, and the cap that the latency target
 * sets. Does not own waiting, order or deadlines of records (batcher.ts), nor any clock.
 *
 * Z1 a size is at least 1 and at most maxSize. Z2 without evidence of the contrary all that waits goes, as the fixed rule
 * does it: a smaller size needs batches that were seen to be faster per record. Z3 other sizes are tried at a bounded
 * rate: at most every second batch while something is unknown, ever more rarely what was found worse. Z4 the cap never
 * falls because records wait long: smaller batches would make them wait longer. It falls because batches take long.
 */

import { classOf, CostModel, type SizeClass } from './cost-model.js';

export interface SizeLimits {
  readonly maxSize: number;
  /** Infinity for none. */
  readonly targetLatencyMs: number;
  /** Batches a replica may hold: so many may be before the next one. */
  readonly maxInFlight: number;
}

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

/** Work of the host per batch that no replica sees; without it batches of one would look free of overhead. */
const HOST_MS = 0.05;
/** Where the largest batch takes less than this nobody's latency suffers from it, so none is made smaller. */
const LONG_MS = 4;
/** A doubling that does not gain this share is not worth the latency. */
const WORTH = 1.02;
/** A difference of throughput that counts, at least. */
const MARGIN = 0.01;
/** First batches under a latency target, while no cost is known. */
const COLD_SIZE = 4;
/** Of the latency target that is planned with; the rest is for timers and the way there and back. */
const PLANNED = 0.96;
/** The guard's cuts and steps: two cuts halve the cap, 32 good batches bring all of it back. */
const CUT = 0.75;
const STEPS = 32;
/** Batches until something worse by nothing is tried again, and what each further tenth of being worse multiplies it by. */
const RETRY_AFTER = 32;
const RETRY_LATEST = 4096;
/** So many batches of a size are the least to go by, and so many settle whether it is worse. */
const SOME = 3;
const ENOUGH = 8;
/** What the first batch of a size shows to be worse by this needs no second look soon. */
const HOPELESS = 1.4;
/** No trial before so many batches, as a pool may not live longer. */
const PROBE_FIRST = 12;
/** Fewer waiting records than this are not worth a trial. */
const PROBE_LEAST = 4;

export class AdaptiveSize {
  readonly model = new CostModel();
  /** Mean size of the batches sent lately. */
  recentSize = 0;
  readonly #limits: SizeLimits;
  /** Additive increase, multiplicative decrease; starts open and closes by evidence alone. */
  #guard: number;
  #best: number;
  #cap: number;
  #size: number;
  /** Something was observed since the sizes were decided. */
  #isStale = false;
  /** Class of `best` while a smaller one than the largest is best, else -1. */
  #bestClass = -1;
  #lastProbeAt = 0;

  constructor(limits: SizeLimits) {
    this.#limits = limits;
    const { maxSize, targetLatencyMs } = limits;
    this.#guard = maxSize;
    this.#best = maxSize;
    this.#cap = targetLatencyMs === Infinity ? maxSize : Math.min(maxSize, COLD_SIZE);
    this.#size = this.#cap;
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

  seed(size: number, ms: number): void {
    this.model.seed(size, ms);
    this.#isStale = true;
  }

  observe(size: number, ms: number): void {
    this.model.observe(size, ms);
    this.recentSize += (size - this.recentSize) / Math.min(this.model.batchCount, 4);
    if (this.#limits.targetLatencyMs !== Infinity) this.#guardAgainst(size, ms);
    this.#isStale = true;
  }

  /** Records per millisecond in batches of n; Infinity while nothing is known. */
  rate(n: number): number {
    return this.model.isEmpty ? Infinity : n / (this.model.predict(n) + HOST_MS);
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

  /** A size to be tried now where `count` records wait, or 0. Counts as tried. */
  probe(count: number): number {
    const { model } = this;
    // Not in a row: whatever is found, every second batch at most is a trial (Z3).
    if (model.batchCount < PROBE_FIRST || model.batchCount - this.#lastProbeAt < 2) return 0;
    const most = Math.min(count, this.cap);
    const here = classOf(Math.min(most, this.best));
    const reference = model.class(here);
    if (most < PROBE_LEAST || reference === undefined || reference.count < SOME) return 0;
    let index = here + 1;
    if (this.#bestClass < 0 || 2 ** index > most || !this.#isDue(index, reference)) {
      index = here - 1;
      if (index < 0 || reference.ms < LONG_MS || this.#isBeaten(reference) || !this.#isDue(index, reference)) return 0;
    }
    this.#lastProbeAt = model.batchCount;
    return 2 ** index;
  }

  /** The share of `count` records for one of `replicas` idle ones: split where each part is still worth its fixed cost. */
  share(count: number, replicas: number): number {
    const { fixedMs, perItemMs } = this.model;
    const part = Math.ceil(count / replicas);
    if (this.model.isEmpty || perItemMs === 0) return count;
    return Math.max(part, Math.min(count, Math.ceil((fixedMs + HOST_MS) / perItemMs)));
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
    return this.#bestClass >= 0 ? 'throughput' : 'largest';
  }

  #decide(): void {
    const { maxSize, targetLatencyMs } = this.#limits;
    this.#isStale = false;
    this.#chooseBest();
    this.#cap = maxSize;
    if (targetLatencyMs !== Infinity) {
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
    const { targetLatencyMs, maxInFlight } = this.#limits;
    const leastMs = this.model.predict(1);
    const shareMs = targetLatencyMs / (1 + maxInFlight);
    if (leastMs <= PLANNED * shareMs) return shareMs;
    return leastMs <= PLANNED * targetLatencyMs ? targetLatencyMs : Infinity;
  }

  #guardAgainst(size: number, ms: number): void {
    const { maxSize } = this.#limits;
    if (ms > this.#allowedMs()) this.#guard = Math.max(1, Math.floor(Math.min(this.#guard, size) * CUT));
    else if (size >= this.size) this.#guard = Math.min(maxSize, this.#guard + Math.max(1, Math.floor(maxSize / STEPS)));
  }

  /** The smallest size that nothing larger beats by what its latency costs; the largest unless that is certain (Z2). */
  #chooseBest(): void {
    const { classes } = this.model;
    const { maxSize } = this.#limits;
    const top = classes[classes.length - 1];
    if (top === undefined) return;
    let best = top;
    if (top.ms >= LONG_MS)
      for (let i = classes.length - 2; i >= 0; i--) {
        const one = classes[i] as SizeClass;
        if (one.count >= SOME && score(one) < score(best)) best = one;
      }
    const now = this.#bestClass < 0 ? top : (this.model.class(this.#bestClass) ?? top);
    if (now !== best && (now.count < SOME || !this.#isBetter(best, now))) return;
    this.#bestClass = best === top ? -1 : best.index;
    this.#best = best === top ? maxSize : Math.min(maxSize, 2 ** best.index);
  }

  #isBetter(one: SizeClass, than: SizeClass): boolean {
    // Less certainty will do for the smaller one, which is kinder to everybody who waits.
    const doubt = (one.index < than.index ? 1 : 2) * Math.hypot(this.model.errorOf(one), this.model.errorOf(than));
    return score(one) < score(than) * (1 - Math.max(MARGIN, doubt));
  }

  /** Is it time to look at this class again? What was worse by a share waits the longer, the worse it was. */
  #isDue(index: number, reference: SizeClass): boolean {
    const one = this.model.class(index);
    if (one === undefined) {
      // What batches of two other sizes cost tells much of this one.
      if (this.model.classes.length < 2 || this.model.batchCount >= 2 * RETRY_AFTER) return true;
      const size = 2 ** index;
      return (this.model.predict(size) + HOST_MS) / size < HOPELESS * ((reference.ms + HOST_MS) / reference.size);
    }
    const ratio = score(one) / score(reference);
    const since = this.model.batchCount - one.lastAt;
    if (one.count < SOME) return ratio < HOPELESS || since >= 2 * RETRY_AFTER;
    const doubt = 2 * Math.hypot(this.model.errorOf(one), this.model.errorOf(reference));
    if (one.count < ENOUGH && Math.abs(ratio - 1) < Math.max(MARGIN, doubt)) return true;
    const patience = Math.min(RETRY_LATEST, RETRY_AFTER * 2 ** (10 * Math.max(0, ratio - 1)));
    return since >= patience;
  }

  /** A larger size is known to be better: smaller ones still are not worth a look. */
  #isBeaten(one: SizeClass): boolean {
    const { classes } = this.model;
    const above = classes[classes.indexOf(one) + 1];
    return above !== undefined && above.count >= SOME && this.#isBetter(above, one);
  }
}

/** Milliseconds per record, made worse by what every doubling costs in latency. */
function score({ index, size, ms }: SizeClass): number {
  return ((ms + HOST_MS) / size) * WORTH ** index;
}
