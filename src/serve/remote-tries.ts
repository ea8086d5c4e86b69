import { systemClock } from '../kernel/clock.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { Backoff, pause } from '../stream/backoff.js';
import { NoReply } from './guarded-http.js';

const FIRST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 2000;

/**
 * Tries a server again whose failure may pass, and spares one that cannot be reached: then one call tries, and the others
 * wait until it comes through.
 */
export class RemoteTries {
  /** Tries that were a further one. */
  retries = 0;
  /** While the server cannot be reached: aborted as soon as it was. */
  #scout: AbortController | undefined;

  /** What `once` gives; rejects with its last error where that may not pass, or after `retryForMs`. */
  async run<T>(once: () => Promise<T>, retryForMs: number, signal: AbortSignal): Promise<T> {
    const until = systemClock.now() + retryForMs;
    const backoff = new Backoff({ attempts: Infinity, backoffMs: FIRST_WAIT_MS, maxBackoffMs: LONGEST_WAIT_MS });
    /** Set while this call is the one that tries. */
    let scout: AbortController | undefined;
    try {
      for (;;) {
        try {
          return await once();
        } catch (error) {
          if (!isTroupeError(error) || error.code !== 'REMOTE_UNAVAILABLE') throw error;
          const isUnreached = error.cause instanceof NoReply && error.cause.kind === 'unreached';
          if (!isUnreached) scout = this.#leave(scout);
          const other = isUnreached && this.#scout !== scout ? this.#scout : undefined;
          const leftMs = until - systemClock.now();
          const waitMs = other === undefined ? (backoff.next(error.retryAfterMs) ?? Infinity) : leftMs;
          // Whoever tries again later is told how much later.
          if (leftMs <= 0 || (other === undefined && waitMs >= leftMs)) throw error;
          if (isUnreached && other === undefined) scout = this.#scout ??= new AbortController();
          await pause(waitMs, other === undefined ? signal : AbortSignal.any([signal, other.signal]));
          if (signal.aborted) throw new TroupeError('CANCELLED', error.message, { cause: error });
          this.retries++;
        }
      }
    } finally {
      this.#leave(scout);
    }
  }

  #leave(scout: AbortController | undefined): undefined {
    if (scout === undefined) return;
    this.#scout = undefined;
    scout.abort();
  }
}
