import type { AsyncBatchMeter } from '../actor/async-batch.js';
import { BREAKER_STATES } from '../actor/pool-metrics.js';
import type { Exposition } from '../telemetry/exposition.js';
import { FAMILIES } from '../telemetry/families.js';
import type { LatencyWindow } from '../telemetry/latency.js';
import type { Report } from './report.js';
import type { StepMetrics } from './step-metrics.js';

/** What a step counts, and the histograms it only sums up there. */
export interface StepMeters {
  readonly metrics: StepMetrics;
  readonly calls: AsyncBatchMeter;
}

/** One run as a scrape sees it. */
export interface RunMeters {
  readonly name: string;
  /** The report so far: so the counters of a scrape are those of the report. */
  readonly report: Report;
  readonly held: number;
  readonly isRunning: boolean;
  readonly latencyMs: LatencyWindow;
  readonly steps: readonly StepMeters[];
}

export function collectRun(into: Exposition, { name, report, held, isRunning, latencyMs, steps }: RunMeters): void {
  const of = { pipeline: name };
  into.add('troupe_pipelines_running', of, isRunning ? 1 : 0);
  into.add('troupe_pipeline_held_records', of, held);
  const outcomes = {
    result: report.results,
    failed: report.failed,
    'dead-letter': report.deadLetters,
    filtered: report.filtered,
  };
  for (const [outcome, count] of Object.entries(outcomes))
    into.add('troupe_pipeline_records_total', { ...of, outcome }, count);
  into.add('troupe_pipeline_fallbacks_total', of, report.fallbacks);
  for (const [code, count] of Object.entries(report.errors))
    into.add('troupe_pipeline_errors_total', { ...of, code }, count);
  into.addDistribution(
    'troupe_pipeline_latency_seconds',
    of,
    latencyMs.distribution(FAMILIES.troupe_pipeline_latency_seconds.bounds),
  );
  const { checkpoints } = report;
  if (checkpoints !== undefined) {
    into.add('troupe_checkpoints_total', { ...of, outcome: 'written' }, checkpoints.written);
    into.add('troupe_checkpoints_total', { ...of, outcome: 'failed' }, checkpoints.failed);
  }
  for (const step of steps) collectStep(into, name, step);
}

function collectStep(into: Exposition, pipeline: string, { metrics, calls }: StepMeters): void {
  const of = { pipeline, step: String(metrics.step), pool: metrics.pool };
  into.add('troupe_step_records_in_pool', of, metrics.recordsInPool);
  into.add('troupe_step_retries_total', of, metrics.retries);
  into.add('troupe_step_retry_refusals_total', of, metrics.budgetRefusals);
  into.add('troupe_step_timeouts_total', of, metrics.timeouts);
  into.add('troupe_step_breaker_refusals_total', of, metrics.breakerRefusals);
  if (metrics.breaker !== undefined) {
    for (const state of BREAKER_STATES)
      into.add('troupe_step_breaker_state', { ...of, state }, metrics.breaker === state ? 1 : 0);
  }
  into.addDistribution('async_batch_batchSize', of, calls.size.distribution(FAMILIES.async_batch_batchSize.bounds));
  into.addDistribution(
    'async_batch_batchLatencyMs',
    of,
    calls.waitedMs.distribution(FAMILIES.async_batch_batchLatencyMs.bounds),
  );
  into.addDistribution(
    'async_batch_asyncCallDurationMs',
    of,
    calls.durationMs.distribution(FAMILIES.async_batch_asyncCallDurationMs.bounds),
  );
  into.add('async_batch_inflightBatches', of, metrics.inflightBatches);
  into.add('async_batch_totalBatchesProcessed', of, metrics.totalBatchesProcessed);
  into.add('async_batch_totalRecordsProcessed', of, metrics.totalRecordsProcessed);
  into.add('async_batch_asyncCallFailures', of, metrics.asyncCallFailures);
  into.add('async_batch_pendingOrderedBatches', of, metrics.pendingOrderedBatches);
  into.add('async_batch_batchRetryCount', of, metrics.batchRetryCount);
  into.add('async_batch_batchTimeoutCount', of, metrics.batchTimeoutCount);
}
