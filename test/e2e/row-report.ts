import type { ExecutionContext } from 'ava';
import { seed } from './sizes.js';

/** What a row of the scorecard measured; scripts/nightly.mjs adds the commit. */
export interface RowFigures {
  /** Faults that struck. */
  readonly faults: number;
  /** Records, or rounds where the row counts those. */
  readonly runs: number;
  readonly lost: number;
  readonly dup: number;
  readonly reorder: number;
  /** Kill to first answer of the next replica. */
  readonly p99RecoveryMs?: number;
  /** More of this row alone, numbers by name. */
  readonly more?: Readonly<Record<string, number>>;
}

/** Begins to measure a row; the result logs its one line, `row {...}`, which the nightly run collects. */
export function beginRow(t: ExecutionContext, id: string): (figures: RowFigures) => void {
  const startedAt = performance.now();
  const rssBefore = process.memoryUsage.rss();
  return ({ faults, runs, lost, dup, reorder, p99RecoveryMs, more = {} }) => {
    const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
    const rssDeltaBytes = process.memoryUsage.rss() - rssBefore;
    const line = { id, faults, runs, seconds, lost, dup, reorder, p99RecoveryMs, rssDeltaBytes, seed, ...more };
    t.log(`row ${JSON.stringify(line)}`);
  };
}

/** The value below which `share` of them lie. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}

/**
 * Holds a bound on speed in spite of a busy machine: measures until one attempt keeps it, `attemptsMax` times at most.
 * `slackMs` holds for every single one. Resolves to all of them.
 */
export async function keepsBound(
  t: ExecutionContext,
  what: string,
  bound: { readonly ms: number; readonly slackMs: number; readonly attemptsMax?: number },
  measure: () => Promise<number>,
): Promise<readonly number[]> {
  const { ms, slackMs, attemptsMax = 15 } = bound;
  const took: number[] = [];
  while (took.length < attemptsMax && !(Math.min(...took) <= ms)) {
    const attempt = await measure();
    took.push(attempt);
    t.true(attempt <= slackMs, `${what}: ${attempt} ms, never more than ${slackMs}`);
  }
  t.log(`${what}: ${took.map((attempt) => attempt.toFixed(1)).join(', ')} ms; bound ${ms} ms`);
  t.true(Math.min(...took) <= ms, `${what}: best of ${took.length} is ${Math.min(...took)} ms, bound ${ms}`);
  return took;
}

/** Milliseconds as a row prints them. */
export function inTenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}
