/**
 * Which of two versions the next batch is for, while a new one has a share of the records.
 *
 * T1 the version behind its share gets the next batch: no chance is in it, so equal traffic is split equally. T2 the new
 * version never has more than its share but for the rest of one batch; what it could not take in time is not made up for
 * beyond a few batches. T3 records with a key go by the key alone: of one key all go to the same version, and while the share
 * grows no key goes back.
 */

/** For whom a record that waits is. Bits, so that a replica can say in one number what it may take. */
export const SIDE = { any: 1, old: 2, new: 4 } as const;
export type Side = (typeof SIDE)[keyof typeof SIDE];
export const ALL_SIDES = SIDE.any | SIDE.old | SIDE.new;

/** T2: as many full batches may be owed to the new version at most. */
const OWED_BATCHES = 2;
/** Keys of one side may be hot: beyond this many full batches what the new version had too many is forgotten. */
const EXTRA_BATCHES = 64;

export class TrafficSplit {
  share: number;
  /** Without a share for records that have no key: whoever is idle takes them. */
  readonly isOpen: boolean;
  readonly #owedMax: number;
  readonly #extraMax: number;
  /** Records the new version is behind its share; below 0: ahead of it. */
  #owed = 0;
  #sentCount = 0;
  #newCount = 0;

  /** `share` of the records, or of the keys where it is open, for the new version: 0 < share < 1. */
  constructor(share: number, maxSize: number, isOpen = false) {
    this.share = share;
    this.isOpen = isOpen;
    this.#owedMax = OWED_BATCHES * maxSize;
    this.#extraMax = EXTRA_BATCHES * maxSize;
  }

  /** T1: the next batch is for the new version. */
  get newIsNext(): boolean {
    return this.#owed > 0;
  }

  /** The new version may take what has no key. */
  get newTakesAny(): boolean {
    return this.isOpen || this.newIsNext;
  }

  /** Records that each of the two was really sent. */
  get seen(): { readonly old: number; readonly new: number } {
    return { old: this.#sentCount - this.#newCount, new: this.#newCount };
  }

  sent(isNew: boolean, size: number): void {
    this.#sentCount += size;
    if (isNew) this.#newCount += size;
    const owed = this.#owed + this.share * size - (isNew ? size : 0);
    this.#owed = Math.max(-this.#extraMax, Math.min(this.#owedMax, owed));
  }

  /** T3. The same in every process and at every time. */
  sideOf(key: string): Side {
    return hash(key) < this.share * 2 ** 32 ? SIDE.new : SIDE.old;
  }
}

/** FNV-1a with a last mix: keys that differ in their last letter only are to be spread too. */
function hash(key: string): number {
  let mixed = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) mixed = Math.imul(mixed ^ key.charCodeAt(at), 0x01000193);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
