/**
 * Which records of a run have settled. A record is named by its place in the source (`seq`) and, below flatMaps, by the
 * places among its siblings (`path`, '' or as '.0.2').
 *
 * P1 a record without children settles once. An expanded one settles when it is known how many children it has and all
 *    of them have settled.
 * P2 what `snapshot` gives and the constructor takes is the whole state; settled children of an unsettled parent are in
 *    it, so that they are not delivered again.
 * P3 memory: the gaps between settled records, and the open parents. Never the set of all records.
 *
 * Hot path: a record without a path costs O(1) and no allocation while records settle in order.
 */
import { type Interval, Intervals } from './intervals.js';

/** Everything below `lowest` has settled, and the intervals above it. JSON. */
export interface ProgressState {
  readonly lowest: number;
  /** Sorted; ends are exclusive. */
  readonly settled: readonly Interval[];
  /** Unsettled parents with children that have settled. */
  readonly open: readonly OpenParent[];
}

/** The same below one parent: numbers are places among its children. */
export interface OpenParent extends ProgressState {
  readonly place: number;
}

const NOTHING: ProgressState = { lowest: 0, settled: [], open: [] };

export class Progress {
  readonly #top: Family;
  /** Never changes: what had settled may come again long after its parent has settled as a whole. */
  readonly #initial: Family | undefined;

  constructor(state?: ProgressState) {
    this.#top = familyOf(state ?? NOTHING);
    this.#initial = state === undefined ? undefined : familyOf(state);
  }

  /** Everything below has settled. */
  get lowest(): number {
    return this.#top.settled.floor;
  }

  /** Whether the record had settled in the state that this began with; nothing is known of later ones. */
  hadSettled(seq: number, path: string): boolean {
    let family = this.#initial;
    if (family === undefined) return false;
    for (const place of placesOf(seq, path)) {
      if (place < family.settled.floor || family.settled.hadInitially(place)) return true;
      family = family.open.get(place);
      if (family === undefined) return false;
    }
    return false;
  }

  /** The record has left. True when thereby the record `seq` as a whole has settled. */
  settle(seq: number, path: string): boolean {
    if (path === '') {
      this.#top.settled.add(seq);
      // It had children in the run before, and fails as a whole in this one.
      if (this.#top.open.size > 0) this.#top.open.delete(seq);
      return true;
    }
    // A filter refuses again what it refused in the run before.
    if (this.hadSettled(seq, path)) return false;
    const places = placesOf(seq, path);
    const families = this.#descend(places.slice(0, -1));
    const family = families[families.length - 1] as Family;
    const last = places[places.length - 1] as number;
    family.settled.add(last);
    family.open.delete(last);
    return rollUp(families, places);
  }

  /** The record has become `childCount` children. True when thereby the record `seq` as a whole has settled. */
  expand(seq: number, path: string, childCount: number): boolean {
    if (this.hadSettled(seq, path)) return false;
    const places = placesOf(seq, path);
    const families = this.#descend(places);
    (families[families.length - 1] as Family).childCount = childCount;
    return rollUp(families, places);
  }

  snapshot(): ProgressState {
    return stateOf(this.#top);
  }

  /** The families on the way to and below these places. */
  #descend(places: readonly number[]): Family[] {
    let family = this.#top;
    const families = [family];
    for (const place of places) {
      let below = family.open.get(place);
      if (below === undefined) {
        below = familyOf(NOTHING);
        family.open.set(place, below);
      }
      family = below;
      families.push(family);
    }
    return families;
  }
}

/** The children of one record, or all records of the source. */
interface Family {
  readonly settled: Intervals;
  readonly open: Map<number, Family>;
  /** Undefined while there may be more. */
  childCount: number | undefined;
}

/** P1. `families[n + 1]` stands at `places[n]` in `families[n]`. */
function rollUp(families: readonly Family[], places: readonly number[]): boolean {
  for (let depth = families.length - 1; depth > 0; depth -= 1) {
    const { childCount, settled } = families[depth] as Family;
    if (childCount === undefined || settled.count < childCount) return false;
    const above = families[depth - 1] as Family;
    const place = places[depth - 1] as number;
    above.open.delete(place);
    above.settled.add(place);
  }
  return true;
}

function placesOf(seq: number, path: string): number[] {
  const places = [seq];
  if (path !== '') for (const place of path.slice(1).split('.')) places.push(Number(place));
  return places;
}

function familyOf(state: ProgressState): Family {
  return {
    settled: new Intervals(state.lowest, state.settled),
    open: new Map(state.open.map((parent) => [parent.place, familyOf(parent)])),
    childCount: undefined,
  };
}

/** An open parent none of whose children has settled is like one that was never expanded. */
function stateOf(family: Family): ProgressState {
  const open: OpenParent[] = [];
  for (const [place, below] of family.open) {
    const state = stateOf(below);
    if (state.lowest > 0 || state.settled.length > 0 || state.open.length > 0) open.push({ place, ...state });
  }
  return { lowest: family.settled.floor, settled: family.settled.aboveFloor(), open };
}
