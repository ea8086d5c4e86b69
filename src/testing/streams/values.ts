/**
 * What a simulated record is: a number that says where it comes from, so that a sink can tell lost, doubled and
 * overtaking records, and what the user's functions make of it. Record n of the source is n * 4096; the children of a
 * flatMap add (1 + place) * 64, their children 1 + place: the order of numbers is the order of the source. All that a
 * function answers is decided by the record and the seed, as it should be with functions that are run again after a
 * crash; only `map-throw` is not.
 */
import { mix } from '../seeds.js';
import type { StreamScenario } from './scenario.js';

export const PER_RECORD = 4096;
const PER_CHILD = 64;

export function valueOf(n: number): number {
  return n * PER_RECORD;
}

export function recordOf(value: number): number {
  return Math.floor(value / PER_RECORD);
}

export function childOf(value: number, place: number): number {
  const isChild = value % PER_RECORD > 0;
  return value + (place + 1) * (isChild ? 1 : PER_CHILD);
}

/** As the ids of records are spelled: `7.0.1`. */
export function nameOf(value: number): string {
  const places = [Math.floor((value % PER_RECORD) / PER_CHILD) - 1, (value % PER_CHILD) - 1];
  return [recordOf(value), ...places.filter((place) => place >= 0)].join('.');
}

/** Is `value` made of `of` by flatMaps? */
export function isAncestor(of: number, value: number): boolean {
  const parent = valueOf(recordOf(value));
  return of < value && (of === parent || (of > parent && of === value - (value % PER_CHILD)));
}

export class UserFunctions {
  readonly #seed: number;
  readonly #refused: number;
  readonly #childrenMax: number;
  readonly #keys: readonly string[];
  readonly #poison: number;
  readonly #expandThrows: number;
  readonly #bad: number;

  constructor({ seed, filterShare, childrenMax, keys, faults }: StreamScenario) {
    this.#seed = seed;
    this.#refused = filterShare * SHARES;
    this.#childrenMax = childrenMax;
    this.#keys = KEYS.slice(0, keys);
    this.#poison = faults.poison * SHARES;
    this.#expandThrows = faults['expand-throw'] * SHARES;
    this.#bad = faults['bad-record'] * SHARES;
  }

  isRefused(value: number): boolean {
    return this.#share(value, 1) < this.#refused;
  }

  childCount(value: number): number {
    return mix(this.#seed ^ value, 2) % (this.#childrenMax + 1);
  }

  /** After that many children; undefined: it does not. */
  throwsAfter(value: number): number | undefined {
    if (this.#share(value, 3) >= this.#expandThrows) return undefined;
    return mix(this.#seed ^ value, 4) % (this.childCount(value) + 1);
  }

  /** Children, the failed one included where the flatMap throws. */
  leafCount(value: number): number {
    const after = this.throwsAfter(value);
    return after === undefined ? this.childCount(value) : after + 1;
  }

  key(value: number): string {
    return this.#keys[recordOf(value) % this.#keys.length] as string;
  }

  isPoison(value: number): boolean {
    return this.#share(value, 5) < this.#poison;
  }

  isBad(n: number): boolean {
    return this.#share(n, 6) < this.#bad;
  }

  #share(value: number, concern: number): number {
    return mix(this.#seed ^ value, concern) % SHARES;
  }
}

const SHARES = 1024;
const KEYS = ['a', 'b', 'c', 'd', 'e'];
