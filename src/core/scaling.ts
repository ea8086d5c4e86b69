import { Autoscaler, type PoolLoad, type ScalingLimits } from './autoscaler.js';
import type { Fleet } from './fleet.js';
import type { Cell } from './slots.js';
import type { Ledger } from './ledger.js';
import type { Bucket, Mailbox } from './mailbox.js';
import { isProbe, PROBE_BUCKET, type Request } from './request.js';
import type { RetryLane } from './retry-lane.js';

export interface ScalingParts {
  readonly fleet: Fleet;
  readonly mailbox: Mailbox;
  readonly ledger: Ledger;
  readonly retries: RetryLane;
}

/**
 * What a pool that scales by itself shows its autoscaler, and what it does with the answers. Nothing is scaled while a
 * version is rolled out, as two versions are compared with the same number of replicas, nor while a supervisor holds the
 * pool. A pool at 0 wakes at once: for work that waits, and before another version is loaded, so that there is one that
 * serves should that be no good.
 */
export class Scaling {
  readonly autoscaler: Autoscaler;
  readonly #parts: ScalingParts;

  constructor(limits: ScalingLimits, parts: ScalingParts) {
    this.autoscaler = new Autoscaler(limits);
    this.#parts = parts;
  }

  get lookAt(): number {
    return this.autoscaler.lookAt;
  }

  /** Probes are no work: they neither wake a pool nor keep it awake. */
  accepted(request: Request, now: number): void {
    if (request.bucket !== PROBE_BUCKET) this.autoscaler.touched(now);
  }

  /** There is a first replica for what waits, or there will be. */
  wakeForWork(now: number): void {
    const { mailbox, retries } = this.#parts;
    if (mailbox.held > 0 || !retries.isEmpty) this.wake(now);
  }

  wake(now: number): void {
    const { fleet } = this.#parts;
    if (fleet.replicas > 0) return;
    fleet.scale(this.autoscaler.least, now, 'demand');
    this.autoscaler.begin(now);
    this.autoscaler.touched(now);
  }

  look(now: number): void {
    const { fleet } = this.#parts;
    if (fleet.rollout !== undefined || fleet.isHeld || !fleet.isSettled) {
      this.autoscaler.begin(now);
      return;
    }
    const decision = this.autoscaler.look(this.#load(now), now);
    if (decision !== undefined) fleet.scale(decision.replicas, now, decision.reason);
  }

  #load(now: number): PoolLoad {
    const { fleet, ledger } = this.#parts;
    const { readyCount: ready, replicas } = fleet;
    const waitedMs = this.#waitedMs(now);
    return { replicas, ready, busyMs: ledger.busyMs(now), waitedMs, hasWork: this.#hasWork() };
  }

  #hasWork(): boolean {
    const { fleet, mailbox, retries } = this.#parts;
    const probes = mailbox.buckets.find(({ name }) => name === PROBE_BUCKET)?.count ?? 0;
    if (mailbox.held > probes || !retries.isEmpty) return true;
    return fleet.list.some(({ flights }) => flights.some(({ requests }) => !isProbe(requests)));
  }

  #waitedMs(now: number): number {
    const { fleet, mailbox } = this.#parts;
    if (mailbox.held === 0) return 0;
    const { list } = fleet;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      // One that is free waits for company of the record, or for the key before it.
      if (cell.flights.length === 0 && fleet.serves(cell)) return 0;
    }
    let oldestAt = now;
    const { buckets } = mailbox;
    for (let b = 0; b < buckets.length; b++) oldestAt = Math.min(oldestAt, (buckets[b] as Bucket).oldestAt);
    return now - oldestAt;
  }
}
