import { extname } from 'node:path';
import type { RecordFailure } from '../envelope.js';
import { checkCount, checkKeys, checkOneOf, refuse } from '../options.js';
import type { Source, SourceReader } from '../source.js';
import { CsvParser, type CsvRow } from './csv.js';
import { LineReader, parseFailed, type LineBlock } from './lines.js';

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
    open: async () => new FileReader(await LineReader.open(path, maxLineBytes), parserOf(format, path, maxLineBytes)),
  };
}

interface LineParser {
  push(block: LineBlock): readonly unknown[];
  end(): readonly unknown[];
}

/** Hands the records of one block out in portions. */
export class FileReader implements SourceReader<unknown> {
  #records: readonly unknown[] = [];
  #next = 0;
  #hasEnded = false;

  constructor(
    private readonly lines: LineReader,
    private readonly parser: LineParser,
  ) {}

  async read(max: number): Promise<readonly unknown[] | undefined> {
    while (this.#next === this.#records.length) {
      if (this.#hasEnded) return undefined;
      const block = await this.lines.read();
      this.#hasEnded = block === undefined;
      this.#records = block === undefined ? this.parser.end() : this.parser.push(block);
      this.#next = 0;
    }
    const from = this.#next;
    this.#next = Math.min(from + max, this.#records.length);
    return this.#records.slice(from, this.#next);
  }

  close(): Promise<void> {
    return this.lines.close();
  }
}

export function parserOf(format: FileFormat, path: string, maxLineBytes: number): LineParser {
  if (format === 'csv') return new CsvParser(path, maxLineBytes);
  if (format === 'lines') return { push: (block) => block.lines.map(withoutReturn), end: () => [] };
  return { push: (block) => parseJson(path, block), end: () => [] };
}

function parseJson(path: string, block: LineBlock): unknown[] {
  const values: unknown[] = [];
  block.lines.forEach((line, index) => {
    if (typeof line !== 'string') {
      values.push(line);
      return;
    }
    if (line === '' || line.trim() === '') return;
    try {
      values.push(JSON.parse(line));
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
