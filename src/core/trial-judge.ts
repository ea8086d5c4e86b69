import type { Cell, Fleet } from './fleet.js';
import type { Flight } from './ledger.js';
import { isProbe } from './request.js';
import type { Rollout } from './rollout.js';

/** Tells the trial of a new version what became of its batches and of those of the old one, and heeds its verdict. */
export class TrialJudge {
  readonly #fleet: Fleet;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  /** A batch was answered or has failed for good while a version is on trial, or loads and is to be. */
  observe(rollout: Rollout, cell: Cell, { requests, startedAt }: Flight, failedCount: number, now: number): void {
    const { generation, fromGeneration } = rollout.sides;
    if (rollout !== this.#fleet.rollout || rollout.rules.bakeMs === 0 || isProbe(requests)) return;
    if (cell.generation !== generation && cell.generation !== fromGeneration) return;
    rollout.trial.observe(cell.generation === generation, requests.length, failedCount, now - startedAt);
    const verdict = rollout.bakes ? rollout.trial.verdict() : undefined;
    if (verdict !== undefined) this.#fleet.rollBack(verdict.reason, verdict.what, now);
  }

  /** Records were lost with their replica. The fleet, which is told of its end next, heeds it. */
  lost(cell: Cell, count: number): void {
    const { rollout } = this.#fleet;
    if (rollout?.bakes === true) rollout.trial.lost(cell.generation === rollout.sides.generation, count);
  }

  /** A batch of the new version takes far too long, or its time of trial is over. */
  tick(rollout: Rollout, now: number): void {
    if (rollout !== this.#fleet.rollout) return;
    const { generation } = rollout.sides;
    for (const { generation: own, flights } of this.#fleet.list) {
      const running = own === generation ? flights[0] : undefined;
      if (running === undefined || rollout.overdueAt(running) > now) continue;
      const ms = Math.round(now - running.startedAt);
      const why = `a batch of ${running.requests.length} has run for ${ms} ms without an answer`;
      this.#fleet.rollBack('latency', why, now);
      return;
    }
    if (rollout.bakedAt <= now) this.#fleet.promote(now);
  }
}
