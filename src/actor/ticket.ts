import type { Request } from '../core/request.js';
import type { Ticket } from './infer-target.js';

/** What a ticket needs of its pool. */
export interface Canceller {
  cancelRequest(request: Request, reason: unknown): void;
}

/** The ticket of a pool of this process, which knows where the record is. */
export interface PoolTicket extends Ticket {
  /** Gives the record up only if no replica has had it; false where one has, or where it has settled. */
  withdraw(reason: unknown): boolean;
}

/** Gives up one accepted request. */
export class RequestTicket implements PoolTicket {
  readonly #pool: Canceller;
  readonly #request: Request;
  constructor(pool: Canceller, request: Request) {
    this.#pool = pool;
    this.#request = request;
  }

  cancel(reason?: unknown): void {
    this.#pool.cancelRequest(this.#request, reason);
  }

  withdraw(reason: unknown): boolean {
    const { place, sendCount } = this.#request;
    if (sendCount > 0 || place === 'in-flight' || place === 'settled') return false;
    this.#pool.cancelRequest(this.#request, reason);
    return true;
  }
}

/** For what settled at once. */
export const NO_TICKET: PoolTicket = { cancel: () => undefined, withdraw: () => false };
