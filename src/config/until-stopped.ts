import type { Source, SourceReader } from '../stream/source.js';

/**
 * A source that ends when `stop` aborts: what was read finishes its way, nothing more is read. A read that is open then
 * is not waited for; what it still brings was never handed to the pipeline.
 */
export function untilStopped<T>(source: Source<T>, stop: AbortSignal): Source<T> {
  return { name: source.name, open: async () => new StoppableReader(await source.open(), stop) };
}

type Chunk<T> = Awaited<ReturnType<SourceReader<T>['read']>>;

class StoppableReader<T> implements SourceReader<T> {
  readonly #inner: SourceReader<T>;
  readonly #stop: AbortSignal;
  readonly #onStop = (): void => this.#endRead();
  /** Ends the read that is open. One slot, not a race against a lasting promise, which would collect every read ever made. */
  #endRead: () => void = () => undefined;

  constructor(inner: SourceReader<T>, stop: AbortSignal) {
    this.#inner = inner;
    this.#stop = stop;
    stop.addEventListener('abort', this.#onStop);
  }

  read(max: number): Chunk<T> | Promise<Chunk<T>> {
    if (this.#stop.aborted) return undefined;
    const chunk = this.#inner.read(max);
    if (!(chunk instanceof Promise)) return chunk;
    return new Promise((resolve, reject) => {
      this.#endRead = () => resolve(undefined);
      chunk.then(resolve, reject);
    });
  }

  close(): void | Promise<void> {
    this.#stop.removeEventListener('abort', this.#onStop);
    return this.#inner.close();
  }
}
