/** Buckets per doubling: a percentile is at most 4.4 % above the truth. */
const PER_OCTAVE = 16;
const OCTAVES = 40;
/** Lower edge of the first bucket; 40 octaves above it is 12 days. */
const FLOOR_MS = 0.001;

/** Latencies in buckets of constant relative width: 640 counters, whatever the number of records. */
export class LatencyHistogram {
  readonly #counts = new Float64Array(PER_OCTAVE * OCTAVES);
  #total = 0;

  add(ms: number): void {
    const bucket = ms <= FLOOR_MS ? 0 : Math.floor(Math.log2(ms / FLOOR_MS) * PER_OCTAVE);
    const index = Math.min(bucket, this.#counts.length - 1);
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#total += 1;
  }

  /** Upper edge of the bucket that holds the quantile (0 to 1); 0 when nothing was added. */
  quantile(quantile: number): number {
    if (this.#total === 0) return 0;
    const rank = Math.max(1, Math.ceil(quantile * this.#total));
    let seen = 0;
    for (let index = 0; index < this.#counts.length; index += 1) {
      seen += this.#counts[index] ?? 0;
      if (seen >= rank) return FLOOR_MS * 2 ** ((index + 1) / PER_OCTAVE);
    }
    return FLOOR_MS * 2 ** OCTAVES;
  }
}
