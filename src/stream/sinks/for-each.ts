import { isThenable } from '../interrupt.js';
import { checkFunction } from '../options.js';
import type { Sink } from '../sink.js';

/** Calls `fn` for every value, one after the other; a promise holds the pipeline back. Throwing ends the run with SINK_FAILED. */
export function forEach<T>(fn: (value: T) => unknown): Sink<T> {
  checkFunction('forEach', fn);
  return {
    name: 'forEach',
    write: (values) => {
      for (let index = 0; index < values.length; index += 1) {
        const done = fn(values[index] as T);
        if (isThenable(done)) return finish(fn, values, index + 1, done);
      }
      return undefined;
    },
    close: () => undefined,
  };
}

async function finish<T>(
  fn: (value: T) => unknown,
  values: readonly T[],
  from: number,
  first: PromiseLike<unknown>,
): Promise<void> {
  await first;
  for (let index = from; index < values.length; index += 1) await fn(values[index] as T);
}
