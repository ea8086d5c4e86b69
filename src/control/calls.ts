import { resolve } from 'node:path';
import type { PoolStats } from '../actor/stats.js';
import type { DrainOptions } from '../actor/pool-life.js';
import type { ShadowOptions, SwapOptions } from '../actor/swap-options.js';
import type {
  ApplyAnswer,
  AskAnswer,
  Done,
  ExplainAnswer,
  LettersAnswer,
  PlanAnswer,
  PsAnswer,
  VersionsAnswer,
} from './answers.js';
import type { ApplyOptions } from './convergence.js';
import type { ControlEvent } from './event-log.js';
import type { VerbName } from './grammar.js';

export interface TailOptions {
  /** Begin with this many events of the past. Default 10. */
  readonly last?: number;
  /** Ends the stream. */
  readonly signal?: AbortSignal;
}

export interface AskRecordOptions {
  /** Deadline, queueing included. Default: timeoutMs of the pool. */
  readonly timeoutMs?: number;
  /** Which one, in a pool of many models. */
  readonly model?: string;
}

/** As of a swap. */
export type CanaryOptions = Omit<SwapOptions, 'canary'>;
/** As of a swap, and of its shadow. */
export type ShadowTrialOptions = Omit<SwapOptions, 'canary' | 'shadow' | 'strategy' | 'model'> &
  Omit<ShadowOptions, 'share'>;

/**
 * The verbs of the control plane as methods, the same over a socket and within the process. They reject with the errors
 * that the same call in code gives: POOL_NOT_FOUND, VERSION_NOT_FOUND, SWAP_FAILED, a TypeError for a wrong parameter ...;
 * CONTROL_REFUSED where the caller may only read, CONTROL_UNREACHABLE where the connection is lost.
 */
export abstract class Calls {
  /** Carries out any verb of the grammar by its name. */
  abstract call(verb: VerbName, params: Readonly<Record<string, unknown>>): Promise<unknown>;

  /** Events of the system, or of one pool, as they happen. Ends with the connection. */
  abstract tail(pool?: string, options?: TailOptions): AsyncIterableIterator<ControlEvent>;

  /** Pools and pipelines, a line each. */
  ps(): Promise<PsAnswer> {
    return this.#call('ps', {});
  }

  /** Every figure of one pool. */
  stats(pool: string): Promise<PoolStats>;
  /** Every figure of all pools, by name. */
  stats(): Promise<Readonly<Record<string, PoolStats>>>;
  stats(pool?: string): Promise<unknown> {
    return this.#call('stats', { pool });
  }

  /** The version that serves, what the replicas run, and which versions there are. */
  versions(pool: string): Promise<VersionsAnswer> {
    return this.#call('versions', { pool });
  }

  /** Every setting that is in force and where it came from; secrets are `***`. */
  explain(pool?: string): Promise<ExplainAnswer> {
    return this.#call('explain', { pool });
  }

  /** What failed lately in the pipelines, without the records. */
  deadLetters(pipeline?: string): Promise<LettersAnswer> {
    return this.#call('deadLetters', { pipeline });
  }

  /**
   * What `apply` would change: the config file as it is now, the one the system was started from unless another is named,
   * against what runs. Rejects with CONFIG_INVALID, VERSION_NOT_FOUND.
   */
  plan(file?: string): Promise<PlanAnswer> {
    return this.#call('plan', { file: file === undefined ? undefined : resolve(file) });
  }

  /**
   * Brings the system to what its config file says now: pools are spawned and stopped, scaled and swapped. A file that is
   * not valid changes nothing; a step that fails rejects with APPLY_FAILED, and what was done before it stays.
   */
  apply(file?: string, options: ApplyOptions = {}): Promise<ApplyAnswer> {
    return this.#call('apply', { ...options, file: file === undefined ? undefined : resolve(file) });
  }

  /** Sends one record, as JSON, and resolves to what the model says. */
  ask(pool: string, record: unknown, options: AskRecordOptions = {}): Promise<AskAnswer> {
    return this.#call('ask', { ...options, pool, record });
  }

  /**
   * Brings another version in, as `pool.swap` does. Resolves when the old one is gone, after a bake where there is one;
   * rejects with SWAP_ROLLED_BACK, and nothing has changed.
   */
  swap(pool: string, version: string | number, options: SwapOptions = {}): Promise<Done> {
    return this.#call('swap', { ...options, pool, version });
  }

  /**
   * Gives another version a share of the records, 0.1 without it. Resolves when it has that; then `promote` or `rollback`
   * ends the trial, or its own time and rules do.
   */
  canary(pool: string, version: string | number, share?: number, options: CanaryOptions = {}): Promise<VersionsAnswer> {
    return this.#call('canary', { ...options, pool, version, share });
  }

  /**
   * Shows another version a share of the records, 0.1 without it, and compares what it answers; callers get the old one's.
   * Resolves when it is shown some; then `promote` or `rollback` ends the trial, or its own time and rules do.
   */
  shadow(
    pool: string,
    version: string | number,
    share?: number,
    options: ShadowTrialOptions = {},
  ): Promise<VersionsAnswer> {
    return this.#call('shadow', { ...options, pool, version, share });
  }

  /** Ends the watch over a new version in its favour. Rejects with NO_ROLLOUT where none is on trial. */
  promote(pool: string): Promise<Done> {
    return this.#call('promote', { pool });
  }

  /** Gives up what is being rolled out, or brings back the version before. Rejects with NO_ROLLOUT where there is neither. */
  rollback(pool: string): Promise<Done> {
    return this.#call('rollback', { pool });
  }

  /** Changes the number of replicas. */
  scale(pool: string, replicas: number): Promise<Done> {
    return this.#call('scale', { pool, replicas });
  }

  /** Starts the replicas anew, also those of a failed pool; what waits goes on waiting. */
  restart(pool: string): Promise<Done> {
    return this.#call('restart', { pool });
  }

  /** In a pool of many models: loads one before anybody asks for it. Rejects with what its load threw. */
  preload(pool: string, model: string): Promise<Done> {
    return this.#call('preload', { pool, model });
  }

  /** In a pool of many models: has one go when it has no work left; a TypeError where it is pinned. */
  unload(pool: string, model: string): Promise<Done> {
    return this.#call('unload', { pool, model });
  }

  /**
   * Finishes what the pool holds; it takes nothing more, for good. With `timeoutMs` rejects with DRAIN_OVERDUE when that is
   * over, and the pool goes on.
   */
  drain(pool: string, options: DrainOptions = {}): Promise<Done> {
    return this.#call('drain', { ...options, pool });
  }

  /** The types say what the other side of the grammar gives. */
  #call<Answer>(verb: VerbName, params: Readonly<Record<string, unknown>>): Promise<Answer> {
    const given = Object.entries(params).filter(([, value]) => value !== undefined);
    return this.call(verb, Object.fromEntries(given)) as Promise<Answer>;
  }
}
