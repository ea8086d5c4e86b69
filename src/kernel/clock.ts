import { performance } from 'node:perf_hooks';

/** The only door to time. Instants are monotonic milliseconds (`now`); `wallNow` is for people and files alone. */
export interface Clock {
  /** Monotonic milliseconds with fraction; never goes back, whatever happens to the wall clock. */
  now(): number;
  /** Milliseconds since 1970. */
  wallNow(): number;
  /** Calls `fn` once, not before the instant `at`. Instants further away than a timer can hold are waited for in steps. */
  at(at: number, fn: () => void): Timer;
}

export interface Timer {
  cancel(): void;
  /**
   * Whether the process stays alive for it; at first it does. To let one rest and hold it again costs less than to cancel
   * it and make another. Absent where there is no process to hold.
   */
  hold?(isHeld: boolean): void;
}

/** setTimeout takes at most 2^31 - 1 ms; above that Node fires after 1 ms. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  wallNow: () => performance.timeOrigin + performance.now(),
  at(at, fn) {
    let handle: NodeJS.Timeout;
    let isHeld = true;
    const arm = (): void => {
      const delayMs = at - performance.now();
      // setTimeout may fire up to 1 ms early against performance.now(); rounding up keeps "not before".
      handle = delayMs > MAX_DELAY_MS ? setTimeout(arm, MAX_DELAY_MS) : setTimeout(fn, Math.max(0, Math.ceil(delayMs)));
      if (!isHeld) handle.unref();
    };
    arm();
    return {
      cancel: () => clearTimeout(handle),
      hold: (hold) => {
        isHeld = hold;
        if (hold) handle.ref();
        else handle.unref();
      },
    };
  },
};
