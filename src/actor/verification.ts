/**
 * Whether a model answers probe records as it should: every one of them, without a NaN, and what was expected of it where
 * that is known. Only looks at values; who is asked, and what follows, stands in rollouts.ts.
 */

import type { RecordResult } from '../host/link.js';

/** What a new version is asked before it is given work. */
export interface Verification {
  /** Probe records, one at least; every replica of the new version has to answer all of them. */
  readonly records: readonly unknown[];
  /**
   * What they must give, in the same order. Of an object the named fields count, others may be there; a list of numbers
   * stands for any array of numbers.
   */
  readonly expect?: readonly unknown[];
  /** How far a number may be off: by this much, or by this part of it where it is larger than 1. Default 0. */
  readonly tolerance?: number;
}

/** Deeper values than this are not looked into. */
const DEPTH_MAX = 32;

/** What is wrong with the answers, in words; undefined where nothing is. */
export function problemOf(results: readonly RecordResult[], verification: Verification): string | undefined {
  const { records, expect, tolerance = 0 } = verification;
  for (let at = 0; at < records.length; at++) {
    const result = results[at];
    const which = `probe ${at + 1} of ${records.length}`;
    if (result === undefined) return `${which} was not answered`;
    if (!result.ok) return `${which} failed: ${result.error.message}`;
    const nan = placeOfNaN(result.value, 'its result', 0);
    if (nan !== undefined) return `${which}: ${nan} is NaN`;
    const difference =
      expect === undefined ? undefined : differenceOf(result.value, expect[at], tolerance, 'its result', 0);
    if (difference !== undefined) return `${which}: ${difference}`;
  }
  return undefined;
}

function placeOfNaN(value: unknown, place: string, depth: number): string | undefined {
  if (typeof value === 'number') return Number.isNaN(value) ? place : undefined;
  if (typeof value !== 'object' || value === null || depth > DEPTH_MAX) return undefined;
  if (ArrayBuffer.isView(value) && !(value instanceof Float32Array || value instanceof Float64Array)) return undefined;
  for (const [key, inner] of partsOf(value)) {
    const found = placeOfNaN(inner, placeIn(place, key), depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

function differenceOf(
  got: unknown,
  wanted: unknown,
  tolerance: number,
  place: string,
  depth: number,
): string | undefined {
  const wrong = `${place}: expected ${shown(wanted)}, got ${shown(got)}`;
  if (typeof wanted === 'number' || typeof wanted === 'bigint') {
    if (isNear(got, wanted, tolerance)) return undefined;
    return tolerance === 0 ? wrong : `${wrong} (tolerance ${tolerance})`;
  }
  if (typeof wanted !== 'object' || wanted === null || depth > DEPTH_MAX)
    return Object.is(got, wanted) ? undefined : wrong;
  if (typeof got !== 'object' || got === null) return wrong;
  if (isList(wanted)) {
    if (!isList(got)) return wrong;
    if (got.length !== wanted.length) return `${place}: expected ${wanted.length} values, got ${got.length}`;
  } else if (isList(got)) return wrong;
  for (const [key, inner] of partsOf(wanted)) {
    const part = (got as Record<string, unknown>)[key];
    const difference = differenceOf(part, inner, tolerance, placeIn(place, key), depth + 1);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

function isNear(got: unknown, wanted: number | bigint, tolerance: number): boolean {
  if (typeof got !== 'number' && typeof got !== 'bigint') return false;
  // 5n and 5 are the same number, and no tolerance is for what is larger than a double can say.
  if (typeof got === 'bigint' || typeof wanted === 'bigint') return String(got) === String(wanted);
  return got === wanted || Math.abs(got - wanted) <= tolerance * Math.max(1, Math.abs(wanted));
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
