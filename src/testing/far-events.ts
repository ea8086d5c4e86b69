/** Something that is to happen; all of its fields belong to the scheduler. */
export class Scheduled {
  /** Virtual milliseconds. */
  at = Infinity;
  /** Decides between events of one instant. */
  tie = 0x7fffffff;
  kind = 0;
  a = 0;
  ref: unknown = undefined;
  /** In the order in which they come. */
  next: Scheduled = this;
}

/** Events that come after many others: a binary heap by instant and tie. */
export class FarEvents {
  readonly #heap: Scheduled[] = [];

  get size(): number {
    return this.#heap.length;
  }

  push(event: Scheduled): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt] as Scheduled;
      if (!comesFirst(event, parent)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = event;
  }

  /** The first of them; there must be one. */
  pop(): Scheduled {
    const heap = this.#heap;
    const first = heap[0] as Scheduled;
    const last = heap.pop() as Scheduled;
    const size = heap.length;
    if (size === 0) return first;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= size) break;
      if (childAt + 1 < size && comesFirst(heap[childAt + 1] as Scheduled, heap[childAt] as Scheduled)) childAt++;
      const child = heap[childAt] as Scheduled;
      if (!comesFirst(child, last)) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = last;
    return first;
  }

  clear(): void {
    this.#heap.length = 0;
  }
}

function comesFirst(one: Scheduled, other: Scheduled): boolean {
  return one.at < other.at || (one.at === other.at && one.tie < other.tie);
}
