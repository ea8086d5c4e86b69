import { type Random, seededRandom } from '../kernel/random.js';

/**
 * One stream of chance per concern, all forked from one seed: a new draw in one concern shifts nothing in another, so a
 * seed still shows the same failure after a fault kind was switched off.
 */
export function forkRandom(seed: number, concern: number): Random {
  return seededRandom(mix(seed, concern));
}

/** The same stream as an object: its draws are inlined where many are needed. */
export class Chance {
  #state: number;

  constructor(seed: number, concern: number) {
    this.#state = mix(seed, concern) | 0;
  }

  /** In [0, 1). */
  next(): number {
    const state = (this.#state + 0x6d2b79f5) | 0;
    this.#state = state;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  }
}

export function mix(seed: number, concern: number): number {
  let mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(concern + 1, 0xc2b2ae35);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x27d4eb2f);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}

export function between(chance: Chance, low: number, high: number): number {
  return low + chance.next() * (high - low);
}

/** Whole number in [low, high]. */
export function whole(chance: Chance, low: number, high: number): number {
  return low + Math.floor(chance.next() * (high - low + 1));
}

export function pick<T>(chance: Chance, choices: readonly T[]): T {
  return choices[Math.floor(chance.next() * choices.length)] as T;
}
