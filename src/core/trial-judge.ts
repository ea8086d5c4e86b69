import type { Fleet } from './fleet.js';
import type { Cell } from './slots.js';
import type { Flight } from './ledger.js';
import { isProbe } from './request.js';
import type { Rollout } from './rollout.js';
import type { Compared } from './shadow.js';

/** Tells the trial of a new version what became of its batches and of those of the old one, and heeds its verdict. */
export class TrialJudge {
  readonly #fleet: Fleet;
  readonly #batchTimeoutMs: number;

  constructor(fleet: Fleet, batchTimeoutMs: number) {
    this.#fleet = fleet;
    this.#batchTimeoutMs = batchTimeoutMs;
  }

  /** A batch was answered or has failed for good while a version is on trial, or loads and is to be. */
  observe(rollout: Rollout, cell: Cell, { requests, startedAt }: Flight, failedCount: number, now: number): void {
    const { generation, fromGeneration } = rollout.sides;
    if (rollout !== this.#fleet.rollout || rollout.rules.bakeMs === 0 || isProbe(requests)) return;
    if (cell.generation !== generation && cell.generation !== fromGeneration) return;
    rollout.trial.observe(cell.generation === generation, requests.length, failedCount, now - startedAt);
    this.#heed(rollout, now);
  }

  /** A batch that the new version was only shown was answered; how long that took, undefined: nobody waits for it. */
  shown(cell: number, batchId: number, now: number): number | undefined {
    const { rollout } = this.#fleet;
    const batch = rollout?.shadow?.close(cell, batchId, now);
    if (rollout === undefined || batch === undefined) return undefined;
    this.#fleet.hasChanged = true;
    const tookMs = now - batch.startedAt;
    rollout.trial.took(true, batch.size, tookMs);
    this.#heed(rollout, now);
    return tookMs;
  }

  compared(compared: Compared, now: number): void {
    const { rollout } = this.#fleet;
    if (rollout?.shadow === undefined) return;
    const { agreed, differed, failed } = compared;
    rollout.shadow.compared(compared);
    rollout.trial.ended(true, agreed + differed + failed, failed);
    this.#heed(rollout, now);
  }

  /** Records were lost with their replica. The fleet, which is told of its end next, heeds it. */
  lost(cell: Cell, count: number): void {
    const { rollout } = this.#fleet;
    if (rollout?.bakes === true) rollout.trial.ended(cell.generation === rollout.sides.generation, count, count);
  }

  /** A batch of the new version takes far too long, or its time of trial is over. */
  tick(rollout: Rollout, now: number): void {
    if (rollout !== this.#fleet.rollout) return;
    const { generation } = rollout.sides;
    for (const { generation: own, flights } of this.#fleet.list) {
      const running = own === generation ? flights[0] : undefined;
      if (running === undefined || rollout.overdueAt(running.startedAt, running.requests.length) > now) continue;
      const ms = Math.round(now - running.startedAt);
      const why = `a batch of ${running.requests.length} has run for ${ms} ms without an answer`;
      this.#fleet.rollBack('latency', why, now);
      return;
    }
    if (rollout.shownOverdueAt(this.#batchTimeoutMs) <= now) {
      this.#fleet.rollBack('latency', 'a batch that it was shown has run for too long without an answer', now);
      return;
    }
    if (rollout.bakedAt > now) return;
    const verdict = rollout.shadow?.verdict(rollout.rules.rollbackOn.minRecords);
    if (verdict === undefined) this.#fleet.promote(now);
    else this.#fleet.rollBack(verdict.reason, verdict.what, now);
  }

  #heed(rollout: Rollout, now: number): void {
    const verdict = rollout.bakes ? rollout.trial.verdict() : undefined;
    if (verdict !== undefined) this.#fleet.rollBack(verdict.reason, verdict.what, now);
  }
}
