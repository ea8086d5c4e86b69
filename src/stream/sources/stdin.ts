import type { Readable } from 'node:stream';
import { TroupeError } from '../../kernel/errors.js';
import { checkCount, checkKeys, checkOneOf } from '../options.js';
import type { Source, SourceReader } from '../source.js';
import type { CsvRow } from './csv.js';
import { FileReader, parserOf, type FileFormat } from './file.js';
import { LineReader, type LineInput } from './lines.js';

export interface FromStdinOptions {
  /** Default lines. */
  format?: FileFormat;
  /** A longer line, or CSV record, fails with PARSE_FAILED. Default 1,048,576. */
  maxLineBytes?: number;
}

/**
 * Reads standard input as `fromFile` reads a file: lines as strings, NDJSON as values, CSV rows as objects. The end of
 * the input ends the source. Neither replayable nor acknowledging: what was read is gone from the pipe, so a checkpoint
 * holds the records under way. A second run goes on where the first one stopped, without the block it was in.
 */
export function fromStdin(options: FromStdinOptions & { format: 'lines' }): Source<string>;
export function fromStdin(options: FromStdinOptions & { format: 'csv' }): Source<CsvRow>;
export function fromStdin<T = unknown>(options?: FromStdinOptions): Source<T>;
export function fromStdin(options: FromStdinOptions = {}): Source<unknown> {
  checkKeys('fromStdin', options, ['format', 'maxLineBytes']);
  const { format = 'lines', maxLineBytes = 1_048_576 } = options;
  checkOneOf('format', format, ['lines', 'ndjson', 'csv']);
  checkCount('maxLineBytes', maxLineBytes);
  return {
    name: 'stdin',
    open: () => readStream('stdin', process.stdin, format, maxLineBytes),
  };
}

/** Streams that have a reader: two would tear each other's lines apart. */
const inUse = new WeakSet<Readable>();

/** The reader of fromStdin over any stream of bytes. Throws SOURCE_FAILED where it has one already. */
export function readStream(
  name: string,
  input: Readable,
  format: FileFormat,
  maxLineBytes: number,
): SourceReader<unknown> {
  if (inUse.has(input)) {
    throw new TroupeError('SOURCE_FAILED', `Cannot read ${name}: another pipeline reads it already; only one can`);
  }
  inUse.add(input);
  const lines = LineReader.over(name, new StreamInput(input), maxLineBytes);
  return new FileReader(lines, parserOf(format, name, maxLineBytes));
}

const ignore = (): void => undefined;

/** A handle on the process, where the stream has one: it must not keep the process alive once nobody reads. */
interface Handled {
  ref?(): unknown;
  unref?(): unknown;
}

/** Reads a stream as a file is read, and lets go of it without ending it: standard input belongs to the process. */
class StreamInput implements LineInput {
  #rest: Buffer = Buffer.alloc(0);
  #failure: Error | undefined;
  #isClosed = false;
  #wake: (() => void) | undefined;
  readonly #onChange = (): void => this.#wake?.();
  readonly #onError = (error: Error): void => {
    this.#failure = error;
    this.#wake?.();
  };

  constructor(private readonly stream: Readable & Handled) {
    stream.ref?.();
    stream.on('error', this.#onError);
    for (const event of ['readable', 'end', 'close']) stream.on(event, this.#onChange);
  }

  async read(into: Buffer, offset: number, length: number): Promise<{ readonly bytesRead: number }> {
    while (this.#rest.length === 0) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isClosed) return { bytesRead: 0 };
      const chunk: unknown = this.stream.read();
      if (chunk !== null) this.#rest = Buffer.from(chunk as Uint8Array);
      else if (this.stream.readableEnded || this.stream.destroyed) return { bytesRead: 0 };
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
    const bytesRead = this.#rest.copy(into, offset, 0, Math.min(length, this.#rest.length));
    this.#rest = this.#rest.subarray(bytesRead);
    return { bytesRead };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    inUse.delete(this.stream);
    for (const event of ['readable', 'end', 'close']) this.stream.off(event, this.#onChange);
    this.stream.off('error', this.#onError);
    // Unheard, an error that comes later (a broken terminal) would end the process.
    if (!this.stream.listeners('error').includes(ignore)) this.stream.on('error', ignore);
    this.stream.pause();
    this.stream.unref?.();
    this.#wake?.();
  }
}
