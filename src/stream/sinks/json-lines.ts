import type { RecordInfo } from '../envelope.js';
import { wordsOf } from '../foreign.js';
import { checkOneOf } from '../options.js';

/** auto: a string is a line of text, everything else a line of JSON. */
export type LineFormat = 'auto' | 'text' | 'ndjson';

export function checkFormat(format: unknown): void {
  checkOneOf('format', format, ['auto', 'text', 'ndjson']);
}

/** One line for each value. Throws a TypeError for a value that is no JSON, such as undefined, a bigint or a cycle. */
export function toLines(values: readonly unknown[], format: LineFormat): string {
  let text = '';
  for (const value of values) text += `${toLine(value, format)}\n`;
  return text;
}

function toLine(value: unknown, format: LineFormat): string {
  if (format === 'text') return String(value);
  if (format === 'auto' && typeof value === 'string') return value;
  const json = JSON.stringify(value, plainJson) as string | undefined;
  if (json === undefined) throw new TypeError(`a value of type ${typeof value} cannot be written as JSON`);
  return json;
}

/** One value as JSON. Throws a TypeError that names the record where it is none, such as undefined, a bigint or a cycle. */
export function jsonOf(value: unknown, record: RecordInfo | undefined): string {
  let reason = `it is ${typeof value}`;
  try {
    const json = JSON.stringify(value, plainJson) as string | undefined;
    if (json !== undefined) return json;
  } catch (cause) {
    reason = wordsOf(cause);
  }
  throw new TypeError(`record ${record?.id ?? 'without a number'} cannot be written as JSON: ${reason}`);
}

/** Typed arrays become arrays; JSON would make objects of them. */
export function plainJson(_key: string, value: unknown): unknown {
  return ArrayBuffer.isView(value) && !(value instanceof DataView)
    ? Array.from(value as unknown as ArrayLike<number>)
    : value;
}
