/**
 * What a batch of n records costs, learned from the batches of one bucket.
 *
 * Two views of the same evidence: a line a + b * n, for people and for sizes nobody has tried, and the mean cost by class
 * of size (1, 2, 4 …), because some models get slower per record with size, which no line shows. Evidence of a size that
 * is not used any more stays, until a jump says that the machine or the model is no longer the same.
 *
 * C1 costs are never negative, never fall with n where only the line speaks, and beyond the sizes that were seen grow no
 * faster than twice in proportion. C2 one odd batch moves a mean by a
 * bounded share of it; several in a row on the same side are a jump, and then all that was known is rescaled and doubted.
 * C3 no clock, no chance: the same observations give the same beliefs.
 */

import { classOf } from './size-trials.js';

/** Newest weight in the mean of a class that has seen so many batches or more. */
const MEMORY = 16;
/** Beyond so many spreads, or a tenth, an observation is odd. */
const ODD_SPREADS = 4;
const ODD_LEAST = 0.1;
/** So many odd ones in a row on the same side are a jump. */
const JUMP_AFTER = 4;
/** Relative spread that is assumed until batches have shown theirs. */
const PRIOR_SPREAD = 0.1;
/** Per batch; after a hundred a long one counts for a third. */
const FADE = 0.99;
/** A batch of no measurable cost costs this; what divides by costs needs one. */
const LEAST_MS = 1e-3;
/** A warm-up run weighs as much as so many batches. */
const SEED_COUNT = 3;
/** Of so many first batches of a class the fastest counts: what is slower by this share was cold, or had bad luck. */
const FEW = 3;
const COLD_SHARE = 0.7;

/** Mean size and cost of batches of about the same size. */
export class SizeClass {
  /** Batches seen; 0: known only from before a jump. */
  count = 1;
  constructor(
    readonly index: number,
    public size: number,
    public ms: number,
    /** Number of the batch that was observed last in this class. */
    public lastAt: number,
  ) {}
}

export class CostModel {
  /** Typical deviation of a batch from what was expected of it, as a share. */
  spread = PRIOR_SPREAD;
  /** Batches observed, seeds not counted. */
  batchCount = 0;
  jumpCount = 0;
  /** Longest batch of late; an old one fades. */
  longestMs = 0;
  /** By size, ascending; few. */
  readonly classes: SizeClass[] = [];
  #fixedMs = 0;
  #perItemMs = 0;
  /** The line is drawn when somebody looks at it. */
  #lineIsStale = false;
  #streak = 0;
  #streakLog = 0;

  /** Fixed part of a batch, by the line. */
  get fixedMs(): number {
    if (this.#lineIsStale) this.#fit();
    return this.#fixedMs;
  }

  /** What each record adds, by the line. */
  get perItemMs(): number {
    if (this.#lineIsStale) this.#fit();
    return this.#perItemMs;
  }

  get isEmpty(): boolean {
    return this.classes.length === 0;
  }

  /** From the warm-up: what a batch of this size took. It weighs little, as its records were not real. */
  seed(size: number, ms: number): void {
    const index = classOf(size);
    if (this.#find(index) !== undefined) return;
    this.#add(size, Math.max(ms, LEAST_MS));
    (this.#find(index) as SizeClass).count = SEED_COUNT;
  }

  /** A batch of `size` took `ms`. */
  observe(size: number, ms: number): void {
    this.batchCount++;
    this.#lineIsStale = true;
    let seen = Math.max(ms, LEAST_MS);
    this.longestMs = Math.max(seen, this.longestMs * FADE);
    const index = classOf(size);
    let one = this.#find(index);
    if (one === undefined) {
      this.#add(size, seen);
      return;
    }
    const expected = this.predict(size);
    const ratio = seen / expected;
    const odd = Math.max(ODD_SPREADS * this.spread, ODD_LEAST);
    // Of a class that was hardly seen nothing is odd.
    if (one.count >= FEW) {
      if (ratio <= 1 + odd && ratio >= 1 / (1 + odd)) this.#streak = 0;
      else if (this.#isJump(ratio)) one = this.#find(index) as SizeClass;
      else seen = ratio > 1 ? expected * (1 + odd) : expected / (1 + odd); // C2
    }
    const deviation = Math.abs(seen / this.predict(size) - 1);
    // The assumed spread weighs as much as three batches.
    this.spread += (1.25 * Math.min(deviation, 1) - this.spread) / Math.min(this.batchCount + 3, MEMORY);
    one.lastAt = this.batchCount;
    const isFew = one.count < FEW;
    if (isFew && seen < COLD_SHARE * one.ms) {
      one.ms = seen;
      one.size = size;
    } else if (!isFew || seen * COLD_SHARE <= one.ms) {
      const weight = 1 / (Math.min(one.count, MEMORY - 1) + 1);
      one.ms += weight * (seen - one.ms);
      one.size += weight * (size - one.size);
    }
    one.count++;
  }

  /** Expected cost of a batch of n; 0 while nothing is known. */
  predict(n: number): number {
    const { classes } = this;
    const count = classes.length;
    if (count === 0) return 0;
    const first = classes[0] as SizeClass;
    if (n <= first.size) {
      if (count === 1) return first.ms;
      return Math.max(first.ms - this.perItemMs * (first.size - n), (first.ms * n) / first.size);
    }
    let below = first;
    for (let i = 1; i < count; i++) {
      const above = classes[i] as SizeClass;
      if (n <= above.size) return below.ms + ((above.ms - below.ms) * (n - below.size)) / (above.size - below.size);
      if (i < count - 1) below = above;
    }
    const top = classes[count - 1] as SizeClass;
    // Of one size alone nobody can tell the fixed part: that all of it grows with n is the careful guess.
    const inProportion = top.ms / top.size;
    // Two neighbouring classes can have nearly the same mean size, and then what divides by their distance says anything.
    const slope =
      count === 1
        ? inProportion
        : Math.min(2 * inProportion, Math.max(this.perItemMs, (top.ms - below.ms) / (top.size - below.size)));
    return top.ms + slope * (n - top.size);
  }

  /** More than one size stands behind what is predicted for n, and those next to it were seen so often each. */
  knows(n: number, seen: number): boolean {
    const { classes } = this;
    if (classes.length < 2) return false;
    let above = 0;
    while (above < classes.length - 1 && (classes[above] as SizeClass).size < n) above++;
    const { size, count } = classes[above] as SizeClass;
    if (count < seen) return false;
    return above === 0 || size <= n || (classes[above - 1] as SizeClass).count >= seen;
  }

  #find(index: number): SizeClass | undefined {
    const { classes } = this;
    for (let i = 0; i < classes.length; i++) if ((classes[i] as SizeClass).index === index) return classes[i];
    return undefined;
  }

  #add(size: number, ms: number): void {
    const { classes } = this;
    const index = classOf(size);
    let at = classes.length;
    while (at > 0 && (classes[at - 1] as SizeClass).index > index) at--;
    this.#lineIsStale = true;
    classes.splice(at, 0, new SizeClass(index, size, ms, this.batchCount));
  }

  /** True when this odd one makes a jump; everything known is then rescaled to it, and counts for little. */
  #isJump(ratio: number): boolean {
    const isSlower = ratio > 1;
    if (this.#streak > 0 !== isSlower) {
      this.#streak = 0;
      this.#streakLog = 0;
    }
    this.#streak += isSlower ? 1 : -1;
    this.#streakLog += Math.log(ratio);
    const length = Math.abs(this.#streak);
    if (length < JUMP_AFTER) return false;
    const scale = Math.exp(this.#streakLog / length);
    for (let i = this.classes.length - 1; i >= 0; i--) {
      const one = this.classes[i] as SizeClass;
      // Twice removed from what was seen says nothing any more, and a third time would say nonsense.
      if (one.count === 0) this.classes.splice(i, 1);
    }
    for (const one of this.classes) {
      one.ms *= scale;
      one.count = 0;
      one.lastAt = -Infinity;
    }
    this.spread = Math.max(this.spread, PRIOR_SPREAD);
    this.jumpCount++;
    this.#streak = 0;
    this.#streakLog = 0;
    return true;
  }

  /** Weighted least squares over the classes; deviations count as shares, or the largest batches would decide alone. */
  #fit(): void {
    const { classes } = this;
    this.#lineIsStale = false;
    let w = 0;
    let wn = 0;
    let wd = 0;
    let wnn = 0;
    let wnd = 0;
    for (let i = 0; i < classes.length; i++) {
      const { size, ms, count } = classes[i] as SizeClass;
      const weight = Math.min(Math.max(count, 1), MEMORY) / (ms * ms);
      w += weight;
      wn += weight * size;
      wd += weight * ms;
      wnn += weight * size * size;
      wnd += weight * size * ms;
    }
    const determinant = w * wnn - wn * wn;
    if (classes.length < 2 || determinant <= 0) {
      this.#perItemMs = wnd / wnn;
      this.#fixedMs = 0;
      return;
    }
    const slope = (w * wnd - wn * wd) / determinant;
    const start = (wd - slope * wn) / w;
    if (slope < 0) {
      this.#perItemMs = 0; // C1
      this.#fixedMs = wd / w;
    } else if (start < 0) {
      this.#perItemMs = wnd / wnn;
      this.#fixedMs = 0;
    } else {
      this.#perItemMs = slope;
      this.#fixedMs = start;
    }
  }
}
