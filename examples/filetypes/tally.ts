import { extname } from 'node:path';
import type { Labels, Result } from './recognition.js';

/** A kind of disagreement between name and content, and how often it was met. */
export interface Disagreement {
  readonly extension: string;
  readonly promised: string;
  readonly recognised: string;
  count: number;
}

/** Counts results as they pass, holding no record. */
export class Tally {
  readonly types = new Map<string, number>();
  readonly #labels: Labels;
  readonly #disagreements = new Map<string, Disagreement>();
  #promised = 0;
  #kept = 0;

  constructor(labels: Labels) {
    this.#labels = labels;
  }

  count(result: Result): void {
    if ('error' in result) return;
    const { type, path } = result;
    this.types.set(type, (this.types.get(type) ?? 0) + 1);
    // An empty file has no content that could agree or disagree.
    const promised = type === 'empty' ? undefined : this.#labels.promisedBy(path);
    if (promised === undefined) return;
    this.#promised++;
    if (promised === type) {
      this.#kept++;
      return;
    }
    const extension = extname(path).toLowerCase();
    const key = `${extension} ${promised} ${type}`;
    const known = this.#disagreements.get(key);
    if (known === undefined) this.#disagreements.set(key, { extension, promised, recognised: type, count: 1 });
    else known.count++;
  }

  /** Share of the files with a known extension whose recognised type is the promised one; null where there are none. */
  get agreement(): number | null {
    return this.#promised === 0 ? null : Math.round((this.#kept / this.#promised) * 1e4) / 1e4;
  }

  /** How many files have an extension that promises a type. */
  get promisedCount(): number {
    return this.#promised;
  }

  typesByCount(): readonly (readonly [string, number])[] {
    return [...this.types].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  }

  disagreements(most: number): readonly Disagreement[] {
    return [...this.#disagreements.values()].sort((a, b) => b.count - a.count).slice(0, most);
  }
}

/** For --json: the counts, and what the names promised. */
export function tallyFigures(tally: Tally): object {
  return {
    agreement: tally.agreement,
    filesWithKnownExtension: tally.promisedCount,
    types: Object.fromEntries(tally.typesByCount()),
    disagreements: tally.disagreements(20),
  };
}

/** For people: files per type, and where name and content disagree most. */
export function tallyTables(tally: Tally): string {
  const types = tally.typesByCount().map(([type, count]) => row(type, count));
  const { agreement } = tally;
  const share = agreement === null ? 'no file has a known extension' : `${(agreement * 100).toFixed(2)} %`;
  const disagreements = tally
    .disagreements(10)
    .map(({ extension, promised, recognised, count }) =>
      row(`${extension} is ${promised}, recognised as ${recognised}`, count),
    );
  return [
    'files per type',
    ...types,
    '',
    `type agrees with extension: ${share} of ${tally.promisedCount.toLocaleString('en-US')} files`,
    ...disagreements,
    '',
  ].join('\n');
}

function row(what: string, count: number): string {
  return `  ${what.padEnd(44)} ${count.toLocaleString('en-US').padStart(9)}`;
}
