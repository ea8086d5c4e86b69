import { isDeepStrictEqual } from 'node:util';
import { isTokenStream } from '../wire/token-stream.js';

/**
 * Where two outputs of a model differ. Of an object the named fields count, others may be there; a list stands for any array
 * of numbers of its length; dates, maps, sets and buffers must be equal as they are.
 */

/** Deeper values than this are equal as a whole, or not. */
const DEPTH_MAX = 32;

/**
 * The first place where `got` is not as `wanted`, in words that begin with `place`; undefined where there is none. A number
 * may be off by `tolerance`, or by that part of it where it is larger than 1.
 */
export function differenceOf(
  got: unknown,
  wanted: unknown,
  tolerance: number,
  place: string,
  depth = 0,
): string | undefined {
  const wrong = (): string => `${place}: expected ${shown(wanted)}, got ${shown(got)}`;
  if (typeof wanted === 'number' || typeof wanted === 'bigint') {
    if (isNear(got, wanted, tolerance)) return undefined;
    return tolerance === 0 ? wrong() : `${wrong()} (tolerance ${tolerance})`;
  }
  // The pieces of a stream are for one reader alone.
  if (isTokenStream(wanted)) return isTokenStream(got) ? undefined : wrong();
  if (typeof wanted !== 'object' || wanted === null) return Object.is(got, wanted) ? undefined : wrong();
  if (depth > DEPTH_MAX || isWhole(wanted)) return isDeepStrictEqual(got, wanted) ? undefined : wrong();
  if (typeof got !== 'object' || got === null) return wrong();
  if (isList(wanted)) {
    if (!isList(got)) return wrong();
    if (got.length !== wanted.length) return `${place}: expected ${wanted.length} values, got ${got.length}`;
    return listDifference(got, wanted, tolerance, place, depth);
  }
  if (isList(got)) return wrong();
  for (const [key, inner] of Object.entries(wanted)) {
    const part = (got as Record<string, unknown>)[key];
    const difference = differenceOf(part, inner, tolerance, placeIn(place, key), depth + 1);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

/** Tensors are long: nothing is put into words before a number is off. */
function listDifference(got: List, wanted: List, tolerance: number, place: string, depth: number): string | undefined {
  for (let at = 0; at < wanted.length; at++) {
    const one = wanted[at];
    if (typeof one === 'number' && isNear(got[at], one, tolerance)) continue;
    const difference = differenceOf(got[at], one, tolerance, placeIn(place, String(at)), depth + 1);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

/** Where a value is or holds a NaN; undefined: nowhere. */
export function placeOfNaN(value: unknown, place: string, depth = 0): string | undefined {
  if (typeof value === 'number') return Number.isNaN(value) ? place : undefined;
  if (typeof value !== 'object' || value === null || depth > DEPTH_MAX) return undefined;
  if (ArrayBuffer.isView(value) && !(value instanceof Float32Array || value instanceof Float64Array)) return undefined;
  for (const [key, inner] of partsOf(value)) {
    const found = placeOfNaN(inner, placeIn(place, key), depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isNear(got: unknown, wanted: number | bigint, tolerance: number): boolean {
  if (typeof got !== 'number' && typeof got !== 'bigint') return false;
  // 5n and 5 are the same number, and no tolerance is for what is larger than a double can say.
  if (typeof got === 'bigint' || typeof wanted === 'bigint') return String(got) === String(wanted);
  return Object.is(got, wanted) || Math.abs(got - wanted) <= tolerance * Math.max(1, Math.abs(wanted));
}

/** No record of fields and no list: a Date, a Map, an ArrayBuffer and their like. */
function isWhole(value: object): boolean {
  return !isList(value) && Object.prototype.toString.call(value) !== '[object Object]';
}

type List = ArrayLike<unknown> & object;

function isList(value: object): value is List {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

function* partsOf(value: object): Generator<readonly [string, unknown]> {
  if (!isList(value)) {
    yield* Object.entries(value);
    return;
  }
  for (let at = 0; at < value.length; at++) yield [String(at), value[at]];
}

function placeIn(place: string, key: string): string {
  return /^\d+$/.test(key) ? `${place}[${key}]` : `${place}.${key}`;
}

function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value !== 'object' || value === null) return String(value);
  return isList(value) ? `${value.length} values` : 'an object';
}
