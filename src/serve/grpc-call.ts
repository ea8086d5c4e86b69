/**
 * One call of gRPC, as the stream of an HTTP/2 connection: the messages that come, the messages that go, and how it ends.
 *
 * Owns the bytes of messages that have come until `next` hands them out; then they are the caller's to give back. Owns those
 * of an answer from `send` on, until the client has taken it or has gone: a stream keeps 16 to 64 KiB that it says it has
 * room for, and nobody has to read them soon.
 * Knows nothing of methods and their messages.
 *
 * C1 every call ends with exactly one status, or its stream is gone.
 * C2 what is held of messages, both ways, stands in the budget from the first byte on.
 * C3 a message that does not come to its end in time, and an answer that is not taken, end the call: `expire`.
 */
import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { systemClock, type Timer } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { busy, type ByteBudget, type HeldBytes, inflated, Refusal } from '../stream/http-body.js';
import { ANSWER_MS, RECEIVE_MS } from '../stream/http-listener.js';
import { Departure, type Gone } from './gone.js';
import { type Framed, GrpcFrames, writeFramed } from './grpc-frames.js';
import { failureOf, grpcCodeOf } from './oip-status.js';

export interface CallLimits {
  readonly maxBodyBytes: number;
  readonly budget: ByteBudget;
  /** It may hold any number of messages. */
  readonly isStream: boolean;
}

const OK = 0;
const DEADLINE_EXCEEDED = 4;
/** RST_STREAM: the call is of no use any more. */
const RESET_CANCEL = 8;
const HEADERS: OutgoingHttpHeaders = {
  ':status': 200,
  'content-type': 'application/grpc',
  'grpc-accept-encoding': 'identity,deflate,gzip',
};
/** Some clients take no more than 8 KiB of all trailers. */
const MESSAGE_BYTES_MAX = 2048;
const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['H', 3_600_000],
  ['M', 60_000],
  ['S', 1000],
  ['m', 1],
  ['u', 1e-3],
  ['n', 1e-6],
]);

export class GrpcCall {
  readonly headers: IncomingHttpHeaders;
  /** Infinity where the client has none. */
  readonly deadlineAt: number = Infinity;
  /** Of a stream: the listener closes, so that `next` finds no further message. */
  isDraining = false;
  readonly #stream: ServerHttp2Stream;
  readonly #limits: CallLimits;
  readonly #gone = new Departure();
  readonly #frames: GrpcFrames;
  readonly #encoding: string;
  #messages: Framed[] = [];
  #awaited: Deferred<void> | undefined;
  #room: Deferred<void> | undefined;
  #over: Deferred<void> | undefined;
  #trouble: unknown;
  /** Answers that the client has not taken, and their bytes, as the budget has them. */
  #waiting = 0;
  #untaken = 0;
  #hasAll = false;
  #isOver = false;
  #trailers: OutgoingHttpHeaders = {};
  #timer: Timer | undefined;
  #receivingSince: number | undefined;
  /** Since when something waits to be taken. */
  #givingSince: number | undefined;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, limits: CallLimits) {
    this.headers = headers;
    this.#stream = stream;
    this.#limits = limits;
    this.#frames = new GrpcFrames(limits.maxBodyBytes, (bytes) => limits.budget.take(bytes));
    this.#encoding = String(headers['grpc-encoding'] ?? 'identity').toLowerCase();
    if (!limits.isStream) this.#receivingSince = systemClock.now();
    // A client that goes away is no error of ours; `close` says it too.
    stream.on('error', () => undefined);
    stream.on('close', this.#onClose);
    stream.on('data', this.#onData);
    stream.on('end', this.#onEnd);
    stream.on('wantTrailers', () => stream.sendTrailers(this.#trailers));
    const timeout = headers['grpc-timeout'];
    if (timeout !== undefined) this.deadlineAt = systemClock.now() + millisecondsOf(String(timeout));
    if (Number.isNaN(this.deadlineAt))
      this.fail(new Refusal(400, 'grpc-timeout must be digits and one of H M S m u n'));
    else if (this.deadlineAt !== Infinity)
      this.#timer = systemClock.at(this.deadlineAt, () => this.fail(new TroupeError('DEADLINE_PASSED', LATE)));
  }

  /** Aborts when the client has gone, or the call has failed meanwhile. */
  get signal(): Gone {
    return this.#gone;
  }

  get isLate(): boolean {
    return systemClock.now() >= this.deadlineAt;
  }

  /**
   * Undefined behind the last one, a refusal for one that cannot be unpacked. What is held of it is for the caller to give
   * back. Rejects with why there is none.
   */
  async next(): Promise<HeldBytes | Refusal | undefined> {
    for (;;) {
      if (this.#trouble !== undefined) throw this.#trouble;
      if (this.isDraining) return undefined;
      const message = this.#messages.shift();
      if (message !== undefined) return this.#unpacked(message);
      if (this.#hasAll) return undefined;
      this.#awaited = deferred();
      if (this.#limits.isStream && this.#frames.isInside) this.#receivingSince ??= systemClock.now();
      this.#stream.resume();
      await this.#awaited.promise;
    }
  }

  /** Resolves when there is room for another. `held`: what the budget has of it. */
  async send(parts: readonly Uint8Array[], held = 0): Promise<void> {
    if (!this.#begin()) {
      this.#limits.budget.give(held);
      return;
    }
    this.#untaken += held;
    this.#waiting++;
    this.#givingSince ??= systemClock.now();
    if (writeFramed(this.#stream, parts, false, () => this.#taken(held))) return;
    this.#room = deferred();
    this.#stream.once('drain', this.#onRoom);
    await this.#room.promise;
  }

  /** C1. All went well. */
  end(): void {
    this.#begin();
    this.#finish(OK, '', {});
  }

  /** C1. Any error as a status; `retry-after` (whole seconds, as over HTTP) is in the trailers of UNAVAILABLE. */
  fail(error: unknown): void {
    const { message, retryAfterS } = failureOf(error);
    const code = this.isLate ? DEADLINE_EXCEEDED : grpcCodeOf(error);
    const more = retryAfterS === undefined || code === DEADLINE_EXCEEDED ? {} : { 'retry-after': String(retryAfterS) };
    this.#finish(code, this.isLate ? LATE : message, more);
    this.#stopReading(error);
    this.#gone.abort(error);
  }

  /** Resolves when there is nothing more to do: it drains, has failed, or the client has gone. */
  over(): Promise<void> {
    if (this.isDraining || this.#isOver) return Promise.resolve();
    this.#over ??= deferred();
    return this.#over.promise;
  }

  /** No further message of a stream is taken. */
  drain(): void {
    if (!this.#limits.isStream) return;
    this.isDraining = true;
    this.#over?.resolve();
    this.#wake();
  }

  /** C3. */
  expire(now: number): void {
    if (this.#givingSince !== undefined && now - this.#givingSince > ANSWER_MS) this.destroy();
    else if (!this.#isOver && this.#receivingSince !== undefined && now - this.#receivingSince > RECEIVE_MS)
      this.fail(new Refusal(408, `a message did not come within ${RECEIVE_MS / 1000} s`));
  }

  destroy(): void {
    this.#stream.close(RESET_CANCEL);
    this.#stream.destroy();
  }

  /** Whether there is anybody to tell something. */
  #begin(): boolean {
    if (this.#isOver || this.#isCut) return false;
    if (!this.#stream.headersSent) this.#stream.respond(HEADERS, { waitForTrailers: true });
    return true;
  }

  get #isCut(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }

  #finish(code: number, message: string, more: OutgoingHttpHeaders): void {
    if (this.#isOver || this.#isCut) return;
    this.#isOver = true;
    this.#over?.resolve();
    this.#timer?.cancel();
    this.#givingSince = systemClock.now();
    const said = message === '' ? {} : { 'grpc-message': percentEncoded(message) };
    this.#trailers = { 'grpc-status': String(code), ...said, ...more };
    if (this.#stream.headersSent) this.#stream.end();
    else this.#stream.respond({ ...HEADERS, ...this.#trailers }, { endStream: true });
    // What still comes is thrown away, so that the client can end its side.
    this.#stream.resume();
  }

  async #unpacked({ bytes, isPacked }: Framed): Promise<HeldBytes | Refusal> {
    if (!isPacked) return { bytes, held: bytes.length };
    const { budget, maxBodyBytes } = this.#limits;
    return inflated(bytes, this.#encoding, bytes.length, maxBodyBytes, budget);
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#isOver || this.#trouble !== undefined) return;
    const trouble = this.#frames.push(chunk, this.#messages);
    if (trouble !== undefined) this.#stopReading(trouble === 'busy' ? busy() : trouble);
    if (this.#messages.length === 0) {
      // Since it began: each byte of it would else begin its time anew.
      if (this.#limits.isStream && this.#frames.isInside) this.#receivingSince ??= systemClock.now();
      return;
    }
    if (this.#limits.isStream) {
      this.#stream.pause();
      // What is behind waits for us, and not the other way.
      this.#receivingSince = undefined;
    } else if (this.#messages.length > 1)
      this.#stopReading(new Refusal(400, 'the call takes one message, and got more'));
    this.#wake();
  };

  readonly #onEnd = (): void => {
    this.#hasAll = true;
    this.#receivingSince = undefined;
    if (this.#frames.isInside) this.#stopReading(new Refusal(400, 'the stream ends in the middle of a message'));
    this.#wake();
  };

  readonly #onRoom = (): void => this.#room?.resolve();

  readonly #onClose = (): void => {
    this.#timer?.cancel();
    this.#giveBack(this.#untaken);
    const isCut = !this.#isOver;
    this.#isOver = true;
    this.#over?.resolve();
    this.#onRoom();
    if (isCut) {
      const gone = new TroupeError('CANCELLED', 'The client has gone');
      this.#stopReading(gone);
      this.#gone.abort(gone);
    } else this.#release();
  };

  /** C3. Who takes some of it is given time for the rest. */
  #taken(bytes: number): void {
    this.#waiting--;
    this.#givingSince = this.#isOver || this.#waiting > 0 ? systemClock.now() : undefined;
    this.#giveBack(bytes);
  }

  /** C2. */
  #giveBack(bytes: number): void {
    if (bytes > this.#untaken) return; // It went when the stream closed.
    this.#untaken -= bytes;
    this.#limits.budget.give(bytes);
  }

  /** C2. */
  #stopReading(why: unknown): void {
    if (this.#trouble !== undefined) return;
    this.#trouble = why;
    this.#receivingSince = undefined;
    this.#release();
    this.#wake();
  }

  #release(): void {
    const { budget } = this.#limits;
    budget.give(this.#frames.drop());
    for (const { bytes } of this.#messages) budget.give(bytes.length);
    this.#messages = [];
  }

  #wake(): void {
    this.#awaited?.resolve();
    this.#awaited = undefined;
  }
}

/** It begins with the words that clients of Triton look for, to whom any other failure is none of time. */
const LATE = 'Deadline Exceeded: the deadline of the call has passed';

/** NaN for what is no length of time. */
function millisecondsOf(timeout: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(timeout) ?? [];
  return digits === '' ? Number.NaN : Number(digits) * (UNIT_MS.get(unit) ?? Number.NaN);
}

/** As gRPC has texts in headers. */
function percentEncoded(text: string): string {
  let encoded = '';
  for (const byte of Buffer.from(text).subarray(0, MESSAGE_BYTES_MAX)) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    encoded += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}
