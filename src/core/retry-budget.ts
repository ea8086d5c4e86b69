/**
 * Keeps retries a small share of the load, so that an outage is not made worse by them: every first try earns a share
 * of a retry, every retry costs one.
 *
 * G1 retries <= share x first tries + floor x (1 + time / windowMs). The floor lets tiny traffic retry at all.
 * G2 what was earned and not used is kept up to TOKENS_MAX, so calm hours do not pay for a storm.
 */

export interface RetryBudgetLimits {
  /** Retries per first try, such as 0.1; Infinity for no limit. */
  readonly share: number;
  /** Retries that are free within windowMs. */
  readonly floor: number;
  readonly windowMs: number;
}

/** As much as 1,000 first tries earn at a share of 0.1; the order of gRPC's retry throttling. */
const TOKENS_MAX = 100;

export class RetryBudget {
  readonly limits: RetryBudgetLimits;
  /** Retries that were refused. */
  refusedCount = 0;
  #tokens: number;
  #free: number;
  #freeAt = -Infinity;

  constructor(limits: RetryBudgetLimits) {
    this.limits = limits;
    this.#tokens = 0;
    this.#free = limits.floor;
  }

  /** Records were tried for the first time. */
  earn(count = 1): void {
    this.#tokens = Math.min(TOKENS_MAX, this.#tokens + count * this.limits.share);
  }

  /** May one record be tried again? True takes it from the budget. */
  tryTake(now: number): boolean {
    const { share, floor, windowMs } = this.limits;
    if (share === Infinity) return true;
    if (this.#freeAt !== -Infinity)
      this.#free = Math.min(floor, this.#free + ((now - this.#freeAt) * floor) / windowMs);
    this.#freeAt = now;
    if (this.#tokens >= 1) this.#tokens--;
    else if (this.#free >= 1) this.#free--;
    else {
      this.refusedCount++;
      return false;
    }
    return true;
  }
}
