/**
 * Decides when which waiting records go together to a replica that has room.
 *
 * Work-conserving: with maxDelayMs 0 a free replica never waits while anything does; a batch grows for free as long as
 * every replica is busy. With maxDelayMs > 0 the caller asked to wait for company, and gets it.
 * The rule "delay 0 = send what is there when a slot frees" is that of Triton's dynamic batch scheduler.
 *
 * B1 a batch comes from one bucket. B2 every batch names the trigger that formed it. B3 no timer is kept here: the
 * instant to wake is derived from what waits now, so a flush cannot leave a stale timer behind (the Flink AsyncBatch
 * defect B4). B4 nothing is held back past its deadline less the expected cost of a batch.
 */

import type { Bucket, Mailbox } from './mailbox.js';
import type { Request } from './request.js';

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
  readonly maxSize: number;
  readonly maxBytes: number;
  /** Infinity for none. */
  readonly maxWeight: number;
  readonly maxDelayMs: number;
  /** Infinity for none. */
  readonly targetLatencyMs: number;
}

export interface Formed {
  readonly requests: Request[];
  readonly trigger: Trigger;
}

/** Weight of the newest observation in the expected cost of a batch. */
const COST_WEIGHT = 0.2;

export class Batcher {
  readonly limits: BatchLimits;
  /** Expected duration of a batch, from those seen; 0 until one was. */
  expectedMs = 0;

  constructor(limits: BatchLimits) {
    this.limits = limits;
  }

  /** A batch took this long between send and reply. */
  observe(durationMs: number): void {
    this.expectedMs =
      this.expectedMs === 0 ? durationMs : this.expectedMs + COST_WEIGHT * (durationMs - this.expectedMs);
  }

  /** Everything that waits now goes as soon as a replica is free, full or not. */
  flush(mailbox: Mailbox, now: number): void {
    for (const bucket of mailbox.buckets) bucket.flushedAt = now;
  }

  /**
   * The best batch there is for a replica with room, or undefined. A busy replica stages something only where a full
   * batch waits; but what goes then is chosen as for an idle one, or full batches would starve a rare shape.
   */
  form(mailbox: Mailbox, replicaIsIdle: boolean, now: number): Formed | undefined {
    if (!replicaIsIdle && !this.#hasFull(mailbox)) return undefined;
    let best: Bucket | undefined;
    let bestTrigger: Trigger = 'idle';
    let bestUrgency = -Infinity;
    const { buckets } = mailbox;
    for (let b = 0; b < buckets.length; b++) {
      const bucket = buckets[b] as Bucket;
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
    const { maxSize, maxBytes, maxWeight } = this.limits;
    return { requests: mailbox.take(best, maxSize, maxBytes, maxWeight, now), trigger: bestTrigger };
  }

  /** When `form` is to be asked again for an idle replica though nothing else happens; Infinity for never. */
  wakeAt(mailbox: Mailbox): number {
    if (this.limits.maxDelayMs === 0) return Infinity;
    let wakeAt = Infinity;
    const { buckets } = mailbox;
    for (let b = 0; b < buckets.length; b++) wakeAt = Math.min(wakeAt, this.#heldUntil(buckets[b] as Bucket));
    return wakeAt;
  }

  #hasFull(mailbox: Mailbox): boolean {
    const { buckets } = mailbox;
    for (let b = 0; b < buckets.length; b++) if (this.#full(buckets[b] as Bucket) !== undefined) return true;
    return false;
  }

  #full(bucket: Bucket): Trigger | undefined {
    if (bucket.count >= this.limits.maxSize) return 'size';
    if (bucket.bytes >= this.limits.maxBytes) return 'bytes';
    return bucket.weight >= this.limits.maxWeight ? 'weight' : undefined;
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
    return Math.min(
      oldestAt + maxDelayMs,
      oldestAt + targetLatencyMs - this.expectedMs,
      bucket.earliestDeadlineAt - this.expectedMs - 1, // B4; 1 ms because a timer is that coarse
    );
  }
}
