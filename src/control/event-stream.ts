import type { ControlEvent } from './event-log.js';

/** Events that were not taken yet; beyond this the oldest go, and the gap in their numbers shows it. */
const HELD_MAX = 1000;

/** Events from a producer that does not wait, for a consumer that takes its time. Bounded. */
export class EventStream implements AsyncIterableIterator<ControlEvent> {
  #held: ControlEvent[] = [];
  #waiter: { resolve(result: IteratorResult<ControlEvent>): void; reject(error: unknown): void } | undefined;
  #end: { readonly error: unknown } | undefined;

  /** `stopped` is called once, when the consumer wants no more. */
  constructor(private readonly stopped: () => void) {}

  push(event: ControlEvent): void {
    if (this.#end !== undefined) return;
    const waiter = this.#waiter;
    if (waiter === undefined) {
      this.#held.push(event);
      if (this.#held.length > HELD_MAX) this.#held.shift();
      return;
    }
    this.#waiter = undefined;
    waiter.resolve({ done: false, value: event });
  }

  /** No more events; what is held can still be taken. With an error, the consumer gets it after that. */
  end(error?: unknown): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter === undefined) return;
    if (error === undefined) waiter.resolve({ done: true, value: undefined });
    else waiter.reject(error);
  }

  next(): Promise<IteratorResult<ControlEvent>> {
    const event = this.#held.shift();
    if (event !== undefined) return Promise.resolve({ done: false, value: event });
    if (this.#end !== undefined) {
      const { error } = this.#end;
      this.#end = { error: undefined };
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error as Error);
    }
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  return(): Promise<IteratorResult<ControlEvent>> {
    if (this.#end === undefined) {
      this.end();
      this.stopped();
    }
    this.#held = [];
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
