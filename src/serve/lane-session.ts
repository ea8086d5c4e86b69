/**
 * One client of the framed lane, as the server has it: its records on their way through the pools, and their outcomes on
 * the way back (lane-outbox.ts). It outlives its connection, see lane-window.ts, which decides; here stand the pools and the
 * questions.
 *
 * S1 records meet those of everybody else in the mailbox of their pool; what finds no room waits here, within what was
 *    allowed, and nothing more is allowed meanwhile.
 * S2 outcomes of one turn go out together, before the pieces of streams that began with them.
 * S3 when the connection is cut, what no replica has had leaves the mailboxes at once.
 */
import type { Outcome } from '../actor/outcome.js';
import type { Submission } from '../actor/infer-target.js';
import type { Pool } from '../actor/pool.js';
import type { System } from '../actor/system.js';
import type { PoolTicket } from '../actor/ticket.js';
import { Turn } from '../actor/turn.js';
import type { Clock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import { toFault } from '../wire/fault.js';
import { type RecordsMessage, type ToClient, type ToServer, unfold, unfoldId } from '../wire/lane-messages.js';
import { unpackRows } from '../wire/rows.js';
import { giveUp, isTokenStream } from '../wire/token-stream.js';
import { droppedOutcomes, LaneOutbox } from './lane-outbox.js';
import { LANE_STREAMS_MAX, LaneWrites } from './lane-writes.js';
import { LaneWindow, WindowChannel, type WindowLimits, type WindowRecord } from './lane-window.js';

/** What a session says, while its client is there. */
export interface SessionPeer {
  say(message: ToClient): void;
  sayPieces(pieces: readonly Buffer[]): void;
}

export interface SessionParts {
  readonly system: System;
  readonly clock: Clock;
  readonly limits: WindowLimits;
  /** Names of pools that will be there. */
  readonly expected: () => readonly string[];
  /** The last unanswered record was answered. */
  readonly idle: () => void;
  /** A pool is not there yet: `look` is to be called before long. */
  readonly isWaiting: () => void;
}

type AnyPool = Pool<unknown, unknown>;
type Question = Extract<ToServer, { kind: 'call' | 'health' | 'stats' }>;

class SessionChannel extends WindowChannel<LaneSubmission> {
  pool: AnyPool | undefined = undefined;
  sender = 0;
  isOpen = false;
  isWaiting = false;
  /** As the client was told: whether predict may run again, and how often at most. */
  repeatable = false;
  attempts = 0;

  constructor(readonly name: string) {
    super();
  }
}

/** One record, as its pool sees it. */
class LaneSubmission implements Submission<unknown, unknown> {
  ticket: PoolTicket | undefined = undefined;
  record: WindowRecord<LaneSubmission> | undefined = undefined;

  constructor(
    private readonly session: LaneSession,
    private readonly channel: SessionChannel,
    readonly input: unknown,
    readonly priority: number,
    readonly deadlineAt: number,
    readonly callTimeoutMs: number | undefined,
    readonly key: string | undefined,
    readonly model: string | undefined,
    readonly traceparent: string | undefined,
  ) {}

  get sender(): number {
    return this.channel.sender;
  }

  settled(outcome: Outcome<unknown>): void {
    this.session.settled(this, outcome);
  }
}

/** Calls of methods and questions of one client that are under way. */
const CALLS_MAX = 64;

export class LaneSession {
  readonly #parts: SessionParts;
  readonly #window: LaneWindow<LaneSubmission, readonly Buffer[]>;
  readonly #turn = new Turn(() => this.#endTurn());
  readonly #writes = new LaneWrites(() => this.#turn.schedule());
  #channels = new Map<number, SessionChannel>();
  readonly #outbox: LaneOutbox;
  #peer: SessionPeer | undefined;
  #calls = 0;
  isLeaving = false;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.#window = new LaneWindow(parts.limits);
    this.#outbox = new LaneOutbox(this.#window, (pieces) => this.#peer?.sayPieces(pieces));
  }

  get expiresAt(): number {
    return this.#window.expiresAt;
  }

  get isIdle(): boolean {
    // Who called and went away is not waited for.
    const calls = this.#peer === undefined ? 0 : this.#calls + this.#writes.count;
    return this.#window.unansweredCount === 0 && this.#outbox.isEmpty && calls === 0;
  }

  get isConnected(): boolean {
    return this.#peer !== undefined;
  }

  /** The client is there, anew or again; `welcome` is told what of it is still here, before anything else is said. */
  connect(peer: SessionPeer, heard: number, welcome: (known: readonly number[]) => void): void {
    const kept = [...this.#window.resumed(heard)];
    this.#peer = peer;
    welcome(this.#window.ids());
    for (const one of kept) peer.sayPieces(one.frame ?? droppedOutcomes(one));
  }

  /** S3. */
  cut(): void {
    this.#peer = undefined;
    this.#writes.cut();
    const reason = new TroupeError('CANCELLED', 'The client has gone');
    for (const record of this.#window.cut(this.#parts.clock.now()))
      if (record.work?.ticket?.withdraw(reason) === true) this.#window.forget(record);
    for (const { pool, sender } of this.#channels.values()) pool?.closeSender(sender);
    this.#channels = new Map();
    this.#tellIdle();
  }

  /** Nobody will come for it: gives up everything. */
  end(): void {
    const reason = new TroupeError('CANCELLED', 'The client has gone');
    this.#writes.cut();
    for (const id of this.#window.ids()) this.#giveUp(id, reason);
    for (const { pool, sender } of this.#channels.values()) pool?.closeSender(sender);
    this.#channels.clear();
    this.#peer = undefined;
    this.#tellIdle();
  }

  /** What is wrong with it, in words; undefined where nothing is. */
  hear(message: Exclude<ToServer, { kind: 'hello' | 'bye' }>, bytes: number): string | undefined {
    switch (message.kind) {
      case 'records':
        return this.#records(message, bytes);
      case 'open':
        return this.#open(message.channel, message.pool);
      case 'cancel':
        for (const id of message.ids) this.#giveUp(id, new TroupeError('CANCELLED', 'The client gave it up'));
        this.#turn.schedule();
        return undefined;
      case 'flush':
        this.#poolOf(message.channel)?.flush();
        return undefined;
      case 'pull':
        return this.#writes.pull(message.id, message.count);
      case 'quit':
        this.#writes.quit(message.id);
        this.#tellIdle();
        return undefined;
      case 'call':
      case 'health':
      case 'stats':
        void this.#answer(message);
        return undefined;
      case 'ping':
        this.#window.heard(message.heard);
        this.#peer?.say({ kind: 'pong' });
        this.#turn.schedule(); // What was kept for it may have been why nothing more was allowed.
        return undefined;
      default:
        return message satisfies never;
    }
  }

  /** A pool may have come. */
  look(): void {
    for (const [index, channel] of this.#channels)
      if (channel.isOpen) this.#poolOf(index);
      else this.#tryOpen(index, channel);
  }

  /** Called by a submission, from inside its pool: only bookkeeping here. */
  settled(submission: LaneSubmission, outcome: Outcome<unknown>): void {
    const { record } = submission;
    const stream = outcome.ok && isTokenStream(outcome.value) ? outcome.value : undefined;
    if (record === undefined || !this.#window.answered(record)) {
      giveUp(stream);
      return;
    }
    const { id } = record;
    if (stream === undefined || !outcome.ok) this.#outbox.add(id, outcome);
    else if (this.#peer === undefined) {
      giveUp(stream);
      this.#outbox.add(id, { ok: false, error: unread() });
    } else if (this.#writes.isFull) {
      giveUp(stream);
      this.#outbox.add(id, { ok: false, error: tooManyStreams() });
    } else {
      this.#writes.begin(id, stream);
      this.#outbox.addStream(id, { ...outcome, value: undefined });
    }
    this.#turn.schedule();
  }

  // ---------------------------------------------------------------- in

  #open(index: number, name: string): string | undefined {
    const known = this.#channels.get(index);
    if (known?.isOpen === true) {
      if (known.name !== name) return `channel ${index} is open already`;
      this.#sayOpened(index, known); // Who asked twice has not heard the first answer.
      return undefined;
    }
    for (const [at, { name: other }] of this.#channels)
      if (other === name && at !== index) return `pool "${name}" has a channel already`;
    const channel = new SessionChannel(name);
    this.#channels.set(index, channel);
    this.#tryOpen(index, channel);
    return undefined;
  }

  /** A pool that is only just coming is waited for: who comes back after a restart is often faster. */
  #tryOpen(index: number, channel: SessionChannel): void {
    const { system, expected, isWaiting } = this.#parts;
    const pool = system.get<unknown, unknown>(channel.name);
    if (pool === undefined) {
      if (expected().includes(channel.name)) return isWaiting();
      this.#channels.delete(index);
      const names = system.names().join(', ') || 'none';
      const message = `There is no pool "${channel.name}" here; there are: ${names}`;
      this.#peer?.say({ kind: 'closed', channel: index, fault: toFault(new TroupeError('POOL_NOT_FOUND', message)) });
      return;
    }
    if (pool.repeatable === undefined && pool.stats().state === 'starting') return isWaiting();
    this.#bind(channel, pool);
    channel.isOpen = true;
    this.#sayOpened(index, channel);
  }

  #sayOpened(index: number, channel: SessionChannel): void {
    const { pool } = channel;
    if (pool === undefined) return;
    const { records, bytes } = this.#window.allowance(channel, !this.isLeaving) ?? channel.told;
    // Until it is known that what it ran may run again, it is taken not to be so.
    const { repeatable = false, attempts } = pool;
    channel.repeatable = repeatable;
    channel.attempts = attempts;
    this.#peer?.say({ kind: 'opened', channel: index, repeatable, attempts, records, bytes });
  }

  #bind(channel: SessionChannel, pool: AnyPool): void {
    if (channel.pool === pool) return;
    channel.pool?.closeSender(channel.sender);
    channel.pool = pool;
    channel.isWaiting = false;
    channel.sender = pool.openSender('lane');
  }

  /**
   * Of an open channel. A pool that was stopped and spawned again has the name of the old one, and takes its place; what
   * it says of itself otherwise the client is told.
   */
  #poolOf(index: number): AnyPool | undefined {
    const channel = this.#channels.get(index);
    if (channel?.isOpen !== true) return undefined;
    const pool = this.#parts.system.get<unknown, unknown>(channel.name);
    if (pool === undefined) return channel.pool;
    const isOther = pool !== channel.pool;
    if (isOther) this.#bind(channel, pool);
    // Before it is given any record: if this server dies, its client knows what may be sent to another one.
    if (channel.attempts !== pool.attempts || channel.repeatable !== (pool.repeatable ?? false))
      this.#sayOpened(index, channel);
    if (pool.repeatable === undefined && pool.stats().state === 'starting') this.#parts.isWaiting();
    if (isOther) {
      this.#feed(channel);
      this.#turn.schedule();
    }
    return pool;
  }

  #records(message: RecordsMessage, bytes: number): string | undefined {
    const channel = this.#channels.get(message.channel);
    const pool = this.#poolOf(message.channel);
    if (channel === undefined || pool === undefined) return `channel ${message.channel} is not open`;
    this.#window.heard(message.heard);
    const { payload, ids, asked } = message;
    if (payload.kind === 'columns') return 'records that are columns';
    const inputs = unpackRows(payload);
    const now = this.#parts.clock.now();
    const numbers = typeof ids === 'number' ? inputs.map((_, index) => unfoldId(ids, index)) : ids;
    const fresh = this.#window.take(channel, numbers, asked, bytes, (index) => {
      const { priority, remainingMs, callTimeoutMs, key, model, traceparent } = message;
      return new LaneSubmission(
        this,
        channel,
        inputs[index],
        unfold(priority, index),
        now + unfold(remainingMs, index),
        unfold(callTimeoutMs, index),
        unfold(key, index),
        unfold(model, index),
        unfold(traceparent, index),
      );
    });
    if (typeof fresh === 'string') return fresh;
    for (const record of fresh) {
      const { work } = record;
      if (work === undefined) continue; // None has gone yet.
      work.record = record;
      if (!asked) continue;
      this.#window.offered(record);
      if (this.#window.isOverfull) this.settled(work, { ok: false, error: overfull(channel.name) });
      else work.ticket = pool.offerAsked(work);
    }
    if (!asked) {
      this.#feed(channel);
      if (this.#window.isCrowded) this.#turnAway(channel, fresh);
    }
    if (message.flush) pool.flush();
    this.#turn.schedule();
    return undefined;
  }

  /** What has just come, as far as it still waits; not what came before it. */
  #turnAway({ name }: SessionChannel, fresh: readonly WindowRecord<LaneSubmission>[]): void {
    for (const record of fresh) {
      if (record.place !== 'inbox' || record.work === undefined) continue;
      this.#window.turnedAway(record);
      this.settled(record.work, { ok: false, error: crowded(name) });
    }
  }

  /** S1. */
  readonly #feed = (channel: SessionChannel): void => {
    const { pool } = channel;
    if (pool === undefined || channel.isWaiting) return;
    for (let record = channel.inbox[0]; record?.work !== undefined; record = channel.inbox[0]) {
      const ticket = pool.offer(record.work);
      if (ticket === undefined) {
        channel.isWaiting = true;
        pool.onRoom(channel.sender, () => {
          channel.isWaiting = false;
          this.#feed(channel);
          this.#turn.schedule();
        });
        return;
      }
      record.work.ticket = ticket;
      this.#window.offered(record);
    }
  };

  #giveUp(id: number, reason: TroupeError): void {
    const record = this.#window.get(id);
    const ticket = record?.work?.ticket;
    if (record !== undefined) this.#window.forget(record);
    ticket?.cancel(reason);
  }

  async #answer(message: Question): Promise<void> {
    const { id } = message;
    const peer = this.#peer;
    if (this.#calls >= CALLS_MAX) {
      const error = new TroupeError('OVERLOADED', `${CALLS_MAX} calls of this client are under way already`);
      return peer?.say({ kind: 'answer', id, fault: toFault(error) });
    }
    this.#calls++;
    try {
      const pool = this.#poolOf(message.channel);
      if (pool === undefined) throw new TroupeError('POOL_NOT_FOUND', 'There is no such pool here');
      const value = await answerOf(pool, message);
      peer?.say({ kind: 'answer', id, value });
    } catch (error) {
      peer?.say({ kind: 'answer', id, fault: toFault(error) });
    } finally {
      this.#calls--;
      this.#tellIdle();
    }
  }

  // --------------------------------------------------------------- out

  /** S2. */
  #endTurn(): void {
    this.#outbox.flush();
    this.#writes.flush((message) => this.#peer?.say(message));
    for (const [index, channel] of this.#channels) {
      if (!channel.isOpen) continue;
      const allowed = this.#window.allowance(channel, !this.isLeaving);
      if (allowed !== undefined) this.#peer?.say({ kind: 'grant', channel: index, ...allowed });
    }
    this.#tellIdle();
  }

  #tellIdle(): void {
    if (this.isIdle) this.#parts.idle();
  }
}

function unread(): TroupeError {
  return new TroupeError('INTERRUPTED', 'The client was away when its token stream began, and it was ended');
}

function tooManyStreams(): TroupeError {
  const message = `${LANE_STREAMS_MAX} token streams of this client are under way already`;
  return new TroupeError('OVERLOADED', message, { ran: 'interrupted' });
}

function answerOf(pool: AnyPool, message: Question): unknown {
  switch (message.kind) {
    case 'call':
      return pool.call(message.method, ...message.args);
    case 'health':
      return pool.health();
    case 'stats':
      return pool.stats();
    default:
      return message satisfies never;
  }
}

function crowded(name: string): TroupeError {
  const message = `Pool "${name}": too many bytes of this client wait for room in mailboxes`;
  return new TroupeError('MAILBOX_FULL', message, { actor: name });
}

function overfull(name: string): TroupeError {
  const message = `Pool "${name}": too many bytes of outcomes wait until the client has heard of them`;
  return new TroupeError('MAILBOX_FULL', message, { actor: name });
}
