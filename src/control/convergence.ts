import { resolve } from 'node:path';
import type { Pool } from '../actor/pool.js';
import type { RolloutNotice } from '../actor/pool-events.js';
import type { SwapOptions } from '../actor/swap-options.js';
import type { System } from '../actor/system.js';
import { type LoadedConfig, loadConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { type Clock, systemClock, type Timer } from '../kernel/clock.js';
import { deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { toFault } from '../wire/fault.js';
import type { ApplyAnswer, PlanAnswer } from './answers.js';
import { followedAfter, planOf, type PlanStep, type RunningPool } from './desired-state.js';

/** How `apply` brings another version in. */
export interface ApplyOptions extends Pick<SwapOptions, 'canary' | 'bakeMs' | 'rollbackOn'> {
  /**
   * How long a pool that is taken out, or a version that is replaced or taken back, may finish what it holds, in milliseconds;
   * then the step fails with DRAIN_OVERDUE, and what was to finish goes on by itself. Default 60,000.
   */
  readonly drainTimeoutMs?: number;
}

const DRAIN_TIMEOUT_MS = 60_000;

/**
 * Brings a running system to what its config file says, step by step.
 *
 * V1 the whole file is read, checked and compared, versions looked up, before the first step: a file that is not valid, of
 * another system, or with a version that is not there, changes nothing. V2 one apply at a time; another waits. V3 the first
 * step that fails is the last; what was done stays, and is what the next plan starts from. V4 no step waits for the end of
 * other people's work without a limit.
 */
export class Convergence {
  readonly #system: System;
  readonly #clock: Clock;
  #loaded: LoadedConfig | undefined;
  #followed: Config | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(system: System, loaded: LoadedConfig | undefined, clock: Clock = systemClock) {
    this.#system = system;
    this.#clock = clock;
    this.#loaded = loaded;
    this.#followed = loaded?.config;
  }

  /** The file that is in force, for `explain`. */
  get loaded(): LoadedConfig | undefined {
    return this.#loaded;
  }

  /** The pools the file asks for, in the order of the file. */
  poolNames(): readonly string[] {
    return Object.keys(this.#followed?.pools ?? {});
  }

  /** The version that the file asks for, as it names it; undefined where the file has no such pool. */
  versionOf(pool: string): string | undefined {
    const { pools = {} } = this.#followed ?? {};
    return Object.hasOwn(pools, pool) ? pools[pool]?.version : undefined;
  }

  /** What `apply` would do. `file` is absolute; without it, the one the system was started from. */
  async plan(file?: string): Promise<PlanAnswer> {
    return (await this.#compare(file)).answer;
  }

  /** Rejects with APPLY_FAILED where a step fails. */
  apply(file: string | undefined, options: ApplyOptions): Promise<ApplyAnswer> {
    const applied = this.#turn.then(() => this.#apply(file, options));
    this.#turn = applied.catch(() => undefined);
    return applied;
  }

  async #apply(file: string | undefined, options: ApplyOptions): Promise<ApplyAnswer> {
    const { answer, loaded } = await this.#compare(file);
    const before = this.#followed;
    const done: PlanStep[] = [];
    for (const step of answer.steps) {
      try {
        await this.#take(step, loaded.config, options);
      } catch (error) {
        throw this.#failure(answer, done, step, error);
      }
      done.push(step);
      this.#followed = followedAfter(before, loaded.config, done);
    }
    // With keys left for the next start the file is in force in part, and where a value comes from cannot be told by it.
    if (answer.nextStart.length === 0) {
      this.#loaded = loaded;
      this.#followed = loaded.config;
    }
    return { ...answer, done: done.length };
  }

  async #compare(given: string | undefined): Promise<{ readonly answer: PlanAnswer; readonly loaded: LoadedConfig }> {
    const file = given ?? this.#loaded?.file;
    if (file === undefined)
      throw new TypeError('plan: the system was not made from a config file; name the one that is to be followed');
    const loaded = await loadConfig(file);
    const name = this.#followed?.name ?? this.#system.name;
    if (loaded.config.name !== name)
      throw new TypeError(`plan: ${file} is of a system named "${loaded.config.name}", and this one is "${name}"`);
    const running = new Map<string, RunningPool>();
    for (const pool of this.#system.names()) {
      const now = await this.#look(pool, loaded.config.pools[pool]?.version);
      if (now !== undefined) running.set(pool, now);
    }
    return { loaded, answer: { file: resolve(file), ...planOf(this.#followed, loaded.config, running) } };
  }

  async #look(name: string, version: string | undefined): Promise<RunningPool | undefined> {
    const pool = this.#system.get(name);
    if (pool === undefined) return undefined;
    const { state, replicas } = pool.stats();
    const running = {
      state: state === 'failed' ? 'failed' : state === 'running' || state === 'starting' ? 'running' : 'ended',
      version: pool.version,
    } as const;
    // Which version a model of many has is said by those who ask for it; of a pool that is to go nothing is looked up.
    if (pool.holdsManyModels || version === undefined) {
      const kept = replicas.filter((replica) => !LEAVING.includes(replica.state));
      return { ...running, replicas: kept.length, meant: undefined };
    }
    const preview = await pool.planSwap(version);
    return { ...running, replicas: preview.replicas, meant: preview.to };
  }

  async #take({ action, pool: name, to }: PlanStep, wanted: Config, options: ApplyOptions): Promise<void> {
    const { drainTimeoutMs = DRAIN_TIMEOUT_MS, ...swapOptions } = options;
    const entry = wanted.pools[name];
    if (action === 'spawn') {
      if (entry !== undefined) await this.#system.spawn(name, entry);
      return;
    }
    const pool = this.#system.get(name);
    if (pool === undefined) throw new TroupeError('POOL_NOT_FOUND', `Pool "${name}" has gone since the plan was made`);
    switch (action) {
      case 'restart':
        return this.#untilDrained(pool, drainTimeoutMs, pool.restart());
      case 'scale':
        return this.#untilDrained(pool, drainTimeoutMs, pool.scale(Number(to)));
      case 'swap':
        return this.#untilDrained(pool, drainTimeoutMs, pool.swap(String(to), swapOptions));
      case 'stop':
        await pool.drain({ timeoutMs: drainTimeoutMs });
        await pool.stop();
    }
  }

  /** V4: of a version that goes, of this change or of one before it, the last batches and token streams may take any time. */
  async #untilDrained(pool: Pool, timeoutMs: number, change: Promise<void>): Promise<void> {
    const overdue = deferred<never>();
    let timer: Timer | undefined;
    const look = (isDraining: boolean): void => {
      timer?.cancel();
      timer = isDraining ? this.#clock.at(this.#clock.now() + timeoutMs, tell) : undefined;
    };
    const tell = (): void => {
      const { current } = pool.versions();
      const message = `Pool "${pool.name}" is at version ${current ?? 'none'}, and what the other one began was not finished within ${timeoutMs} ms: ${pool.underWay()}; it goes on, and so does the change`;
      overdue.reject(new TroupeError('DRAIN_OVERDUE', message, { actor: pool.name }));
    };
    const isLeft = (): boolean => pool.versions().step === 'draining';
    // Of a version that is taken back only the end is told, and what it began it finishes all the same.
    const hear = ({ step }: RolloutNotice): void => look(step === 'draining' || (step === 'rolled-back' && isLeft()));
    pool.on('rollout', hear);
    look(isLeft());
    try {
      await Promise.race([change, overdue.promise]);
    } finally {
      look(false);
      pool.off('rollout', hear);
    }
  }

  #failure({ file, steps }: PlanAnswer, done: readonly PlanStep[], failed: PlanStep, cause: unknown): TroupeError {
    const left = steps.slice(done.length + 1);
    const words = [
      `${stepText(failed)} failed: ${toFault(cause).message}`,
      done.length === 0 ? 'nothing was changed before it' : `done before it: ${done.map(stepText).join(', ')}`,
      ...(left.length === 0 ? [] : [`not begun: ${left.map(stepText).join(', ')}`]),
    ];
    return new TroupeError('APPLY_FAILED', `Applying ${file}: ${words.join('; ')}`, { cause });
  }
}

/** Replicas that no longer count. */
const LEAVING: readonly string[] = ['draining', 'stopping', 'stopped'];

/** `swap filetype 1 -> 2`. */
export function stepText({ action, pool, from, to }: PlanStep): string {
  const change = to === undefined ? '' : from === undefined ? ` -> ${to}` : ` ${from} -> ${to}`;
  return `${action} ${pool}${change}`;
}
