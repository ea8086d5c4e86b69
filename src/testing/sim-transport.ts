/**
 * The faulty transport: does what Node's real ones were measured to do.
 *
 * T1 a message to a process that is gone vanishes, and sending it still reports success: `worker.postMessage` to a dead
 * worker is a no-op, `child.send` right after SIGKILL returns true. T2 a buffer that was transferred and is sent again
 * arrives with length zero (Node 20 says nothing); so the link sends copies and the caller's stay whole. T3 messages of
 * one direction keep their order, except replies that a fault delays.
 */

import type { Trigger } from '../core/batcher.js';
import type { Request } from '../core/request.js';
import { FAULT as FAULTS } from './faults.js';
import type { SimBuffer, SimRecord } from './sim-record.js';
import type { SimReplica } from './sim-replica.js';
import { EVENT as EVENTS, type World } from './world.js';

// A constant of this module is a number in the compiled code; one that was imported is looked up each time.
const EVENT = EVENTS;
const FAULT = FAULTS;

export const OUTCOME = { ok: 0, threw: 1, wrongCount: 2, mixedUp: 3 } as const;

/** One batch on its way there and back. */
export class Message {
  outcome: number = OUTCOME.ok;
  /** The host took a reply to it, or was told that the replica ended. */
  isClosed = false;
  /** No record of it was to blame. */
  threwByChance = false;
  poisonCount = 0;
  constructor(
    readonly replica: SimReplica,
    readonly batchId: number,
    readonly requests: readonly Request[],
    readonly buffers: readonly SimBuffer[] | undefined,
    readonly trigger: Trigger,
  ) {}

  get isQuarantine(): boolean {
    return this.trigger === 'quarantine';
  }
}

export class SimTransport {
  readonly #world: World;
  /** T2 the wrong way: transfers the caller's own buffers. For the canary alone. */
  readonly #careless: boolean;

  constructor(world: World, { careless }: { careless: boolean }) {
    this.#world = world;
    this.#careless = careless;
  }

  /** The copies that cross the boundary for these records; undefined where the caller's own are read in place. */
  pack(requests: readonly Request[]): SimBuffer[] | undefined {
    if (!this.#world.scenario.transfer) return undefined;
    const buffers = [this.#copy(requests[0] as Request)];
    for (let i = 1; i < requests.length; i++) buffers.push(this.#copy(requests[i] as Request));
    return buffers;
  }

  #copy({ owner }: Request): SimBuffer {
    const record = owner as SimRecord;
    const copy = { recordId: record.recordId, length: record.length };
    if (this.#careless) record.length = 0;
    return copy;
  }

  /** True whatever becomes of it (T1). */
  send(message: Message): boolean {
    const { replica } = message;
    const at = Math.max(replica.toChildAt, this.#world.now + this.#world.netMs());
    replica.toChildAt = at;
    this.#world.at(at, EVENT.deliver, 0, message);
    return true;
  }

  reply(message: Message): void {
    const world = this.#world;
    const { replica } = message;
    if (world.strikes(FAULT['reply-late'])) {
      world.after(world.transport.next() * 3 * world.scenario.limits.batchTimeoutMs, EVENT.reply, 0, message);
      return;
    }
    const at = Math.max(replica.toHostAt, world.now + world.netMs());
    replica.toHostAt = at;
    world.at(at, EVENT.reply, 0, message);
    if (world.strikes(FAULT['reply-twice'])) world.after(world.netMs() * 3, EVENT.reply, 0, message);
    if (world.strikes(FAULT['reply-invented']))
      world.after(world.netMs(), EVENT.reply, 1 + (message.batchId % 3), message);
  }
}
