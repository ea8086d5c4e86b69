import type { PoolState } from '../state.js';
import { NO_VERSION } from './versions.js';

/** What a pool did between two looks at it. */
export interface Point {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Results each second, by the version that made them. */
  readonly byVersion: ReadonlyMap<string, number>;
  readonly errorsPerSecond: number;
  /** Records that wait. */
  readonly waiting: number;
  /** Records in a batch, and milliseconds from acceptance to result, in the mean; undefined where there was none. */
  readonly batchSize: number | undefined;
  readonly latencyMs: number | undefined;
}

/** Something that is marked in the charts. */
export interface Mark {
  readonly at: number;
  readonly kind: 'good' | 'bad' | 'plain';
}

/** How far back the charts reach. */
export const WINDOW_MS = 180_000;
const POINTS_MAX = 400;
const MARKS_MAX = 100;

/** The last three minutes of one pool, from its counters. Bounded in time and number. */
export class History {
  #points: Point[] = [];
  #marks: Mark[] = [];
  #before: { readonly state: PoolState; readonly at: number } | undefined;

  get points(): readonly Point[] {
    return this.#points;
  }

  get marks(): readonly Mark[] {
    return this.#marks;
  }

  get latest(): Point | undefined {
    return this.#points.at(-1);
  }

  add(state: PoolState, at: number): void {
    const before = this.#before;
    this.#before = { state, at };
    // A pool that was stopped and spawned again under its name counts from zero.
    if (before === undefined || at <= before.at || state.results < before.state.results) return;
    const seconds = (at - before.at) / 1000;
    const batches = state.batches - before.state.batches;
    const answered = state.latency.count - before.state.latency.count;
    this.#points.push({
      at,
      byVersion: sharedOut((state.results - before.state.results) / seconds, state, before.state),
      errorsPerSecond: Math.max(0, state.errors - before.state.errors) / seconds,
      waiting: state.mailbox.held,
      batchSize: batches > 0 ? (state.batchedRecords - before.state.batchedRecords) / batches : undefined,
      latencyMs: answered > 0 ? (state.latency.sumMs - before.state.latency.sumMs) / answered : undefined,
    });
    this.#points = this.#points.filter((point) => point.at > at - WINDOW_MS).slice(-POINTS_MAX);
    this.#marks = this.#marks.filter((mark) => mark.at > at - WINDOW_MS);
  }

  mark(mark: Mark): void {
    this.#marks.push(mark);
    if (this.#marks.length > MARKS_MAX) this.#marks.shift();
  }
}

/** While two versions are given work, results go by the records that each was sent meanwhile. */
function sharedOut(perSecond: number, now: PoolState, before: PoolState): ReadonlyMap<string, number> {
  const current = now.version ?? NO_VERSION;
  const { rollout } = now;
  if (rollout === null || rollout.step !== 'baking') return new Map([[current, perSecond]]);
  const next = rollout.to ?? NO_VERSION;
  if (rollout.sent === null) return new Map([[rollout.share === 0 ? current : next, perSecond]]);
  const past = before.rollout?.to === rollout.to ? before.rollout.sent : null;
  const old = rollout.sent.old - (past?.old ?? 0);
  const fresh = rollout.sent.new - (past?.new ?? 0);
  const share = old + fresh > 0 ? fresh / (old + fresh) : 0;
  return new Map([
    [current, perSecond * (1 - share)],
    [next, perSecond * share],
  ]);
}
