import { FAULT_KINDS, type FaultRates } from './faults.js';
import { mix } from './seeds.js';

/**
 * Rolls for every kind of fault, each from a stream of its own: the generator of kernel/random.ts, its states in one
 * array because a run asks a thousand times. Serves run after run.
 */
export class FaultDice {
  /** Of 2^32. */
  readonly #thresholds = new Float64Array(FAULT_KINDS.length);
  readonly #states = new Int32Array(FAULT_KINDS.length);

  /** Begins anew, as if just made. */
  reset(seed: number, faults: Readonly<FaultRates>): void {
    let kind = 0;
    // Nearly always in the order of FAULT_KINDS, and then without a look-up by name.
    for (const name in faults) {
      if (name !== FAULT_KINDS[kind]) break;
      this.#set(kind++, faults[name], seed);
    }
    for (; kind < FAULT_KINDS.length; kind++)
      this.#set(kind, faults[FAULT_KINDS[kind] as (typeof FAULT_KINDS)[number]], seed);
  }

  #set(kind: number, rate: number, seed: number): void {
    this.#thresholds[kind] = rate * 4294967296;
    if (rate > 0) this.#states[kind] = mix(seed, 100 + kind);
  }

  /** Does this fault (a number of FAULT) strike? One that is switched off draws nothing. */
  roll(kind: number): boolean {
    const threshold = this.#thresholds[kind] as number;
    if (threshold === 0) return false;
    const state = ((this.#states[kind] as number) + 0x6d2b79f5) | 0;
    this.#states[kind] = state;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0 < threshold;
  }
}
