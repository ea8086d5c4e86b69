/**
 * Whether a record that is offered can be answered before its deadline, by what is waiting, running and known of costs.
 *
 * A record that cannot is refused at once: to let it in would cost the time of others and end as expired all the same.
 * Every guess is in favour of the record, and where nothing is known, or a replica is free and nothing waits, everything
 * is let in: what nobody tries nobody learns about.
 */

import type { Batcher } from './batcher.js';
import type { CostModel } from './cost-model.js';
import type { Fleet } from './fleet.js';
import type { Cell } from './slots.js';
import type { Flight } from './ledger.js';
import type { Mailbox } from './mailbox.js';
import type { Request } from './request.js';

/** Fewer batches than this are no evidence to refuse anything by. */
const EVIDENCE_LEAST = 4;
/** How far to its own favour the prediction is taken, in typical deviations. */
const FAVOUR = 1;

export class Admission {
  /** By how much the record refused last would have been late. */
  lastLateMs = 0;
  readonly #batcher: Batcher;
  readonly #mailbox: Mailbox;
  readonly #fleet: Fleet;

  constructor(batcher: Batcher, mailbox: Mailbox, fleet: Fleet) {
    this.#batcher = batcher;
    this.#mailbox = mailbox;
    this.#fleet = fleet;
  }

  /** How late it would be at best, in milliseconds; 0 where it can be in time. */
  lateBy(request: Request, now: number): number {
    const size = this.#batcher.sizeOf(request.bucket);
    if (size === undefined || size.model.batchCount < EVIDENCE_LEAST) return 0;
    const { model } = size;
    const slackMs = request.deadlineAt - now;
    const ahead = this.#mailbox.aheadOf(request);
    const fullMs = atBest(model, size.size);
    // Most have time in plenty; for them this is all.
    if (slackMs >= (Math.ceil(ahead / size.size) + 1 + MANY_STAGED) * fullMs) return 0;
    const { list } = this.#fleet;
    let freeMs = Infinity;
    let replicas = 0;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (!this.#fleet.serves(cell)) continue;
      replicas++;
      freeMs = Math.min(freeMs, this.#busyMs(cell, now));
    }
    if (replicas === 0 || (freeMs === 0 && ahead === 0)) return 0;
    const before = Math.floor(ahead / size.size);
    const waitMs = freeMs + Math.floor(before / replicas) * fullMs;
    // While it waits others come: its batch will be about as large as those sent lately.
    const company = waitMs > 0 ? Math.min(size.size, size.recentSize) : 0;
    const ownMs = atBest(model, Math.max(ahead - before * size.size + 1, company));
    const lateMs = (waitMs + ownMs) / (1 + FAVOUR * model.spread) - slackMs;
    if (lateMs <= 0) return 0;
    this.lastLateMs = lateMs;
    return lateMs;
  }

  /** Until this replica has answered all it holds, at best. */
  #busyMs({ flights }: Cell, now: number): number {
    let busyMs = 0;
    for (let i = 0; i < flights.length; i++) {
      const { requests, startedAt } = flights[i] as Flight;
      const model = this.#batcher.sizeOf((requests[0] as Request).bucket)?.model;
      const costMs = model === undefined ? 0 : atBest(model, requests.length);
      busyMs += i === 0 ? Math.max(0, startedAt + costMs - now) : costMs;
    }
    return busyMs;
  }
}

/** What nobody has seen of late is no reason to refuse a record. */
function atBest(model: CostModel, size: number): number {
  return Math.min(model.predict(size), model.longestMs);
}

/** More batches than this are never staged before a record that is let in. */
const MANY_STAGED = 16;
