import type { AskManyOptions, AskOptions } from './ask.js';
import type { InferTarget } from './infer-target.js';
import type { Outcome } from './outcome.js';
import type { DrainOptions } from './pool-life.js';
import type { PoolHealth } from './readiness.js';
import type { PoolStats } from './stats.js';
import type { SwapOptions } from './swap-options.js';

/**
 * What a pool is to those who send it records, wherever it runs: one of this process (from `system.spawn`), or one of
 * another that is reached through a connection (from `connect`). It fits `stream().infer(...)`. What changes a pool (swap,
 * scale, restart and their like) is for its own process and for its control socket: elsewhere it rejects with
 * POOL_ELSEWHERE, which says so.
 */
export interface PoolClient<In = unknown, Out = unknown> extends InferTarget<In, Out> {
  /** Sends one record and resolves to its result, or rejects with a TroupeError. */
  ask(input: In, options?: AskOptions): Promise<Out>;
  /** One settled outcome per record, in order; never rejects for a record, and feeds itself as there is room. */
  askMany(inputs: Iterable<In>, options?: AskManyOptions<In>): Promise<Outcome<Out>[]>;
  /** Sends one record without wanting its result; what fails becomes a `dead-letter` event. */
  tell(input: In, options?: Omit<AskOptions, 'signal'>): void;
  /** Calls a method of the definition, outside the batch path. Rejects with METHOD_NOT_FOUND or METHOD_FAILED. */
  call(method: string, ...args: readonly unknown[]): Promise<unknown>;
  /** Whether it would answer a record now; never rejects. */
  health(): Promise<PoolHealth>;
  /** Counters and what is true now: of a pool of this process at once, of another's as its server says. */
  stats(): PoolStats | Promise<PoolStats>;
  swap(version: string | number, options?: SwapOptions): Promise<void>;
  promote(): Promise<void>;
  rollback(): Promise<void>;
  scale(replicas: number): Promise<void>;
  restart(): Promise<void>;
  drain(options?: DrainOptions): Promise<void>;
}
