import { TroupeError, type TextPart } from 'troupe/actor';
import { faultOf } from './faults.js';
import type { RemoteCall } from './remote-call.js';
import type { Piece } from './shapes.js';

/**
 * A text as a server makes it. Its end without a reason to end is a cut connection, and no end; and what is given up gives
 * nothing more, though the client goes on with what it had read by then (113 chunks after an abort were seen).
 */
export class RemoteText implements AsyncIterableIterator<TextPart> {
  readonly #events: AsyncIterator<Piece>;
  readonly #read: (piece: Piece) => TextPart;
  readonly #call: RemoteCall;
  readonly #server: string;
  #isOver = false;
  #hasEnd = false;

  constructor(events: AsyncIterable<Piece>, read: (piece: Piece) => TextPart, call: RemoteCall, server: string) {
    this.#events = events[Symbol.asyncIterator]();
    this.#read = read;
    this.#call = call;
    call.begun();
    this.#server = server;
  }

  async next(): Promise<IteratorResult<TextPart, undefined>> {
    for (;;) {
      let event: IteratorResult<Piece>;
      try {
        event = await this.#events.next();
      } catch (error) {
        if (this.#isOver) return DONE;
        this.#end();
        throw faultOf(this.#call.reasonOf(error), this.#server, 1, 'interrupted');
      }
      if (this.#isOver) return DONE;
      if (event.done === true) {
        this.#end();
        if (this.#hasEnd) return DONE;
        const message = `${this.#server} ended a text before it was whole`;
        throw this.#call.reasonOf(new TroupeError('REMOTE_UNAVAILABLE', message, { ran: 'interrupted' }));
      }
      const value = this.#read(event.value);
      if (value.finishReason !== undefined) this.#hasEnd = true;
      // The first names the role alone.
      if (Object.keys(value).length > 0 && !(Object.keys(value).length === 1 && value.text === ''))
        return { done: false, value };
    }
  }

  async return(): Promise<IteratorResult<TextPart, undefined>> {
    if (!this.#isOver) {
      this.#end();
      this.#call.abort();
    }
    return DONE;
  }

  #end(): void {
    this.#isOver = true;
    this.#call.end();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

const DONE = { done: true, value: undefined } as const;
