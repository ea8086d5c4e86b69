/**
 * The edge of one pool: carries out what the pool core decides, with real links, one timer and promises.
 *
 * Owns the core, the links of the replicas, the timer, the callers' promises. Decides nothing: which record goes when,
 * who restarts, what is retried stands in core/pool-core.ts.
 *
 * E1 effects are carried out before callers hear of results: user code runs last, when our own state is whole.
 * E2 a turn of asks is dispatched once, at its end, so that they share batches.
 */

import { type Clock, systemClock, type Timer } from '../kernel/clock.js';
import { deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { type Random, systemRandom } from '../kernel/random.js';
import { Breaker, verdictOf } from '../core/breaker.js';
import { type DeathNotice, describeDeath, type Effect, type PoolNews } from '../core/effects.js';
import { PoolCore } from '../core/pool-core.js';
import { PROBE_BUCKET, Request } from '../core/request.js';
import type { Overflow } from '../core/mailbox.js';
import type { Description, RecordResult, StartLink } from '../host/link.js';
import { checkName, LATEST } from '../models/names.js';
import { ModelRepository } from '../models/repository.js';
import { LatencyWindow } from '../telemetry/latency.js';
import type { Log } from '../telemetry/log.js';
import type { MetricsRegistry } from '../telemetry/registry.js';
import type { Tracing } from '../telemetry/tracing.js';
import type { ActorDefinition, Isolation } from '../wire/definition.js';
import { shapeKey } from '../wire/columns.js';
import { toFault } from '../wire/fault.js';
import { PING } from '../wire/messages.js';
import { recordBytes } from '../wire/record-bytes.js';
import type { Signature } from '../wire/tensor.js';
import {
  APPLICATION,
  type AskManyOptions,
  AskOwner,
  type AskOptions,
  type AskRules,
  checkOptions,
  type Owner,
  plainRules,
  resolveAsk,
} from './ask.js';
import { AskMany, sharesResults } from './ask-many.js';
import { AsyncBatchMeter } from './async-batch.js';
import { BatchTraces } from './batch-traces.js';
import type { InferTarget, Submission, Ticket } from './infer-target.js';
import { locateModel } from './locate.js';
import { Milestones } from './milestones.js';
import type { Outcome } from './outcome.js';
import { type PoolEvents, PoolVoice } from './pool-events.js';
import type { PoolMeters } from './pool-metrics.js';
import type { ResolvedPoolOptions } from './pool-options.js';
import { type PoolHealth, Readiness } from './readiness.js';
import { ReplicaLinks } from './replica-links.js';
import { type PoolVersions, Rollouts, type SwapPreview } from './rollouts.js';
import { type PoolStats, poolStats } from './stats.js';
import type { SwapOptions } from './swap-options.js';
import { NO_TICKET, RequestTicket } from './ticket.js';
import { Turn } from './turn.js';

export interface StopOptions {
  /** How long what is held may still be finished; what is left then settles with POOL_STOPPED. Default 10,000. */
  readonly timeoutMs?: number;
}

/** How a pool ended: records finished during the drain, and records rejected with POOL_STOPPED. */
export interface StopReport {
  readonly drained: number;
  readonly rejected: number;
}

/** Everything a pool needs that a test may want to replace. */
export interface PoolParts {
  readonly startLink: StartLink;
  readonly log: Log;
  readonly metrics?: MetricsRegistry;
  readonly tracing?: Tracing | undefined;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Where models are looked for. Default: one without roots, for models given by their paths. */
  readonly models?: ModelRepository;
}

export interface PoolSpec<In> {
  readonly name: string;
  readonly options: ResolvedPoolOptions;
  readonly actor: string | ActorDefinition<any, any, any>;
  readonly isolation: Isolation;
  /** Weight of one record, for batching.maxWeight. Default 1 each. */
  readonly weigh: ((input: In) => number) | undefined;
}

/** Checks the options of a stop; wrong ones throw a TypeError that names option, expectation and value. */
export function stopTimeoutOf(options: StopOptions): number {
  checkOptions('stop', options);
  for (const key of Object.keys(options)) {
    if (key !== 'timeoutMs') throw new TypeError(`stop: unknown option "${key}"; expected timeoutMs`);
  }
  const { timeoutMs = 10_000 } = options;
  if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0))
    throw new TypeError(`stop: timeoutMs must be a number of at least 0, got ${String(timeoutMs)}`);
  return timeoutMs;
}

/** What a pool must know of a record beside its input. */
type Terms = Pick<Submission<unknown, unknown>, 'sender' | 'priority' | 'callTimeoutMs' | 'key' | 'traceparent'>;

/** A sender that was refused and wants to be called. */
interface RoomWaiter {
  readonly callback: () => void;
  /** Not before another record than these has left the mailbox; -1 where room alone will do. */
  readonly leftCount: number;
}

export class Pool<In = unknown, Out = unknown> implements InferTarget<In, Out>, AsyncDisposable {
  readonly name: string;
  readonly metrics: MetricsRegistry | undefined;
  readonly #spec: PoolSpec<In>;
  readonly #plainRules: AskRules;
  readonly #core: PoolCore;
  readonly #clock: Clock;
  readonly #models: ModelRepository;
  readonly #voice: PoolVoice;
  readonly #links: ReplicaLinks;
  readonly #turn = new Turn(() => this.#endTurn());
  readonly #roomWaiters = new Map<number, RoomWaiter>();
  readonly #latency = new LatencyWindow();
  readonly #queueWait = new LatencyWindow();
  readonly #calls = new AsyncBatchMeter();
  readonly #breaker: Breaker | undefined;
  readonly #readiness: Readiness;
  readonly #traces: BatchTraces | undefined;
  #timer: Timer | undefined;
  #timerAt = Infinity;
  /** It is not needed now, and does not keep the process alive. */
  #timerRests = false;
  #lastRequest = 0;
  #lastSender = APPLICATION;
  #operations: Promise<unknown> = Promise.resolve();
  readonly #milestones = new Milestones();
  readonly #rollouts: Rollouts;
  #drained: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #stopping: Promise<StopReport> | undefined;
  #startedAt: number;

  constructor(spec: PoolSpec<In>, parts: PoolParts) {
    this.name = spec.name;
    this.metrics = parts.metrics;
    this.#spec = spec;
    this.#plainRules = plainRules(spec.options.timeoutMs);
    this.#clock = parts.clock ?? systemClock;
    this.#models = parts.models ?? new ModelRepository();
    this.#voice = new PoolVoice(spec.name, parts.log);
    this.#links = new ReplicaLinks({ ...spec, pool: spec.name }, parts.startLink, {
      ready: (cell, incarnation, description) => {
        this.#describe(description);
        this.#core.ready(cell, incarnation, this.#clock.now(), warmUpOf(description));
        this.#afterEvent();
      },
      reply: (cell, incarnation, batchId, results) => {
        this.#traces?.replied(batchId, results);
        this.#core.reply(cell, incarnation, batchId, results, this.#clock.now());
        this.#afterReply();
      },
      failed: (cell, incarnation, batchId, error) => {
        this.#traces?.failed(batchId, error.code);
        this.#core.failed(cell, incarnation, batchId, error, this.#clock.now());
        this.#afterReply();
      },
      exited: (cell, incarnation, death) => {
        this.#traces?.exited(cell, incarnation, death);
        this.#core.died(cell, incarnation, death, this.#clock.now());
        this.#afterEvent();
      },
      // Without results: the ledger has closed every batch of that incarnation, and only counts it.
      stale: (cell, incarnation, batchId) => {
        this.#core.reply(cell, incarnation, batchId, [], this.#clock.now());
      },
    });
    this.#startedAt = this.#clock.now();
    const { mailbox, batching, restart, batchTimeoutMs, attempts, cancellation } = spec.options;
    this.#core = new PoolCore(
      {
        name: spec.name,
        mailbox,
        batching: {
          adaptive: batching.adaptive,
          maxSize: batching.maxSize,
          maxBytes: batching.maxBytes,
          maxWeight: batching.maxWeight ?? Infinity,
          maxDelayMs: batching.maxDelayMs,
          targetLatencyMs: batching.targetLatencyMs ?? Infinity,
        },
        maxInFlight: batching.maxInFlight,
        batchTimeoutMs,
        attempts,
        cancellation,
        restart,
        restartType: restart.type,
        strategy: restart.strategy,
      },
      parts.random ?? systemRandom,
      (end) => {
        if (!this.#readiness.ended(end.batchId)) this.#calls.count(end);
      },
    );
    if (parts.tracing !== undefined)
      this.#traces = new BatchTraces(spec.name, parts.tracing, (cause) => this.#voice.tracerBroke(cause));
    this.#readiness = new Readiness(this.#core, this.#clock, () => this.#turn.schedule());
    this.#rollouts = new Rollouts({
      name: spec.name,
      core: this.#core,
      voice: this.#voice,
      milestones: this.#milestones,
      now: () => this.#clock.now(),
      locate: (version) => this.#locate(version),
      residentMemory: () => this.#residentMemory(),
      probe: (cell, records) => this.#probe(cell, records),
      refuseUnlessRunning: (what) => this.#refuseUnlessRunning(what),
      pump: () => this.#afterEvent(),
      operation: (run) => this.#operation(run),
    });
    const { breaker } = spec.options;
    if (breaker !== undefined)
      this.#breaker = new Breaker(breaker, (change) => this.#voice.breakerChanged(change, breaker));
  }

  /** The version that serves, where the pool has a model. */
  get version(): string | undefined {
    return this.#core.fleet.version;
  }

  /** The model it was spawned with: a path, or a name in the roots of the system; undefined where it has none. */
  get model(): string | undefined {
    return this.#spec.options.model;
  }

  /** Tensor signature, once a replica is up and if the actor has one. */
  get signature(): Signature | undefined {
    return this.#links.description?.signature;
  }

  /** Loads the first replicas. Rejects with the typed error of the load that failed; nothing is left running then. */
  start(): Promise<void> {
    return this.#operation(async () => {
      const version = await this.#locate(this.#spec.options.version);
      await this.#rollOut(version, this.#spec.options.replicas);
    });
  }

  /**
   * Sends one record and resolves to its result. Rejects with a TroupeError: MAILBOX_FULL, DEADLINE_PASSED, CANCELLED,
   * PREDICT_FAILED, ACTOR_CRASHED, NO_REPLICA, POOL_STOPPED ...
   */
  ask(input: In, options?: AskOptions): Promise<Out> {
    const rules = options === undefined ? this.#plainRules : resolveAsk(options, this.#spec.options.timeoutMs);
    return new Promise<Out>((resolve, reject) => {
      const owner = new AskOwner<Out>(resolve, reject, rules.signal);
      const refused = this.#offerAsk(input, owner, rules);
      if (!(refused instanceof Request)) reject(refused);
      else if (rules.signal !== undefined) this.#watch(refused, owner, rules.signal);
    });
  }

  /**
   * Sends many records and resolves to one settled outcome per record, in order. Never rejects for a record; feeds
   * itself as the mailbox has room, so any number is fine. timeoutMs counts for each record from its acceptance.
   */
  async askMany(inputs: Iterable<In>, options: AskManyOptions<In> = {}): Promise<Outcome<Out>[]> {
    checkOptions('askMany', options);
    const { key, views = false, ...plain } = options;
    if (typeof views !== 'boolean') throw new TypeError(`askMany: views must be true or false, got ${typeof views}`);
    const isFunction = typeof key === 'function';
    const rules = resolveAsk(isFunction || key === undefined ? plain : { ...plain, key }, this.#spec.options.timeoutMs);
    const given: unknown = inputs;
    // A string is taken for a mistake, not for its characters.
    if (typeof given !== 'object' || given === null || !(Symbol.iterator in given)) {
      const got = given === null ? 'null' : typeof given;
      throw new TypeError(`askMany: expected an array or another iterable of records, got ${got}`);
    }
    const records = Array.isArray(inputs) ? (inputs as In[]) : [...inputs];
    const keyOf = isFunction ? key : undefined;
    const traceparent = this.#traces?.activeTraceparent();
    const run = new AskMany<In, Out>(this, records, rules, keyOf, this.#clock, views, traceparent);
    return run.outcomes;
  }

  /** Sends one record without wanting its result. Never throws for the pool's sake: what fails becomes a `dead-letter` event. */
  tell(input: In, options: Omit<AskOptions, 'signal'> = {}): void {
    const rules = resolveAsk(options, this.#spec.options.timeoutMs);
    const refused = this.#offerAsk(input, NOBODY, rules);
    if (refused instanceof TroupeError) this.#voice.emit('dead-letter', { input, error: refused });
  }

  /** Calls a method of the definition on one ready replica, outside the batch path. */
  async call(method: string, ...args: readonly unknown[]): Promise<unknown> {
    if (typeof method !== 'string')
      throw new TypeError(`call: expected the name of a method, got a value of type ${typeof method}`);
    const link = this.#links.anyReady(this.#core.fleet.list.filter((cell) => this.#core.fleet.isMain(cell)));
    if (link !== undefined) return link.call(method, args);
    throw (
      this.#core.failure ??
      new TroupeError('NO_REPLICA', `Pool "${this.name}" has no ready replica to call "${method}" on`, {
        actor: this.name,
      })
    );
  }

  /**
   * Loads and warms `version` beside the serving one, shifts the work to it at once, or by a share of it first, watches
   * it as long as it is told to, and frees the old one. Resolves when the old one is gone. Rejects with SWAP_ROLLED_BACK,
   * and the old version serves on, when the new one does not come up, has another signature, fails or slows down while
   * it is watched, or when a newer swap or `rollback` ended it. The newest swap wins; swaps and scalings run one after
   * another. Two versions are resident at most.
   */
  swap(version: string | number, options: SwapOptions = {}): Promise<void> {
    return this.#rollouts.swap(version, options);
  }

  /** What `swap` would do with these arguments, without doing it. Rejects where there is no such version. */
  planSwap(version: string | number, options: SwapOptions = {}): Promise<SwapPreview> {
    return this.#rollouts.plan(version, options);
  }

  /** Ends the watch over a new version in its favour. Rejects with NO_ROLLOUT where none is on trial. */
  promote(): Promise<void> {
    return this.#rollouts.promote();
  }

  /**
   * While a version is being rolled out: gives it up, the old one serves on. Afterwards: brings the version before back,
   * loaded beside the serving one like any other. Rejects with NO_ROLLOUT where there is neither.
   */
  rollback(): Promise<void> {
    return this.#rollouts.rollback();
  }

  /** What serves, what served before, and what is being rolled out. */
  versions(): PoolVersions {
    return this.#rollouts.versions();
  }

  /** Changes the number of replicas; what is too many finishes its batch first. Resolves when all are ready. */
  scale(replicas: number): Promise<void> {
    if (!Number.isInteger(replicas) || replicas < 1 || replicas > 1024)
      throw new TypeError(`scale: expected a whole number from 1 to 1024, got ${String(replicas)}`);
    return this.#operation(async () => {
      this.#refuseUnlessRunning('scale');
      this.#core.scale(replicas, this.#clock.now());
      this.#pump();
      while (this.#core.fleet.readyCount < replicas) {
        const failed = await this.#next();
        this.#refuseUnlessRunning('scale');
        if (failed !== undefined) throw failed;
      }
    });
  }

  /**
   * Ends every replica when its batch is done and starts all anew, those of a failed pool too, with fresh restart budgets;
   * what waits in the mailbox goes on waiting. Resolves when all are ready, rejects when the pool fails again.
   */
  restart(): Promise<void> {
    return this.#operation(async () => {
      if (this.#core.state !== 'failed') {
        this.#refuseUnlessRunning('restart');
        await this.hold();
      }
      await this.release();
    });
  }

  /** Takes no more records and resolves when the last one held is settled. The replicas stay up until `stop`. */
  async drain(): Promise<void> {
    if (this.#core.state === 'failed' || this.#core.state === 'stopped' || this.#core.state === 'stopping') return;
    this.#drained ??= this.#milestones.next('drained');
    this.#core.drain();
    this.#core.flush(this.#clock.now());
    this.#turn.schedule();
    await this.#drained;
  }

  /** Drains for at most timeoutMs, rejects what is left with POOL_STOPPED, and stops every replica. May be called twice. */
  stop(options: StopOptions = {}): Promise<StopReport> {
    const timeoutMs = stopTimeoutOf(options);
    if (this.#stopping !== undefined) {
      if (timeoutMs === 0) void this.#halt();
      return this.#stopping;
    }
    this.#stopping = this.#stop(timeoutMs);
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  on<Name extends keyof PoolEvents>(name: Name, listener: (...args: PoolEvents[Name]) => void): this {
    this.#voice.on(name, listener as never);
    return this;
  }

  once<Name extends keyof PoolEvents>(name: Name, listener: (...args: PoolEvents[Name]) => void): this {
    this.#voice.once(name, listener as never);
    return this;
  }

  off<Name extends keyof PoolEvents>(name: Name, listener: (...args: PoolEvents[Name]) => void): this {
    this.#voice.off(name, listener as never);
    return this;
  }

  /** A snapshot: plain data, cheap, safe to call often. */
  stats(): PoolStats {
    const edge = {
      latencyMs: this.#latency.summary(),
      queueWaitMs: this.#queueWait.summary(),
      calls: this.#calls,
      breaker: this.#breaker,
      probes: this.#readiness.counts,
      probesInFlight: this.#readiness.inFlightCount,
      startedAt: this.#startedAt,
    };
    return poolStats(this.#core, edge, this.#clock.now());
  }

  /**
   * Whether it would answer a record now, found out by a probe that goes the way of a record up to predict. Resolves
   * within half a second; also true while replicas are busy with batches that need not have ended yet.
   */
  health(): Promise<PoolHealth> {
    return this.#readiness.check();
  }

  /** For the metrics of the system. */
  meters(): PoolMeters {
    return {
      stats: this.stats(),
      maxBatchSize: this.#spec.options.batching.maxSize,
      latencyMs: this.#latency,
      queueWaitMs: this.#queueWait,
      calls: this.#calls,
      versions: this.versions(),
      told: this.#voice.told,
      residentBytes: this.#links.residentBytes(),
    };
  }

  // ------------------------------------------------- InferTarget: the bulk path

  get inFlightBatches(): number {
    return this.#core.ledger.size;
  }

  openSender(_name: string): number {
    return ++this.#lastSender;
  }

  closeSender(sender: number): void {
    this.#roomWaiters.delete(sender);
    this.#core.mailbox.gotRoom(sender);
    this.#turn.schedule();
  }

  offer(submission: Submission<In, Out>): Ticket | undefined {
    const now = this.#clock.now();
    const refused = this.#offer(submission.input, submission, submission, submission.deadlineAt, 'try', now);
    if (refused instanceof Request) return new RequestTicket(this, refused);
    if (refused === undefined) return undefined;
    // Refused for good: it counts as accepted and settled at once, so that the caller has one way to hear of it.
    process.nextTick(() => submission.settled({ ok: false, error: refused }));
    return NO_TICKET;
  }

  onRoom(sender: number, callback: () => void): void {
    const { mailbox } = this.#core;
    mailbox.wantRoom(sender);
    // There is room for it and yet it was refused: its record needs more bytes than are free.
    const leftCount = mailbox.hasRoomFor(sender) ? mailbox.leftCount : -1;
    this.#roomWaiters.set(sender, { callback, leftCount });
    this.#turn.schedule();
  }

  flush(): void {
    this.#core.flush(this.#clock.now());
    this.#turn.schedule();
  }

  /** For tickets: one accepted request is given up. */
  cancelRequest(request: Request, reason: unknown): void {
    this.#cancel(request, reason);
  }

  // --------------------------------------------------- for the supervisor only

  /** Ends every replica but keeps the mailbox; resolves when the last has ended. */
  async hold(): Promise<void> {
    const held = this.#milestones.next('held');
    this.#core.hold();
    this.#pump();
    await held;
  }

  /** Starts again after `hold` or after failing; rejects when it fails again. */
  async release(): Promise<void> {
    const up = this.#milestones.next('resumed');
    this.#core.release(this.#clock.now());
    this.#pump();
    await up;
  }

  // ------------------------------------------------------------------- private

  #offerAsk(input: In, owner: Owner, rules: AskRules): Request | TroupeError | undefined {
    const now = this.#clock.now();
    return this.#offer(input, owner, rules, now + rules.timeoutMs, this.#spec.options.mailbox.overflow, now);
  }

  /** Apart from `ask`, so that one without a signal makes no closure. */
  #watch(request: Request, owner: AskOwner<Out>, signal: AbortSignal): void {
    owner.watch(() => this.#cancel(request, signal.reason));
  }

  #offer(
    input: In,
    owner: Owner,
    terms: Terms,
    deadlineAt: number,
    overflow: Overflow,
    now: number,
  ): Request | TroupeError | undefined {
    const { signature } = this;
    const weight = this.#weight(input);
    if (typeof weight !== 'number') return weight;
    const lease = this.#breaker?.acquire(now);
    if (lease === undefined && this.#breaker !== undefined) return this.#brokenError(this.#breaker, now);
    const request = new Request({
      id: ++this.#lastRequest,
      input,
      owner,
      sender: terms.sender,
      priority: terms.priority,
      bucket: signature === undefined ? '' : shapeKey(input, signature),
      bytes: recordBytes(input),
      weight,
      offeredAt: now,
      deadlineAt,
      callTimeoutMs: terms.callTimeoutMs,
      key: terms.key,
    });
    request.lease = lease;
    if (this.#traces !== undefined) {
      if (terms.sender === APPLICATION) this.#traces.asked(request);
      else this.#traces.submitted(request, terms.traceparent);
    }
    const offer = this.#core.offer(request, overflow, now);
    this.#turn.schedule();
    if (offer === 'accepted' || offer === 'door' || offer === 'dropped') return request;
    if (lease !== undefined) this.#breaker?.release(lease, 'none', now);
    // An operator comes back when there is room: no error is made for it.
    return offer === 'full' && overflow === 'try' ? undefined : this.#refusal(offer, overflow, request.bytes);
  }

  #refusal(
    offer: 'full' | 'too-large' | 'overloaded' | 'failed' | 'closed',
    overflow: Overflow,
    bytes: number,
  ): TroupeError {
    const { held, heldBytes, doorCount, limits } = this.#core.mailbox;
    const where = { actor: this.name };
    switch (offer) {
      case 'full': {
        const fill = `${held} of ${limits.capacity} records, ${heldBytes} of ${limits.capacityBytes} bytes held, ${doorCount} waiting`;
        return new TroupeError(
          'MAILBOX_FULL',
          `Mailbox of "${this.name}" is full: ${fill}, overflow ${overflow}`,
          where,
        );
      }
      case 'overloaded': {
        const retryAfterMs = Math.ceil(this.#core.admission.lastLateMs);
        const why = `with ${held} records before it, it would be at least ${retryAfterMs} ms late`;
        const message = `Pool "${this.name}" cannot answer the record before its deadline: ${why}`;
        return new TroupeError('OVERLOADED', message, { ...where, retryAfterMs });
      }
      case 'too-large': {
        const most = `more than mailbox.capacityBytes ${limits.capacityBytes} of "${this.name}"`;
        return new TroupeError('RECORD_TOO_LARGE', `The record has about ${bytes} bytes, ${most}`, where);
      }
      case 'failed': {
        const cause = this.#core.failure;
        return new TroupeError('NO_REPLICA', cause?.message ?? `Pool "${this.name}" has failed`, { cause, ...where });
      }
      case 'closed':
        return new TroupeError(
          'POOL_STOPPED',
          `Pool "${this.name}" is ${this.#core.state} and takes no records`,
          where,
        );
    }
  }

  #brokenError(breaker: Breaker, now: number): TroupeError {
    const retryAfterMs = Math.ceil(breaker.retryAfterMs(now));
    const why =
      breaker.state === 'open'
        ? `too many calls failed; the next are let through in ${retryAfterMs} ms`
        : 'a probe whether calls succeed again is under way';
    const message = `The circuit breaker of pool "${this.name}" is ${breaker.state}: ${why}`;
    return new TroupeError('BREAKER_OPEN', message, { actor: this.name, retryAfterMs });
  }

  /** Foreign code: what it throws or gets wrong costs this record alone. */
  #weight(input: In): number | TroupeError {
    const { weigh } = this.#spec;
    if (weigh === undefined) return 1;
    let cause: unknown;
    try {
      const weight: unknown = weigh(input);
      if (typeof weight === 'number' && Number.isFinite(weight) && weight >= 0) return weight;
      cause = new TypeError(
        `expected a number of at least 0, got ${typeof weight === 'number' ? weight : typeof weight}`,
      );
    } catch (thrown) {
      cause = thrown;
    }
    const message = `weigh of pool "${this.name}" failed for this record: ${toFault(cause).message}`;
    return new TroupeError('INPUT_INVALID', message, { cause, actor: this.name, ran: 'not-started' });
  }

  #cancel(request: Request, reason: unknown): void {
    this.#core.cancel(request, reason);
    this.#turn.schedule();
  }

  /** The end of a turn: what arrived in it goes out together. */
  #endTurn(): void {
    this.#core.dispatch(this.#clock.now());
    this.#pump();
    if (this.#roomWaiters.size > 0) this.#callWaiters();
  }

  /** Only those whose offer can fare better now: one that is refused again would come back at the end of every turn, for ever. */
  #callWaiters(): void {
    const { mailbox } = this.#core;
    for (const [sender, { callback, leftCount }] of [...this.#roomWaiters]) {
      if (leftCount === mailbox.leftCount || !mailbox.hasRoomFor(sender)) continue;
      this.#roomWaiters.delete(sender);
      mailbox.gotRoom(sender);
      callback();
    }
  }

  /** Carries out effects, then tells the callers (E1), until there is nothing left to do. */
  #pump(): void {
    for (;;) {
      const effects = this.#core.takeEffects();
      const settled = this.#core.takeSettled();
      if (effects.length === 0 && settled.length === 0) break;
      for (let i = 0; i < effects.length; i++) this.#carryOut(effects[i] as Effect);
      if (settled.length > 0) {
        const now = this.#clock.now();
        for (let i = 0; i < settled.length; i++) this.#tellOwner(settled[i] as Request, now);
        if (this.#roomWaiters.size > 0) this.#turn.schedule();
      }
    }
    this.#arm();
  }

  #tellOwner(request: Request, now: number): void {
    const owner = request.owner as Owner;
    const { call, lease } = request;
    if (lease !== undefined) this.#breaker?.release(lease, verdictOf(request.failure), now);
    if (request.owner === this.#readiness) {
      this.#readiness.settled(request.error);
      return;
    }
    if (request.error === undefined) {
      this.#latency.record(now - request.offeredAt);
      this.#queueWait.record(request.sentAt - request.offeredAt);
      if (owner instanceof AskOwner) owner.resolved(request.value as Out);
      else owner.settled({ ok: true, value: request.value, version: request.version }, call);
      return;
    }
    if (request.error.ran === 'failed') this.#voice.recordFailed(request.error, now);
    if (owner === NOBODY || request.error.code === 'MAILBOX_DROPPED') {
      this.#voice.emit('dead-letter', { input: request.input, error: request.error });
    }
    owner.settled({ ok: false, error: request.error }, call);
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
        const inputs = new Array<unknown>(effect.requests.length);
        for (let i = 0; i < inputs.length; i++) inputs[i] = (effect.requests[i] as Request).input;
        this.#links.link(effect.cell)?.send(effect.batchId, inputs, sharesResults(effect.requests));
        return;
      }
      case 'abandon':
        this.#links.link(effect.cell)?.abandon(effect.batchId);
        return;
      case 'start':
        this.#links.start(effect);
        return;
      case 'stop':
        this.#links.link(effect.cell)?.stop({ now: effect.now });
        return;
      case 'kill':
        this.#links.link(effect.cell)?.kill('hung');
        return;
      case 'news':
        this.#hear(effect.news);
        return;
    }
  }

  #trace(effect: Extract<Effect, { kind: 'send' }>, traces: BatchTraces): void {
    const cell = this.#core.fleet.cells.get(effect.cell);
    if (cell !== undefined) traces.sent(effect, cell);
  }

  /** The end of a replica is told by its link; a call that it cut short says nothing more. */
  async #ping({ cell, batchId }: Extract<Effect, { kind: 'send' }>): Promise<void> {
    const incarnation = this.#core.fleet.cells.get(cell)?.incarnation ?? 0;
    try {
      await this.#links.link(cell)?.call(PING, []);
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

  #afterReply(): void {
    // A full batch that waits already goes at once; a partial one may grow until the turn ends.
    if (this.#core.batcher.hasFull(this.#core.mailbox)) this.#core.dispatch(this.#clock.now());
    this.#afterEvent();
  }

  #afterEvent(): void {
    this.#pump();
    this.#turn.schedule();
  }

  #hear(news: PoolNews): void {
    if (news.name === 'stopped') this.#timer?.cancel();
    this.#milestones.hear(news);
    this.#voice.tell(news, news.name === 'freed' ? this.#rollouts.freedMemory() : undefined);
    this.#rollouts.hear(news);
  }

  #arm(): void {
    const wakeAt = this.#core.state === 'stopped' ? Infinity : this.#core.nextWakeAt();
    const timer = this.#timer;
    if (wakeAt === Infinity && timer?.hold !== undefined && this.#core.state !== 'stopped') {
      // Nothing is held: the next record mostly comes before the timer does. What rests keeps no process alive.
      if (!this.#timerRests) timer.hold(false);
      this.#timerRests = true;
      return;
    }
    // A timer that comes early costs one empty tick; one that is moved for every record costs more.
    if (wakeAt === this.#timerAt || (timer !== undefined && this.#timerAt <= wakeAt && wakeAt !== Infinity)) {
      if (this.#timerRests) timer?.hold?.(true);
      this.#timerRests = false;
      return;
    }
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerRests = false;
    this.#timerAt = wakeAt;
    if (wakeAt !== Infinity) this.#timer = this.#clock.at(wakeAt, this.#onTimer);
  }

  readonly #onTimer = (): void => {
    this.#timer = undefined;
    this.#timerRests = false;
    this.#timerAt = Infinity;
    this.#core.tick(this.#clock.now());
    this.#pump();
    if (this.#roomWaiters.size > 0) this.#turn.schedule();
  };

  async #locate(version: string): Promise<string | undefined> {
    const { model } = this.#spec.options;
    if (model === undefined) {
      const plain = version === LATEST ? undefined : checkName('version', version);
      this.#links.setModel(plain, undefined);
      return plain;
    }
    const located = await locateModel(this.name, this.#models, model, version);
    this.#links.setModel(located.version, located);
    return located.version;
  }

  #residentMemory(): { of: 'replicas' | 'host'; bytes: number } | undefined {
    if (this.#spec.isolation !== 'process') return { of: 'host', bytes: process.memoryUsage.rss() };
    let bytes = 0;
    for (const replica of this.#links.residentBytes()) bytes += replica.bytes;
    return bytes === 0 ? undefined : { of: 'replicas', bytes };
  }

  /** Records of one shape go together, as they would in the mailbox. */
  async #probe(cell: number, records: readonly unknown[]): Promise<readonly RecordResult[]> {
    const { signature } = this;
    const { loadTimeoutMs, batching } = this.#spec.options;
    const overdue = deferred<never>();
    const timer = this.#clock.at(this.#clock.now() + loadTimeoutMs, () => {
      const message = `Replica of "${this.name}" has not answered the probes within loadTimeoutMs ${loadTimeoutMs}`;
      overdue.reject(new TroupeError('ACTOR_HUNG', message, { actor: this.name }));
    });
    const results: RecordResult[] = [];
    try {
      for (let from = 0, end = 0; from < records.length; from = end) {
        const shape = signature === undefined ? '' : shapeKey(records[from], signature);
        for (end = from + 1; end < records.length && end - from < batching.maxSize; end++)
          if (signature !== undefined && shapeKey(records[end], signature) !== shape) break;
        results.push(...(await Promise.race([this.#links.probe(cell, records.slice(from, end)), overdue.promise])));
      }
    } finally {
      timer.cancel();
    }
    return results;
  }

  async #rollOut(version: string | undefined, replicas: number): Promise<void> {
    const up = this.#milestones.next('rolled-out');
    this.#core.rollOut(version, replicas, this.#clock.now());
    this.#pump();
    await up;
  }

  #refuseUnlessRunning(what: string): void {
    if (this.#core.state === 'running') return;
    throw (
      this.#core.failure ??
      new TroupeError('POOL_STOPPED', `Pool "${this.name}" is ${this.#core.state}: ${what} is not possible`, {
        actor: this.name,
      })
    );
  }

  /** Swaps and scalings of one pool never overlap. */
  #operation<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#operations.then(run);
    this.#operations = result.catch(() => undefined);
    return result;
  }

  /** The next thing that happens to a replica; the error, if one is given up. */
  #next(): Promise<TroupeError | undefined> {
    return new Promise((resolve) => {
      const names = ['ready', 'replica-failed', 'failed', 'stopped'] as const;
      const hear = (news?: object): void => {
        for (const name of names) this.#voice.off(name, hear);
        if (news === undefined || !('death' in news)) return resolve(undefined);
        const death = news.death as DeathNotice;
        const message = `A replica of "${this.name}" was given up: ${describeDeath(death)}`;
        return resolve(new TroupeError('ACTOR_LOAD_FAILED', message, { cause: death.error, actor: this.name }));
      };
      for (const name of names) this.#voice.on(name, hear);
    });
  }

  async #stop(timeoutMs: number): Promise<StopReport> {
    const heldBefore = this.#core.heldCount;
    if (this.#core.state === 'stopped') return { drained: 0, rejected: 0 };
    if (timeoutMs > 0 && heldBefore > 0) {
      const overdue = deferred<void>();
      const timer = this.#clock.at(this.#clock.now() + timeoutMs, overdue.resolve as () => void);
      await Promise.race([this.drain(), overdue.promise]);
      timer.cancel();
    }
    const rejected = this.#core.heldCount;
    await this.#halt();
    return { drained: Math.max(0, heldBefore - rejected), rejected };
  }

  #halt(): Promise<void> {
    this.#stopped ??= this.#milestones.next('stopped');
    this.#core.stop(this.#core.heldCount > 0);
    this.#pump();
    this.#milestones.abandon(new TroupeError('POOL_STOPPED', `Pool "${this.name}" was stopped`, { actor: this.name }));
    return this.#stopped;
  }
}

/** Of records that all have one shape; runs on zeros of some other shape would tell nothing. */
function warmUpOf({ signature, costs }: Description): Description['costs'] {
  return signature?.inputs.some(({ shape }) => shape.includes(-1)) ? undefined : costs;
}

/** The answer to a probe. */
const PROBED = { ok: true, value: undefined } as const;

/** Who told and did not ask. */
const NOBODY: Owner = { settled: () => undefined };
