import type { Clock, Timer } from '../kernel/clock.js';
import { Histogram } from './histogram.js';

const EVERY_MS = 50;

/** How long what is due waits for the event loop: a timer that keeps no process alive and notes how late it is. */
export class EventLoopWatch {
  readonly delay = new Histogram();
  readonly #clock: Clock;
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  start(): void {
    if (this.#timer === undefined) this.#arm();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(): void {
    const dueAt = this.#clock.now() + EVERY_MS;
    const timer = this.#clock.at(dueAt, () => {
      this.delay.record(Math.max(0, this.#clock.now() - dueAt));
      this.#arm();
    });
    timer.hold?.(false);
    this.#timer = timer;
  }
}
