import { parse } from 'csv-parse/sync';
import { TroupeError } from '../../kernel/errors.js';
import type { RecordFailure } from '../envelope.js';
import { parseFailed, type LineBlock } from './lines.js';

/** The door to csv-parse. Its options, once for header and rows. */
const OPTIONS = { record_delimiter: ['\r\n', '\n'], skip_empty_lines: true };

export type CsvRow = Record<string, string>;

/** A candidate for one record: the physical lines from one even number of quotes to the next. */
interface Candidate {
  readonly text: string;
  readonly firstNumber: number;
  readonly lineCount: number;
}

/**
 * Turns lines into rows. csv-parse goes on inside the wreck of a bad record and then loses good ones, so the borders of
 * records are found here (a record ends at a line end outside quotes) and rows are parsed in groups; a group that fails
 * is parsed row by row. Where a row of several lines fails, only its first line is the bad record: a forgotten quote
 * must not swallow the rest of the file.
 */
export class CsvParser {
  #columns: readonly string[] | undefined;
  /** Lines of a record whose quotes are still open. */
  #open: string[] = [];
  #openNumber = 0;
  #openBytes = 0;

  /** `columns`: where reading begins behind the header. */
  constructor(
    private readonly path: string,
    private readonly maxLineBytes: number,
    columns: readonly string[] | undefined,
  ) {
    this.#columns = columns;
  }

  /** Known when the header has been read. */
  get columns(): readonly string[] | undefined {
    return this.#columns;
  }

  /** The lines of a record whose quotes are still open; they come again when reading begins before them. */
  get openLines(): readonly string[] {
    return this.#open;
  }

  /** Rows that these lines complete. Throws SOURCE_FAILED when the header cannot be used. */
  push(block: LineBlock): (CsvRow | RecordFailure)[] {
    const rows: (CsvRow | RecordFailure)[] = [];
    this.#take(block.lines, block.firstNumber, rows);
    return rows;
  }

  /** What is left at the end of the file. */
  end(): (CsvRow | RecordFailure)[] {
    const rows: (CsvRow | RecordFailure)[] = [];
    while (this.#open.length > 0) this.#giveUpFirst(rows);
    return rows;
  }

  #take(given: LineBlock['lines'], firstNumber: number, rows: (CsvRow | RecordFailure)[]): void {
    let lines = given;
    let base = firstNumber;
    let group: Candidate[] = [];
    for (let index = 0; index < lines.length; index += 1) {
      const line = lines[index] as string | RecordFailure;
      if (typeof line !== 'string') {
        this.#parse(group, rows);
        group = [];
        while (this.#open.length > 0) this.#giveUpFirst(rows);
        rows.push(line);
        continue;
      }
      const candidate = this.#add(line, base + index);
      if (candidate === undefined) {
        // Line by line, so that what is bad does not depend on where the blocks end.
        if (this.#openBytes > this.maxLineBytes) this.#parse(group.splice(0), rows);
        while (this.#openBytes > this.maxLineBytes) this.#giveUpFirst(rows);
        continue;
      }
      group.push(candidate);
      if (candidate.lineCount === 1) continue;
      const isGood = this.#parse(group, rows);
      group = [];
      if (isGood) continue;
      // Its first line was the bad record; the others are tried anew, before those that come after them.
      lines = [...candidate.text.split('\n').slice(1), ...lines.slice(index + 1)];
      base = candidate.firstNumber + 1;
      index = -1;
    }
    this.#parse(group, rows);
  }

  #add(line: string, number: number): Candidate | undefined {
    const isOdd = hasOddQuotes(line);
    if (this.#open.length === 0) {
      if (!isOdd) return { text: line, firstNumber: number, lineCount: 1 };
      this.#openNumber = number;
    }
    this.#open.push(line);
    this.#openBytes += line.length + 1;
    if (this.#open.length === 1 || !isOdd) return undefined;
    const candidate = { text: this.#open.join('\n'), firstNumber: this.#openNumber, lineCount: this.#open.length };
    this.#reset();
    return candidate;
  }

  #reset(): void {
    this.#open = [];
    this.#openBytes = 0;
  }

  /** The quote that is open will not be closed: its line is a bad record, the lines after it are tried anew. */
  #giveUpFirst(rows: (CsvRow | RecordFailure)[]): void {
    const [first, ...rest] = this.#open;
    const number = this.#openNumber;
    this.#reset();
    rows.push(parseFailed(this.path, number, 'has a quote that is not closed', first));
    this.#take(rest, number + 1, rows);
  }

  /** Parses candidates together, and one by one where that fails. False when the last one is bad. */
  #parse(group: readonly Candidate[], rows: (CsvRow | RecordFailure)[]): boolean {
    let candidates = group;
    while (this.#columns === undefined) {
      const [header, ...rest] = candidates;
      if (header === undefined) return true;
      candidates = rest;
      this.#columns = this.#header(header);
    }
    if (candidates.length === 0) return true;
    const options = { ...OPTIONS, columns: [...this.#columns] };
    try {
      for (const row of parse(candidates.map(({ text }) => `${text}\n`).join(''), options)) rows.push(row as CsvRow);
      return true;
    } catch {
      // Each alone tells which one is bad, and why.
    }
    let isGood = true;
    for (const { text, firstNumber } of candidates) {
      try {
        for (const row of parse(`${text}\n`, options)) rows.push(row as CsvRow);
        isGood = true;
      } catch (cause) {
        const words = cause instanceof Error ? cause.message.replace(/ (on|at) line \d+/, '') : String(cause);
        const [line] = text.split('\n');
        rows.push(parseFailed(this.path, firstNumber, `is not a CSV record: ${words}`, line, cause));
        isGood = false;
      }
    }
    return isGood;
  }

  #header(candidate: Candidate): string[] | undefined {
    let columns: string[] | undefined;
    try {
      columns = parse(`${candidate.text}\n`, OPTIONS)[0];
    } catch (cause) {
      throw headerFailed(this.path, candidate, cause instanceof Error ? cause.message : String(cause), cause);
    }
    if (columns === undefined) return undefined;
    const twice = columns.find((name, index) => columns.indexOf(name) !== index);
    if (twice !== undefined) throw headerFailed(this.path, candidate, `column "${twice}" is there twice`);
    return columns;
  }
}

function hasOddQuotes(line: string): boolean {
  let isOdd = false;
  for (let at = line.indexOf('"'); at >= 0; at = line.indexOf('"', at + 1)) isOdd = !isOdd;
  return isOdd;
}

function headerFailed(path: string, candidate: Candidate, words: string, cause?: unknown): TroupeError {
  return new TroupeError('SOURCE_FAILED', `${path}:${candidate.firstNumber} is not a CSV header: ${words}`, { cause });
}
