/**
 * Decides when which waiting records go together to a replica that has room.
 *
 * Work-conserving: with maxDelayMs 0 a free replica never waits while anything does; a batch grows for free as long as
 * every replica is busy. With maxDelayMs > 0 the caller asked to wait for company, and gets it.
 * The rule "delay 0 = send what is there when a slot frees" is that of Triton's dynamic batch scheduler.
 *
 * `adaptive`: how many of those that wait go is learned, bucket by bucket, from what batches cost (adaptive-size.ts);
 * maxSize is then the upper bound. Without it every batch takes as many as maxSize.
 *
 * Where a replica holds some of many models, it is offered only what is for these (`shelf`).
 *
 * B1 a batch comes from one bucket. B2 every batch names the trigger that formed it. B3 no timer is kept here: the
 * instant to wake is derived from what waits now, so a flush cannot leave a stale timer behind (the Flink AsyncBatch
 * defect B4). B4 nothing is held back past its deadline less the expected cost of a batch. B5 what is learned is bounded:
 * so many buckets, the one used longest ago goes first.
 */

import { AdaptiveSize, type BucketBelief, type WarmUpCosts } from './adaptive-size.js';
import type { Bucket, Mailbox } from './mailbox.js';
import type { Request } from './request.js';
import { ALL_SIDES } from './traffic-split.js';

export type Trigger =
  | 'size'
  | 'bytes'
  | 'weight'
  | 'delay'
  | 'idle'
  | 'deadline'
  | 'flush'
  | 'split'
  | 'quarantine'
  | 'retry';

export const TRIGGERS: readonly Trigger[] = [
  'size',
  'bytes',
  'weight',
  'delay',
  'idle',
  'deadline',
  'flush',
  'split',
  'quarantine',
  'retry',
];

export interface BatchLimits {
  /** Sizes are chosen by what batches cost, up to maxSize; false: always maxSize. */
  readonly adaptive: boolean;
  readonly maxSize: number;
  readonly maxBytes: number;
  /** Infinity for none. */
  readonly maxWeight: number;
  readonly maxDelayMs: number;
  /** Infinity for none. */
  readonly targetLatencyMs: number;
}

/** What a replica may be given, in a pool that holds many models. */
export interface Shelf {
  mayRun(model: string | undefined): boolean;
  /** How many replicas may run it; and of those, how many are idle. */
  holders(model: string | undefined): number;
  idleHolders(model: string | undefined): number;
}

export interface Formed {
  readonly requests: Request[];
  readonly trigger: Trigger;
}

/** Weight of the newest observation in the expected cost of a batch. */
const COST_WEIGHT = 0.2;
/** B5. */
const BUCKETS_MAX = 64;
/**
 * What waits is divided among replicas into parts of at least so many times the size at which half of the time of a batch
 * is its fixed cost. Beside idle replicas time is to be had; while others are busy, four keeps four fifths of the
 * throughput or more and halves the p99 of bursts where records cost much beside the fixed part (bench/adaptive.ts).
 */
const IDLE_PARTS = 1;
const BUSY_PARTS = 4;
/** Beyond this share of the target a record shows that the cap does not help. */
const HOPELESS_SHARE = 1.25;
/** No batch is tried for its cost where a deadline comes within so many times what it may take. */
const PROBE_SLACK = 4;

export class Batcher {
  readonly limits: BatchLimits;
  /** Expected duration of a batch, from those seen; 0 until one was. */
  expectedMs = 0;
  /** So many replicas serve. */
  replicaCount = 1;
  /** By bucket, the one used last at the end. Empty unless adaptive. */
  readonly #sizes = new Map<string, AdaptiveSize>();
  readonly #maxInFlight: number;
  #warmUp: WarmUpCosts = [];
  /** By model; as bounded as what is learned. */
  readonly #warmUps = new Map<string, WarmUpCosts>();
  // The bucket asked for last: with one shape it is always the same.
  #lastName = '';
  #lastSize: AdaptiveSize | undefined;

  constructor(limits: BatchLimits, maxInFlight = 1) {
    this.limits = limits;
    this.#maxInFlight = maxInFlight;
  }

  /** A batch took this long between send and reply. */
  observe(durationMs: number): void {
    this.expectedMs =
      this.expectedMs === 0 ? durationMs : this.expectedMs + COST_WEIGHT * (durationMs - this.expectedMs);
  }

  /** A batch of so many records of this bucket was computed, and took this long. The first of them had so much time. */
  learn(bucket: string, size: number, durationMs: number, timeoutMs: number, model?: string): void {
    if (!this.limits.adaptive) return;
    const isNext = bucket === this.#lastName;
    const known = this.sizeOf(bucket);
    (known ?? this.#newSize(bucket, model)).observe(size, durationMs, timeoutMs);
    if (isNext || known === undefined) return;
    this.#sizes.delete(bucket); // to the end
    this.#sizes.set(bucket, known);
  }

  /** Another version serves: what was learned of the old one says nothing. */
  forget(): void {
    this.#sizes.clear();
    this.#lastSize = undefined;
    this.#warmUp = [];
  }

  /**
   * What the warm-up took, of a model whose records all have one shape. Used by buckets that nothing is known of; of one
   * model, where a pool holds many.
   */
  seed(costs: WarmUpCosts, model?: string): void {
    if (model === undefined) {
      this.#warmUp = costs;
      return;
    }
    this.#warmUps.delete(model);
    if (costs.length === 0) return;
    this.#warmUps.set(model, costs);
    if (this.#warmUps.size <= BUCKETS_MAX) return;
    const [oldest] = this.#warmUps.keys();
    this.#warmUps.delete(oldest as string);
  }

  /** What is believed of a bucket; undefined before its first batch, and where sizes are fixed. */
  sizeOf(bucket: string): AdaptiveSize | undefined {
    if (this.#lastSize !== undefined && this.#lastName === bucket) return this.#lastSize;
    const size = this.#sizes.get(bucket);
    if (size !== undefined) {
      this.#lastName = bucket;
      this.#lastSize = size;
    }
    return size;
  }

  /** Of the buckets used last, `most` at most. */
  beliefs(most: number): BucketBelief[] {
    const all = [...this.#sizes].slice(-most).reverse();
    return all.map(([name, size]) => size.belief(name));
  }

  /** Everything that waits now goes as soon as a replica is free, full or not. */
  flush(mailbox: Mailbox, now: number): void {
    for (const bucket of mailbox.buckets) bucket.flushedAt = now;
  }

  /**
   * The best batch there is for a replica with room, or undefined. A busy replica (`idleCount` 0) stages something only
   * where a full batch waits; but what goes then is chosen as for an idle one, or full batches would starve a rare shape.
   * Replicas share what waits, as one of them that took it all would keep it from those that are free before it is done.
   * No record of the pool is due before `dueAt`. `sides`: what a replica of one of two versions may take; `shelf`: what
   * one that holds some of many models may.
   */
  form(
    mailbox: Mailbox,
    idleCount: number,
    dueAt: number,
    now: number,
    sides = ALL_SIDES,
    shelf?: Shelf,
  ): Formed | undefined {
    if (idleCount === 0 && !this.hasFull(mailbox, sides, shelf)) return undefined;
    let best: Bucket | undefined;
    let bestTrigger: Trigger = 'idle';
    let bestUrgency = -Infinity;
    const { buckets } = mailbox;
    for (let b = 0; b < buckets.length; b++) {
      const bucket = buckets[b] as Bucket;
      if ((bucket.side & sides) === 0) continue;
      if (shelf !== undefined && !shelf.mayRun(bucket.model)) continue;
      const trigger = this.#due(bucket, now);
      if (trigger === undefined) continue;
      if (buckets.length === 1) {
        best = bucket;
        bestTrigger = trigger;
        break;
      }
      const urgency = mailbox.urgency(bucket, now);
      if (best === undefined || urgency > bestUrgency || (urgency === bestUrgency && bucket.oldestAt < best.oldestAt)) {
        best = bucket;
        bestTrigger = trigger;
        bestUrgency = urgency;
      }
    }
    if (best === undefined) return undefined;
    const { adaptive, maxSize, maxBytes, maxWeight } = this.limits;
    const size = adaptive ? this.#sizeFor(best, idleCount, dueAt, now, shelf) : maxSize;
    return { requests: mailbox.take(best, size, maxBytes, maxWeight, now), trigger: bestTrigger };
  }

  /** When `form` is to be asked again for an idle replica though nothing else happens; Infinity for never. */
  wakeAt(mailbox: Mailbox, sides = ALL_SIDES, shelf?: Pick<Shelf, 'mayRun'>): number {
    if (this.limits.maxDelayMs === 0) return Infinity;
    let wakeAt = Infinity;
    const { buckets } = mailbox;
    for (let b = 0; b < buckets.length; b++) {
      const bucket = buckets[b] as Bucket;
      if ((bucket.side & sides) !== 0 && (shelf === undefined || shelf.mayRun(bucket.model)))
        wakeAt = Math.min(wakeAt, this.#heldUntil(bucket));
    }
    return wakeAt;
  }

  /** A batch waits that need not grow. */
  hasFull(mailbox: Mailbox, sides = ALL_SIDES, shelf?: Shelf): boolean {
    const { buckets } = mailbox;
    for (let b = 0; b < buckets.length; b++) {
      const bucket = buckets[b] as Bucket;
      if ((bucket.side & sides) === 0 || this.#full(bucket) === undefined) continue;
      if (shelf === undefined || shelf.mayRun(bucket.model)) return true;
    }
    return false;
  }

  #full(bucket: Bucket): Trigger | undefined {
    const { adaptive, maxSize, maxBytes, maxWeight } = this.limits;
    const { count } = bucket;
    if (count >= maxSize) return 'size';
    if (adaptive) {
      const size = this.sizeOf(bucket.name);
      if (size !== undefined && count >= size.size) return 'size';
    }
    if (bucket.bytes >= maxBytes) return 'bytes';
    return bucket.weight >= maxWeight ? 'weight' : undefined;
  }

  #due(bucket: Bucket, now: number): Trigger | undefined {
    const full = this.#full(bucket);
    if (full !== undefined) return full;
    const { maxDelayMs } = this.limits;
    if (maxDelayMs === 0) return 'idle';
    const oldestAt = bucket.oldestAt;
    if (oldestAt <= bucket.flushedAt) return 'flush';
    if (oldestAt + maxDelayMs <= now) return 'delay';
    return this.#heldUntil(bucket) <= now ? 'deadline' : undefined;
  }

  #heldUntil(bucket: Bucket): number {
    const { maxDelayMs, targetLatencyMs } = this.limits;
    const oldestAt = bucket.oldestAt;
    const expectedMs = this.sizeOf(bucket.name)?.model.predict(bucket.count) ?? this.expectedMs;
    return Math.min(
      oldestAt + maxDelayMs,
      oldestAt + targetLatencyMs - expectedMs,
      bucket.earliestDeadlineAt - expectedMs - 1, // B4; 1 ms because a timer is that coarse
    );
  }

  // ----------------------------------------------------------- how many go now

  #sizeFor(bucket: Bucket, idleCount: number, dueAt: number, now: number, shelf: Shelf | undefined): number {
    const { count, name, model } = bucket;
    if (count === 1) return 1;
    const size = this.sizeOf(name) ?? this.#newSize(name, model);
    const idle = shelf === undefined || idleCount === 0 ? idleCount : shelf.idleHolders(model);
    const sharers = shelf === undefined ? this.replicaCount : shelf.holders(model);
    let most = Math.min(count, size.best);
    if (most > size.cap && this.#targetHolds(bucket, size, now)) most = size.cap;
    if (size.model.isEmpty) return most;
    if (idle > 1) most = Math.min(most, size.share(count, idle, IDLE_PARTS));
    else if (sharers > 1) most = Math.min(most, size.share(count, sharers, BUSY_PARTS));
    if (dueAt - now < PROBE_SLACK * size.model.predict(most)) return most;
    const trial = size.probe(count, most);
    return trial === 0 ? most : trial;
  }

  /**
   * False: the oldest record is beyond the target by so much that batches under the cap have not kept up. Then the quickest
   * way out is taken, for smaller batches would make all that waits behind them wait longer.
   */
  #targetHolds(bucket: Bucket, { model, cap, targetMs }: AdaptiveSize, now: number): boolean {
    return now - bucket.oldestAt + model.predict(cap) <= HOPELESS_SHARE * targetMs;
  }

  #newSize(bucket: string, model: string | undefined): AdaptiveSize {
    const { maxSize, targetLatencyMs } = this.limits;
    const size = new AdaptiveSize({ maxSize, targetLatencyMs, maxInFlight: this.#maxInFlight });
    size.seed(model === undefined ? this.#warmUp : (this.#warmUps.get(model) ?? []));
    if (this.#sizes.size >= BUCKETS_MAX) {
      const [oldest] = this.#sizes.keys();
      this.#sizes.delete(oldest as string);
    }
    this.#sizes.set(bucket, size);
    this.#lastName = bucket;
    this.#lastSize = size;
    return size;
  }
}
