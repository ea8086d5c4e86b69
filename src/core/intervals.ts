export type Interval = readonly [from: number, end: number];

/**
 * A set of whole numbers from 0 that fills up from below, in any order. Adding costs O(1); memory grows with the gaps
 * between its intervals, never with how many numbers are in it.
 */
export class Intervals {
  #floor: number;
  /** Of the intervals above the floor: begin to end (exclusive), and back. */
  readonly #ends = new Map<number, number>();
  readonly #begins = new Map<number, number>();
  /** What it was made with, sorted; the only part that can be asked for single numbers. */
  readonly #initial: readonly Interval[];
  #count: number;

  /** `initial`: sorted intervals above `floor` that do not touch each other. */
  constructor(floor = 0, initial: readonly Interval[] = []) {
    this.#floor = floor;
    this.#initial = initial;
    this.#count = floor;
    for (const [from, end] of initial) {
      this.#ends.set(from, end);
      this.#begins.set(end, from);
      this.#count += end - from;
    }
  }

  /** The lowest number that is not in. */
  get floor(): number {
    return this.#floor;
  }

  /** How many numbers are in. */
  get count(): number {
    return this.#count;
  }

  /** Adds a number that is not in; to add it twice is the caller's error and is not always seen. */
  add(n: number): void {
    this.#count += 1;
    if (n === this.#floor) {
      this.#floor = n + 1;
      if (this.#ends.size === 0) return;
      const end = this.#ends.get(this.#floor);
      if (end === undefined) return;
      this.#ends.delete(this.#floor);
      this.#begins.delete(end);
      this.#floor = end;
      return;
    }
    const from = this.#begins.get(n) ?? n;
    const end = this.#ends.get(n + 1) ?? n + 1;
    if (from !== n) this.#begins.delete(n);
    if (end !== n + 1) this.#ends.delete(n + 1);
    this.#ends.set(from, end);
    this.#begins.set(end, from);
  }

  /** Whether `n` was in from the beginning. O(log of the gaps there were then). */
  hadInitially(n: number): boolean {
    let low = 0;
    let high = this.#initial.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#initial[middle] as Interval)[1] <= n) low = middle + 1;
      else high = middle;
    }
    const found = this.#initial[low];
    return found !== undefined && found[0] <= n;
  }

  /** The intervals above the floor, sorted. */
  aboveFloor(): Interval[] {
    return [...this.#ends].sort((a, b) => a[0] - b[0]);
  }
}
