import type { AsyncBatchStats } from '../actor/async-batch.js';
import type { BreakerState } from '../core/breaker.js';

/**
 * What an infer step did so far: the ten figures of Flink's AsyncBatch under their names, counted for the batches that
 * its records were in (a batch may hold records of others too) when they ended, and the step's own.
 */
export interface StepMetrics extends AsyncBatchStats {
  /** Place of the step in the pipeline, from 0. */
  readonly step: number;
  /** Name of its pool. */
  readonly pool: string;
  /** Records that are with the pool now. */
  readonly recordsInPool: number;
  /** Tries beyond the first, of single records. */
  readonly retries: number;
  /** Retries that the retry budget refused. */
  readonly budgetRefusals: number;
  /** Records that the breaker of the step refused. */
  readonly breakerRefusals: number;
  /** Tries that ran out of time, and records that expired while they waited. */
  readonly timeouts: number;
  /** Of the breaker of the step; undefined where it has none. */
  readonly breaker: BreakerState | undefined;
}
