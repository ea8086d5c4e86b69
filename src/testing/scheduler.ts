/**
 * The seeded scheduler of the simulator: what is to happen, in the order of (time, seeded tie-break, scheduling).
 *
 * Events are numbers and one reference in parallel arrays, not closures, because a run of a hundred thousand scenarios
 * spends most of its time here. Two events of the same instant come in an order that the seed decides.
 *
 * The order is a sorted list with the next event at its end: a pool has a dozen things ahead of it, most new ones are
 * among the next, and a few steps through a short list cost less than the guesses of a heap.
 *
 * Q1 time never goes back. Q2 a slot is in the list or on the free list, never both.
 */
export class Scheduler {
  /** Virtual milliseconds. */
  now = 0;
  // The event popped last.
  kind = 0;
  a = 0;
  size = 0;
  #popped = 0;

  #at = new Float64Array(64);
  #tie = new Uint32Array(64);
  #kind = new Uint8Array(64);
  #a = new Int32Array(64);
  readonly #ref: unknown[] = [];
  /** Slots, the next event last. */
  #order = new Int32Array(64);
  #free = new Int32Array(64);
  #freeCount = 0;
  #slots = 0;
  #tieState: number;

  constructor(seed: number) {
    this.#tieState = seed | 1;
  }

  /** Begins anew, as if just made, in the room it has. */
  reset(seed: number): void {
    this.now = 0;
    for (let slot = 0; slot < this.#slots; slot++) this.#ref[slot] = undefined;
    this.#freeCount = 0;
    this.#slots = 0;
    this.size = 0;
    this.#tieState = seed | 1;
  }

  /**
   * Of the event popped last, to be read before the next is scheduled. It is not copied out of its slot, nor taken from
   * there: to write a reference costs more than the rest of `pop`. What was there is forgotten when the slot is used again.
   */
  get ref(): unknown {
    return this.#ref[this.#popped];
  }

  /** Instant of the next event, Infinity for none. */
  get nextAt(): number {
    return this.size === 0 ? Infinity : (this.#at[this.#order[this.size - 1] as number] as number);
  }

  /** Adds an event; an instant that has passed means now (Q1). */
  schedule(at: number, kind: number, a: number, ref: unknown): void {
    const slot = this.#takeSlot();
    const when = at < this.now ? this.now : at;
    // xorshift32; a stream of its own, so that no other draw shifts the order of ties.
    let tie = this.#tieState;
    tie ^= tie << 13;
    tie ^= tie >>> 17;
    tie ^= tie << 5;
    this.#tieState = tie;
    tie >>>= 0;
    this.#at[slot] = when;
    this.#tie[slot] = tie;
    this.#kind[slot] = kind;
    this.#a[slot] = a;
    this.#ref[slot] = ref;
    const order = this.#order;
    const ats = this.#at;
    let place = this.size++;
    if (place > LONG) place = this.#makeRoom(when, tie, place);
    for (; place > 0; place--) {
      const other = order[place - 1] as number;
      const otherAt = ats[other] as number;
      if (otherAt > when || (otherAt === when && (this.#tie[other] as number) > tie)) break;
      order[place] = other;
    }
    order[place] = slot;
  }

  /** Takes the next event into `kind`, `a`, `ref` and moves `now` to it; false when there is none. */
  pop(): boolean {
    if (this.size === 0) return false;
    const slot = this.#order[--this.size] as number;
    this.now = this.#at[slot] as number;
    this.kind = this.#kind[slot] as number;
    this.a = this.#a[slot] as number;
    this.#popped = slot;
    this.#free[this.#freeCount++] = slot;
    return true;
  }

  #takeSlot(): number {
    if (this.#freeCount > 0) return this.#free[--this.#freeCount] as number;
    if (this.#slots === this.#at.length) this.#grow();
    if (this.#slots === this.#ref.length) this.#ref.push(undefined);
    return this.#slots++;
  }

  #grow(): void {
    const size = this.#at.length * 2;
    this.#at = grown(this.#at, new Float64Array(size));
    this.#tie = grown(this.#tie, new Uint32Array(size));
    this.#kind = grown(this.#kind, new Uint8Array(size));
    this.#a = grown(this.#a, new Int32Array(size));
    this.#order = grown(this.#order, new Int32Array(size));
    this.#free = grown(this.#free, new Int32Array(size));
  }

  /** In a long list the place is found by halving, and what comes before it is moved along in one piece. */
  #makeRoom(at: number, tie: number, size: number): number {
    let low = 0;
    let high = size;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#order[middle] as number;
      const otherAt = this.#at[other] as number;
      if (otherAt > at || (otherAt === at && (this.#tie[other] as number) > tie)) low = middle + 1;
      else high = middle;
    }
    this.#order.copyWithin(low + 1, low, size);
    return low;
  }
}

/** From so many events on, halving and moving beats stepping. */
const LONG = 64;

function grown<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
