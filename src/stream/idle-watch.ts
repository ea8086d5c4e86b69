/**
 * Notices that a step stands still: `isIdle` holds and nothing has come for at least one whole turn of the event loop.
 * Costs nothing while the step is busy, and at most two immediates at a time while it is not.
 */
export class IdleWatch {
  readonly #isIdle: () => boolean;
  readonly #progress: () => number;
  readonly #onIdle: () => void;
  #immediate: NodeJS.Immediate | undefined;
  #turns = 0;
  #mark = 0;

  /** `progress` is a count that moves with whatever comes. */
  constructor(isIdle: () => boolean, progress: () => number, onIdle: () => void) {
    this.#isIdle = isIdle;
    this.#progress = progress;
    this.#onIdle = onIdle;
  }

  /** To be called whenever `isIdle` may have become true. */
  look(): void {
    if (this.#immediate !== undefined || !this.#isIdle()) return;
    this.#turns = 0;
    this.#mark = this.#progress();
    this.#immediate = setImmediate(this.#turn);
  }

  close(): void {
    clearImmediate(this.#immediate);
  }

  readonly #turn = (): void => {
    this.#immediate = undefined;
    if (!this.#isIdle()) return;
    if (this.#progress() !== this.#mark) {
      this.look();
      return;
    }
    // The first immediate may come in the turn in which it was set: only the second has seen a whole one.
    this.#turns += 1;
    if (this.#turns === 2) this.#onIdle();
    else this.#immediate = setImmediate(this.#turn);
  };
}
