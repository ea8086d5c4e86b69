import type { ShadowReport } from '../actor/comparison.js';
import type { Pool } from '../actor/pool.js';
import { scaledText } from '../actor/pool-events.js';
import type { System } from '../actor/system.js';
import { describeDeath } from '../core/effects.js';
import { modelKey } from '../core/model-key.js';
import { type Clock, systemClock } from '../kernel/clock.js';
import { LIMITS } from './grammar.js';
import { countText, numberText } from './text.js';

/** One thing that happened, in words for people and with its place for programs. Never holds records. */
export interface ControlEvent {
  /** Counts up from 1; a gap says how many are missing. */
  readonly seq: number;
  /** ISO 8601. */
  readonly at: string;
  /** Name of the pool's or system's event, or audit. */
  readonly kind: string;
  readonly pool?: string;
  readonly message: string;
}

export interface EventLogOptions {
  readonly clock?: Clock;
}

type Listener = (event: ControlEvent) => void;

/** Dead letters of one pool are told at most this often; under overload there are thousands in a second. */
const LETTERS_EVERY_MS = 1000;

/**
 * The last events of a system, and those to come for whoever listens. Bounded: the oldest go first. Listens to every pool
 * from its spawning on.
 */
export class EventLog {
  readonly #clock: Clock;
  readonly #events: ControlEvent[] = [];
  readonly #listeners = new Set<Listener>();
  #seq = 0;

  constructor(system: System, options: EventLogOptions = {}) {
    this.#clock = options.clock ?? systemClock;
    for (const name of system.names()) this.#watch(system.get(name));
    system.on('spawned', ({ name }) => {
      this.add('spawned', 'begins to load', name);
      this.#watch(system.get(name));
    });
    system.on('pool-restarted', ({ name }) => this.add('pool-restarted', 'runs again after it had failed', name));
    system.on('escalated', ({ name, why }) => this.add('escalated', `the system stops: ${why}`, name));
  }

  add(kind: string, message: string, pool?: string): void {
    const at = new Date(this.#clock.wallNow()).toISOString();
    const event: ControlEvent = {
      seq: ++this.#seq,
      at,
      kind,
      ...(pool === undefined ? {} : { pool }),
      message: message.slice(0, MESSAGE_MAX),
    };
    this.#events.push(event);
    if (this.#events.length > LIMITS.events) this.#events.shift();
    for (const listener of this.#listeners) listener(event);
  }

  /** The newest `count`, oldest first; of one pool where it is named. */
  last(count: number, pool?: string): readonly ControlEvent[] {
    const all = pool === undefined ? this.#events : this.#events.filter((event) => event.pool === pool);
    return count === 0 ? [] : all.slice(-count);
  }

  /** Hears every event from now on, until the function that comes back is called. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #watch(pool: Pool<any, any> | undefined): void {
    if (pool === undefined) return;
    const { name } = pool;
    const tell = (kind: string, message: string): void => this.add(kind, message, name);
    pool.on('ready', ({ replica, version }) => tell('ready', `replica ${replica} is ready${ofVersion(version)}`));
    pool.on('died', ({ replica, death, heldCount }) => {
      const held = heldCount === 0 ? '' : `; it held ${heldCount} record${heldCount === 1 ? '' : 's'}`;
      tell('died', `replica ${replica} ended: ${describeDeath(death)}${held}`);
    });
    pool.on('restarting', ({ replica, delayMs }) => {
      tell('restarting', `replica ${replica} starts again in ${Math.round(delayMs)} ms`);
    });
    pool.on('restarted', ({ replica, incarnation }) => {
      tell('restarted', `replica ${replica} runs again, start ${incarnation}`);
    });
    pool.on('replica-failed', ({ replica, death }) => {
      tell('replica-failed', `replica ${replica} is given up: ${describeDeath(death)}`);
    });
    pool.on('failed', ({ error }) => tell('failed', `${error.code}: ${error.message}`));
    pool.on('rollout', ({ step, from, to, share, error, shadow }) => {
      const part = share === undefined ? '' : `, ${percent(share)} of the records`;
      const why = error === undefined ? '' : `: ${error.message}`;
      const seen = shadow === undefined ? '' : `, ${shadowText(shadow)}`;
      tell('rollout', `version ${from ?? 'none'} -> ${to ?? 'none'} ${step}${part}${seen}${why}`);
    });
    pool.on('model-loaded', ({ replica, model, version, bytes, loadMs }) => {
      const what = `${modelKey(model, version)}, ${bytes} bytes`;
      tell('model-loaded', `replica ${replica} holds ${what}, loaded in ${Math.round(loadMs)} ms`);
    });
    pool.on('model-evicted', ({ replica, model, version, reason }) => {
      tell('model-evicted', `replica ${replica} holds ${modelKey(model, version)} no longer: ${reason}`);
    });
    pool.on('model-failed', ({ model, version, error }) => {
      tell('model-failed', `${modelKey(model, version)}: ${error.code}: ${error.message}`);
    });
    pool.on('model-swapped', ({ model, from, to }) => {
      tell('model-swapped', `${model}: version ${from ?? 'none'} -> ${to ?? 'none'}`);
    });
    pool.on('scaled', ({ from, replicas, reason }) => tell('scaled', scaledText(from, replicas, reason)));
    pool.on('breaker', ({ from, to, calls, failures }) => {
      tell('breaker', `breaker ${from} -> ${to}; ${failures} of ${calls} calls failed`);
    });
    pool.on('stopped', () => tell('stopped', 'the pool has stopped'));
    this.#watchLetters(pool, tell);
  }

  #watchLetters(pool: Pool<any, any>, tell: (kind: string, message: string) => void): void {
    let untold = 0;
    let toldAt = -Infinity;
    pool.on('dead-letter', ({ error }) => {
      untold += 1;
      const now = this.#clock.now();
      if (now - toldAt < LETTERS_EVERY_MS) return;
      tell(
        'dead-letter',
        `${untold} record${untold === 1 ? '' : 's'} lost, the latest: ${error.code}: ${error.message}`,
      );
      toldAt = now;
      untold = 0;
    });
  }
}

const MESSAGE_MAX = 2000;

export function percent(share: number): string {
  return `${Math.round(share * 1000) / 10} %`;
}

/** How a version that is only shown records does, in words. */
export function shadowText({ compared, agreement, failed, dropped, oldMs, newMs }: ShadowReport): string {
  const agree =
    agreement === undefined ? 'no answers compared' : `${percent(agreement)} of ${countText(compared)} answers agree`;
  const rest = `${countText(failed)} failed, ${countText(dropped)} not shown`;
  return `${agree}, ${rest}, p99 ${numberText(newMs.p99)} ms beside ${numberText(oldMs.p99)} ms`;
}

function ofVersion(version: string | undefined): string {
  return version === undefined ? '' : ` of version ${version}`;
}
