import type { ErrorCode, Ran } from '../kernel/errors.js';
import type { Random } from '../kernel/random.js';

/**
 * Whether a record that failed is tried again, and when. Holds rules and no state: how often a record was tried stands
 * on the record, so no record can spoil the backoff of another (what the shared strategy objects of others do).
 */

export interface Backoff {
  /** Total tries, the first included. */
  readonly attempts: number;
  /** Wait before the second try. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** Each further wait is this many times as long; 1 keeps it fixed. */
  readonly multiplier: number;
  /** Share of a wait that is random, 0 to 1. */
  readonly jitter: number;
}

/** What is looked at of an error. */
export interface RetryError {
  readonly code: ErrorCode;
  readonly ran: Ran;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
}

/** `never`, or: retried though it would not be by default, with what is given here in place of the general values. */
export type RetryRule = 'never' | Partial<Backoff>;

export interface RetryLimits extends Backoff {
  readonly rules: Readonly<Partial<Record<ErrorCode, RetryRule>>>;
  /** Asked where no rule stands for the code. undefined: as by default. It may throw: the record is then final. */
  readonly retryIf?: ((error: never) => boolean | undefined) | undefined;
}

export type RetryDecision =
  | { readonly kind: 'retry'; readonly at: number }
  /** `thrown`: what retryIf threw. */
  | { readonly kind: 'final'; readonly why: 'attempts' | 'rule' | 'deadline'; readonly thrown?: unknown };

const BY_RULE: RetryDecision = { kind: 'final', why: 'rule' };
const BY_ATTEMPTS: RetryDecision = { kind: 'final', why: 'attempts' };
const BY_DEADLINE: RetryDecision = { kind: 'final', why: 'deadline' };

export class RetryPolicy {
  readonly limits: RetryLimits;

  constructor(limits: RetryLimits) {
    this.limits = limits;
  }

  /**
   * `attemptsSoFar` counts the tries that were made, the failed one included. By default errors are retried that are
   * marked retryable and where predict did not fail itself. A retry that could begin only at deadlineAt or later is none.
   */
  decide(error: RetryError, attemptsSoFar: number, now: number, deadlineAt: number, random: Random): RetryDecision {
    // Whatever the rules say: who gave a record up does not want it tried again.
    if (error.code === 'CANCELLED') return BY_RULE;
    const { rules, retryIf } = this.limits;
    const rule = rules[error.code];
    if (rule === 'never') return BY_RULE;
    if (rule === undefined) {
      let wanted: boolean | undefined;
      try {
        wanted = retryIf?.(error as never);
      } catch (thrown) {
        return { kind: 'final', why: 'rule', thrown };
      }
      if (!(wanted ?? (error.retryable && error.ran !== 'failed'))) return BY_RULE;
    }
    const backoff: Backoff = rule === undefined ? this.limits : { ...this.limits, ...rule };
    if (attemptsSoFar >= backoff.attempts) return BY_ATTEMPTS;
    const at = now + Math.max(waitMs(backoff, attemptsSoFar, random), leastMs(error));
    return at >= deadlineAt ? BY_DEADLINE : { kind: 'retry', at };
  }
}

/** Grows with the tries of this record alone; with jitter 0.5 at least half of it ("equal jitter"). */
function waitMs(
  { backoffMs, maxBackoffMs, multiplier, jitter }: Backoff,
  attemptsSoFar: number,
  random: Random,
): number {
  const fullMs = Math.min(maxBackoffMs, backoffMs * multiplier ** (attemptsSoFar - 1));
  return fullMs * (1 - jitter + jitter * random());
}

/** What the other side asked for; it comes from foreign code, so only a sound number counts. */
function leastMs({ retryAfterMs }: RetryError): number {
  return retryAfterMs !== undefined && Number.isFinite(retryAfterMs) && retryAfterMs > 0 ? retryAfterMs : 0;
}
