import type { RecordFailure } from './envelope.js';

/** Where records come from. A definition: nothing is opened before a pipeline runs, and every run opens it anew. */
export interface Source<T> {
  readonly name: string;
  /** Rejects with SOURCE_FAILED when nothing can be read at all. */
  open(): SourceReader<T> | Promise<SourceReader<T>>;
  /** How many records a run will read, for a progress bar: only where that is much cheaper than reading them. */
  count?(): number | Promise<number>;
}

/**
 * Reads one run's records in chunks. Its caller never has two reads open at once. A record that cannot be read takes
 * its place as a RecordFailure; a rejection of `read` means the source as a whole has failed.
 */
export interface SourceReader<T> {
  /** At least 1 and at most `max` records, in order; undefined at the end. */
  read(max: number): readonly (T | RecordFailure)[] | undefined | Promise<readonly (T | RecordFailure)[] | undefined>;
  /** Gives everything back; called once, also while a read is open. Must not wait for that read. */
  close(): void | Promise<void>;
}
