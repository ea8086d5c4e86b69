/**
 * The answers that a pool has given, to be given again to equal records.
 *
 * Owns what is kept and for how long. What a record is found by, and whether it may be looked for, is decided by whoever
 * asks (actor/cached-intake.ts).
 *
 * N1 bytes <= maxBytes, always: what was used longest ago makes room first. N2 nothing older than ttlMs is found. N3 what one
 * edition was kept for no other finds: the next begins where another generation of replicas serves, and when somebody says so.
 */

import { RecentlyUsed } from './recently-used.js';

export interface CacheLimits {
  readonly maxBytes: number;
  /** Infinity: an answer is as good as it was. */
  readonly ttlMs: number;
}

/** One answer. */
export interface Kept {
  readonly key: string;
  readonly value: unknown;
  /** The version that made it. */
  readonly version: string | undefined;
  /** From this instant on it is not given any more. */
  readonly staleAt: number;
}

/**
 * What an answer takes beside its value: its key of 32 characters, its object, and its places in the tables of the cache.
 * Counted in the heap of Node 20 with 100,000 answers it is 210 bytes; tables that have just grown are half empty.
 */
export const KEPT_BYTES = 320;

export class ResultCache {
  readonly limits: CacheLimits;
  /** Answers that went because others needed their room, and because of their age. */
  readonly evictions = { room: 0, ttl: 0 };
  #kept = new RecentlyUsed<Kept>();
  #edition = 0;
  #generation = 0;

  constructor(limits: CacheLimits) {
    this.limits = limits;
  }

  get count(): number {
    return this.#kept.count;
  }

  get bytes(): number {
    return this.#kept.count === 0 ? 0 : this.#kept.bytes;
  }

  /** N3. The edition in which this generation of replicas is asked. */
  editionOf(generation: number): number {
    if (generation !== this.#generation) {
      this.#generation = generation;
      this.forget();
    }
    return this.#edition;
  }

  /** The answer to what has this key, in the edition now. */
  find(key: string, now: number): Kept | undefined {
    const kept = this.#kept.peek(key);
    if (kept === undefined) return undefined;
    if (kept.staleAt <= now) {
      this.#kept.remove(key);
      this.evictions.ttl++;
      return undefined;
    }
    this.#kept.touch(key);
    return kept;
  }

  /** `valueBytes`: what the value holds. What is of another edition, or larger than all there is, is not kept. */
  keep(
    key: string,
    edition: number,
    value: unknown,
    valueBytes: number,
    version: string | undefined,
    now: number,
  ): void {
    const bytes = KEPT_BYTES + valueBytes;
    if (edition !== this.#edition || bytes > this.limits.maxBytes) return;
    const kept = this.#kept;
    kept.remove(key);
    while (this.bytes + bytes > this.limits.maxBytes) {
      const oldest = kept.leastRecent().next().value as Kept;
      kept.remove(oldest.key);
      this.evictions[oldest.staleAt <= now ? 'ttl' : 'room']++;
    }
    kept.put(key, { key, value, version, staleAt: now + this.limits.ttlMs }, bytes);
  }

  /** Begins another edition, with nothing in it. */
  forget(): void {
    this.#edition++;
    this.#kept = new RecentlyUsed<Kept>();
  }
}
