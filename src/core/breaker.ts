/**
 * A circuit breaker: refuses calls while too many of the latest have failed, and lets single probes through until one
 * shows that calls succeed again. Told the time; waits for nothing and calls nobody but `onChange`.
 *
 * Owns the window of verdicts and the leases of probes. Does not own who calls, or what a failure is beyond `verdictOf`.
 *
 * K1 it opens only with at least minCalls verdicts in the window of which at least failureRate are failures. K2 while
 * half-open at most `probes` leases are out. K3 a lease comes back on any ending, so a probe that was shed or cancelled
 * cannot leave the breaker stuck. K4 a lease of an older generation changes nothing: what began before the last change
 * of state says nothing about what is true now.
 *
 * The window is ten buckets, so a verdict costs the same however many there are; it reaches back between nine tenths of
 * windowMs and the whole.
 */

import type { ErrorCode, Ran } from '../kernel/errors.js';

export interface BreakerLimits {
  /** How far back verdicts count. */
  readonly windowMs: number;
  /** Fewer verdicts than this in the window never open it. */
  readonly minCalls: number;
  /** Share of failures that opens it, above 0 up to 1. */
  readonly failureRate: number;
  /** How long it stays open before probes are let through. */
  readonly openMs: number;
  /** How many probes may be out at once; as many successes close it, one failure opens it again. */
  readonly probes: number;
}

export const BREAKER_DEFAULTS: BreakerLimits = {
  windowMs: 10_000,
  minCalls: 20,
  failureRate: 0.5,
  openMs: 5000,
  probes: 1,
};

export type BreakerState = 'closed' | 'open' | 'half-open';

/** `none`: the call ended without saying anything about the other side, such as a shed, a cancel, an expiry in a queue. */
export type Verdict = 'success' | 'failure' | 'none';

/** The right to one call. It is to be released once, however the call ends. */
export interface Lease {
  readonly generation: number;
}

export interface BreakerChange {
  readonly from: BreakerState;
  readonly to: BreakerState;
  readonly at: number;
  /** Verdicts in the window when it changed. */
  readonly calls: number;
  readonly failures: number;
}

const BUCKET_COUNT = 10;

export class Breaker {
  readonly limits: BreakerLimits;
  state: BreakerState = 'closed';
  /** Changes of state so far. */
  changeCount = 0;
  /** Calls refused so far. */
  refusedCount = 0;
  readonly #onChange: ((change: BreakerChange) => void) | undefined;
  readonly #bucketMs: number;
  /** Which span of time a bucket holds; an older one counts as empty. */
  readonly #epochs = new Float64Array(BUCKET_COUNT).fill(-Infinity);
  readonly #calls = new Uint32Array(BUCKET_COUNT);
  readonly #failures = new Uint32Array(BUCKET_COUNT);
  readonly #probes = new Set<Lease>();
  #retryAt = -Infinity;
  #successCount = 0;
  /** Nobody counts leases while it is closed, so all calls of a generation share one. */
  #lease: Lease = { generation: 0 };

  /** `onChange` is called last, when the state is whole; it may call the breaker. */
  constructor(limits: BreakerLimits, onChange?: (change: BreakerChange) => void) {
    this.limits = limits;
    this.#onChange = onChange;
    this.#bucketMs = limits.windowMs / BUCKET_COUNT;
  }

  /** The instant before which an open breaker refuses every call; -Infinity while it is not open. */
  get retryAt(): number {
    return this.state === 'open' ? this.#retryAt : -Infinity;
  }

  /** For the error of a refused call; 0 while half-open, where nobody knows when the probe comes back. */
  retryAfterMs(now: number): number {
    return Math.max(0, this.retryAt - now);
  }

  /** The right to one call, or undefined: refused. */
  acquire(now: number): Lease | undefined {
    if (this.state === 'closed') return this.#lease;
    const mayProbe = this.state === 'open' ? now >= this.#retryAt : this.#probes.size < this.limits.probes; // K2
    if (!mayProbe) {
      this.refusedCount++;
      return undefined;
    }
    if (this.state === 'half-open') return this.#probe();
    const change = this.#move('half-open', now);
    const lease = this.#probe();
    this.#tell(change);
    return lease;
  }

  /** The call has ended. A lease that was released before, or is of an older generation, changes nothing (K4). */
  release(lease: Lease, verdict: Verdict, now: number): void {
    if (lease.generation !== this.#lease.generation) return;
    if (this.state === 'half-open') {
      if (!this.#probes.delete(lease) || verdict === 'none') return; // K3
      if (verdict === 'failure') this.#open(now);
      else if (++this.#successCount >= this.limits.probes) this.#tell(this.#move('closed', now));
      return;
    }
    if (verdict === 'none') return;
    this.#count(verdict, now);
    const { calls, failures } = this.counts(now);
    if (calls >= this.limits.minCalls && failures >= this.limits.failureRate * calls && failures > 0) this.#open(now); // K1
  }

  /** Verdicts in the window. */
  counts(now: number): { readonly calls: number; readonly failures: number } {
    const oldest = Math.floor(now / this.#bucketMs) - BUCKET_COUNT;
    let calls = 0;
    let failures = 0;
    for (let at = 0; at < BUCKET_COUNT; at++) {
      if ((this.#epochs[at] as number) <= oldest) continue;
      calls += this.#calls[at] as number;
      failures += this.#failures[at] as number;
    }
    return { calls, failures };
  }

  #count(verdict: 'success' | 'failure', now: number): void {
    const epoch = Math.floor(now / this.#bucketMs);
    const at = epoch % BUCKET_COUNT;
    if (this.#epochs[at] !== epoch) {
      this.#epochs[at] = epoch;
      this.#calls[at] = 0;
      this.#failures[at] = 0;
    }
    this.#calls[at] = (this.#calls[at] as number) + 1;
    if (verdict === 'failure') this.#failures[at] = (this.#failures[at] as number) + 1;
  }

  #probe(): Lease {
    const lease: Lease = { generation: this.#lease.generation };
    this.#probes.add(lease);
    return lease;
  }

  #open(now: number): void {
    this.#retryAt = now + this.limits.openMs;
    this.#tell(this.#move('open', now));
  }

  #tell(change: BreakerChange): void {
    this.#onChange?.(change);
  }

  #move(to: BreakerState, at: number): BreakerChange {
    const change: BreakerChange = { from: this.state, to, at, ...this.counts(at) };
    this.state = to;
    this.changeCount++;
    this.#lease = { generation: this.#lease.generation + 1 };
    this.#probes.clear();
    this.#successCount = 0;
    if (to === 'closed') this.#epochs.fill(-Infinity);
    return change;
  }
}

/**
 * What an outcome says about the other side. Success: undefined. Failures are what the actor, or its silence, caused:
 * a throw, a death, a broken contract, a remote server that is away, a deadline that passed while it ran. All else says
 * nothing.
 */
export function verdictOf(error: { readonly code: ErrorCode; readonly ran: Ran } | undefined): Verdict {
  if (error === undefined) return 'success';
  switch (error.code) {
    case 'PREDICT_FAILED':
    case 'PROTOCOL_VIOLATION':
    case 'REMOTE_UNAVAILABLE':
    case 'REMOTE_FAILED':
    case 'REMOTE_REFUSED':
    case 'ACTOR_CRASHED':
    case 'ACTOR_OOM':
    case 'ACTOR_HUNG':
      return 'failure';
    case 'DEADLINE_PASSED':
      return error.ran === 'not-started' ? 'none' : 'failure';
    default:
      return 'none';
  }
}
