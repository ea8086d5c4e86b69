/**
 * The traffic that a new version is shown while the old one answers it: which batches, to which replica, and what came of
 * it. Nobody waits for anything in here.
 *
 * S1 a batch that is due finds room with a replica of the new version at once, or is left out and counted; nothing is held
 * back for it. S2 it never sees more than its share. S3 a replica has two such batches at most: one it runs, one that waits.
 */

import type { ReplicaState } from './lifecycles.js';
import { removeAt } from './short-list.js';

export interface ShadowRules {
  /** Share of the records that the new version is shown; 1: all of them. */
  readonly share: number;
  /** Less agreement with the old version than this, and it is rolled back when its time is over. */
  readonly minAgreement: number;
}

/** Of a replica, what is looked at here. */
export interface ShadowCell {
  readonly id: number;
  readonly generation: number;
  readonly state: ReplicaState;
}

/** What became of records that both versions were given, and to which the old one has a result. */
export interface Compared {
  readonly agreed: number;
  readonly differed: number;
  readonly failed: number;
}

/** A batch that a replica of the new version was shown. */
export interface ShownBatch {
  readonly batchId: number;
  readonly cell: number;
  readonly size: number;
  /** When the replica can have begun with it. */
  startedAt: number;
}

/** Batches that are answered have ids from 1, those that are only shown begin where these never get. */
export const FIRST_SHOWN_ID = 2 ** 51;

/** No version is shown as many batches. */
const IDS_EACH = 2 ** 32;
/** S3. */
const BATCHES_MAX = 2;

export class Shadow {
  readonly rules: ShadowRules;
  // Records, since it began.
  shownCount = 0;
  /** Due, and left out for want of room. */
  droppedCount = 0;
  /** Answered with an error where the old version gave a result. */
  failedCount = 0;
  agreedCount = 0;
  differedCount = 0;
  readonly #owedMax: number;
  /** By replica, the batch it runs first. */
  readonly #open = new Map<number, ShownBatch[]>();
  #owed = 0;
  #lastId: number;

  /** `generation`: of the version that is shown the work; no two have ids in common. */
  constructor(rules: ShadowRules, maxSize: number, generation: number) {
    this.rules = rules;
    this.#owedMax = maxSize;
    this.#lastId = FIRST_SHOWN_ID + generation * IDS_EACH;
  }

  get comparedCount(): number {
    return this.agreedCount + this.differedCount;
  }

  /** Of the compared records; 1 before the first. */
  get agreement(): number {
    return this.comparedCount === 0 ? 1 : this.agreedCount / this.comparedCount;
  }

  /** A batch of so many records goes to the old version; true: it is due to be shown. */
  isDue(size: number): boolean {
    this.#owed = Math.min(this.#owed + this.rules.share * size, this.#owedMax);
    if (this.#owed < size) return false; // S2
    this.#owed -= size;
    return true;
  }

  /** Where a batch that is due goes; undefined: nowhere, and it is counted as left out (S1). */
  open(cells: readonly ShadowCell[], generation: number, size: number, now: number): ShownBatch | undefined {
    let best: ShadowCell | undefined;
    let least = BATCHES_MAX;
    for (let i = 0; i < cells.length; i++) {
      const cell = cells[i] as ShadowCell;
      if (cell.generation !== generation || cell.state !== 'ready') continue;
      const count = this.#open.get(cell.id)?.length ?? 0;
      if (count >= least) continue;
      best = cell;
      least = count;
    }
    if (best === undefined) {
      this.droppedCount += size;
      return undefined;
    }
    const batch: ShownBatch = { batchId: ++this.#lastId, cell: best.id, size, startedAt: now };
    const lane = this.#open.get(best.id);
    if (lane === undefined) this.#open.set(best.id, [batch]);
    else lane.push(batch);
    this.shownCount += size;
    return batch;
  }

  /** It was answered, or failed as a whole; undefined: it is not waited for. */
  close(cell: number, batchId: number, now: number): ShownBatch | undefined {
    const lane = this.#open.get(cell);
    const at = lane?.findIndex((batch) => batch.batchId === batchId) ?? -1;
    const batch = lane?.[at];
    if (lane === undefined || batch === undefined) return undefined;
    removeAt(lane, at);
    const next = lane[0];
    if (at === 0 && next !== undefined) next.startedAt = now;
    return batch;
  }

  /** The replica ended. */
  ended(cell: number): void {
    this.#open.delete(cell);
  }

  compared({ agreed, differed, failed }: Compared): void {
    this.agreedCount += agreed;
    this.differedCount += differed;
    this.failedCount += failed;
  }

  /** What each replica runs. */
  *running(): Generator<ShownBatch> {
    for (const lane of this.#open.values()) if (lane[0] !== undefined) yield lane[0];
  }

  /** What waits behind what a replica runs, and need not be run any more. */
  waiting(): readonly ShownBatch[] {
    return [...this.#open.values()].flatMap((lane) => lane.slice(1));
  }

  /** Why its time ends in a roll-back, if it does. Fewer compared records than `least` prove nothing. */
  verdict(least: number): { readonly reason: 'disagreement' | 'unproven'; readonly what: string } | undefined {
    const { comparedCount, agreedCount } = this;
    if (comparedCount < least) {
      const what = `${comparedCount} of its answers were compared with the old version's, at least ${least} are wanted`;
      return { reason: 'unproven', what };
    }
    if (this.agreement >= this.rules.minAgreement) return undefined;
    const what = `${agreedCount} of its ${comparedCount} answers agreed with the old version's, minAgreement is ${this.rules.minAgreement}`;
    return { reason: 'disagreement', what };
  }
}
