/**
 * What plain data holds: a key that is the same for equal records, and copies whose size is known.
 *
 * Plain are undefined, null, booleans, numbers, bigints and strings, typed arrays, Buffers, ArrayBuffers and Dates, and arrays
 * and objects of these without a class of their own. Everything else (functions, Maps, instances of classes, shared memory,
 * token streams, a value within itself) has neither key nor copy, nor has what has more than VALUES_MAX values or DEPTH_MAX
 * levels: a typed array is one value. Reading an object may run foreign code (a getter, a proxy): what throws is not plain.
 */

import { createHash, hash, type Hash } from 'node:crypto';
import { arrayClassName } from './columns.js';

const VALUES_MAX = 65_536;
const DEPTH_MAX = 64;

type Kind = 'view' | 'buffer' | 'memory' | 'date' | 'array' | 'object';

/** An array of more than `valuesLeft` is told by its length, before it is looked through. */
function kindOf(value: object, valuesLeft: number): Kind | undefined {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (Array.isArray(value)) {
    if (value.length > valuesLeft) return undefined;
    if (prototype !== Array.prototype || Object.getOwnPropertySymbols(value).length > 0) return undefined;
    // Indices come first: with as many keys as values, and the last index as the last of them, it has no gaps and no names.
    const keys = Object.keys(value);
    const { length } = value;
    return keys.length === length && (length === 0 || keys[length - 1] === String(length - 1)) ? 'array' : undefined;
  }
  if (prototype === Object.prototype || prototype === null)
    return Object.getOwnPropertySymbols(value).length > 0 ? undefined : 'object';
  const className = arrayClassName(value);
  if (className !== undefined) {
    if (!((value as Uint8Array).buffer instanceof ArrayBuffer)) return undefined;
    if (prototype === Buffer.prototype) return 'buffer';
    return Object.hasOwn(CODES, className) && prototype === CODES[className]?.prototype ? 'view' : undefined;
  }
  if (prototype === ArrayBuffer.prototype) return 'memory';
  return prototype === Date.prototype ? 'date' : undefined;
}

const codeOf = (code: number, { prototype }: { readonly prototype: object }) => ({ code, prototype });

/** A view of one class never has the key of one of another. */
const CODES: Readonly<Record<string, { readonly code: number; readonly prototype: object }>> = {
  Uint8Array: codeOf(32, Uint8Array),
  Uint8ClampedArray: codeOf(33, Uint8ClampedArray),
  Uint16Array: codeOf(34, Uint16Array),
  Uint32Array: codeOf(35, Uint32Array),
  BigUint64Array: codeOf(36, BigUint64Array),
  Int8Array: codeOf(37, Int8Array),
  Int16Array: codeOf(38, Int16Array),
  Int32Array: codeOf(39, Int32Array),
  BigInt64Array: codeOf(40, BigInt64Array),
  Float32Array: codeOf(41, Float32Array),
  Float64Array: codeOf(42, Float64Array),
};

const UNDEFINED = 0;
const NULL = 1;
const FALSE = 2;
const TRUE = 3;
const NUMBER = 4;
const BIGINT = 5;
const STRING = 6;
const ARRAY = 7;
const OBJECT = 8;
const BUFFER = 9;
const MEMORY = 10;
const DATE = 11;

const SCRATCH_BYTES = 16_384;
/** A tag and a number or a length. */
const HEAD_BYTES = 9;

/**
 * Makes keys: SHA-256 over a serialization in which every value has its tag and its length, so that only equal contents have
 * the same. The names of an object are sorted; arrays of numbers and strings count by their values, typed arrays by class and
 * bytes. -0 is not 0; every NaN is the same but within typed arrays. A key has 32 characters, each one byte.
 */
export class ContentKeys {
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  #at = 0;
  #hash: Hash | undefined;
  #valuesLeft = 0;
  #isBusy = false;

  /** Of a record for this model; undefined where it is not plain. */
  keyOf(model: string | undefined, record: unknown): string | undefined {
    // A getter of the record asks for another: rare enough to go without.
    if (this.#isBusy) return undefined;
    this.#isBusy = true;
    this.#at = 0;
    this.#hash = undefined;
    this.#valuesLeft = VALUES_MAX;
    try {
      this.#text(model ?? '');
      if (!this.#value(record, 0)) return undefined;
      const rest = this.#scratch.subarray(0, this.#at);
      const whole = this.#hash as Hash | undefined;
      return whole === undefined ? hash('sha256', rest, 'binary') : whole.update(rest).digest('binary');
    } catch {
      return undefined;
    } finally {
      this.#isBusy = false;
    }
  }

  /** False: not plain. */
  #value(value: unknown, depth: number): boolean {
    if (--this.#valuesLeft < 0) return false;
    switch (typeof value) {
      case 'number':
        this.#head(NUMBER, value);
        return true;
      case 'string':
        this.#text(value);
        return true;
      case 'boolean':
        this.#head(value ? TRUE : FALSE, 0);
        return true;
      case 'undefined':
        this.#head(UNDEFINED, 0);
        return true;
      case 'bigint':
        this.#head(BIGINT, 0);
        this.#text(value.toString(16));
        return true;
      case 'object':
        if (value !== null) return depth < DEPTH_MAX && this.#object(value, depth + 1);
        this.#head(NULL, 0);
        return true;
      default:
        return false;
    }
  }

  #object(value: object, depth: number): boolean {
    const kind = kindOf(value, this.#valuesLeft);
    switch (kind) {
      case 'view':
        this.#bytes((CODES[arrayClassName(value) as string] as { code: number }).code, value as ArrayBufferView);
        return true;
      case 'buffer':
        this.#bytes(BUFFER, value as Buffer);
        return true;
      case 'memory':
        this.#bytes(MEMORY, new Uint8Array(value as ArrayBuffer));
        return true;
      case 'date':
        this.#head(DATE, (value as Date).getTime());
        return true;
      case 'array': {
        const values = value as readonly unknown[];
        this.#head(ARRAY, values.length);
        for (let i = 0; i < values.length; i++) if (!this.#value(values[i], depth)) return false;
        return true;
      }
      case 'object': {
        const names = Object.keys(value);
        if (names.length > this.#valuesLeft) return false;
        names.sort();
        this.#head(OBJECT, names.length);
        for (const name of names) {
          this.#text(name);
          if (!this.#value((value as Readonly<Record<string, unknown>>)[name], depth)) return false;
        }
        return true;
      }
      case undefined:
        return false;
      default:
        return kind satisfies never;
    }
  }

  #head(tag: number, number: number): void {
    const at = this.#room(HEAD_BYTES);
    this.#scratch[at] = tag;
    this.#scratch.writeDoubleLE(Number.isNaN(number) ? Number.NaN : number, at + 1);
  }

  /** By its code units: as UTF-8 all lone surrogates would be the same. */
  #text(text: string): void {
    this.#head(STRING, text.length);
    const bytes = text.length * 2;
    if (bytes <= SCRATCH_BYTES) this.#scratch.write(text, this.#room(bytes), 'utf16le');
    else this.#flushed().update(text, 'utf16le');
  }

  #bytes(tag: number, view: ArrayBufferView): void {
    const { buffer, byteOffset, byteLength } = view;
    this.#head(tag, byteLength);
    const bytes = new Uint8Array(buffer, byteOffset, byteLength);
    if (byteLength <= SCRATCH_BYTES) this.#scratch.set(bytes, this.#room(byteLength));
    else this.#flushed().update(bytes);
  }

  /** Where as many bytes may be written. */
  #room(bytes: number): number {
    if (this.#at + bytes > SCRATCH_BYTES) this.#flushed();
    const at = this.#at;
    this.#at += bytes;
    return at;
  }

  #flushed(): Hash {
    this.#hash ??= createHash('sha256');
    this.#hash.update(this.#scratch.subarray(0, this.#at));
    this.#at = 0;
    return this.#hash;
  }
}

/** What values take in the heap of Node 20 on 64 bits at most, beside their content. */
/** A slot of 8, and 16 for a number that is not kept in it or the head of a bigint. */
const VALUE_BYTES = 24;
/** Digits of a bigint are rounded up to 8. */
const BIGINT_BYTES = 8;
const STRING_BYTES = 24;
const OBJECT_BYTES = 64;
/** Without a prototype it is a table from the start. */
const BARE_OBJECT_BYTES = 192;
/** Of a name that no other object has: its text, and its place in a table of which five sixths may be empty. */
const NAME_BYTES = 120;
const DATE_BYTES = 128;
const VIEW_BYTES = 256;

export interface Copied {
  readonly value: unknown;
  /** What the copy holds: its content and what the engine needs around it, rounded up. */
  readonly bytes: number;
}

/** A copy that shares nothing with the value; undefined where that is not plain, or its copy holds more than `maxBytes`. */
export function copyPlain(value: unknown, maxBytes: number): Copied | undefined {
  const copier = new Copier(maxBytes);
  try {
    return { value: copier.copy(value, 0), bytes: copier.bytes };
  } catch {
    return undefined;
  }
}

class Copier {
  bytes = 0;
  readonly #maxBytes: number;
  #valuesLeft = VALUES_MAX;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Throws where there is none. */
  copy(value: unknown, depth: number): unknown {
    if (--this.#valuesLeft < 0) throw new RangeError('too many values');
    switch (typeof value) {
      case 'object':
        if (value !== null) return this.#object(value, depth + 1);
        break;
      case 'string':
        this.#holds(STRING_BYTES + 2 * value.length);
        break;
      case 'bigint':
        this.#holds(BIGINT_BYTES + Math.ceil(value.toString(16).length / 2));
        break;
      case 'function':
      case 'symbol':
        throw new TypeError('no plain data');
      default:
        break;
    }
    this.#holds(VALUE_BYTES);
    return value;
  }

  #object(value: object, depth: number): unknown {
    if (depth > DEPTH_MAX) throw new RangeError('too deep');
    const kind = kindOf(value, this.#valuesLeft);
    switch (kind) {
      case 'view':
      case 'buffer': {
        this.#holds(VIEW_BYTES + (value as Uint8Array).byteLength);
        if (kind === 'view') return Uint8Array.prototype.slice.call(value as Uint8Array);
        // Not by slice, which makes a view; not by from, which may share the memory of small ones.
        const copy = Buffer.allocUnsafeSlow((value as Buffer).byteLength);
        copy.set(value as Buffer);
        return copy;
      }
      case 'memory':
        this.#holds(VIEW_BYTES + (value as ArrayBuffer).byteLength);
        return (value as ArrayBuffer).slice(0);
      case 'date':
        this.#holds(DATE_BYTES);
        return new Date((value as Date).getTime());
      case 'array': {
        this.#holds(OBJECT_BYTES);
        const values = value as readonly unknown[];
        const copy = new Array<unknown>(values.length);
        for (let i = 0; i < values.length; i++) copy[i] = this.copy(values[i], depth);
        return copy;
      }
      case 'object': {
        const isBare = Object.getPrototypeOf(value) === null;
        this.#holds(isBare ? BARE_OBJECT_BYTES : OBJECT_BYTES);
        const copy = (isBare ? Object.create(null) : {}) as Record<string, unknown>;
        const names = Object.keys(value);
        if (names.length > this.#valuesLeft) throw new RangeError('too many values');
        for (const name of names) {
          this.#holds(NAME_BYTES + 2 * name.length);
          const inner = this.copy((value as Readonly<Record<string, unknown>>)[name], depth);
          if (name !== '__proto__') copy[name] = inner;
          else
            Object.defineProperty(copy, name, { value: inner, writable: true, enumerable: true, configurable: true });
        }
        return copy;
      }
      case undefined:
        throw new TypeError('no plain data');
      default:
        return kind satisfies never;
    }
  }

  #holds(bytes: number): void {
    this.bytes += bytes;
    if (this.bytes > this.#maxBytes) throw new RangeError('too large');
  }
}
