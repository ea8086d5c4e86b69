import { invariant } from '../kernel/errors.js';
import type { Request } from './request.js';

/** What can wait for an instant: all of these fields belong to the deadlines while it waits. */
export interface Due {
  dueAt: number;
  /** NOWHERE: waits for nothing. IN_LINE: between its neighbours. Else its place in the heap. */
  heapIndex: number;
  dueBefore: Due | undefined;
  dueAfter: Due | undefined;
}

const NOWHERE = -1;
const IN_LINE = -2;

/**
 * Every finite deadline of a pool, or of an infer step, so that one timer serves them all.
 *
 * Most records have the timeout of those before them, so they are due in the order they came: those stand in a line, where
 * coming and going touches only the neighbours. What is due before the end of the line stands in a heap.
 *
 * H1 a request is in one of the two, at most once. H2 the root of the heap has the earliest deadline of the heap. H3 in the
 * line nobody is due before the one in front. Removal is by position, so a settled record leaves at once and nothing is
 * held longer than by its owner.
 */
export class Deadlines<Item extends Due = Request> {
  readonly #heap: Item[] = [];
  #first: Item | undefined = undefined;
  #last: Item | undefined = undefined;
  #lineCount = 0;

  /** The earliest deadline, Infinity where there is none. */
  get nextAt(): number {
    const next = this.#next();
    return next === undefined ? Infinity : next.dueAt;
  }

  get count(): number {
    return this.#heap.length + this.#lineCount;
  }

  /** While it is sent out a request may be due earlier than its deadline; one that has left may wait for the same instant again. */
  move(request: Item, dueAt: number): void {
    if (request.dueAt === dueAt && request.heapIndex !== NOWHERE) return;
    this.remove(request);
    request.dueAt = dueAt;
    this.add(request);
  }

  add(request: Item): void {
    const { dueAt } = request;
    if (dueAt === Infinity) return;
    invariant(request.heapIndex === NOWHERE, 'H1: a request has one deadline');
    const last = this.#last;
    if (last === undefined || dueAt >= last.dueAt) {
      request.heapIndex = IN_LINE;
      this.#lineCount++;
      this.#last = request;
      if (last === undefined) this.#first = request;
      else {
        request.dueBefore = last;
        last.dueAfter = request;
      }
      return;
    }
    this.#heap.push(request);
    this.#up(this.#heap.length - 1, request);
  }

  remove(request: Item): void {
    const at = request.heapIndex;
    if (at === NOWHERE) return;
    request.heapIndex = NOWHERE;
    if (at === IN_LINE) {
      this.#leaveLine(request);
      return;
    }
    const last = this.#heap.pop() as Item;
    if (last === request) return;
    if (at > 0 && last.dueAt < (this.#heap[(at - 1) >> 1] as Item).dueAt) this.#up(at, last);
    else this.#down(at, last);
  }

  /** Removes and returns one request whose deadline has come, or undefined. */
  takeDue(now: number): Item | undefined {
    const next = this.#next();
    if (next === undefined || next.dueAt > now) return undefined;
    this.remove(next);
    return next;
  }

  #next(): Item | undefined {
    const first = this.#first;
    const root = this.#heap[0];
    if (first === undefined) return root;
    return root === undefined || first.dueAt <= root.dueAt ? first : root;
  }

  #leaveLine(request: Item): void {
    const before = request.dueBefore as Item | undefined;
    const after = request.dueAfter as Item | undefined;
    this.#lineCount--;
    request.dueBefore = undefined;
    request.dueAfter = undefined;
    if (before === undefined) this.#first = after;
    else before.dueAfter = after;
    if (after === undefined) this.#last = before;
    else after.dueBefore = before;
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
