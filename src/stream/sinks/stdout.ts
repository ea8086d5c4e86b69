import { checkKeys } from '../options.js';
import { SinkClosed, type Sink } from '../sink.js';
import { checkFormat, toLines, type LineFormat } from './json-lines.js';

export interface ToStdoutOptions {
  /** Default auto: text for strings, NDJSON for everything else. */
  format?: LineFormat;
}

/** Writes one line for each value to standard output. A reader that goes away (`| head`) ends the run quietly. */
export function toStdout(options: ToStdoutOptions = {}): Sink {
  checkKeys('toStdout', options, ['format']);
  const { format = 'auto' } = options;
  checkFormat(format);
  return new StreamSink('stdout', process.stdout, format);
}

/** The part of a writable stream that is used; process.stdout is one. */
export interface LineOutput {
  write(text: string, done: (error?: Error | null) => void): boolean;
  on(event: 'error', listener: (error: Error) => void): unknown;
  off(event: 'error', listener: (error: Error) => void): unknown;
}

export class StreamSink implements Sink {
  #failure: Error | undefined;
  #open = 0;
  #waiting: (() => void)[] = [];
  readonly #onError = (error: Error): void => this.#fail(error);

  constructor(
    readonly name: string,
    private readonly output: LineOutput,
    private readonly format: LineFormat,
  ) {}

  open(): void {
    this.output.on('error', this.#onError);
  }

  write(values: readonly unknown[]): void | Promise<void> {
    this.#check();
    this.#open += 1;
    const hasRoom = this.output.write(toLines(values, this.format), (error) => {
      this.#open -= 1;
      if (error instanceof Error) this.#fail(error);
      this.#wake();
    });
    return hasRoom ? undefined : this.#drained();
  }

  async close(): Promise<void> {
    try {
      await this.#drained();
    } finally {
      this.abort();
    }
  }

  abort(): void {
    this.output.off('error', this.#onError);
    // The error event of a broken pipe may come after the callback that told of it; unheard it would end the process.
    if (this.#failure !== undefined) this.output.on('error', () => undefined);
  }

  /** Every write was taken by the system. */
  async #drained(): Promise<void> {
    while (this.#open > 0 && this.#failure === undefined) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#check();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #check(): void {
    if (this.#failure === undefined) return;
    if ('code' in this.#failure && this.#failure.code === 'EPIPE') throw new SinkClosed(this.name);
    throw this.#failure;
  }
}
