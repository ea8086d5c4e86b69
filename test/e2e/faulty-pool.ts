import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Pool } from '../../src/actor/pool.js';
import type { PoolEvents } from '../../src/actor/pool-events.js';
import { createSystem, type SpawnOptions, type System, type SystemOptions } from '../../src/actor/system.js';
import { isTroupeError, type TroupeError } from '../../src/kernel/errors.js';
import type { LogEntry } from '../../src/telemetry/log.js';
import type { Answer, FaultyOptions, Order } from '../fixtures/actors/faulty.js';

export const FAULTY_URL = new URL('../fixtures/actors/faulty.js', import.meta.url).href;

export type FaultyPool = Pool<Order, Answer>;

export interface Stage {
  readonly system: System;
  readonly log: LogEntry[];
  readonly spawn: (name: string, options?: FaultySpawn) => Promise<FaultyPool>;
}

export type FaultySpawn = Partial<Omit<SpawnOptions<Order, Answer>, 'options'>> & { readonly options?: FaultyOptions };

/** A system of its own per test, ended with it, and its log. */
export function stage(t: ExecutionContext, options: SystemOptions = {}): Stage {
  const log: LogEntry[] = [];
  const system = createSystem({ log: (entry) => log.push(entry), ...options });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  return {
    system,
    log,
    spawn: (name, { options: faulty = {}, ...rest } = {}) =>
      system.spawn<Order, Answer>(name, {
        actor: FAULTY_URL,
        isolation: 'thread',
        stopTimeoutMs: 1000,
        ...rest,
        options: { ...faulty },
      }),
  };
}

/** The typed error a promise rejects with; fails the test when it resolves or rejects with anything else. */
export async function errorOf(t: ExecutionContext, promise: Promise<unknown>): Promise<TroupeError> {
  const error = await promise.then(
    (value) => new Error(`expected a rejection, got ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  if (!isTroupeError(error)) throw error;
  t.true(error.message.length > 0);
  return error;
}

/** The next event of that name, or of those of it that fit. */
export function next<Name extends keyof PoolEvents>(
  pool: FaultyPool,
  name: Name,
  fits: (event: PoolEvents[Name][0]) => boolean = () => true,
): Promise<PoolEvents[Name][0]> {
  return new Promise((resolve) => {
    const listener = (event: PoolEvents[Name][0]): void => {
      if (!fits(event)) return;
      pool.off(name, listener as never);
      resolve(event);
    };
    pool.on(name, listener as never);
  });
}

/** Every accepted record has settled once, and nothing is held. */
export function assertSettled(t: ExecutionContext, pool: FaultyPool): void {
  const { accepted, settled, held, results, errors } = pool.stats();
  t.is(held, 0, 'nothing is held');
  t.is(settled, accepted, 'every accepted record has settled');
  t.is(results + Object.values(errors).reduce((sum, count) => sum + count, 0), settled, 'each has one outcome');
}

export function directory(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'troupe-rows-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** The lines of a journal so far. */
export function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean);
  } catch {
    return [];
  }
}

/** Looks every 20 ms until it is true, for what no event tells: another process. */
export async function until(what: string, isTrue: () => boolean, withinMs = 20_000): Promise<number> {
  const startedAt = performance.now();
  while (!isTrue()) {
    if (performance.now() - startedAt > withinMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return performance.now() - startedAt;
}

/** A zombie is not running: kill(pid, 0) would still find it. */
export function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** Runs it and tells how long it took. */
export async function timed<T>(run: () => Promise<T>): Promise<readonly [T, number]> {
  const startedAt = performance.now();
  const value = await run();
  return [value, performance.now() - startedAt];
}
