import { type Random, seededRandom } from '../kernel/random.js';

/**
 * One stream of chance per concern, all forked from one seed: a new draw in one concern shifts nothing in another, so a
 * seed still shows the same failure after a fault kind was switched off.
 */
export function forkRandom(seed: number, concern: number): Random {
  return seededRandom(mix(seed, concern));
}

export function mix(seed: number, concern: number): number {
  let mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(concern + 1, 0xc2b2ae35);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x27d4eb2f);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}

export function between(random: Random, low: number, high: number): number {
  return low + random() * (high - low);
}

/** Whole number in [low, high]. */
export function whole(random: Random, low: number, high: number): number {
  return low + Math.floor(random() * (high - low + 1));
}

export function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[Math.floor(random() * choices.length)] as T;
}
