import { FarEvents, Scheduled } from './far-events.js';

/** Behind the last; it is never scheduled. */
const END = new Scheduled();
END.next = END;

/** So many events, and what comes behind them waits elsewhere; twice as many, and the rest goes there. */
const LONG = 64;

/**
 * The seeded scheduler of the simulator: what is to happen, in the order of (time, seeded tie-break, scheduling).
 *
 * Events are numbers and one reference in objects that serve again and again, not closures, because a run of a hundred
 * thousand scenarios spends much of its time here. Two events of the same instant come in an order that the seed decides.
 *
 * The order is a linked list: a pool has a dozen things ahead of it, most new ones are among the next, and a few steps
 * through a short list cost less than the guesses of a heap. Where many wait, those far ahead stand in a heap after all.
 *
 * Q1 time never goes back. Q2 an event is in the list, in the heap or free, and free once it was popped. Q3 nothing in the
 * heap comes before anything in the list, and the list is empty only where the heap is.
 */
export class Scheduler {
  /** Virtual milliseconds. */
  now = 0;
  // The event popped last.
  kind = 0;
  a = 0;
  size = 0;
  #popped = END;
  #first = END;
  #free = END;
  readonly #far = new FarEvents();
  #tieState: number;

  constructor(seed: number) {
    this.#tieState = seed | 1;
  }

  /** Begins anew, as if just made, in the room it has. */
  reset(seed: number): void {
    this.now = 0;
    for (let event = this.#first; event !== END; event = this.#first) {
      this.#first = event.next;
      event.next = this.#free;
      this.#free = event;
    }
    this.#far.clear();
    for (let event = this.#free; event !== END; event = event.next) event.ref = undefined;
    this.#popped = END;
    this.size = 0;
    this.#tieState = seed | 1;
  }

  /** Of the event popped last, to be read before the next is scheduled: what was there is forgotten when it serves again. */
  get ref(): unknown {
    return this.#popped.ref;
  }

  /** Instant of the next event, Infinity for none. */
  get nextAt(): number {
    return this.#first.at;
  }

  /** Adds an event; an instant that has passed means now (Q1). */
  schedule(at: number, kind: number, a: number, ref: unknown): void {
    const event = this.#free === END ? new Scheduled() : this.#free;
    if (event === this.#free) this.#free = event.next;
    // xorshift32; a stream of its own, so that no other draw shifts the order of ties. It repeats nothing within a run.
    let tie = this.#tieState;
    tie ^= tie << 13;
    tie ^= tie >>> 17;
    tie ^= tie << 5;
    this.#tieState = tie;
    // Compared as if it had no sign.
    tie ^= 0x80000000;
    const when = at < this.now ? this.now : at;
    event.at = when;
    event.tie = tie;
    event.kind = kind;
    event.a = a;
    event.ref = ref;
    this.size++;
    let next = this.#first;
    if (when < next.at || (when === next.at && tie < next.tie)) {
      event.next = next;
      this.#first = event;
      return;
    }
    let before = next;
    next = next.next;
    while (next.at < when || (next.at === when && next.tie < tie)) {
      before = next;
      next = next.next;
    }
    if (next === END && (this.size > LONG || this.#far.size > 0)) {
      this.#far.push(event);
      return;
    }
    event.next = next;
    before.next = event;
    if (this.size - this.#far.size > 2 * LONG) this.#cut();
  }

  /** Takes the next event into `kind`, `a`, `ref` and moves `now` to it; false when there is none. */
  pop(): boolean {
    const event = this.#first;
    if (event === END) return false;
    this.size--;
    this.now = event.at;
    this.kind = event.kind;
    this.a = event.a;
    this.#popped = event;
    this.#first = event.next;
    event.next = this.#free;
    this.#free = event;
    if (this.#first === END && this.#far.size > 0) this.#refill();
    return true;
  }

  /** Q3: the first of the far ones are near now. */
  #refill(): void {
    let last = (this.#first = this.#far.pop());
    for (let count = 1; count < LONG && this.#far.size > 0; count++) last = last.next = this.#far.pop();
    last.next = END;
  }

  /** The list has grown in its middle: its second half is far. */
  #cut(): void {
    let last = this.#first;
    for (let count = 1; count < LONG; count++) last = last.next;
    for (let event = last.next; event !== END; ) {
      const { next } = event;
      this.#far.push(event);
      event = next;
    }
    last.next = END;
  }
}
