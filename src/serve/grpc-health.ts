import { systemClock, type Timer } from '../kernel/clock.js';

/** Whether a server is ready, for those who want to be told when that changes. */

export type HealthStatus = 'SERVING' | 'NOT_SERVING';

const PROBE_MS = 1000;

/** One probe serves all who watch, and there is none while nobody does. */
export class HealthWatch {
  readonly #told = new Set<(status: HealthStatus) => void>();
  readonly #isReady: () => Promise<boolean>;
  #timer: Timer | undefined;

  constructor(isReady: () => Promise<boolean>) {
    this.#isReady = isReady;
  }

  async status(): Promise<HealthStatus> {
    return (await this.#isReady()) ? 'SERVING' : 'NOT_SERVING';
  }

  /** Tells the status each time it is found out; ends by the function that is given back. */
  watch(tell: (status: HealthStatus) => void): () => void {
    this.#told.add(tell);
    if (this.#told.size === 1) this.#arm();
    return () => {
      this.#told.delete(tell);
      if (this.#told.size === 0) this.#timer?.cancel();
    };
  }

  #arm(): void {
    this.#timer = systemClock.at(systemClock.now() + PROBE_MS, () => void this.#probe());
    this.#timer.hold?.(false);
  }

  async #probe(): Promise<void> {
    const status = await this.status();
    for (const tell of [...this.#told]) tell(status);
    // Who watches may have gone, and another come, meanwhile.
    this.#timer?.cancel();
    if (this.#told.size > 0) this.#arm();
  }
}
