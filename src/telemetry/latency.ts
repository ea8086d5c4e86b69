export interface LatencySummary {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** How many values were at most each bound, as Prometheus counts them; all of them in `count`. */
export interface Distribution {
  readonly bounds: readonly number[];
  readonly cumulative: readonly number[];
  readonly count: number;
  readonly sum: number;
}

/** Upper end of the first bucket. A power of two, so that every later power of two, of a time or of a count, is an end. */
const SMALLEST = 2 ** -10;
const DOUBLINGS = 40;

/** Upper end of each bucket, by steps per doubling; the last has none. */
const endsBySteps = new Map<number, Float64Array>();

/**
 * Durations in a fixed number of logarithmic buckets: constant memory, a few nanoseconds per record. Buckets grow by
 * 2^(1/steps), so a quantile is never below the truth and at most that much above: 9 % with 8 steps, 4.5 % with 16.
 */
export class LatencyWindow {
  readonly #steps: number;
  readonly #ends: Float64Array;
  /** Not of 32 bits: a bucket of a busy pool would begin anew after an hour. */
  readonly #counts: Float64Array;
  #sum = 0;
  #max = 0;
  /** The bucket of the latest duration and what it holds: above #from, up to #to. Those of a batch mostly share one. */
  #bucket = 0;
  #from = 0;
  #to = 0;

  constructor(steps: 8 | 16 = 8) {
    this.#steps = steps;
    this.#ends = endsOf(steps);
    this.#counts = new Float64Array(this.#ends.length);
  }

  record(duration: number): void {
    if (!(duration > this.#from && duration <= this.#to)) this.#find(duration);
    const bucket = this.#bucket;
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#sum += duration;
    if (duration > this.#max) this.#max = duration;
  }

  get sum(): number {
    return this.#sum;
  }

  get count(): number {
    // Not reduce: a scrape asks for hundreds of these, and a call for each bucket was a third of its cost.
    const counts = this.#counts;
    let total = 0;
    for (let bucket = 0; bucket < counts.length; bucket++) total += counts[bucket] as number;
    return total;
  }

  summary(): LatencySummary {
    const { count } = this;
    return { p50: this.#quantile(0.5, count), p99: this.#quantile(0.99, count), max: this.#max };
  }

  /** `bounds`: rising powers of two from 2^-10 on, which are ends of buckets; so nothing is guessed. */
  distribution(bounds: readonly number[]): Distribution {
    const cumulative: number[] = [];
    let bucket = 0;
    let count = 0;
    for (const bound of bounds) {
      const last = Math.log2(bound / SMALLEST) * this.#steps;
      while (bucket <= last) count += this.#counts[bucket++] as number;
      cumulative.push(count);
    }
    for (; bucket < this.#counts.length; bucket++) count += this.#counts[bucket] as number;
    return { bounds, cumulative, count, sum: this.#sum };
  }

  #find(duration: number): void {
    const last = this.#ends.length - 1;
    const bucket = duration <= SMALLEST ? 0 : Math.min(last, Math.ceil(Math.log2(duration / SMALLEST) * this.#steps));
    this.#bucket = bucket;
    this.#from = bucket === 0 ? -Infinity : (this.#ends[bucket - 1] as number);
    this.#to = this.#ends[bucket] as number;
  }

  #quantile(share: number, count: number): number {
    if (count === 0) return 0;
    let left = Math.ceil(share * count);
    let bucket = 0;
    for (; bucket < this.#counts.length - 1; bucket++) {
      left -= this.#counts[bucket] as number;
      if (left <= 0) break;
    }
    return Math.min(this.#max, SMALLEST * 2 ** (bucket / this.#steps));
  }
}

function endsOf(steps: number): Float64Array {
  const known = endsBySteps.get(steps);
  if (known !== undefined) return known;
  const ends = Float64Array.from({ length: steps * DOUBLINGS }, (_, bucket) => SMALLEST * 2 ** (bucket / steps));
  ends[ends.length - 1] = Infinity;
  endsBySteps.set(steps, ends);
  return ends;
}
