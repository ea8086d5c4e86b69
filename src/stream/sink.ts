import type { Control, RecordInfo } from './envelope.js';

/**
 * Where records go. A run opens it once and ends it by close or by abort. Before abort it never makes a call while the
 * promise of another is open.
 *
 * In a run with checkpoints a sink takes part in one of three ways. Two-phase, with `prepare`: its state stands in the
 * checkpoint, and a resumed run takes back what was written after it. Idempotent: `records[i].id` is the key, so
 * a record written twice is there once. Neither: after a crash records may be there twice, and the report says so.
 */
export interface Sink<T = unknown> {
  readonly name: string;
  /**
   * Rejects when writing can never work, so that nothing is read in vain. With `resume` the sink goes back to the
   * state that `prepare` gave, and commits it (again). `giveUp` is set when the run ends before that: nothing more is to
   * be tried. A sink that is open later is closed.
   */
  open?(resume?: { readonly state: unknown }, giveUp?: AbortSignal): void | Promise<void>;
  /** Takes the values in order. A promise holds the whole pipeline back until it resolves: this is the back-pressure. */
  write(values: readonly T[], records: readonly RecordInfo[]): void | Promise<void>;
  /** A control element came, after everything written before and before everything written later. */
  control?(element: Control): void | Promise<void>;
  /**
   * Phase one: makes everything written so far safe, and gives what a later run needs to go back to here; JSON. Records
   * may be written before the `commit`, and there may never be one: then the checkpoint failed.
   */
  prepare?: (() => unknown) | undefined;
  /** Phase two: the checkpoint with this state, and so everything prepared until then, is durable. May come again after a crash. */
  commit?(state: unknown): void | Promise<void>;
  /** True: writing a record again under the same id changes nothing. */
  readonly isIdempotent?: boolean;
  /** Everything written must be safe when it resolves. */
  close(): void | Promise<void>;
  /** Ends at once after a failure or while a write is open; must not wait for a reader that may never come. Default: close. */
  abort?(): void | Promise<void>;
}

/** Thrown by a sink whose reader has gone away (`| head`): the run ends quietly, as if cancelled. */
export class SinkClosed extends Error {
  constructor(name: string) {
    super(`The reader of ${name} has gone`);
    this.name = 'SinkClosed';
  }
}
