import { readFileSync, writeFileSync } from 'node:fs';
import { type Report, tableOf } from './report.js';

/**
 * The tables of docs/benchmarks.md. Each part has a place of its own there, between two comments; a run writes the parts
 * that it measured and leaves the others, so that a table and its machine always come from one run.
 */
const PAGE = new URL('../../docs/benchmarks.md', import.meta.url);

/** Writes the rows of the report into the page. A part that has no place in it throws. */
export function writePage(report: Report): void {
  writeFileSync(PAGE, pageWith(readFileSync(PAGE, 'utf8'), report));
}

/** The page with the rows of the report in their places. */
export function pageWith(page: string, report: Report): string {
  let text = page;
  for (const part of new Set(report.rows.map((row) => row.part))) {
    const [open, close] = [`<!-- rows of ${part} -->`, `<!-- end of ${part} -->`];
    const [from, to] = [text.indexOf(open), text.indexOf(close)];
    if (from < 0 || to < from) throw new Error(`docs/benchmarks.md has no place for "${part}": ${open} and ${close}`);
    const table = tableOf({ ...report, rows: report.rows.filter((row) => row.part === part) });
    text = `${text.slice(0, from + open.length)}\n\n${table}\n\n${text.slice(to)}`;
  }
  return text;
}
