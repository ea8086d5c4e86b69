import type { Clock } from '../kernel/clock.js';
import { isThenable } from './interrupt.js';

export const TOO_LATE = Symbol('too late');

/** The outcome of `promise`, or TOO_LATE after `ms`; what comes of the promise later is then of no interest. */
export function within<T>(clock: Clock, ms: number, promise: PromiseLike<T>): Promise<T | typeof TOO_LATE> {
  return new Promise((resolve, reject) => {
    const timer = clock.at(clock.now() + ms, () => resolve(TOO_LATE));
    promise.then(
      (value) => {
        timer.cancel();
        resolve(value);
      },
      (reason: unknown) => {
        timer.cancel();
        reject(reason);
      },
    );
  });
}

/** Ends a part of a run; rejects when that fails, or takes longer than `ms`. `what`: the call, in words. */
export async function endWithin(clock: Clock, ms: number, what: string, end: () => unknown): Promise<void> {
  const ending = end();
  if (!isThenable(ending) || (await within(clock, ms, ending)) !== TOO_LATE) return;
  throw new Error(`${what} did not end within ${ms} ms (closeTimeoutMs)`);
}
