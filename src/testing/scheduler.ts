/**
 * The seeded scheduler of the simulator: a binary heap on (time, seeded tie-break, order of scheduling).
 *
 * Events are numbers and one reference in parallel arrays, not closures, because a run of a hundred thousand scenarios
 * spends most of its time here. Two events of the same instant come in an order that the seed decides.
 *
 * Q1 time never goes back. Q2 a slot is in the heap or on the free list, never both.
 */
export class Scheduler {
  /** Virtual milliseconds. */
  now = 0;
  // The event popped last.
  kind = 0;
  a = 0;
  ref: unknown = undefined;

  #at = new Float64Array(64);
  #tie = new Uint32Array(64);
  #id = new Float64Array(64);
  #kind = new Uint8Array(64);
  #a = new Int32Array(64);
  readonly #ref: unknown[] = [];
  #heap = new Int32Array(64);
  #free = new Int32Array(64);
  #freeCount = 0;
  #slots = 0;
  #size = 0;
  #lastId = 0;
  #tieState: number;

  constructor(seed: number) {
    this.#tieState = seed | 1;
  }

  /** Begins anew, as if just made, in the room it has. */
  reset(seed: number): void {
    this.now = 0;
    this.ref = undefined;
    this.#ref.fill(undefined);
    this.#freeCount = 0;
    this.#slots = 0;
    this.#size = 0;
    this.#lastId = 0;
    this.#tieState = seed | 1;
  }

  get size(): number {
    return this.#size;
  }

  /** Instant of the next event, Infinity for none. */
  get nextAt(): number {
    return this.#size === 0 ? Infinity : (this.#at[this.#heap[0] as number] as number);
  }

  /** Adds an event; an instant that has passed means now (Q1). */
  schedule(at: number, kind: number, a: number, ref: unknown): void {
    const slot = this.#takeSlot();
    this.#at[slot] = at < this.now ? this.now : at;
    // xorshift32; a stream of its own, so that no other draw shifts the order of ties.
    let tie = this.#tieState;
    tie ^= tie << 13;
    tie ^= tie >>> 17;
    tie ^= tie << 5;
    this.#tieState = tie;
    this.#tie[slot] = tie;
    this.#id[slot] = ++this.#lastId;
    this.#kind[slot] = kind;
    this.#a[slot] = a;
    this.#ref[slot] = ref;
    this.#up(this.#size++, slot);
  }

  /** Takes the next event into `kind`, `a`, `ref` and moves `now` to it; false when there is none. */
  pop(): boolean {
    if (this.#size === 0) return false;
    const slot = this.#heap[0] as number;
    const last = this.#heap[--this.#size] as number;
    if (this.#size > 0) this.#down(last);
    this.now = this.#at[slot] as number;
    this.kind = this.#kind[slot] as number;
    this.a = this.#a[slot] as number;
    this.ref = this.#ref[slot];
    this.#ref[slot] = undefined;
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
    this.#id = grown(this.#id, new Float64Array(size));
    this.#kind = grown(this.#kind, new Uint8Array(size));
    this.#a = grown(this.#a, new Int32Array(size));
    this.#heap = grown(this.#heap, new Int32Array(size));
    this.#free = grown(this.#free, new Int32Array(size));
  }

  #before(one: number, other: number): boolean {
    const at = this.#at[one] as number;
    const otherAt = this.#at[other] as number;
    if (at !== otherAt) return at < otherAt;
    const tie = this.#tie[one] as number;
    const otherTie = this.#tie[other] as number;
    if (tie !== otherTie) return tie < otherTie;
    return (this.#id[one] as number) < (this.#id[other] as number);
  }

  #up(from: number, slot: number): void {
    const heap = this.#heap;
    let at = from;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt] as number;
      if (!this.#before(slot, parent)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = slot;
  }

  #down(slot: number): void {
    const heap = this.#heap;
    const size = this.#size;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= size) break;
      if (childAt + 1 < size && this.#before(heap[childAt + 1] as number, heap[childAt] as number)) childAt++;
      const child = heap[childAt] as number;
      if (!this.#before(child, slot)) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = slot;
  }
}

function grown<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
