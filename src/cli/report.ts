import type { PoolStats } from '../actor/stats.js';
import type { ErrorCode } from '../kernel/errors.js';
import type { Report } from '../stream/report.js';
import { countText, durationText, numberText, plainText, tableText } from '../control/text.js';

/**
 * One run in figures, as `--json` prints it: its pipelines added up, with the duration and the latencies of the slowest.
 * Counts add up: records = results + failed + deadLetters.
 */
export interface RunReport extends Omit<Report, 'metrics' | 'checkpoints' | 'delivery'> {
  /** Batches of all pools since they began, and how many records one held on average. */
  readonly batches: number;
  readonly meanBatchSize: number;
  /** How often replicas of all pools were restarted. */
  readonly restarts: number;
}

/** Adds up the reports of pipelines that ran beside each other, and what their pools say of themselves. */
export function summarizeRun(reports: readonly Report[], pools: readonly PoolStats[]): RunReport {
  const sum = (of: (report: Report) => number): number => reports.reduce((total, report) => total + of(report), 0);
  const most = (of: (report: Report) => number): number => Math.max(0, ...reports.map(of));
  const errors: Partial<Record<ErrorCode, number>> = {};
  for (const report of reports) {
    for (const [code, count] of Object.entries(report.errors) as [ErrorCode, number][]) {
      errors[code] = (errors[code] ?? 0) + count;
    }
  }
  const records = sum((report) => report.records);
  const durationMs = most((report) => report.durationMs);
  const batches = pools.reduce((total, pool) => total + pool.batches, 0);
  const batched = pools.reduce((total, pool) => total + pool.batches * pool.meanBatchSize, 0);
  return {
    records,
    results: sum((report) => report.results),
    fallbacks: sum((report) => report.fallbacks),
    retries: sum((report) => report.retries),
    failed: sum((report) => report.failed),
    deadLetters: sum((report) => report.deadLetters),
    filtered: sum((report) => report.filtered),
    durationMs: round(durationMs),
    recordsPerSecond: durationMs > 0 ? round((records / durationMs) * 1000) : 0,
    batches,
    meanBatchSize: batches > 0 ? round(batched / batches) : 0,
    latencyMs: {
      p50: round(most((report) => report.latencyMs.p50)),
      p99: round(most((report) => report.latencyMs.p99)),
    },
    restarts: pools.reduce((total, pool) => total + pool.restarts, 0),
    errors,
    cancelled: reports.some((report) => report.cancelled),
  };
}

/** The summary table at the end of a run: one figure a line, and the errors by code where there are any. */
export function formatReport(report: RunReport): string {
  const rows = [
    ['records', countText(report.records)],
    ['results', countText(report.results)],
    ...(report.fallbacks > 0 ? [['of them by fallback', countText(report.fallbacks)]] : []),
    ...(report.retries > 0 ? [['retries', countText(report.retries)]] : []),
    ['failed', countText(report.failed)],
    ['dead letters', countText(report.deadLetters)],
    ...(report.filtered > 0 ? [['filtered', countText(report.filtered)]] : []),
    ['time', durationText(report.durationMs)],
    ['records per second', numberText(report.recordsPerSecond)],
    ['batches', countText(report.batches)],
    ['mean batch size', numberText(report.meanBatchSize)],
    ['latency p50', `${numberText(report.latencyMs.p50)} ms`],
    ['latency p99', `${numberText(report.latencyMs.p99)} ms`],
    ['restarts', countText(report.restarts)],
    ...Object.entries(report.errors).map(([code, count]) => [`error ${plainText(code)}`, countText(count)]),
  ];
  return `${tableText(rows, 'figures')}${report.cancelled ? '\nended before the source did' : ''}\n`;
}

/** Three decimals are more than any of these figures can mean. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
