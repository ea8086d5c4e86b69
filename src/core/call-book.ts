import type { BatchCall } from './effects.js';
import type { Flight } from './ledger.js';
import type { Request } from './request.js';

/** A batch that has come to its end; how many of its records settle is counted while they do. */
export type EndedCall = { -readonly [K in keyof BatchCall]: BatchCall[K] };

/** What batches cost, for whoever counts them; where nobody does, nothing is made. */
export class CallBook {
  readonly #onCall: ((end: BatchCall) => void) | undefined;

  /** `onCall` hears of every batch that has ended, after its records were settled; it only counts. */
  constructor(onCall: ((end: BatchCall) => void) | undefined) {
    this.#onCall = onCall;
  }

  ended(flight: Flight, answered: boolean, now: number): EndedCall {
    if (this.#onCall === undefined) return NO_CALL;
    const { batchId, requests, sentAt, trigger, timedOut } = flight;
    const size = requests.length;
    let oldestAt = sentAt;
    for (let i = 0; i < size; i++) {
      const { offeredAt } = requests[i] as Request;
      if (offeredAt < oldestAt) oldestAt = offeredAt;
    }
    const waitedMs = sentAt - oldestAt;
    return { batchId, size, waitedMs, durationMs: now - sentAt, trigger, answered, timedOut, settledCount: 0 };
  }

  tell(call: EndedCall): void {
    this.#onCall?.(call);
  }
}

/** What is written to where nobody counts calls. */
const NO_CALL: EndedCall = {
  batchId: 0,
  size: 0,
  waitedMs: 0,
  durationMs: 0,
  trigger: 'idle',
  answered: false,
  timedOut: false,
  settledCount: 0,
};
