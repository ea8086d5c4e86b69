/**
 * One token stream on the host's side: what a record was answered with, to be read once by whoever asked.
 *
 * N1 at most PIECE_CREDIT pieces are on the way or wait here, and one that was not asked for ends the stream. N2 after an
 * error, or its end, nothing comes. N3 a reader waits `pieceMs` for a piece, and a piece TAKE_MS for a reader; then the stream
 * is over, for neither holds the other up for ever.
 */
import type { Clock, Timer } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { PIECE_CREDIT } from '../wire/token-stream.js';

/** What a stream needs of the link it comes over. */
export interface StreamLane {
  /** So many pieces more may come. */
  pull(count: number): void;
  /** Nobody reads it any more. */
  giveUp(): void;
}

/** Credit goes back by this many at a time: a message for each piece taken would cost as much as the pieces. */
const CREDIT_STEP = PIECE_CREDIT / 2;
/**
 * After so long it goes back for each piece taken: whoever makes them may itself be given up for not being read, after the
 * time that a reader has here, and must hear of a slow reader before that.
 */
const CREDIT_MS = 1000;
/** Long enough for a reader that does something with each piece, short for a stream that was forgotten. */
const TAKE_MS = 60_000;

export class IncomingStream implements AsyncIterableIterator<unknown>, AsyncDisposable {
  readonly #pool: string;
  readonly #lane: StreamLane;
  readonly #clock: Clock;
  readonly #pieceMs: number;
  readonly #pieces: unknown[] = [];
  readonly #readers: Deferred<IteratorResult<unknown, undefined>>[] = [];
  /** Since the last credit went back. */
  #taken = 0;
  /** Credit that the other side has and has not used. */
  #credit = 0;
  #pulledAt = 0;
  #hasBegun = false;
  #isOver = false;
  /** Told to one reader, after the pieces that came before it. */
  #error: TroupeError | undefined;
  /** Since when one side waits for the other. */
  #stillSince: number;
  #timer: Timer | undefined;
  #lookAt = Infinity;

  constructor(pool: string, lane: StreamLane, clock: Clock, pieceMs: number) {
    this.#pool = pool;
    this.#lane = lane;
    this.#clock = clock;
    this.#pieceMs = pieceMs;
    this.#stillSince = clock.now();
    this.#watch();
  }

  /**
   * Rejects once with the TroupeError that ended it early, `ran` telling whether the record may have run. A property of its
   * own, so that whoever copies a stream to another thread or process gets an error and no empty object.
   */
  readonly next = (): Promise<IteratorResult<unknown, undefined>> => {
    const now = this.#clock.now();
    if (this.#readers.length === 0) this.#stillSince = now;
    if (this.#pieces.length > 0) {
      const value = this.#pieces.shift();
      if (!this.#isOver) this.#took(now);
      return Promise.resolve({ done: false, value });
    }
    if (this.#isOver) {
      const error = this.#error;
      this.#error = undefined;
      return error === undefined ? Promise.resolve(DONE) : Promise.reject(error);
    }
    const reader = deferred<IteratorResult<unknown, undefined>>();
    this.#readers.push(reader);
    this.#watch();
    if (!this.#hasBegun) {
      this.#hasBegun = true;
      this.#pull(PIECE_CREDIT, now);
    }
    return reader.promise;
  };

  /** Gives up what has not come. May be called at any time, and twice. */
  return(): Promise<IteratorResult<unknown, undefined>> {
    this.#quit(undefined);
    return Promise.resolve(DONE);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** A piece has come. */
  piece(value: unknown): void {
    if (this.#isOver) return; // N2
    if (this.#credit === 0) return this.#quit(this.#unasked()); // N1
    this.#credit--;
    const now = this.#clock.now();
    this.#stillSince = now;
    const reader = this.#readers.shift();
    if (reader === undefined) {
      this.#pieces.push(value);
      return;
    }
    this.#took(now);
    if (this.#readers.length === 0) this.#watch();
    reader.resolve({ done: false, value });
  }

  /** The actor has ended it; with an error, before it was whole. */
  ended(error: TroupeError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer?.cancel();
    this.#error = error;
    for (const reader of this.#readers.splice(0)) {
      if (this.#error === undefined) reader.resolve(DONE);
      else reader.reject(this.#error);
      this.#error = undefined;
    }
  }

  #took(now: number): void {
    if (++this.#taken >= CREDIT_STEP || now - this.#pulledAt >= CREDIT_MS) this.#pull(this.#taken, now);
  }

  #pull(count: number, now: number): void {
    this.#taken = 0;
    this.#credit += count;
    this.#pulledAt = now;
    this.#lane.pull(count);
  }

  #unasked(): TroupeError {
    const message = `More pieces of a token stream of "${this.#pool}" came than were asked for, and it was ended`;
    return new TroupeError('PROTOCOL_VIOLATION', message, { actor: this.#pool, ran: 'interrupted' });
  }

  #quit(error: TroupeError | undefined): void {
    if (this.#isOver) {
      this.#pieces.length = 0;
      this.#error = undefined;
      return;
    }
    this.#pieces.length = 0;
    this.ended(error);
    this.#lane.giveUp();
  }

  /** N3. A look that is due earlier than it need be only looks again. */
  #watch(): void {
    const dueAt = this.#stillSince + this.#limitMs;
    if (this.#lookAt <= dueAt) return;
    this.#timer?.cancel();
    this.#lookAt = dueAt;
    this.#timer = this.#clock.at(dueAt, this.#look);
    this.#timer.hold?.(false);
  }

  get #limitMs(): number {
    return this.#readers.length > 0 ? this.#pieceMs : TAKE_MS;
  }

  readonly #look = (): void => {
    this.#lookAt = Infinity;
    if (this.#isOver) return;
    const limitMs = this.#limitMs;
    if (this.#stillSince + limitMs > this.#clock.now()) {
      this.#watch();
      return;
    }
    const isSlow = this.#readers.length > 0;
    const who = isSlow ? 'The actor made no piece' : 'Nobody took a piece';
    const message = `${who} of a token stream of "${this.#pool}" for ${limitMs} ms, and it was ended`;
    const details = { actor: this.#pool, ran: 'interrupted' } as const;
    this.#quit(new TroupeError(isSlow ? 'DEADLINE_PASSED' : 'CANCELLED', message, details));
  };
}

const DONE = { done: true, value: undefined } as const;
