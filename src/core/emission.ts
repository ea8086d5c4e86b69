/**
 * In which order the records of one infer step leave it. The operator never knows which order it is, and capacity is
 * its business; an emission holds the slots from entry to take.
 *
 * E1 a fence leaves after everything that entered before it and before everything that entered later.
 * E2 ordered: order of entry. keyed: order of entry among the slots of one key. unordered: first settled, first out.
 * E3 nothing waits for a slot that E1 and E2 do not make it wait for.
 * E4 every added slot is taken once, after it settled.
 *
 * Hot path: links in the slots themselves, so adding, settling and taking allocate nothing; only `keyed` makes one
 * object for each key that is held, and a fence one for the segment behind it.
 */

/** What an emission knows of a slot; all but `isSettled` and `isFence` is for the emission's own use. */
export class EmissionSlot {
  isSettled = false;
  /** A control element, or a record whose key nobody knows: settled when it is added. */
  isFence = false;
  before: EmissionSlot | undefined = undefined;
  after: EmissionSlot | undefined = undefined;
  /** The next of the same key while it waits, the next to be taken once it is ready. */
  follow: EmissionSlot | undefined = undefined;
  segment: Segment | undefined = undefined;
  chain: KeyChain | undefined = undefined;
}

export type Order = 'ordered' | 'unordered' | 'keyed';

export interface Emission<Slot extends EmissionSlot> {
  readonly size: number;
  /** `key` is looked at by `keyed` alone. A slot that is settled already is told by `settled` as well. */
  add(slot: Slot, key: string): void;
  /** Told once for each slot, after `isSettled` was set. */
  settled(slot: Slot): void;
  hasReady(): boolean;
  /** The next slot to emit; undefined when none is ready. */
  tryTake(): Slot | undefined;
  /** Every held slot, in the order of entry. */
  held(): IterableIterator<Slot>;
}

export function emissionOf<Slot extends EmissionSlot>(order: Order): Emission<Slot> {
  return order === 'ordered' ? new OrderedEmission() : new SegmentedEmission(order === 'keyed');
}

/** Slots in the order of entry. */
class Held<Slot extends EmissionSlot> {
  size = 0;
  protected first: EmissionSlot | undefined = undefined;
  #last: EmissionSlot | undefined = undefined;

  *held(): IterableIterator<Slot> {
    for (let slot = this.first; slot !== undefined; slot = slot.after) yield slot as Slot;
  }

  protected append(slot: EmissionSlot): void {
    slot.before = this.#last;
    if (this.#last === undefined) this.first = slot;
    else this.#last.after = slot;
    this.#last = slot;
    this.size += 1;
  }

  protected remove(slot: EmissionSlot): void {
    const { before, after } = slot;
    if (before === undefined) this.first = after;
    else before.after = after;
    if (after === undefined) this.#last = before;
    else after.before = before;
    slot.before = undefined;
    slot.after = undefined;
    this.size -= 1;
  }
}

/** A slow slot holds back those behind it, and nothing else. A fence needs no care: nothing overtakes anything. */
class OrderedEmission<Slot extends EmissionSlot> extends Held<Slot> implements Emission<Slot> {
  add(slot: Slot): void {
    this.append(slot);
  }

  settled(): void {}

  hasReady(): boolean {
    return this.first?.isSettled === true;
  }

  tryTake(): Slot | undefined {
    const slot = this.first;
    if (slot === undefined || !slot.isSettled) return undefined;
    this.remove(slot);
    return slot as Slot;
  }
}

/** What entered between two fences. */
class Segment {
  /** Not yet settled. */
  openCount = 0;
  firstReady: EmissionSlot | undefined = undefined;
  lastReady: EmissionSlot | undefined = undefined;
  /** The fence that ends it. */
  fence: EmissionSlot | undefined = undefined;
  behind: Segment | undefined = undefined;
  /** keyed: the keys held in this segment. Made when first needed. */
  chains: Map<string, KeyChain> | undefined = undefined;

  push(slot: EmissionSlot): void {
    slot.follow = undefined;
    if (this.lastReady === undefined) this.firstReady = slot;
    else this.lastReady.follow = slot;
    this.lastReady = slot;
  }
}

/** The slots of one key in one segment that are not ready, in the order of entry. */
class KeyChain {
  last: EmissionSlot;
  constructor(
    readonly key: string,
    public first: EmissionSlot,
  ) {
    this.last = first;
  }
}

/** unordered and keyed: both are free inside a segment and ordered between segments. */
class SegmentedEmission<Slot extends EmissionSlot> extends Held<Slot> implements Emission<Slot> {
  /** The segment that may be taken from. */
  #head = new Segment();
  /** The segment that is added to. */
  #tail = this.#head;

  constructor(private readonly isKeyed: boolean) {
    super();
  }

  add(slot: Slot, key: string): void {
    this.append(slot);
    const segment = this.#tail;
    slot.segment = segment;
    if (slot.isFence) {
      segment.fence = slot;
      segment.behind = new Segment();
      this.#tail = segment.behind;
      return;
    }
    segment.openCount += 1;
    if (this.isKeyed) enchain(segment, slot, key);
  }

  settled(slot: Slot): void {
    if (slot.isFence) return;
    const segment = slot.segment as Segment;
    segment.openCount -= 1;
    if (slot.chain === undefined) segment.push(slot);
    else unchain(segment, slot.chain);
  }

  hasReady(): boolean {
    const head = this.#head;
    return head.firstReady !== undefined || (head.openCount === 0 && head.fence !== undefined);
  }

  tryTake(): Slot | undefined {
    const head = this.#head;
    const slot = head.firstReady;
    if (slot !== undefined) {
      head.firstReady = slot.follow;
      if (slot.follow === undefined) head.lastReady = undefined;
      return this.#taken(slot);
    }
    const { fence } = head;
    if (fence === undefined || head.openCount > 0) return undefined;
    // E1: everything before it has left.
    this.#head = head.behind as Segment;
    return this.#taken(fence);
  }

  #taken(slot: EmissionSlot): Slot {
    this.remove(slot);
    slot.follow = undefined;
    slot.segment = undefined;
    return slot as Slot;
  }
}

function enchain(segment: Segment, slot: EmissionSlot, key: string): void {
  segment.chains ??= new Map();
  const chain = segment.chains.get(key);
  if (chain === undefined) {
    slot.chain = new KeyChain(key, slot);
    segment.chains.set(key, slot.chain);
    return;
  }
  slot.chain = chain;
  chain.last.follow = slot;
  chain.last = slot;
}

/** Moves what is settled at the front of the chain to the ready ones. */
function unchain(segment: Segment, chain: KeyChain): void {
  let slot: EmissionSlot | undefined = chain.first;
  while (slot?.isSettled === true) {
    const next: EmissionSlot | undefined = slot.follow;
    slot.chain = undefined;
    segment.push(slot);
    slot = next;
  }
  if (slot === undefined) segment.chains?.delete(chain.key);
  else chain.first = slot;
}
