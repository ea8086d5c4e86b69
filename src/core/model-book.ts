/**
 * What is known of each model of a pool, whether or not it is loaded: how much it holds, how long its load takes, whether
 * it may be tried, and what has happened to it.
 *
 * K1 after a load that failed the next try waits, longer each time, so that a broken model costs little. K2 bounded: of
 * more models than MODELS_MAX, those not in use are forgotten, the longest known first.
 */

import type { TroupeError } from '../kernel/errors.js';

const BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 60_000;
const MODELS_MAX = 4096;

export class KnownModel {
  /** What it is taken to hold: by its files, then by what its load said; undefined before somebody has looked. */
  bytes: number | undefined = undefined;
  isLocating = false;
  /** What its last load took; 0 before the first. */
  loadMs = 0;
  /** Failures since the last load that succeeded. */
  failures = 0;
  /** K1. */
  failedUntil = -Infinity;
  error: TroupeError | undefined = undefined;
  loadCount = 0;
  failureCount = 0;
  evictionCount = 0;
  /** Batches that found it loaded. */
  hitCount = 0;
  constructor(readonly key: string) {}

  /** Returns how long nobody tries it again. */
  failed(error: TroupeError, now: number): number {
    const waitMs = Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** this.failures);
    this.failures++;
    this.failureCount++;
    this.error = error;
    this.failedUntil = now + waitMs;
    return waitMs;
  }

  loaded(loadMs: number, bytes: number): void {
    this.loadMs = loadMs;
    this.bytes = bytes;
    this.failures = 0;
    this.error = undefined;
    this.failedUntil = -Infinity;
    this.loadCount++;
  }
}

export class ModelBook {
  readonly #models = new Map<string, KnownModel>();
  readonly #isInUse: (key: string) => boolean;

  constructor(isInUse: (key: string) => boolean) {
    this.#isInUse = isInUse;
  }

  peek(key: string): KnownModel | undefined {
    return this.#models.get(key);
  }

  get(key: string): KnownModel {
    let model = this.#models.get(key);
    if (model === undefined) {
      if (this.#models.size >= MODELS_MAX) this.#forgetOne();
      model = new KnownModel(key);
      this.#models.set(key, model);
    }
    return model;
  }

  all(): IterableIterator<KnownModel> {
    return this.#models.values();
  }

  #forgetOne(): void {
    for (const key of this.#models.keys()) {
      if (this.#isInUse(key)) continue;
      this.#models.delete(key);
      return;
    }
  }
}
