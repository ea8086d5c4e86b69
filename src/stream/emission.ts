/** What an emission knows of a slot. */
export interface EmissionSlot {
  isSettled: boolean;
  /** For the emission's own use. */
  place: number;
}

/**
 * Holds the slots of one infer step from entry to emission; the step never knows which order it is. Capacity is the
 * step's business. Two versions: ordered gives the oldest slot only, unordered whatever has settled, first settled first.
 */
export interface Emission<Slot extends EmissionSlot> {
  add(slot: Slot): void;
  /** Told once when a slot has settled; true when something can be taken that could not before. */
  settled(slot: Slot): boolean;
  hasReady(): boolean;
  /** The next slot to emit; undefined when none is ready. */
  tryTake(): Slot | undefined;
  /** Slots that have not settled, for cancelling. */
  unsettled(): readonly Slot[];
}

/** A ring of `capacity` places: emission order is the order of entry, and a slow slot holds back those behind it only. */
export class OrderedEmission<Slot extends EmissionSlot> implements Emission<Slot> {
  readonly #ring: (Slot | undefined)[];
  #head = 0;
  #size = 0;

  constructor(capacity: number) {
    this.#ring = Array.from({ length: capacity });
  }

  add(slot: Slot): void {
    this.#ring[(this.#head + this.#size) % this.#ring.length] = slot;
    this.#size += 1;
  }

  settled(slot: Slot): boolean {
    return slot === this.#ring[this.#head];
  }

  hasReady(): boolean {
    return this.#ring[this.#head]?.isSettled === true;
  }

  tryTake(): Slot | undefined {
    const slot = this.#ring[this.#head];
    if (slot === undefined || !slot.isSettled) return undefined;
    this.#ring[this.#head] = undefined;
    this.#head = (this.#head + 1) % this.#ring.length;
    this.#size -= 1;
    return slot;
  }

  unsettled(): readonly Slot[] {
    return this.#ring.filter((slot) => slot !== undefined && !slot.isSettled) as Slot[];
  }
}

/** Waiting slots in an array with swap-remove, settled ones in a first-in first-out ring. */
export class UnorderedEmission<Slot extends EmissionSlot> implements Emission<Slot> {
  readonly #waiting: Slot[] = [];
  readonly #ready: (Slot | undefined)[];
  #head = 0;
  #size = 0;

  constructor(capacity: number) {
    this.#ready = Array.from({ length: capacity });
  }

  add(slot: Slot): void {
    slot.place = this.#waiting.length;
    this.#waiting.push(slot);
  }

  settled(slot: Slot): boolean {
    const last = this.#waiting.pop() as Slot;
    if (last !== slot) {
      last.place = slot.place;
      this.#waiting[slot.place] = last;
    }
    this.#ready[(this.#head + this.#size) % this.#ready.length] = slot;
    this.#size += 1;
    return true;
  }

  hasReady(): boolean {
    return this.#size > 0;
  }

  tryTake(): Slot | undefined {
    const slot = this.#ready[this.#head];
    if (slot === undefined) return undefined;
    this.#ready[this.#head] = undefined;
    this.#head = (this.#head + 1) % this.#ready.length;
    this.#size -= 1;
    return slot;
  }

  unsettled(): readonly Slot[] {
    return [...this.#waiting];
  }
}
