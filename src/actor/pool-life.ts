/**
 * What is asked of a pool as a whole: start, scale, restart, drain, stop, and what each of these waits for.
 *
 * Operations that change replicas run one after another; draining and stopping do not wait for them.
 */

import { type DeathNotice, describeDeath } from '../core/effects.js';
import type { PoolCore } from '../core/pool-core.js';
import type { Clock } from '../kernel/clock.js';
import { deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { checkOptions } from './ask.js';
import type { LocatedVersion } from './generation-files.js';
import type { Milestones } from './milestones.js';
import type { PoolVoice } from './pool-events.js';
import type { Pump } from './pump.js';
import type { Turn } from './turn.js';

export interface StopOptions {
  /** How long what is held may still be finished; what is left then settles with POOL_STOPPED. Default 10,000. */
  readonly timeoutMs?: number;
}

export interface DrainOptions {
  /** How long to wait, in milliseconds; then the drain goes on by itself. Default: as long as it takes. */
  readonly timeoutMs?: number;
}

/** How a pool ended: records finished during the drain, and records rejected with POOL_STOPPED. */
export interface StopReport {
  readonly drained: number;
  readonly rejected: number;
}

/** Checks the options of a stop; wrong ones throw a TypeError that names option, expectation and value. */
export function stopTimeoutOf(options: StopOptions): number {
  return timeoutOf('stop', options) ?? 10_000;
}

function timeoutOf(what: string, options: StopOptions | DrainOptions): number | undefined {
  checkOptions(what, options);
  for (const key of Object.keys(options)) {
    if (key !== 'timeoutMs') throw new TypeError(`${what}: unknown option "${key}"; expected timeoutMs`);
  }
  const { timeoutMs } = options;
  if (timeoutMs !== undefined && (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)))
    throw new TypeError(`${what}: timeoutMs must be a number of at least 0, got ${String(timeoutMs)}`);
  return timeoutMs;
}

export interface PoolLifeParts {
  readonly name: string;
  readonly core: PoolCore;
  readonly clock: Clock;
  readonly milestones: Milestones;
  readonly voice: PoolVoice;
  readonly pump: Pump;
  readonly turn: Turn;
}

export class PoolLife {
  readonly #name: string;
  readonly #core: PoolCore;
  readonly #clock: Clock;
  readonly #milestones: Milestones;
  readonly #voice: PoolVoice;
  readonly #pump: Pump;
  readonly #turn: Turn;
  #operations: Promise<unknown> = Promise.resolve();
  #drained: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #stopping: Promise<StopReport> | undefined;

  constructor({ name, core, clock, milestones, voice, pump, turn }: PoolLifeParts) {
    this.#name = name;
    this.#core = core;
    this.#clock = clock;
    this.#milestones = milestones;
    this.#voice = voice;
    this.#pump = pump;
    this.#turn = turn;
  }

  /** Swaps, scalings and restarts of one pool never overlap. */
  operation<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#operations.then(run);
    this.#operations = result.catch(() => undefined);
    return result;
  }

  refuseUnlessRunning(what: string): void {
    if (this.#core.state === 'running') return;
    throw (
      this.#core.failure ??
      new TroupeError('POOL_STOPPED', `Pool "${this.#name}" is ${this.#core.state}: ${what} is not possible`, {
        actor: this.#name,
      })
    );
  }

  start(locate: () => Promise<LocatedVersion>, replicas: number): Promise<void> {
    return this.operation(async () => {
      const located = await locate();
      const up = this.#milestones.next('rolled-out');
      this.#pump.links.files.rollOut(located);
      this.#core.rollOut(located.version, replicas, this.#clock.now());
      this.#pump.run();
      await up;
    });
  }

  scale(replicas: number): Promise<void> {
    const { scaling } = this.#core.limits;
    const { min, max } = scaling ?? { min: 1, max: 1024 };
    if (!Number.isInteger(replicas) || replicas < min || replicas > max) {
      const why = scaling === undefined ? '' : `, the bounds between which "${this.#name}" scales by itself`;
      throw new TypeError(`scale: expected a whole number from ${min} to ${max}${why}; got ${String(replicas)}`);
    }
    return this.operation(async () => {
      this.refuseUnlessRunning('scale');
      this.#core.scale(replicas, this.#clock.now());
      this.#pump.run();
      await this.#untilReady('scale', replicas);
    });
  }

  /** A pool at 0 loads a replica; resolves when one is ready. */
  async wake(): Promise<void> {
    if (this.#core.rest === undefined) return;
    this.#core.wake(this.#clock.now());
    this.#pump.run();
    await this.#untilReady('a call', 1);
  }

  restart(): Promise<void> {
    return this.operation(async () => {
      if (this.#core.state !== 'failed') {
        this.refuseUnlessRunning('restart');
        await this.hold();
      }
      await this.release();
    });
  }

  /** Ends every replica but keeps the mailbox; resolves when the last has ended. */
  async hold(): Promise<void> {
    const held = this.#milestones.next('held');
    this.#core.hold();
    this.#pump.run();
    await held;
  }

  /** Starts again after `hold` or after failing; rejects when it fails again. */
  async release(): Promise<void> {
    const up = this.#milestones.next('resumed');
    this.#core.release(this.#clock.now());
    this.#pump.run();
    await up;
  }

  async drain(options: DrainOptions = {}): Promise<void> {
    const timeoutMs = timeoutOf('drain', options);
    if (this.#core.state === 'failed' || this.#core.state === 'stopped' || this.#core.state === 'stopping') return;
    this.#drained ??= this.#milestones.next('drained');
    this.#core.drain();
    this.#core.flush(this.#clock.now());
    this.#turn.schedule();
    if (timeoutMs === undefined || timeoutMs === Infinity) return this.#drained;
    const overdue = deferred<never>();
    const timer = this.#clock.at(this.#clock.now() + timeoutMs, () => overdue.reject(this.#drainOverdue(timeoutMs)));
    try {
      await Promise.race([this.#drained, overdue.promise]);
    } finally {
      timer.cancel();
    }
  }

  #drainOverdue(timeoutMs: number): TroupeError {
    const message = `Pool "${this.#name}" has not finished within ${timeoutMs} ms: ${this.underWay()}; it takes nothing more and goes on`;
    return new TroupeError('DRAIN_OVERDUE', message, { actor: this.#name });
  }

  /** What it holds, in words: `it holds 3 records, 1 of them with a replica, and 1 token stream`. */
  underWay(): string {
    const { fleet, heldCount, mailbox } = this.#core;
    const sent = heldCount - mailbox.held;
    const streams = fleet.streamCount;
    const records = `${heldCount} record${heldCount === 1 ? '' : 's'}, ${sent} of them with a replica`;
    return `it holds ${records}${streams === 0 ? '' : `, and ${streams} token stream${streams === 1 ? '' : 's'}`}`;
  }

  stop(options: StopOptions): Promise<StopReport> {
    const timeoutMs = stopTimeoutOf(options);
    if (this.#stopping !== undefined) {
      if (timeoutMs === 0) void this.#halt();
      return this.#stopping;
    }
    this.#stopping = this.#stop(timeoutMs);
    return this.#stopping;
  }

  /** Where the pool has scaled itself down meanwhile, fewer do. */
  async #untilReady(what: string, replicas: number): Promise<void> {
    const { fleet } = this.#core;
    while (fleet.readyCount < Math.min(replicas, fleet.replicas)) {
      const failed = await this.#next();
      this.refuseUnlessRunning(what);
      if (failed !== undefined) throw failed;
    }
  }

  /** The next thing that happens to a replica; the error, if one is given up. */
  #next(): Promise<TroupeError | undefined> {
    return new Promise((resolve) => {
      const names = ['ready', 'scaled', 'replica-failed', 'failed', 'stopped'] as const;
      const hear = (news?: object): void => {
        for (const name of names) this.#voice.off(name, hear);
        if (news === undefined || !('death' in news)) return resolve(undefined);
        const death = news.death as DeathNotice;
        const message = `A replica of "${this.#name}" was given up: ${describeDeath(death)}`;
        return resolve(new TroupeError('ACTOR_LOAD_FAILED', message, { cause: death.error, actor: this.#name }));
      };
      for (const name of names) this.#voice.on(name, hear);
    });
  }

  async #stop(timeoutMs: number): Promise<StopReport> {
    const heldBefore = this.#core.heldCount;
    if (this.#core.state === 'stopped') return { drained: 0, rejected: 0 };
    if (timeoutMs > 0 && heldBefore > 0) {
      const overdue = deferred<void>();
      const timer = this.#clock.at(this.#clock.now() + timeoutMs, overdue.resolve as () => void);
      await Promise.race([this.drain(), overdue.promise]);
      timer.cancel();
    }
    const rejected = this.#core.heldCount;
    await this.#halt();
    return { drained: Math.max(0, heldBefore - rejected), rejected };
  }

  #halt(): Promise<void> {
    this.#stopped ??= this.#milestones.next('stopped');
    this.#core.stop(this.#core.heldCount > 0);
    this.#pump.run();
    const actor = this.#name;
    // Where a listener asks for the stop, what the core tells those who wait comes when it has returned, and goes first.
    queueMicrotask(() =>
      this.#milestones.abandon(new TroupeError('POOL_STOPPED', `Pool "${actor}" was stopped`, { actor })),
    );
    return this.#stopped;
  }
}
