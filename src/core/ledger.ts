/**
 * The in-flight ledger: what was sent to which incarnation of which replica and has no answer yet. It alone says
 * whether a reply counts; a transport's word that a send succeeded proves nothing.
 *
 * L1 a batch is opened once and closed once. L2 only a reply from the incarnation that was asked closes a batch;
 * any other is stale and counted. L3 batches of one replica are kept in the order sent: the first is the one it runs.
 */

import type { Trigger } from './batcher.js';
import type { Request } from './request.js';
import { removeAt } from './short-list.js';

export interface Flight {
  readonly batchId: number;
  readonly cell: number;
  readonly incarnation: number;
  readonly requests: readonly Request[];
  readonly trigger: Trigger;
  readonly sentAt: number;
  /** When the replica can have begun with it: when sent, or when the one before it was answered. */
  startedAt: number;
  /** It was given time beyond the usual, because the host itself stood still. */
  forgiven: boolean;
  /** Records whose caller still waits. */
  waiting: number;
  /** Time ran out for one of them while it was here. */
  timedOut: boolean;
}

export class Ledger {
  staleReplyCount = 0;
  #size = 0;
  #lastBatchId = 0;
  /** Of flights that were answered. */
  #busyMs = 0;
  /** By replica. A lane is as long as maxInFlight, so it is searched, not indexed. */
  readonly #lanes = new Map<number, Flight[]>();

  get size(): number {
    return this.#size;
  }

  /** Opens a flight; the batch id is new for the life of the ledger. `lane`: that of the replica, where it is at hand. */
  open(
    cell: number,
    incarnation: number,
    requests: readonly Request[],
    trigger: Trigger,
    now: number,
    lane: readonly Flight[] = this.#lane(cell),
  ): Flight {
    const flight: Flight = {
      batchId: ++this.#lastBatchId,
      cell,
      incarnation,
      requests,
      trigger,
      sentAt: now,
      startedAt: now,
      forgiven: false,
      waiting: requests.length,
      timedOut: false,
    };
    this.#size++;
    (lane as Flight[]).push(flight);
    return flight;
  }

  /** Closes the flight this reply answers; undefined for a stale, repeated or invented reply (L2). `lane` as for `open`. */
  close(
    cell: number,
    incarnation: number,
    batchId: number,
    now: number,
    lane: readonly Flight[] | undefined = this.#lanes.get(cell),
  ): Flight | undefined {
    const flights = lane as Flight[] | undefined;
    const at = flights === undefined ? -1 : placeOf(flights, batchId);
    const flight = flights?.[at];
    if (flights === undefined || flight === undefined || flight.incarnation !== incarnation) {
      this.staleReplyCount++;
      return undefined;
    }
    this.#size--;
    removeAt(flights, at);
    if (at === 0) this.#busyMs += now - flight.startedAt;
    const next = flights[0];
    if (at === 0 && next !== undefined) next.startedAt = now;
    return flight;
  }

  get(cell: number, batchId: number): Flight | undefined {
    const flights = this.#lanes.get(cell);
    return flights?.[placeOf(flights, batchId)];
  }

  /** Time that replicas have spent on batches they answered, or are at, all of them together. */
  busyMs(now: number): number {
    let busyMs = this.#busyMs;
    for (const [running] of this.#lanes.values()) if (running !== undefined) busyMs += now - running.startedAt;
    return busyMs;
  }

  /** The batch the replica runs now, if any. */
  running(cell: number): Flight | undefined {
    return this.#lanes.get(cell)?.[0];
  }

  /** The flights of one replica as they come and go, in the order sent (L3); for whoever looks often. Read only. */
  lane(cell: number): readonly Flight[] {
    return this.#lane(cell);
  }

  /** The replica slot is gone for good. */
  forget(cell: number): void {
    this.#lanes.delete(cell);
  }

  count(cell: number): number {
    return this.#lanes.get(cell)?.length ?? 0;
  }

  /** Closes everything the replica held when it died, in the order sent. */
  closeAll(cell: number): readonly Flight[] {
    const flights = this.#lanes.get(cell);
    if (flights === undefined || flights.length === 0) return NONE;
    this.#size -= flights.length;
    return flights.splice(0);
  }

  /** All of them, in the order sent. */
  flights(): Flight[] {
    const all: Flight[] = [];
    for (const flights of this.#lanes.values()) all.push(...flights);
    return all.sort((one, other) => one.batchId - other.batchId);
  }

  #lane(cell: number): Flight[] {
    let flights = this.#lanes.get(cell);
    if (flights === undefined) {
      flights = [];
      this.#lanes.set(cell, flights);
    }
    return flights;
  }
}

const NONE: readonly Flight[] = [];

function placeOf(flights: readonly Flight[], batchId: number): number {
  for (let at = 0; at < flights.length; at++) if ((flights[at] as Flight).batchId === batchId) return at;
  return -1;
}
