import { systemClock, type Clock } from '../kernel/clock.js';
import { systemRandom, type Random } from '../kernel/random.js';
import { checkCount, checkKeys } from './options.js';

/** How often and how far apart something outside is tried again. */
export interface BackoffOptions {
  /** Tries in a row before it counts as failed. */
  attempts?: number;
  /** Wait after the first failure; doubled after each, half of it by chance. Default 200. */
  backoffMs?: number;
  /** Default 10,000. */
  maxBackoffMs?: number;
}

export interface RetryPlan {
  readonly attempts: number;
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
}

export function retryPlan(option: string, given: BackoffOptions | undefined, attempts: number): RetryPlan {
  const options = given ?? {};
  checkKeys(option, options, ['attempts', 'backoffMs', 'maxBackoffMs']);
  const plan = { attempts, backoffMs: 200, maxBackoffMs: 10_000, ...options };
  checkCount(`${option}.attempts`, plan.attempts);
  checkCount(`${option}.backoffMs`, plan.backoffMs, 0);
  checkCount(`${option}.maxBackoffMs`, plan.maxBackoffMs, plan.backoffMs);
  return plan;
}

/** Counts failures in a row; decides, does not wait. */
export class Backoff {
  #failures = 0;

  constructor(
    private readonly plan: RetryPlan,
    private readonly random: Random = systemRandom,
  ) {}

  get failures(): number {
    return this.#failures;
  }

  /** How long to wait before the next try; undefined when there is none left. */
  next(atLeastMs = 0): number | undefined {
    this.#failures += 1;
    const { attempts, backoffMs, maxBackoffMs } = this.plan;
    if (this.#failures >= attempts) return undefined;
    const fullMs = Math.min(maxBackoffMs, backoffMs * 2 ** Math.min(this.#failures - 1, 30));
    return Math.max(atLeastMs, fullMs * (0.5 + 0.5 * this.random()));
  }

  reset(): void {
    this.#failures = 0;
  }
}

/** Resolves after `ms`, or as soon as the signal is set. */
export function pause(ms: number, signal: AbortSignal, clock: Clock = systemClock): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const end = (): void => {
      timer.cancel();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = clock.at(clock.now() + ms, end);
    signal.addEventListener('abort', end, { once: true });
  });
}
