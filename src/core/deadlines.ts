import { invariant } from '../kernel/errors.js';
import type { Request } from './request.js';

/** What can wait for an instant: both fields are the heap's while it waits. */
export interface Due {
  dueAt: number;
  /** -1: waits for nothing. */
  heapIndex: number;
}

/**
 * Every finite deadline of a pool, or of an infer step, in one heap, so that one timer serves them all.
 *
 * H1 a request is in the heap at most once, at `heapIndex`. H2 the root has the earliest deadline.
 * Removal is by position, so a settled record leaves at once and the heap never holds more than its owner does.
 */
export class Deadlines<Item extends Due = Request> {
  readonly #heap: Item[] = [];

  /** The earliest deadline, Infinity where there is none. */
  get nextAt(): number {
    const first = this.#heap[0];
    return first === undefined ? Infinity : first.dueAt;
  }

  get count(): number {
    return this.#heap.length;
  }

  /** While it is sent out a request may be due earlier than its deadline; one that has left may wait for the same instant again. */
  move(request: Item, dueAt: number): void {
    if (request.dueAt === dueAt && request.heapIndex !== -1) return;
    this.remove(request);
    request.dueAt = dueAt;
    this.add(request);
  }

  add(request: Item): void {
    if (request.dueAt === Infinity) return;
    invariant(request.heapIndex === -1, 'H1: a request has one deadline');
    this.#heap.push(request);
    this.#up(this.#heap.length - 1, request);
  }

  remove(request: Item): void {
    const at = request.heapIndex;
    if (at === -1) return;
    request.heapIndex = -1;
    const last = this.#heap.pop() as Item;
    if (last === request) return;
    if (at > 0 && last.dueAt < (this.#heap[(at - 1) >> 1] as Item).dueAt) this.#up(at, last);
    else this.#down(at, last);
  }

  /** Removes and returns one request whose deadline has come, or undefined. */
  takeDue(now: number): Item | undefined {
    const first = this.#heap[0];
    if (first === undefined || first.dueAt > now) return undefined;
    this.remove(first);
    return first;
  }

  #up(at: number, request: Item): void {
    const heap = this.#heap;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt] as Item;
      if (parent.dueAt <= request.dueAt) break;
      heap[at] = parent;
      parent.heapIndex = at;
      at = parentAt;
    }
    heap[at] = request;
    request.heapIndex = at;
  }

  #down(at: number, request: Item): void {
    const heap = this.#heap;
    const half = heap.length >> 1;
    while (at < half) {
      let childAt = 2 * at + 1;
      let child = heap[childAt] as Item;
      const right = heap[childAt + 1];
      if (right !== undefined && right.dueAt < child.dueAt) {
        child = right;
        childAt++;
      }
      if (child.dueAt >= request.dueAt) break;
      heap[at] = child;
      child.heapIndex = at;
      at = childAt;
    }
    heap[at] = request;
    request.heapIndex = at;
  }
}
