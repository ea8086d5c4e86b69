import type { Mailbox } from './mailbox.js';
import type { Request } from './request.js';
import type { RetryLane } from './retry-lane.js';

/** Work that waits for one model. */
export interface Want {
  readonly key: string;
  urgency: number;
  oldestAt: number;
}

/** Which models are waited for, read off the mailbox and the retry lane at every turn. What stands at the door comes in later. */
export class ModelWants {
  readonly #mailbox: Mailbox;
  readonly #retries: RetryLane;
  #wants = new Map<string, Want>();

  constructor(mailbox: Mailbox, retries: RetryLane) {
    this.#mailbox = mailbox;
    this.#retries = retries;
  }

  get isEmpty(): boolean {
    return this.#wants.size === 0;
  }

  has(key: string): boolean {
    return this.#wants.has(key);
  }

  look(now: number): void {
    if (this.#wants.size > 0) this.#wants = new Map();
    const { buckets } = this.#mailbox;
    for (let b = 0; b < buckets.length; b++) {
      const bucket = buckets[b];
      if (bucket?.model !== undefined) this.#add(bucket.model, this.#mailbox.urgency(bucket, now), bucket.oldestAt);
    }
    for (const { requests } of this.#retries.groups) {
      const first = requests.find(({ place }) => place === 'retry');
      // It was under way already: before everything that waits.
      if (first?.model !== undefined) this.#add(first.model, Infinity, first.offeredAt);
    }
  }

  /** The most urgent first, then the one that waits longest. */
  inOrder(): readonly Want[] {
    return [...this.#wants.values()].sort((a, b) => b.urgency - a.urgency || a.oldestAt - b.oldestAt);
  }

  /** Everything that waits for it, the door included, which is about to be refused. */
  takeWaiting(key: string): readonly Request[] {
    this.#wants.delete(key);
    const waiting = this.#mailbox.of(key);
    for (const { requests } of this.#retries.groups)
      for (const request of requests) if (request.model === key && request.place === 'retry') waiting.push(request);
    return waiting;
  }

  #add(key: string, urgency: number, oldestAt: number): void {
    const want = this.#wants.get(key);
    if (want === undefined) {
      this.#wants.set(key, { key, urgency, oldestAt });
      return;
    }
    want.urgency = Math.max(want.urgency, urgency);
    want.oldestAt = Math.min(want.oldestAt, oldestAt);
  }
}
