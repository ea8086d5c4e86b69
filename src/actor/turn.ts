/**
 * Runs a task once at the end of the current turn: after every promise continuation that is ready now has run, so that
 * asks made one after another meet in one batch. One microtask and one tick per turn, nothing per record.
 */
export class Turn {
  readonly #task: () => void;
  #isDue = false;

  constructor(task: () => void) {
    this.#task = task;
  }

  schedule(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    // nextTick alone would run before the microtasks when called from the top of a callback.
    queueMicrotask(this.#afterMicrotasks);
  }

  readonly #afterMicrotasks = (): void => {
    process.nextTick(this.#run);
  };

  readonly #run = (): void => {
    this.#isDue = false;
    this.#task();
  };
}
