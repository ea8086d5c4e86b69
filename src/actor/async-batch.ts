import type { BatchCall } from '../core/effects.js';
import { Histogram, type HistogramSummary } from '../telemetry/histogram.js';

/**
 * The ten figures of Flink's AsyncBatch operator (FLINK-38825), by its names. All are counted when a batch has ended, so
 * a batch is never counted and then lost.
 */
export interface AsyncBatchStats {
  /** Records per batch. */
  readonly batchSize: HistogramSummary;
  /** From the acceptance of the oldest record of a batch to its send. */
  readonly batchLatencyMs: HistogramSummary;
  /** From the send to the answer. */
  readonly asyncCallDurationMs: HistogramSummary;
  /** Batches that are with replicas now. */
  readonly inflightBatches: number;
  readonly totalBatchesProcessed: number;
  /** Records that batches settled; one that was tried again counts once. */
  readonly totalRecordsProcessed: number;
  /** Batches that failed as a whole, or whose replica ended. */
  readonly asyncCallFailures: number;
  /** Batches that have ended and wait for an earlier one to be emitted; always 0 for a pool, which keeps no order. */
  readonly pendingOrderedBatches: number;
  /** Batches that were sent to try records again. */
  readonly batchRetryCount: number;
  /** Batches in which time ran out while they ran. */
  readonly batchTimeoutCount: number;
}

/** Counts the calls of one pool or one step. */
export class AsyncBatchMeter {
  readonly size = new Histogram();
  readonly waitedMs = new Histogram();
  readonly durationMs = new Histogram();
  #batches = 0;
  #records = 0;
  #failures = 0;
  #retries = 0;
  #timeouts = 0;

  /** A call has ended. */
  count(end: BatchCall): void {
    this.size.record(end.size);
    this.waitedMs.record(end.waitedMs);
    this.durationMs.record(end.durationMs);
    this.#batches++;
    this.#records += end.settledCount;
    if (!end.answered) this.#failures++;
    if (end.trigger === 'split' || end.trigger === 'quarantine' || end.trigger === 'retry') this.#retries++;
    if (end.timedOut) this.#timeouts++;
  }

  stats(inflightBatches: number, pendingOrderedBatches: number): AsyncBatchStats {
    return {
      batchSize: this.size.summary(),
      batchLatencyMs: this.waitedMs.summary(),
      asyncCallDurationMs: this.durationMs.summary(),
      inflightBatches,
      totalBatchesProcessed: this.#batches,
      totalRecordsProcessed: this.#records,
      asyncCallFailures: this.#failures,
      pendingOrderedBatches,
      batchRetryCount: this.#retries,
      batchTimeoutCount: this.#timeouts,
    };
  }
}
