/**
 * One incarnation of a replica: the process, and what the host knows of it. Both sides stand in one object, but each
 * field belongs to one: the process can be gone while the host still believes in it, and the other way round.
 */

import type { DeathNotice } from '../core/effects.js';
import type { Request } from '../core/request.js';
import { emptied } from '../core/short-list.js';
import { TroupeError } from '../kernel/errors.js';
import { FAULT as FAULTS } from './faults.js';
import { POISON, type SimRecord } from './sim-record.js';
import { type Message, OUTCOME, type SimTransport } from './sim-transport.js';
import { EVENT as EVENTS, type World } from './world.js';

// A constant of this module is a number in the compiled code; one that was imported is looked up each time.
const EVENT = EVENTS;
const FAULT = FAULTS;

const LOAD_FAILED: DeathNotice = {
  cause: 'load-failed',
  error: new TroupeError('ACTOR_LOAD_FAILED', 'load() threw: no such model'),
};
export const DEATHS = {
  loadFailed: LOAD_FAILED,
  crash: { cause: 'crash', signal: 'SIGSEGV' },
  exit: { cause: 'exit', exitCode: 0 },
  oom: { cause: 'oom' },
  killed: { cause: 'killed', signal: 'SIGKILL' },
  hung: { cause: 'hung' },
  stopped: { cause: 'stopped' },
} as const satisfies Record<string, DeathNotice>;

/** A moment later, so that the seeded tie-break cannot turn it round. */
const AFTER_MS = 1e-6;

export class SimReplica {
  // the process
  isAlive = true;
  isUp = false;
  isPaused = false;
  /** Grows when the process ends, so that events meant for it find nobody. */
  epoch = 0;
  running: Message | undefined = undefined;
  readonly #queue: Message[] = [];
  #stops = false;
  #finishesOnResume = false;
  #death: DeathNotice = DEATHS.killed;

  // the host's view
  /** The host was told of its end: everything later is stale. */
  isTold = false;
  isReady = false;
  stopAsked = false;
  killAsked = false;
  /** Sent, in order, and not answered. */
  readonly open: Message[] = [];

  // the wire
  toChildAt = 0;
  toHostAt = 0;

  readonly #world: World;
  readonly #transport: SimTransport;

  constructor(
    world: World,
    transport: SimTransport,
    readonly cell: number,
    readonly slot: number,
    readonly incarnation: number,
    readonly version: string,
    readonly versionNumber: number,
  ) {
    this.#world = world;
    this.#transport = transport;
  }

  // ------------------------------------------------------------- the process

  load(isBad: boolean): void {
    const world = this.#world;
    const { loadMs, loadTimeoutMs } = world.scenario;
    if (isBad || world.strikes(FAULT['load-fail'])) this.#exitAfter(world.replicas.next() * loadMs, DEATHS.loadFailed);
    else if (world.strikes(FAULT['load-hang'])) this.#exitAfter(loadTimeoutMs, DEATHS.loadFailed);
    else {
      const ms = loadMs * (0.5 + world.replicas.next()) * (world.strikes(FAULT['load-slow']) ? 10 : 1);
      world.after(ms, EVENT.loaded, this.epoch, this);
    }
  }

  loaded(): void {
    this.isUp = true;
    const at = this.#world.now + this.#world.netMs();
    this.toHostAt = at;
    this.#world.at(at, EVENT.ready, 0, this);
  }

  deliver(message: Message): void {
    if (!this.isAlive) {
      this.#world.fired(FAULT['dead-send']);
      return;
    }
    if (this.#stops) return; // fenced
    if (this.running === undefined) this.#begin(message);
    else this.#queue.push(message);
  }

  #next(): void {
    if (this.running !== undefined || this.#queue.length === 0) return;
    this.#begin(this.#queue.shift() as Message);
  }

  #begin(message: Message): void {
    const world = this.#world;
    const { costMs, costPerRecordMs, repeatable } = world.scenario;
    const { requests, buffers } = message;
    this.running = message;
    let throws = false;
    let crashes = false;
    for (let i = 0; i < requests.length; i++) {
      const record = (requests[i] as Request).owner as SimRecord;
      if (buffers === undefined) {
        if (record.length === 0 || record.recordId !== record.id) this.#inputIsGone(record);
      } else {
        const buffer = buffers[i];
        if (buffer === undefined || buffer.length === 0 || buffer.recordId !== record.id) this.#inputIsGone(record);
      }
      record.runCount++;
      if (record.poison === POISON.throws) throws = true;
      else if (record.poison === POISON.crashes) crashes = true;
    }
    let ms = costMs + costPerRecordMs * requests.length;
    if (world.strikes(FAULT.slow)) ms *= 10;
    if (crashes) {
      world.fired(FAULT['poison-crash']);
      this.#exitAfter(ms * world.replicas.next(), DEATHS.crash);
    } else if (world.strikes(FAULT.crash)) this.#exitAfter(ms * world.replicas.next(), DEATHS.crash);
    else if (world.strikes(FAULT['exit-0'])) this.#exitAfter(ms * world.replicas.next(), DEATHS.exit);
    else if (world.strikes(FAULT.oom)) this.#exitAfter(ms * world.replicas.next(), DEATHS.oom);
    else if (world.strikes(FAULT.hang)) return;
    else {
      if (throws) world.fired(FAULT['poison-throw']);
      if (throws || world.strikes(FAULT.throw)) {
        message.outcome = OUTCOME.threw;
        message.threwByChance = !throws;
        for (const request of requests) {
          const record = request.owner as SimRecord;
          if (requests.length === 1 || !repeatable) record.threwAlone = true;
        }
      } else if (world.strikes(FAULT['wrong-count'])) {
        message.outcome = OUTCOME.wrongCount;
        for (const request of requests) (request.owner as SimRecord).wasLiedAbout = true;
      }
      world.after(ms, EVENT.finish, this.epoch, this);
    }
  }

  #inputIsGone({ id, sendCount }: SimRecord): void {
    this.#world.violate('whole-input', `record ${id} reached a replica on send ${sendCount} without its input`);
  }

  finish(): void {
    if (this.isPaused) {
      this.#finishesOnResume = true;
      return;
    }
    const message = this.running as Message;
    this.running = undefined;
    this.#transport.reply(message);
    if (this.#stops) this.#exitAfter(0, DEATHS.stopped);
    else this.#next();
  }

  /** A signal from outside, or an end of its own; the process is gone at once, the host hears later. */
  end(death: DeathNotice): void {
    if (!this.isAlive) return;
    // A link that was told to kill reports `hung`, whoever was quicker.
    this.#death = this.killAsked ? DEATHS.hung : death;
    this.exit();
  }

  exit(): void {
    const world = this.#world;
    this.isAlive = false;
    this.epoch++;
    this.running = undefined;
    emptied(this.#queue);
    if (this.isTold) return;
    const heardAt = world.now + world.scenario.exitDelayMs * world.transport.next();
    // T3: the exit is told last, after every reply that was sent before it.
    world.at(Math.max(heardAt, this.toHostAt + AFTER_MS), EVENT.died, 0, this);
  }

  get death(): DeathNotice {
    return this.#death;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    if (!this.isAlive) return;
    this.isPaused = false;
    if (this.#finishesOnResume) {
      this.#finishesOnResume = false;
      this.finish();
    }
    // A zombie: the host gave it up long ago; its own end interests nobody.
    if (this.isTold) this.end(DEATHS.hung);
  }

  #exitAfter(ms: number, death: DeathNotice): void {
    this.#death = death;
    this.#world.after(ms, EVENT.exit, this.epoch, this);
  }

  // ---------------------------------------------------------------- the link

  /** The stop ladder: drain, SIGTERM, SIGKILL; `now` skips the drain. */
  stop(now: boolean): void {
    const world = this.#world;
    this.stopAsked = true;
    if (!this.isAlive) return;
    const { stopTimeoutMs } = world.scenario;
    if (now) {
      this.#stops = true;
      this.#exitAfter(world.netMs(), DEATHS.stopped);
      return;
    }
    if (this.#stops) return;
    world.after(3 * stopTimeoutMs, EVENT.lastRung, this.epoch, this);
    if (world.strikes(FAULT['stop-ignored'])) return;
    this.#stops = true;
    emptied(this.#queue);
    if (this.running === undefined) this.#exitAfter(world.netMs(), DEATHS.stopped);
  }

  /** Declared hung. A paused process stays behind as a zombie: the host is told at once, the process ends later. */
  kill(): void {
    const world = this.#world;
    this.killAsked = true;
    if (!this.isAlive) return;
    if (this.isPaused) {
      this.#death = DEATHS.hung;
      world.after(world.scenario.exitDelayMs * world.transport.next(), EVENT.died, 0, this);
      return;
    }
    this.#exitAfter(0, DEATHS.hung);
  }
}
