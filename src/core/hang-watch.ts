import type { Fleet } from './fleet.js';
import type { Cell } from './slots.js';
import type { Flight } from './ledger.js';

/** A look that comes this much too late says that the host stood still; what runs then has this much more time. */
const STALL_MS = 250;
const FORGIVEN_MS = 5000;

/** Finds replicas whose batch takes longer than it may, and tells the fleet. */
export class HangWatch {
  readonly #fleet: Fleet;
  readonly #batchTimeoutMs: number;

  constructor(fleet: Fleet, batchTimeoutMs: number) {
    this.#fleet = fleet;
    this.#batchTimeoutMs = batchTimeoutMs;
  }

  /** `dueAt`: when this look was due. */
  look(dueAt: number, now: number): void {
    if (now - dueAt > STALL_MS) this.#forgive(now);
    const { list } = this.#fleet;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      const running = cell.flights[0];
      if (running === undefined || running.startedAt + this.#batchTimeoutMs + cell.mayBlockMs > now) continue;
      this.#fleet.condemn(cell);
    }
  }

  /** What stood beside it has ended (the load of a model): its batch has a moment left, as one of a replica that stood still. */
  spare({ flights }: Cell, now: number): void {
    const running = flights[0];
    if (running !== undefined) this.#extend(running, now);
  }

  /**
   * The host itself stood still (a blocked loop, a stopped process): answers may wait unread, and the replicas may have
   * stood still with it. What runs gets a moment more, once, before it counts as hung.
   */
  #forgive(now: number): void {
    const { list } = this.#fleet;
    this.#fleet.rollout?.stalled(now);
    for (let i = 0; i < list.length; i++) {
      const running = (list[i] as Cell).flights[0];
      if (running === undefined || running.forgiven) continue;
      running.forgiven = true;
      this.#extend(running, now);
    }
  }

  #extend(running: Flight, now: number): void {
    const batchTimeoutMs = this.#batchTimeoutMs;
    running.startedAt = Math.max(running.startedAt, now - batchTimeoutMs + Math.min(batchTimeoutMs, FORGIVEN_MS));
    this.#fleet.hasChanged = true;
  }
}
