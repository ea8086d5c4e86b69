/**
 * Splits a file into physical lines, block by block. Owns the file handle; knows nothing of formats.
 *
 * L1 memory: at most one block, one carried line of maxLineBytes, and the lines of one block.
 * L2 every line of the file gives exactly one entry, so that line numbers are counted and never searched.
 * L3 a line that cannot be a record (too long, not UTF-8) is one RecordFailure; those around it are whole.
 */
import { isUtf8 } from 'node:buffer';
import type { Stats } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { TroupeError, isTroupeError } from '../../kernel/errors.js';
import { RecordFailure } from '../envelope.js';

const BLOCK_BYTES = 65_536;
/** What is kept of an overlong line, for the dead letter. */
const EXCERPT_BYTES = 1024;
const LF = 10;

/** A place between two lines. */
export interface LinePlace {
  /** Byte in the file at which the next line begins. */
  readonly offset: number;
  /** Number of the next line, from 1. */
  readonly line: number;
}

const BEGINNING: LinePlace = { offset: 0, line: 1 };
const LF_BYTES = 1;

/** Lines without their line feed; `\r` before it is left on, because inside a quoted CSV field it is data. */
export interface LineBlock {
  /** Number of the first line, from 1. */
  readonly firstNumber: number;
  /** After the last line. */
  readonly end: LinePlace;
  /** The file ends without a line feed: the last line has none. */
  readonly isCutOff: boolean;
  readonly lines: readonly (string | RecordFailure)[];
}

/** What lines are read from: a FileHandle, or something that reads like one. */
export interface LineInput {
  /** Resolves to 0 bytes at the end. `position` null: where the last read ended. */
  read(into: Buffer, offset: number, length: number, position: number | null): Promise<{ readonly bytesRead: number }>;
  close(): Promise<void>;
}

export class LineReader {
  readonly #block = Buffer.allocUnsafe(BLOCK_BYTES);
  #carried: Buffer = Buffer.alloc(0);
  /** Set while the rest of an overlong line is thrown away: the line's beginning. */
  #overlong: string | undefined;
  #number: number;
  /** Where the next block is read; null where only reading on is possible. */
  #offset: number | null;
  /** Bytes of an overlong line that were thrown away. */
  #thrownAway = 0;
  #isAtStart: boolean;
  #hasEnded = false;

  private constructor(
    readonly path: string,
    private readonly file: LineInput,
    private readonly maxLineBytes: number,
    /** A regular file: it can be read again from anywhere. */
    readonly isSeekable: boolean,
    /** Where reading began. */
    readonly start: LinePlace,
  ) {
    this.#offset = isSeekable ? start.offset : null;
    this.#number = start.line;
    this.#isAtStart = start.offset === 0;
  }

  /**
   * Rejects with SOURCE_FAILED when the file cannot be opened or is a directory, and with CHECKPOINT_INVALID when `from`
   * cannot be a place between two lines of it.
   */
  static async open(path: string, maxLineBytes: number, from: LinePlace = BEGINNING): Promise<LineReader> {
    let file: FileHandle | undefined;
    try {
      file = await open(path, 'r');
      const facts = await file.stat();
      if (facts.isDirectory()) throw new Error('it is a directory; use fromFiles');
      if (from.offset > 0) await checkPlace(path, file, facts, from);
      return new LineReader(path, file, maxLineBytes, facts.isFile(), from);
    } catch (cause) {
      await file?.close();
      throw isTroupeError(cause) ? cause : unreadable(path, cause);
    }
  }

  /** Reads what is no file by path; `name` stands in messages. */
  static over(name: string, input: LineInput, maxLineBytes: number): LineReader {
    return new LineReader(name, input, maxLineBytes, false, BEGINNING);
  }

  /** The lines that one more block completes; undefined at the end. */
  async read(): Promise<LineBlock | undefined> {
    while (!this.#hasEnded) {
      const lines = this.#split(await this.#readBlock());
      if (lines.length === 0) continue;
      const firstNumber = this.#number;
      this.#number += lines.length;
      return { firstNumber, lines, end: this.#end, isCutOff: this.#hasEnded };
    }
    return undefined;
  }

  close(): Promise<void> {
    return this.file.close();
  }

  /** Behind the last whole line. */
  get #end(): LinePlace {
    const carried = this.#overlong === undefined ? this.#carried.length : this.#thrownAway;
    return { offset: (this.#offset ?? 0) - carried, line: this.#number };
  }

  async #readBlock(): Promise<Buffer | undefined> {
    try {
      const { bytesRead } = await this.file.read(this.#block, 0, BLOCK_BYTES, this.#offset);
      if (this.#offset !== null) this.#offset += bytesRead;
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
      this.#overlong = undefined;
      this.#carried = Buffer.alloc(0);
      return lines;
    }
    let rest = block;
    if (this.#overlong !== undefined) {
      const end = rest.indexOf(LF);
      if (end < 0) {
        this.#thrownAway += rest.length;
        return lines;
      }
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
      this.#overlong = this.#carried.toString('utf8', 0, this.#excerptBytes);
      this.#thrownAway = this.#carried.length;
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
        lines.push(this.#tooLong(line.toString('utf8', 0, this.#excerptBytes), lines.length));
      } else if (!isUtf8(line)) {
        lines.push(parseFailed(this.path, this.#number + lines.length, 'is not valid UTF-8', line.toString('utf8')));
      } else lines.push(line.toString('utf8'));
      from = to + 1;
    }
  }

  /** The same wherever the blocks end: both ways to find an overlong line have seen more than this of it. */
  get #excerptBytes(): number {
    return Math.min(EXCERPT_BYTES, this.maxLineBytes);
  }

  #tooLong(excerpt: string, offset: number): RecordFailure {
    const words = `is longer than maxLineBytes (${this.maxLineBytes})`;
    return parseFailed(this.path, this.#number + offset, words, excerpt);
  }
}

export function parseFailed(path: string, line: number, words: string, input: unknown, cause?: unknown): RecordFailure {
  return new RecordFailure(new TroupeError('PARSE_FAILED', `${path}:${line} ${words}`, { cause }), input);
}

/** Cheap signs that the file is still the one that was read: long enough, and a line begins there. */
async function checkPlace(path: string, file: FileHandle, facts: Stats, { offset, line }: LinePlace): Promise<void> {
  const refuse = (words: string): never => {
    throw new TroupeError(
      'CHECKPOINT_INVALID',
      `${path} is not the file that the checkpoint was made with: ${words}. Put it back, or begin anew without resume`,
    );
  };
  if (!facts.isFile()) refuse('it is no regular file');
  if (facts.size < offset) refuse(`it has ${facts.size} bytes, and ${offset} had been read`);
  const before = Buffer.alloc(LF_BYTES);
  await file.read(before, 0, LF_BYTES, offset - LF_BYTES);
  // A last line without its end is whole as long as nothing follows it.
  if (before[0] !== LF && facts.size > offset) refuse(`no line ends before byte ${offset}, where line ${line} began`);
}

export function unreadable(path: string, cause: unknown): TroupeError {
  const words = cause instanceof Error ? cause.message : String(cause);
  return new TroupeError('SOURCE_FAILED', `Cannot read ${path}: ${words}`, { cause });
}
