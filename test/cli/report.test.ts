import test from 'ava';
import { formatReport, summarizeRun } from '../../src/cli/report.js';
import type { PoolStats } from '../../src/actor/stats.js';
import type { Report } from '../../src/stream/report.js';

const report = (facts: Partial<Report>): Report => ({
  records: 0,
  results: 0,
  fallbacks: 0,
  retries: 0,
  failed: 0,
  deadLetters: 0,
  filtered: 0,
  durationMs: 0,
  recordsPerSecond: 0,
  latencyMs: { p50: 0, p99: 0 },
  errors: {},
  cancelled: false,
  metrics: [],
  ...facts,
});
const pool = (batches: number, meanBatchSize: number, restarts: number): PoolStats =>
  ({ batches, meanBatchSize, restarts }) as PoolStats;

test('the counts of pipelines add up, and batches are weighed by how many there were', (t) => {
  const run = summarizeRun(
    [
      report({
        records: 10,
        results: 8,
        failed: 2,
        durationMs: 2000,
        latencyMs: { p50: 1, p99: 9 },
        errors: { PREDICT_FAILED: 2 },
      }),
      report({
        records: 5,
        results: 4,
        deadLetters: 1,
        durationMs: 1000,
        latencyMs: { p50: 2, p99: 3 },
        errors: { PREDICT_FAILED: 1 },
      }),
    ],
    [pool(3, 4, 1), pool(1, 2, 0)],
  );
  t.is(run.records, run.results + run.failed + run.deadLetters);
  t.is(run.records, 15);
  t.is(run.recordsPerSecond, 7.5);
  t.deepEqual(run.latencyMs, { p50: 2, p99: 9 });
  t.is(run.meanBatchSize, 3.5);
  t.is(run.restarts, 1);
  t.deepEqual(run.errors, { PREDICT_FAILED: 3 });
});

test('a run of nothing is all zeros, never NaN', (t) => {
  const run = summarizeRun([], []);
  t.notRegex(JSON.stringify(run), /null/);
  t.is(run.recordsPerSecond, 0);
  t.is(run.meanBatchSize, 0);
});

test('the summary is a table of one figure a line, with the errors by code', (t) => {
  const text = formatReport(
    summarizeRun(
      [report({ records: 1234, results: 1200, failed: 34, durationMs: 187_000, errors: { DEADLINE_PASSED: 34 } })],
      [],
    ),
  );
  const lines = text.trimEnd().split('\n');
  t.regex(lines[0] ?? '', /^records +1,234$/);
  t.true(lines.some((line) => /^time +3:07$/.test(line)));
  t.regex(lines.at(-1) ?? '', /^error DEADLINE_PASSED +34$/);
  t.is(new Set(lines.map((line) => line.length)).size, 1);
});
