/**
 * The in-flight ledger: what was sent to which incarnation of which replica and has no answer yet. It alone says
 * whether a reply counts; a transport's word that a send succeeded proves nothing.
 *
 * L1 a batch is opened once and closed once. L2 only a reply from the incarnation that was asked closes a batch;
 * any other is stale and counted. L3 batches of one replica are kept in the order sent: the first is the one it runs.
 */

import { invariant } from '../kernel/errors.js';
import type { Trigger } from './batcher.js';
import type { Request } from './request.js';

export interface Flight {
  readonly batchId: number;
  readonly cell: number;
  readonly incarnation: number;
  readonly requests: readonly Request[];
  readonly trigger: Trigger;
  readonly sentAt: number;
  /** When the replica can have begun with it: when sent, or when the one before it was answered. */
  startedAt: number;
  /** Records whose caller still waits. */
  waiting: number;
}

export class Ledger {
  staleReplyCount = 0;
  #lastBatchId = 0;
  readonly #flights = new Map<number, Flight>();
  readonly #byCell = new Map<number, Flight[]>();

  get size(): number {
    return this.#flights.size;
  }

  /** Opens a flight; the batch id is new for the life of the ledger. */
  open(cell: number, incarnation: number, requests: readonly Request[], trigger: Trigger, now: number): Flight {
    const flight: Flight = {
      batchId: ++this.#lastBatchId,
      cell,
      incarnation,
      requests,
      trigger,
      sentAt: now,
      startedAt: now,
      waiting: requests.length,
    };
    this.#flights.set(flight.batchId, flight);
    this.#lane(cell).push(flight);
    return flight;
  }

  /** Closes the flight this reply answers; undefined for a stale, repeated or invented reply (L2). */
  close(cell: number, incarnation: number, batchId: number, now: number): Flight | undefined {
    const flight = this.#flights.get(batchId);
    if (flight === undefined || flight.cell !== cell || flight.incarnation !== incarnation) {
      this.staleReplyCount++;
      return undefined;
    }
    this.#flights.delete(batchId);
    const flights = this.#byCell.get(cell) as Flight[];
    const at = flights.indexOf(flight);
    invariant(at >= 0, 'L1: a flight is listed at its replica');
    if (at === flights.length - 1) flights.pop();
    else flights.splice(at, 1);
    const next = flights[0];
    if (at === 0 && next !== undefined) next.startedAt = now;
    return flight;
  }

  get(batchId: number): Flight | undefined {
    return this.#flights.get(batchId);
  }

  /** The batch the replica runs now, if any. */
  running(cell: number): Flight | undefined {
    return this.#byCell.get(cell)?.[0];
  }

  /** The flights of one replica as they come and go, in the order sent (L3); for whoever looks often. Read only. */
  lane(cell: number): readonly Flight[] {
    return this.#lane(cell);
  }

  /** The replica slot is gone for good. */
  forget(cell: number): void {
    this.#byCell.delete(cell);
  }

  count(cell: number): number {
    return this.#byCell.get(cell)?.length ?? 0;
  }

  /** Closes everything the replica held when it died, in the order sent. */
  closeAll(cell: number): Flight[] {
    const flights = this.#byCell.get(cell)?.splice(0) ?? [];
    for (const flight of flights) this.#flights.delete(flight.batchId);
    return flights;
  }

  flights(): Iterable<Flight> {
    return this.#flights.values();
  }

  #lane(cell: number): Flight[] {
    let flights = this.#byCell.get(cell);
    if (flights === undefined) {
      flights = [];
      this.#byCell.set(cell, flights);
    }
    return flights;
  }
}
