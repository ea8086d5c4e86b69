import type { ScaleReason } from '../core/autoscaler.js';
import { Burst, type BurstSummary } from '../core/burst.js';
import type { BreakerChange, BreakerLimits, BreakerState } from '../core/breaker.js';
import { type DeathNotice, describeDeath, type PoolNews } from '../core/effects.js';
import type { RollbackReason, RolloutStep } from '../core/rollout.js';
import { modelOf, versionOf } from '../core/model-key.js';
import type { EvictionReason } from '../core/resident-models.js';
import type { Clock, Timer } from '../kernel/clock.js';
import type { TroupeError } from '../kernel/errors.js';
import { EventEmitter } from '../kernel/events.js';
import type { Log } from '../telemetry/log.js';
import type { ShadowReport } from './comparison.js';

/** Events of a pool and what they carry. */
export interface PoolEvents {
  ready: [{ replica: number; incarnation: number; version: string | undefined }];
  died: [{ replica: number; incarnation: number; version: string | undefined; death: DeathNotice; heldCount: number }];
  restarting: [{ replica: number; incarnation: number; delayMs: number }];
  restarted: [{ replica: number; incarnation: number }];
  'replica-failed': [{ replica: number; death: DeathNotice }];
  failed: [{ error: TroupeError }];
  swapped: [{ from: string | undefined; to: string | undefined }];
  'swap-failed': [{ version: string | undefined; error: TroupeError }];
  rollout: [RolloutNotice];
  freed: [{ version: string | undefined; memory?: FreedMemory }];
  'model-loaded': [
    {
      replica: number;
      incarnation: number;
      model: string;
      version: string | undefined;
      bytes: number;
      loadMs: number;
    },
  ];
  'model-evicted': [
    {
      replica: number;
      incarnation: number;
      model: string;
      version: string | undefined;
      bytes: number;
      reason: EvictionReason;
      /** What unload() threw. */
      error?: TroupeError;
    },
  ];
  /** It could not be loaded; retryAfterMs is Infinity where it never can. */
  'model-failed': [{ model: string; version: string | undefined; error: TroupeError; retryAfterMs: number }];
  'model-swapped': [{ model: string; from: string | undefined; to: string | undefined }];
  /** So many replicas are wanted from now on. */
  scaled: [{ from: number; replicas: number; reason: ScaleReason }];
  breaker: [{ from: BreakerState; to: BreakerState; calls: number; failures: number }];
  'dead-letter': [{ input: unknown; error: TroupeError }];
  stopped: [];
}

/** A step of a swap, in the order they come: loading, verifying, shifting, baking, promoted, kept, draining, freed; or rolled-back, freed, restored. */
export interface RolloutNotice {
  readonly step: RolloutStep;
  readonly from: string | undefined;
  readonly to: string | undefined;
  /** While it bakes: the part of the records that the new version is given; while it takes one place after the other, of the keys. */
  readonly share?: number;
  /** Where it is rolled back. */
  readonly reason?: RollbackReason;
  readonly error?: TroupeError;
  /** When it is promoted or rolled back, how it did, where it was only shown records. */
  readonly shadow?: ShadowReport;
}

/** What the core does not know of its own news. */
export interface NewsDetails {
  readonly memory?: FreedMemory;
  readonly shadow?: ShadowReport;
}

/** Resident memory around the end of a version; absent where the system does not say. */
export interface FreedMemory {
  /** `replicas`: the child processes of the pool together. `host`: this process, where the replicas live in it. */
  readonly of: 'replicas' | 'host';
  /** With both versions resident, when it was decided which of them goes. */
  readonly beforeBytes: number;
  readonly afterBytes: number;
}

export interface EventCounts {
  readonly events: Map<keyof PoolEvents, number>;
  readonly steps: Map<RolloutStep, number>;
  readonly reasons: Map<RollbackReason, number>;
}

/** One line for the first failed record, then at most one per second. */
const FAILURE_LINE_MS = 1000;

/** Tells the world of a pool: events for code, lines for people. */
export class PoolVoice extends EventEmitter<PoolEvents> {
  /** How often each event was told, whether or not somebody listened; steps of roll-outs and reasons of roll-backs apart. */
  readonly told: EventCounts = { events: new Map(), steps: new Map(), reasons: new Map() };
  readonly #pool: string;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #deaths = new Burst();
  readonly #givenUp = new Burst();
  #timer: Timer | undefined;
  #untoldCount = 0;
  #toldAt = -Infinity;

  constructor(pool: string, log: Log, clock: Clock) {
    super();
    this.#pool = pool;
    this.#clock = clock;
    this.#log = (entry) => {
      try {
        log(entry);
      } catch (error) {
        throwLater(error);
      }
    };
  }

  /** Listeners are foreign code, called amid our work: what one throws must neither stop that nor be lost. */
  override emit<Name extends keyof PoolEvents>(name: Name, ...args: PoolEvents[Name]): boolean {
    add(this.told.events, name);
    try {
      return super.emit(name, ...(args as never));
    } catch (error) {
      throwLater(error);
      return true;
    }
  }

  /** News of the core that users may listen to; the rest concerns the pool alone. */
  tell(news: PoolNews, { memory, shadow }: NewsDetails = {}): void {
    const pool = this.#pool;
    switch (news.name) {
      case 'died': {
        const { replica, incarnation, version, death, heldCount } = news;
        if (death.cause !== 'stopped') {
          const words = describeDeath(death);
          if (this.#noted(this.#deaths, words, heldCount)) {
            const message = `replica ended: ${heldText(heldCount)}${words}`;
            this.#log({ level: 'warn', message, pool, replica, incarnation, ...named(version) });
          }
        }
        this.emit('died', { replica, incarnation, version, death, heldCount });
        return;
      }
      case 'failed':
        this.#sumUp();
        this.#log({ level: 'error', message: news.error.message, pool, code: news.error.code });
        this.emit('failed', { error: news.error });
        return;
      case 'replica-failed': {
        const { replica, death } = news;
        const words = describeDeath(death);
        if (this.#noted(this.#givenUp, words, 0))
          this.#log({ level: 'error', message: `restarts used up: ${words}`, pool, replica });
        this.emit('replica-failed', { replica, death });
        return;
      }
      case 'rollout': {
        const { step, from, to, share, reason, error } = news;
        if (error !== undefined)
          this.#log({ level: 'warn', message: error.message, pool, code: error.code, ...named(to) });
        if (step === 'promoted')
          this.#log({
            level: 'info',
            message: `version ${to ?? 'none'} serves in the place of ${from ?? 'none'}`,
            pool,
            ...named(to),
          });
        const what = share === undefined ? {} : { share };
        add(this.told.steps, step);
        if (reason !== undefined) add(this.told.reasons, reason);
        this.emit('rollout', {
          step,
          from,
          to,
          ...what,
          ...(reason === undefined || error === undefined ? {} : { reason, error }),
          ...(shadow === undefined ? {} : { shadow }),
        });
        return;
      }
      case 'freed':
        this.emit('freed', { version: news.version, ...(memory === undefined ? {} : { memory }) });
        return;
      case 'stopped':
        this.#sumUp();
        this.emit('stopped');
        return;
      case 'ready':
        this.emit('ready', { replica: news.replica, incarnation: news.incarnation, version: news.version });
        return;
      case 'restarting':
        this.emit('restarting', { replica: news.replica, incarnation: news.incarnation, delayMs: news.delayMs });
        return;
      case 'restarted':
        this.emit('restarted', { replica: news.replica, incarnation: news.incarnation });
        return;
      case 'model-loaded': {
        const { replica, incarnation, key, bytes, loadMs } = news;
        const what = { model: modelOf(key), version: versionOf(key), bytes };
        this.emit('model-loaded', { replica, incarnation, ...what, loadMs });
        return;
      }
      case 'model-evicted': {
        const { replica, incarnation, key, bytes, reason, error } = news;
        if (error !== undefined)
          this.#log({ level: 'warn', message: error.message, pool, replica, incarnation, code: error.code });
        const what = { model: modelOf(key), version: versionOf(key), bytes, reason };
        this.emit('model-evicted', { replica, incarnation, ...what, ...(error === undefined ? {} : { error }) });
        return;
      }
      case 'model-failed': {
        const { key, error, retryAfterMs } = news;
        this.#log({ level: 'warn', message: `model "${key}": ${error.message}`, pool, code: error.code });
        this.emit('model-failed', { model: modelOf(key), version: versionOf(key), error, retryAfterMs });
        return;
      }
      case 'scaled': {
        const { from, replicas, reason } = news;
        if (reason !== 'operator') this.#log({ level: 'info', message: scaledText(from, replicas, reason), pool });
        this.emit('scaled', { from, replicas, reason });
        return;
      }
      case 'model-prepared':
      case 'up':
      case 'rollout-failed':
      case 'held':
      case 'drained':
        return;
    }
  }

  /** One line for the first of a moment, and one for all of it when it is over; the events tell of each. */
  #noted(burst: Burst, words: string, heldCount: number): boolean {
    const now = this.#clock.now();
    const isFirst = burst.note(words, heldCount, now);
    const dueAt = burst.dueAt();
    if (this.#timer === undefined && dueAt !== Infinity) {
      this.#timer = this.#clock.at(dueAt, () => this.#sumUp());
      // The first line has said it; nothing stays alive for the rest.
      this.#timer.hold?.(false);
    }
    return isFirst;
  }

  #sumUp(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const pool = this.#pool;
    const deaths = this.#deaths.take();
    if (deaths !== undefined) this.#log({ level: 'warn', message: burstText('replicas ended', deaths), pool });
    const givenUp = this.#givenUp.take();
    if (givenUp !== undefined)
      this.#log({ level: 'error', message: burstText('replicas have used up their restarts', givenUp), pool });
  }

  breakerChanged({ from, to, calls, failures }: BreakerChange, { windowMs, openMs }: BreakerLimits): void {
    const message = {
      open:
        from === 'half-open'
          ? `breaker open again for ${openMs} ms: a probe failed`
          : `breaker open for ${openMs} ms: ${failures} of ${calls} calls failed within ${windowMs} ms`,
      'half-open': 'breaker half-open: calls are let through to probe',
      closed: 'breaker closed: calls succeed again',
    }[to];
    this.#log({ level: to === 'open' ? 'warn' : 'info', message, pool: this.#pool });
    this.emit('breaker', { from, to, calls, failures });
  }

  /** Foreign code that makes spans: without it the pool goes on. */
  tracerBroke(cause: unknown): void {
    const words = cause instanceof Error ? cause.message : String(cause);
    this.#log({ level: 'error', message: `the tracer failed and is not used any more: ${words}`, pool: this.#pool });
  }

  /** A record failed in predict: counted, and said at most once per second. */
  recordFailed(error: TroupeError, now: number): void {
    this.#untoldCount++;
    if (now - this.#toldAt < FAILURE_LINE_MS) return;
    const message = `${this.#untoldCount} record(s) failed, the latest: ${error.message}`;
    const where = error.replica === undefined ? {} : { replica: error.replica };
    const version = named(error.modelVersion);
    this.#log({ level: 'warn', message, pool: this.#pool, code: error.code, ...where, ...version });
    this.#toldAt = now;
    this.#untoldCount = 0;
  }
}

/** `64 replicas ended within 0.2 s, and held 64 records: it was killed from outside by SIGKILL (64)`. */
function burstText(what: string, { count, spanMs, heldCount, texts, otherCount }: BurstSummary): string {
  const held = heldCount === 0 ? '' : `, and held ${heldCount} ${heldCount === 1 ? 'record' : 'records'}`;
  const kinds = texts.map(([text, times]) => `${text} (${times})`);
  if (otherCount > 0) kinds.push(`other causes (${otherCount})`);
  return `${count} ${what} within ${(spanMs / 1000).toFixed(1)} s${held}: ${kinds.join('; ')}`;
}

function heldText(heldCount: number): string {
  return heldCount === 0 ? '' : `it held ${heldCount} ${heldCount === 1 ? 'record' : 'records'}; `;
}

/** `2 -> 4 replicas: records waited too long`. */
export function scaledText(from: number, to: number, reason: ScaleReason): string {
  return `${from} -> ${to} ${to === 1 ? 'replica' : 'replicas'}: ${WHY_SCALED[reason]}`;
}

const WHY_SCALED: Readonly<Record<ScaleReason, string>> = {
  'queue-age': 'records waited too long',
  busy: 'they were too busy',
  calm: 'fewer will do',
  idle: 'there was no work for long',
  demand: 'there is work again',
  operator: 'somebody asked for it',
};

function named(version: string | undefined): { version?: string } {
  return version === undefined ? {} : { version };
}

function add<Key>(counts: Map<Key, number>, key: Key): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/** As an uncaught exception of the process, when our own state is whole. */
function throwLater(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}
