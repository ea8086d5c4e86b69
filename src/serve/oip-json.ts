import { parseJson } from '../stream/parse-json.js';

/**
 * JSON as clients of the Open Inference Protocol write it: whole numbers of 64 bits keep every digit, as bigint where a
 * number would not hold them, and NaN, Infinity and -Infinity may stand bare.
 *
 * JSON.parse reads what needs neither, which is nearly all there is, at several times the speed.
 */

/** As deep as Triton goes. */
export const OIP_DEPTH_MAX = 100;

/** Whole numbers that a number may not hold; the digits behind a dot do not count. */
const LONG_INTEGER = /(?<![\d.])\d{16,}(?![\d.eE])/;
const BARE_WORD = /NaN|Infinity/;
/** No integer of 64 bits has more; what is longer is read as a number, for BigInt takes long over long ones. */
const DIGITS_MAX = 20;

/** Throws a SyntaxError. */
export function parseOipJson(text: string): unknown {
  if (!LONG_INTEGER.test(text)) {
    try {
      return parseJson(text, OIP_DEPTH_MAX);
    } catch (error) {
      if (!BARE_WORD.test(text)) throw error;
    }
  }
  return new ExactReader(text).whole();
}

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const WORDS: readonly (readonly [string, unknown])[] = [
  ['true', true],
  ['false', false],
  ['null', null],
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
];

class ExactReader {
  #at = 0;

  constructor(private readonly text: string) {}

  whole(): unknown {
    const value = this.#value(0);
    this.#skip();
    if (this.#at < this.text.length) throw this.#wrong();
    return value;
  }

  #value(depth: number): unknown {
    this.#skip();
    switch (this.text[this.#at]) {
      case '{':
        return this.#object(depth + 1);
      case '[':
        return this.#array(depth + 1);
      case '"':
        return this.#string();
      default:
        return this.#word();
    }
  }

  #object(depth: number): unknown {
    const object = Object.create(null) as Record<string, unknown>; // `__proto__` is a name like any other there.
    this.#list('}', depth, () => {
      this.#skip();
      const name = this.#string();
      this.#skip();
      if (this.text[this.#at] !== ':') throw this.#wrong();
      this.#at++;
      object[name] = this.#value(depth);
    });
    return object;
  }

  #array(depth: number): unknown {
    const array: unknown[] = [];
    this.#list(']', depth, () => array.push(this.#value(depth)));
    return array;
  }

  #list(end: string, depth: number, entry: () => void): void {
    if (depth > OIP_DEPTH_MAX) throw new SyntaxError(`it is nested deeper than ${OIP_DEPTH_MAX}`);
    this.#at++;
    this.#skip();
    if (this.text[this.#at] === end) {
      this.#at++;
      return;
    }
    for (;;) {
      entry();
      this.#skip();
      const sign = this.text[this.#at];
      if (sign !== ',' && sign !== end) throw this.#wrong();
      this.#at++;
      if (sign === end) return;
    }
  }

  #string(): string {
    const from = this.#at;
    if (this.text[from] !== '"') throw this.#wrong();
    let end = from;
    let isEscaped: boolean;
    do {
      end = this.text.indexOf('"', end + 1);
      if (end === -1) throw new SyntaxError('a string does not end');
      let slashes = 0;
      while (this.text[end - 1 - slashes] === '\\') slashes++;
      isEscaped = slashes % 2 === 1;
    } while (isEscaped);
    this.#at = end + 1;
    return JSON.parse(this.text.slice(from, this.#at)) as string; // It refuses control characters and wrong escapes.
  }

  #word(): unknown {
    const from = this.#at;
    const number = this.#take(NUMBER);
    if (number !== undefined) {
      const isWhole = !/[.eE]/.test(number);
      const value = Number(number);
      return isWhole && !Number.isSafeInteger(value) && number.length <= DIGITS_MAX ? BigInt(number) : value;
    }
    for (const [word, value] of WORDS) {
      if (!this.text.startsWith(word, from)) continue;
      this.#at += word.length;
      return value;
    }
    throw this.#wrong();
  }

  #skip(): void {
    this.#take(SPACE);
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #wrong(): SyntaxError {
    return this.#at >= this.text.length
      ? new SyntaxError('it ends in the middle')
      : new SyntaxError(`unexpected ${JSON.stringify(this.text[this.#at])} at position ${this.#at}`);
  }
}
