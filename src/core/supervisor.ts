import { type LifecycleTable, transition } from '../kernel/lifecycle.js';

/**
 * The supervisor of a system, in OTP's words: it decides which children (pools) are stopped and started again when one
 * of them ends. It is told events with the time and returns effects; whoever runs it carries them out in order and
 * tells what came of them. It owns no timers, no pools, and no backoff (a pool has its own, for its replicas).
 *
 * Told about a life once: `started` or `startFailed` for each start, then `ended` (by itself) or `stopped` (because of
 * a stop effect), whichever comes first. A report that fits no life going on is ignored.
 *
 * S1 Stops go in reverse order of the list, one at a time; then starts in the order of the list, one at a time.
 *    Under one-for-one children do not know each other, so their starts do not wait for each other.
 * S2 A child that ends while it is to be stopped counts as stopped and costs no restart.
 * S3 One failure costs one restart, however many siblings are restarted with it.
 * S4 More than `max` restarts within `withinMs` (both edges counted, as in OTP): escalation, every child is stopped and
 *    the state is `failed`. With max 0 under one-for-one nothing is ever restarted, so nobody else suffers: the child
 *    alone is `failed`, the others go on.
 * S5 A temporary child is never started again: when it ends, or is stopped for a sibling's sake, it is removed.
 *    A transient child that ended well keeps its place and starts again only with its group.
 * S6 A child that has never been up and fails to start is removed: whoever added it learns that, no restart is spent.
 */

export type Strategy = 'one-for-one' | 'rest-for-one' | 'one-for-all';
/** Started again: permanent always, transient only after a crash, temporary never. */
export type RestartType = 'permanent' | 'transient' | 'temporary';
/** `normal`: it had nothing more to do. `shutdown`: it was asked to end. `crash`: everything else. */
export type Ending = 'normal' | 'shutdown' | 'crash';

export interface SupervisorOptions {
  readonly strategy: Strategy;
  /** Restart intensity: how many restarts within `withinMs` are forgiven; one more escalates. */
  readonly intensity: { readonly max: number; readonly withinMs: number };
}

export type SupervisorEffect =
  | { readonly kind: 'start'; readonly id: string }
  | { readonly kind: 'stop'; readonly id: string }
  /** The child is no longer supervised and its name is free. */
  | { readonly kind: 'removed'; readonly id: string }
  /** S4, max 0: this child stays as it is, the others go on. */
  | { readonly kind: 'failed'; readonly id: string; readonly why: string }
  /** S4: every child is being stopped; the supervisor is `failed` after the last. */
  | { readonly kind: 'escalate'; readonly id: string; readonly why: string };

export type SupervisorState = 'running' | 'restarting' | 'escalating' | 'stopping' | 'failed' | 'stopped';
type SupervisorEvent = 'add' | 'restart' | 'settled' | 'exhausted' | 'stop' | 'emptied';

export const SUPERVISOR_LIFECYCLE: LifecycleTable<SupervisorState, SupervisorEvent> = {
  running: { add: 'running', restart: 'restarting', exhausted: 'escalating', stop: 'stopping' },
  restarting: {
    add: 'restarting',
    restart: 'restarting',
    settled: 'running',
    exhausted: 'escalating',
    stop: 'stopping',
  },
  escalating: { stop: 'escalating', emptied: 'failed' },
  stopping: { stop: 'stopping', emptied: 'stopped' },
  failed: { stop: 'failed' },
  stopped: { stop: 'stopped' },
};

/** due, doomed: waits for its turn to start, to be stopped. down: ended, and nobody wants it up. */
export type ChildPhase = 'due' | 'starting' | 'up' | 'doomed' | 'stopping' | 'down' | 'failed';

interface Child {
  readonly id: string;
  readonly type: RestartType;
  phase: ChildPhase;
  /** True once it has been up (S6). */
  wasUp: boolean;
  /** True if it is removed as soon as it is stopped. */
  leaves: boolean;
}

const STRATEGIES: readonly string[] = ['one-for-one', 'rest-for-one', 'one-for-all'];
const TYPES: readonly string[] = ['permanent', 'transient', 'temporary'];

/** Which of `count` children are restarted when the one at `index` fails, in start order. */
export function affected(strategy: Strategy, index: number, count: number): number[] {
  if (strategy === 'one-for-one') return [index];
  const first = strategy === 'one-for-all' ? 0 : index;
  return Array.from({ length: count - first }, (_, offset) => first + offset);
}

/** Wrong options throw a TypeError that names the option, what was expected and what came. */
export class SupervisorCore {
  readonly #strategy: Strategy;
  readonly #max: number;
  readonly #withinMs: number;
  /** In start order, which is the order of `add` until `arrange`. */
  #children: Child[] = [];
  /** Instants of the restarts that still count, oldest first; never more than max. */
  #restarts: number[] = [];
  #state: SupervisorState = 'running';

  constructor(options: SupervisorOptions) {
    checkKeys('supervisor', options, ['strategy', 'intensity']);
    checkKeys('intensity', options.intensity, ['max', 'withinMs']);
    const { strategy, intensity } = options;
    const { max, withinMs } = intensity;
    if (!STRATEGIES.includes(strategy)) refuse('strategy', `one of ${STRATEGIES.join(', ')}`, strategy);
    if (!Number.isInteger(max) || max < 0) refuse('intensity.max', 'an integer of at least 0', max);
    if (!Number.isFinite(withinMs) || withinMs < 0) {
      refuse('intensity.withinMs', 'a finite number of milliseconds, at least 0', withinMs);
    }
    this.#strategy = strategy;
    this.#max = max;
    this.#withinMs = withinMs;
  }

  get state(): SupervisorState {
    return this.#state;
  }

  /** The children in start order. */
  get children(): readonly { readonly id: string; readonly type: RestartType; readonly phase: ChildPhase }[] {
    return this.#children.map(({ id, type, phase }) => ({ id, type, phase }));
  }

  /** Takes a new child, last in the order, and has it started. Throws INTERNAL once the supervisor ends or has ended. */
  add(id: string, type: RestartType): SupervisorEffect[] {
    if (typeof id !== 'string' || id === '') refuse('child id', 'a non-empty string', id);
    if (!TYPES.includes(type)) refuse(`type of child "${id}"`, `one of ${TYPES.join(', ')}`, type);
    if (this.#find(id) !== undefined) throw new TypeError(`child id "${id}" is already taken; every child has its own`);
    this.#apply('add');
    this.#children.push({ id, type, phase: 'due', wasUp: false, leaves: false });
    return this.#advance([]);
  }

  /** Has a child stopped for good; its siblings are left alone. Unknown ids are ignored. */
  remove(id: string): SupervisorEffect[] {
    const child = this.#find(id);
    if (child === undefined) return [];
    child.leaves = true;
    const effects: SupervisorEffect[] = [];
    if (isLive(child)) doom(child);
    else this.#down(child, effects);
    return this.#advance(effects);
  }

  /** The child is up: it may be asked. */
  started(id: string): SupervisorEffect[] {
    const child = this.#find(id);
    // A start that crosses its own stop: the stop stands.
    if (child === undefined || child.phase !== 'starting') return [];
    child.phase = 'up';
    child.wasUp = true;
    return this.#advance([]);
  }

  /** A start effect led to nothing, and nothing of it is left. */
  startFailed(id: string, now: number): SupervisorEffect[] {
    const child = this.#find(id);
    if (child === undefined || !isLive(child)) return [];
    if (child.phase !== 'starting') return this.stopped(id);
    if (child.wasUp) return this.#restart(child, `child "${id}" failed to start`, now);
    const effects: SupervisorEffect[] = [];
    child.leaves = true; // S6
    this.#down(child, effects);
    return this.#advance(effects);
  }

  /** The child ended by itself. */
  ended(id: string, ending: Ending, now: number): SupervisorEffect[] {
    const child = this.#find(id);
    if (child === undefined || !isLive(child)) return [];
    if (child.phase === 'doomed' || child.phase === 'stopping') return this.stopped(id); // S2
    if (child.phase === 'starting' && (ending === 'crash' || !child.wasUp)) return this.startFailed(id, now);
    const restarts = child.type === 'permanent' || (child.type === 'transient' && ending === 'crash');
    if (restarts) return this.#restart(child, `child "${id}" ended (${ending})`, now);
    const effects: SupervisorEffect[] = [];
    this.#down(child, effects);
    return this.#advance(effects);
  }

  /** The child obeyed a stop effect. */
  stopped(id: string): SupervisorEffect[] {
    const child = this.#find(id);
    if (child === undefined || (child.phase !== 'stopping' && child.phase !== 'doomed')) return [];
    const effects: SupervisorEffect[] = [];
    if (child.leaves || this.#isEnding) this.#down(child, effects);
    else child.phase = 'due';
    return this.#advance(effects);
  }

  /** Has the children in the order of these ids from now on; those that are not named come first. */
  arrange(ids: readonly string[]): void {
    this.#children.sort((one, other) => ids.indexOf(one.id) - ids.indexOf(other.id));
  }

  /** Stops every child in reverse order; `stopped` after the last. May be called again. */
  stopAll(): SupervisorEffect[] {
    this.#apply('stop');
    if (this.#isEnding) this.#doomAll();
    return this.#advance([]);
  }

  get #isEnding(): boolean {
    return this.#state === 'stopping' || this.#state === 'escalating';
  }

  #find(id: string): Child | undefined {
    return this.#children.find((child) => child.id === id);
  }

  #apply(event: SupervisorEvent): void {
    this.#state = transition('supervisor', SUPERVISOR_LIFECYCLE, this.#state, event);
  }

  /** `failing` is down and must come up again: with its group, or not at all where the intensity is used up. */
  #restart(failing: Child, what: string, now: number): SupervisorEffect[] {
    if (this.#max === 0 && this.#strategy === 'one-for-one') {
      failing.phase = 'failed'; // S4
      return this.#advance([{ kind: 'failed', id: failing.id, why: `${what}; intensity.max is 0: no restarts` }]);
    }
    this.#restarts = this.#restarts.filter((at) => now - at <= this.#withinMs);
    if (this.#restarts.length >= this.#max) {
      failing.phase = 'failed';
      this.#apply('exhausted');
      this.#doomAll();
      const why = `${what}; more than ${this.#max} restarts within ${this.#withinMs} ms`;
      return this.#advance([{ kind: 'escalate', id: failing.id, why }]);
    }
    this.#restarts.push(now); // S3
    this.#apply('restart');
    failing.phase = 'due';
    for (const index of affected(this.#strategy, this.#children.indexOf(failing), this.#children.length)) {
      const child = this.#children[index];
      if (child === undefined || child === failing) continue;
      if (child.type === 'temporary' && isLive(child)) child.leaves = true; // S5
      if (isLive(child)) doom(child);
      else child.phase = 'due';
    }
    return this.#advance([]);
  }

  #doomAll(): void {
    for (const child of this.#children) {
      if (isLive(child)) doom(child);
      else if (child.phase === 'due') child.phase = 'down';
    }
  }

  #down(child: Child, effects: SupervisorEffect[]): void {
    child.phase = 'down';
    // S5: the spec of a temporary child goes with it.
    if (!child.leaves && child.type !== 'temporary') return;
    this.#children = this.#children.filter((other) => other !== child);
    effects.push({ kind: 'removed', id: child.id });
  }

  /** S1: the next stops and starts; called after every event, adds to its effects. */
  #advance(effects: SupervisorEffect[]): SupervisorEffect[] {
    const atOnce = this.#strategy === 'one-for-one' && !this.#isEnding;
    if (atOnce || !this.#some('stopping')) {
      const doomed = this.#children.filter((child) => child.phase === 'doomed').reverse();
      for (const child of atOnce ? doomed : doomed.slice(0, 1)) {
        child.phase = 'stopping';
        effects.push({ kind: 'stop', id: child.id });
      }
    }
    if (atOnce || !(this.#some('stopping') || this.#some('starting'))) {
      const due = this.#children.filter((child) => child.phase === 'due');
      for (const child of atOnce ? due : due.slice(0, 1)) {
        child.phase = 'starting';
        effects.push({ kind: 'start', id: child.id });
      }
    }
    if (this.#isEnding && !this.#children.some(isLive)) this.#apply('emptied');
    if (this.#state === 'restarting' && !this.#children.some(isComingBack)) this.#apply('settled');
    return effects;
  }

  #some(phase: ChildPhase): boolean {
    return this.#children.some((child) => child.phase === phase);
  }
}

/** Somebody has been told to start it, and nobody has told of its end. */
function isLive(child: Child): boolean {
  return child.phase === 'starting' || child.phase === 'up' || child.phase === 'doomed' || child.phase === 'stopping';
}

/** On its way through a restart. A child that is new is not. */
function isComingBack(child: Child): boolean {
  if (child.phase === 'doomed' || child.phase === 'stopping') return true;
  return child.wasUp && (child.phase === 'due' || child.phase === 'starting');
}

function doom(child: Child): void {
  if (child.phase !== 'stopping') child.phase = 'doomed';
}

function checkKeys(what: string, given: object, known: readonly string[]): void {
  if (typeof given !== 'object' || given === null) refuse(what, `an object with ${known.join(' and ')}`, given);
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown !== undefined) refuse(what, `an object with only ${known.join(' and ')}`, unknown);
}

function refuse(option: string, expected: string, received: unknown): never {
  const shown = typeof received === 'string' ? `"${received}"` : String(received);
  throw new TypeError(`${option} must be ${expected}; got ${shown}`);
}
