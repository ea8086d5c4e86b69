import { FAULT_KINDS, type FaultKind } from './faults.js';
import { mix } from './seeds.js';

/**
 * Rolls for every kind of fault, each from a stream of its own: the generator of kernel/random.ts, its states in one
 * array because a run asks a thousand times. Serves run after run.
 */
export class FaultDice<Kind extends string = FaultKind> {
  readonly #kinds: readonly Kind[];
  /** Of 2^32. */
  readonly #thresholds: Float64Array;
  readonly #states: Int32Array;
  /** Bits, by number of the kind. Those from 32 on stand for others as well. */
  on = 0;

  /** `kinds`: whose places are the numbers to roll for. Default: FAULT_KINDS. */
  constructor(kinds: readonly Kind[] = FAULT_KINDS as readonly string[] as readonly Kind[]) {
    this.#kinds = kinds;
    this.#thresholds = new Float64Array(kinds.length);
    this.#states = new Int32Array(kinds.length);
  }

  /** Begins anew, as if just made. */
  reset(seed: number, faults: Readonly<Record<Kind, number>>): void {
    const kinds = this.#kinds;
    let kind = 0;
    this.on = 0;
    // Nearly always in the order of the kinds, and then without a look-up by name.
    for (const name in faults) {
      if (name !== kinds[kind]) break;
      this.#set(kind++, faults[name], seed);
    }
    for (; kind < kinds.length; kind++) this.#set(kind, faults[kinds[kind] as Kind], seed);
  }

  #set(kind: number, rate: number, seed: number): void {
    this.#thresholds[kind] = rate * 4294967296;
    if (rate === 0) return;
    this.#states[kind] = mix(seed, 100 + kind);
    this.on |= 1 << kind;
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
