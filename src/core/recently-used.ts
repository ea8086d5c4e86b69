import { LRUCache } from 'lru-cache';

/**
 * The door to lru-cache: values by key in the order of their last use, and the sum of their bytes.
 *
 * It never evicts by itself: what may go, and when there is room again, is decided by whoever holds it, for a model that
 * works cannot go and memory is free only when its unload has ended. So the limit of the cache itself is out of reach.
 */
export class RecentlyUsed<Value extends object> {
  readonly #cache = new LRUCache<string, Value>({ maxSize: Number.MAX_SAFE_INTEGER });

  get count(): number {
    return this.#cache.size;
  }

  /** The sum of the sizes; what holds nothing counts for one byte. */
  get bytes(): number {
    return this.#cache.calculatedSize;
  }

  /** Without counting as a use. */
  peek(key: string): Value | undefined {
    return this.#cache.peek(key);
  }

  /** Puts it at the end of the order; again, where its size has changed. */
  put(key: string, value: Value, bytes: number): void {
    this.#cache.delete(key); // A value that is there already would keep the size it had.
    this.#cache.set(key, value, { size: Math.max(1, bytes) });
  }

  /** It was used. */
  touch(key: string): void {
    this.#cache.get(key);
  }

  remove(key: string): void {
    this.#cache.delete(key);
  }

  /** The one used longest ago first. */
  leastRecent(): IterableIterator<Value> {
    return this.#cache.rvalues() as IterableIterator<Value>;
  }
}
