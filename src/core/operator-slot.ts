import type { TroupeError } from '../kernel/errors.js';
import type { Lease } from './breaker.js';
import type { Due } from './deadlines.js';
import { EmissionSlot } from './emission.js';

/** How one try of one record ended. */
export type RecordOutcome =
  | { readonly ok: true; readonly value: unknown; readonly version: string | undefined }
  | { readonly ok: false; readonly error: TroupeError };

/**
 * Where a record stands. queued -> sent -> settled; between two tries backoff; after the last failure, where another
 * pool is the fallback, second-queued -> second-sent -> settled. What needs no actor settles as it enters.
 */
export type SlotState = 'new' | 'queued' | 'sent' | 'backoff' | 'second-queued' | 'second-sent' | 'settled';

/**
 * One record held by an infer step: all its state, so that no record can spoil the retries of another. One object per
 * record and a stable shape; the edge adds the record itself.
 */
export class OperatorSlot extends EmissionSlot {
  // rules, set before it enters
  input: unknown = undefined;
  /** Which model is asked, where the pool holds many. */
  model: string | undefined = undefined;
  priority = 0;
  /** Time it may take from its first acceptance, over all tries; undefined for none. */
  leftMs: number | undefined = undefined;

  // fate, written by the core alone
  state: SlotState = 'new';
  /** Runs from the first acceptance. */
  deadlineAt = Infinity;
  /** A pool has accepted it once, so the deadline stands. */
  hasStarted = false;
  /** Tries that have ended. */
  attempts = 0;
  /** How the last try ended. */
  outcome: RecordOutcome | undefined = undefined;
  /** The second pool gave the outcome. */
  isSecond = false;
  /** Why the second pool was asked, once it has answered. */
  firstError: TroupeError | undefined = undefined;
  /** The right to the try that waits or runs, where there is a breaker. */
  lease: Lease | undefined = undefined;

  // for the deadlines; a number with a fraction, or Infinity, would cost an object of its own for each record
  dueAt = 0;
  heapIndex = -1;
  dueBefore: Due | undefined = undefined;
  dueAfter: Due | undefined = undefined;
}
