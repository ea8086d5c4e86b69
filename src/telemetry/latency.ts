export interface LatencySummary {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Steps per doubling: buckets grow by 2^(1/8), so a quantile is right to 9 %. */
const STEPS = 8;
const SMALLEST_MS = 0.001;
const BUCKET_COUNT = 8 * 40;
/** Upper end of each bucket; the last has none. */
const ENDS_MS = Float64Array.from({ length: BUCKET_COUNT }, (_, bucket) =>
  bucket === BUCKET_COUNT - 1 ? Infinity : SMALLEST_MS * 2 ** (bucket / STEPS),
);

/** Durations in a fixed number of logarithmic buckets: constant memory, a few nanoseconds per record. */
export class LatencyWindow {
  readonly #counts = new Uint32Array(BUCKET_COUNT);
  #total = 0;
  #maxMs = 0;
  /** The bucket of the latest duration and what it holds: above #fromMs, up to #toMs. Those of a batch mostly share one. */
  #bucket = 0;
  #fromMs = 0;
  #toMs = 0;

  record(durationMs: number): void {
    if (!(durationMs > this.#fromMs && durationMs <= this.#toMs)) this.#find(durationMs);
    const bucket = this.#bucket;
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#total++;
    if (durationMs > this.#maxMs) this.#maxMs = durationMs;
  }

  #find(durationMs: number): void {
    const bucket =
      durationMs <= SMALLEST_MS
        ? 0
        : Math.min(BUCKET_COUNT - 1, Math.ceil(Math.log2(durationMs / SMALLEST_MS) * STEPS));
    this.#bucket = bucket;
    this.#fromMs = bucket === 0 ? -Infinity : (ENDS_MS[bucket - 1] as number);
    this.#toMs = ENDS_MS[bucket] as number;
  }

  summary(): LatencySummary {
    return { p50: this.#quantile(0.5), p99: this.#quantile(0.99), max: this.#maxMs };
  }

  #quantile(share: number): number {
    if (this.#total === 0) return 0;
    let left = Math.ceil(share * this.#total);
    for (let bucket = 0; bucket < BUCKET_COUNT; bucket++) {
      left -= this.#counts[bucket] as number;
      if (left <= 0) return Math.min(this.#maxMs, SMALLEST_MS * 2 ** (bucket / STEPS));
    }
    return this.#maxMs;
  }
}
