import type { NumericArray } from '../wire/tensor.js';
import { makeValues, type OipDatatype, valuesOver } from './oip-datatype.js';
import { invalid, shownName, shownValue } from './oip-invalid.js';

/**
 * One tensor of the Open Inference Protocol, and its values as JSON and as bytes.
 *
 * T1 nothing is allocated for what a request only says it holds: values are counted first, and are as many as the shape says.
 * T2 what does not fit is INPUT_INVALID, naming the tensor; nothing is rounded, wrapped or cut.
 */

export interface OipTensor {
  readonly name: string;
  readonly datatype: OipDatatype;
  readonly shape: readonly number[];
  /** BOOL as 0 and 1, FP16 and BF16 as their bits, BYTES as texts. */
  readonly data: NumericArray | readonly string[];
}

/** NaN and the infinities in JSON: as bare words, which most readers take, or not at all. Bytes hold them in any case. */
export type NonFinite = 'bare' | 'refuse';

export const RANK_MAX = 16;
/** Values of one tensor in JSON; and what a shape may span, dimensions of 0 counted as 1. */
export const ELEMENTS_MAX = 2 ** 24;
/** Of a tensor that travels as bytes. */
const BINARY_ELEMENTS_MAX = 2 ** 31;
/** Of the bytes that values in JSON become. */
export const EXPANDED_BYTES_MAX = 2 ** 26;
const LENGTH_BYTES = 4;

/** The dimensions of a shape as it stands in a request. */
export function readShape(value: unknown, where: string): readonly number[] {
  if (!Array.isArray(value)) throw invalid(`${where}: shape must be an array of dimensions, got ${shownValue(value)}`);
  if (value.length > RANK_MAX)
    throw invalid(`${where}: shape has ${value.length} dimensions, more than ${RANK_MAX} are not served`);
  let extent = 1;
  for (const dim of value as unknown[]) {
    if (typeof dim !== 'number' || !Number.isSafeInteger(dim) || dim < 0)
      throw invalid(`${where}: a dimension of shape must be a whole number from 0, got ${shownValue(dim)}`);
    // Looked at after each factor: a product of three could be past what a number holds.
    extent *= Math.max(1, dim);
    if (!(extent <= BINARY_ELEMENTS_MAX))
      throw invalid(`${where}: shape [${value.map(shownValue).join(', ')}] spans more values than can be served`);
  }
  return value as number[];
}

export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** The values of `data` of a request, flat or nested in any way. */
export function valuesFromJson(
  data: unknown,
  datatype: OipDatatype,
  shape: readonly number[],
  where: string,
  nonFinite: NonFinite,
): NumericArray | string[] {
  const { name, json, bytes } = datatype;
  if (json === 'none') throw invalid(`${where}: ${name} is not sent as JSON; send it as binary data`);
  if (!Array.isArray(data)) throw invalid(`${where}: data must be an array, got ${shownValue(data)}`);
  const count = elementsOf(shape);
  if (count > ELEMENTS_MAX || count * bytes > EXPANDED_BYTES_MAX)
    throw invalid(`${where}: ${count} values are too many for JSON; send them as binary data`);
  const flat = flatten(data, count);
  if (flat.length !== count) {
    const many = flat.length > count ? 'more' : flat.length;
    throw invalid(`${where}: shape [${shape.join(', ')}] takes ${count} values, data has ${many}`);
  }
  const wrong = (index: number, expected: string): Error =>
    invalid(`${where}: value ${index} must be ${expected} (${name}), got ${shownValue(flat[index])}`);
  if (json === 'text') {
    for (let index = 0; index < count; index++) if (typeof flat[index] !== 'string') throw wrong(index, 'a string');
    return flat as string[];
  }
  const values = makeValues(datatype, count);
  for (let index = 0; index < count; index++) {
    const value = numberFrom(flat[index], datatype, nonFinite);
    if (value === undefined) throw wrong(index, expectedOf(datatype, nonFinite));
    (values as { [index: number]: number | bigint })[index] = value;
  }
  return values;
}

/** As text: one flat list. */
export function valuesToJson({ name, datatype, data }: OipTensor, nonFinite: NonFinite): string {
  switch (datatype.json) {
    case 'none':
      throw invalid(`output ${shownName(name)}: ${datatype.name} is not sent as JSON; ask for binary_data`);
    case 'text':
      return `[${(data as readonly string[]).map((text) => JSON.stringify(text)).join(',')}]`;
    case 'boolean':
      return `[${Array.from(data as Uint8Array, (bit) => bit !== 0).join(',')}]`;
    case 'float':
      return floatsToJson(name, data as Float32Array, nonFinite);
    default:
      return `[${(data as NumericArray).join(',')}]`;
  }
}

/** Exactly the values of the shape, nothing before or behind them. `bytes` must stay as it is: values may be views of it. */
export function valuesFromBytes(
  bytes: Uint8Array,
  datatype: OipDatatype,
  shape: readonly number[],
  where: string,
): NumericArray | string[] {
  const count = elementsOf(shape);
  if (datatype.json === 'text') return textsFromBytes(bytes, count, where);
  const expected = count * datatype.bytes;
  if (bytes.length !== expected)
    throw invalid(
      `${where}: shape [${shape.join(', ')}] of ${datatype.name} takes ${expected} bytes, there are ${bytes.length}`,
    );
  return valuesOver(datatype, bytes);
}

/** The bytes of the values; of numbers the very memory of `data`. */
export function valuesToBytes({ datatype, data }: Pick<OipTensor, 'datatype' | 'data'>): Uint8Array {
  if (datatype.json !== 'text') {
    const { buffer, byteOffset, byteLength } = data as NumericArray;
    return new Uint8Array(buffer, byteOffset, byteLength);
  }
  const texts = data as readonly string[];
  let length = 0;
  for (const text of texts) length += LENGTH_BYTES + Buffer.byteLength(text);
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for (const text of texts) {
    const written = bytes.write(text, at + LENGTH_BYTES);
    bytes.writeUInt32LE(written, at);
    at += LENGTH_BYTES + written;
  }
  return bytes;
}

/** Leaves of nested arrays, in order; stops at one more than `most`. */
function flatten(data: readonly unknown[], most: number): readonly unknown[] {
  if (!data.some(Array.isArray)) return data;
  const flat: unknown[] = [];
  const open: { readonly of: readonly unknown[]; next: number }[] = [{ of: data, next: 0 }];
  for (let top = open.at(-1); top !== undefined && flat.length <= most; top = open.at(-1)) {
    if (top.next === top.of.length) {
      open.pop();
      continue;
    }
    const value = top.of[top.next++];
    if (Array.isArray(value)) open.push({ of: value, next: 0 });
    else flat.push(value);
  }
  return flat;
}

/** undefined for what is none. */
export function numberFrom(value: unknown, datatype: OipDatatype, nonFinite: NonFinite): number | bigint | undefined {
  switch (datatype.json) {
    case 'boolean':
      return value === true || value === 1 ? 1 : value === false || value === 0 ? 0 : undefined;
    case 'integer': {
      const [least, most] = datatype.range as readonly [number, number];
      return Number.isInteger(value) && (value as number) >= least && (value as number) <= most
        ? (value as number)
        : undefined;
    }
    case 'bigint': {
      if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) return undefined;
      const big = BigInt(value as bigint | number);
      const [least, most] = datatype.bigRange as readonly [bigint, bigint];
      return big >= least && big <= most ? big : undefined;
    }
    default:
      return floatFrom(value, datatype.bytes === 4, nonFinite);
  }
}

const WORDS: ReadonlyMap<unknown, number> = new Map([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
]);

function floatFrom(value: unknown, isSingle: boolean, nonFinite: NonFinite): number | undefined {
  const number = typeof value === 'string' ? WORDS.get(value) : typeof value === 'bigint' ? Number(value) : value;
  if (typeof number !== 'number') return undefined;
  if (!Number.isFinite(number)) return nonFinite === 'bare' ? number : undefined;
  return isSingle && !Number.isFinite(Math.fround(number)) ? undefined : number;
}

export function expectedOf({ json, range, bigRange }: OipDatatype, nonFinite: NonFinite): string {
  if (json === 'boolean') return 'true or false';
  const [least, most] = range ?? bigRange ?? [];
  if (least !== undefined) return `a whole number from ${least} to ${most}`;
  return nonFinite === 'bare' ? 'a number in range' : 'a finite number in range; others go as binary data';
}

function floatsToJson(name: string, data: Float32Array | Float64Array, nonFinite: NonFinite): string {
  let isPlain = true;
  for (let index = 0; index < data.length && isPlain; index++) {
    const value = data[index] as number;
    if (nonFinite === 'refuse' && !Number.isFinite(value))
      throw invalid(`output ${shownName(name)}: value ${index} is ${value}, which is no JSON; ask for binary_data`);
    isPlain = !Object.is(value, -0);
  }
  // join writes NaN and the infinities as bare words, and -0 without its sign.
  return isPlain
    ? `[${data.join(',')}]`
    : `[${Array.from(data, (value) => (Object.is(value, -0) ? '-0.0' : String(value))).join(',')}]`;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Each with its length before it, in four bytes. */
function textsFromBytes(bytes: Uint8Array, count: number, where: string): string[] {
  const least = count * LENGTH_BYTES;
  if (bytes.length < least)
    throw invalid(`${where}: ${count} BYTES take ${least} bytes at least, there are ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  // T1: that all lengths agree is known before the first text is made.
  let end = 0;
  for (let index = 0; index < count; index++) {
    const from = end + LENGTH_BYTES;
    const length = from <= bytes.length ? view.getUint32(end, true) : 0;
    if (from + length > bytes.length)
      throw invalid(`${where}: value ${index} of ${count} BYTES goes beyond the end of its data`);
    end = from + length;
  }
  if (end !== bytes.length) throw invalid(`${where}: ${bytes.length - end} bytes are left behind ${count} BYTES`);
  const texts: string[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    const from = at + LENGTH_BYTES;
    at = from + view.getUint32(at, true);
    try {
      // A view costs more than most texts, and the empty one needs none.
      texts.push(from === at ? '' : utf8.decode(bytes.subarray(from, at)));
    } catch {
      throw invalid(`${where}: value ${index} is not UTF-8; BYTES are taken as text`);
    }
  }
  return texts;
}
