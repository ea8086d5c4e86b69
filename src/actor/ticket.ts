import type { Request } from '../core/request.js';
import type { Ticket } from './infer-target.js';

/** What a ticket needs of its pool. */
export interface Canceller {
  cancelRequest(request: Request, reason: unknown): void;
}

/** Gives up one accepted request. */
export class RequestTicket implements Ticket {
  readonly #pool: Canceller;
  readonly #request: Request;
  constructor(pool: Canceller, request: Request) {
    this.#pool = pool;
    this.#request = request;
  }

  cancel(reason?: unknown): void {
    this.#pool.cancelRequest(this.#request, reason);
  }
}

/** For what settled at once. */
export const NO_TICKET: Ticket = { cancel: () => undefined };
