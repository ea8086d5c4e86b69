/**
 * May a replica that died start again, and when? OTP's restart intensity, with what models need beside it: a backoff
 * that grows only while no batch is finished in between, causes told apart, and a budget of its own for deaths blamed
 * on single records.
 *
 * R1 more than `max` deaths within `withinMs` end the replica. R2 quarantine deaths count against quarantineMax only,
 * and never end the replica. R3 the first restart after progress is immediate; each further death without a finished
 * batch doubles the wait up to maxBackoffMs. R4 a death older than withinMs is forgotten, one exactly as old counts (as in
 * OTP).
 */

import type { Random } from '../kernel/random.js';

export type DeathKind = 'init' | 'crash' | 'hang' | 'oom';

export interface RestartLimits {
  readonly max: number;
  readonly withinMs: number;
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  readonly jitter: number;
  readonly quarantineMax: number;
}

export type RestartDecision = { readonly kind: 'restart'; readonly at: number } | { readonly kind: 'give-up' };

export class RestartWindow {
  readonly limits: RestartLimits;
  /** Deaths by kind since the start, for stats. */
  readonly counts: Record<DeathKind | 'quarantine', number> = { init: 0, crash: 0, hang: 0, oom: 0, quarantine: 0 };
  #deathsAt: number[] = [];
  #quarantineAt: number[] = [];
  #streak = 0;

  constructor(limits: RestartLimits) {
    this.limits = limits;
  }

  /** The replica finished a batch: what ended it before is over. */
  progressed(): void {
    this.#streak = 0;
  }

  died(kind: DeathKind, random: Random, now: number): RestartDecision {
    this.counts[kind]++;
    this.#deathsAt = this.#recent(this.#deathsAt, now);
    this.#deathsAt.push(now);
    if (this.#deathsAt.length > this.limits.max) return { kind: 'give-up' }; // R1
    this.#streak++;
    // R3: a load that failed was no service at all, so even the first one waits.
    const doublings = kind === 'init' ? this.#streak - 1 : this.#streak - 2;
    return { kind: 'restart', at: now + this.#wait(doublings, random) };
  }

  /** A death blamed on the one record the replica ran: restart at once, on the other budget. */
  diedInQuarantine(now: number): void {
    this.counts.quarantine++;
    this.#quarantineAt = this.#recent(this.#quarantineAt, now);
    this.#quarantineAt.push(now);
  }

  /** May another suspect be run, or is the quarantine budget used up? */
  quarantineHasRoom(now: number): boolean {
    this.#quarantineAt = this.#recent(this.#quarantineAt, now);
    return this.#quarantineAt.length <= this.limits.quarantineMax;
  }

  #recent(instants: number[], now: number): number[] {
    const from = now - this.limits.withinMs; // R4
    return (instants[0] ?? Infinity) >= from ? instants : instants.filter((at) => at >= from);
  }

  #wait(doublings: number, random: Random): number {
    if (doublings < 0) return 0;
    const { backoffMs, maxBackoffMs, jitter } = this.limits;
    const waitMs = Math.min(maxBackoffMs, backoffMs * 2 ** Math.min(doublings, 40));
    return waitMs * (1 - jitter * random());
  }
}
