import type { BatchCall } from '../core/effects.js';
import type { Outcome } from './outcome.js';

/** One ask: its options, and who gets its outcome. */

export interface AskOptions {
  /** Deadline of this record, queueing included. Default: timeoutMs of the pool. */
  readonly timeoutMs?: number;
  /** Gives the record up: queued work leaves at once, the result of running work is dropped. */
  readonly signal?: AbortSignal;
  /** 0 is normal; higher goes first. Whole numbers from -100 to 100. */
  readonly priority?: number;
  /**
   * Records of one key run one after another, in the order of asking: the next starts when the one before it has
   * settled, whatever became of it. Free across keys. At most one record per key is in a batch.
   */
  readonly key?: string;
  /** Which model answers, in a pool of many (option `models`): `fr`, or with a version or alias `fr@2`, `fr@stable`. */
  readonly model?: string;
}

/** As of an ask, for each record. */
export interface AskManyOptions<In> extends Omit<AskOptions, 'key' | 'model'> {
  /** One model for all records, or what gives the model of each. */
  readonly model?: string | ((record: In, index: number) => string);
  /** One key for all records, or what gives the key of each; undefined for none. */
  readonly key?: string | ((record: In, index: number) => string | undefined);
  /**
   * True: results that are typed arrays may be views over memory they share with other results of this call, which saves
   * about a third of the time of small records. Then mind `byteOffset` where `buffer` is used, and copy what is kept or
   * transferred. Default false: each result has memory of its own.
   */
  readonly views?: boolean;
}

/** Sender 0 is everybody who asks from application code. */
export const APPLICATION = 0;

/** Every default filled in; what a pool must know of a record, in the words of a submission. */
export interface AskRules {
  readonly sender: typeof APPLICATION;
  readonly callTimeoutMs: undefined;
  readonly timeoutMs: number;
  readonly priority: number;
  readonly signal: AbortSignal | undefined;
  readonly key: string | undefined;
  readonly model: string | undefined;
}

/** Checks the options of a call; wrong ones throw a TypeError that names option, expectation and value. */
export function resolveAsk(options: AskOptions, defaultTimeoutMs: number): AskRules {
  checkOptions('ask', options);
  for (const key of Object.keys(options)) {
    if (key !== 'timeoutMs' && key !== 'signal' && key !== 'priority' && key !== 'key' && key !== 'model') {
      throw new TypeError(`ask: unknown option "${key}"; expected timeoutMs, signal, priority, key or model`);
    }
  }
  const { timeoutMs = defaultTimeoutMs, priority = 0, signal, key, model } = options;
  if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) {
    throw new TypeError(`ask: timeoutMs must be a number of at least 0, got ${String(timeoutMs)}`);
  }
  if (!Number.isInteger(priority) || Math.abs(priority) > 100) {
    throw new TypeError(`ask: priority must be a whole number from -100 to 100, got ${String(priority)}`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError(`ask: signal must be an AbortSignal, got ${typeof signal}`);
  }
  if (key !== undefined && typeof key !== 'string') {
    throw new TypeError(`ask: key must be a string, got ${typeof key}`);
  }
  if (model !== undefined && typeof model !== 'string') {
    throw new TypeError(`ask: model must be a string, got ${typeof model}`);
  }
  return askRules(timeoutMs, priority, signal, key, model);
}

/** Of an ask without options. */
export function plainRules(timeoutMs: number): AskRules {
  return askRules(timeoutMs, 0, undefined, undefined, undefined);
}

/** In one place, so that all of them have one shape. */
function askRules(
  timeoutMs: number,
  priority: number,
  signal: AbortSignal | undefined,
  key: string | undefined,
  model: string | undefined,
): AskRules {
  return { sender: APPLICATION, callTimeoutMs: undefined, timeoutMs, priority, signal, key, model };
}

/** Refuses what is no object of options; the keys are each caller's own to check. */
export function checkOptions(where: string, options: unknown): void {
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return;
  const got = options === null ? 'null' : Array.isArray(options) ? 'an array' : typeof options;
  throw new TypeError(`${where}: expected an object of options, got ${got}`);
}

/** Who gets the outcome of a request. */
export interface Owner {
  settled(outcome: Outcome<any>, call?: BatchCall): void; // any: the pool's core does not know the record types
}

/** Settles the promise of one ask, and listens to its signal while it waits. */
export class AskOwner<Out> implements Owner {
  readonly #resolve: (value: Out) => void;
  readonly #reject: (error: unknown) => void;
  readonly #signal: AbortSignal | undefined;
  #onAbort: (() => void) | undefined;

  constructor(resolve: (value: Out) => void, reject: (error: unknown) => void, signal: AbortSignal | undefined) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.#signal = signal;
  }

  watch(cancel: () => void): void {
    const signal = this.#signal;
    if (signal === undefined) return;
    if (signal.aborted) {
      cancel();
      return;
    }
    this.#onAbort = cancel;
    signal.addEventListener('abort', cancel, { once: true });
  }

  /** As `settled` with a value, without an outcome made for it. */
  resolved(value: Out): void {
    if (this.#onAbort !== undefined) this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#resolve(value);
  }

  settled(outcome: Outcome<Out>): void {
    if (outcome.ok) {
      this.resolved(outcome.value);
      return;
    }
    if (this.#onAbort !== undefined) this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#reject(outcome.error);
  }
}
