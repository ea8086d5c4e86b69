/**
 * Whether a pool would answer a record now, found out by asking. A probe goes through the mailbox, the batcher and the
 * credit of a replica as a record does, in a batch of its own and ahead of the others; the replica answers it without
 * calling predict.
 *
 * Owns the probes under way, and what they add to the counters of the core, so that stats can leave them out. Does not
 * own the sending: the pool hands a probe's batch to the link as a ping.
 *
 * Y1 at most one probe for each replica that serves, however often somebody asks; who asks at once shares one check.
 * Y2 a probe has no deadline: nothing is cancelled or replaced for its sake. A replica that never answers it is hung like
 * one that never answers a batch.
 * Y3 a pool that works is ready, though no replica is free for a probe: records settle, not by a result that was known
 * already, or a batch runs that need not have ended yet.
 * Y4 a pool that sleeps is not woken by a probe, which would come again before it sleeps: it is ready, as its replicas were
 * when it went to sleep, until a load fails.
 */
import type { Clock } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import type { ErrorCode, TroupeError } from '../kernel/errors.js';
import type { Trigger } from '../core/batcher.js';
import type { Effect } from '../core/effects.js';
import type { PoolState } from '../core/lifecycles.js';
import type { PoolCore } from '../core/pool-core.js';
import { PROBE_BUCKET, Request } from '../core/request.js';
import { APPLICATION } from './ask.js';

/**
 * Whether a pool would answer a record now; why not, in words without names. `asleep`: it has scaled itself to 0, or wakes;
 * a record is taken in and answered when a replica has loaded.
 */
export type PoolHealth =
  | { readonly ready: true; readonly asleep?: true }
  | { readonly ready: false; readonly why: string };

/** What probes have added to the counters of the core. */
export interface ProbeCounts {
  accepted: number;
  settled: number;
  results: number;
  batches: number;
  readonly triggers: Partial<Record<Trigger, number>>;
  readonly errors: Partial<Record<ErrorCode, number>>;
}

type Send = Extract<Effect, { kind: 'send' }>;

/** A check takes so long at most, in as many parts: in each of them another replica may be tried. */
const PATIENCE_MS = 350;
const PARTS = 3;
/** A batch that runs this many times as long as expected, and so long at least, is no work any more. */
const OVERDUE_FACTOR = 4;
const OVERDUE_MS = 1000;
const HIGHEST_PRIORITY = 100;

const UNREADY: Readonly<Record<Exclude<PoolState, 'running'>, string>> = {
  starting: 'it is starting',
  draining: 'it is draining and takes no records',
  stopping: 'it is stopping',
  stopped: 'it has stopped',
  failed: 'its restarts are used up',
};
const ASLEEP: PoolHealth = { ready: true, asleep: true };
const NO_REPLICA: PoolHealth = { ready: false, why: 'no replica is ready' };

export class Readiness {
  readonly counts: ProbeCounts = { accepted: 0, settled: 0, results: 0, batches: 0, triggers: {}, errors: {} };
  readonly #core: PoolCore;
  readonly #clock: Clock;
  readonly #schedule: () => void;
  /** Batches that are probes, until they have ended. */
  readonly #sent = new Set<number>();
  #checking: Promise<PoolHealth> | undefined;
  #answer: Deferred<boolean> | undefined;
  #lastId = 0;

  /** `schedule` sees to it that the turn is dispatched. */
  constructor(core: PoolCore, clock: Clock, schedule: () => void) {
    this.#core = core;
    this.#clock = clock;
    this.#schedule = schedule;
  }

  /** Takes less than half a second. */
  check(): Promise<PoolHealth> {
    this.#checking ??= this.#check().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  get inFlightCount(): number {
    return this.#sent.size;
  }

  /** A batch of the core is a probe, and goes to a replica. */
  sent({ batchId, trigger }: Send): void {
    this.#sent.add(batchId);
    this.counts.batches++;
    this.counts.triggers[trigger] = (this.counts.triggers[trigger] ?? 0) + 1;
  }

  /** A batch has ended: was it a probe? */
  ended(batchId: number): boolean {
    return this.#sent.size > 0 && this.#sent.delete(batchId);
  }

  /** A probe has come to its end; without an error a replica has answered it. */
  settled(error: TroupeError | undefined): void {
    const { counts } = this;
    counts.settled++;
    if (error !== undefined) {
      counts.errors[error.code] = (counts.errors[error.code] ?? 0) + 1;
      return;
    }
    counts.results++;
    this.#answer?.resolve(true);
  }

  async #check(): Promise<PoolHealth> {
    const core = this.#core;
    const workBefore = this.#workCount;
    for (let part = 0; part < PARTS; part++) {
      const unready = this.#unready();
      if (unready !== undefined) return unready;
      // Y4.
      if (this.#core.rest !== undefined) return ASLEEP;
      if (this.counts.accepted - this.counts.settled < core.fleet.readyCount) this.#offer();
      if (await this.#isAnswered(PATIENCE_MS / PARTS)) return { ready: true };
    }
    const unready = this.#unready();
    if (unready !== undefined) return unready;
    if (this.#workCount > workBefore || this.#isWorking()) return { ready: true };
    return { ready: false, why: `no replica answered a probe within ${PATIENCE_MS} ms` };
  }

  #unready(): PoolHealth | undefined {
    const { state, fleet } = this.#core;
    if (state !== 'running') return { ready: false, why: UNREADY[state] };
    return fleet.readyCount === 0 && this.#core.rest === undefined ? NO_REPLICA : undefined;
  }

  get #workCount(): number {
    const { settled, known } = this.#core.counts;
    return settled - known - this.counts.settled;
  }

  /** Y3. Where no batch has ended yet nobody knows how long one takes, up to batchTimeoutMs. */
  #isWorking(): boolean {
    const { batcher, fleet, limits } = this.#core;
    const now = this.#clock.now();
    const overdueMs =
      batcher.expectedMs === 0
        ? limits.batchTimeoutMs
        : Math.min(limits.batchTimeoutMs, Math.max(OVERDUE_MS, OVERDUE_FACTOR * batcher.expectedMs));
    return fleet.list.some((cell) => {
      const [running] = cell.flights;
      if (running === undefined || this.#sent.has(running.batchId) || !fleet.serves(cell)) return false;
      return now - running.startedAt < overdueMs;
    });
  }

  #offer(): void {
    const now = this.#clock.now();
    const probe = new Request({
      id: --this.#lastId,
      input: undefined,
      owner: this,
      sender: APPLICATION,
      priority: HIGHEST_PRIORITY,
      bucket: PROBE_BUCKET,
      bytes: 0,
      weight: 0,
      offeredAt: now,
      deadlineAt: Infinity,
    });
    // A full mailbox refuses it, as it would a record; whether the pool works then is seen by what it settles.
    if (this.#core.offer(probe, 'try', now) !== 'accepted') return;
    this.counts.accepted++;
    for (const bucket of this.#core.mailbox.buckets) if (bucket.name === PROBE_BUCKET) bucket.flushedAt = now;
    this.#schedule();
  }

  async #isAnswered(withinMs: number): Promise<boolean> {
    const answer = deferred<boolean>();
    this.#answer = answer;
    const timer = this.#clock.at(this.#clock.now() + withinMs, () => answer.resolve(false));
    try {
      return await answer.promise;
    } finally {
      timer.cancel();
      this.#answer = undefined;
    }
  }
}
