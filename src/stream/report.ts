import { TroupeError, invariant, type ErrorCode } from '../kernel/errors.js';
import { LatencyWindow } from '../telemetry/latency.js';
import type { CheckpointReport } from './checkpoint/coordinator.js';
import type { StepMetrics } from './step-metrics.js';

/**
 * What became of the records of one run. Every record is in exactly one class, so that always
 * `records = results + failed + deadLetters`, and what the source gave `= records + filtered`, unless a flatMap was
 * there: its children take the place of their parent, and a parent without children counts as filtered.
 */
export interface Report {
  /** Records that entered the pipeline and were not filtered. */
  readonly records: number;
  /** Values handed to the sink, those of fallbacks included. */
  readonly results: number;
  /** Results that a step's fallback gave in the place of its actor. */
  readonly fallbacks: number;
  /** Further tries of records whose earlier try in an infer step failed. */
  readonly retries: number;
  /** Failed records without a dead-letter sink, those that a step's `failed` turned into a value, and those a cancelled run gave up. */
  readonly failed: number;
  /** Failed records handed to a dead-letter sink. */
  readonly deadLetters: number;
  /** Records a filter refused, and parents to which flatMap gave no child. */
  readonly filtered: number;
  readonly durationMs: number;
  readonly recordsPerSecond: number;
  /** From the pull at the source to the hand-over at the end; at most 4.5 % too high. Records given up are not in it. */
  readonly latencyMs: { readonly p50: number; readonly p99: number };
  /** How many records failed with each code. */
  readonly errors: Readonly<Partial<Record<ErrorCode, number>>>;
  /** True when the signal of the caller, or a reader that went away, ended the run. */
  readonly cancelled: boolean;
  /** Of each infer step what it and its pool did for it. */
  readonly metrics: readonly StepMetrics[];
  /** Only of a run with checkpoints. */
  readonly checkpoints?: CheckpointReport;
  /**
   * What the output is worth after a crash and a resumed run. exactly-once: nothing lost, nothing doubled, relative to
   * the last checkpoint. at-least-once: what was written after it may be there twice, because a sink can neither take it
   * back nor tell it by its id, or because the source gives it again under another, or gave records without a token of
   * their own. Absent: nothing is promised.
   */
  readonly delivery?: 'exactly-once' | 'at-least-once';
}

/** What a report says besides the counts. */
export type RunFacts = Pick<Report, 'cancelled' | 'metrics' | 'checkpoints' | 'delivery'>;

/** A run that ended by a failure of its source or its sink; `report` says how far it came. */
export class StreamError extends TroupeError {
  constructor(
    failure: TroupeError,
    readonly report: Report,
  ) {
    super(failure.code, failure.message, { ran: failure.ran, cause: failure.cause ?? failure });
  }
}

/** The ledger of one run. N1: entered - filtered = results + failed + deadLetters + held, at every moment. */
export class Counts {
  entered = 0;
  filtered = 0;
  results = 0;
  /** Of the results. */
  fallbacks = 0;
  failed = 0;
  deadLetters = 0;
  readonly latency = new LatencyWindow(16);
  readonly #errors: Partial<Record<ErrorCode, number>> = {};

  constructor(private readonly startedAt: number) {}

  /** Records inside the pipeline. */
  get held(): number {
    return this.entered - this.filtered - this.results - this.failed - this.deadLetters;
  }

  error(code: ErrorCode, count = 1): void {
    this.#errors[code] = (this.#errors[code] ?? 0) + count;
  }

  /** The run ended early: what it still held has no other outcome any more. */
  giveUpHeld(): void {
    const held = this.held;
    if (held === 0) return;
    this.failed += held;
    this.error('CANCELLED', held);
  }

  report(now: number, facts: RunFacts): Report {
    const { results, fallbacks, failed, deadLetters, filtered } = this;
    const durationMs = now - this.startedAt;
    const { p50, p99 } = this.latency.summary();
    const records = results + failed + deadLetters;
    invariant(this.held >= 0, `records leave a stream once: ${-this.held} left twice`);
    return {
      records,
      results,
      fallbacks,
      retries: facts.metrics.reduce((sum, { retries }) => sum + retries, 0),
      failed,
      deadLetters,
      filtered,
      durationMs,
      recordsPerSecond: durationMs > 0 ? (records / durationMs) * 1000 : 0,
      latencyMs: { p50, p99 },
      errors: { ...this.#errors },
      ...facts,
    };
  }
}
