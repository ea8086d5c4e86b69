import type { System } from '../actor/system.js';
import { answer, type IncomingMessage, type ServerResponse } from '../stream/http-listener.js';

/** Whoever looks at the metrics: a pair of scrapers, an agent, people. */
const SCRAPES_MAX = 8;

/** Why there is no answer: for the client. */
export const SCRAPES_BUSY = `${SCRAPES_MAX} scrapes have not been read to their end yet`;

/**
 * The metrics as an answer, of which so many at most wait to be read: a text may hold 10,000 series, and nobody has to read
 * it soon. They stand apart from the bytes of requests, so that a server that is full of those can be looked at all the same.
 */
export class Scrapes {
  #count = 0;
  #refusedCount = 0;

  constructor(private readonly system: Pick<System, 'metrics'>) {}

  get refusedCount(): number {
    return this.#refusedCount;
  }

  /** False: too many wait already, and the request has no answer yet. */
  answer(request: IncomingMessage, response: ServerResponse): boolean {
    if (response.headersSent || response.destroyed) return true;
    if (this.#count === SCRAPES_MAX) {
      this.#refusedCount++;
      return false;
    }
    const text = this.system.metrics();
    this.#count++;
    response.once('close', () => this.#count--);
    answer(request, response, 200, text, 'text/plain; version=0.0.4; charset=utf-8');
    return true;
  }
}
