/**
 * What the verbs do, to a system in the same process. Both ways in end here: the socket and `system.repl()`.
 *
 * O1 what is not in the grammar, or does not fit its schema, is refused before anything is looked up.
 * O2 a verb that may change something is refused to those who may only read, and is told to the audit before it begins and
 *    when it has ended, or was refused. The audit never holds a record.
 */
import type { SwapStrategy } from '../core/rollout.js';
import type { Pool } from '../actor/pool.js';
import type { RolloutNotice } from '../actor/pool-events.js';
import type { ModelStats } from '../actor/stats.js';
import type { RollbackRules, ShadowOptions, SwapOptions } from '../actor/swap-options.js';
import type { System } from '../actor/system.js';
import type { Verification } from '../actor/verification.js';
import { type ExplainedValue, explainConfig, originText } from '../config/explain.js';
import { suggest } from '../config/suggest.js';
import { modelKey } from '../core/model-key.js';
import { jsonSafe } from '../stream/json-safe.js';
import { type Clock, systemClock } from '../kernel/clock.js';
import { deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import type { Log } from '../telemetry/log.js';
import { toFault } from '../wire/fault.js';
import type { Signature } from '../wire/tensor.js';
import { gathered, giveUp, isTokenStream } from '../wire/token-stream.js';
import type { AskAnswer, ExplainAnswer, LettersAnswer, PoolLine, PsAnswer, VersionsAnswer } from './answers.js';
import type { Convergence } from './convergence.js';
import type { ControlEvent, EventLog } from './event-log.js';
import { type Access, VERB_NAMES, VERBS, verbNamed } from './grammar.js';
import { tensorsOf } from './json-record.js';
import type { FailureBoard } from './failure-board.js';
import { plainText } from './text.js';

export interface OperationsParts {
  readonly system: System;
  readonly events: EventLog;
  readonly board: FailureBoard;
  readonly log: Log;
  readonly convergence: Convergence;
  readonly clock?: Clock;
}

/** Who asks, and what they may do. */
export interface Caller {
  /** For the audit, such as `connection 3 (troupe repl)`. */
  readonly who: string;
  readonly access: Access;
  /** Aborted: nobody waits for the answer any more. What changes the system goes on all the same. */
  readonly signal: AbortSignal;
}

/** With which a tail begins, unless it is told otherwise. */
const PAST_EVENTS = 10;

export class Operations {
  readonly #parts: OperationsParts;
  readonly #clock: Clock;
  readonly #startedAt: number;

  constructor(parts: OperationsParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
    this.#startedAt = this.#clock.now();
  }

  get events(): EventLog {
    return this.#parts.events;
  }

  get log(): Log {
    return this.#parts.log;
  }

  get upMs(): number {
    return this.#clock.now() - this.#startedAt;
  }

  /**
   * `hear` is told events of the past and then those to come, of one pool where it is named, until the function that comes
   * back is called. Throws as `run` rejects.
   */
  tail(given: unknown, hear: (event: ControlEvent) => void): () => void {
    const { params } = checkCall('tail', given);
    const { pool, last = PAST_EVENTS } = params;
    if (pool !== undefined) this.#pool(pool);
    const { events } = this.#parts;
    for (const event of events.last(last, pool)) hear(event);
    return events.listen((event) => {
      if (pool === undefined || event.pool === pool) hear(event);
    });
  }

  /** Carries out one verb and resolves to its answer. Rejects with the error that the same call in code would give. */
  async run(name: string, params: unknown, caller: Caller): Promise<unknown> {
    const checked = checkCall(name, params);
    if (VERBS[checked.verb].access === 'read') return this.#carryOut(checked, caller);
    return this.#audited(checked, caller);
  }

  /** O2. */
  async #audited(call: CheckedCall, caller: Caller): Promise<unknown> {
    const words = callText(call);
    const pool = call.params.pool;
    if (caller.access !== 'write') {
      this.#audit(`refused: ${words} by ${caller.who}, which may only read`, pool);
      throw new TroupeError('CONTROL_REFUSED', `${call.verb} changes something, and this connection may only read`);
    }
    this.#audit(`begun: ${words} by ${caller.who}`, pool);
    const startedAt = this.#clock.now();
    const took = (): string => `after ${Math.round(this.#clock.now() - startedAt)} ms`;
    try {
      const answer = await this.#carryOut(call, caller);
      this.#audit(`done: ${words} by ${caller.who} ${took()}`, pool);
      return answer;
    } catch (error) {
      const { code, name, message } = toFault(error);
      this.#audit(`failed: ${words} by ${caller.who} ${took()}: ${code ?? name}: ${message}`, pool);
      throw error;
    }
  }

  #audit(message: string, pool: string | undefined): void {
    this.#parts.events.add('audit', message, pool);
    try {
      this.#parts.log({ level: 'audit', message, ...(pool === undefined ? {} : { pool }) });
    } catch (error) {
      // The log is foreign code: what it throws must neither stop the verb nor be lost.
      process.nextTick(() => {
        throw error;
      });
    }
  }

  async #carryOut({ verb, params }: CheckedCall, caller: Caller): Promise<unknown> {
    switch (verb) {
      case 'ps':
        return this.#ps();
      case 'stats':
        return params.pool === undefined ? this.#parts.system.stats() : this.#pool(params.pool).stats();
      case 'versions':
        return this.#versions(this.#pool(params.pool));
      case 'explain':
        return this.#explain(params.pool);
      case 'deadLetters':
        return this.#deadLetters(params.pipeline);
      case 'plan':
        return this.#parts.convergence.plan(params.file);
      case 'apply':
        return this.#parts.convergence.apply(params.file, {
          ...swapOptions(params, undefined),
          ...(params.drainTimeoutMs === undefined ? {} : { drainTimeoutMs: params.drainTimeoutMs }),
        });
      case 'ask':
        return this.#ask(this.#pool(params.pool), params, caller);
      case 'swap': {
        const pool = this.#pool(params.pool);
        await pool.swap(params.version as string, swapOptions(params, pool.signature));
        return poolLine(pool);
      }
      case 'canary': {
        const pool = this.#pool(params.pool);
        await untilBaking(pool, params.version as string, {
          ...swapOptions(params, pool.signature),
          canary: params.share as number,
        });
        return this.#versions(pool);
      }
      case 'shadow': {
        const pool = this.#pool(params.pool);
        const { share, tolerance, minAgreement } = params;
        await untilBaking(pool, params.version as string, {
          ...swapOptions(params, pool.signature),
          shadow: {
            ...(share === undefined ? {} : { share }),
            ...(tolerance === undefined ? {} : { tolerance }),
            ...(minAgreement === undefined ? {} : { minAgreement }),
          },
        });
        return this.#versions(pool);
      }
      case 'promote': {
        const pool = this.#pool(params.pool);
        await pool.promote();
        return poolLine(pool);
      }
      case 'rollback': {
        const pool = this.#pool(params.pool);
        await pool.rollback();
        return poolLine(pool);
      }
      case 'scale': {
        const pool = this.#pool(params.pool);
        await pool.scale(params.replicas as number);
        return poolLine(pool);
      }
      case 'restart': {
        const pool = this.#pool(params.pool);
        await pool.restart();
        return poolLine(pool);
      }
      case 'preload': {
        const pool = this.#pool(params.pool);
        await pool.preload(params.model as string);
        return poolLine(pool);
      }
      case 'unload': {
        const pool = this.#pool(params.pool);
        if (!pool.unload(params.model as string))
          throw new TypeError(
            `unload: model ${quote(String(params.model))} of pool "${pool.name}" is pinned, and stays`,
          );
        return poolLine(pool);
      }
      case 'drain': {
        const pool = this.#pool(params.pool);
        const { timeoutMs } = params;
        await pool.drain(timeoutMs === undefined ? {} : { timeoutMs });
        return poolLine(pool);
      }
      case 'tail':
        throw new TypeError('run: tail gives many answers; use tail()');
    }
  }

  #pool(name: string | undefined): Pool<any, any> {
    const found = name === undefined ? undefined : this.#parts.system.get(name);
    if (found !== undefined) return found;
    throw unknownPool(String(name), this.#parts.system.names());
  }

  #ps(): PsAnswer {
    const { system } = this.#parts;
    return {
      system: system.name,
      pid: process.pid,
      upMs: Math.round(this.upMs),
      pools: system
        .names()
        .flatMap((name) => system.get(name) ?? [])
        .map((pool) => poolLine(pool)),
      pipelines: system.registry.runs(),
      refused: system.registry.refusals(),
    };
  }

  #versions(pool: Pool<any, any>): VersionsAnswer {
    if (pool.holdsManyModels) return manyVersions(pool);
    const replicas: Record<string, number> = {};
    for (const { state, version } of pool.stats().replicas) {
      if (state !== 'ready' || version === undefined) continue;
      replicas[version] = (replicas[version] ?? 0) + 1;
    }
    const { model } = pool;
    const listing = model === undefined ? undefined : this.#parts.system.models.model(model);
    return {
      pool: pool.name,
      ...pool.versions(),
      replicas,
      available: listing?.versions ?? [],
      aliases: Object.fromEntries(Object.entries(listing?.aliases ?? {})),
    };
  }

  #explain(pool: string | undefined): ExplainAnswer {
    const { convergence, system } = this.#parts;
    const { loaded } = convergence;
    if (loaded === undefined) {
      throw new TypeError('explain: the system was not made from a config file, so there is nothing to explain');
    }
    if (pool !== undefined) this.#pool(pool);
    const wanted = pool === undefined ? undefined : `pools.${pool}.`;
    const running = new Set(system.names());
    const isShown = ({ path }: ExplainedValue): boolean => wanted === undefined || path.startsWith(wanted);
    if (wanted !== undefined && !Object.hasOwn(loaded.config.pools, pool as string) && running.has(pool as string)) {
      throw new TypeError(`explain: pool "${pool}" was spawned by code and is not in ${loaded.file}`);
    }
    const values = explainConfig(loaded)
      .filter(isShown)
      .map((value) => ({ ...value, from: originText(loaded.file, value) }));
    return { file: loaded.file, values };
  }

  #deadLetters(pipeline: string | undefined): LettersAnswer {
    const { board } = this.#parts;
    const names = board.pipelines();
    if (pipeline !== undefined && !names.includes(pipeline)) {
      const advice = adviceFor(pipeline, names, 'pipelines');
      throw new TypeError(`deadLetters: there is no pipeline ${quote(pipeline)}; ${advice}`);
    }
    const files = Object.entries(board.files()).filter(([name]) => pipeline === undefined || name === pipeline);
    return { letters: board.letters(pipeline), files: Object.fromEntries(files) };
  }

  async #ask(pool: Pool<any, any>, params: Params, { signal }: Caller): Promise<AskAnswer> {
    const { record, timeoutMs, model } = params;
    let { signature } = pool;
    if (model !== undefined && pool.holdsManyModels) {
      // Whether JSON is to become tensors is known once it has been loaded.
      await pool.preload(model);
      signature = pool.signatureOf(model);
    }
    const options = {
      signal,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(model === undefined ? {} : { model }),
    };
    // Not `ask`, which does not tell the version.
    const [outcome] = await pool.askMany([tensorsOf(record, signature)], options);
    if (outcome?.ok === false) throw outcome.error;
    const value: unknown = outcome?.value;
    if (!isTokenStream(value)) return { value: jsonSafe(value), version: outcome?.version };
    const quit = (): void => giveUp(value);
    signal.addEventListener('abort', quit);
    try {
      return { value: jsonSafe(await gathered(value, PIECES_MAX)), version: outcome?.version };
    } finally {
      signal.removeEventListener('abort', quit);
    }
  }
}

/** Of a token stream: more would not fit into an answer. */
const PIECES_MAX = 10_000;

/** The parameters of all verbs together; the schema of each says which it has. */
interface Params {
  readonly pool?: string;
  readonly pipeline?: string;
  readonly file?: string;
  readonly version?: string;
  readonly replicas?: number;
  readonly record?: unknown;
  readonly timeoutMs?: number;
  readonly last?: number;
  readonly model?: string;
  readonly canary?: number;
  readonly share?: number;
  readonly strategy?: SwapStrategy;
  readonly shadow?: number | ShadowOptions;
  readonly tolerance?: number;
  readonly minAgreement?: number;
  readonly drainTimeoutMs?: number;
  readonly bakeMs?: number;
  readonly keepPreviousMs?: number;
  readonly verify?: Verification;
  readonly rollbackOn?: RollbackRules;
}

function swapOptions(params: Params, signature: Signature | undefined): SwapOptions {
  const { model, strategy, canary, shadow, bakeMs, keepPreviousMs, verify, rollbackOn } = params;
  const records = verify?.records.map((record) => tensorsOf(record, signature)) ?? [];
  return {
    ...(verify === undefined ? {} : { verify: { ...verify, records } }),
    ...(model === undefined ? {} : { model }),
    ...(strategy === undefined ? {} : { strategy }),
    ...(canary === undefined ? {} : { canary }),
    ...(shadow === undefined ? {} : { shadow }),
    ...(bakeMs === undefined ? {} : { bakeMs }),
    ...(keepPreviousMs === undefined ? {} : { keepPreviousMs }),
    ...(rollbackOn === undefined ? {} : { rollbackOn }),
  };
}

/** Resolves when the version has its share of the records, or is shown it; what comes of it is told by events. Rejects as the swap does. */
async function untilBaking(pool: Pool<any, any>, version: string, options: SwapOptions): Promise<void> {
  const baking = deferred<void>();
  const hear = ({ step }: RolloutNotice): void => {
    if (step === 'baking') baking.resolve();
  };
  pool.on('rollout', hear);
  const swapped = pool.swap(version, options);
  // The very same trial is on already.
  if (pool.versions().step === 'baking') baking.resolve();
  try {
    await Promise.race([baking.promise, swapped]);
  } finally {
    pool.off('rollout', hear);
    // Later than the bake begins, its end is for those who listen to events.
    swapped.catch(() => undefined);
  }
}

export interface CheckedCall {
  readonly verb: keyof typeof VERBS;
  readonly params: Params;
}

/** O1: throws a TypeError that says what there is, or which parameter expected what. */
export function checkCall(name: string, params: unknown): CheckedCall {
  const verb = verbNamed(name);
  if (verb === undefined)
    throw new TypeError(`there is no verb ${quote(name)}; ${adviceFor(name, VERB_NAMES, 'verbs')}`);
  const result = verb.params.safeParse(params);
  if (result.success) return { verb: name as keyof typeof VERBS, params: result.data as Params };
  const issues = result.error.issues.slice(0, ISSUES_MAX).map(({ path, message }) => {
    return path.length === 0 ? message : `${path.join('.')}: ${message}`;
  });
  throw new TypeError(`${name}: ${plainText(issues.join('; ').slice(0, WORDS_MAX))}`);
}

const ISSUES_MAX = 5;
const WORDS_MAX = 1000;

function unknownPool(name: string, known: readonly string[]): TroupeError {
  return new TroupeError('POOL_NOT_FOUND', `There is no pool ${quote(name)}; ${adviceFor(name, known, 'pools')}`);
}

/** What there is, and what was most likely meant. */
export function adviceFor(word: string, known: readonly string[], what: string): string {
  const near = suggest(word, known);
  const all = known.length === 0 ? `there are no ${what}` : `the ${what} are ${known.join(', ')}`;
  return near === undefined ? all : `did you mean ${near}? ${all[0]?.toUpperCase()}${all.slice(1)}`;
}

/** Of a pool of many models: how many replicas hold which, and the names there are. */
function manyVersions(pool: Pool<any, any>): VersionsAnswer {
  const replicas: Record<string, number> = {};
  for (const { model, version } of pool.stats().models?.resident ?? []) {
    const key = modelKey(model, version);
    replicas[key] = (replicas[key] ?? 0) + 1;
  }
  return { pool: pool.name, ...pool.versions(), replicas, available: pool.modelNames(), aliases: {} };
}

/** One line of `ps`. */
function poolLine(pool: Pool<any, any>): PoolLine {
  const stats = pool.stats();
  const { next, share } = pool.versions();
  const { replicas, errors, latencyMs, mailbox, scaling } = stats;
  const wanted = replicas.filter(({ state }) => state !== 'draining' && state !== 'stopping' && state !== 'stopped');
  const waiting = replicas.filter(({ isWaiting }) => isWaiting).length;
  return {
    name: stats.name,
    state: stats.state,
    version: stats.version,
    ...(stats.models === undefined ? {} : { models: namesOf(stats.models).size }),
    ...(next === undefined ? {} : { next }),
    ...(share === undefined ? {} : { share }),
    ready: replicas.filter(({ state }) => state === 'ready').length,
    replicas: wanted.length,
    ...(waiting === 0 ? {} : { waiting }),
    ...(scaling && { scaling: { min: scaling.min, max: scaling.max, asleep: scaling.asleep } }),
    held: stats.held,
    capacity: mailbox.capacity,
    results: stats.results,
    errors: Object.values(errors).reduce((total, count) => total + count, 0),
    meanBatchSize: stats.meanBatchSize,
    p50Ms: latencyMs.p50,
    p99Ms: latencyMs.p99,
    restarts: stats.restarts,
  };
}

/** For the audit: everything but records. */
function callText({ verb, params }: CheckedCall): string {
  const words = Object.entries(params).flatMap(([key, value]) => {
    if (key === 'record' || key === 'verify') return [`${key}=…`];
    return [`${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`];
  });
  return [verb, ...words].join(' ');
}

function quote(text: string): string {
  return JSON.stringify(plainText(text.slice(0, NAME_MAX)));
}

const NAME_MAX = 128;

function namesOf({ resident }: ModelStats): ReadonlySet<string> {
  return new Set(resident.map(({ model, version }) => modelKey(model, version)));
}
