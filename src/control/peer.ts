/**
 * The server's side of one connection: lets it in, carries out what it says, and bounds what it can cost.
 *
 * K1 nothing but the token is looked at before the token was right; the comparison takes the same time for every token.
 * K2 every frame has a limit before it is taken in, every answer before it goes out, and what a peer leaves unread ends it.
 * K3 a peer that is silent too long, before or after its hello, is ended.
 * K4 what a peer asked for and no longer waits for is given up, except what changes the system: that goes on to its end.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { type Clock, systemClock, type Timer } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import { type Fault, toFault } from '../wire/fault.js';
import { FrameError, frameText, LineReader, parseFrame } from './frames.js';
import { helloSchema, LIMITS, PROTOCOL, type Request, requestSchema } from './grammar.js';
import type { Caller, Operations } from './operations.js';
import { plainText } from './text.js';
import type { Socket } from './unix-socket.js';

/** Why a peer was turned away or ended. */
export type Refusal = 'token' | 'protocol' | 'frame' | 'busy' | 'silent' | 'unread';

export interface PeerParts {
  readonly operations: Operations;
  /** Its name, for the welcome. */
  readonly system: string;
  readonly token: Buffer;
  readonly number: number;
  readonly clock?: Clock;
  readonly refused: (why: Refusal, who: string) => void;
  /** It is being ended; nothing more comes from it. */
  readonly ending: () => void;
  readonly closed: () => void;
}

/** A peer whose token was right. */
type Admitted = Pick<Caller, 'who' | 'access'>;

/** Digests have one length, so comparing them takes the same time whatever is given. */
export function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

export class Peer {
  readonly #socket: Socket;
  readonly #parts: PeerParts;
  readonly #clock: Clock;
  readonly #lines = new LineReader(LIMITS.helloBytes);
  /** Calls and tails under way, each with what gives it up. */
  readonly #open = new Map<number, AbortController>();
  readonly #tails = new Map<number, () => void>();
  #caller: Admitted | undefined;
  #heardAt: number;
  #timer: Timer | undefined;
  #isOver = false;
  #skippedCount = 0;

  constructor(socket: Socket, parts: PeerParts) {
    this.#socket = socket;
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
    this.#heardAt = this.#clock.now();
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    // Of a peer that went away there is nothing to say; what it had under way hears its close.
    socket.on('error', () => undefined);
    socket.on('close', () => this.#gone());
    socket.unref();
    this.#watch();
  }

  /**
   * Says nothing more and takes nothing more. The peer may read what was said before it closes its side: ended at once, what
   * it has just sent would meet an error that hides the reason.
   */
  end(): void {
    this.#isOver = true;
    this.#parts.ending();
    this.#timer?.cancel();
    this.#socket.end();
    this.#timer = this.#clock.at(this.#clock.now() + LAST_WORDS_MS, () => this.#socket.destroy());
    this.#timer.hold?.(false);
  }

  /** Too many are here already. */
  turnAway(): void {
    this.#refuse('busy', `more than ${LIMITS.connections} connections at once`);
  }

  #take(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#heardAt = this.#clock.now();
    try {
      for (const line of this.#lines.push(chunk)) {
        const frame = parseFrame(line);
        if (this.#caller === undefined) this.#greet(frame);
        else this.#hear(frame);
        if (this.#isOver) return;
      }
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#refuse('frame', error.message);
    }
  }

  /** K1. */
  #greet(frame: unknown): void {
    const result = helloSchema.safeParse(frame);
    if (!result.success) return this.#refuse('frame', 'the first frame must be a hello');
    const { protocol, token, access, client } = result.data.hello;
    if (!timingSafeEqual(digest(token), this.#parts.token)) return this.#refuse('token', 'the token is wrong');
    if (protocol !== PROTOCOL) {
      return this.#refuse('protocol', `this system speaks version ${PROTOCOL} of the protocol, not ${protocol}`);
    }
    this.#caller = { who: `connection ${this.#parts.number} (${plainText(client)})`, access };
    this.#lines.maxBytes = LIMITS.frameBytes;
    this.#send({ welcome: { protocol: PROTOCOL, system: this.#parts.system, pid: process.pid, access } });
  }

  #hear(frame: unknown): void {
    const result = requestSchema.safeParse(frame);
    // Its id is not known for sure, so nobody could be answered.
    if (!result.success) return this.#refuse('frame', 'a frame is no request');
    const request: Request = result.data;
    if ('ping' in request) this.#send({ pong: request.ping });
    else if ('cancel' in request) this.#giveUp(request.cancel);
    else this.#begin(request);
  }

  #begin({ id, verb, params }: Extract<Request, { verb: string }>): void {
    const { who, access } = this.#caller as Admitted;
    if (this.#open.has(id)) return this.#refuse('frame', `two calls at once have the id ${id}`);
    if (this.#open.size >= LIMITS.callsAtOnce) {
      return this.#answer(id, refusal(`more than ${LIMITS.callsAtOnce} calls at once on one connection`));
    }
    const controller = new AbortController();
    this.#open.set(id, controller);
    if (verb === 'tail') {
      this.#tail(id, params);
      return;
    }
    const caller: Caller = { who, access, signal: controller.signal };
    this.#parts.operations.run(verb, params, caller).then(
      (value) => this.#end(id, { id, value: value ?? null }),
      (error: unknown) => this.#end(id, { id, error: faultOf(error) }),
    );
  }

  #tail(id: number, given: unknown): void {
    try {
      const stop = this.#parts.operations.tail(given, (event) => {
        // K2: a slow reader misses events, and sees by their numbers that it did.
        if (this.#socket.writableLength > LIMITS.unreadEventBytes) this.#skippedCount += 1;
        else this.#send({ id, event });
      });
      this.#tails.set(id, stop);
      if (this.#isOver) stop();
    } catch (error) {
      this.#end(id, { id, error: faultOf(error) });
    }
  }

  #giveUp(id: number): void {
    const controller = this.#open.get(id);
    if (controller === undefined) return;
    const stop = this.#tails.get(id);
    if (stop === undefined) return controller.abort();
    stop();
    this.#tails.delete(id);
    this.#end(id, { id, value: { skipped: this.#skippedCount } });
  }

  #end(id: number, frame: object): void {
    this.#open.delete(id);
    this.#send(frame);
  }

  #answer(id: number, error: TroupeError): void {
    this.#send({ id, error: faultOf(error) });
  }

  #send(frame: object): void {
    if (this.#isOver || this.#socket.destroyed) return;
    const text = frameText(frame, LIMITS.answerBytes) ?? frameText(tooLong(frame), LIMITS.answerBytes);
    this.#socket.write(text as string);
    if (this.#socket.writableLength > LIMITS.unreadBytes) this.#refuse('unread', 'too much is left unread');
  }

  /** Says why, if the peer still reads, and ends it. */
  #refuse(why: Refusal, words: string): void {
    if (this.#isOver) return;
    this.#parts.refused(why, this.#caller?.who ?? `connection ${this.#parts.number}`);
    if (why === 'unread') this.#socket.destroy();
    else this.#socket.write(frameText({ refused: faultOf(refusal(words)) }, LIMITS.answerBytes) as string);
    this.end();
  }

  /** K3. One timer that moves along, not one per frame. */
  #watch(): void {
    if (this.#isOver) return;
    const limitMs = this.#caller === undefined ? LIMITS.helloMs : LIMITS.idleMs;
    const dueAt = this.#heardAt + limitMs;
    if (this.#clock.now() >= dueAt) {
      this.#refuse('silent', `nothing was heard for ${limitMs} ms`);
      return;
    }
    this.#timer = this.#clock.at(Math.min(dueAt, this.#clock.now() + LIMITS.helloMs), () => this.#watch());
    this.#timer.hold?.(false);
  }

  /** K4. */
  #gone(): void {
    this.#isOver = true;
    this.#timer?.cancel();
    for (const stop of this.#tails.values()) stop();
    for (const controller of this.#open.values()) controller.abort();
    this.#parts.closed();
  }
}

/** How long a peer that is ended may take for what was said to it. */
const LAST_WORDS_MS = 1000;

function refusal(words: string): TroupeError {
  return new TroupeError('CONTROL_REFUSED', `Control: ${words}`);
}

function tooLong(frame: object): object {
  const id = 'id' in frame ? { id: frame.id } : {};
  return { ...id, error: faultOf(refusal(`the answer has more than ${LIMITS.answerBytes} bytes`)) };
}

/** Without stacks, which tell nothing to whoever looks from outside. */
export function faultOf(error: unknown): Fault {
  return withoutStack(toFault(error));
}

function withoutStack({ name, message, code, cause, errors, fields }: Fault): Fault {
  return {
    name,
    message,
    ...(code === undefined ? {} : { code }),
    ...(cause === undefined ? {} : { cause: withoutStack(cause) }),
    ...(errors === undefined ? {} : { errors: errors.map(withoutStack) }),
    ...(fields === undefined ? {} : { fields }),
  };
}
