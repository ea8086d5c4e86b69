import { randomBytes } from 'node:crypto';
import { MAX_REQUEST_BRACKETS, MAX_REQUEST_NAMES, parseJson } from '../stream/parse-json.js';

/**
 * JSON as clients of the Open Inference Protocol write it: whole numbers of 64 bits keep every digit, as bigint where a
 * number would not hold them, and NaN, Infinity and -Infinity may stand bare.
 *
 * JSON.parse reads neither, so they go through it as strings behind a mark that no client can know. What holds none of
 * them, which is nearly all there is, is read as it is.
 */

/** As deep as Triton goes. */
export const OIP_DEPTH_MAX = 100;

/** The digits behind a dot do not count. */
const NEEDS_MARKS = /(?<![\d.])\d{16,20}(?![\d.eE])|NaN|Infinity/;
/** Where a string begins, or what may need a mark. */
const NEXT = /(?="|(?<![\d.eE+-])-?[1-9]\d{15,19}(?![\d.eE+-])|NaN|-?Infinity)/g;
const TOKEN = /-?\d+|NaN|-?Infinity/y;
/** No integer of 64 bits has more; what is longer is read as a number. */
const DIGITS_MAX = 20;
const MARK_BYTES = 6;
/** With `NaN` behind it the engine keeps one such string for all. */
const MARK_CHARS = 7;

/** Of the text that is being made, so that they never are many times its size. */
const PARTS_MAX = 4096;

/** Throws a SyntaxError. */
export function parseOipJson(text: string): unknown {
  if (!NEEDS_MARKS.test(text)) return parse(text);
  const mark = randomBytes(MARK_BYTES).toString('base64').slice(0, MARK_CHARS);
  try {
    return revived(parse(marked(text, mark)), mark);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    // That spoke of the text with marks; what is wrong with this one is in its own place.
    parse(text.replace(/NaN|Infinity/g, (word) => '1'.repeat(word.length)));
    throw new SyntaxError('NaN or Infinity stands where no value can');
  }
}

function parse(text: string): unknown {
  return parseJson(text, OIP_DEPTH_MAX, MAX_REQUEST_BRACKETS, MAX_REQUEST_NAMES);
}

function marked(text: string, mark: string): string {
  const opening = `"${mark}`;
  let made = '';
  let parts: string[] = [];
  let from = 0;
  NEXT.lastIndex = 0;
  // `test` makes nothing, a match would be an object: of texts there may be very many.
  while (NEXT.test(text)) {
    const at = NEXT.lastIndex;
    if (text[at] === '"') {
      NEXT.lastIndex = endOfString(text, at);
      continue;
    }
    TOKEN.lastIndex = at;
    TOKEN.test(text);
    const end = TOKEN.lastIndex;
    NEXT.lastIndex = end;
    const token = text.slice(at, end);
    if (token.length > DIGITS_MAX || Number.isSafeInteger(Number(token))) continue;
    parts.push(text.slice(from, at), opening, token, '"');
    from = end;
    if (parts.length < PARTS_MAX) continue;
    made += parts.join('');
    parts = [];
  }
  return made + parts.join('') + text.slice(from);
}

/** Behind its quote, or the end of the text. */
function endOfString(text: string, from: number): number {
  for (let end = text.indexOf('"', from + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text[end - 1 - slashes] === '\\') slashes++;
    if (slashes % 2 === 0) return end + 1;
  }
  return text.length;
}

function revived(value: unknown, mark: string): unknown {
  if (typeof value === 'string') return value.startsWith(mark) ? numberOf(value.slice(mark.length)) : value;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) value[index] = revived(value[index], mark);
    return value;
  }
  const object = value as Record<string, unknown>;
  for (const name of Object.keys(object)) {
    if (name.startsWith(mark)) throw new SyntaxError('a name is no string');
    object[name] = revived(object[name], mark); // Its own property, `__proto__` too: JSON.parse has made it.
  }
  return object;
}

function numberOf(token: string): number | bigint {
  const number = Number(token);
  return Number.isFinite(number) ? BigInt(token) : number;
}
