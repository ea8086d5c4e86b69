/**
 * The one connection of a client of the framed lane: dials, greets, notices when nobody is there, and comes back.
 *
 * K1 one dial at a time, and after each failure a wait with chance in it that doubles up to a limit.
 * K2 connected is not alive: a server that has said nothing between two beats is taken for gone, whether it takes bytes or
 *    sends some. Only whole messages count.
 * K3 the wait grows until the server has answered something after its welcome: one that lets in and dies is no server.
 * K4 it keeps the process alive only while it is held.
 */
import type { Clock, Timer } from '../kernel/clock.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { Backoff } from '../stream/backoff.js';
import type { Random } from '../kernel/random.js';
import { fromFault } from '../wire/fault.js';
import {
  decodeToClient,
  type HelloMessage,
  LANE_PROTOCOL,
  type ToClient,
  type ToServer,
  type WelcomeMessage,
} from '../wire/lane-messages.js';
import { encodeMessage } from '../wire/process-codec.js';
import { openLane, type SocketLane } from '../wire/socket-lane.js';
import { dialLane, writePieces } from '../wire/unix-lane.js';

export interface LinkParts {
  readonly path: string;
  readonly heartbeatMs: number;
  readonly clock: Clock;
  readonly random: Random;
  /** What is said first. */
  readonly hello: () => Omit<HelloMessage, 'kind' | 'protocol' | 'heartbeatMs'>;
  /** Outcomes up to this message have been heard. */
  readonly heard: () => number;
  readonly welcomed: (message: WelcomeMessage) => void;
  readonly hear: (message: Exclude<ToClient, WelcomeMessage>, bytes: number) => void;
  /** The connection is gone, or did not come about. */
  readonly down: (error: TroupeError) => void;
}

type State =
  | { readonly kind: 'waiting'; readonly timer: Timer }
  | { readonly kind: 'dialling'; readonly abort: AbortController }
  | { readonly kind: 'greeting' | 'up'; readonly lane: SocketLane<ToServer> }
  | { readonly kind: 'closed' };

const BACKOFF = { attempts: Infinity, backoffMs: 50, maxBackoffMs: 5000 };

export class LaneLink {
  /** Dials that were begun, for whoever looks. */
  dialCount = 0;
  readonly #parts: LinkParts;
  readonly #backoff: Backoff;
  #state: State;
  #beat: Timer | undefined;
  #hasHeard = false;
  #isHeld = false;

  constructor(parts: LinkParts) {
    this.#parts = parts;
    this.#backoff = new Backoff(BACKOFF, parts.random);
    this.#state = this.#waiting(0);
  }

  get isUp(): boolean {
    return this.#state.kind === 'up';
  }

  get isClosed(): boolean {
    return this.#state.kind === 'closed';
  }

  /** K4. */
  hold(isHeld: boolean): void {
    if (this.#isHeld === isHeld) return;
    this.#isHeld = isHeld;
    const state = this.#state;
    if (state.kind === 'waiting') state.timer.hold?.(isHeld);
    if (state.kind === 'greeting' || state.kind === 'up') holdSocket(state.lane, isHeld);
  }

  /** Throws, before anything is written, where a value cannot be copied. Nothing where the link is not up. */
  write(message: ToServer): void {
    this.writePieces(encodeMessage(message));
  }

  /** As `write`, of what was encoded already. */
  writePieces(pieces: readonly Buffer[]): void {
    if (this.#state.kind === 'up') writePieces(this.#state.lane.socket, pieces);
  }

  /** Says goodbye and does not come back. May be called twice. */
  close(): void {
    const state = this.#state;
    if (state.kind === 'up') {
      this.write({ kind: 'bye' });
      state.lane.socket.end();
    }
    this.#state = { kind: 'closed' };
    this.#beat?.cancel();
    if (state.kind === 'waiting') state.timer.cancel();
    if (state.kind === 'dialling') state.abort.abort();
    if (state.kind === 'greeting') state.lane.socket.destroy();
  }

  #waiting(ms: number): State {
    const { clock } = this.#parts;
    const timer = clock.at(clock.now() + ms, () => void this.#dial());
    timer.hold?.(this.#isHeld);
    return { kind: 'waiting', timer };
  }

  /** K1. */
  async #dial(): Promise<void> {
    const { path, heartbeatMs } = this.#parts;
    const abort = new AbortController();
    const dialling: State = { kind: 'dialling', abort };
    this.#state = dialling;
    this.dialCount++;
    let socket;
    try {
      socket = await dialLane(path, 2 * heartbeatMs, abort.signal);
    } catch (cause) {
      if (this.#state === dialling) this.#down(this.#unreachable(wordsOf(cause), cause));
      return;
    }
    if (this.#state !== dialling) {
      socket.destroy();
      return;
    }
    const lane: SocketLane<ToServer> = openLane<ToServer, ToClient>(
      socket,
      {
        heard: (message, bytes) => this.#hear(lane, message, bytes),
        broken: (error) => this.#broken(lane, error),
        lends: true,
      },
      decodeToClient,
    );
    const greeting: State = { kind: 'greeting', lane };
    this.#state = greeting;
    holdSocket(lane, this.#isHeld);
    lane.socket.on('error', (cause) => this.#lost(lane, this.#unreachable('the connection broke', cause)));
    lane.socket.on('close', () => this.#lost(lane, this.#unreachable('the server ended the connection')));
    lane.socket.on('end', () => lane.socket.destroy());
    const hello: HelloMessage = { kind: 'hello', protocol: LANE_PROTOCOL, heartbeatMs, ...this.#parts.hello() };
    writePieces(lane.socket, encodeMessage(hello));
    this.#hasHeard = true; // The welcome has two beats' time, as everything has.
    this.#armBeat(lane);
  }

  #hear(lane: SocketLane<ToServer>, message: ToClient, bytes: number): void {
    const state = this.#state;
    if (!('lane' in state) || state.lane !== lane) return;
    this.#hasHeard = true;
    if (message.kind === 'refused') {
      const error = fromFault(message.fault);
      this.#lost(lane, isTroupeError(error) ? error : new TroupeError('SERVER_REFUSED', error.message));
      return;
    }
    if (state.kind === 'greeting') {
      if (message.kind === 'leaving') return this.#lost(lane, this.#unreachable('the server is stopping'));
      if (message.kind !== 'welcome') return this.#broken(lane, new Error('its first message was no welcome'));
      this.#state = { kind: 'up', lane };
      this.#parts.welcomed(message);
      return;
    }
    if (message.kind === 'welcome') return this.#broken(lane, new Error('it sent a second welcome'));
    this.#backoff.reset(); // K3
    this.#parts.hear(message, bytes);
  }

  #broken(lane: SocketLane<ToServer>, cause: unknown): void {
    if (this.#state.kind === 'up') return this.#lost(lane, this.#unreachable('what came was no message', cause));
    const { path } = this.#parts;
    const what = `What listens at ${JSON.stringify(path)} does not speak the framed lane; is it the socket of serve.lane?`;
    this.#lost(lane, new TroupeError('SERVER_REFUSED', what, { cause }));
  }

  #lost(lane: SocketLane<ToServer>, error: TroupeError): void {
    const state = this.#state;
    if (!('lane' in state) || state.lane !== lane) return;
    lane.socket.destroy();
    this.#down(error);
  }

  #down(error: TroupeError): void {
    this.#beat?.cancel();
    this.#state = this.#waiting(this.#backoff.next() ?? 0);
    this.#parts.down(error);
  }

  /** K2. */
  #armBeat(lane: SocketLane<ToServer>): void {
    const { clock, heartbeatMs } = this.#parts;
    this.#beat = clock.at(clock.now() + heartbeatMs, () => {
      if (this.#hasHeard) this.#nextBeat(lane);
      // Where this process itself stood still, what was said meanwhile has come and was not read: timers are first.
      else setImmediate(() => this.#nextBeat(lane));
    });
    // The connection itself keeps the process alive as long as somebody waits for it.
    this.#beat.hold?.(false);
  }

  #nextBeat(lane: SocketLane<ToServer>): void {
    if (!('lane' in this.#state) || this.#state.lane !== lane) return;
    if (!this.#hasHeard) {
      this.#lost(lane, this.#unreachable(`the server was silent for ${this.#parts.heartbeatMs} ms`));
      return;
    }
    this.#hasHeard = false;
    if (this.#state.kind === 'up') this.write({ kind: 'ping', heard: this.#parts.heard() });
    this.#armBeat(lane);
  }

  #unreachable(words: string, cause?: unknown): TroupeError {
    const message = `No connection to ${JSON.stringify(this.#parts.path)}: ${words}`;
    return new TroupeError('SERVER_UNREACHABLE', message, { cause });
  }
}

function holdSocket({ socket }: SocketLane<ToServer>, isHeld: boolean): void {
  if (isHeld) socket.ref();
  else socket.unref();
}

function wordsOf(cause: unknown): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === 'ECONNREFUSED') return 'nobody listens: the server that made the socket has ended';
  if (code === 'ENOENT') return 'there is no socket';
  return message;
}
