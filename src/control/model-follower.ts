/**
 * `models.watch`: brings new versions in the roots to the pools that want the newest. What is a whole new version is for the
 * watch to say (models/watch.ts), how a version comes in is a swap like any other, with its audit.
 *
 * F1 only pools whose version is `latest` follow, and the models of pools that hold many; a number or an alias stays.
 * F2 what is being rolled out is never ended by a file that somebody copied: the new version waits for its end.
 * F3 of several versions that came meanwhile the newest is taken up, once.
 */
import type { Pool } from '../actor/pool.js';
import type { System } from '../actor/system.js';
import { isTroupeError } from '../kernel/errors.js';
import { isName, LATEST } from '../models/names.js';
import type { ModelChange, ModelWatch } from '../models/watch.js';
import type { Log } from '../telemetry/log.js';
import type { Convergence } from './convergence.js';
import type { Operations } from './operations.js';

export interface ModelFollowerParts {
  readonly system: System;
  /** Closed together with this. */
  readonly watch: ModelWatch;
  readonly operations: Operations;
  readonly convergence: Convergence;
  readonly log: Log;
}

/** In the audit. */
const WHO = 'models.watch';

export class ModelFollower {
  readonly #parts: ModelFollowerParts;
  /** Pools, and models of pools that hold many, that have a new version coming. */
  readonly #coming = new Set<string>();
  readonly #closed = new AbortController();

  constructor(parts: ModelFollowerParts) {
    this.#parts = parts;
    parts.watch.on('change', (change) => this.#hear(change));
    parts.watch.on('problem', ({ message, code }) => this.#warn(`${WHO}: ${message}`, code));
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#parts.watch.close();
  }

  #hear(change: ModelChange): void {
    const { model, kind } = change;
    if (kind === 'refused') {
      const which = change.version === undefined ? '' : ` version ${change.version}`;
      this.#warn(`${WHO}: model ${model}${which} cannot be used: ${change.error.message}`, change.error.code);
    } else if (kind === 'added' || kind === 'changed') this.#arrived(model, change.version, kind === 'changed');
  }

  #arrived(model: string, version: string, isChange: boolean): void {
    const { system } = this.#parts;
    for (const name of system.names()) {
      const pool = system.get(name);
      if (pool === undefined) continue;
      if (!this.#isOf(pool, model)) continue;
      if (pool.holdsManyModels) void this.#takeUp(pool, model);
      else {
        if (isChange && pool.version === version)
          this.#warn(
            `${WHO}: version ${version} of ${model} was changed on disk; what was loaded serves on`,
            undefined,
            name,
          );
        else if (this.#wants(pool) === LATEST) void this.#takeUp(pool, undefined);
      }
    }
  }

  /** Never rejects: what became of the swap is in the audit. */
  async #takeUp(pool: Pool<any, any>, model: string | undefined): Promise<void> {
    const key = `${pool.name}/${model ?? ''}`;
    if (this.#coming.has(key)) return; // F3
    this.#coming.add(key);
    await this.#untilFree(pool);
    this.#coming.delete(key);
    const { system, operations } = this.#parts;
    if (this.#closed.signal.aborted || system.get(pool.name) !== pool) return;
    const version = this.#versionFor(pool, model);
    if (version === undefined) return;
    const caller = { who: WHO, access: 'write', signal: this.#closed.signal } as const;
    const params = { pool: pool.name, version, ...(model === undefined ? {} : { model }) };
    await operations.run('swap', params, caller).catch(() => undefined);
  }

  /** F2. */
  async #untilFree(pool: Pool<any, any>): Promise<void> {
    while (pool.versions().next !== undefined && !this.#closed.signal.aborted) {
      await new Promise<void>((resolve) => {
        const names = ['swapped', 'swap-failed', 'stopped'] as const;
        const over = (): void => {
          for (const name of names) pool.off(name, over);
          this.#closed.signal.removeEventListener('abort', over);
          resolve();
        };
        for (const name of names) pool.on(name, over);
        this.#closed.signal.addEventListener('abort', over);
      });
    }
  }

  /** What there is to take up, looked up when its turn has come; undefined where nothing is. */
  #versionFor(pool: Pool<any, any>, model: string | undefined): string | undefined {
    if (model !== undefined) return LATEST;
    if (this.#wants(pool) !== LATEST || pool.model === undefined) return undefined;
    try {
      const newest = this.#parts.system.models.versionOf(pool.model, LATEST);
      return newest === pool.version ? undefined : newest;
    } catch (error) {
      if (!isTroupeError(error)) throw error;
      this.#warn(`${WHO}: ${error.message}`, error.code, pool.name);
      return undefined;
    }
  }

  /** F1. The config may have changed its mind since the pool was spawned. */
  #wants(pool: Pool<any, any>): string {
    return this.#parts.convergence.versionOf(pool.name) ?? pool.wantedVersion;
  }

  /** A pool may name its model, give the path of its directory, or hold many. */
  #isOf(pool: Pool<any, any>, model: string): boolean {
    const { models } = this.#parts.system;
    try {
      if (pool.holdsManyModels) return pool.modelNames().includes(model);
      if (pool.model === undefined) return false;
      if (isName(pool.model)) return pool.model === model;
      return models.model(pool.model).dir === models.model(model).dir;
    } catch (error) {
      if (isTroupeError(error)) return false; // Whatever is wrong with it, no new version comes of it.
      throw error;
    }
  }

  #warn(message: string, code?: string, pool?: string): void {
    const about = { ...(code === undefined ? {} : { code }), ...(pool === undefined ? {} : { pool }) };
    this.#parts.log({ level: 'warn', message, ...about });
  }
}
