/** Where records go. A run opens it once, never has two writes open at once, and ends it by close or by abort. */
export interface Sink<T = unknown> {
  readonly name: string;
  /** Rejects when writing can never work, so that nothing is read in vain. */
  open?(): void | Promise<void>;
  /** Takes the values in order. A promise holds the whole pipeline back until it resolves: this is the back-pressure. */
  write(values: readonly T[]): void | Promise<void>;
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
