import type { BatchCall } from '../core/effects.js';
import type { MetricsRegistry } from '../telemetry/registry.js';
import type { Outcome } from './outcome.js';

/** One record on its way into a pool by the bulk path. The object may be reused only after `settled` was called. */
export interface Submission<In, Out> {
  readonly input: In;
  /** Who sends: fair share is kept between senders. From `openSender`. */
  readonly sender: number;
  readonly priority: number;
  /** Monotonic instant (systemClock.now()), Infinity for none. */
  readonly deadlineAt: number;
  /** Each try expires this long after its send to a replica, whatever the deadline; none without it. */
  readonly callTimeoutMs?: number | undefined;
  /** Records of one key run one after another, in the order they were accepted; free across keys. */
  readonly key?: string | undefined;
  /** Which model answers, where the pool holds many. */
  readonly model?: string | undefined;
  /** The span it belongs to, as the header of W3C Trace Context; read where the pool makes spans. */
  readonly traceparent?: string | undefined;
  /**
   * Called exactly once for every accepted submission, never from inside `offer`. `call` is the batch whose end settled
   * it, one object for all its records; undefined where it settled otherwise (expired, refused).
   */
  settled(outcome: Outcome<Out>, call?: BatchCall): void;
}

/** Cancels one accepted submission: it settles with CANCELLED unless it has settled already. */
export interface Ticket {
  cancel(reason?: unknown): void;
}

/**
 * What a stream operator needs of a pool, local or remote. Back-pressure is the return value: `offer` gives undefined
 * while the mailbox is full, and nothing was accepted; `onRoom` calls back once, when offering is worth another try.
 */
export interface InferTarget<In, Out> {
  readonly name: string;
  /** It holds many models, and each submission names one. */
  readonly holdsManyModels?: boolean;
  /** Batches that are with replicas now, where it is known. */
  readonly inFlightBatches?: number;
  /** Where pipelines that use it say what they count; a pool has that of its system. */
  readonly metrics?: MetricsRegistry | undefined;
  openSender(name: string): number;
  closeSender(sender: number): void;
  offer(submission: Submission<In, Out>): Ticket | undefined;
  onRoom(sender: number, callback: () => void): void;
  /** Sends what is waiting without waiting for full batches: the caller has nothing more for now. */
  flush(): void;
}
