/**
 * Who of the records with the same key may go: the one that was accepted first and has not settled. The others wait for
 * it wherever it is, waiting, in flight or about to be tried again, so that records of one key run one after another.
 *
 * One place per record that has a key; a key nobody waits with is forgotten. A record leaves from the middle at the same
 * cost as from the front, for any of them may be cancelled or expire.
 */

import type { Request } from './request.js';

/** Where a record stands among those of its key. */
export class KeyPlace {
  before: KeyPlace | undefined;
  after: KeyPlace | undefined = undefined;
  constructor(
    readonly request: Request,
    before: KeyPlace | undefined,
  ) {
    this.before = before;
  }
}

export class KeyGate {
  readonly #last = new Map<string, KeyPlace>();

  /** How many keys are in use. */
  get keyCount(): number {
    return this.#last.size;
  }

  /** True: it may go. False: one before it has not settled. */
  enter(request: Request, key: string): boolean {
    const before = this.#last.get(key);
    const place = new KeyPlace(request, before);
    if (before !== undefined) before.after = place;
    this.#last.set(key, place);
    request.keyPlace = place;
    return before === undefined;
  }

  /** The record has settled. The one that may go now, if it was waited for. */
  leave(request: Request, key: string): Request | undefined {
    const place = request.keyPlace;
    if (place === undefined) return undefined; // It was refused or dropped before it came in.
    const { before, after } = place;
    request.keyPlace = undefined;
    if (before !== undefined) before.after = after;
    if (after !== undefined) after.before = before;
    else if (before !== undefined) this.#last.set(key, before);
    else this.#last.delete(key);
    return before === undefined ? after?.request : undefined;
  }
}
