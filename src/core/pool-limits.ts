import type { BatchLimits } from './batcher.js';
import type { FleetLimits } from './fleet.js';
import type { MailboxLimits } from './mailbox.js';
import type { ModelLimits } from './model-desk.js';

/** The options of a pool as its core takes them: complete, and fixed for its life. */
export interface PoolLimits extends FleetLimits {
  readonly mailbox: MailboxLimits;
  readonly batching: BatchLimits;
  readonly maxInFlight: number;
  /** A replica with as many token streams takes no further batch. Default Infinity. */
  readonly maxStreams?: number;
  readonly batchTimeoutMs: number;
  /** How many deaths a record survives at most. */
  readonly attempts: number;
  /** What becomes of a replica whose batch nobody waits for any more: it is told, or another takes its place. */
  readonly cancellation: 'signal' | 'replace';
  /** Where the pool holds many models. */
  readonly models?: ModelLimits | undefined;
}
