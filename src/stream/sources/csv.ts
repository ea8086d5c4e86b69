import { parse } from 'csv-parse/sync';
import { TroupeError } from '../../kernel/errors.js';
import { RecordFailure } from '../envelope.js';
import { csvFault } from './csv-fault.js';
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
 * records are found here (a record ends at a line end outside quotes) and rows are parsed in groups, without the bad ones. Where a row of several lines fails, only its first line is the bad record: a forgotten quote
 * must not swallow the rest of the file. To parse row by row takes a parser for each, so bad ones are told by csvFault.
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
      index -= candidate.lineCount - 1;
      if (index >= 0) continue;
      lines = [...candidate.text.split('\n').slice(1), ...lines.slice(index + candidate.lineCount)];
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

  /** Parses candidates together, without the bad ones where that fails. False when the last one is bad. */
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
    const rowsOf = (some: readonly Candidate[]): CsvRow[] =>
      parse(some.map(({ text }) => `${text}\n`).join(''), options) as CsvRow[];
    const columnCount = this.#columns.length;
    // Where a quote was forgotten, every second line may end a record of several lines, and a bad one.
    const last = candidates.at(-1) as Candidate;
    const isBad = last.lineCount > 1 && csvFault(last.text, columnCount) !== undefined;
    try {
      if (!isBad) {
        for (const row of rowsOf(candidates)) rows.push(row);
        return true;
      }
    } catch {
      // Some of them are bad.
    }
    return this.#parseAround(candidates, columnCount, rowsOf, rows);
  }

  /** As #parse, where some of the candidates are known to be bad: the good ones among them are parsed together. */
  #parseAround(
    candidates: readonly Candidate[],
    columnCount: number,
    rowsOf: (some: readonly Candidate[]) => CsvRow[],
    rows: (CsvRow | RecordFailure)[],
  ): boolean {
    const faults = candidates.map(({ text }) => csvFault(text, columnCount));
    const good = candidates.filter(({ text }, index) => faults[index] === undefined && !isEmpty(text));
    let together: readonly CsvRow[] = [];
    try {
      if (good.length > 0) together = rowsOf(good);
    } catch {
      // csv-parse is stricter than csvFault: then each alone.
    }
    let isGood = true;
    let next = 0;
    for (const [index, candidate] of candidates.entries()) {
      const fault = faults[index];
      if (fault === undefined && isEmpty(candidate.text)) continue;
      const row =
        fault === undefined ? (together[next] ?? this.#alone(candidate, rowsOf)) : this.#bad(candidate, fault);
      if (fault === undefined) next += 1;
      isGood = !(row instanceof RecordFailure);
      rows.push(row);
    }
    return isGood;
  }

  #alone(candidate: Candidate, rowsOf: (some: readonly Candidate[]) => CsvRow[]): CsvRow | RecordFailure {
    try {
      return rowsOf([candidate])[0] as CsvRow;
    } catch (cause) {
      return this.#bad(
        candidate,
        cause instanceof Error ? cause.message.replace(/ (on|at) line \d+/, '') : String(cause),
      );
    }
  }

  #bad({ text, firstNumber }: Candidate, words: string): RecordFailure {
    return parseFailed(this.path, firstNumber, `is not a CSV record: ${words}`, text.split('\n', 1)[0]);
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

/** csv-parse passes over it. */
function isEmpty(text: string): boolean {
  return text === '' || text === '\r';
}

function hasOddQuotes(line: string): boolean {
  let isOdd = false;
  for (let at = line.indexOf('"'); at >= 0; at = line.indexOf('"', at + 1)) isOdd = !isOdd;
  return isOdd;
}

function headerFailed(path: string, candidate: Candidate, words: string, cause?: unknown): TroupeError {
  return new TroupeError('SOURCE_FAILED', `${path}:${candidate.firstNumber} is not a CSV header: ${words}`, { cause });
}
