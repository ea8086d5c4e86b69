import type { Request } from '../core/request.js';

export const POISON = { none: 0, throws: 1, row: 2, crashes: 3 } as const;

/** A tensor as far as transports matter: a transfer detaches it, and a detached one arrives with length zero. */
export interface SimBuffer {
  readonly recordId: number;
  length: number;
}

/** What the simulator itself knows of one record; the oracle compares the core's word with it. Its own input as well. */
export class SimRecord implements SimBuffer {
  request: Request | undefined = undefined;
  /** How often the host sent it; how often a replica began it. */
  sendCount = 0;
  runCount = 0;
  /** Unexpected ends of a replica while it ran the record's batch. */
  deathCount = 0;
  diedAlone = false;
  /** A replica ended while it held the record, running it or not. */
  wasHeldAtDeath = false;
  /** A batch of one that held it threw, or predict may not be repeated and its batch threw. */
  threwAlone = false;
  wasLiedAbout = false;
  /** A version on trial put an error in its place. */
  metPoorVersion = false;
  wasCancelled = false;
  settleCount = 0;
  readonly recordId: number;
  length: number;
  /** Has a result or an error that the client has seen. */
  isDone = false;
  constructor(
    readonly id: number,
    readonly client: number,
    readonly seq: number,
    readonly poison: number,
    readonly bytes: number,
  ) {
    this.recordId = id;
    this.length = bytes;
  }
}
