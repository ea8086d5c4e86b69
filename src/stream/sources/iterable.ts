import { checkKeys, refuse } from '../options.js';
import type { Source, SourceItem, SourceReader } from '../source.js';

export interface FromIterableOptions {
  /**
   * Iterating anew gives the same values again, also in another process: a resumed run counts to where it was. Without it
   * a resumed run gives what was under way again, from the checkpoint, and then whatever the iterable gives. Default: true
   * for an array, false for everything else.
   */
  replayable?: boolean;
}

/**
 * Reads an array, a generator or any (async) iterable, as fast as the pipeline has room and no faster. An iterator is
 * given back by its `return()` when the run ends before it does. A one-shot iterator can be run once.
 */
export function fromIterable<T>(
  iterable: Iterable<T> | AsyncIterable<T>,
  options: FromIterableOptions = {},
): Source<T> {
  const given: unknown = iterable;
  if (typeof given !== 'object' || given === null || !(Symbol.iterator in given || Symbol.asyncIterator in given)) {
    refuse('fromIterable', 'given an array, an iterable or an async iterable', given);
  }
  checkKeys('fromIterable', options, ['replayable']);
  const { replayable = Array.isArray(iterable) } = options;
  if (typeof replayable !== 'boolean') refuse('replayable', 'true or false', replayable);
  return {
    name: 'iterable',
    open: async (from) => {
      const reader =
        Symbol.asyncIterator in iterable
          ? new AsyncReader(iterable[Symbol.asyncIterator]())
          : new SyncReader(iterable[Symbol.iterator]());
      return replayable ? counting(reader, (from?.position as number | undefined) ?? 0) : reader;
    },
    ...(Array.isArray(iterable) ? { count: () => iterable.length } : {}),
  };
}

const SKIP_AT_ONCE = 1024;

/** With the number of values given so far as position; skips to where it is to begin. */
async function counting<T>(reader: SourceReader<T>, from: number): Promise<SourceReader<T>> {
  let count = 0;
  const counted = (values: readonly SourceItem<T>[] | undefined): readonly SourceItem<T>[] | undefined => {
    count += values?.length ?? 0;
    return values;
  };
  while (count < from && counted(await reader.read(Math.min(SKIP_AT_ONCE, from - count))) !== undefined);
  return {
    read: (max) => {
      const values = reader.read(max);
      return values instanceof Promise ? values.then(counted) : counted(values);
    },
    position: () => count,
    close: () => reader.close(),
  };
}

class SyncReader<T> implements SourceReader<T> {
  #hasEnded = false;

  constructor(private readonly iterator: Iterator<T>) {}

  read(max: number): readonly T[] | undefined {
    const values: T[] = [];
    try {
      while (!this.#hasEnded && values.length < max) {
        const step = checkStep(this.iterator.next());
        if (step.done === true) this.#hasEnded = true;
        else values.push(step.value);
      }
    } catch (cause) {
      // An iterator that threw is finished and wants no return().
      this.#hasEnded = true;
      throw cause;
    }
    return values.length > 0 ? values : undefined;
  }

  close(): void {
    if (!this.#hasEnded) this.iterator.return?.();
    this.#hasEnded = true;
  }
}

/**
 * Takes what comes within one turn of the event loop as one chunk, so that an async generator over memory costs no
 * pipeline round per record, and a slow one holds nothing back. At most one value is read beyond what was asked for.
 */
class AsyncReader<T> implements SourceReader<T> {
  #values: T[] = [];
  #wanted = 0;
  #isReading = false;
  #hasEnded = false;
  #failure: { readonly reason: unknown } | undefined;
  #deliver: (() => void) | undefined;
  #turn: NodeJS.Immediate | undefined;

  constructor(private readonly iterator: AsyncIterator<T>) {}

  async read(max: number): Promise<readonly T[] | undefined> {
    if (this.#values.length === 0 && !this.#hasEnded) {
      this.#wanted = max;
      const delivery = new Promise<void>((resolve) => {
        this.#deliver = resolve;
      });
      if (!this.#isReading) this.#next();
      await delivery;
      clearImmediate(this.#turn);
      this.#turn = undefined;
      this.#deliver = undefined;
      this.#wanted = 0;
    }
    if (this.#values.length > 0) return this.#values.splice(0, max);
    if (this.#failure !== undefined) throw this.#failure.reason;
    return undefined;
  }

  async close(): Promise<void> {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearImmediate(this.#turn);
    const returned = Promise.resolve(this.iterator.return?.());
    // While a next() is open a generator queues the return behind it, perhaps for ever: it is asked for, not waited for.
    if (this.#isReading) returned.catch(() => undefined);
    else await returned;
  }

  #next(): void {
    this.#isReading = true;
    // An iterator written by hand may throw at once or answer without a promise.
    new Promise<IteratorResult<T>>((resolve) => resolve(this.iterator.next())).then(checkStep).then(
      (step) => {
        this.#isReading = false;
        if (step.done === true) this.#end();
        else this.#take(step.value);
      },
      (reason: unknown) => {
        this.#isReading = false;
        this.#failure = { reason };
        this.#end();
      },
    );
  }

  #take(value: T): void {
    if (this.#hasEnded) return;
    this.#values.push(value);
    if (this.#deliver === undefined) return;
    if (this.#values.length >= this.#wanted) {
      this.#deliver();
      return;
    }
    this.#turn ??= setImmediate(this.#deliver);
    this.#next();
  }

  #end(): void {
    this.#hasEnded = true;
    this.#deliver?.();
  }
}

/** As for...of has it; without the check an iterator that gives numbers would never end. */
function checkStep<T>(step: IteratorResult<T>): IteratorResult<T> {
  if (typeof step === 'object' && step !== null) return step;
  throw new TypeError(`The iterator gave a ${typeof step}, not { done, value }`);
}
