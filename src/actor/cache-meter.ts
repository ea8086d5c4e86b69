import { modelOf } from '../core/model-key.js';
import type { ResultCache } from '../core/result-cache.js';

/** What `pool.stats()` says of the answers that the pool keeps. */
export interface CacheStats {
  /** Answers held, and what they take with what they are found by. */
  readonly records: number;
  readonly bytes: number;
  readonly maxBytes: number;
  /** Records answered from the cache; they count among `accepted` and `results`, and are in no batch. */
  readonly hits: number;
  /** Records that were looked for in vain, and went to a replica. */
  readonly misses: number;
  /** Records that were not looked for: with a key, told, no plain data, or while a version is on trial. */
  readonly bypassed: number;
  /** Answers that had to go for others, and those found too old. */
  readonly evictions: number;
  readonly expired: number;
}

/** Of a pool, or of one of its models. */
export interface CacheCounts {
  hits: number;
  /** Finding the answers and copying them. */
  hitMs: number;
  misses: number;
  /** Looking for them, and keeping what came back. */
  missMs: number;
}

const none = (): CacheCounts => ({ hits: 0, hitMs: 0, misses: 0, missMs: 0 });

/** Counts what a cache was good for. */
export class CacheMeter {
  bypassed = 0;
  readonly total = none();
  /** There are no more than models; names of clients' choice never get here. */
  readonly #models = new Map<string, CacheCounts>();
  readonly #cache: ResultCache;

  constructor(cache: ResultCache) {
    this.#cache = cache;
  }

  /** Of one of many models, by its name. */
  of(model: string): Readonly<CacheCounts> {
    return this.#models.get(model) ?? none();
  }

  /** `key` here: that of the model, where there are many. */
  hit(key: string | undefined, tookMs: number): void {
    for (const counts of this.#counts(key)) {
      counts.hits++;
      counts.hitMs += tookMs;
    }
  }

  missed(key: string | undefined, tookMs: number): void {
    for (const counts of this.#counts(key)) {
      counts.misses++;
      counts.missMs += tookMs;
    }
  }

  /** The answer to one that was missed has been kept. */
  kept(key: string | undefined, tookMs: number): void {
    for (const counts of this.#counts(key)) counts.missMs += tookMs;
  }

  stats(): CacheStats {
    const { count: records, bytes, limits, evictions } = this.#cache;
    const { hits, misses } = this.total;
    const { maxBytes } = limits;
    const { bypassed } = this;
    return { records, bytes, maxBytes, hits, misses, bypassed, evictions: evictions.room, expired: evictions.ttl };
  }

  #counts(key: string | undefined): readonly CacheCounts[] {
    if (key === undefined) return [this.total];
    const model = modelOf(key);
    let counts = this.#models.get(model);
    if (counts === undefined) {
      counts = none();
      this.#models.set(model, counts);
    }
    return [this.total, counts];
  }
}
