import { STREAM_FAULT } from './faults.js';
import type { SimSnapshot } from './sim-coordinator.js';
import type { StreamWorld } from './world.js';

interface Checkpoint {
  readonly number: number;
  readonly snapshot: SimSnapshot;
  readonly cursor: number;
}

/** Checkpoints that survive the process: whole ones only, the last three. What a crash meets half done never was. */
export class SimStore {
  savedCount = 0;
  /** Damaged when a run wanted to go on from them. */
  putAsideCount = 0;
  /** Of those that a run went on from. */
  largestBytes = 0;
  readonly #world: StreamWorld;
  readonly #checkpoints: Checkpoint[] = [];
  #next = 1;

  constructor(world: StreamWorld) {
    this.#world = world;
  }

  /** `cursor`: where a source that keeps nothing stood in the moment of the cut. */
  save(snapshot: SimSnapshot, cursor: number): number {
    const number = this.#next++;
    this.savedCount++;
    this.#checkpoints.push({ number, snapshot, cursor });
    if (this.#checkpoints.length > 3) this.#checkpoints.shift();
    return number;
  }

  /** As JSON has it: made only now, so that a cut which changes after its moment shows. */
  latest(): Checkpoint | undefined {
    const checkpoints = this.#checkpoints;
    // Only damaged ones: a run would refuse to begin.
    while (checkpoints.length > 1 && this.#world.strikes(STREAM_FAULT.corrupt)) {
      this.putAsideCount++;
      checkpoints.pop();
    }
    const checkpoint = checkpoints[checkpoints.length - 1];
    if (checkpoint === undefined) return undefined;
    const data = JSON.stringify(checkpoint.snapshot);
    if (data.length > this.largestBytes) this.largestBytes = data.length;
    return { ...checkpoint, snapshot: JSON.parse(data) as SimSnapshot };
  }
}
