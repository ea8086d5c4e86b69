/**
 * Where a model can be loaded, and what would have to go for it.
 *
 * D2 (model-desk.ts) nothing goes that is kept, or waits for its first batch since its load. D5 what has work itself goes
 * only for a model that no replica holds, and after its turn.
 */

import type { Fleet } from './fleet.js';
import type { Cell } from './slots.js';
import type { KnownModel } from './model-book.js';
import type { ModelHoldings } from './model-holdings.js';
import type { ModelWants } from './model-wants.js';
import type { ResidentModel } from './resident-models.js';

/** A replica, and what has to go there. */
export interface Place {
  readonly cell: Cell;
  readonly victims: readonly ResidentModel[];
  /** The lower, the cheaper. */
  readonly rank: number;
  readonly freeBytes: number;
}

export interface ModelPlacesParts {
  readonly maxBytes: number;
  readonly fleet: Fleet;
  readonly holdings: ModelHoldings;
  readonly wants: ModelWants;
  /** It stays whatever comes. */
  readonly isKept: (key: string) => boolean;
  /** There may be another answer at this instant. */
  readonly wake: (at: number, now: number) => void;
}

export class ModelPlaces {
  readonly #maxBytes: number;
  readonly #fleet: Fleet;
  readonly #holdings: ModelHoldings;
  readonly #wants: ModelWants;
  readonly #isKept: (key: string) => boolean;
  readonly #wake: (at: number, now: number) => void;

  constructor({ maxBytes, fleet, holdings, wants, isKept, wake }: ModelPlacesParts) {
    this.#maxBytes = maxBytes;
    this.#fleet = fleet;
    this.#holdings = holdings;
    this.#wants = wants;
    this.#isKept = isKept;
    this.#wake = wake;
  }

  /** The cheapest one; `isSecond`: another replica holds the model, so only an idle one, and nothing that has work goes for it. */
  best(known: KnownModel, isSecond: boolean, now: number): Place | undefined {
    let best: Place | undefined;
    for (const cell of this.#fleet.list) {
      if (isSecond && cell.flights.length > 0) continue;
      const place = this.at(cell, known, !isSecond, now);
      if (place === undefined) continue;
      const isBetter =
        best === undefined || place.rank < best.rank || (place.rank === best.rank && place.freeBytes > best.freeBytes);
      if (isBetter) best = place;
    }
    return best;
  }

  /** What it would cost at this replica; undefined: it is there, or there is no room and will be none for now. */
  at(cell: Cell, { key, bytes = 0, loadMs }: KnownModel, takesTurns: boolean, now: number): Place | undefined {
    if (!this.#isFree(cell, key)) return undefined;
    const models = this.#holdings.of(cell);
    const isBusy = cell.flights.length > 0 ? 1 : 0;
    const freeBytes = this.#maxBytes - models.bytes;
    const missingBytes = Math.max(1, bytes) - freeBytes;
    if (missingBytes <= 0) return { cell, victims: [], rank: isBusy, freeBytes };
    const unneeded: ResidentModel[] = [];
    /** Unneeded, once their token streams have ended. */
    const streaming: ResidentModel[] = [];
    const working: ResidentModel[] = [];
    let comingBytes = 0;
    for (const model of models.leastRecent()) {
      if (model.state === 'unloading' || model.state === 'closing') comingBytes += model.bytes;
      if (model.state !== 'ready' || this.#isKept(model.key)) continue;
      if (!this.#wants.has(model.key)) (model.streams > 0 ? streaming : unneeded).push(model);
      else if (takesTurns && model.hasAnswered) {
        const turnEndsAt = model.loadedAt + loadMs; // D5
        if (turnEndsAt <= now) working.push(model);
        else this.#wake(turnEndsAt, now);
      }
    }
    const victims = victimsOf([...unneeded, ...streaming, ...working], missingBytes - comingBytes);
    if (victims === undefined) return undefined;
    const takesTurn = victims.some((model) => working.includes(model));
    return { cell, victims, rank: (takesTurn ? 4 : 2) + isBusy, freeBytes };
  }

  /** It is not there, and nothing else is about to be loaded. P4: not beside a suspect. */
  #isFree(cell: Cell, key: string): boolean {
    if (!this.#fleet.serves(cell) || cell.solo || cell.killed) return false;
    const models = this.#holdings.of(cell);
    return models.next === undefined && models.loading === undefined && models.get(key) === undefined;
  }
}

/** As many of them, from the first on, as free so many bytes; those that turn out needless stay. Undefined: all are too few. */
export function victimsOf(candidates: readonly ResidentModel[], missingBytes: number): ResidentModel[] | undefined {
  const victims: ResidentModel[] = [];
  let missing = missingBytes;
  for (let i = 0; i < candidates.length && missing > 0; i++) {
    const model = candidates[i] as ResidentModel;
    victims.push(model);
    missing -= Math.max(1, model.bytes);
  }
  if (missing > 0) return undefined;
  return victims.filter(({ bytes }) => {
    if (missing + Math.max(1, bytes) > 0) return true;
    missing += Math.max(1, bytes);
    return false;
  });
}
