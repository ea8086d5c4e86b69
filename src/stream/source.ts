import type { TroupeError } from '../kernel/errors.js';
import type { Control, RecordFailure, Stamped } from './envelope.js';

/** Where records come from. A definition: nothing is opened before a pipeline runs, and every run opens it anew. */
export interface Source<T> {
  readonly name: string;
  /**
   * Rejects with SOURCE_FAILED when nothing can be read at all. `from` is a position that a reader of an equal source
   * gave in an earlier run: the reader goes on there, with the very records that came after it then. `giveUp` is set
   * when the run ends before that: nothing more is to be tried. A reader that comes later is closed.
   */
  open(from?: ResumeFrom, giveUp?: AbortSignal): SourceReader<T> | Promise<SourceReader<T>>;
  /** How many records a run will read, for a progress bar: only where that is much cheaper than reading them. */
  count?(): number | Promise<number>;
}

export interface ResumeFrom {
  /** What `SourceReader.position` gave; JSON. */
  readonly position: unknown;
}

/** What a source may give: a record, one with what is known of it, one that cannot be read, or a control element. */
export type SourceItem<T> = T | Stamped<T> | RecordFailure | Control;

/**
 * Reads one run's records in chunks. Its caller never has two reads open at once. A record that cannot be read takes
 * its place as a RecordFailure; a rejection of `read` means the source as a whole has failed.
 *
 * A source is one of three kinds. Replayable, with `position`: a checkpoint holds positions, no records. Acknowledging,
 * with `acknowledge`: what was not acknowledged comes again by itself; every record has a token of its own, else the
 * report's `delivery` is at-least-once. Neither: a checkpoint holds the records that were under way.
 */
export interface SourceReader<T> {
  /** At least 1 and at most `max` items, in order; undefined at the end. */
  read(max: number): readonly SourceItem<T>[] | undefined | Promise<readonly SourceItem<T>[] | undefined>;
  /** Replayable sources: where the next record to be read stands; JSON that does not change later. Asked between reads. */
  position?: (() => unknown) | undefined;
  /**
   * Acknowledging sources: these records, with a token each, have their outcome, and it is safe: written and flushed,
   * or part of a durable checkpoint. May be told the same again after a crash.
   */
  acknowledge?(outcomes: readonly Acknowledgement[]): void | Promise<void>;
  /**
   * True of an acknowledging source: every record has a name in its metadata (`{ key: string }`) that is the same when
   * it comes again, so an idempotent sink knows it.
   */
  readonly namesRecords?: boolean;
  /** True: `acknowledge` wants the values that came out of a record. */
  readonly wantsValues?: boolean;
  /** Gives everything back; called once, also while a read is open. Must not wait for that read. */
  close(): void | Promise<void>;
}

export interface Acknowledgement {
  /** From `Stamped`. */
  readonly token: unknown;
  /** Why the record failed, where it did and went to no dead-letter sink: the source may give it again. */
  readonly error?: TroupeError;
  /** What came out at the end of the pipeline, only where `wantsValues`; not after a restart. */
  readonly values?: readonly unknown[];
}
