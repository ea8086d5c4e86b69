/**
 * The decisions of one pool, as one synchronous state machine: it is told what happened and when, and answers with
 * effects. Edges (actor/pool.ts for real, testing/ for the simulator) own timers, threads and sockets.
 *
 * Puts together: mailbox + door, batcher, ledger, deadlines, one restart window per replica slot, roll-out of versions.
 *
 * P1 every accepted request is settled exactly once: `accepted = settled + held`. P2 queued records never die with a
 * replica. P3 a batch that throws is halved until the culprit is alone; a batch that kills its replica is replayed one
 * by one. P4 a quarantined record runs alone on its replica, so blame is exact. P5 a batch runs on the serving
 * generation only, so versions never mix. P6 a roll-out that fails changes nothing.
 *
 * How to drive it: call an event method, then read `effects`, then `settled`, and empty both (`takeEffects`,
 * `takeSettled`); call `dispatch` when a turn is over, and `tick` no later than `nextWakeAt`.
 */

import { invariant, TroupeError, type ErrorCode } from '../kernel/errors.js';
import { transition } from '../kernel/lifecycle.js';
import type { Random } from '../kernel/random.js';
import { Batcher, TRIGGERS, type BatchLimits, type Trigger } from './batcher.js';
import { Deadlines } from './deadlines.js';
import { Ledger, type Flight } from './ledger.js';
import {
  POOL_LIFECYCLE,
  REPLICA_LIFECYCLE,
  type PoolEventName,
  type PoolState,
  type ReplicaEvent,
  type ReplicaState,
} from './lifecycles.js';
import { Mailbox, type MailboxLimits, type Offer, type Overflow } from './mailbox.js';
import type { Request } from './request.js';
import { RestartWindow, type DeathKind, type RestartLimits } from './restart-window.js';
import { affected, type RestartType, type Strategy } from './supervisor.js';

export interface PoolLimits {
  readonly name: string;
  readonly mailbox: MailboxLimits;
  readonly batching: BatchLimits;
  readonly maxInFlight: number;
  readonly batchTimeoutMs: number;
  /** How many deaths a record survives at most. */
  readonly attempts: number;
  readonly restart: RestartLimits;
  readonly restartType: RestartType;
  readonly strategy: Strategy;
}

/** Why a replica ended, as told by its link. */
export interface DeathNotice {
  readonly cause: 'stopped' | 'exit' | 'crash' | 'killed' | 'hung' | 'oom' | 'load-failed' | 'protocol';
  readonly exitCode?: number;
  readonly signal?: string;
  readonly error?: unknown;
}

/** The answer to one record; shape-compatible with the link's. */
export type CoreResult =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: TroupeError };

export type PoolNews =
  | {
      readonly name: 'ready';
      readonly replica: number;
      readonly incarnation: number;
      readonly version: string | undefined;
    }
  | {
      readonly name: 'died';
      readonly replica: number;
      readonly incarnation: number;
      readonly death: DeathNotice;
      readonly heldCount: number;
    }
  | { readonly name: 'restarting'; readonly replica: number; readonly incarnation: number; readonly delayMs: number }
  | { readonly name: 'restarted'; readonly replica: number; readonly incarnation: number }
  | { readonly name: 'replica-failed'; readonly replica: number; readonly death: DeathNotice }
  | { readonly name: 'failed'; readonly error: TroupeError }
  | { readonly name: 'up'; readonly version: string | undefined }
  | { readonly name: 'rollout-failed'; readonly version: string | undefined; readonly error: TroupeError }
  | { readonly name: 'freed'; readonly version: string | undefined }
  | { readonly name: 'scaled'; readonly replicas: number }
  | { readonly name: 'held' }
  | { readonly name: 'drained' }
  | { readonly name: 'stopped' };

export type Effect =
  | {
      readonly kind: 'start';
      readonly cell: number;
      readonly replica: number;
      readonly replicas: number;
      readonly incarnation: number;
      readonly version: string | undefined;
    }
  | { readonly kind: 'send'; readonly cell: number; readonly batchId: number; readonly requests: readonly Request[] }
  | { readonly kind: 'abandon'; readonly cell: number; readonly batchId: number }
  | { readonly kind: 'stop'; readonly cell: number; readonly now: boolean }
  | { readonly kind: 'kill'; readonly cell: number }
  | { readonly kind: 'news'; readonly news: PoolNews };

/** One replica slot through all its incarnations. */
export interface Cell {
  readonly id: number;
  readonly replica: number;
  readonly generation: number;
  readonly version: string | undefined;
  readonly window: RestartWindow;
  incarnation: number;
  state: ReplicaState;
  /** The record in quarantine it runs alone (P4). */
  solo: boolean;
  startAt: number;
  lastDeath: DeathNotice | undefined;
}

interface Group {
  readonly requests: Request[];
  readonly trigger: 'split' | 'quarantine' | 'retry';
}

interface Rollout {
  readonly generation: number;
  readonly version: string | undefined;
}

export class PoolCore {
  readonly limits: PoolLimits;
  readonly mailbox: Mailbox;
  readonly batcher: Batcher;
  readonly ledger = new Ledger();
  state: PoolState = 'starting';
  /** The version that serves. */
  version: string | undefined = undefined;

  // What happened, for stats. accepted = settled + held.
  acceptedCount = 0;
  settledCount = 0;
  refusedCount = 0;
  resolvedCount = 0;
  lateResultCount = 0;
  batchCount = 0;
  batchedCount = 0;
  readonly errorCounts = new Map<ErrorCode, number>();
  readonly triggerCounts: Record<Trigger, number> = Object.fromEntries(
    TRIGGERS.map((trigger) => [trigger, 0]),
  ) as Record<Trigger, number>;
  restartCount = 0;
  readonly deathCounts: Record<DeathKind | 'quarantine', number> = {
    init: 0,
    crash: 0,
    hang: 0,
    oom: 0,
    quarantine: 0,
  };

  readonly #random: Random;
  readonly #deadlines = new Deadlines();
  readonly #cells = new Map<number, Cell>();
  readonly #retries: Group[] = [];
  #effects: Effect[] = [];
  #settled: Request[] = [];
  readonly #victims: Request[] = [];
  #lastCell = 0;
  #generation = 0;
  #serving = 0;
  #replicas = 0;
  #rollout: Rollout | undefined;
  #failure: TroupeError | undefined;
  #drainedTold = false;
  #held = false;
  #resuming = false;
  #repeatable = true;
  /** What a restart of a pool that never came up is to load. */
  #lastVersion: string | undefined;

  constructor(limits: PoolLimits, random: Random) {
    this.limits = limits;
    this.#random = random;
    this.mailbox = new Mailbox(limits.mailbox);
    this.batcher = new Batcher(limits.batching);
  }

  /** Effects since the last call, in order. */
  takeEffects(): Effect[] {
    const effects = this.#effects;
    if (effects.length > 0) this.#effects = [];
    return effects;
  }

  /** Requests settled since the last call, in order; user callbacks come after effects. */
  takeSettled(): Request[] {
    const settled = this.#settled;
    if (settled.length > 0) this.#settled = [];
    return settled;
  }

  /** Accepted and not settled: at the door, waiting, to be retried, in flight. */
  get heldCount(): number {
    return this.acceptedCount - this.settledCount;
  }

  get cells(): Iterable<Cell> {
    return this.#cells.values();
  }

  get replicas(): number {
    return this.#replicas;
  }

  /** Serving replicas that could take a batch now or later without a restart. */
  get readyCount(): number {
    let count = 0;
    for (const cell of this.#cells.values()) if (cell.state === 'ready' && cell.generation === this.#serving) count++;
    return count;
  }

  get failure(): TroupeError | undefined {
    return this.#failure;
  }

  /** The instant `tick` is needed at the latest; Infinity for none. */
  nextWakeAt(): number {
    let wakeAt = this.#deadlines.nextAt;
    let hasIdle = false;
    for (const cell of this.#cells.values()) {
      if (cell.state === 'backoff') wakeAt = Math.min(wakeAt, cell.startAt);
      const running = this.ledger.running(cell.id);
      if (running === undefined) hasIdle ||= cell.state === 'ready';
      else if (cell.state !== 'dying' && cell.state !== 'stopping')
        wakeAt = Math.min(wakeAt, running.startedAt + this.limits.batchTimeoutMs);
    }
    return hasIdle ? Math.min(wakeAt, this.batcher.wakeAt(this.mailbox)) : wakeAt;
  }

  // ------------------------------------------------------------------ records

  /**
   * Takes a request in. `accepted` and `door` mean it will be settled; `dropped` too (at once, by the overflow rule);
   * `full`, `too-large` and the states that take nothing mean it was refused and nothing is kept.
   */
  offer(request: Request, overflow: Overflow, now: number): Offer | 'closed' | 'failed' {
    if (this.state !== 'running' && this.state !== 'starting') {
      this.refusedCount++;
      return this.state === 'failed' ? 'failed' : 'closed';
    }
    const offer = this.mailbox.offer(request, overflow, this.#victims);
    if (offer === 'full' || offer === 'too-large') {
      if (overflow !== 'try') this.refusedCount++;
      return offer;
    }
    this.acceptedCount++;
    if (offer === 'dropped') {
      this.#fail(
        request,
        'MAILBOX_DROPPED',
        `Mailbox of "${this.limits.name}" is full: ${this.#fill()}, overflow drop-newest dropped this record`,
      );
      return offer;
    }
    this.#deadlines.add(request);
    for (const victim of this.#victims) {
      this.#fail(
        victim,
        'MAILBOX_DROPPED',
        `Mailbox of "${this.limits.name}" is full: ${this.#fill()}, overflow drop-oldest dropped this record for a newer one`,
      );
    }
    this.#victims.length = 0;
    if (request.deadlineAt <= now) this.#expire(now);
    return offer;
  }

  /** The caller gave the request up. Queued work leaves at once; running work is told when nobody waits for it. */
  cancel(request: Request, reason: unknown): void {
    if (request.place === 'settled' || request.place === 'nowhere') return;
    const inFlight = request.place === 'in-flight';
    this.#leave(request);
    this.#fail(
      request,
      'CANCELLED',
      `The record was cancelled by its caller while ${inFlight ? 'a replica ran it' : 'it waited'}`,
      {
        ran: request.sendCount === 0 ? 'not-started' : 'interrupted',
        cause: reason,
      },
    );
  }

  /** Sends what waits without waiting for company. */
  flush(now: number): void {
    this.batcher.flush(this.mailbox, now);
  }

  /** Gives work to every replica with room; to be called once per turn, after the events of that turn. */
  dispatch(now: number): void {
    this.#expire(now);
    this.mailbox.admit();
    if (this.mailbox.held > 0 || this.#retries.length > 0) {
      for (const cell of this.#cells.values()) {
        if (cell.state !== 'ready' || cell.generation !== this.#serving) continue;
        while (this.#feed(cell, now)) this.mailbox.admit();
      }
    }
    this.#checkDrained();
  }

  /** Time has come for something: deadlines, hung batches, restarts, held batches. */
  tick(now: number): void {
    for (const flight of this.ledger.flights()) {
      if (flight.startedAt + this.limits.batchTimeoutMs > now) continue;
      const cell = this.#cells.get(flight.cell) as Cell;
      if (cell.state === 'dying' || cell.state === 'stopping' || this.ledger.running(cell.id) !== flight) continue;
      this.#move(cell, 'condemn');
      this.#effects.push({ kind: 'kill', cell: cell.id });
    }
    this.#startDue(now);
    this.dispatch(now);
  }

  // ----------------------------------------------------------------- replicas

  /** First start, or a new version beside the old: `count` replicas of `version` are started; all must come up. */
  rollOut(version: string | undefined, count: number, now: number): void {
    invariant(this.#rollout === undefined, 'one roll-out at a time');
    const generation = ++this.#generation;
    this.#rollout = { generation, version };
    if (this.#serving === 0) this.#replicas = count;
    for (let replica = 0; replica < count; replica++) this.#addCell(replica, generation, version, now);
    this.#startDue(now);
  }

  /** Grows or shrinks the serving generation; what shrinks is drained first. */
  scale(count: number, now: number): void {
    invariant(this.#rollout === undefined, 'no scaling during a roll-out');
    const serving = [...this.#cells.values()].filter((cell) => cell.generation === this.#serving);
    this.#replicas = count;
    const present = new Set(serving.map((cell) => cell.replica));
    for (let replica = 0; replica < count; replica++) {
      if (!present.has(replica)) this.#addCell(replica, this.#serving, this.version, now);
    }
    for (const cell of serving) if (cell.replica >= count) this.#drainCell(cell);
    this.#startDue(now);
    this.#news({ name: 'scaled', replicas: count });
  }

  ready(cellId: number, incarnation: number): void {
    const cell = this.#cells.get(cellId);
    if (cell === undefined || cell.incarnation !== incarnation || cell.state !== 'starting') return;
    this.#move(cell, 'ready');
    this.#news({ name: 'ready', replica: cell.replica, incarnation, version: cell.version });
    if (incarnation > 1) {
      this.restartCount++;
      this.#news({ name: 'restarted', replica: cell.replica, incarnation });
    }
    this.#checkRollout();
  }

  /** One result per record of the batch, in order. Stale replies are counted and dropped (L2). */
  reply(cellId: number, incarnation: number, batchId: number, results: readonly CoreResult[], now: number): void {
    const flight = this.#answered(cellId, incarnation, batchId, now);
    if (flight === undefined) return;
    invariant(results.length === flight.requests.length, 'a link gives one result per record');
    const version = (this.#cells.get(cellId) as Cell).version;
    for (let i = 0; i < results.length; i++) {
      const request = flight.requests[i] as Request;
      const result = results[i] as CoreResult;
      if (request.place === 'settled') this.lateResultCount++;
      else if (result.ok) {
        request.value = result.value;
        request.version = version;
        this.resolvedCount++;
        this.#settle(request);
      } else this.#settleError(request, this.#locate(result.error, cellId, [request]));
    }
    this.#free(cellId);
  }

  /** The batch as a whole failed. A throw is halved until the culprit is alone (P3); a broken contract is not. */
  failed(cellId: number, incarnation: number, batchId: number, error: TroupeError, now: number): void {
    const flight = this.#answered(cellId, incarnation, batchId, now);
    if (flight === undefined) return;
    const left = flight.requests.filter((request) => request.place === 'in-flight');
    if (error.code === 'PREDICT_FAILED' && flight.requests.length > 1 && this.#repeatable && left.length > 0) {
      const half = Math.ceil(left.length / 2);
      this.#retryFirst([left.slice(0, half), left.slice(half)], 'split');
    } else {
      const located = this.#locate(error, cellId, left);
      for (const request of left) this.#settleError(request, located);
    }
    this.#free(cellId);
  }

  /** The replica ended. What it held is fenced off, retried or settled; the window decides about its next life. */
  died(cellId: number, incarnation: number, death: DeathNotice, now: number): void {
    const cell = this.#cells.get(cellId);
    if (cell === undefined || cell.incarnation !== incarnation) return;
    const flights = this.ledger.closeAll(cellId);
    let heldCount = 0;
    for (const flight of flights) heldCount += flight.waiting;
    const expected = cell.state === 'stopping' || cell.state === 'recycling';
    const wasSolo = cell.solo;
    cell.solo = false;
    cell.lastDeath = death;
    this.#news({ name: 'died', replica: cell.replica, incarnation, death, heldCount });
    const inQuarantine = wasSolo && BLAMED.has(death.cause) && !expected;
    this.#salvage(cell, flights, death, expected, now);
    this.#afterlife(cell, death, flights.length > 0, expected, inQuarantine, now);
    this.#startDue(now);
    this.#checkHeld();
    this.#checkStopped();
  }

  /** The definition says that predict must not run twice for a record: nothing interrupted is retried. */
  setRepeatable(repeatable: boolean): void {
    this.#repeatable = repeatable;
  }

  // ------------------------------------------------------------------ the end

  /** Takes no more; `drained` is told when the last record is settled. */
  drain(): void {
    this.#state('drain');
    this.#checkDrained();
  }

  /** Takes no more, settles what is held with POOL_STOPPED, and stops every replica. Drain first to finish the work. */
  stop(now: boolean): void {
    this.#state('stop');
    this.#settleAll('POOL_STOPPED', `Pool "${this.limits.name}" was stopped before the record was done`, undefined);
    this.#rollout = undefined;
    for (const cell of this.#cells.values()) this.#stopCell(cell, now);
    this.#checkStopped();
  }

  /** Ends every replica but keeps the mailbox, until `release`; `held` is told when the last has ended. */
  hold(): void {
    this.#held = true;
    for (const cell of this.#cells.values()) {
      if (cell.state !== 'ready' && cell.state !== 'starting') continue;
      this.#move(cell, 'recycle');
      this.#effects.push({ kind: 'stop', cell: cell.id, now: false });
    }
    this.#checkHeld();
  }

  /** Starts the replicas again after `hold`, or a failed pool with fresh budgets; `up` is told when all are ready. */
  release(now: number): void {
    this.#held = false;
    if (this.state === 'failed') {
      this.restart(now);
      return;
    }
    this.#resuming = true;
    for (const cell of this.#cells.values()) if (cell.state === 'backoff') cell.startAt = now;
    this.#startDue(now);
  }

  /** A failed pool tries again with fresh budgets, asked by its supervisor or its user. */
  restart(now: number): void {
    this.#state('restart');
    this.#failure = undefined;
    const { version } = this;
    for (const cell of [...this.#cells.values()])
      if (cell.state === 'failed' || cell.state === 'stopped') this.#cells.delete(cell.id);
    this.#serving = 0;
    this.#rollout = undefined;
    this.rollOut(version ?? this.#lastVersion, Math.max(1, this.#replicas), now);
  }

  // ------------------------------------------------------------------ private

  #feed(cell: Cell, now: number): boolean {
    const inFlight = this.ledger.count(cell.id);
    if (cell.solo || inFlight >= this.limits.maxInFlight) return false;
    const formed = this.#takeRetry(inFlight === 0, now) ?? this.batcher.form(this.mailbox, inFlight === 0, now);
    if (formed === undefined || formed.requests.length === 0) return false;
    const flight = this.ledger.open(cell.id, cell.incarnation, formed.requests, formed.trigger, now);
    for (const request of formed.requests) {
      request.place = 'in-flight';
      request.batchId = flight.batchId;
      request.sentAt = now;
      request.sendCount++;
    }
    cell.solo = formed.trigger === 'quarantine'; // P4
    this.batchCount++;
    this.batchedCount += formed.requests.length;
    this.triggerCounts[formed.trigger]++;
    this.#effects.push({ kind: 'send', cell: cell.id, batchId: flight.batchId, requests: formed.requests });
    return true;
  }

  #takeRetry(replicaIsIdle: boolean, now: number): { requests: Request[]; trigger: Trigger } | undefined {
    for (;;) {
      const group = this.#retries[0];
      if (group === undefined) return undefined;
      if (group.trigger === 'quarantine' && !replicaIsIdle) return undefined; // P4
      this.#retries.shift();
      const requests = group.requests.filter((request) => request.place === 'retry');
      if (requests.length === 0) continue;
      if (group.trigger === 'quarantine' && !this.#quarantineHasRoom(now)) {
        const suspect = requests[0] as Request;
        this.#leave(suspect);
        this.#fail(
          suspect,
          'ACTOR_CRASHED',
          `A replica of "${this.limits.name}" died under this record's batch, and the quarantine budget of ${this.limits.restart.quarantineMax} deaths is used up`,
        );
        continue;
      }
      return { requests, trigger: group.trigger };
    }
  }

  #quarantineHasRoom(now: number): boolean {
    for (const cell of this.#cells.values()) if (!cell.window.quarantineHasRoom(now)) return false;
    return true;
  }

  #answered(cellId: number, incarnation: number, batchId: number, now: number): Flight | undefined {
    const flight = this.ledger.close(cellId, incarnation, batchId, now);
    if (flight === undefined) return undefined;
    const cell = this.#cells.get(cellId) as Cell;
    cell.solo = false;
    cell.window.progressed();
    this.batcher.observe(now - flight.startedAt);
    return flight;
  }

  /** A replica that drains may have given its last answer. */
  #free(cellId: number): void {
    const cell = this.#cells.get(cellId) as Cell;
    if (cell.state === 'draining' && this.ledger.count(cellId) === 0) this.#stopCell(cell, false);
  }

  #salvage(cell: Cell, flights: readonly Flight[], death: DeathNotice, expected: boolean, now: number): void {
    const groups: Request[][] = [];
    const suspects: Request[] = [];
    for (let at = 0; at < flights.length; at++) {
      const flight = flights[at] as Flight;
      const left = flight.requests.filter((request) => request.place === 'in-flight');
      if (left.length === 0) continue;
      // Only the batch it ran can have killed it; the staged ones behind go again as they are.
      const ran = at === 0 && !expected;
      if (ran) for (const request of left) request.deathCount++;
      if (!this.#repeatable) {
        for (const request of left) this.#settleError(request, this.#deathError(cell, death, request));
      } else if (!ran) groups.push(left);
      else {
        const blamed = BLAMED.has(death.cause);
        if (blamed && flight.trigger === 'quarantine')
          for (const request of left) this.#settleError(request, this.#deathError(cell, death, request));
        else {
          const again: Request[] = [];
          for (const request of left) {
            if (request.deathCount >= this.limits.attempts)
              this.#settleError(request, this.#deathError(cell, death, request));
            else if (blamed || request.deathCount > 1) suspects.push(request);
            else again.push(request);
          }
          if (again.length > 0) groups.push(again);
        }
      }
    }
    this.#retryFirst(groups, 'retry');
    this.#retryFirst(
      suspects.map((request) => [request]),
      'quarantine',
    );
    this.#expire(now);
  }

  #retryFirst(groups: readonly Request[][], trigger: Group['trigger']): void {
    const first: Group[] = [];
    for (const requests of groups) {
      if (requests.length === 0) continue;
      for (const request of requests) request.place = 'retry';
      first.push({ requests, trigger });
    }
    this.#retries.unshift(...first);
  }

  #afterlife(
    cell: Cell,
    death: DeathNotice,
    wasBusy: boolean,
    expected: boolean,
    inQuarantine: boolean,
    now: number,
  ): void {
    if (cell.state === 'stopping' || cell.state === 'draining') {
      this.#move(cell, 'died');
      this.#cells.delete(cell.id);
      this.#checkFreed(cell);
      return;
    }
    if (cell.state === 'recycling') {
      this.#move(cell, 'died');
      cell.startAt = now;
      return;
    }
    if (this.#rollout?.generation === cell.generation && death.cause !== 'killed') {
      this.#move(cell, 'ended');
      this.#abortRollout(death);
      return;
    }
    const ending =
      expected || (!wasBusy && death.cause === 'killed' && death.signal === 'SIGTERM')
        ? 'shutdown'
        : !wasBusy && death.cause === 'exit' && death.exitCode === 0
          ? 'normal'
          : 'crash';
    const again =
      this.limits.restartType === 'permanent' || (this.limits.restartType === 'transient' && ending === 'crash');
    if (!again) {
      this.#move(cell, 'ended');
      this.#bury(cell, death);
      return;
    }
    if (inQuarantine) {
      // R2: blamed on the record, so the replica starts again at once.
      cell.window.diedInQuarantine(now);
      this.deathCounts.quarantine++;
      this.#restartAt(cell, now, now);
      return;
    }
    const kind = deathKind(death);
    this.deathCounts[kind]++;
    const decision = cell.window.died(kind, this.#random, now);
    if (decision.kind === 'restart') {
      this.#restartAt(cell, decision.at, now);
      return;
    }
    this.#move(cell, 'gave-up');
    this.#news({ name: 'replica-failed', replica: cell.replica, death });
    this.#bury(cell, death);
  }

  /** A replica will not come back: its roll-out or, if it was the last, its pool ends with it. */
  #bury(cell: Cell, death: DeathNotice): void {
    if (this.#rollout?.generation === cell.generation) this.#abortRollout(death);
    else this.#checkAlive(cell);
  }

  #restartAt(cell: Cell, at: number, now: number): void {
    this.#move(cell, 'died');
    cell.startAt = at;
    this.#news({ name: 'restarting', replica: cell.replica, incarnation: cell.incarnation + 1, delayMs: at - now });
    if (this.limits.strategy === 'one-for-one') return;
    const siblings = [...this.#cells.values()].filter((other) => other.generation === cell.generation);
    const index = siblings.indexOf(cell);
    for (const at of affected(this.limits.strategy, index, siblings.length)) {
      const sibling = siblings[at] as Cell;
      if (sibling === cell || (sibling.state !== 'ready' && sibling.state !== 'starting')) continue;
      this.#move(sibling, 'recycle');
      this.#effects.push({ kind: 'stop', cell: sibling.id, now: false });
    }
  }

  #addCell(replica: number, generation: number, version: string | undefined, now: number): void {
    const cell: Cell = {
      id: ++this.#lastCell,
      replica,
      generation,
      version,
      window: new RestartWindow(this.limits.restart),
      incarnation: 0,
      state: 'idle',
      solo: false,
      startAt: now,
      lastDeath: undefined,
    };
    this.#cells.set(cell.id, cell);
    this.#lastVersion = version;
  }

  #startDue(now: number): void {
    if (this.#held) return;
    for (const cell of this.#cells.values()) {
      // Restarted together, so none starts before the last of them has ended.
      if (cell.state === 'recycling') return;
    }
    for (const cell of this.#cells.values()) {
      if ((cell.state !== 'idle' && cell.state !== 'backoff') || cell.startAt > now) continue;
      this.#move(cell, 'start');
      cell.incarnation++;
      this.#effects.push({
        kind: 'start',
        cell: cell.id,
        replica: cell.replica,
        replicas: this.#replicas,
        incarnation: cell.incarnation,
        version: cell.version,
      });
    }
  }

  #checkRollout(): void {
    const rollout = this.#rollout;
    if (rollout === undefined) {
      if (!this.#resuming || this.readyCount < this.#replicas) return;
      this.#resuming = false;
      this.#news({ name: 'up', version: this.version });
      return;
    }
    for (const cell of this.#cells.values()) {
      if (cell.generation === rollout.generation && cell.state !== 'ready') return;
    }
    // The switch: from here on the new generation serves, the old one finishes what it holds.
    this.#rollout = undefined;
    this.#serving = rollout.generation;
    this.version = rollout.version;
    this.#state('up');
    this.#news({ name: 'up', version: rollout.version });
    for (const cell of [...this.#cells.values()]) if (cell.generation !== rollout.generation) this.#drainCell(cell);
  }

  #abortRollout(death: DeathNotice): void {
    const rollout = this.#rollout as Rollout;
    this.#rollout = undefined;
    const error =
      death.error instanceof TroupeError
        ? death.error
        : new TroupeError(
            'ACTOR_LOAD_FAILED',
            `A replica of "${this.limits.name}" ended while it loaded: ${describeDeath(death)}`,
            { cause: death.error, actor: this.limits.name },
          );
    for (const cell of [...this.#cells.values()]) {
      if (cell.generation !== rollout.generation) continue;
      if (cell.state === 'stopped') this.#cells.delete(cell.id);
      else this.#stopCell(cell, true);
    }
    this.#news({ name: 'rollout-failed', version: rollout.version, error }); // P6
    if (this.#serving === 0) this.#failPool(error);
  }

  #drainCell(cell: Cell): void {
    if (cell.state === 'ready' && this.ledger.count(cell.id) > 0) {
      this.#move(cell, 'drain');
      return;
    }
    this.#stopCell(cell, false);
  }

  #stopCell(cell: Cell, now: boolean): void {
    const before = cell.state;
    if (before === 'stopped') return;
    this.#move(cell, 'stop');
    if (cell.state === 'stopped') {
      this.#cells.delete(cell.id);
      this.#checkFreed(cell);
      return;
    }
    this.#effects.push({ kind: 'stop', cell: cell.id, now });
  }

  #checkFreed(gone: Cell): void {
    for (const cell of this.#cells.values()) if (cell.generation === gone.generation) return;
    this.#news({ name: 'freed', version: gone.version });
  }

  /** No serving replica lives or will live again: the pool has failed. */
  #checkAlive(last: Cell): void {
    for (const cell of this.#cells.values()) {
      if (cell.generation === last.generation && cell.state !== 'failed' && cell.state !== 'stopped') return;
    }
    const death = last.lastDeath as DeathNotice;
    this.#failPool(
      new TroupeError(
        'NO_REPLICA',
        `Pool "${this.limits.name}" has failed: no replica is left, the last one ended because ${describeDeath(death)}`,
        {
          cause: death.error,
          actor: this.limits.name,
        },
      ),
    );
  }

  #failPool(error: TroupeError): void {
    this.#failure = error;
    this.#state('fail');
    this.#settleAll('NO_REPLICA', `Pool "${this.limits.name}" has failed: ${error.message}`, error);
    this.#news({ name: 'failed', error });
  }

  #settleAll(code: ErrorCode, message: string, cause: unknown): void {
    const held: Request[] = [];
    for (const flight of this.ledger.flights())
      for (const request of flight.requests) if (request.place === 'in-flight') held.push(request);
    for (const group of this.#retries)
      for (const request of group.requests) if (request.place === 'retry') held.push(request);
    this.#retries.length = 0;
    held.push(...this.mailbox.empty());
    for (const request of held) {
      if (request.place === 'in-flight') this.#leave(request);
      this.#fail(request, code, message, { ran: request.sendCount === 0 ? 'not-started' : 'interrupted', cause });
    }
  }

  #expire(now: number): void {
    for (;;) {
      const request = this.#deadlines.takeDue(now);
      if (request === undefined) return;
      const waitedMs = Math.round(request.deadlineAt - request.offeredAt);
      const where = request.place === 'in-flight' ? 'while a replica ran it' : 'before a replica took it';
      this.#leave(request);
      this.#fail(request, 'DEADLINE_PASSED', `No result within ${waitedMs} ms: the deadline passed ${where}`, {
        ran: request.sendCount === 0 ? 'not-started' : 'interrupted',
      });
    }
  }

  /** Takes a request out of wherever it is held, without settling it. */
  #leave(request: Request): void {
    if (request.place === 'mailbox' || request.place === 'door') this.mailbox.remove(request);
    else if (request.place === 'in-flight') {
      const flight = this.ledger.get(request.batchId) as Flight;
      flight.waiting--;
      if (flight.waiting === 0) this.#effects.push({ kind: 'abandon', cell: flight.cell, batchId: flight.batchId });
    }
    request.place = 'nowhere';
  }

  #fail(
    request: Request,
    code: ErrorCode,
    message: string,
    details: { ran?: 'not-started' | 'interrupted' | 'failed'; cause?: unknown } = {},
  ): void {
    this.#settleError(
      request,
      new TroupeError(code, message, { ...details, actor: this.limits.name, attempt: request.sendCount }),
    );
  }

  #settleError(request: Request, error: TroupeError): void {
    request.error = error;
    this.errorCounts.set(error.code, (this.errorCounts.get(error.code) ?? 0) + 1);
    this.#settle(request);
  }

  #settle(request: Request): void {
    invariant(request.place !== 'settled', 'P1: a record settles once');
    this.#deadlines.remove(request);
    request.place = 'settled';
    this.settledCount++;
    this.#settled.push(request);
  }

  #checkDrained(): void {
    if (this.state !== 'draining' || this.heldCount > 0 || this.#drainedTold) return;
    this.#drainedTold = true;
    this.#news({ name: 'drained' });
  }

  #checkHeld(): void {
    if (!this.#held) return;
    for (const cell of this.#cells.values())
      if (cell.state !== 'backoff' && cell.state !== 'failed' && cell.state !== 'stopped' && cell.state !== 'idle')
        return;
    this.#news({ name: 'held' });
  }

  #checkStopped(): void {
    if (this.state !== 'stopping') return;
    for (const cell of this.#cells.values()) if (cell.state !== 'stopped' && cell.state !== 'failed') return;
    this.#state('gone');
    this.#news({ name: 'stopped' });
  }

  /** The same error with where it happened and to which records. */
  #locate(error: TroupeError, cellId: number, requests: readonly Request[]): TroupeError {
    const cell = this.#cells.get(cellId) as Cell;
    return new TroupeError(error.code, error.message, {
      ran: error.ran,
      cause: error.cause,
      actor: this.limits.name,
      replica: cell.replica,
      incarnation: cell.incarnation,
      attempt: requests[0]?.sendCount ?? 1,
      recordIds: requests.map((request) => request.id),
      ...(cell.version === undefined ? {} : { modelVersion: cell.version }),
    });
  }

  #deathError(cell: Cell, death: DeathNotice, request: Request): TroupeError {
    const code: ErrorCode =
      death.cause === 'oom' ? 'ACTOR_OOM' : death.cause === 'hung' ? 'ACTOR_HUNG' : 'ACTOR_CRASHED';
    return new TroupeError(
      code,
      `Replica ${cell.replica} of "${this.limits.name}" ended while it held the record: ${describeDeath(death)}`,
      {
        cause: death.error,
        actor: this.limits.name,
        replica: cell.replica,
        incarnation: cell.incarnation,
        attempt: request.sendCount,
        ...(cell.version === undefined ? {} : { modelVersion: cell.version }),
      },
    );
  }

  #fill(): string {
    const { capacity, capacityBytes } = this.limits.mailbox;
    return `${this.mailbox.held} of ${capacity} records and ${this.mailbox.heldBytes} of ${capacityBytes} bytes held`;
  }

  #news(news: PoolNews): void {
    this.#effects.push({ kind: 'news', news });
  }

  #move(cell: Cell, event: ReplicaEvent): void {
    cell.state = transition('replica', REPLICA_LIFECYCLE, cell.state, event);
  }

  #state(event: PoolEventName): void {
    this.state = transition('pool', POOL_LIFECYCLE, this.state, event);
  }
}

/** Ends that the record being run can have caused. A signal from outside is nobody's fault. */
const BLAMED: ReadonlySet<DeathNotice['cause']> = new Set(['exit', 'crash', 'hung', 'oom', 'protocol'] as const);

function deathKind(death: DeathNotice): DeathKind {
  switch (death.cause) {
    case 'load-failed':
      return 'init';
    case 'hung':
      return 'hang';
    case 'oom':
      return 'oom';
    default:
      return 'crash';
  }
}

/** One line for people: what ended the replica. */
export function describeDeath(death: DeathNotice): string {
  const why = death.error instanceof Error ? `: ${death.error.message}` : '';
  switch (death.cause) {
    case 'exit':
      return `it exited with code ${death.exitCode ?? 'unknown'} without a reply`;
    case 'killed':
      return `it was killed from outside by ${death.signal ?? 'a signal'}`;
    case 'crash':
      return `it crashed${death.signal === undefined ? '' : ` with ${death.signal}`}${why}`;
    case 'hung':
      return 'it did not answer in time and was ended';
    case 'oom':
      return `it ran out of memory${why}`;
    case 'load-failed':
      return `it could not load${why}`;
    case 'protocol':
      return `it broke the protocol${why}`;
    case 'stopped':
      return 'it was stopped';
  }
}
