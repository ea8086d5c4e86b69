import { extname } from 'node:path';
import type { RecordFailure } from '../envelope.js';
import { checkCount, checkKeys, checkOneOf, refuse } from '../options.js';
import { parseJson } from '../parse-json.js';
import type { Source, SourceReader } from '../source.js';
import { CsvParser, type CsvRow } from './csv.js';
import { LineReader, parseFailed, type LineBlock, type LinePlace } from './lines.js';

export type FileFormat = 'lines' | 'ndjson' | 'csv';

export interface FromFileOptions {
  /** Default by extension: .ndjson and .jsonl, .csv, otherwise lines. */
  format?: FileFormat;
  /** A longer line, or CSV record, fails with PARSE_FAILED. Default 1,048,576. */
  maxLineBytes?: number;
}

/**
 * Reads a file record by record: lines as strings, NDJSON as values, CSV rows as objects with the names of the header.
 * UTF-8, with or without byte order mark, LF or CRLF, last line with or without its end. Blank lines are skipped in
 * NDJSON and CSV. A line that cannot be parsed fails alone with PARSE_FAILED, which names file and line; a file that
 * cannot be read at all ends the run with SOURCE_FAILED.
 */
export function fromFile(path: string, options: FromFileOptions & { format: 'lines' }): Source<string>;
export function fromFile(path: string, options: FromFileOptions & { format: 'csv' }): Source<CsvRow>;
export function fromFile<T = unknown>(path: string, options?: FromFileOptions): Source<T>;
export function fromFile(path: string, options: FromFileOptions = {}): Source<unknown> {
  if (typeof path !== 'string' || path === '') refuse('fromFile', 'given a path', path);
  checkKeys('fromFile', options, ['format', 'maxLineBytes']);
  const { format = formatOf(path), maxLineBytes = 1_048_576 } = options;
  checkOneOf('format', format, ['lines', 'ndjson', 'csv']);
  checkCount('maxLineBytes', maxLineBytes);
  return {
    name: path,
    open: async (from) => {
      const place = from?.position as FilePosition | undefined;
      const lines = await LineReader.open(path, maxLineBytes, place);
      const reader = new FileReader(lines, parserOf(format, path, maxLineBytes, place?.columns));
      await reader.skip(place?.skip ?? 0);
      return reader;
    },
  };
}

/** Reading can begin here with an empty parser. */
interface Base extends LinePlace {
  /** Of CSV behind its header. */
  readonly columns?: readonly string[];
}

/** Records are counted from a line that begins a record; where in it a block ended says nothing. */
interface FilePosition extends Base {
  /** Records after that line that have been given already. */
  readonly skip: number;
}

interface LineParser {
  push(block: LineBlock): readonly unknown[];
  end(): readonly unknown[];
  readonly columns?: readonly string[] | undefined;
  /** Lines of the block that belong to a record that is not whole yet. */
  readonly openLines?: readonly string[];
}

/** Hands the records of one block out in portions. */
export class FileReader implements SourceReader<unknown> {
  /** Not of a pipe, which nobody can read again. */
  readonly position: (() => FilePosition) | undefined;
  #records: readonly unknown[] = [];
  #next = 0;
  /** Where to begin in order to get these records again, and how many others come before them then. */
  #base: Base;
  #given = 0;
  /** Where the next block begins. */
  #nextBase: Base;
  #hasEnded = false;

  constructor(
    private readonly lines: LineReader,
    private readonly parser: LineParser,
  ) {
    this.#base = this.#withColumns(lines.start);
    this.#nextBase = this.#base;
    this.position = lines.isSeekable ? () => this.#position() : undefined;
  }

  async read(max: number): Promise<readonly unknown[] | undefined> {
    while (this.#next === this.#records.length) {
      if (this.#hasEnded) return undefined;
      const block = await this.lines.read();
      this.#hasEnded = block === undefined;
      this.#base = this.#nextBase;
      this.#given = 0;
      this.#records = block === undefined ? this.parser.end() : this.parser.push(block);
      if (block !== undefined) this.#nextBase = this.#withColumns(this.#beforeOpen(block));
      this.#next = 0;
    }
    const from = this.#next;
    this.#next = Math.min(from + max, this.#records.length);
    this.#given += this.#next - from;
    return this.#records.slice(from, this.#next);
  }

  async skip(count: number): Promise<void> {
    for (let left = count; left > 0; ) {
      const skipped = await this.read(left);
      if (skipped === undefined) return;
      left -= skipped.length;
    }
  }

  close(): Promise<void> {
    return this.lines.close();
  }

  #position(): FilePosition {
    const isThrough = this.#next === this.#records.length && !this.#hasEnded;
    const { offset, line, columns } = isThrough ? this.#nextBase : this.#base;
    const skip = isThrough ? 0 : this.#given;
    // Made for every read; a spread is slower by far.
    return columns === undefined ? { offset, line, skip } : { offset, line, skip, columns };
  }

  /** The begin of the record that is not whole at the end of a block. */
  #beforeOpen({ end, isCutOff }: LineBlock): LinePlace {
    const { openLines = [] } = this.parser;
    if (openLines.length === 0) return end;
    let offset = isCutOff ? end.offset + 1 : end.offset;
    for (const line of openLines) offset -= Buffer.byteLength(line) + 1;
    const line = end.line - openLines.length;
    // A byte order mark belongs to the first line and is in none.
    return { offset: line === 1 ? 0 : offset, line };
  }

  #withColumns(place: LinePlace): Base {
    const { columns } = this.parser;
    return columns === undefined ? place : { ...place, columns };
  }
}

export function parserOf(
  format: FileFormat,
  path: string,
  maxLineBytes: number,
  columns?: readonly string[],
): LineParser {
  if (format === 'csv') return new CsvParser(path, maxLineBytes, columns);
  if (format === 'lines') return { push: (block) => block.lines.map(withoutReturn), end: () => [] };
  return { push: (block) => parseLines(path, block), end: () => [] };
}

function parseLines(path: string, block: LineBlock): unknown[] {
  const values: unknown[] = [];
  block.lines.forEach((line, index) => {
    if (typeof line !== 'string') {
      values.push(line);
      return;
    }
    if (line === '' || line.trim() === '') return;
    try {
      values.push(parseJson(line));
    } catch (cause) {
      const words = `is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`;
      values.push(parseFailed(path, block.firstNumber + index, words, withoutReturn(line), cause));
    }
  });
  return values;
}

function withoutReturn(line: string | RecordFailure): string | RecordFailure {
  return typeof line === 'string' && line.endsWith('\r') ? line.slice(0, -1) : line;
}

function formatOf(path: string): FileFormat {
  switch (extname(path).toLowerCase()) {
    case '.ndjson':
    case '.jsonl':
      return 'ndjson';
    case '.csv':
      return 'csv';
    default:
      return 'lines';
  }
}
