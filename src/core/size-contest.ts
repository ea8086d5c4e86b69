/**
 * What trials of one size of batch against another have shown, in logarithms of milliseconds per record: below zero is
 * better.
 *
 * S1 most batches are as they always are, a few are odd: several times as long. What most show decides soon; a trial
 * between two batches that are unlike, or itself unlike the others, is no evidence of it. S2 odd ones count by what they
 * cost, as soon as there are enough trials to tell those of one size from those of the other: a size whose odd batches
 * cost more than it gains does not stay for ever. S3 odd trials in a row on the same side, two where there were none
 * before, are a change: what was known is forgotten.
 */

/** By what share adjacent batches of one size differ, about. */
export interface Noise {
  share: number;
}

/** So many trials tell what is usual. */
const MEMORY = 12;
/** Of so many one that is unlike them can be called odd. */
const SURE = 2;
/** Odd ones in a row that are less likely than this, where they come as often as they do, are a change. */
const CHANCE_LEAST = 1e-4;
const ODD_SHARE_LEAST = 0.01;
/** Off by this and by so many times the noise is odd. */
const ODD_LEAST = 0.3;
const ODD_NOISES = 4;
/** The deviation of a trial, from what adjacent batches differ by: that of one against the mean of two. */
const TRIAL_NOISES = 1.1;
/** The noise of all sizes counts as much as so many trials of this one. */
const PRIOR_COUNT = 3;
/** For what odd ones cost there have to be so many trials, so many standard errors, and so many are remembered. */
const TAIL_LEAST = 16;
const TAIL_DOUBT = 2;
const TAIL_MEMORY = 256;

export class SizeContest {
  /** Trials that show what is usual. */
  count = 0;
  /** What they show, and what odd ones add as far as that is beyond doubt. */
  mean = 0;
  /** Standard error of what is usual. */
  error = 0;
  /** The best that may yet be shown, by what all of them have cost. */
  hope = 0;
  /** That it looks hopeless was expected before it was tried. */
  isForeseen = false;
  lastAt = -Infinity;
  readonly #noise: Noise;
  #values: number[] = [];
  #usual = 0;
  /** So many of the last were odd, one after another: above zero the slow ones. */
  #streak = 0;
  /** Of all trials. */
  #oddShare = 0;
  // Of all trials, odd or not: the mean and the mean square of each side.
  #trials = 0;
  #toMs = 0;
  #toSquares = 0;
  #fromMs = 0;
  #fromSquares = 0;

  constructor(
    readonly from: number,
    readonly to: number,
    noise: Noise,
  ) {
    this.#noise = noise;
  }

  /** The last trial was unlike those before. */
  get isDoubted(): boolean {
    return this.#streak !== 0;
  }

  /**
   * A trial: milliseconds per record of its batch, and of those of the usual size before and after it, which are `unlike`
   * by this share.
   */
  add(seen: number, before: number, after: number, unlike: number): void {
    this.#addAll(seen, after);
    if (unlike <= this.#odd()) this.#addUsual(Math.log((2 * seen) / (before + after)));
    this.#weigh();
  }

  /** The same trials seen from the other side: what is usual is known by `most` of them at most. */
  turned(most: number): SizeContest {
    const turned = new SizeContest(this.to, this.from, this.#noise);
    const usual = this.#values.filter((value) => Math.abs(value - this.#usual) <= this.#odd());
    turned.#values = usual.slice(-most).map((value) => -value);
    turned.lastAt = this.lastAt;
    turned.#trials = this.#trials;
    turned.#toMs = this.#fromMs;
    turned.#toSquares = this.#fromSquares;
    turned.#fromMs = this.#toMs;
    turned.#fromSquares = this.#toSquares;
    turned.#weigh();
    return turned;
  }

  #odd(): number {
    return Math.max(ODD_LEAST, ODD_NOISES * this.#noise.share);
  }

  #addUsual(value: number): void {
    const values = this.#values;
    const off = value - this.#usual;
    const isOdd = this.count >= SURE && Math.abs(off) > this.#odd();
    if (values.length === MEMORY) values.shift();
    values.push(value);
    const length = Math.abs(this.#streak);
    if (!isOdd) {
      // A change is told from chance by how often odd ones came before; those in a row count when they have ended.
      const weight = Math.min(1, (length + 1) / Math.max(this.#trials, MEMORY));
      this.#oddShare += weight * (length / (length + 1) - this.#oddShare);
      this.#streak = 0;
      return;
    }
    this.#streak = off > 0 === this.#streak > 0 ? this.#streak + Math.sign(off) : Math.sign(off);
    const inRow = Math.abs(this.#streak);
    if (Math.max(this.#oddShare, ODD_SHARE_LEAST) ** inRow > CHANCE_LEAST) return;
    this.#values = values.slice(-inRow); // S3
    this.#streak = 0;
    this.#trials = 0;
    this.#oddShare = 0;
  }

  /** The batch before it does not count here: a trial may have begun because that one took long. */
  #addAll(seen: number, after: number): void {
    if (this.#trials < TAIL_MEMORY) this.#trials++;
    const weight = 1 / this.#trials;
    this.#toMs += weight * (seen - this.#toMs);
    this.#toSquares += weight * (seen * seen - this.#toSquares);
    this.#fromMs += weight * (after - this.#fromMs);
    this.#fromSquares += weight * (after * after - this.#fromSquares);
  }

  #weigh(): void {
    this.#weighUsual();
    this.#weighTail();
  }

  /** The mean of those that are like the median; of two the better, as odd ones are slow. */
  #weighUsual(): void {
    const sorted = [...this.#values].sort((one, other) => one - other);
    if (sorted.length === 0) return;
    const median = sorted[(sorted.length - 1) >> 1] as number;
    const odd = this.#odd();
    let count = 0;
    let sum = 0;
    let squares = 0;
    for (const value of sorted) {
      const off = value - median;
      if (Math.abs(off) > odd) continue;
      count++;
      sum += off;
      squares += off * off;
    }
    const prior = PRIOR_COUNT * (TRIAL_NOISES * this.#noise.share) ** 2;
    const deviations = Math.max(0, squares - (sum * sum) / count);
    this.count = count;
    this.#usual = median + sum / count;
    this.error = Math.sqrt((deviations + prior) / (count - 1 + PRIOR_COUNT) / count);
  }

  #weighTail(): void {
    this.mean = this.#usual;
    this.hope = this.#usual;
    if (this.#trials === 0) return;
    // Where one side has shown no odd one yet it may have as many as the other.
    const variation = Math.max(this.#toSquares / this.#toMs ** 2, this.#fromSquares / this.#fromMs ** 2) - 1;
    const error = Math.sqrt((2 * Math.max(0, variation)) / this.#trials);
    const tail = Math.log(this.#toMs / this.#fromMs) - this.#usual;
    const sure = Math.abs(tail) - TAIL_DOUBT * error;
    this.hope += tail - error;
    if (this.count > 0 && this.#trials >= TAIL_LEAST && sure > 0) this.mean += Math.sign(tail) * sure;
  }
}
