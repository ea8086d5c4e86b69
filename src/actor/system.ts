/**
 * A system: the named pools of one application under one supervisor.
 *
 * Owns the pools by name and the supervisor core that says which of them restart together. Does not own what happens
 * inside a pool. Pools stop in reverse order of their spawning, ensembles before the pools that they ask.
 */

import { systemClock } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { EventEmitter } from '../kernel/events.js';
import { z } from '../kernel/schema.js';
import { SupervisorCore, type SupervisorEffect } from '../core/supervisor.js';
import type { StartLink } from '../host/link.js';
import { startLink } from '../host/start-link.js';
import { inTurn, StartTurns } from '../host/start-turns.js';
import { type Log, stderrLog } from '../telemetry/log.js';
import { MetricsRegistry } from '../telemetry/registry.js';
import type { Tracing } from '../telemetry/tracing.js';
import type { ActorDefinition } from '../wire/definition.js';
import { nameSchema, type ModelsOptions, modelsSchema } from '../models/options.js';
import type { ModelConfigFile } from '../models/model-config.js';
import { poolDefaults, withPoolDefaults } from '../models/pool-defaults.js';
import { ModelRepository } from '../models/repository.js';
import { ensembleActor } from './ensemble.js';
import { Ensembles } from './ensembles.js';
import { locateActor, modelDefaults } from './locate.js';
import { checkOptions } from './ask.js';
import { check } from './checked.js';
import { Pool } from './pool.js';
import { type StopOptions, type StopReport, stopTimeoutOf } from './pool-life.js';
import { collectPool } from './pool-metrics.js';
import { type PoolOptions, poolOptionsSchema } from './pool-options.js';
import type { PoolHealth } from './readiness.js';
import { ENSEMBLE } from './ready-made.js';
import type { PoolStats } from './stats.js';

const systemOptionsSchema = z.strictObject({
  name: nameSchema.default('troupe'),
  supervision: z
    .strictObject({
      strategy: z.enum(['one-for-one', 'rest-for-one', 'one-for-all']).default('one-for-one'),
      max: z.number().int().min(0).default(0),
      withinMs: z.number().min(0).default(60_000),
    })
    .prefault({}),
  models: modelsSchema,
  startsAtOnce: z.number().int().min(1).optional(),
});

export interface SystemOptions {
  readonly name?: string;
  /**
   * What happens when a pool has failed, its own restarts being used up. Default: one-for-one with max 0, so that the
   * pool stays failed and the others go on. With max > 0 failed pools are started again, alone (one-for-one), with those
   * spawned after them (rest-for-one), or all together (one-for-all); more than max within withinMs stops the system.
   */
  readonly supervision?: {
    readonly strategy?: 'one-for-one' | 'rest-for-one' | 'one-for-all';
    readonly max?: number;
    readonly withinMs?: number;
  };
  /** Where models lie, and own names of their versions. Default: no roots; pools give their models by path. */
  readonly models?: ModelsOptions;
  /**
   * Threads and child processes, of all pools together, that start at the same time; the others wait for their turn, which
   * comes after two seconds of another one's start at the latest. Default twice as many as there are CPUs to use, 4 at least.
   */
  readonly startsAtOnce?: number;
  /** Makes a span for each batch. Default: none. */
  readonly tracing?: Tracing | undefined;
  /** Where warnings and errors go. Default: one line each on stderr. */
  readonly log?: Log;
}

/** What a pool is spawned with: the options of the config file, and what only code can give. */
export type SpawnOptions<In = any, Out = any> = Omit<PoolOptions, 'actor'> & {
  /** File URL or path of the actor module, the name of a ready-made actor, or (isolation inline only) the definition itself. */
  readonly actor: string | ActorDefinition<In, Out, any>;
  /** Weight of a record, for batching.maxWeight. Default 1 each. */
  readonly weigh?: (input: In) => number;
};

/** The record type of a definition; any where it has none. */
export type InputOf<Definition> = Definition extends { readonly types?: { readonly input: infer In } }
  ? 'types' extends keyof Definition
    ? In
    : any
  : any;
/** The result type of a definition; any where it has none. */
export type OutputOf<Definition> = Definition extends { readonly types?: { readonly output: infer Out } }
  ? 'types' extends keyof Definition
    ? Out
    : any
  : any;

export interface SystemEvents {
  /** A pool has its name and begins to load. */
  spawned: [{ name: string }];
  'pool-failed': [{ name: string; error: TroupeError }];
  'pool-restarted': [{ name: string }];
  /** More pools failed than the intensity forgives: every pool is being stopped. */
  escalated: [{ name: string; why: string }];
}

export interface SystemHealth {
  readonly ready: boolean;
  readonly pools: Readonly<Record<string, PoolHealth>>;
}

export interface SystemStopReport {
  readonly pools: Readonly<Record<string, StopReport>>;
}

/** Makes an empty system. Wrong options throw a TypeError. */
export class System implements AsyncDisposable {
  readonly name: string;
  /** The models on disk: what there is, in which versions, and what is in them. */
  readonly models: ModelRepository;
  readonly #log: Log;
  readonly #startLink: StartLink;
  readonly #tracing: Tracing | undefined;
  readonly #supervisor: SupervisorCore;
  readonly #pools = new Map<string, Pool<any, any>>();
  readonly #ensembles = new Ensembles(this.#pools);
  readonly #starts = new Map<string, Deferred<void>>();
  readonly #events = new EventEmitter<SystemEvents>();
  /** Who counts something for this system says so here, and `metrics()` has it. */
  readonly registry = new MetricsRegistry();
  readonly #endings = new Set<() => unknown>();
  readonly #reports = Object.create(null) as Record<string, StopReport>;
  /** Pools stopped for good, which a restart going on at the same time must not hold for later. */
  readonly #toldFields = new Set<string>();
  readonly #leaving = new WeakSet<Pool<any, any>>();
  #stopping: Promise<SystemStopReport> | undefined;
  #stopOptions: StopOptions = {};

  constructor(options: SystemOptions = {}) {
    checkOptions('createSystem', options);
    const { log, tracing, ...plain } = options;
    if (log !== undefined && typeof log !== 'function')
      throw new TypeError(`createSystem: log must be a function, got ${typeof log}`);
    const resolved = check('createSystem', systemOptionsSchema, plain);
    this.name = resolved.name;
    this.models = new ModelRepository(resolved.models);
    this.#log = log ?? stderrLog;
    this.#startLink = inTurn(startLink, new StartTurns(resolved.startsAtOnce));
    this.#tracing = tracing === undefined ? undefined : checkTracing(tracing);
    const { strategy, max, withinMs } = resolved.supervision;
    this.#supervisor = new SupervisorCore({ strategy, intensity: { max, withinMs } });
  }

  /**
   * Starts a pool and resolves to it when every replica has loaded and warmed up. Rejects with the typed error of the
   * load (ACTOR_INVALID, ACTOR_LOAD_FAILED, MODEL_NOT_FOUND, ENGINE_NOT_INSTALLED ...), leaving nothing behind and the
   * other pools alone; wrong options throw a TypeError that names option, expectation and value.
   *
   * The pool has the record types of the definition. Where the actor is a module, say whose: `import type shout from
   * './shout.js'` and `spawn<typeof shout>(...)`, or name them: `spawn<string, string>(...)`.
   */
  spawn<Definition extends ActorDefinition<any, any, any>>(
    name: string,
    options: SpawnOptions<InputOf<Definition>, OutputOf<Definition>> & { readonly actor: string | Definition },
  ): Promise<Pool<InputOf<Definition>, OutputOf<Definition>>>;
  spawn<In, Out>(name: string, options: SpawnOptions<In, Out>): Promise<Pool<In, Out>>;
  async spawn<In, Out>(name: string, options: SpawnOptions<In, Out>): Promise<Pool<In, Out>> {
    check(`name of the pool`, nameSchema, name);
    if (this.#stopping !== undefined)
      throw new TroupeError('POOL_STOPPED', `System "${this.name}" is stopping and spawns no pool "${name}"`);
    if (this.#pools.has(name))
      throw new TypeError(`spawn: a pool named "${name}" exists already; every pool has its own name`);
    const pool = new Pool<In, Out>(this.#specOf(name, options), {
      startLink: this.#startLink,
      log: this.#log,
      metrics: this.registry,
      tracing: this.#tracing,
      models: this.models,
    });
    this.#pools.set(name, pool);
    pool.on('stopped', this.registry.add({ collect: (into) => collectPool(into, pool.meters()) }));
    pool.on('failed', ({ error }) => this.#failed(name, error));
    pool.on('stopped', () => this.#stoppedItself(name, pool));
    const started = deferred<void>();
    this.#starts.set(name, started);
    this.#events.emit('spawned', { name });
    if (options.actor === ENSEMBLE) void this.#startAfterSteps(name, pool, started);
    else this.#carryOut(this.#supervisor.add(name, 'permanent'));
    await started.promise;
    return pool;
  }

  /** The pool of that name, also while it loads. */
  get<In = any, Out = any>(name: string): Pool<In, Out> | undefined {
    return this.#pools.get(name);
  }

  /** Stops one pool for good; its name is free afterwards. */
  async stopPool(name: string, options: StopOptions = {}): Promise<StopReport | undefined> {
    const pool = this.#pools.get(name);
    stopTimeoutOf(options);
    if (pool === undefined) return undefined;
    this.#stopOptions = options;
    this.#leaving.add(pool);
    const report = pool.stop(options);
    this.#carryOut(this.#supervisor.remove(name));
    return report;
  }

  /** The names of the pools there are, in the order of their spawning. */
  names(): readonly string[] {
    return [...this.#pools.keys()];
  }

  stats(): Readonly<Record<string, PoolStats>> {
    return Object.fromEntries([...this.#pools].map(([name, pool]) => [name, pool.stats()]));
  }

  /**
   * Everything the pools of this system and the pipelines that use them count, in the text format of Prometheus; see
   * docs/metrics.md. Counters go on when a pool is stopped or a pipeline ends.
   */
  metrics(): string {
    return this.registry.text();
  }

  /** Calls `end` when the system has stopped, and waits for it. Gives what takes it back. */
  atEnd(end: () => unknown): () => void {
    this.#endings.add(end);
    return () => this.#endings.delete(end);
  }

  /** Whether every pool would answer a record now; see `pool.health()`. Resolves within half a second. */
  async health(): Promise<SystemHealth> {
    const pools = await Promise.all([...this.#pools].map(async ([name, pool]) => [name, await pool.health()] as const));
    const ready = this.#stopping === undefined && pools.every(([, health]) => health.ready);
    return { ready, pools: Object.fromEntries(pools) };
  }

  /**
   * Stops all pools, the last spawned first and ensembles before the pools that they ask; each drains for at most timeoutMs.
   * May be called again, with 0 to end now.
   */
  stop(options: StopOptions = {}): Promise<SystemStopReport> {
    stopTimeoutOf(options);
    this.#stopOptions = options;
    if (this.#stopping !== undefined) {
      if (options.timeoutMs === 0) for (const pool of this.#pools.values()) void pool.stop(options);
      return this.#stopping;
    }
    this.#stopping = this.#stopAll();
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  on<Name extends keyof SystemEvents>(name: Name, listener: (...args: SystemEvents[Name]) => void): this {
    this.#events.on(name, listener as never);
    return this;
  }

  off<Name extends keyof SystemEvents>(name: Name, listener: (...args: SystemEvents[Name]) => void): this {
    this.#events.off(name, listener as never);
    return this;
  }

  #specOf<In, Out>(name: string, options: SpawnOptions<In, Out>): ConstructorParameters<typeof Pool<In, Out>>[0] {
    checkOptions(`spawn "${name}"`, options);
    const { actor, weigh, ...said } = options;
    if (weigh !== undefined && typeof weigh !== 'function')
      throw new TypeError(`spawn "${name}": weigh must be a function, got ${typeof weigh}`);
    const isDefinition = typeof actor === 'object' && actor !== null;
    if (isDefinition && typeof actor.predict !== 'function')
      throw new TypeError(`spawn "${name}": actor must be a definition with a predict function`);
    const file = this.#modelConfig(name, said.model);
    const plain = file === undefined ? said : withPoolDefaults(said, poolDefaults(file));
    const spec = { name, weigh, metricTags: file?.config.metric_tags };
    if (isDefinition) {
      const resolved = check(`spawn "${name}"`, poolOptionsSchema, { isolation: 'inline', ...plain, actor: 'inline' });
      if (resolved.isolation !== 'inline')
        throw new TypeError(
          `spawn "${name}": a definition object runs inline only; for isolation ${resolved.isolation} pass the URL of its module, since functions cannot cross to a ${resolved.isolation}`,
        );
      return { ...spec, options: resolved, actor, isolation: 'inline' };
    }
    const resolved = check(`spawn "${name}"`, poolOptionsSchema, { ...plain, actor });
    if (actor === ENSEMBLE) {
      const ensembles = this.#ensembles;
      return { ...spec, options: resolved, actor: ensembleActor(ensembles), isolation: 'inline', ensembles };
    }
    const located = locateActor(name, resolved.actor);
    return { ...spec, options: resolved, actor: located.url, isolation: resolved.isolation ?? located.isolation };
  }

  /** An ensemble comes after the pools of its steps: it starts when they are up, and stops before them. */
  async #startAfterSteps(name: string, pool: Pool<any, any>, started: Deferred<void>): Promise<void> {
    try {
      // Those that are spawned in the same turn are known after it.
      await Promise.resolve();
      const file = modelDefaults(name, this.models, pool.model as string);
      if (file !== undefined)
        await this.#ensembles.stepsUp(name, file.config, (step) => this.#starts.get(step)?.promise);
      if (this.#pools.get(name) !== pool || this.#stopping !== undefined)
        throw new TroupeError('POOL_STOPPED', `Pool "${name}" was stopped before it started`, { actor: name });
      this.#pools.delete(name);
      this.#pools.set(name, pool);
      this.#carryOut(this.#supervisor.add(name, 'permanent'));
    } catch (error) {
      this.#starts.delete(name);
      this.#leaving.add(pool);
      await pool.stop({ timeoutMs: 0 });
      started.reject(error);
    }
  }

  /** The config.pbtxt of the model, where there is one; tells once what of it has no effect. */
  #modelConfig(pool: string, model: unknown): ModelConfigFile | undefined {
    if (typeof model !== 'string' || model === '') return undefined;
    const file = modelDefaults(pool, this.models, model);
    if (file === undefined) return undefined;
    for (const { field, at, effect } of file.ignored) {
      const place = `${file.file}:${at.line}:${at.col}`;
      if (this.#toldFields.has(place)) continue;
      this.#toldFields.add(place);
      const level = effect === 'later' ? 'warn' : 'info';
      this.#log({ level, message: `${place}: ${field} is read and has no effect here`, pool });
    }
    return file;
  }

  /** Also a pool whose own `stop` was called: its name is free again, and nobody starts it anew. */
  #stoppedItself(name: string, pool: Pool<any, any>): void {
    this.#pools.delete(name);
    // One that fails while it starts is told by the rejection of its start; the others' stops are effects.
    if (this.#starts.has(name) || this.#leaving.has(pool) || this.#stopping !== undefined) return;
    this.#leaving.add(pool);
    this.#carryOut(this.#supervisor.remove(name));
  }

  #failed(name: string, error: TroupeError): void {
    this.#events.emit('pool-failed', { name, error });
    // A pool that fails while it starts is told by the rejection of its start.
    if (!this.#starts.has(name)) this.#carryOut(this.#supervisor.ended(name, 'crash', systemClock.now()));
  }

  #carryOut(effects: readonly SupervisorEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'start':
          void this.#start(effect.id);
          break;
        case 'stop':
          void this.#stopOne(effect.id);
          break;
        case 'escalate':
          this.#log({ level: 'error', message: `system "${this.name}" stops: ${effect.why}`, pool: effect.id });
          this.#events.emit('escalated', { name: effect.id, why: effect.why });
          break;
        case 'failed':
        case 'removed':
          break;
      }
    }
  }

  async #start(name: string): Promise<void> {
    const pool = this.#pools.get(name);
    if (pool === undefined) return;
    const first = this.#starts.get(name);
    try {
      if (first === undefined) await pool.release();
      else await pool.start();
      this.#starts.delete(name);
      this.#carryOut(this.#supervisor.started(name));
      if (first === undefined) this.#events.emit('pool-restarted', { name });
      first?.resolve();
    } catch (error) {
      this.#starts.delete(name);
      if (first !== undefined) {
        this.#leaving.add(pool);
        await pool.stop({ timeoutMs: 0 });
      }
      this.#carryOut(this.#supervisor.startFailed(name, systemClock.now()));
      first?.reject(error);
    }
  }

  async #stopOne(name: string): Promise<void> {
    const pool = this.#pools.get(name);
    if (pool !== undefined) {
      if (this.#supervisor.state === 'restarting' && !this.#leaving.has(pool)) await pool.hold();
      else {
        this.#leaving.add(pool);
        this.#reports[name] = await pool.stop(this.#stopOptions);
      }
    }
    this.#carryOut(this.#supervisor.stopped(name));
  }

  async #stopAll(): Promise<SystemStopReport> {
    // A pool that an ensemble asks may have been stopped and spawned again after it.
    const order = this.#ensembles.inOrder();
    this.#supervisor.arrange(order);
    // Failed pools are no longer supervised but still hold their place; they go with the rest.
    const pools = order.map((name) => [name, this.#pools.get(name) as Pool<any, any>] as const).reverse();
    this.#carryOut(this.#supervisor.stopAll());
    for (const [name, pool] of pools) this.#reports[name] = await pool.stop(this.#stopOptions);
    await Promise.all([...this.#endings].map((end) => end()));
    this.registry.close();
    return { pools: { ...this.#reports } };
  }
}

/** Makes an empty system; pools are spawned into it. `await using` stops it at the end of the block. */
export function createSystem(options: SystemOptions = {}): System {
  return new System(options);
}

function checkTracing(tracing: Tracing): Tracing {
  const { tracer, active } = (tracing ?? {}) as Partial<Tracing>;
  if (typeof tracer?.startSpan !== 'function')
    throw new TypeError('createSystem: tracing.tracer must be a tracer of OpenTelemetry: an object with startSpan');
  if (active !== undefined && typeof active !== 'function')
    throw new TypeError(`createSystem: tracing.active must be a function, got ${typeof active}`);
  return tracing;
}
