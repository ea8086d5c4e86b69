import type { Clock } from '../kernel/clock.js';

const EVERY_MS = 10;

/**
 * Gives way to the event loop. Steps of one run that always have an answer hand it on in microtasks, and while those
 * last no timer, signal or socket has its turn: every loop that may run long without giving anything downstream asks
 * here once for each chunk. One for a run, so that a run of many steps gives way no more often than one of few.
 */
export class FairTurn {
  readonly #clock: Clock;
  #givenAt: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#givenAt = clock.now();
  }

  /** Resolves when the event loop has had its turn; undefined while it is not due. */
  give(): Promise<void> | undefined {
    if (this.#clock.now() - this.#givenAt < EVERY_MS) return undefined;
    return new Promise((resolve) =>
      setImmediate(() => {
        this.#givenAt = this.#clock.now();
        resolve();
      }),
    );
  }
}
