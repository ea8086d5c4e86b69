/**
 * How requests come to their end: by a result, by a failure, by their deadline, or with their pool.
 *
 * Owns the deadlines. Takes a request out of wherever it is held before it settles it; what becomes of a batch that nobody
 * waits for any more is told to the owner. P1 every accepted request is settled exactly once.
 */

import { type ErrorCode, invariant, type Ran, type TroupeError } from '../kernel/errors.js';
import { Deadlines } from './deadlines.js';
import {
  cancelledInFlight,
  cancelledWaiting,
  dropped,
  expiredInFlight,
  expiredWaiting,
  Failure,
  tryTimedOut,
  waitedTooLong,
} from './failure.js';
import type { Flight, Ledger } from './ledger.js';
import type { Mailbox } from './mailbox.js';
import type { Outbox } from './outbox.js';
import type { PoolCounts } from './pool-counts.js';
import type { Request } from './request.js';
import type { RetryLane } from './retry-lane.js';
import { emptied } from './short-list.js';

export interface SettlementParts {
  readonly mailbox: Mailbox;
  readonly ledger: Ledger;
  readonly retries: RetryLane;
  readonly counts: PoolCounts;
  readonly outbox: Outbox;
  /** Nobody waits for this batch any more. */
  readonly abandoned: (flight: Flight) => void;
}

export class Settlement {
  readonly deadlines = new Deadlines();
  readonly #pool: string;
  readonly #mailbox: Mailbox;
  readonly #ledger: Ledger;
  readonly #retries: RetryLane;
  readonly #counts: PoolCounts;
  readonly #outbox: Outbox;
  readonly #abandoned: (flight: Flight) => void;

  constructor(pool: string, { mailbox, ledger, retries, counts, outbox, abandoned }: SettlementParts) {
    this.#pool = pool;
    this.#mailbox = mailbox;
    this.#ledger = ledger;
    this.#retries = retries;
    this.#counts = counts;
    this.#outbox = outbox;
    this.#abandoned = abandoned;
  }

  resolve(request: Request, value: unknown, version: string | undefined): void {
    request.value = value;
    request.version = version;
    this.#counts.resolved++;
    this.#settle(request);
  }

  fail<Detail>(
    request: Request,
    code: ErrorCode,
    ran: Ran,
    make: (failure: Failure<Detail>) => TroupeError,
    detail: Detail,
  ): void {
    this.failWith(request, new Failure(code, ran, request, this.#pool, make, detail));
  }

  failWith(request: Request, failure: Failure): void {
    request.failure = failure;
    this.#counts.failed(failure.code);
    this.#settle(request);
  }

  cancel(request: Request, reason: unknown): void {
    const words = request.place === 'in-flight' ? cancelledInFlight : cancelledWaiting;
    this.#leave(request);
    this.fail(request, 'CANCELLED', ranOf(request), words, reason);
  }

  /** Takes it out of where it waits, with an end that is no deadline's and no caller's. */
  refuse<Detail>(
    request: Request,
    code: ErrorCode,
    make: (failure: Failure<Detail>) => TroupeError,
    detail: Detail,
  ): void {
    this.#leave(request);
    this.fail(request, code, ranOf(request), make, detail);
  }

  drop(request: Request, what: string): void {
    const { held, heldBytes, limits } = this.#mailbox;
    this.fail(request, 'MAILBOX_DROPPED', 'not-started', dropped, { what, held, heldBytes, limits });
  }

  /** Empties `victims`. */
  dropAll(victims: Request[]): void {
    for (let i = 0; i < victims.length; i++)
      this.drop(victims[i] as Request, 'drop-oldest dropped this record for a newer one');
    emptied(victims);
  }

  /** What comes back from a replica has its whole deadline again; the end of the try is over with the try. */
  unsend(requests: readonly Request[]): void {
    for (const request of requests) if (request.place === 'in-flight') this.deadlines.move(request, request.deadlineAt);
  }

  /** Asked every turn, where there is hardly ever anything to do. */
  expire(now: number): void {
    if (this.deadlines.nextAt <= now) this.#expireDue(now);
  }

  #expireDue(now: number): void {
    for (;;) {
      const request = this.deadlines.takeDue(now);
      if (request === undefined) return;
      const inFlight = request.place === 'in-flight';
      if (inFlight) (request.flight as Flight).timedOut = true;
      this.#leave(request);
      const isEarly = request.dueAt < request.deadlineAt;
      const [early, atEnd] = inFlight ? IN_FLIGHT_ENDS : WAITING_ENDS;
      const make = isEarly ? early : atEnd;
      this.fail(request, 'DEADLINE_PASSED', ranOf(request), make, undefined);
    }
  }

  /** The pool ends, or has no replica left: all it holds. */
  failAll<Detail>(code: ErrorCode, make: (failure: Failure<Detail>) => TroupeError, detail: Detail): void {
    if (this.#counts.held === 0) return;
    const held: Request[] = [];
    for (const flight of this.#ledger.flights()) {
      for (const request of flight.requests) if (request.place === 'in-flight') held.push(request);
    }
    held.push(...this.#retries.empty(), ...this.#mailbox.empty());
    for (const request of held) {
      if (request.place === 'in-flight') this.#leave(request);
      this.fail(request, code, ranOf(request), make, detail);
    }
  }

  /** Takes a request out of wherever it is held, without settling it. */
  #leave(request: Request): void {
    if (request.place === 'mailbox' || request.place === 'door') this.#mailbox.remove(request);
    else if (request.place === 'in-flight') {
      const flight = request.flight as Flight;
      flight.waiting--;
      if (flight.waiting === 0) this.#abandoned(flight);
    }
    request.place = 'nowhere';
  }

  #settle(request: Request): void {
    invariant(request.place !== 'settled', 'P1: a record settles once');
    this.deadlines.remove(request);
    request.place = 'settled';
    if (request.key !== undefined) this.#mailbox.settled(request, request.key);
    this.#counts.settled++;
    this.#outbox.settled(request);
  }
}

/** Words for what ends before the deadline, and at it. */
const IN_FLIGHT_ENDS = [tryTimedOut, expiredInFlight] as const;
const WAITING_ENDS = [waitedTooLong, expiredWaiting] as const;

/** A record that was never sent cannot have run. */
function ranOf(request: Request): Ran {
  return request.sendCount === 0 ? 'not-started' : 'interrupted';
}
