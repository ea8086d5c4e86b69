/**
 * How a conformance check is run and told. A check never throws: it passes, fails with a reason, or does not apply to
 * the kind of source or sink at hand, and says so. Every wait has a limit, so a subject that hangs fails.
 */
import { systemClock } from '../../kernel/clock.js';
import { wordsOf } from '../../stream/foreign.js';

export interface CheckResult {
  /** A sentence that is true when the check passed. */
  readonly title: string;
  readonly outcome: 'passed' | 'failed' | 'not-applicable';
  /** Why it failed or does not apply. */
  readonly reason?: string;
}

export interface ConformanceReport {
  readonly name: string;
  /** None of the checks failed. */
  readonly passed: boolean;
  readonly checks: readonly CheckResult[];
}

/** How long one wait of a check may take. */
export const WAIT_MS = 10_000;

/** Ends a check as not applicable. */
export class NotApplicable extends Error {}

export type Check<Subject> = readonly [title: string, run: (subject: Subject) => Promise<void>];

export async function runChecks<Subject>(
  name: string,
  checks: readonly Check<Subject>[],
  subject: Subject,
): Promise<ConformanceReport> {
  const results: CheckResult[] = [];
  for (const [title, run] of checks) {
    try {
      await run(subject);
      results.push({ title, outcome: 'passed' });
    } catch (cause) {
      const outcome = cause instanceof NotApplicable ? 'not-applicable' : 'failed';
      results.push({ title, outcome, reason: wordsOf(cause) });
    }
  }
  return { name, passed: results.every(({ outcome }) => outcome !== 'failed'), checks: results };
}

/** One line for each check. */
export function formatConformance({ name, checks }: ConformanceReport): string {
  const words = { passed: 'ok', failed: 'FAILED', 'not-applicable': 'does not apply' };
  const lines = checks.map(({ title, outcome, reason }) => {
    return `  ${words[outcome].padEnd(14)} ${title}${reason === undefined ? '' : `: ${reason}`}`;
  });
  return [name, ...lines].join('\n');
}

export function expect(condition: boolean, words: string): asserts condition {
  if (!condition) throw new Error(words);
}

export function expectEqual(actual: unknown, expected: unknown, what: string): void {
  const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: expected ${cut(right)}, got ${cut(left)}`);
}

/** Rejects when `promise` takes longer than `ms`. */
export async function inTime<T>(promise: T | PromiseLike<T>, what: string, ms: number = WAIT_MS): Promise<T> {
  let end: (() => void) | undefined;
  const late = new Promise<never>((_, reject) => {
    const timer = systemClock.at(systemClock.now() + ms, () => reject(new Error(`${what} took longer than ${ms} ms`)));
    end = () => timer.cancel();
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    end?.();
  }
}

/** True when it settles within `ms`. */
export async function settles(promise: PromiseLike<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = systemClock.at(systemClock.now() + ms, () => resolve(false));
    const end = (): void => {
      timer.cancel();
      resolve(true);
    };
    promise.then(end, end);
  });
}

function cut(text: string | undefined): string {
  if (text === undefined) return 'nothing';
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
