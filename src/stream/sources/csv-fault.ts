/**
 * Why csv-parse would refuse one record of `columnCount` fields; undefined where it would not. To ask csv-parse itself
 * takes a parser for every record, and so seconds for a block of bad ones. `text` is without the line feed at its end.
 */
export function csvFault(text: string, columnCount: number): string | undefined {
  const record = text.endsWith('\r') ? text.slice(0, -1) : text;
  if (record === '') return undefined; // No record at all.
  let count = 0;
  for (let at = 0; at <= record.length; count += 1) {
    let end: number;
    if (record[at] === '"') {
      end = afterQuotes(record, at);
      if (end < 0) return `field ${count + 1} has a quote that is not closed`;
      if (end < record.length && record[end] !== ',') return `field ${count + 1} goes on after its closing quote`;
    } else {
      const comma = record.indexOf(',', at);
      end = comma < 0 ? record.length : comma;
      if (record.slice(at, end).includes('"')) return `field ${count + 1} has a quote and does not begin with it`;
    }
    at = end + 1;
  }
  return count === columnCount ? undefined : `it has ${count} fields, the header has ${columnCount}`;
}

/** Behind the quote that closes the one at `from`; a doubled one stands for itself. -1 where there is none. */
function afterQuotes(record: string, from: number): number {
  let quote = record.indexOf('"', from + 1);
  while (quote >= 0 && record[quote + 1] === '"') quote = record.indexOf('"', quote + 2);
  return quote < 0 ? -1 : quote + 1;
}
