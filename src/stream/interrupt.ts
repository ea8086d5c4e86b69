export const INTERRUPTED = Symbol('interrupted');
export const NOT_YET = Symbol('not yet');

/**
 * Ends every wait of one run at once: reads of a source that has nothing, user functions that never return, writes to
 * a stopped reader. Promise.race against one long-lived abort promise would keep every loser alive for the whole run;
 * here a wait leaves nothing behind when it ends.
 */
export class Interrupt {
  #isSet = false;
  readonly #waits = new Set<() => void>();

  get isSet(): boolean {
    return this.#isSet;
  }

  set(): void {
    if (this.#isSet) return;
    this.#isSet = true;
    const waits = [...this.#waits];
    this.#waits.clear();
    for (const end of waits) end();
  }

  /** The outcome of `promise`, or INTERRUPTED as soon as the run ends; the promise's own later outcome is then of no interest. */
  guard<T>(promise: PromiseLike<T>): Promise<T | typeof INTERRUPTED> {
    return new Promise((resolve, reject) => {
      const end = (): void => resolve(INTERRUPTED);
      if (this.#isSet) end();
      else this.#waits.add(end);
      promise.then(
        (value) => {
          this.#waits.delete(end);
          resolve(value);
        },
        (reason: unknown) => {
          this.#waits.delete(end);
          reject(reason);
        },
      );
    });
  }
}

/** Waits for at most one turn of the event loop: lets work that is as good as done join a chunk without holding it back. */
export function soon<T>(promise: Promise<T>): Promise<T | typeof NOT_YET> {
  return new Promise((resolve, reject) => {
    const turn = setImmediate(() => resolve(NOT_YET));
    promise.then(
      (value) => {
        clearImmediate(turn);
        resolve(value);
      },
      (reason: unknown) => {
        clearImmediate(turn);
        reject(reason);
      },
    );
  });
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
