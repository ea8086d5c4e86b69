/**
 * A small model of a pool, in the place of actor/pool.ts behind an infer step: a mailbox with a capacity, batches by
 * size, delay and flush, replicas that die, hang, answer late or wrongly. Every accepted submission is settled once;
 * what the real pool does beyond that (splitting, quarantine, swaps, restarts) is the other family's subject.
 */
import type { RecordOutcome } from '../../core/operator-slot.js';
import { OperatorSlot } from '../../core/operator-slot.js';
import type { TroupeError } from '../../kernel/errors.js';
import type { Envelope } from '../../stream/envelope.js';
import { SIM_ERRORS } from './errors.js';
import { STREAM_FAULT } from './faults.js';
import type { StreamShape } from './scenario.js';
import type { UserFunctions } from './values.js';
import { STREAM_EVENT, type StreamWorld } from './world.js';

/** A record in an infer step, and what the simulator itself knows of it. */
export class SimSlot extends OperatorSlot {
  /** Place among all that entered the step. */
  entry = 0;
  key = '';
  /** Tries it had when it entered. */
  restoredAttempts = 0;
  /** Tries that a pool has accepted. */
  submitCount = 0;
  /** It has been counted as a retry when it had so many tries behind it. */
  countedTry = -1;
  seenLease: unknown = undefined;

  // the pool's
  place: 'out' | 'queued' | 'sent' | 'dropped' = 'out';
  holder: SimTarget | undefined = undefined;
  /** Number of the submission; an event of an older one means nothing. */
  submission = 0;
  arrivedAt = 0;

  constructor(readonly envelope: Envelope) {
    super();
  }
}

class Batch {
  readonly slots: SimSlot[] = [];
  readonly submissions: number[] = [];
  error: TroupeError | undefined = undefined;
  /** Its replica is back after this; undefined: the replica is well. */
  backAfterMs: number | undefined = undefined;
  /** Declared hung; what comes now is late. */
  isOver = false;

  constructor(readonly target: SimTarget) {}
}

/** What an infer step needs of a pool. */
export interface PoolPort {
  isClosed: boolean;
  readonly wantsRoom: boolean;
  /** True: accepted. Undefined: no room; `onRoom` will be told once. */
  offer(slot: SimSlot): true | TroupeError | undefined;
  flush(): void;
  /** A turn of it; true where that gave something to do. */
  dispatch(): boolean;
}

export interface PortOptions {
  readonly isSecond: boolean;
  /** A submission has ended. */
  readonly onEnded: (slot: SimSlot, outcome: RecordOutcome, port: PoolPort) => void;
  readonly onRoom: () => void;
}

const ROW_ERROR: RecordOutcome = { ok: false, error: SIM_ERRORS.row };

export class SimTarget implements PoolPort {
  readonly #world: StreamWorld;
  readonly #functions: UserFunctions;
  readonly #shape: StreamShape;
  readonly #isSecond: boolean;
  readonly #onEnded: PortOptions['onEnded'];
  readonly #onRoom: () => void;
  #queue: SimSlot[] = [];
  /** Of `#queue`; the rest was settled meanwhile. */
  #queuedCount = 0;
  /** So many from the head of the queue want no company. */
  #flushedCount = 0;
  #idleCount: number;
  #wantsRoom = false;
  #delayAt = Infinity;
  #outageUntil = -1;
  isClosed = false;

  constructor(
    world: StreamWorld,
    functions: UserFunctions,
    shape: StreamShape,
    { isSecond, onEnded, onRoom }: PortOptions,
  ) {
    this.#world = world;
    this.#functions = functions;
    this.#shape = shape;
    this.#isSecond = isSecond;
    this.#onEnded = onEnded;
    this.#onRoom = onRoom;
    this.#idleCount = shape.replicas;
  }

  get wantsRoom(): boolean {
    return this.#wantsRoom;
  }

  offer(slot: SimSlot): true | TroupeError | undefined {
    const world = this.#world;
    if (this.#queuedCount >= this.#shape.poolCapacity) {
      this.#wantsRoom = true;
      this.flush();
      return undefined;
    }
    if (world.strikes(STREAM_FAULT.refuse)) {
      return world.chance.next() < 0.5 ? SIM_ERRORS.refused : SIM_ERRORS.refusedForNow;
    }
    slot.submission++;
    slot.holder = this;
    slot.arrivedAt = world.now;
    if (world.strikes(STREAM_FAULT.shed)) {
      slot.place = 'dropped';
      world.at(world.now, STREAM_EVENT.drop, slot.submission, new Told(this, slot));
      return true;
    }
    slot.place = 'queued';
    this.#queue.push(slot);
    this.#queuedCount++;
    // Of the second pool, too: its deadline was set when it was offered.
    if (slot.deadlineAt !== Infinity)
      world.at(slot.deadlineAt, STREAM_EVENT.expire, slot.submission, new Told(this, slot));
    return true;
  }

  flush(): void {
    this.#flushedCount = this.#queuedCount;
    this.#dispatch();
  }

  /** Its submissions end inside events of their own. */
  dispatch(): boolean {
    this.#dispatch();
    return false;
  }

  // ------------------------------------------------------------------ events

  expired(slot: SimSlot, submission: number): void {
    if (slot.submission !== submission || (slot.place !== 'queued' && slot.place !== 'sent')) {
      this.#world.eventCount--; // a timer that was not taken back
      return;
    }
    if (slot.place === 'queued') this.#left();
    this.#settle(slot, slot.place === 'queued' ? EXPIRED_IN_QUEUE : EXPIRED);
    this.#dispatch();
  }

  dropped(slot: SimSlot, submission: number): void {
    if (slot.submission === submission && slot.place === 'dropped') this.#settle(slot, DROPPED);
  }

  delayed(): void {
    if (this.#world.now < this.#delayAt) {
      this.#world.eventCount--;
      return;
    }
    this.#delayAt = Infinity;
    this.#dispatch();
  }

  replicaBack(): void {
    this.#idleCount++;
    this.#dispatch();
  }

  /** `kind` 0: the answer. 1: time is up. 2: the time of its tries is up, which the replica does not hear of. */
  answered(batch: unknown, kind: number): void {
    const told = batch as Batch;
    if (kind === 2) {
      for (let i = 0; i < told.slots.length; i++) {
        const slot = told.slots[i] as SimSlot;
        if (slot.submission === told.submissions[i] && slot.place === 'sent') this.#settle(slot, EXPIRED);
      }
      return;
    }
    if (told.isOver) return; // stale
    told.isOver = true;
    const failed: RecordOutcome | undefined =
      kind === 1
        ? { ok: false, error: SIM_ERRORS.hung }
        : told.error === undefined
          ? undefined
          : { ok: false, error: told.error };
    for (let i = 0; i < told.slots.length; i++) {
      const slot = told.slots[i] as SimSlot;
      if (slot.submission !== told.submissions[i] || slot.place !== 'sent') continue;
      this.#settle(slot, failed ?? this.#result(slot));
    }
    if (told.backAfterMs !== undefined) this.#world.after(told.backAfterMs, STREAM_EVENT.replica, 0, this);
    else this.#idleCount++;
    this.#dispatch();
  }

  #result(slot: SimSlot): RecordOutcome {
    const value = slot.input as number;
    if (!this.#isSecond && this.#functions.isPoison(value)) {
      this.#world.fired(STREAM_FAULT.poison);
      return ROW_ERROR;
    }
    if (this.#world.strikes(STREAM_FAULT['row-error'])) return ROW_ERROR;
    return { ok: true, value, version: this.#isSecond ? '2' : '1' };
  }

  // ----------------------------------------------------------------- batches

  #dispatch(): void {
    if (this.isClosed) return;
    const { batchMax } = this.#shape;
    while (this.#idleCount > 0 && this.#queuedCount > 0) {
      if (this.#queuedCount < batchMax && this.#flushedCount === 0 && !this.#isOverdue()) break;
      this.#send(batchMax);
    }
    if (this.#wantsRoom && this.#queuedCount < this.#shape.poolCapacity) {
      this.#wantsRoom = false;
      this.#onRoom();
    }
  }

  #isOverdue(): boolean {
    const { maxDelayMs } = this.#world.scenario;
    if (maxDelayMs === Infinity) return false;
    while (this.#queue[0] !== undefined && !this.#isQueued(this.#queue[0])) this.#queue.shift();
    const dueAt = (this.#queue[0] as SimSlot).arrivedAt + maxDelayMs;
    if (dueAt <= this.#world.now) return true;
    if (dueAt < this.#delayAt) {
      this.#delayAt = dueAt;
      this.#world.at(dueAt, STREAM_EVENT.delay, 0, this);
    }
    return false;
  }

  #send(size: number): void {
    const world = this.#world;
    const { costMs, batchTimeoutMs, timeoutMode, timeoutMs } = world.scenario;
    const batch = new Batch(this);
    const queue = this.#queue;
    while (batch.slots.length < size) {
      const slot = queue.shift();
      if (slot === undefined) break;
      if (!this.#isQueued(slot)) continue;
      slot.place = 'sent';
      this.#left();
      batch.slots.push(slot);
      batch.submissions.push(slot.submission);
    }
    this.#idleCount--;
    if (timeoutMode === 'batch' && timeoutMs > 0 && !this.#isSecond)
      world.at(world.now + timeoutMs, STREAM_EVENT.answer, 2, batch);
    let ms = costMs * (0.5 + world.chance.next());
    if (world.strikes(STREAM_FAULT.slow)) ms *= 10;
    if (world.strikes(STREAM_FAULT.outage)) this.#outageUntil = world.now + 20 * costMs;
    if (world.strikes(STREAM_FAULT.hang)) {
      batch.backAfterMs = costMs;
      world.after(batchTimeoutMs, STREAM_EVENT.answer, 1, batch);
      return;
    }
    if (world.strikes(STREAM_FAULT['late-answer'])) {
      batch.backAfterMs = costMs;
      world.after(batchTimeoutMs, STREAM_EVENT.answer, 1, batch);
      world.after(batchTimeoutMs * (1 + world.chance.next()), STREAM_EVENT.answer, 0, batch);
      return;
    }
    if (world.now < this.#outageUntil && world.isSafe) batch.error = SIM_ERRORS.crash;
    else if (world.strikes(STREAM_FAULT.throw)) batch.error = SIM_ERRORS.throw;
    else if (world.strikes(STREAM_FAULT['wrong-count'])) batch.error = SIM_ERRORS.wrongCount;
    else if (world.strikes(STREAM_FAULT.crash)) batch.error = SIM_ERRORS.crash;
    else if (world.strikes(STREAM_FAULT.oom)) batch.error = SIM_ERRORS.oom;
    if (batch.error === SIM_ERRORS.crash || batch.error === SIM_ERRORS.oom) {
      batch.backAfterMs = costMs;
      ms *= world.chance.next();
    }
    world.after(ms, STREAM_EVENT.answer, 0, batch);
  }

  /** What was settled while it waited stays in the array, and may be with another pool by now. */
  #isQueued(slot: SimSlot): boolean {
    return slot.place === 'queued' && slot.holder === this;
  }

  #left(): void {
    this.#queuedCount--;
    if (this.#flushedCount > 0) this.#flushedCount--;
  }

  #settle(slot: SimSlot, outcome: RecordOutcome): void {
    slot.place = 'out';
    this.#onEnded(slot, outcome, this);
  }
}

/** What an event of one submission is about. */
export class Told {
  constructor(
    readonly target: SimTarget,
    readonly slot: SimSlot,
  ) {}
}

export function targetOf(batch: unknown): SimTarget {
  return (batch as Batch).target;
}

const EXPIRED_IN_QUEUE: RecordOutcome = { ok: false, error: SIM_ERRORS.expiredInQueue };
const EXPIRED: RecordOutcome = { ok: false, error: SIM_ERRORS.expired };
const DROPPED: RecordOutcome = { ok: false, error: SIM_ERRORS.dropped };
