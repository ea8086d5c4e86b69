/**
 * What becomes of records whose batch was not answered: halved, sent again as they were, replayed alone, asked of the
 * other version, or settled with what befell them.
 *
 * P2 queued records never die with a replica. P3 a batch that throws is halved until the culprit is alone; a batch that
 * kills its replica is replayed one by one. P6 while two versions share the work, what is tried again for its blame or its
 * key goes to the version that had it; what only failed on the new one is asked of the old one too.
 */

import type { ErrorCode, TroupeError } from '../kernel/errors.js';
import type { CallBook } from './call-book.js';
import type { DeathNotice } from './effects.js';
import { type Buried, buried, Failure, located, type Located } from './failure.js';
import type { Fleet } from './fleet.js';
import type { Cell } from './slots.js';
import type { Flight } from './ledger.js';
import { versionOf } from './model-key.js';
import type { PoolLimits } from './pool-limits.js';
import type { Request } from './request.js';
import { ANY, type RetryLane } from './retry-lane.js';
import type { Settlement } from './settlement.js';
import type { TrialJudge } from './trial-judge.js';

export interface SalvageParts {
  readonly fleet: Fleet;
  readonly retries: RetryLane;
  readonly settlement: Settlement;
  readonly judge: TrialJudge;
  readonly calls: CallBook;
}

export class Salvage {
  /** False: predict must not run twice for a record, so nothing that was interrupted is tried again. */
  isRepeatable = true;
  readonly #limits: PoolLimits;
  readonly #fleet: Fleet;
  readonly #retries: RetryLane;
  readonly #settlement: Settlement;
  readonly #judge: TrialJudge;
  readonly #calls: CallBook;

  constructor(limits: PoolLimits, { fleet, retries, settlement, judge, calls }: SalvageParts) {
    this.#limits = limits;
    this.#fleet = fleet;
    this.#retries = retries;
    this.#settlement = settlement;
    this.#judge = judge;
    this.#calls = calls;
  }

  /** P3. `left`: those of a batch that threw whose callers still wait. */
  halve(left: Request[], cell: Cell): void {
    const half = Math.ceil(left.length / 2);
    this.#settlement.unsend(left);
    this.#retries.putFirst([left.slice(0, half), left.slice(half)], 'split', cell.generation);
  }

  /** P6: what failed on the new version alone is no failure yet, where the old one may still answer. */
  secondTo(cell: Cell, { key }: Request): number | undefined {
    return this.isRepeatable ? this.#fleet.secondTo(cell, key !== undefined) : undefined;
  }

  askSecond(requests: Request[], cell: Cell): void {
    if (requests.length === 0) return;
    this.#settlement.unsend(requests);
    this.#retries.putFirst([requests], 'retry', this.secondTo(cell, requests[0] as Request));
  }

  /** What a dead replica held: blamed, retried as it was, or settled. */
  afterDeath(cell: Cell, flights: readonly Flight[], death: DeathNotice, expected: boolean, now: number): void {
    if (flights.length === 0) return;
    const again: Request[][] = [];
    const suspects: Request[][] = [];
    const blamed = isBlamed(death.cause);
    for (let at = 0; at < flights.length; at++) {
      const flight = flights[at] as Flight;
      const left = flight.requests.filter((request) => request.place === 'in-flight');
      // Only the batch it ran can have killed it; the staged ones behind go again as they are.
      const ran = at === 0 && !expected;
      if (death.cause === 'hung' && at === 0) flight.timedOut = true;
      const call = this.#calls.ended(flight, false, now);
      const whole: Request[] = [];
      // Counted here: where nobody listens to calls, all of them are one.
      let lostCount = 0;
      for (const request of left) {
        if (ran) request.deathCount++;
        // What kills a version on trial twice may be the version's fault: it is no culprit while another may still answer.
        const isCulprit = ran && blamed && flight.trigger === 'quarantine' && !this.#fleet.isOnTrial(cell);
        if (!this.isRepeatable || isCulprit || request.deathCount >= this.#limits.attempts) {
          request.call = call;
          call.settledCount++;
          lostCount++;
          this.#settlement.failWith(request, this.#deathFailure(cell, death, request));
        } else if (ran && (blamed || request.deathCount > 1)) suspects.push([request]);
        else if (flight.trigger === 'quarantine')
          suspects.push([request]); // stopped before it was cleared
        else whole.push(request);
      }
      this.#settlement.unsend(left);
      if (lostCount > 0) this.#judge.lost(cell, lostCount);
      again.push(whole);
      if (ran || (at === 0 && flight.timedOut)) this.#calls.tell(call);
    }
    const hasKeys = again.some((group) => group.some(({ key }) => key !== undefined));
    this.#retries.putFirst(again, 'retry', hasKeys ? cell.generation : ANY);
    for (const suspect of suspects.reverse())
      this.#retries.putFirst([suspect], 'quarantine', this.secondTo(cell, suspect[0] as Request) ?? cell.generation);
  }

  /** The failure of `request`, or of all of `requests` at once, with the place where it happened. */
  locate(error: TroupeError, cell: Cell, request: Request, requests: readonly Request[]): Failure<Located> {
    const { replica, incarnation } = cell;
    const version = request.model === undefined ? cell.version : versionOf(request.model);
    const detail = { error, replica, incarnation, version, requests };
    return new Failure(error.code, error.ran, request, this.#limits.name, located, detail);
  }

  #deathFailure(cell: Cell, death: DeathNotice, request: Request): Failure<Buried> {
    const code: ErrorCode =
      death.cause === 'oom' ? 'ACTOR_OOM' : death.cause === 'hung' ? 'ACTOR_HUNG' : 'ACTOR_CRASHED';
    const { replica, incarnation } = cell;
    const version = request.model === undefined ? cell.version : versionOf(request.model);
    const detail = { death, replica, incarnation, version };
    return new Failure(code, 'interrupted', request, this.#limits.name, buried, detail);
  }
}

/** Ends that the record being run can have caused. A signal from outside is nobody's fault. */
export function isBlamed(cause: DeathNotice['cause']): boolean {
  return cause !== 'killed' && cause !== 'stopped' && cause !== 'load-failed';
}
