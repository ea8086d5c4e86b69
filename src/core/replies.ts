/**
 * What replicas say of the batches they were given: an answer for each record, one failure for all, or nothing any more.
 *
 * Closes the flight first, so that a stale reply changes nothing (L2); then settles what is answered, hands the rest on to
 * be tried again (core/salvage.ts), and tells the batcher, the trial of a version and the fleet what it means to them.
 */

import { invariant, type TroupeError } from '../kernel/errors.js';
import type { Batcher } from './batcher.js';
import type { CallBook } from './call-book.js';
import type { CoreResult, DeathNotice } from './effects.js';
import type { Failure } from './failure.js';
import type { Feeder } from './feeder.js';
import type { Fleet } from './fleet.js';
import { type Cell, isFree } from './slots.js';
import type { Flight, Ledger } from './ledger.js';
import type { ReplicaState } from './lifecycles.js';
import type { ModelDesk } from './model-desk.js';
import { versionOf } from './model-key.js';
import type { Outbox } from './outbox.js';
import type { PoolCounts } from './pool-counts.js';
import { isProbe, type Request } from './request.js';
import { isBlamed, type Salvage } from './salvage.js';
import type { Settlement } from './settlement.js';
import type { TrialJudge } from './trial-judge.js';

export interface RepliesParts {
  readonly batcher: Batcher;
  readonly ledger: Ledger;
  readonly fleet: Fleet;
  readonly settlement: Settlement;
  readonly salvage: Salvage;
  readonly judge: TrialJudge;
  readonly calls: CallBook;
  readonly counts: PoolCounts;
  readonly outbox: Outbox;
  readonly models: ModelDesk | undefined;
  readonly feeder: Pick<Feeder, 'answered'>;
}

export class Replies {
  readonly #batcher: Batcher;
  readonly #ledger: Ledger;
  readonly #fleet: Fleet;
  readonly #settlement: Settlement;
  readonly #salvage: Salvage;
  readonly #judge: TrialJudge;
  readonly #calls: CallBook;
  readonly #counts: PoolCounts;
  readonly #outbox: Outbox;
  readonly #models: ModelDesk | undefined;
  readonly #feeder: Pick<Feeder, 'answered'>;

  constructor(parts: RepliesParts) {
    this.#batcher = parts.batcher;
    this.#ledger = parts.ledger;
    this.#fleet = parts.fleet;
    this.#settlement = parts.settlement;
    this.#salvage = parts.salvage;
    this.#judge = parts.judge;
    this.#calls = parts.calls;
    this.#counts = parts.counts;
    this.#outbox = parts.outbox;
    this.#models = parts.models;
    this.#feeder = parts.feeder;
  }

  /** One result per record of the batch, in order. Stale replies are counted and dropped (L2). */
  answered(cellId: number, incarnation: number, batchId: number, results: readonly CoreResult[], now: number): void {
    const cell = this.#fleet.cells.get(cellId);
    const flight = this.#close(cell, incarnation, batchId, now);
    if (flight === undefined || cell === undefined) return;
    invariant(results.length === flight.requests.length, 'a link gives one result per record');
    const version = versionThatRan(cell, flight);
    // The last batches of a version that was replaced tell nothing of the one that serves.
    if (this.#fleet.isMain(cell) && !isProbe(flight.requests)) {
      const { bucket, deadlineAt, offeredAt, model } = flight.requests[0] as Request;
      this.#batcher.learn(bucket, flight.requests.length, now - flight.startedAt, deadlineAt - offeredAt, model);
    }
    const call = this.#calls.ended(flight, true, now);
    const { rollout } = this.#fleet;
    let again: Request[] | undefined;
    let failedCount = 0;
    for (let i = 0; i < results.length; i++) {
      const request = flight.requests[i] as Request;
      const result = results[i] as CoreResult;
      if (request.place === 'settled') {
        this.#counts.lateResults++;
        continue;
      }
      if (!result.ok) {
        failedCount++;
        if (this.#salvage.secondTo(cell, request) !== undefined) {
          again ??= [];
          again.push(request);
          continue;
        }
      }
      request.call = call;
      call.settledCount++;
      if (result.ok) this.#settlement.resolve(request, result.value, version);
      else this.#settlement.failWith(request, this.#salvage.locate(result.error, cell, request, [request]));
    }
    if (again !== undefined) this.#salvage.askSecond(again, cell);
    this.#calls.tell(call);
    this.#free(cell);
    if (rollout !== undefined) this.#judge.observe(rollout, cell, flight, failedCount, now);
  }

  /** The batch as a whole failed. A throw is halved until the culprit is alone (P3); a broken contract is not. */
  failed(cellId: number, incarnation: number, batchId: number, error: TroupeError, now: number): void {
    const cell = this.#fleet.cells.get(cellId);
    const flight = this.#close(cell, incarnation, batchId, now);
    if (flight === undefined || cell === undefined) return;
    const left = flight.requests.filter((request) => request.place === 'in-flight');
    const call = this.#calls.ended(flight, false, now);
    const { rollout } = this.#fleet;
    const isSplit =
      error.code === 'PREDICT_FAILED' && flight.requests.length > 1 && this.#salvage.isRepeatable && left.length > 0;
    if (isSplit) this.#salvage.halve(left, cell);
    else if (error.ran === 'failed' && left.every((request) => this.#salvage.secondTo(cell, request) !== undefined)) {
      this.#salvage.askSecond(left, cell);
    } else {
      call.settledCount = left.length;
      const first = left[0];
      const failure = first === undefined ? undefined : this.#salvage.locate(error, cell, first, left);
      for (const request of left) {
        request.call = call;
        this.#settlement.failWith(request, failure as Failure);
      }
    }
    // One that was given up before it began was no call.
    if (error.code !== 'CANCELLED') this.#calls.tell(call);
    this.#free(cell);
    if (rollout !== undefined && !isSplit && error.code !== 'CANCELLED')
      this.#judge.observe(rollout, cell, flight, left.length, now);
  }

  /** The replica ended. What it held is fenced off, retried or settled; then the fleet decides about its next life. */
  died(cellId: number, incarnation: number, death: DeathNotice, now: number): void {
    const cell = this.#fleet.cells.get(cellId);
    if (cell === undefined || cell.incarnation !== incarnation) return;
    const flights = this.#ledger.closeAll(cellId);
    this.#fleet.hasChanged = true;
    let heldCount = 0;
    for (const flight of flights) heldCount += flight.waiting;
    // A batch that hung its replica is to blame even where the replica was to end anyway; for a crash on the way out it is not.
    const expected = endsByUs(cell.state) && !cell.killed;
    const inQuarantine = cell.solo && isBlamed(death.cause) && !expected;
    cell.solo = false;
    const { replica, version } = cell;
    this.#outbox.tell({ name: 'died', replica, incarnation, version, death, heldCount });
    // What loads a model beside a batch is more likely to have ended it than the batch, which may go again as it is.
    const byLoad = this.#models?.died(cell, death, expected, now) === true;
    this.#salvage.afterDeath(cell, flights, death, expected || byLoad, now);
    this.#settlement.expire(now);
    const ending = { wasBusy: flights.length > 0, expected, inQuarantine: inQuarantine || byLoad };
    this.#fleet.ended(cell, death, ending, now);
  }

  /** The flight that this answers, closed; of a slot that is gone (`cell` undefined) every reply is stale. */
  #close(cell: Cell | undefined, incarnation: number, batchId: number, now: number): Flight | undefined {
    const flight = this.#ledger.close(cell?.id ?? GONE, incarnation, batchId, now, cell?.flights);
    if (flight === undefined || cell === undefined) return undefined;
    this.#feeder.answered(cell);
    cell.solo = false;
    if (isProbe(flight.requests)) return flight;
    const { model } = flight.requests[0] as Request;
    if (model !== undefined) this.#models?.answered(cell, model, now);
    cell.window.progressed();
    this.#batcher.observe(now - flight.startedAt);
    return flight;
  }

  /** Of an answer that is about to be told: so many results are token streams, which the replica goes on with. */
  streamsBegan(cellId: number, incarnation: number, count: number, model: string | undefined): void {
    const cell = this.#fleet.cells.get(cellId);
    if (cell?.incarnation !== incarnation) return;
    cell.streams += count;
    if (model !== undefined) this.#models?.streamsBegan(cell, model, count);
    this.#fleet.hasChanged = true;
  }

  streamEnded(cellId: number, incarnation: number, model: string | undefined, now: number): void {
    const cell = this.#fleet.cells.get(cellId);
    if (cell === undefined || cell.incarnation !== incarnation || cell.streams === 0) return;
    cell.streams--;
    if (model !== undefined) this.#models?.streamEnded(cell, model, now);
    this.#fleet.hasChanged = true;
    this.#free(cell);
  }

  /** A replica that drains may have given its last answer. */
  #free(cell: Cell): void {
    if (isFree(cell)) this.#fleet.idle(cell);
  }
}

/** Where a replica holds many models, that of the one it ran. */
function versionThatRan(cell: Cell, { requests }: Flight): string | undefined {
  const model = requests[0]?.model;
  return model === undefined ? cell.version : versionOf(model);
}

/** No replica slot has this id. */
const GONE = 0;

function endsByUs(state: ReplicaState): boolean {
  return state === 'stopping' || state === 'recycling' || state === 'replacing';
}
