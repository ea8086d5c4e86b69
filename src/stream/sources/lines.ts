/**
 * Splits a file into physical lines, block by block. Owns the file handle; knows nothing of formats.
 *
 * L1 memory: at most one block, one carried line of maxLineBytes, and the lines of one block.
 * L2 every line of the file gives exactly one entry, so that line numbers are counted and never searched.
 * L3 a line that cannot be a record (too long, not UTF-8) is one RecordFailure; those around it are whole.
 */
import { isUtf8 } from 'node:buffer';
import { open, type FileHandle } from 'node:fs/promises';
import { TroupeError } from '../../kernel/errors.js';
import { RecordFailure } from '../envelope.js';

const BLOCK_BYTES = 65_536;
/** What is kept of an overlong line, for the dead letter. */
const EXCERPT_BYTES = 1024;
const LF = 10;

/** Lines without their line feed; `\r` before it is left on, because inside a quoted CSV field it is data. */
export interface LineBlock {
  /** Number of the first line, from 1. */
  readonly firstNumber: number;
  readonly lines: readonly (string | RecordFailure)[];
}

/** What lines are read from: a FileHandle, or something that reads like one. */
export interface LineInput {
  /** Resolves to 0 bytes at the end. */
  read(into: Buffer, offset: number, length: number, position: null): Promise<{ readonly bytesRead: number }>;
  close(): Promise<void>;
}

export class LineReader {
  readonly #block = Buffer.allocUnsafe(BLOCK_BYTES);
  #carried: Buffer = Buffer.alloc(0);
  /** Set while the rest of an overlong line is thrown away: the line's beginning. */
  #overlong: string | undefined;
  #number = 1;
  #isAtStart = true;
  #hasEnded = false;

  private constructor(
    readonly path: string,
    private readonly file: LineInput,
    private readonly maxLineBytes: number,
  ) {}

  /** Rejects with SOURCE_FAILED when the file cannot be opened or is a directory. */
  static async open(path: string, maxLineBytes: number): Promise<LineReader> {
    let file: FileHandle | undefined;
    try {
      file = await open(path, 'r');
      if ((await file.stat()).isDirectory()) throw new Error('it is a directory; use fromFiles');
      return new LineReader(path, file, maxLineBytes);
    } catch (cause) {
      await file?.close();
      throw unreadable(path, cause);
    }
  }

  /** Reads what is no file by path; `name` stands in messages. */
  static over(name: string, input: LineInput, maxLineBytes: number): LineReader {
    return new LineReader(name, input, maxLineBytes);
  }

  /** The lines that one more block completes; undefined at the end. */
  async read(): Promise<LineBlock | undefined> {
    while (!this.#hasEnded) {
      const lines = this.#split(await this.#readBlock());
      if (lines.length === 0) continue;
      const firstNumber = this.#number;
      this.#number += lines.length;
      return { firstNumber, lines };
    }
    return undefined;
  }

  close(): Promise<void> {
    return this.file.close();
  }

  async #readBlock(): Promise<Buffer | undefined> {
    try {
      const { bytesRead } = await this.file.read(this.#block, 0, BLOCK_BYTES, null);
      return bytesRead === 0 ? undefined : this.#block.subarray(0, bytesRead);
    } catch (cause) {
      throw unreadable(this.path, cause);
    }
  }

  #split(block: Buffer | undefined): (string | RecordFailure)[] {
    const lines: (string | RecordFailure)[] = [];
    if (block === undefined) {
      this.#hasEnded = true;
      if (this.#overlong !== undefined) lines.push(this.#tooLong(this.#overlong, 0));
      else if (this.#carried.length > 0) this.#decode(this.#carried, lines);
      return lines;
    }
    let rest = block;
    if (this.#overlong !== undefined) {
      const end = rest.indexOf(LF);
      if (end < 0) return lines;
      lines.push(this.#tooLong(this.#overlong, 0));
      this.#overlong = undefined;
      rest = rest.subarray(end + 1);
    }
    const end = rest.lastIndexOf(LF);
    if (end >= 0) {
      const whole = rest.subarray(0, end);
      this.#decode(this.#carried.length === 0 ? whole : Buffer.concat([this.#carried, whole]), lines);
      rest = rest.subarray(end + 1);
      this.#carried = Buffer.from(rest);
    } else this.#carried = Buffer.concat([this.#carried, rest]);
    if (this.#carried.length > this.maxLineBytes) {
      this.#overlong = this.#carried.toString('utf8', 0, EXCERPT_BYTES);
      this.#carried = Buffer.alloc(0);
    }
    return lines;
  }

  /** Decodes whole lines at once where that is safe, one by one where a line is too long or not UTF-8. */
  #decode(given: Buffer, lines: (string | RecordFailure)[]): void {
    let bytes = given;
    if (this.#isAtStart) {
      this.#isAtStart = false;
      if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) bytes = bytes.subarray(3);
    }
    if (bytes.length <= this.maxLineBytes) {
      const text = bytes.toString('utf8');
      if (!text.includes('\uFFFD')) {
        for (const line of text.split('\n')) lines.push(line);
        return;
      }
    }
    for (let from = 0; from <= bytes.length; ) {
      const found = bytes.indexOf(LF, from);
      const to = found < 0 ? bytes.length : found;
      const line = bytes.subarray(from, to);
      if (line.length > this.maxLineBytes) {
        lines.push(this.#tooLong(line.toString('utf8', 0, EXCERPT_BYTES), lines.length));
      } else if (!isUtf8(line)) {
        lines.push(parseFailed(this.path, this.#number + lines.length, 'is not valid UTF-8', line.toString('utf8')));
      } else lines.push(line.toString('utf8'));
      from = to + 1;
    }
  }

  #tooLong(excerpt: string, offset: number): RecordFailure {
    const words = `is longer than maxLineBytes (${this.maxLineBytes})`;
    return parseFailed(this.path, this.#number + offset, words, excerpt);
  }
}

export function parseFailed(path: string, line: number, words: string, input: unknown, cause?: unknown): RecordFailure {
  return new RecordFailure(new TroupeError('PARSE_FAILED', `${path}:${line} ${words}`, { cause }), input);
}

export function unreadable(path: string, cause: unknown): TroupeError {
  const words = cause instanceof Error ? cause.message : String(cause);
  return new TroupeError('SOURCE_FAILED', `Cannot read ${path}: ${words}`, { cause });
}
