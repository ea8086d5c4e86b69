/**
 * What keeps one pool going: hands the core what its replicas and its timer say, carries out what it decides, and tells
 * the callers. Owns the links of the replicas and the timer.
 *
 * E1 effects are carried out before callers hear of results: user code runs last, when our own state is whole.
 * E2 a turn of asks is dispatched once, at its end, so that they share batches.
 * E3 effects are carried out in the order in which they were decided, also those that a listener brings about while
 * others are still to come: a replica is not told to stop before it is started.
 */

import type { Clock } from '../kernel/clock.js';
import type { Effect, PoolNews } from '../core/effects.js';
import type { PoolCore } from '../core/pool-core.js';
import { PROBE_BUCKET, type Request } from '../core/request.js';
import type { Description, RecordResult, ReplyStreams, StartLink } from '../host/link.js';
import { FIRST_SHOWN_ID } from '../core/shadow.js';
import { shapeKey } from '../wire/columns.js';
import { PING } from '../wire/messages.js';
import { giveUp } from '../wire/token-stream.js';
import { sharesResults } from './ask-many.js';
import type { BatchTraces } from './batch-traces.js';
import type { Callers } from './callers.js';
import type { Comparison } from './comparison.js';
import type { ModelKeeper } from './model-keeper.js';
import { PoolTimer } from './pool-timer.js';
import type { Readiness } from './readiness.js';
import { ReplicaLinks, type ReplicaPlan } from './replica-links.js';
import { RoomWaiters } from './room-waiters.js';
import type { Turn } from './turn.js';

export interface PumpParts {
  readonly core: PoolCore;
  readonly clock: Clock;
  readonly turn: Turn;
  readonly plan: ReplicaPlan;
  readonly startLink: StartLink;
  readonly callers: Callers;
  readonly readiness: Readiness;
  readonly traces: BatchTraces | undefined;
  /** What the core tells of itself. */
  readonly onNews: (news: PoolNews) => void;
}

export class Pump {
  readonly links: ReplicaLinks;
  readonly room: RoomWaiters;
  /** While a new version is watched as a shadow. */
  comparison: Comparison | undefined;
  /** Where the pool holds many models. */
  models: ModelKeeper | undefined;
  readonly #core: PoolCore;
  readonly #clock: Clock;
  readonly #turn: Turn;
  readonly #callers: Callers;
  readonly #readiness: Readiness;
  readonly #traces: BatchTraces | undefined;
  readonly #onNews: (news: PoolNews) => void;
  readonly #timer: PoolTimer;
  #isRunning = false;

  constructor({ core, clock, turn, plan, startLink, callers, readiness, traces, onNews }: PumpParts) {
    this.#core = core;
    this.#clock = clock;
    this.#turn = turn;
    this.#callers = callers;
    this.#readiness = readiness;
    this.#traces = traces;
    this.#onNews = onNews;
    this.room = new RoomWaiters(core.mailbox);
    this.#timer = new PoolTimer(clock, () => this.#tick());
    this.links = new ReplicaLinks(plan, startLink, clock, {
      ready: (cell, incarnation, description) => {
        this.#describe(description);
        core.ready(cell, incarnation, clock.now(), warmUpOf(description));
        this.afterEvent();
      },
      reply: (cell, incarnation, batchId, results, streams) => {
        if (batchId >= FIRST_SHOWN_ID) {
          for (const [, stream] of streams ?? []) giveUp(stream);
          return this.#shown(cell, batchId, results);
        }
        traces?.replied(batchId, results);
        const requests = streams === undefined ? undefined : core.ledger.get(cell, batchId)?.requests;
        core.reply(cell, incarnation, batchId, results, clock.now());
        if (streams !== undefined) giveUpUnwanted(streams, requests);
        this.#afterReply();
      },
      streamsBegan: (cell, incarnation, count, model) => core.streamsBegan(cell, incarnation, count, model),
      streamEnded: (cell, incarnation, model) => {
        core.streamEnded(cell, incarnation, model, clock.now());
        this.afterEvent();
      },
      failed: (cell, incarnation, batchId, error) => {
        if (batchId >= FIRST_SHOWN_ID) return this.#shown(cell, batchId, undefined);
        traces?.failed(batchId, error.code);
        core.failed(cell, incarnation, batchId, error, clock.now());
        this.#afterReply();
      },
      exited: (cell, incarnation, death) => {
        this.comparison?.ended(cell);
        traces?.exited(cell, incarnation, death);
        core.died(cell, incarnation, death, clock.now());
        this.afterEvent();
      },
      // Without results: the ledger has closed every batch of that incarnation, and only counts it.
      stale: (cell, incarnation, batchId) => core.reply(cell, incarnation, batchId, [], clock.now()),
    });
  }

  /**
   * Carries out effects, then tells the callers (E1), until there is nothing left to do. Called from within, by a listener
   * or a caller that is told, it returns at once: what was decided is carried out when that has returned (E3).
   */
  run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      this.#runAll();
    } finally {
      this.#isRunning = false;
    }
    if (this.#core.state === 'stopped') this.#timer.cancel();
    else this.#timer.arm(this.#core.nextWakeAt(), this.#core.onlyLooks);
  }

  #runAll(): void {
    for (;;) {
      const effects = this.#core.takeEffects();
      const settled = this.#core.takeSettled();
      if (effects.length === 0 && settled.length === 0) return;
      for (let i = 0; i < effects.length; i++) this.#carryOut(effects[i] as Effect);
      if (settled.length === 0) continue;
      const now = this.#clock.now();
      const { comparison } = this;
      for (let i = 0; i < settled.length; i++) {
        comparison?.settled(settled[i] as Request);
        this.#callers.tell(settled[i] as Request, now);
      }
      if (!this.room.isEmpty) this.#turn.schedule();
    }
  }

  /** Something has happened beside the records. */
  afterEvent(): void {
    this.run();
    this.#turn.schedule();
  }

  /** The end of a turn: what arrived in it goes out together (E2). */
  endTurn(): void {
    this.#core.dispatch(this.#clock.now());
    this.run();
    if (!this.room.isEmpty) this.room.call();
  }

  #tick(): void {
    this.#core.tick(this.#clock.now());
    this.run();
    if (!this.room.isEmpty) this.#turn.schedule();
  }

  #afterReply(): void {
    // A full batch that waits already goes at once; a partial one may grow until the turn ends.
    if (this.#core.batcher.hasFull(this.#core.mailbox)) this.#core.dispatch(this.#clock.now());
    this.afterEvent();
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case 'send': {
        if ((effect.requests[0] as Request).owner === this.#readiness) {
          this.#readiness.sent(effect);
          void this.#ping(effect);
          return;
        }
        if (this.#traces !== undefined) this.#trace(effect, this.#traces);
        const { requests } = effect;
        const { model } = requests[0] as Request;
        this.links.link(effect.cell)?.send(effect.batchId, inputsOf(requests), sharesResults(requests), model);
        return;
      }
      case 'show':
        this.comparison?.shown(effect.cell, effect.batchId, effect.requests);
        this.links.show(effect.cell, effect.batchId, inputsOf(effect.requests));
        return;
      case 'abandon':
        this.links.link(effect.cell)?.abandon(effect.batchId);
        return;
      case 'start':
        this.links.start(effect, this.#core.fleet.cells.get(effect.cell)?.generation ?? 0);
        return;
      case 'stop':
        this.links.link(effect.cell)?.stop({ now: effect.now });
        return;
      case 'kill':
        this.links.link(effect.cell)?.kill('hung');
        return;
      case 'locate':
      case 'load-model':
      case 'unload-model':
        this.models?.carryOut(effect);
        return;
      case 'news':
        if (effect.news.name === 'stopped') this.#timer.cancel();
        this.#keepFiles(effect.news);
        this.#onNews(effect.news);
        return;
    }
  }

  #keepFiles(news: PoolNews): void {
    const { files } = this.links;
    const { list, rollout, servingGeneration } = this.#core.fleet;
    if (news.name === 'rollout' && news.step === 'rolled-back') files.rolledBack();
    if (news.name === 'up') files.serves(servingGeneration);
    if (news.name !== 'up' && news.name !== 'freed') return;
    const kept = new Set([servingGeneration, ...list.map((cell) => cell.generation)]);
    // The old version may have no replica left, and is started again where the new one is given up.
    if (rollout !== undefined) kept.add(rollout.sides.fromGeneration);
    files.keep(kept);
  }

  /** The answer to a batch that a replica was only shown. */
  #shown(cell: number, batchId: number, results: readonly RecordResult[] | undefined): void {
    const tookMs = this.#core.shown(cell, batchId, this.#clock.now());
    this.comparison?.answered(batchId, results, tookMs);
    this.afterEvent();
  }

  #trace(effect: Extract<Effect, { kind: 'send' }>, traces: BatchTraces): void {
    const cell = this.#core.fleet.cells.get(effect.cell);
    if (cell !== undefined) traces.sent(effect, cell);
  }

  /** The end of a replica is told by its link; a call that it cut short says nothing more. */
  async #ping({ cell, batchId }: Extract<Effect, { kind: 'send' }>): Promise<void> {
    const incarnation = this.#core.fleet.cells.get(cell)?.incarnation ?? 0;
    try {
      await this.links.link(cell)?.call(PING, []);
    } catch {
      return;
    }
    this.#core.reply(cell, incarnation, batchId, [PROBED], this.#clock.now());
    this.#afterReply();
  }

  /** The first description tells shapes and repeatability; what arrived before it is sorted by shape now. */
  #describe(description: Description): void {
    this.#core.setRepeatable(description.repeatable);
    const { signature } = description;
    if (signature === undefined || this.#core.fleet.readyCount > 0) return;
    this.#core.mailbox.rebucket((request) =>
      request.bucket === PROBE_BUCKET ? PROBE_BUCKET : shapeKey(request.input, signature),
    );
  }
}

function inputsOf(requests: readonly Request[]): unknown[] {
  const inputs = new Array<unknown>(requests.length);
  for (let i = 0; i < inputs.length; i++) inputs[i] = (requests[i] as Request).input;
  return inputs;
}

/** Of records that all have one shape; runs on zeros of some other shape would tell nothing. */
function warmUpOf({ signature, costs }: Description): Description['costs'] {
  return signature?.inputs.some(({ shape }) => shape.includes(-1)) ? undefined : costs;
}

/** Token streams of records that were settled before: by their deadline, or by their caller. */
function giveUpUnwanted(streams: ReplyStreams, requests: readonly Request[] | undefined): void {
  for (const [index, stream] of streams) if (requests?.[index]?.value !== stream) giveUp(stream);
}

/** The answer to a probe. */
const PROBED = { ok: true, value: undefined } as const;
