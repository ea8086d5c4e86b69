/**
 * What the results of a new version say of it, beside those of the old one over the same time.
 *
 * Only the latest results count, some hundreds of records and some dozens of batches, so that a version that turns bad
 * late is found as fast as one that was bad from the start. J1 a version whose records all fail is found within 50 of
 * them. J2 one that fails as often as the old one is not blamed for it. J3 latency is compared by batch, for as many
 * records as the batch had, and by how many were slow and not by how slow: a few pauses of the host blame nobody.
 */

export interface TrialLimits {
  /** The share of failed records may exceed the old version's by as much. */
  readonly errorRate: number;
  /** A batch is slow when it takes so many times as long as the old version takes for as many records. */
  readonly latencyFactor: number;
  /** Fewer records of the new version than this say nothing. */
  readonly minRecords: number;
}

export const TRIAL_DEFAULTS: TrialLimits = { errorRate: 0.05, latencyFactor: 2, minRecords: 20 };

export interface Verdict {
  readonly reason: 'errors' | 'latency';
  readonly what: string;
}

/** J1: with this many failed records, chance is no explanation that is looked for. */
const FAILED_ENOUGH = 50;
/** So many standard deviations above what is allowed are no chance. */
const SIGNIFICANT = 3;
const RECORDS_WINDOW = 250;
const BATCHES_WINDOW = 16;
/** Fewer batches than a window say nothing of latency, for the first ones run cold; of those that take long, these do. */
const BATCHES_LEAST = 5;
const BATCHES_LEAST_MS = 2000;
/** J3: a batch that takes longer by less than this is not slow; clocks and schedulers are that coarse. */
const SLACK_MS = 5;
/** One batch that runs so many times as long as a slow one, and at least so long, is waited for no longer. */
const OVERDUE_FACTOR = 5;
const OVERDUE_LEAST_MS = 500;
const NEWEST_WEIGHT = 0.2;

export class Trial {
  readonly #limits: TrialLimits;
  readonly #old = new Latest(RECORDS_WINDOW);
  readonly #new = new Latest(RECORDS_WINDOW);
  /** Batches of the new version, and how many of them were slow. */
  readonly #slow = new Latest(BATCHES_WINDOW);
  #newMs = 0;
  /** What a batch of the old version takes, by the power of two its size is in. */
  readonly #oldMs: (number | undefined)[] = [];

  constructor(limits: TrialLimits) {
    this.#limits = limits;
  }

  /** A batch was answered, or failed for good: so many of its records failed. */
  observe(isNew: boolean, records: number, failed: number, durationMs: number): void {
    this.ended(isNew, records, failed);
    this.took(isNew, records, durationMs);
  }

  /** Records have their outcome. */
  ended(isNew: boolean, records: number, failed: number): void {
    (isNew ? this.#new : this.#old).add(records, failed);
  }

  /** A batch of so many records has come back. */
  took(isNew: boolean, records: number, durationMs: number): void {
    if (!isNew) {
      const at = sizeClass(records);
      const before = this.#oldMs[at];
      this.#oldMs[at] = before === undefined ? durationMs : before + NEWEST_WEIGHT * (durationMs - before);
      return;
    }
    this.#newMs += durationMs;
    this.#slow.add(1, durationMs > this.#slowMs(records) ? 1 : 0);
  }

  /** What is held against the new version, if anything. */
  verdict(): Verdict | undefined {
    const { errorRate, latencyFactor, minRecords } = this.#limits;
    const { count, marked: failed } = this.#new;
    if (count < minRecords) return undefined;
    const allowed = Math.min(1, this.#old.rate + errorRate);
    const expected = allowed * count;
    const chance = failed >= FAILED_ENOUGH ? 0 : SIGNIFICANT * Math.sqrt(expected * (1 - allowed));
    if (failed > expected + chance || (failed === count && errorRate < 1 && this.#old.rate < 1)) {
      const what = `${failed} of its latest ${count} records failed, ${percent(this.#old.rate)} of the old version's did`;
      return { reason: 'errors', what };
    }
    const { count: batches, marked: slow } = this.#slow;
    const least = this.#newMs < BATCHES_LEAST_MS ? BATCHES_WINDOW : BATCHES_LEAST;
    if (batches < least || 2 * slow <= batches) return undefined;
    const what = `${slow} of its latest ${batches} batches took more than ${latencyFactor} times as long as the old version's`;
    return { reason: 'latency', what };
  }

  /** A batch of so many records that has run this long without an answer is held against the new version; Infinity: never. */
  overdueMs(records: number): number {
    return Math.max(OVERDUE_LEAST_MS, OVERDUE_FACTOR * this.#slowMs(records));
  }

  #slowMs(records: number): number {
    return Math.max(this.#limits.latencyFactor * this.#expectedMs(records), SLACK_MS);
  }

  /** In favour of the new version where the old one shows no batch of this size; Infinity where it shows none at all. */
  #expectedMs(records: number): number {
    const at = sizeClass(records);
    for (let larger = at; larger < this.#oldMs.length; larger++) {
      const ms = this.#oldMs[larger];
      if (ms !== undefined) return ms;
    }
    for (let smaller = at - 1; smaller >= 0; smaller--) {
      const ms = this.#oldMs[smaller];
      if (ms !== undefined) return ms * 2 ** (at - smaller);
    }
    return Infinity;
  }
}

/** Counts over the latest things, of which some are marked; between one and two windows long. */
class Latest {
  readonly #window: number;
  #count = 0;
  #marked = 0;
  #countBefore = 0;
  #markedBefore = 0;

  constructor(window: number) {
    this.#window = window;
  }

  get count(): number {
    return this.#count + this.#countBefore;
  }

  get marked(): number {
    return this.#marked + this.#markedBefore;
  }

  get rate(): number {
    return this.count === 0 ? 0 : this.marked / this.count;
  }

  add(count: number, marked: number): void {
    this.#count += count;
    this.#marked += marked;
    if (this.#count < this.#window) return;
    this.#countBefore = this.#count;
    this.#markedBefore = this.#marked;
    this.#count = 0;
    this.#marked = 0;
  }
}

function sizeClass(records: number): number {
  return 31 - Math.clz32(Math.max(1, records));
}

function percent(rate: number): string {
  return `${Math.round(rate * 1000) / 10} %`;
}
