import type { InferTarget } from '../actor/infer-target.js';
import { BREAKER_DEFAULTS, type BreakerLimits } from '../core/breaker.js';
import type { Order } from '../core/emission.js';
import type { RetryBudgetLimits } from '../core/retry-budget.js';
import type { Backoff, RetryLimits, RetryRule } from '../core/retry-policy.js';
import { ERROR_CODES, type ErrorCode, type TroupeError } from '../kernel/errors.js';
import type { DeadLetter, RecordInfo } from './envelope.js';
import {
  checkCount,
  checkKeys,
  checkMs,
  checkNumber,
  checkOneOf,
  checkOptionalFunction,
  checkShare,
  checkSink,
  checkSpan,
  refuse,
} from './options.js';
import type { Sink } from './sink.js';

/** `Record` comes in, `In` goes to the actor, `Out` comes back, `Next` goes on. */
export interface InferOptions<Record, In, Out, Next, Substitute> {
  /** What of the record goes to the actor. Default: the record itself. */
  input?: (record: Record, info: RecordInfo) => In;
  /** What goes on. `version` is the model version that made the result. Default: the result. */
  output?: (record: Record, result: Out, version: string | undefined, info: RecordInfo) => Next;
  /**
   * A value given here goes on in the place of the record, which counts as a result, and the actor is not asked.
   * Undefined asks it. Default: every record is asked.
   */
  bypass?: (record: Record, info: RecordInfo) => Next | undefined;
  /**
   * What answers for a record that the actor could not answer, after all tries: a function, a value, or another pool,
   * which gets the same `input` and whose results go through the same `output` unless it has its own; it is asked once,
   * with the whole `timeout` again. Such a record counts as a result and as a fallback. Failures of earlier steps and of
   * functions of this one, and what was cancelled, do not come to it.
   */
  fallback?: Fallback<Record, In, Out, Next>;
  /**
   * Turns a failure into a value that goes on; the record counts as failed. It sees every failed record that reaches
   * the step, those of earlier steps and of the source included; `record` is what the failing step was given.
   */
  failed?: (record: unknown, error: TroupeError, info: RecordInfo) => Substitute;
  /**
   * ordered: as the source gave them. unordered: as they settle. keyed: as the source gave them among those of one
   * `key`, else as they settle. Control elements are never overtaken and never overtake. Default ordered.
   */
  order?: Order;
  /** Of the record, a string; only with order keyed. A record that failed before has none and keeps its place among all. */
  key?: (record: Record, info: RecordInfo) => string;
  /** Which model answers, where the pool holds many: its name, or what gives it for a record. A fallback pool of many gets the same. */
  model?: string | ((record: Record, info: RecordInfo) => string);
  /** Most records between the step's entry and its exit. Default 512. */
  capacity?: number;
  /** Default: none. */
  timeout?: InferTimeout;
  /** Default: one try, beside what the pool itself does for records that a dying replica held. */
  retry?: RetryOptions;
  /** Refuses records with BREAKER_OPEN while too many fail. Default: none. */
  breaker?: Partial<BreakerLimits>;
  /** Higher goes first in the pool; a whole number from -100 to 100. Default 0. */
  priority?: number | ((record: Record, info: RecordInfo) => number);
  /** Where records that fail in this step go; it takes precedence over the one of `to`. Not together with `failed`. */
  deadLetters?: Sink<DeadLetter>;
}

export interface InferTimeout {
  ms: number;
  /**
   * element: each record, from its first acceptance by the pool, over all tries, queueing and backoff included. batch:
   * each try, from its send to a replica. A record whose time is up settles alone, with DEADLINE_PASSED. Default element.
   */
  mode?: 'element' | 'batch';
}

export interface RetryOptions extends Partial<Backoff> {
  /**
   * Retries allowed for each first try, beside a floor of ten in a second, so that retries do not make an overload
   * worse. Infinity for no limit. Default 0.1.
   */
  budget?: number;
  /** By error code: `never`, or values of its own. A code with a rule is retried though it would not be by default. */
  rules?: Readonly<Partial<Record<ErrorCode, RetryRule>>>;
  /**
   * Decides where no rule stands for the code. undefined: as by default, which is every retryable error unless predict
   * itself failed. Throwing makes the failure final.
   */
  retryIf?: (error: TroupeError) => boolean | undefined;
}

export type Fallback<Record, In, Out, Next> =
  | ((record: Record, error: TroupeError, info: RecordInfo) => Next)
  | { readonly value: Next }
  | InferTarget<In, Out>
  | FallbackPool<Record, Next>;

export interface FallbackPool<Record, Next> {
  // any: its input and result types are its own, and TypeScript cannot tie them to `input` and `output` of one object.
  readonly pool: InferTarget<any, any>;
  /** Default: that of the step. */
  readonly input?: (record: Record, info: RecordInfo) => unknown;
  /** Default: that of the step. */
  readonly output?: (record: Record, result: any, version: string | undefined, info: RecordInfo) => Next;
}

type Input = (record: unknown, info: RecordInfo) => unknown;
type Output = (record: unknown, result: unknown, version: string | undefined, info: RecordInfo) => unknown;

/** The options of an infer step with every default filled in. */
export interface InferPlan {
  readonly target: InferTarget<unknown, unknown>;
  readonly input: Input | undefined;
  readonly output: Output | undefined;
  readonly bypass: Input | undefined;
  readonly failed: ((record: unknown, error: TroupeError, info: RecordInfo) => unknown) | undefined;
  readonly fallback: FallbackPlan | undefined;
  readonly order: Order;
  readonly key: Input | undefined;
  /** undefined where the pool holds one model. */
  readonly model: string | Input | undefined;
  readonly capacity: number;
  /** Of a record over all tries; Infinity for none. */
  readonly timeoutMs: number;
  /** Of each try; Infinity for none. */
  readonly callTimeoutMs: number;
  readonly retry: RetryLimits | undefined;
  readonly retryBudget: RetryBudgetLimits;
  readonly breaker: BreakerLimits | undefined;
  readonly priority: number | ((record: unknown, info: RecordInfo) => number);
  readonly deadLetters: Sink<DeadLetter> | undefined;
}

export type FallbackPlan =
  | { readonly kind: 'function'; readonly fn: (record: unknown, error: TroupeError, info: RecordInfo) => unknown }
  | { readonly kind: 'value'; readonly value: unknown }
  | {
      readonly kind: 'pool';
      readonly pool: InferTarget<unknown, unknown>;
      readonly input: Input | undefined;
      readonly output: Output | undefined;
    };

type AnyOptions = InferOptions<unknown, unknown, unknown, unknown, unknown>;

/** Free retries, so that tiny traffic can retry at all: ten in a second. */
const BUDGET_FLOOR = 10;
const BUDGET_WINDOW_MS = 1000;

export function inferPlan(target: unknown, options: AnyOptions): InferPlan {
  if (!isPool(target)) refuse('infer', 'given a pool, such as the one from system.spawn()', target);
  checkKeys('infer', options, [
    'input',
    'output',
    'bypass',
    'fallback',
    'failed',
    'order',
    'key',
    'model',
    'capacity',
    'timeout',
    'retry',
    'breaker',
    'priority',
    'deadLetters',
  ]);
  const { input, output, bypass, failed, order = 'ordered', key, capacity = 512 } = options;
  const { timeout, priority = 0, deadLetters, model } = options;
  checkOptionalFunction('infer.input', input);
  checkOptionalFunction('infer.output', output);
  checkOptionalFunction('infer.bypass', bypass);
  checkOptionalFunction('infer.failed', failed);
  checkOptionalFunction('infer.key', key);
  checkOneOf('infer.order', order, ['ordered', 'unordered', 'keyed']);
  if ((order === 'keyed') !== (key !== undefined)) {
    throw new TypeError(
      order === 'keyed'
        ? 'infer.key must be a function that gives the key of a record where infer.order is keyed, got undefined'
        : `infer.key has a meaning only with infer.order "keyed", got ${JSON.stringify(order)}`,
    );
  }
  if (model !== undefined && typeof model !== 'function' && typeof model !== 'string')
    refuse('infer.model', 'the name of a model, or a function that gives it', model);
  checkModel(target, model);
  checkCount('infer.capacity', capacity);
  if (typeof priority !== 'function' && !isPriority(priority)) {
    refuse('infer.priority', 'a whole number from -100 to 100, or a function that gives one', priority);
  }
  if (timeout !== undefined) {
    checkKeys('infer.timeout', timeout, ['ms', 'mode']);
    checkSpan('infer.timeout.ms', timeout.ms);
    if (timeout.mode !== undefined) checkOneOf('infer.timeout.mode', timeout.mode, ['element', 'batch']);
  }
  if (deadLetters !== undefined) checkSink('infer.deadLetters', deadLetters);
  if (failed !== undefined && deadLetters !== undefined) {
    throw new TypeError(
      'infer: a failed record becomes either a value (failed) or a dead letter (deadLetters), not both',
    );
  }
  const isBatchTimeout = timeout?.mode === 'batch';
  return {
    target,
    input,
    output,
    bypass,
    failed,
    fallback: fallbackPlan(options),
    order,
    key,
    model,
    capacity,
    timeoutMs: timeout === undefined || isBatchTimeout ? Infinity : timeout.ms,
    callTimeoutMs: timeout !== undefined && isBatchTimeout ? timeout.ms : Infinity,
    retry: retryLimits(options.retry),
    retryBudget: { share: options.retry?.budget ?? 0.1, floor: BUDGET_FLOOR, windowMs: BUDGET_WINDOW_MS },
    breaker: breakerLimits(options.breaker),
    priority,
    deadLetters,
  };
}

/** A pool that is known by its promises alone, as one of another process, does not say whether it holds many. */
function checkModel({ name, holdsManyModels }: InferTarget<unknown, unknown>, model: unknown): void {
  if (holdsManyModels === true && model === undefined)
    throw new TypeError(`infer.model must say which model answers: pool "${name}" holds many`);
  if (holdsManyModels === false && model !== undefined)
    throw new TypeError(`infer.model has no meaning here: pool "${name}" holds one model`);
}

function fallbackPlan({ fallback, input, output }: AnyOptions): FallbackPlan | undefined {
  if (fallback === undefined) return undefined;
  if (typeof fallback === 'function') return { kind: 'function', fn: fallback };
  if (isPool(fallback)) return { kind: 'pool', pool: fallback, input, output };
  const isObject = typeof fallback === 'object' && fallback !== null;
  if (isObject && 'pool' in fallback) {
    checkKeys('infer.fallback', fallback, ['pool', 'input', 'output']);
    const { pool } = fallback;
    if (!isPool(pool)) refuse('infer.fallback.pool', 'a pool, such as the one from system.spawn()', pool);
    checkOptionalFunction('infer.fallback.input', fallback.input);
    checkOptionalFunction('infer.fallback.output', fallback.output);
    return { kind: 'pool', pool, input: fallback.input ?? input, output: fallback.output ?? output };
  }
  if (isObject && 'value' in fallback) {
    checkKeys('infer.fallback', fallback, ['value']);
    return { kind: 'value', value: fallback.value };
  }
  return refuse('infer.fallback', 'a function, { value }, a pool, or { pool, input?, output? }', fallback);
}

const BACKOFF: Backoff = { attempts: 1, backoffMs: 50, maxBackoffMs: 2000, multiplier: 2, jitter: 0.5 };

function retryLimits(options: RetryOptions | undefined): RetryLimits | undefined {
  if (options === undefined) return undefined;
  checkKeys('infer.retry', options, [...Object.keys(BACKOFF), 'budget', 'rules', 'retryIf']);
  const { budget, rules = {}, retryIf, ...given } = options;
  const backoff = defined(given);
  checkBackoff('infer.retry', backoff);
  if (budget !== undefined) checkNumber('infer.retry.budget', budget, 0);
  checkOptionalFunction('infer.retry.retryIf', retryIf);
  checkKeys('infer.retry.rules', rules, Object.keys(ERROR_CODES));
  const known: Partial<Record<ErrorCode, RetryRule>> = {};
  for (const [code, rule] of Object.entries(defined(rules)) as [ErrorCode, RetryRule][]) {
    const where = `infer.retry.rules.${code}`;
    known[code] = rule;
    if (rule === 'never') continue;
    if (typeof rule !== 'object' || rule === null) refuse(where, '"never" or an object of options', rule);
    checkKeys(where, rule, Object.keys(BACKOFF));
    checkBackoff(where, rule);
    known[code] = defined(rule);
  }
  return { ...BACKOFF, ...backoff, rules: known, retryIf };
}

function checkBackoff(where: string, backoff: Partial<Backoff>): void {
  const { attempts = 1, backoffMs = 0, maxBackoffMs = 0, multiplier = 1, jitter = 0 } = backoff;
  checkCount(`${where}.attempts`, attempts);
  checkMs(`${where}.backoffMs`, backoffMs);
  checkMs(`${where}.maxBackoffMs`, maxBackoffMs);
  checkNumber(`${where}.multiplier`, multiplier, 1);
  checkShare(`${where}.jitter`, jitter);
}

function breakerLimits(options: Partial<BreakerLimits> | undefined): BreakerLimits | undefined {
  if (options === undefined) return undefined;
  checkKeys('infer.breaker', options, Object.keys(BREAKER_DEFAULTS));
  const limits = { ...BREAKER_DEFAULTS, ...defined(options) };
  checkSpan('infer.breaker.windowMs', limits.windowMs);
  checkCount('infer.breaker.minCalls', limits.minCalls);
  checkShare('infer.breaker.failureRate', limits.failureRate);
  if (limits.failureRate === 0) refuse('infer.breaker.failureRate', 'above 0', limits.failureRate);
  checkMs('infer.breaker.openMs', limits.openMs);
  checkCount('infer.breaker.probes', limits.probes);
  return limits;
}

/** What was given as undefined was not given. */
function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}

export function isPriority(value: unknown): value is number {
  return Number.isInteger(value) && Math.abs(value as number) <= 100;
}

function isPool(value: unknown): value is InferTarget<unknown, unknown> {
  return typeof value === 'object' && value !== null && 'offer' in value && typeof value.offer === 'function';
}
