/**
 * Where in the source to go on so that no unsettled record is missed: remembers the position before each chunk for as
 * long as a record of the chunk has not settled. Adding costs O(1) amortized; memory grows with the chunks that hold
 * unsettled records, also when one old record is stuck and millions pass it.
 */
import type { Interval } from './intervals.js';

export interface Place {
  /** Of the record that is read next at `position`. */
  readonly seq: number;
  readonly position: unknown;
}

const LEAST_COMPACTION = 64;

export class Positions {
  #places: Place[] = [];
  #compactAt = LEAST_COMPACTION;

  /** `seq` never goes back. `settled` is asked for now and then: everything below `lowest`, and the sorted intervals above. */
  add(place: Place, settled: () => { readonly lowest: number; readonly settled: readonly Interval[] }): void {
    // The source gave nothing since the last one; the later position is as good, and nearer to the end.
    if (this.#places[this.#places.length - 1]?.seq === place.seq) this.#places.pop();
    this.#places.push(place);
    if (this.#places.length < this.#compactAt) return;
    const progress = settled();
    this.#places = compacted(this.#places, progress.lowest, progress.settled);
    this.#compactAt = Math.max(LEAST_COMPACTION, this.#places.length * 2);
  }

  /** The last place at or before record `lowest`; undefined before the first `add`. */
  at(lowest: number): Place | undefined {
    for (let index = this.#places.length - 1; index >= 0; index -= 1) {
      const place = this.#places[index] as Place;
      if (place.seq <= lowest) return place;
    }
    return undefined;
  }

  get count(): number {
    return this.#places.length;
  }
}

/** Without the places whose records, up to the next place, have all settled; the last one always stays. */
function compacted(places: readonly Place[], lowest: number, settled: readonly Interval[]): Place[] {
  const left: Place[] = [];
  let next = 0;
  places.forEach((place, index) => {
    const end = places[index + 1]?.seq;
    if (end === undefined) {
      left.push(place);
      return;
    }
    if (end <= lowest) return;
    while (next < settled.length && (settled[next] as Interval)[1] < end) next += 1;
    const [from, to] = settled[next] ?? [Infinity, Infinity];
    if (from > place.seq || to < end) left.push(place);
  });
  return left;
}
