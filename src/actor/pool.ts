/**
 * One pool as its users see it: asked, swapped, scaled, watched and stopped.
 *
 * Puts the parts of a pool together and decides nothing: which record goes when, who restarts, what is retried stands in
 * core/pool-core.ts. Records come in by intake.ts; pump.ts carries out what the core decides and drives it on;
 * callers.ts tells of results; pool-life.ts starts and ends it; rollouts.ts changes its version.
 */

import { type Clock, systemClock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import { systemRandom } from '../kernel/random.js';
import { Breaker } from '../core/breaker.js';
import type { PoolNews } from '../core/effects.js';
import type { Overflow } from '../core/mailbox.js';
import { modelKey, versionOf } from '../core/model-key.js';
import { PoolCore } from '../core/pool-core.js';
import { Request } from '../core/request.js';
import type { ModelLabels } from '../models/labels.js';
import { checkName, LATEST } from '../models/names.js';
import { ModelRepository } from '../models/repository.js';
import { tagText } from '../telemetry/exposition.js';
import type { MetricsRegistry } from '../telemetry/registry.js';
import type { ServedKind } from '../wire/served-kinds.js';
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
import { AskMany, planAskMany } from './ask-many.js';
import { AsyncBatchMeter } from './async-batch.js';
import { BatchTraces } from './batch-traces.js';
import { CachedIntake } from './cached-intake.js';
import { Callers, NOBODY } from './callers.js';
import type { ShownScheduling } from './ensembles.js';
import type { LocatedVersion } from './generation-files.js';
import type { Submission } from './infer-target.js';
import { Intake } from './intake.js';
import { locateModel } from './locate.js';
import { Milestones } from './milestones.js';
import { ModelCatalog } from './model-catalog.js';
import { ModelKeeper } from './model-keeper.js';
import type { Outcome } from './outcome.js';
import type { PoolClient } from './pool-client.js';
import { type PoolEvents, PoolVoice } from './pool-events.js';
import { type DrainOptions, PoolLife, type StopOptions, type StopReport } from './pool-life.js';
import type { PoolMeters } from './pool-metrics.js';
import { cacheLimits } from './pool-options.js';
import { limitsOf, type PoolParts, type PoolSpec } from './pool-spec.js';
import { Pump } from './pump.js';
import { type PoolHealth, Readiness } from './readiness.js';
import { type PoolVersions, Rollouts, type SwapPreview } from './rollouts.js';
import { type PoolStats, poolStats } from './stats.js';
import { planSwap, type SwapOptions } from './swap-options.js';
import { NO_TICKET, type PoolTicket, RequestTicket } from './ticket.js';
import { Turn } from './turn.js';

export class Pool<In = unknown, Out = unknown> implements PoolClient<In, Out>, AsyncDisposable {
  readonly name: string;
  readonly metrics: MetricsRegistry | undefined;
  readonly #spec: PoolSpec<In>;
  readonly #plainRules: AskRules;
  readonly #core: PoolCore;
  readonly #clock: Clock;
  readonly #models: ModelRepository;
  readonly #voice: PoolVoice;
  readonly #turn: Turn;
  readonly #calls = new AsyncBatchMeter();
  readonly #breaker: Breaker | undefined;
  readonly #readiness: Readiness;
  readonly #traces: BatchTraces | undefined;
  readonly #callers: Callers;
  readonly #pump: Pump;
  readonly #intake: Pick<Intake<In>, 'offer'>;
  /** The same, where the pool keeps its answers. */
  readonly #cached: CachedIntake<In> | undefined;
  readonly #milestones = new Milestones();
  readonly #life: PoolLife;
  /** Where it holds many models. */
  readonly #keeper: ModelKeeper | undefined;
  readonly #rollouts: Rollouts;
  readonly #startedAt: number;
  #lastSender = APPLICATION;

  constructor(spec: PoolSpec<In>, parts: PoolParts) {
    const { name, options } = spec;
    this.name = name;
    this.metrics = parts.metrics;
    this.#spec = spec;
    this.#plainRules = plainRules(options.timeoutMs);
    const clock = parts.clock ?? systemClock;
    this.#clock = clock;
    this.#startedAt = clock.now();
    this.#models = parts.models ?? new ModelRepository();
    const voice = new PoolVoice(name, parts.log, clock);
    this.#voice = voice;
    const core = new PoolCore(limitsOf(spec), parts.random ?? systemRandom, (end) => {
      if (!this.#readiness.ended(end.batchId)) this.#calls.count(end);
    });
    this.#core = core;
    const turn = new Turn(() => this.#pump.endTurn());
    this.#turn = turn;
    const { breaker: rules } = options;
    const breaker =
      rules === undefined ? undefined : new Breaker(rules, (change) => voice.breakerChanged(change, rules));
    this.#breaker = breaker;
    const { tracing } = parts;
    const traces =
      tracing === undefined ? undefined : new BatchTraces(name, tracing, (cause) => voice.tracerBroke(cause));
    this.#traces = traces;
    const readiness = new Readiness(core, clock, () => turn.schedule());
    this.#readiness = readiness;
    const callers = new Callers(voice, readiness, breaker);
    this.#callers = callers;
    const pump = new Pump({
      core,
      clock,
      turn,
      plan: { ...spec, pool: name },
      startLink: parts.startLink,
      callers,
      readiness,
      traces,
      onNews: (news) => this.#hear(news),
    });
    this.#pump = pump;
    const { links } = pump;
    const milestones = this.#milestones;
    const models = this.#keeperOf(core, pump);
    this.#keeper = models;
    pump.models = models;
    const intake = new Intake<In>({ name, core, links, turn, breaker, traces, weigh: spec.weigh, models });
    const limits = cacheLimits(options);
    const afterEvent = (): void => pump.afterEvent();
    this.#cached =
      limits === undefined
        ? undefined
        : new CachedIntake<In>({ intake, core, links, clock, afterEvent, models, limits });
    this.#intake = this.#cached ?? intake;
    const life = new PoolLife({ name, core, clock, milestones, voice, pump, turn });
    this.#life = life;
    this.#rollouts = new Rollouts({
      name,
      core,
      voice,
      milestones,
      now: () => clock.now(),
      locate: (version) => this.#locate(version),
      rollOut: (located, rules) => {
        links.files.rollOut(located);
        core.rollOut(located.version, core.fleet.replicas, clock.now(), rules);
      },
      compare: (comparison) => (pump.comparison = comparison),
      residentMemory: () => links.residentMemory(),
      probe: (cell, records) => links.probe(cell, records),
      refuseUnlessRunning: (what) => life.refuseUnlessRunning(what),
      pump: () => pump.afterEvent(),
      operation: (run) => life.operation(run),
    });
  }

  /** The version that serves, where the pool has a model. */
  get version(): string | undefined {
    return this.#core.fleet.version;
  }

  /** The model it was spawned with: a path, or a name in the roots of the system; undefined where it has none. */
  get model(): string | undefined {
    return this.#spec.options.model;
  }

  /** The version it was spawned with, as it was named: a number, an alias, or `latest`. */
  get wantedVersion(): string {
    return this.#spec.options.version;
  }

  /** Levels of priority that clients of the inference protocol may name, 1 the highest; undefined where any number is one. */
  get priorityLevels(): { readonly count: number; readonly normal: number } | undefined {
    const { priorityLevels: count, defaultPriorityLevel: normal } = this.#spec.options.mailbox;
    return count === undefined || normal === undefined ? undefined : { count, normal };
  }

  /** Tensor signature, once a replica is up and if the actor has one. */
  get signature(): Signature | undefined {
    return this.#pump.links.description?.signature;
  }

  /** What of OpenAI's routes its actor answers, once a replica is up. */
  get kinds(): readonly ServedKind[] {
    return this.#pump.links.description?.kinds ?? [];
  }

  /** Loads the first replicas. Rejects with the typed error of the load that failed; nothing is left running then. */
  async start(): Promise<void> {
    const { version, replicas } = this.#spec.options;
    const count = typeof replicas === 'number' ? replicas : Math.max(1, replicas.min);
    await this.#keeper?.check();
    await this.#life.start(() => this.#locate(version), count);
    await this.#keeper?.loadPins();
  }

  /**
   * Sends one record and resolves to its result. Rejects with a TroupeError: MAILBOX_FULL, DEADLINE_PASSED, CANCELLED,
   * PREDICT_FAILED, ACTOR_CRASHED, NO_REPLICA, POOL_STOPPED ...
   */
  ask(input: In, options?: AskOptions): Promise<Out> {
    const rules = options === undefined ? this.#plainRules : resolveAsk(options, this.#spec.options.timeoutMs);
    this.#checkModel('ask', rules.model);
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
    const plan = planAskMany(inputs, options, this.#spec.options.timeoutMs);
    if (plan.names.modelOf === undefined) this.#checkModel('askMany', plan.rules.model);
    const traceparent = this.#traces?.activeTraceparent();
    return new AskMany<In, Out>(this, plan, this.#clock, traceparent).outcomes;
  }

  /** Sends one record without wanting its result. Never throws for the pool's sake: what fails becomes a `dead-letter` event. */
  tell(input: In, options: Omit<AskOptions, 'signal'> = {}): void {
    const rules = resolveAsk(options, this.#spec.options.timeoutMs);
    this.#checkModel('tell', rules.model);
    const refused = this.#offerAsk(input, NOBODY, rules);
    if (refused instanceof TroupeError) this.#voice.emit('dead-letter', { input, error: refused });
  }

  /** Calls a method of the definition on one ready replica, outside the batch path; a pool that sleeps wakes for it. */
  async call(method: string, ...args: readonly unknown[]): Promise<unknown> {
    if (typeof method !== 'string')
      throw new TypeError(`call: expected the name of a method, got a value of type ${typeof method}`);
    if (this.holdsManyModels)
      throw new TypeError(`call: pool "${this.name}" holds many models, and a method is called on the state of one`);
    await this.#life.wake();
    const link = this.#pump.links.anyReady(this.#core.fleet.list.filter((cell) => this.#core.fleet.isMain(cell)));
    if (link !== undefined) return link.call(method, args);
    throw (
      this.#core.failure ??
      new TroupeError('NO_REPLICA', `Pool "${this.name}" has no ready replica to call "${method}" on`, {
        actor: this.name,
      })
    );
  }

  /**
   * Loads and warms `version` beside the serving one, or in its places by `strategy`, shifts the work to it at once, or by a
   * share of it first, watches it as long as it is told to, and frees the old one. Resolves when the old one is gone or only
   * kept. Rejects with SWAP_ROLLED_BACK, and the old version serves, when the new one does not come up, has another signature, fails or slows down while
   * it is watched, or when a newer swap or `rollback` ended it. The newest swap wins; swaps and scalings run one after
   * another. Two versions are resident at most.
   *
   * In a pool of many models it is one of them, `options.model`, that changes its version: the new one is loaded wherever
   * the old one is, then all records that name the model without a version go to it.
   */
  swap(version: string | number, options: SwapOptions = {}): Promise<void> {
    return this.holdsManyModels ? this.#swapModel(version, options) : this.#rollouts.swap(version, options);
  }

  /** What `swap` would do with these arguments, without doing it. Rejects where there is no such version. */
  planSwap(version: string | number, options: SwapOptions = {}): Promise<SwapPreview> {
    if (this.holdsManyModels)
      throw new TypeError(`planSwap: pool "${this.name}" holds many models; their swaps have one step, the load`);
    return this.#rollouts.plan(version, options);
  }

  /** Ends the watch over a new version in its favour. Rejects with NO_ROLLOUT where none is on trial. */
  promote(): Promise<void> {
    return this.#rollouts.promote();
  }

  /**
   * While a version is being rolled out: gives it up, the old one serves on. Afterwards: brings the version before back, at
   * once where it is kept (`keepPreviousMs`), else loaded beside the serving one like any other. Rejects with NO_ROLLOUT where there is neither.
   */
  rollback(): Promise<void> {
    return this.#rollouts.rollback();
  }

  /** What serves, what served before, and what is being rolled out. */
  versions(): PoolVersions {
    return this.#rollouts.versions();
  }

  /**
   * Changes the number of replicas; what is too many finishes its batch first. Resolves when all are ready. A pool that
   * scales by itself takes a number between its bounds, 0 too where min is 0, and goes on from there.
   */
  scale(replicas: number): Promise<void> {
    return this.#life.scale(replicas);
  }

  /**
   * Ends every replica when its batch is done and starts all anew, those of a failed pool too, with fresh restart budgets;
   * what waits in the mailbox goes on waiting. Resolves when all are ready, rejects when the pool fails again; with
   * HASH_MISMATCH before anything has ended where the files are not those that are pinned.
   */
  async restart(): Promise<void> {
    const { links } = this.#pump;
    await links.checkFiles(this.#core.fleet.servingGeneration);
    await this.#life.restart();
  }

  /**
   * Takes no more records and resolves when the last one held is settled and the last token stream has ended. The replicas
   * stay up until `stop`. With `timeoutMs` rejects with DRAIN_OVERDUE when that is over: nothing is given up, and the drain
   * goes on.
   */
  drain(options: DrainOptions = {}): Promise<void> {
    return this.#life.drain(options);
  }

  /** What it holds, in words, for those who wait for its end. */
  underWay(): string {
    return this.#life.underWay();
  }

  /** Drains for at most timeoutMs, rejects what is left with POOL_STOPPED, and stops every replica. May be called twice. */
  stop(options: StopOptions = {}): Promise<StopReport> {
    this.#cached?.tell();
    return this.#life.stop(options);
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
      latencyMs: this.#callers.latency.summary(),
      queueWaitMs: this.#callers.queueWait.summary(),
      calls: this.#calls,
      breaker: this.#breaker,
      cache: this.#cached?.meter,
      probes: this.#readiness.counts,
      probesInFlight: this.#readiness.inFlightCount,
      isWaiting: (cell: number) => this.#pump.links.isWaiting(cell),
      startedAt: this.#startedAt,
    };
    return poolStats(this.#core, edge, this.#clock.now());
  }

  /**
   * Whether it would answer a record now, found out by a probe that goes the way of a record up to predict. Resolves
   * within half a second; also true while replicas are busy with batches that need not have ended yet. An ensemble is ready
   * when the pools that it asks are, too.
   */
  async health(): Promise<PoolHealth> {
    const { ensembles } = this.#spec;
    if (ensembles === undefined) return this.#readiness.check();
    const [own, steps] = await Promise.all([this.#readiness.check(), ensembles.health(this.name)]);
    return own.ready && !steps.ready ? steps : own;
  }

  /** Of an ensemble, the graph that serves; undefined for every other pool. */
  get ensemble(): ShownScheduling | undefined {
    const located = this.#pump.links.files.of(this.#core.fleet.servingGeneration);
    const scheduling = located?.config?.config.ensemble_scheduling;
    return scheduling === undefined ? undefined : this.#spec.ensembles?.shown(scheduling);
  }

  /** For the metrics of the system. */
  meters(): PoolMeters {
    return {
      stats: this.stats(),
      tags: tagText(this.#spec.metricTags ?? {}),
      maxBatchSize: this.#spec.options.batching.maxSize,
      latencyMs: this.#callers.latency,
      queueWaitMs: this.#callers.queueWait,
      calls: this.#calls,
      cache: this.#cached?.meter,
      versions: this.versions(),
      shadow: this.#rollouts.shadowTotals,
      shadowDropped: this.#core.counts.shadowDropped,
      split: this.#core.fleet.rollout?.split?.seen,
      told: this.#voice.told,
      residentBytes: this.#pump.links.residentBytes(),
    };
  }

  /** In a pool of many models: the names that can be asked for. */
  modelNames(): readonly string[] {
    return this.#many('modelNames').names();
  }

  /**
   * In a pool of many models: loads one before the first record for it comes, where no replica holds it yet. Rejects with
   * what its load threw, MODEL_NOT_FOUND or MODEL_TOO_LARGE.
   */
  async preload(model: string): Promise<void> {
    if (typeof model !== 'string') throw new TypeError(`preload: expected the name of a model, got ${typeof model}`);
    const keeper = this.#many('preload');
    this.#life.refuseUnlessRunning('preload');
    await this.#life.wake();
    await keeper.preload(model);
  }

  /**
   * In a pool of many models: has one go wherever it is held, as soon as it has no work left; the event `model-evicted` tells
   * of it. The next record for it loads it again. False: it is pinned, and stays. Throws MODEL_NOT_FOUND.
   */
  unload(model: string): boolean {
    if (typeof model !== 'string') throw new TypeError(`unload: expected the name of a model, got ${typeof model}`);
    const keeper = this.#many('unload');
    this.#life.refuseUnlessRunning('unload');
    return keeper.unload(model);
  }

  /** In a pool of many models: the tensors of one by its newest load, once it has been loaded and if it has any. */
  signatureOf(model: string): Signature | undefined {
    return this.#many('signatureOf').signatureOf(model);
  }

  /**
   * What the classes of outputs are called, by the files of a version that has answered; in a pool of many models, of that
   * version of `model`. Rejects as the load of that model does, where its files have to be looked for anew.
   */
  async labelsOf(version: string | undefined, model?: string): Promise<ModelLabels | undefined> {
    if (model !== undefined) return this.#many('labelsOf').labelsOf(modelKey(model, version));
    return this.#pump.links.files.ofVersion(version)?.labels;
  }

  // ------------------------------------------------- InferTarget: the bulk path

  get holdsManyModels(): boolean {
    return this.#keeper !== undefined;
  }

  get inFlightBatches(): number {
    return this.#core.ledger.size;
  }

  openSender(_name: string): number {
    return ++this.#lastSender;
  }

  closeSender(sender: number): void {
    this.#cached?.closeSender(sender);
    this.#pump.room.remove(sender);
    this.#turn.schedule();
  }

  offer(submission: Submission<In, Out>): PoolTicket | undefined {
    return this.#offerBulk(submission, 'try');
  }

  /** As `offer`, where the overflow rule of the pool decides about a full mailbox, as it does for an ask: always a ticket. */
  offerAsked(submission: Submission<In, Out>): PoolTicket {
    return this.#offerBulk(submission, this.#spec.options.mailbox.overflow) ?? NO_TICKET;
  }

  onRoom(sender: number, callback: () => void): void {
    if (this.#cached?.onRoom(sender, callback) === true) return;
    this.#pump.room.add(sender, callback);
    this.#turn.schedule();
  }

  flush(): void {
    this.#core.flush(this.#clock.now());
    this.#turn.schedule();
  }

  /** How often a record is sent to a replica at most, where replicas die under it. */
  get attempts(): number {
    return this.#spec.options.attempts;
  }

  /** Whether predict may run again for a record that may have run; known once a replica is up. */
  get repeatable(): boolean | undefined {
    return this.#pump.links.description?.repeatable;
  }

  /** For tickets: one accepted request is given up. */
  cancelRequest(request: Request, reason: unknown): void {
    this.#core.cancel(request, reason);
    this.#turn.schedule();
  }

  // --------------------------------------------------- for the supervisor only

  /** Ends every replica but keeps the mailbox; resolves when the last has ended. */
  hold(): Promise<void> {
    return this.#life.hold();
  }

  /** Starts again after `hold` or after failing; rejects when it fails again. */
  release(): Promise<void> {
    return this.#life.release();
  }

  // ------------------------------------------------------------------- private

  #offerAsk(input: In, owner: Owner, rules: AskRules): Request | TroupeError | undefined {
    const now = this.#clock.now();
    const { overflow } = this.#spec.options.mailbox;
    return this.#intake.offer(input, owner, rules, now + rules.timeoutMs, overflow, now);
  }

  #offerBulk(submission: Submission<In, Out>, overflow: Overflow): PoolTicket | undefined {
    const now = this.#clock.now();
    const refused = this.#intake.offer(submission.input, submission, submission, submission.deadlineAt, overflow, now);
    if (refused instanceof Request) return new RequestTicket(this, refused);
    if (refused === undefined) return undefined;
    // Refused for good: it counts as accepted and settled at once, so that the caller has one way to hear of it.
    process.nextTick(() => submission.settled({ ok: false, error: refused }));
    return NO_TICKET;
  }

  /** Apart from `ask`, so that one without a signal makes no closure. */
  #watch(request: Request, owner: AskOwner<Out>, signal: AbortSignal): void {
    owner.watch(() => this.cancelRequest(request, signal.reason));
  }

  #hear(news: PoolNews): void {
    this.#milestones.hear(news);
    this.#cached?.hear(news);
    const details = this.#rollouts.detailsOf(news);
    this.#rollouts.hear(news);
    // What its listeners ask for, they ask of a pool that knows its news.
    this.#voice.tell(news, details);
    this.#keeper?.hear(news);
  }

  #many(where: string): ModelKeeper {
    if (this.#keeper === undefined)
      throw new TypeError(`${where}: pool "${this.name}" holds one model; spawn it with models to hold many`);
    return this.#keeper;
  }

  /** Wrong use is told at once. */
  #checkModel(where: string, model: string | undefined): void {
    if (this.#keeper === undefined) {
      if (model !== undefined)
        throw new TypeError(
          `${where}: pool "${this.name}" holds one model, so no model can be named; got ${JSON.stringify(model.slice(0, 100))}`,
        );
    } else if (model === undefined)
      throw new TypeError(`${where}: pool "${this.name}" holds many models; say which, as in { model: 'name' }`);
  }

  async #swapModel(version: string | number, options: SwapOptions): Promise<void> {
    const { version: wanted } = planSwap(version, {});
    checkOptions('swap', options);
    const { model, ...rest } = options;
    if (typeof model !== 'string')
      throw new TypeError(`swap: pool "${this.name}" holds many models; say which, as in { model: 'name' }`);
    const [other] = Object.keys(rest);
    if (other !== undefined) throw new TypeError(`swap: ${other} is not for one of many models; expected model alone`);
    const keeper = this.#many('swap');
    await this.#life.operation(async () => {
      this.#life.refuseUnlessRunning('swap');
      await this.#life.wake();
      const { from, to } = await keeper.swap(model, wanted);
      if (from !== to) this.#voice.emit('model-swapped', { model, from: versionOf(from), to: versionOf(to) });
    });
  }

  #keeperOf(core: PoolCore, pump: Pump): ModelKeeper | undefined {
    const { models: options, loadTimeoutMs } = this.#spec.options;
    const { models: desk } = core;
    if (options === undefined || desk === undefined) return undefined;
    const repository = options.root === undefined ? this.#models : this.#models.withRoots([options.root]);
    const clock = this.#clock;
    if (repository.roots.length === 0 && options.list === undefined)
      throw new TypeError(
        `spawn "${this.name}": models needs a root, a list, or models.roots of the system: nothing says which models there are`,
      );
    const catalog = new ModelCatalog({ pool: this.name, options, repository, now: () => clock.now() });
    const { pin } = options;
    const { links } = pump;
    const afterEvent = (): void => pump.afterEvent();
    return new ModelKeeper({ pool: this.name, core, desk, links, catalog, clock, pin, loadTimeoutMs, afterEvent });
  }

  async #locate(wanted: string): Promise<LocatedVersion> {
    const { model: name } = this.#spec.options;
    if (name === undefined)
      return { version: wanted === LATEST ? undefined : checkName('version', wanted), model: undefined };
    const model = await locateModel(this.name, this.#models, name, wanted);
    return { version: model.version, model };
  }
}
