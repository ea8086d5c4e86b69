/**
 * The verifying sink, as it stands outside the process: what is in it survives its writers as far as it was made safe.
 * One class for the four kinds, because they differ in a few lines each.
 *
 * Z1 file: `prepare` syncs; a power loss leaves any prefix of the rest; resume cuts back to the length in the state.
 * Z2 staged: what is written is seen by nobody before `commit`; `prepare` puts it aside durably under a number; resume
 *    commits up to the number in the state and forgets what stands above it.
 * Z3 idempotent: an entry of the same id takes the place of the earlier one. Z4 plain: written is written.
 */
import type { SimSinkKind } from './scenario.js';
import type { StreamWorld } from './world.js';

/** One outcome of one record. */
export interface Entry {
  /** See values.ts. */
  readonly value: number;
  /** What an idempotent sink knows it by. */
  readonly id: string;
  /** The run that wrote it. */
  readonly run: number;
  readonly isControl: boolean;
}

export interface SinkStateOfSim {
  readonly upTo: number;
}

interface Staged {
  readonly number: number;
  readonly entries: readonly Entry[];
}

export class SimSink {
  /** What a reader of the sink sees, in order. */
  entries: Entry[] = [];
  writtenCount = 0;
  readonly #world: StreamWorld;
  readonly kind: SimSinkKind;
  readonly name: string;
  #syncedCount = 0;
  /** Z2. */
  #open: Entry[] = [];
  #staged: Staged[] = [];
  #nextNumber = 1;

  constructor(world: StreamWorld, name: string) {
    this.#world = world;
    this.kind = world.scenario.sink;
    this.name = name;
  }

  /** Has a state for the checkpoint. */
  get isTwoPhase(): boolean {
    return this.kind === 'file' || this.kind === 'staged';
  }

  open(state: SinkStateOfSim | undefined, isAppending: boolean): void {
    if (this.kind === 'file') {
      const length = state?.upTo ?? (isAppending ? this.entries.length : 0);
      if (length > this.entries.length)
        this.#world.violate(
          'durable',
          `sink ${this.name} has ${this.entries.length} entries, its state says ${length}`,
        );
      this.entries.length = length;
      this.#syncedCount = length;
    } else if (this.kind === 'staged') {
      this.#open = [];
      if (state !== undefined) this.commit(state);
      this.#staged = [];
    }
  }

  write(entries: readonly Entry[]): void {
    this.writtenCount += entries.length;
    if (this.kind === 'staged') {
      this.#open.push(...entries);
      return;
    }
    if (this.kind !== 'idempotent') {
      this.entries.push(...entries);
      return;
    }
    for (const entry of entries) {
      const at = this.entries.findIndex(({ id, isControl }) => id === entry.id && isControl === entry.isControl);
      if (at < 0) this.entries.push(entry);
      else this.entries[at] = entry;
    }
  }

  prepare(): SinkStateOfSim | undefined {
    if (this.kind === 'file') {
      if (this.#world.lies.ignoresSync !== true) this.#syncedCount = this.entries.length;
      return { upTo: this.entries.length };
    }
    if (this.kind !== 'staged') return undefined;
    const number = this.#nextNumber++;
    this.#staged.push({ number, entries: this.#open });
    this.#open = [];
    return { upTo: number };
  }

  commit({ upTo }: SinkStateOfSim): void {
    if (this.kind !== 'staged') return;
    const left: Staged[] = [];
    for (const staged of this.#staged) {
      if (staged.number <= upTo) this.entries.push(...staged.entries);
      else left.push(staged);
    }
    this.#staged = left;
  }

  /** The process is gone, and what was not synced with it, or some of it. */
  lostPower(): void {
    if (this.kind === 'file') {
      const unsynced = this.entries.length - this.#syncedCount;
      this.entries.length = this.#syncedCount + Math.floor(this.#world.chance.next() * (unsynced + 1));
    }
    this.#open = [];
  }

  /** A run that failed leaves what it wrote to a later one. */
  abandoned(): void {
    this.#open = [];
  }

  /** All that was written is safe and seen, where nobody takes part in checkpoints. */
  close(): void {
    this.#syncedCount = this.entries.length;
  }
}
