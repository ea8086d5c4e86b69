import { StartGate } from '../core/start-gate.js';
import { type Clock, systemClock, type Timer } from '../kernel/clock.js';
import { deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import type { ModelDescription, ModelSpec } from '../wire/messages.js';
import { cpuCount } from './cpus.js';
import type { Death, Link, LinkEvents, ReplicaSpec, StartLink } from './link.js';
import { type LiveReplica, trackLive } from './shutdown.js';

/**
 * Threads and child processes that are to start wait here for their turn, so that a machine is not asked for more starts
 * at once than it has processors for. core/start-gate.ts decides who is next; this begins them. Inline replicas start in
 * the thread that would have to wait: they have no turns.
 *
 * A replica that waits is told of as one that starts: it may be stopped, and has ended then. Nothing of it is there before
 * its turn, and its loadTimeoutMs counts from then on.
 */

/** Several times what a child takes from its fork to its first word on two busy processors. */
const SLOW_MS = 2000;

/** How many start at once, unless it is said: a few replicas start as if there were no turns. */
export function defaultStartsAtOnce(): number {
  return Math.max(4, 2 * cpuCount());
}

export class StartTurns {
  readonly #gate: StartGate;
  readonly #clock: Clock;
  readonly #begins = new Map<number, () => void>();
  #timer: Timer | undefined;

  constructor(atOnce: number = defaultStartsAtOnce(), clock: Clock = systemClock) {
    this.#gate = new StartGate({ atOnce, slowMs: SLOW_MS });
    this.#clock = clock;
  }

  /** Calls `begin` when the turn has come, which may be now. Gives what is to be called when the start is over, or unwanted. */
  take(pool: string, begin: () => void): () => void {
    const start = this.#gate.ask(pool);
    this.#begins.set(start, begin);
    this.#advance();
    return () => {
      this.#begins.delete(start);
      this.#gate.done(start);
      this.#advance();
    };
  }

  #advance(): void {
    for (const start of this.#gate.take(this.#clock.now())) {
      const begin = this.#begins.get(start);
      this.#begins.delete(start);
      begin?.();
    }
    this.#timer?.cancel();
    const wakeAt = this.#gate.nextWakeAt();
    this.#timer = wakeAt === Infinity ? undefined : this.#clock.at(wakeAt, () => this.#advance());
  }
}

/** Starts replicas as `startLink` does, each in its turn. */
export function inTurn(startLink: StartLink, turns: StartTurns): StartLink {
  return (spec, events) => {
    if (spec.isolation === 'inline') return startLink(spec, events);
    let link: Link | undefined;
    let awaited: AwaitedLink | undefined;
    const over = turns.take(spec.pool, () => {
      link = startLink(spec, {
        ...events,
        ready: (description) => {
          events.ready(description);
          over();
        },
        exited: (death) => {
          events.exited(death);
          over();
        },
      });
      awaited?.begun(link);
    });
    // One that need not wait is what it would be without turns.
    if (link === undefined) awaited = new AwaitedLink(spec, events, over);
    return link ?? (awaited as AwaitedLink);
  };
}

/** The link of a replica whose turn has not come, and from then on a way to its own. */
class AwaitedLink implements Link, LiveReplica {
  readonly spec: ReplicaSpec;
  readonly closed: Promise<void>;
  readonly #events: LinkEvents;
  readonly #leave: () => void;
  readonly #close: () => void;
  #link: Link | undefined;
  #hasEnded = false;

  constructor(spec: ReplicaSpec, events: LinkEvents, leave: () => void) {
    const closed = deferred<void>();
    this.spec = spec;
    this.closed = closed.promise;
    this.#events = events;
    this.#leave = leave;
    this.#close = () => closed.resolve();
    trackLive(this);
  }

  get isWaiting(): boolean {
    return this.#link === undefined && !this.#hasEnded;
  }

  /** It is tracked by itself from now on. */
  begun(link: Link): void {
    this.#link = link;
    this.#close();
  }

  /** Only what is ready is sent something. */
  send(batchId: number, inputs: readonly unknown[], shared?: boolean, model?: string): void {
    this.#link?.send(batchId, inputs, shared, model);
  }

  abandon(batchId: number): void {
    this.#link?.abandon(batchId);
  }

  call(method: string, args: readonly unknown[]): Promise<unknown> {
    return this.#link?.call(method, args) ?? this.#notStarted();
  }

  loadModel(spec: ModelSpec): Promise<ModelDescription> {
    return this.#link?.loadModel(spec) ?? this.#notStarted();
  }

  unloadModel(key: string): Promise<void> {
    return this.#link?.unloadModel(key) ?? this.#notStarted();
  }

  stop(options?: { readonly now?: boolean }): void {
    if (this.#link === undefined) this.#end({ cause: 'stopped' });
    else this.#link.stop(options);
  }

  kill(reason: 'hung'): void {
    if (this.#link === undefined) this.#end({ cause: reason });
    else this.#link.kill(reason);
  }

  #end(death: Death): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#leave();
    setImmediate(() => {
      this.#events.exited(death);
      this.#close();
    });
  }

  #notStarted(): Promise<never> {
    const { pool: actor, replica, incarnation } = this.spec;
    const message = `Replica ${replica} of "${actor}" has not been started yet`;
    return Promise.reject(new TroupeError('NO_REPLICA', message, { actor, replica, incarnation }));
  }
}
