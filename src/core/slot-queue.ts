import type { OperatorSlot } from './operator-slot.js';

/** Slots first in, first out. What has left its state meanwhile is the caller's to skip. */
export class SlotQueue {
  #slots: OperatorSlot[] = [];
  #head = 0;

  get size(): number {
    return this.#slots.length - this.#head;
  }

  push(slot: OperatorSlot): void {
    this.#slots.push(slot);
  }

  peek(): OperatorSlot | undefined {
    return this.#slots[this.#head];
  }

  shift(): void {
    this.#head += 1;
    // Mostly a queue runs empty, chunk by chunk; a long one is cut when half of it is gone.
    if (this.#head < this.#slots.length && this.#head < 1024) return;
    this.#slots = this.#head === this.#slots.length ? [] : this.#slots.slice(this.#head);
    this.#head = 0;
  }

  clear(): void {
    this.#slots = [];
    this.#head = 0;
  }
}
