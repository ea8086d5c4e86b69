import { TroupeError } from 'troupe/actor';

/** One call: it ends with the batch it belongs to, by whoever gives it up, or when its answer is too long in coming. */
export class RemoteCall {
  readonly #own = new AbortController();
  readonly #batch: AbortSignal;
  readonly #timeoutMs: number;
  readonly #timer: NodeJS.Timeout;
  #isLate = false;

  constructor(batch: AbortSignal, timeoutMs: number) {
    this.#batch = batch;
    this.#timeoutMs = timeoutMs;
    this.#timer = setTimeout(() => {
      this.#isLate = true;
      this.abort();
    }, timeoutMs);
    batch.addEventListener('abort', this.abort);
    if (batch.aborted) this.abort();
  }

  get signal(): AbortSignal {
    return this.#own.signal;
  }

  readonly abort = (): void => this.#own.abort();

  /** An answer has begun, and takes as long as it takes. */
  begun(): void {
    clearTimeout(this.#timer);
  }

  end(): void {
    this.begun();
    this.#batch.removeEventListener('abort', this.abort);
  }

  /** The client tells every end of ours as an abort, or as the end of the text. */
  reasonOf(error: unknown): unknown {
    if (this.#isLate) return new Error(`no answer within ${this.#timeoutMs} ms`);
    if (this.signal.aborted)
      return new TroupeError('CANCELLED', 'nobody waits for the answer any more', { cause: error });
    return error;
  }
}
