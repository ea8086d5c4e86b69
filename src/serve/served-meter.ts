import { systemClock } from '../kernel/clock.js';
import type { Exposition } from '../telemetry/exposition.js';
import { SERVED_OUTCOMES, type ServedOutcome } from './oip-status.js';
import type { ServedModel } from './served-models.js';

/** Of one model: requests, not records. */
export interface ServedCounts {
  success: number;
  successMs: number;
  fail: number;
  failMs: number;
  records: number;
  /** Milliseconds since 1970; 0 before the first. */
  lastAt: number;
}

/** What is counted of the requests of clients: by model for the statistics of the protocol, by pool for a scrape. */
export class ServedMeter {
  /** There are no more than models; names of clients' choice never get here. */
  readonly #models = new Map<string, ServedCounts>();
  readonly #pools = new Map<string, Map<ServedOutcome, number>>();

  /** Counts what `work` does, which resolves to its number of records. */
  async during(
    served: ServedModel,
    work: () => Promise<number>,
    outcomeOf: (error: unknown) => ServedOutcome,
  ): Promise<void> {
    const startedAt = systemClock.now();
    let outcome: ServedOutcome = 'ok';
    let records = 0;
    try {
      records = await work();
    } catch (error) {
      outcome = outcomeOf(error);
      throw error;
    } finally {
      this.count(served, outcome, systemClock.now() - startedAt, records);
    }
  }

  count({ pool, name }: ServedModel, outcome: ServedOutcome, tookMs: number, records: number): void {
    const outcomes = this.#pools.get(pool.name) ?? new Map<ServedOutcome, number>();
    this.#pools.set(pool.name, outcomes);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    const counts = this.of(name);
    this.#models.set(name, counts);
    counts.lastAt = Math.round(systemClock.wallNow());
    if (outcome === 'ok') {
      counts.success++;
      counts.successMs += tookMs;
      counts.records += records;
    } else {
      counts.fail++;
      counts.failMs += tookMs;
    }
  }

  of(model: string): ServedCounts {
    return this.#models.get(model) ?? { success: 0, successMs: 0, fail: 0, failMs: 0, records: 0, lastAt: 0 };
  }

  collect(into: Exposition): void {
    for (const [pool, outcomes] of this.#pools) {
      for (const outcome of SERVED_OUTCOMES)
        into.add('troupe_served_requests_total', { pool, outcome }, outcomes.get(outcome) ?? 0);
    }
  }
}
