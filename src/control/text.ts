/** Text for terminals. What comes from data or from model code may hold control characters, which would act on it. */
export function plainText(text: string): string {
  // C0 but for tab, DEL, C1, and the marks that turn the direction of writing round.
  return text.replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, ' ');
}

/** As plainText, for messages of several lines. */
export function plainLines(text: string): string {
  return text.split('\n').map(plainText).join('\n');
}

/** `1,234`; whole numbers for people. */
export function countText(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** Three digits at most: `0.42`, `7.1`, `1,234`. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return '-';
  if (value === 0 || Math.abs(value) >= 100) return countText(value);
  return value.toPrecision(Math.abs(value) >= 1 ? 3 : 2);
}

/** `480 ms`, `4.2 s`, `3:07`, `2:03:07`. */
export function durationText(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const two = (part: number): string => String(part).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** Columns of equal width, one line per row. `figures`: all columns but the first stand to the right. */
export function tableText(rows: readonly (readonly string[])[], kind: 'words' | 'figures'): string {
  const widths = rows.reduce<number[]>((known, row) => {
    return row.map((cell, column) => Math.max(known[column] ?? 0, cell.length));
  }, []);
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 || kind === 'words' ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
