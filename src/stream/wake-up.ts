import type { Interrupt } from './interrupt.js';

/** One waits, others wake: a promise for each wait, and nothing for a wake-up that nobody waits for. */
export class WakeUp {
  #wake: (() => void) | undefined;
  readonly #interrupt: Interrupt;

  constructor(interrupt: Interrupt) {
    this.#interrupt = interrupt;
  }

  get isAwaited(): boolean {
    return this.#wake !== undefined;
  }

  /** Resolves at the next `wake`, or when the run ends. One waits at a time. */
  async wait(): Promise<void> {
    await this.#interrupt.guard(new Promise<void>((resolve) => (this.#wake = resolve)));
    this.#wake = undefined;
  }

  wake(): void {
    const wake = this.#wake;
    if (wake === undefined) return;
    // Once only: resolving a promise again is slow in Node, and hundreds of records may settle before it is looked at.
    this.#wake = undefined;
    wake();
  }
}
