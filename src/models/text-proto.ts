/**
 * Reads protobuf's text format, in which Triton's config.pbtxt is written, into a tree with positions. Knows the syntax
 * and no message: what fields there are stands in model-config-fields.ts.
 *
 * The whole of the format but extensions and Any: comments, `f: v`, `m {}`, `m: {}`, `<>` for braces, lists, optional
 * commas and semicolons, both quotes with every escape, adjacent strings joined.
 *
 * T1 it never reads beyond the text. T2 nesting ends at DEPTH_MAX. T3 every error has line and column.
 */

/** Both count from 1. */
export interface TextPosition {
  readonly line: number;
  readonly col: number;
}

export type ProtoValue =
  | { readonly kind: 'word'; readonly at: TextPosition; readonly text: string }
  /** As written, with its sign: `-0x1F`, `1e3`, `.5f`. */
  | { readonly kind: 'number'; readonly at: TextPosition; readonly text: string }
  | { readonly kind: 'string'; readonly at: TextPosition; readonly bytes: Buffer }
  | { readonly kind: 'list'; readonly at: TextPosition; readonly items: readonly ProtoValue[] }
  | { readonly kind: 'message'; readonly at: TextPosition; readonly fields: readonly ProtoField[] };

export interface ProtoField {
  readonly name: string;
  readonly at: TextPosition;
  readonly value: ProtoValue;
}

/** What is wrong in a text, and where. Whoever knows the file makes a TroupeError of it. */
export class TextProtoError extends Error {
  readonly at: TextPosition;

  constructor(at: TextPosition, message: string) {
    super(message);
    this.name = 'TextProtoError';
    this.at = at;
  }
}

const DEPTH_MAX = 100;

/** The fields of the outermost message. Throws TextProtoError. */
export function parseTextProto(text: string): readonly ProtoField[] {
  const reader = new Reader(text);
  const fields = parseFields(reader, undefined, 0);
  return fields;
}

function parseFields(reader: Reader, close: string | undefined, depth: number): readonly ProtoField[] {
  const fields: ProtoField[] = [];
  for (;;) {
    reader.skipBlank();
    if (reader.isAtEnd) {
      if (close === undefined) return fields;
      throw reader.wrong(`expected ${close}, the text ends here`);
    }
    if (close !== undefined && reader.take(close)) return fields;
    fields.push(parseField(reader, depth));
    reader.skipBlank();
    if (!reader.take(',')) reader.take(';');
  }
}

function parseField(reader: Reader, depth: number): ProtoField {
  const at = reader.position();
  if (reader.peek() === '[') throw reader.wrong('extensions and Any are not read; expected the name of a field');
  const name = reader.takeMatch(/[A-Za-z_]\w*/y);
  if (name === undefined) throw reader.wrong(`expected the name of a field, found ${reader.shown()}`);
  reader.skipBlank();
  const hasColon = reader.take(':');
  reader.skipBlank();
  const value = parseValue(reader, depth);
  if (!hasColon && !isMessageLike(value))
    throw new TextProtoError(value.at, `expected ":" between ${name} and its value`);
  return { name, at, value };
}

/** Only these may stand without a colon. */
function isMessageLike(value: ProtoValue): boolean {
  if (value.kind === 'list') return value.items.every(isMessageLike);
  return value.kind === 'message';
}

function parseValue(reader: Reader, depth: number): ProtoValue {
  const at = reader.position();
  const first = reader.peek();
  if (first === '[') return { kind: 'list', at, items: parseList(reader, depth) };
  if (first === '{' || first === '<') {
    if (depth >= DEPTH_MAX) throw reader.wrong(`nested deeper than ${DEPTH_MAX} messages`); // T2
    reader.take(first);
    return { kind: 'message', at, fields: parseFields(reader, first === '{' ? '}' : '>', depth + 1) };
  }
  if (first === '"' || first === "'") return { kind: 'string', at, bytes: parseStrings(reader) };
  return parseScalar(reader, at);
}

function parseList(reader: Reader, depth: number): readonly ProtoValue[] {
  const items: ProtoValue[] = [];
  reader.take('[');
  reader.skipBlank();
  if (reader.take(']')) return items;
  for (;;) {
    reader.skipBlank();
    if (reader.peek() === '[') throw reader.wrong('a list cannot hold a list');
    items.push(parseValue(reader, depth));
    reader.skipBlank();
    if (reader.take(']')) return items;
    if (!reader.take(',')) throw reader.wrong(`expected "," or "]" in a list, found ${reader.shown()}`);
  }
}

const NUMBER = /0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?[fF]?/y;

function parseScalar(reader: Reader, at: TextPosition): ProtoValue {
  const isNegative = reader.take('-');
  if (isNegative) reader.skipBlank();
  const number = reader.takeMatch(NUMBER);
  const sign = isNegative ? '-' : '';
  if (number !== undefined) {
    if (reader.takeMatch(/[\w.]/y) !== undefined)
      throw new TextProtoError(at, 'expected a number, found letters in it');
    return { kind: 'number', at, text: sign + number };
  }
  const word = reader.takeMatch(/[A-Za-z_]\w*/y);
  if (word === undefined) throw reader.wrong(`expected a value, found ${reader.shown()}`);
  if (!isNegative) return { kind: 'word', at, text: word };
  if (!/^(inf(inity)?|nan)f?$/i.test(word)) throw new TextProtoError(at, `expected a number after "-", found ${word}`);
  return { kind: 'number', at, text: sign + word };
}

/** Strings that follow each other are one. */
function parseStrings(reader: Reader): Buffer {
  const parts: Buffer[] = [];
  for (;;) {
    const quote = reader.peek();
    if (quote !== '"' && quote !== "'") return Buffer.concat(parts);
    parts.push(parseString(reader, quote));
    reader.skipBlank();
  }
}

const PLAIN = { '"': /[^"\\\n]+/y, "'": /[^'\\\n]+/y } as const;
const SINGLE_ESCAPES: ReadonlyMap<string, number> = new Map([
  ['a', 7],
  ['b', 8],
  ['t', 9],
  ['n', 10],
  ['v', 11],
  ['f', 12],
  ['r', 13],
  ['?', 63],
  ['\\', 92],
  ["'", 39],
  ['"', 34],
]);

function parseString(reader: Reader, quote: '"' | "'"): Buffer {
  const parts: Buffer[] = [];
  const opened = reader.position();
  reader.take(quote);
  for (;;) {
    const plain = reader.takeMatch(PLAIN[quote]);
    if (plain !== undefined) parts.push(Buffer.from(plain, 'utf8'));
    if (reader.take(quote)) return Buffer.concat(parts);
    if (reader.peek() !== '\\') throw new TextProtoError(opened, 'this string does not end on its line');
    parts.push(parseEscape(reader));
  }
}

function parseEscape(reader: Reader): Buffer {
  const at = reader.position();
  reader.take('\\');
  const octal = reader.takeMatch(/[0-7]{1,3}/y);
  if (octal !== undefined) return byte(Number.parseInt(octal, 8), at);
  const hex = reader.takeMatch(/[xX][0-9a-fA-F]{1,2}/y);
  if (hex !== undefined) return byte(Number.parseInt(hex.slice(1), 16), at);
  const point = reader.takeMatch(/u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}/y);
  if (point !== undefined) {
    const code = Number.parseInt(point.slice(1), 16);
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
      throw new TextProtoError(at, `\\${point} is no character`);
    return Buffer.from(String.fromCodePoint(code), 'utf8');
  }
  const letter = reader.peek();
  const single = letter === undefined ? undefined : SINGLE_ESCAPES.get(letter);
  if (single === undefined)
    throw new TextProtoError(at, `there is no escape \\${letter === '\n' ? '' : (letter ?? '')}`);
  reader.take(letter as string);
  return byte(single, at);
}

function byte(value: number, at: TextPosition): Buffer {
  if (value > 255) throw new TextProtoError(at, 'an octal escape goes to \\377');
  return Buffer.from([value]);
}

/** A place in the text. */
class Reader {
  readonly #text: string;
  #index = 0;
  /** Where the line of #index begins, and its number. */
  #lineStart = 0;
  #line = 1;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    return this.#index >= this.#text.length;
  }

  position(): TextPosition {
    return { line: this.#line, col: this.#index - this.#lineStart + 1 };
  }

  /** Undefined at the end (T1). */
  peek(): string | undefined {
    return this.#text[this.#index];
  }

  take(character: string): boolean {
    if (this.#text[this.#index] !== character) return false;
    this.#index++;
    return true;
  }

  /** `pattern` is sticky and matches no line break. */
  takeMatch(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#index;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#index += found.length;
    return found;
  }

  /** White space and comments. */
  skipBlank(): void {
    for (;;) {
      const next = this.#text[this.#index];
      if (next === '#') {
        const end = this.#text.indexOf('\n', this.#index);
        this.#index = end === -1 ? this.#text.length : end;
      } else if (next === '\n') {
        this.#index++;
        this.#line++;
        this.#lineStart = this.#index;
      } else if (next === ' ' || next === '\t' || next === '\r' || next === '\v' || next === '\f') this.#index++;
      else return;
    }
  }

  /** What stands here, for a message. */
  shown(): string {
    const code = this.#text.codePointAt(this.#index);
    return code === undefined ? 'the end of the text' : JSON.stringify(String.fromCodePoint(code));
  }

  wrong(message: string): TextProtoError {
    return new TextProtoError(this.position(), message); // T3
  }
}
