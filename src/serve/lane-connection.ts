/**
 * A client of the framed lane: the pools of one address over one connection. Owns which channels are open and what becomes
 * of each record; what is sent when, and again, is decided by lane-book.ts, chunks become messages in lane-sender.ts, what is
 * asked beside records is in lane-questions.ts, and the socket is that of lane-link.ts.
 *
 * C1 every submission that was taken in is settled once, never from inside `offer`: all settling goes through `#settle`.
 * C2 one message for a chunk of records, at the end of the turn in which they were offered.
 * C3 the process stays alive while something is unsettled, or waits for room, and for nothing else.
 */
import { randomBytes } from 'node:crypto';
import type { Ticket } from '../actor/infer-target.js';
import type { Outcome } from '../actor/outcome.js';
import type { PoolClient } from '../actor/pool-client.js';
import type { PoolHealth } from '../actor/readiness.js';
import type { PoolStats } from '../actor/stats.js';
import { NO_TICKET } from '../actor/ticket.js';
import { Turn } from '../actor/turn.js';
import type { Clock, Timer } from '../kernel/clock.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import type { Random } from '../kernel/random.js';
import { fromFault } from '../wire/fault.js';
import {
  isName,
  LANE_CHANNELS_MAX,
  LANE_NAME_MAX,
  type OutcomesMessage,
  type ToClient,
  unfold,
  unfoldId,
  type WelcomeMessage,
} from '../wire/lane-messages.js';
import { recordBytes } from '../wire/record-bytes.js';
import { unpackRows } from '../wire/rows.js';
import type { Connection } from './connect.js';
import { LaneBook, type LaneCall, type LaneChannel } from './lane-book.js';
import { LaneLink } from './lane-link.js';
import { LaneQuestions, type QuestionMessage } from './lane-questions.js';
import { LaneReads } from './lane-reads.js';
import { LaneSender } from './lane-sender.js';
import { type AnySubmission, type PoolWay, RemotePool } from './remote-pool.js';

export interface LaneConnectionParts {
  readonly address: string;
  readonly path: string;
  readonly token: string | undefined;
  readonly timeoutMs: number;
  readonly heartbeatMs: number;
  readonly clock: Clock;
  readonly random: Random;
}

type Call = LaneCall<AnySubmission>;
type Channel = LaneChannel<AnySubmission>;

/** After so many messages of outcomes, or an eighth of the bytes it keeps, the server is told that they were heard. */
const HEARD_EVERY = 16;
/**
 * A pool that was there is waited for when its server has been started anew: code that spawns pools after `serve` may take
 * so long. It is asked for so often.
 */
const GRACE_MS = 30_000;
const REOPEN_MS = 100;
/** How long a question about health waits for a first connection. */
const HEALTH_MS = 1000;

export class LaneConnection implements Connection, PoolWay {
  readonly address: string;
  readonly clock: Clock;
  readonly #parts: LaneConnectionParts;
  readonly #book = new LaneBook<AnySubmission>();
  readonly #pools = new Map<string, RemotePool<any, any>>(); // any: the record types are the caller's
  /** By the index of the channel. */
  readonly #byChannel: RemotePool<any, any>[] = []; // any: as above
  readonly #link: LaneLink;
  readonly #turn = new Turn(() => this.#endTurn());
  readonly #reads: LaneReads;
  readonly #questions: LaneQuestions;
  readonly #sender: LaneSender;
  /** Sent, and to be told to the server as not wanted any more. */
  #givenUp: number[] = [];
  readonly #client = randomBytes(16).toString('hex');
  /** Why there is no connection now. */
  #trouble: TroupeError | undefined;
  #heard = 0;
  #heardTold = 0;
  /** Of outcomes that the server keeps until it is told that they were heard. */
  #untoldBytes = 0;
  #timer: Timer | undefined;
  #timerAt = Infinity;
  #reopening: Timer | undefined;
  #isLeaving = false;

  constructor(parts: LaneConnectionParts) {
    const { address, path, heartbeatMs, clock, random } = parts;
    this.address = address;
    this.clock = clock;
    this.#parts = parts;
    this.#reads = new LaneReads(
      (message) => this.#link.write(message),
      clock,
      () => this.#rearm(),
    );
    this.#questions = new LaneQuestions({
      address,
      clock,
      say: (message) => this.#link.write(message),
      trouble: () => this.#trouble,
      changed: () => this.#rearm(),
    });
    this.#sender = new LaneSender({
      address,
      clock,
      book: this.#book,
      write: (pieces) => this.#link.writePieces(pieces),
      say: (message) => this.#link.write(message),
      heard: () => this.#tellHeard(),
      refuse: (call, error) => this.#settle(call, refused(error)),
    });
    this.#link = new LaneLink({
      path,
      heartbeatMs,
      clock,
      random,
      hello: () => ({
        client: this.#client,
        heard: this.#heard,
        ...(parts.token === undefined ? {} : { token: parts.token }),
      }),
      heard: () => this.#tellHeard(),
      welcomed: (message) => this.#welcomed(message),
      hear: (message, bytes) => this.#hear(message, bytes),
      down: (error) => this.#down(error),
    });
  }

  pool<In = unknown, Out = unknown>(name: string): PoolClient<In, Out> {
    if (typeof name !== 'string' || name === '' || !isName(name))
      throw new TypeError(
        `connect: pool must be the name of a pool, got ${typeof name === 'string' ? 'none' : typeof name}`,
      );
    const known = this.#pools.get(name);
    if (known !== undefined) return known;
    if (this.#byChannel.length >= LANE_CHANNELS_MAX)
      throw new TypeError(
        `connect: pool: a connection has at most ${LANE_CHANNELS_MAX} pools; make another connection`,
      );
    const channel = this.#book.add(name);
    const pool = new RemotePool<In, Out>(this, channel, this.#parts.timeoutMs);
    this.#pools.set(name, pool);
    this.#byChannel.push(pool);
    if (this.#link.isUp) this.#open(channel);
    return pool;
  }

  async close(): Promise<void> {
    if (this.#link.isClosed) return;
    this.#link.close();
    this.#trouble = new TroupeError('POOL_STOPPED', `The connection to ${this.address} was closed`);
    this.#book.cut();
    for (const call of [...this.#book.all()]) this.#refuse(call, 'POOL_STOPPED', this.#trouble.message);
    this.#questions.fail(this.#trouble);
    this.#cutReads('POOL_STOPPED', this.#trouble);
    for (const pool of this.#byChannel) pool.callAllWaiters();
    this.#timer?.cancel();
    this.#reopening?.cancel();
    this.#link.hold(false);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // ------------------------------------------------------------ PoolWay

  offer(channel: Channel, submission: AnySubmission): Ticket | undefined {
    const refusal = this.#refusal() ?? objectionTo(submission);
    if (refusal !== undefined) return settleLater(submission, refusal);
    const call = this.#book.offer(channel, submission, false, recordBytes(submission.input), submission.deadlineAt);
    if (call === undefined) return undefined;
    this.#reopen(channel);
    this.#turn.schedule();
    return this.#ticketOf(call);
  }

  offerAsked(channel: Channel, submission: AnySubmission): Ticket {
    const refusal = this.#refusal() ?? objectionTo(submission);
    if (refusal !== undefined) return settleLater(submission, refusal);
    const call = this.#book.offer(channel, submission, true, recordBytes(submission.input), submission.deadlineAt);
    if (call !== undefined) {
      this.#reopen(channel);
      this.#turn.schedule();
      return this.#ticketOf(call);
    }
    const message = `Pool "${channel.name}" at ${this.address}: ${this.#book.askedCount} asks of this client are unanswered`;
    return settleLater(submission, new TroupeError('MAILBOX_FULL', message, { actor: channel.name }));
  }

  flush(channel: Channel): void {
    this.#sender.flush(channel);
    this.#turn.schedule();
  }

  look(): void {
    this.#turn.schedule();
  }

  call(channel: Channel, method: string, args: readonly unknown[]): Promise<unknown> {
    if (!isName(method)) {
      const message = `The name of a method has ${method.length} characters, more than the ${LANE_NAME_MAX} that can be sent`;
      return Promise.reject(new TroupeError('INPUT_INVALID', message, { actor: channel.name }));
    }
    return this.#question(channel, this.#parts.timeoutMs, (id) => ({
      kind: 'call',
      id,
      channel: channel.index,
      method,
      args,
    }));
  }

  async health(channel: Channel): Promise<PoolHealth> {
    try {
      const answer = await this.#question(channel, HEALTH_MS, (id) => ({ kind: 'health', id, channel: channel.index }));
      return answer as PoolHealth;
    } catch (error) {
      return { ready: false, why: (error as Error).message };
    }
  }

  async stats(channel: Channel): Promise<PoolStats> {
    const { timeoutMs } = this.#parts;
    return (await this.#question(channel, timeoutMs, (id) => ({
      kind: 'stats',
      id,
      channel: channel.index,
    }))) as PoolStats;
  }

  // ---------------------------------------------------------- out

  /** C2. */
  #endTurn(): void {
    if (this.#givenUp.length > 0) {
      this.#link.write({ kind: 'cancel', ids: this.#givenUp });
      this.#givenUp = [];
    }
    if (this.#link.isUp && !this.#isLeaving) for (const channel of this.#book.channels) this.#sender.sendAll(channel);
    for (const pool of this.#byChannel) pool.callWaiters();
    this.#rearm();
  }

  #open(channel: Channel): void {
    channel.isRefused = false;
    channel.isOpening = true;
    this.#link.write({ kind: 'open', channel: channel.index, pool: channel.name });
  }

  /** What was not there may be there by now. */
  #reopen(channel: Channel): void {
    if (channel.isRefused && this.#link.isUp) this.#open(channel);
  }

  #tellHeard(): number {
    this.#heardTold = this.#heard;
    this.#untoldBytes = 0;
    return this.#heard;
  }

  // ----------------------------------------------------------- in

  #welcomed({ resumed, known, records, asked, frameBytes }: WelcomeMessage): void {
    this.#trouble = undefined;
    this.#isLeaving = false;
    this.#sender.frameBytes = frameBytes;
    this.#book.limits = { records, asked };
    if (!resumed) {
      this.#heard = 0;
      this.#heardTold = 0;
    }
    // Given up while nothing could be said.
    for (const id of known) if (this.#book.get(id) === undefined) this.#givenUp.push(id);
    for (const call of this.#book.welcomed(resumed, known)) this.#lost(call);
    for (const channel of this.#book.channels) {
      channel.missingSince = undefined;
      this.#open(channel);
    }
    this.#turn.schedule();
  }

  #hear(message: Exclude<ToClient, WelcomeMessage>, bytes: number): void {
    switch (message.kind) {
      case 'outcomes':
        this.#outcomes(message, bytes);
        break;
      case 'grant':
      case 'opened': {
        const channel = this.#book.channels[message.channel];
        if (channel === undefined) return;
        if (message.kind === 'grant') this.#book.allow(channel, message);
        else this.#opened(channel, message);
        break;
      }
      case 'closed':
        this.#closed(message.channel, asTroupeError(fromFault(message.fault)));
        break;
      case 'answer':
        this.#questions.answered(message.id, message.fault, message.value);
        break;
      case 'leaving':
        this.#isLeaving = true;
        break;
      case 'pieces':
        this.#reads.pieces(message.id, message.values);
        return;
      case 'ended': {
        const { id, fault } = message;
        this.#reads.ended(id, fault === undefined ? undefined : asTroupeError(fromFault(fault)));
        return;
      }
      case 'pong':
      case 'refused':
        return;
      default:
        message satisfies never;
    }
    this.#turn.schedule();
  }

  #outcomes({ seq, ids, versions, models, faults, streams, payload }: OutcomesMessage, bytes: number): void {
    if (seq <= this.#heard) return;
    this.#heard = seq;
    this.#untoldBytes += bytes;
    if (payload.kind === 'columns') return; // None such comes out of the decoder.
    const values = unpackRows(payload);
    const failed = faults === undefined ? undefined : new Map(faults);
    for (let index = 0; index < values.length; index++) {
      const id = unfoldId(ids, index);
      const call = this.#book.settle(id);
      const isStream = streams?.includes(index) === true;
      if (call === undefined) {
        if (isStream) this.#reads.giveUp(id);
        continue; // Given up here meanwhile.
      }
      const value = isStream ? this.#reads.begin(id, call.channel.name) : values[index];
      const fault = failed?.get(index);
      call.item.settled(
        fault === undefined
          ? okOf(value, unfold(versions, index), unfold(models, index))
          : refused(asTroupeError(fromFault(fault))),
      );
    }
    if (this.#heard - this.#heardTold >= HEARD_EVERY || this.#untoldBytes >= this.#sender.frameBytes / 8)
      this.#link.write({ kind: 'ping', heard: this.#tellHeard() });
  }

  #opened(channel: Channel, terms: Extract<ToClient, { kind: 'opened' }>): void {
    this.#book.open(channel, terms);
    this.#questions.opened(channel);
  }

  /** There is no such pool there: who asked is told, and who asks again asks anew. One that was there may come back. */
  #closed(index: number, error: TroupeError): void {
    const channel = this.#book.channels[index];
    if (channel === undefined) return;
    channel.isOpening = false;
    const isWanted = (): boolean =>
      this.#questions.waitsFor(channel) || [...this.#book.all()].some((one) => one.channel === channel);
    if (channel.wasOpen && error.code === 'POOL_NOT_FOUND' && isWanted()) {
      const now = this.clock.now();
      channel.missingSince ??= now;
      channel.missing = error;
      if (now - channel.missingSince < GRACE_MS) return this.#reopenLater();
      channel.wasOpen = false;
      channel.missingSince = undefined;
    }
    for (const call of [...this.#book.all()]) if (call.channel === channel) this.#fail(call, error);
    this.#questions.refused(channel, error);
    channel.isRefused = true;
  }

  #reopenLater(): void {
    if (this.#reopening !== undefined) return;
    this.#reopening = this.clock.at(this.clock.now() + REOPEN_MS, () => {
      this.#reopening = undefined;
      if (!this.#link.isUp) return;
      for (const channel of this.#book.channels)
        if (channel.missingSince !== undefined && !channel.isOpen && !channel.isOpening) this.#open(channel);
    });
    // Whoever waits for the pool keeps the process alive.
    this.#reopening.hold?.(false);
  }

  #down(error: TroupeError): void {
    this.#trouble = error;
    this.#book.cut();
    this.#cutReads('INTERRUPTED', error);
    this.#sender.cut();
    this.#questions.cut(error);
    if (error.code === 'SERVER_REFUSED') {
      for (const call of [...this.#book.all()]) this.#fail(call, error);
      this.#questions.fail(error);
      for (const pool of this.#byChannel) pool.callAllWaiters();
    }
    this.#turn.schedule();
  }

  // ------------------------------------------------------------- ends

  /** C1. */
  #settle(call: Call, outcome: Outcome<unknown>): void {
    if (this.#book.settle(call.id) !== undefined) call.item.settled(outcome);
  }

  #refuse(call: Call, code: 'POOL_STOPPED' | 'DEADLINE_PASSED' | 'CANCELLED', message: string, cause?: unknown): void {
    const ran = call.serverCount > 0 ? 'interrupted' : 'not-started';
    this.#settle(call, refused(new TroupeError(code, message, { ran, cause, actor: call.channel.name })));
  }

  /** With an error that is everybody's; a record that a server has had may have run. */
  #fail(call: Call, error: TroupeError): void {
    const { code, message, cause } = error;
    const actor = call.channel.name;
    const own = call.serverCount > 0 ? new TroupeError(code, message, { ran: 'interrupted', cause, actor }) : error;
    this.#settle(call, refused(own));
  }

  /** Whoever reads has seen their beginning, so nothing of them is sent again. */
  #cutReads(code: 'INTERRUPTED' | 'POOL_STOPPED', cause: TroupeError): void {
    const message = `${cause.message}; the token stream was under way`;
    this.#reads.cut(() => new TroupeError(code, message, { ran: 'interrupted', cause }));
  }

  #lost(call: Call): void {
    const { name, repeatable, attempts } = call.channel;
    const why = repeatable
      ? `it was sent to ${attempts} servers, as often as it may be`
      : 'its actor is not repeatable';
    const message = `The server at ${this.address} that had the record is gone, and the one there now does not know it; ${why}`;
    call.item.settled(refused(new TroupeError('INTERRUPTED', message, { actor: name })));
  }

  #expire(): void {
    const now = this.clock.now();
    for (let call = this.#book.takeExpired(now); call !== undefined; call = this.#book.takeExpired(now)) {
      if (call.place === 'sent') this.#givenUp.push(call.id);
      this.#refuse(
        call,
        'DEADLINE_PASSED',
        `No result from ${this.address}: the deadline passed`,
        this.#trouble ?? call.channel.missing,
      );
    }
    this.#turn.schedule();
  }

  #ticketOf(call: Call): Ticket {
    return {
      cancel: (reason) => {
        if (call.place === 'settled') return;
        // The caller may be in the middle of something: who cancels is told later, as by a pool of its own process.
        process.nextTick(() => {
          if (call.place === 'sent') this.#givenUp.push(call.id); // It may have been sent in between.
          this.#refuse(call, 'CANCELLED', 'The record was cancelled by its caller', reason);
          this.#turn.schedule();
        });
      },
    };
  }

  /** Why nothing is taken in at all; undefined where it is. */
  #refusal(): TroupeError | undefined {
    const { code } = this.#trouble ?? {};
    return code === 'POOL_STOPPED' || code === 'SERVER_REFUSED' ? this.#trouble : undefined;
  }

  // -------------------------------------------------------- questions

  #question(channel: Channel, waitMs: number, question: (id: number) => QuestionMessage): Promise<unknown> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const answer = this.#questions.ask(channel, waitMs, question);
    if (!channel.isOpen) this.#reopen(channel);
    this.#rearm();
    return answer;
  }

  /** C3. */
  #rearm(): void {
    if (this.#link.isClosed) return;
    const isNeeded =
      this.#book.count > 0 ||
      this.#questions.count > 0 ||
      this.#reads.count > 0 ||
      this.#byChannel.some((pool) => !pool.isAwaitedByNobody);
    this.#link.hold(isNeeded);
    const { nextAt } = this.#book;
    if (nextAt < this.#timerAt) {
      this.#timer?.cancel();
      this.#timerAt = nextAt;
      this.#timer = this.clock.at(nextAt, () => {
        this.#timer = undefined;
        this.#timerAt = Infinity;
        this.#expire();
      });
    }
    this.#timer?.hold?.(isNeeded);
  }
}

function okOf(value: unknown, version: string | undefined, model: string | undefined): Outcome<unknown> {
  return model === undefined ? { ok: true, value, version } : { ok: true, value, version, model };
}

function refused(error: TroupeError): Outcome<never> {
  return { ok: false, error };
}

/** A server says TroupeErrors alone; another kind of error is its defect. */
function asTroupeError(error: Error): TroupeError {
  return isTroupeError(error) ? error : new TroupeError('INTERNAL', error.message, { cause: error });
}

/** A message with such a term is none, and takes the connection with it: here the record alone is refused. */
function objectionTo({ key, model }: AnySubmission): TroupeError | undefined {
  const wrong = key !== undefined && !isName(key) ? 'key' : model !== undefined && !isName(model) ? 'model' : undefined;
  if (wrong === undefined) return undefined;
  const message = `The ${wrong} of a record for another process must be a text of at most ${LANE_NAME_MAX} characters`;
  return new TroupeError('INPUT_INVALID', message);
}

/** Refused for good: it counts as accepted and settled at once, so that the caller has one way to hear of it. */
function settleLater(submission: AnySubmission, error: TroupeError): Ticket {
  process.nextTick(() => submission.settled(refused(error)));
  return NO_TICKET;
}
