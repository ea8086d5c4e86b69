import type { Clock, Timer } from '../kernel/clock.js';
import { Scheduler } from './scheduler.js';

/** Runaway guard: so many timers in one `advance` means that each sets the next without time passing. */
const MAX_TIMERS_PER_ADVANCE = 1_000_000;

/**
 * A clock that stands still until it is told to move. Timers run inside `advance`, in the order of their instants; two
 * of the same instant run in an order decided by the seed. The wall clock is a second hand of its own: `jumpWall`
 * moves it and no timer notices, as with the real pair.
 */
export class VirtualClock implements Clock {
  readonly #scheduler: Scheduler;
  #wallOffsetMs: number;
  #armedCount = 0;

  constructor({ seed = 1, wallMs = 1_700_000_000_000 }: { seed?: number; wallMs?: number } = {}) {
    this.#scheduler = new Scheduler(seed);
    this.#wallOffsetMs = wallMs;
  }

  now(): number {
    return this.#scheduler.now;
  }

  wallNow(): number {
    return this.#scheduler.now + this.#wallOffsetMs;
  }

  at(at: number, fn: () => void): Timer {
    const timer = { fn: fn as (() => void) | undefined };
    this.#scheduler.schedule(at, 0, 0, timer);
    this.#armedCount++;
    return {
      cancel: () => {
        if (timer.fn === undefined) return;
        timer.fn = undefined;
        this.#armedCount--;
      },
    };
  }

  /** Timers set and neither run nor cancelled. */
  get timerCount(): number {
    return this.#armedCount;
  }

  /** Lets `ms` pass and runs every timer that falls due, those set meanwhile included. */
  advance(ms: number): void {
    if (!(ms >= 0)) throw new TypeError(`ms must be a number of at least 0; got ${String(ms)}`);
    this.advanceTo(this.#scheduler.now + ms);
  }

  advanceTo(at: number): void {
    const scheduler = this.#scheduler;
    for (let ran = 0; scheduler.nextAt <= at; ran++) {
      if (ran > MAX_TIMERS_PER_ADVANCE) {
        throw new Error(`more than ${MAX_TIMERS_PER_ADVANCE} timers ran up to ${at} ms: one sets the next at once`);
      }
      scheduler.pop();
      const timer = scheduler.ref as { fn: (() => void) | undefined };
      const { fn } = timer;
      if (fn === undefined) continue;
      timer.fn = undefined;
      this.#armedCount--;
      fn();
    }
    if (at > scheduler.now) scheduler.now = at;
  }

  /** Moves the wall clock, forwards or back, as an administrator or a daylight-saving bug would. */
  jumpWall(ms: number): void {
    this.#wallOffsetMs += ms;
  }
}
