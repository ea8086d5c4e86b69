/**
 * The framed lane, at a Unix socket: lets clients in, and bounds what a connection can cost. What a client that is in has
 * and gets is its session's.
 *
 * L1 nothing but the hello is looked at before the token was right; the comparison takes the same time for every token.
 * L2 every frame has a limit before memory is taken for it, and what is no message of the protocol ends the connection.
 * L3 a peer that is silent too long, before or after its hello, and one that does not read, is ended.
 * L4 a client has one connection: another one in its name takes the place of the first, which is taken for dead.
 */
import type { System } from '../actor/system.js';
import { type Clock, systemClock, type Timer } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import type { ListenAddress } from '../stream/http-listener.js';
import type { Exposition } from '../telemetry/exposition.js';
import { toFault } from '../wire/fault.js';
import {
  decodeToServer,
  type HelloMessage,
  LANE_PROTOCOL,
  type ToClient,
  type ToServer,
} from '../wire/lane-messages.js';
import { encodeMessage } from '../wire/process-codec.js';
import type { Payload } from '../wire/rows.js';
import { openLane, type SocketLane } from '../wire/socket-lane.js';
import { laneServer, type Server, type Socket, writePieces } from '../wire/unix-lane.js';
import { LaneSession, type SessionPeer } from './lane-session.js';
import type { WindowLimits } from './lane-window.js';
import type { ResolvedServe } from './serve-options.js';

export const LANE_REFUSALS = ['token', 'protocol', 'frame', 'busy', 'silent', 'unread'] as const;
export type LaneRefusal = (typeof LANE_REFUSALS)[number];

export interface LaneServerParts {
  readonly system: System;
  readonly options: Pick<ResolvedServe, 'maxBodyBytes' | 'capacityBytes' | 'maxRecords' | 'maxConnections'>;
  readonly admits: (token: string | undefined) => boolean | 'scope';
  /** Names of pools that will be there. */
  readonly pools: () => readonly string[];
  readonly bind: (server: Server) => Promise<{ readonly path: string; close(): void }>;
  readonly clock?: Clock;
  readonly windowMs?: number;
}

const HELLO_MS = 5000;
/** A client lets itself be heard once in each of its beats. */
const SILENT_BEATS = 3;
/** All that is taken of somebody whose token was not seen; its token has 1024 characters at most. */
const HELLO_BYTES_MAX = 8192;
const LAST_WORDS_MS = 1000;
/** Pools that are waited for are looked for so often. */
const LOOK_MS = 50;
const WINDOW_MS = 60_000;
const ASKED_MAX = 4096;
const INBOX_RECORDS = 1024;
const INBOX_BYTES_MIN = 65_536;

export class LaneServer {
  readonly refusals = new Map<LaneRefusal, number>();
  readonly #parts: LaneServerParts;
  readonly #clock: Clock;
  readonly #limits: WindowLimits;
  readonly #sessions = new Map<string, LaneSession>();
  readonly #peers = new Set<LanePeer>();
  #bound: { readonly path: string; close(): void } | undefined;
  #sweep: Timer | undefined;
  #sweepAt = Infinity;
  #drained: Deferred<void> | undefined;
  #isClosed = false;

  constructor(parts: LaneServerParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
    const { capacityBytes, maxConnections, maxBodyBytes } = parts.options;
    const inboxBytes = Math.max(INBOX_BYTES_MIN, Math.floor(capacityBytes / maxConnections));
    this.#limits = {
      inboxRecords: INBOX_RECORDS,
      inboxBytes,
      waitingBytes: Math.max(2 * maxBodyBytes, 4 * inboxBytes),
      asked: ASKED_MAX,
      keptBytes: maxBodyBytes,
      windowMs: parts.windowMs ?? WINDOW_MS,
    };
  }

  /** Rejects with what the binding says. */
  async open(): Promise<ListenAddress> {
    const server = laneServer((socket) => this.#connected(socket));
    this.#bound = await this.#parts.bind(server);
    const { path } = this.#bound;
    return { host: path, port: 0, url: `unix://${path}` };
  }

  /** Takes nothing new, and ends when what is under way was answered, or after `graceMs`. May be called again, with 0. */
  async close(graceMs: number): Promise<void> {
    this.#isClosed = true;
    this.#bound?.close();
    for (const session of this.#sessions.values()) session.isLeaving = true;
    for (const peer of this.#peers) {
      if (peer.client !== undefined) peer.say({ kind: 'leaving' });
      else void peer.end(graceMs > 0 ? LAST_WORDS_MS : 0); // It waits for a welcome.
    }
    if (graceMs > 0 && !this.#isIdle) {
      this.#drained ??= deferred();
      const timer = this.#clock.at(this.#clock.now() + graceMs, () => this.#drained?.resolve());
      await this.#drained.promise;
      timer.cancel();
    }
    this.#drained?.resolve();
    const peers = [...this.#peers];
    await Promise.all(peers.map((peer) => peer.end(graceMs > 0 ? LAST_WORDS_MS : 0)));
    for (const session of this.#sessions.values()) session.end();
    this.#sessions.clear();
    this.#sweep?.cancel();
  }

  collect(into: Exposition): void {
    for (const reason of LANE_REFUSALS)
      into.add('troupe_refused_requests_total', { listener: 'lane', reason }, this.refusals.get(reason) ?? 0);
  }

  get #isIdle(): boolean {
    for (const session of this.#sessions.values()) if (!session.isIdle) return false;
    return true;
  }

  #connected(socket: Socket): void {
    const peer: LanePeer = new LanePeer(socket, {
      clock: this.#clock,
      frameBytes: this.#parts.options.maxBodyBytes,
      records: Math.min(this.#parts.options.maxRecords, 65_536),
      greet: (hello) => this.#greet(peer, hello),
      refused: (why) => this.refusals.set(why, (this.refusals.get(why) ?? 0) + 1),
      gone: (client) => this.#gone(peer, client),
    });
    if (this.#peers.size >= this.#parts.options.maxConnections)
      peer.refuse('busy', `there are ${this.#peers.size} connections already`);
    this.#peers.add(peer);
  }

  /** L1. */
  #greet(peer: LanePeer, { protocol, token, client, heard }: HelloMessage): LaneSession | undefined {
    if (this.#parts.admits(token) !== true) return peer.refuse('token', 'the token is wrong, or there is none');
    if (protocol !== LANE_PROTOCOL)
      return peer.refuse('protocol', `this server speaks version ${LANE_PROTOCOL} of the lane, not ${protocol}`);
    if (this.#isClosed) return peer.refuse('busy', 'it is stopping');
    const known = this.#sessions.get(client);
    if (known !== undefined) for (const other of this.#peers) if (other.client === client) other.replace(); // L4
    const session =
      known ??
      new LaneSession({
        system: this.#parts.system,
        clock: this.#clock,
        limits: this.#limits,
        expected: this.#parts.pools,
        idle: () => this.#idle(),
        isWaiting: () => this.#armSweep(LOOK_MS),
      });
    this.#sessions.set(client, session);
    this.#forgetOldest();
    const { maxBodyBytes: frameBytes, maxRecords } = this.#parts.options;
    const terms = { protocol: LANE_PROTOCOL, frameBytes, records: Math.min(maxRecords, 65_536), asked: ASKED_MAX };
    const resumed = known !== undefined;
    session.connect(peer, resumed ? heard : 0, (ids) => peer.say({ kind: 'welcome', resumed, known: ids, ...terms }));
    this.#armSweep(LOOK_MS);
    return session;
  }

  #gone(peer: LanePeer, client: string | undefined): void {
    this.#peers.delete(peer);
    if (client === undefined) return;
    const session = this.#sessions.get(client);
    if (session === undefined) return;
    if (peer.saidBye) {
      session.end();
      this.#sessions.delete(client);
    } else {
      session.cut();
      this.#armSweep(LOOK_MS);
    }
    this.#idle();
  }

  #idle(): void {
    if (this.#drained !== undefined && this.#isIdle) this.#drained.resolve();
  }

  /** Clients that are away are remembered as many as may be here. */
  #forgetOldest(): void {
    let over = this.#sessions.size - 2 * this.#parts.options.maxConnections;
    for (const [client, session] of this.#sessions) {
      if (over <= 0) return;
      if (session.isConnected) continue;
      session.end();
      this.#sessions.delete(client);
      over--;
    }
  }

  /** Looks for pools that are waited for and for clients that did not come back. */
  #armSweep(ms: number): void {
    const at = this.#clock.now() + ms;
    if (at >= this.#sweepAt || this.#isClosed) return;
    this.#sweep?.cancel();
    this.#sweepAt = at;
    this.#sweep = this.#clock.at(at, () => {
      this.#sweepAt = Infinity;
      const now = this.#clock.now();
      let nextMs = Infinity;
      for (const [client, session] of this.#sessions) {
        session.look();
        if (session.expiresAt <= now) {
          session.end();
          this.#sessions.delete(client);
        } else nextMs = Math.min(nextMs, session.expiresAt - now);
      }
      if (nextMs < Infinity) this.#armSweep(nextMs);
    });
    this.#sweep.hold?.(false);
  }
}

interface PeerParts {
  readonly clock: Clock;
  readonly frameBytes: number;
  readonly records: number;
  readonly greet: (hello: HelloMessage) => LaneSession | undefined;
  readonly refused: (why: LaneRefusal) => void;
  readonly gone: (client: string | undefined) => void;
}

/** One connection. */
class LanePeer implements SessionPeer {
  client: string | undefined;
  saidBye = false;
  readonly #parts: PeerParts;
  readonly #lane: SocketLane<ToClient>;
  readonly #closed = deferred<void>();
  #session: LaneSession | undefined;
  #timer: Timer | undefined;
  #heardAt: number;
  #silentMs = HELLO_MS;
  /** What was written and not read when that was last looked at, while too much is; else 0. */
  #unread = 0;
  #isOver = false;

  constructor(socket: Socket, parts: PeerParts) {
    this.#parts = parts;
    this.#heardAt = parts.clock.now();
    this.#lane = openLane<ToClient, ToServer>(
      socket,
      {
        heard: (message, bytes) => this.#hear(message, bytes),
        broken: (error) => this.refuse('frame', (error as Error).message),
        lends: true,
        bytesMax: HELLO_BYTES_MAX,
      },
      decodeToServer,
    );
    const lane = this.#lane.socket;
    // Of a peer that went away there is nothing to say; its session hears of it.
    lane.on('error', () => undefined);
    lane.on('end', () => lane.end());
    lane.on('drain', () => this.#drained());
    lane.on('close', () => this.#gone());
    lane.unref();
    this.#watch();
  }

  say(message: ToClient): void {
    if (this.#isOver) return;
    let pieces: Buffer[];
    try {
      pieces = encodeMessage(message);
    } catch (cause) {
      if (message.kind !== 'answer') throw cause;
      const error = new TroupeError('METHOD_FAILED', 'What the method returned cannot be copied to another process', {
        cause,
      });
      pieces = encodeMessage({ kind: 'answer', id: message.id, fault: toFault(error) } as ToClient);
    }
    this.sayPieces(pieces);
  }

  sayPieces(pieces: readonly Buffer[]): void {
    if (this.#isOver) return;
    const { socket } = this.#lane;
    writePieces(socket, pieces);
    // L3. A burst is no fault. Until it was read nothing more is heard, so nothing more is asked for.
    if (this.#unread === 0 && socket.writableLength > 4 * this.#parts.frameBytes) {
      this.#unread = socket.writableLength;
      socket.pause();
    }
  }

  #drained(): void {
    if (this.#unread === 0) return;
    this.#unread = 0;
    this.#heardAt = this.#parts.clock.now();
    this.#lane.socket.resume();
  }

  /** Says why, if the peer still reads, and ends it. */
  refuse(why: LaneRefusal, words: string): undefined {
    if (this.#isOver) return;
    this.#parts.refused(why);
    const message = `The server of the lane refused the client: ${words}`;
    // Those who are late or too many may come again.
    const code = why === 'busy' || why === 'silent' ? 'SERVER_UNREACHABLE' : 'SERVER_REFUSED';
    this.say({ kind: 'refused', fault: toFault(new TroupeError(code, message)) });
    void this.end(LAST_WORDS_MS);
  }

  /** Another connection has come in its place. */
  replace(): void {
    this.#lane.socket.destroy();
    this.#gone();
  }

  /** Says nothing more; resolves when the connection has ended, after `graceMs` by force. */
  async end(graceMs: number): Promise<void> {
    this.#isOver = true;
    this.#timer?.cancel();
    const { socket } = this.#lane;
    if (graceMs === 0) socket.destroy();
    else {
      socket.end();
      const { clock } = this.#parts;
      this.#timer = clock.at(clock.now() + graceMs, () => socket.destroy());
      this.#timer.hold?.(false);
    }
    await this.#closed.promise;
  }

  #hear(message: ToServer, bytes: number): void {
    if (this.#isOver) return;
    this.#heardAt = this.#parts.clock.now();
    if (message.kind === 'hello') {
      if (this.client !== undefined) return this.refuse('frame', 'a second hello');
      const session = this.#parts.greet(message);
      if (session === undefined) return;
      this.client = message.client;
      this.#session = session;
      this.#lane.limit(this.#parts.frameBytes);
      this.#silentMs = SILENT_BEATS * message.heartbeatMs;
      this.#watch();
      return;
    }
    if (this.#session === undefined) return this.refuse('frame', 'the first message must be a hello');
    if (message.kind === 'bye') {
      this.saidBye = true;
      return;
    }
    if (message.kind === 'records' && countOf(message.payload) > this.#parts.records)
      return this.refuse('frame', `more than ${this.#parts.records} records in one message`);
    const wrong = this.#session.hear(message, bytes);
    if (wrong !== undefined) this.refuse('frame', wrong);
  }

  /** L3. One timer that moves along, not one per message. */
  #watch(): void {
    const { clock } = this.#parts;
    const dueAt = this.#heardAt + this.#silentMs;
    this.#timer?.cancel();
    this.#timer = clock.at(dueAt, () => {
      if (!this.#isSilent) this.#watch();
      // Where this process itself stood still, what was said meanwhile has come and was not read: timers are first.
      else setImmediate(() => this.#judge());
    });
    this.#timer.hold?.(false);
  }

  get #isSilent(): boolean {
    return this.#parts.clock.now() >= this.#heardAt + this.#silentMs;
  }

  #judge(): void {
    if (this.#isOver) return;
    const { socket } = this.#lane;
    if (this.#unread > 0 && socket.writableLength < this.#unread) {
      this.#unread = socket.writableLength;
      this.#heardAt = this.#parts.clock.now(); // It reads, slowly.
    }
    if (!this.#isSilent) this.#watch();
    else if (this.#unread === 0) this.refuse('silent', `nothing was heard for ${this.#silentMs} ms`);
    else {
      this.#parts.refused('unread');
      socket.destroy();
    }
  }

  #gone(): void {
    this.#isOver = true;
    this.#timer?.cancel();
    this.#closed.resolve();
    const { client } = this;
    this.client = undefined;
    this.#session = undefined;
    this.#parts.gone(client);
  }
}

function countOf(payload: Payload): number {
  if (payload.kind === 'rows') return payload.values.length;
  return payload.kind === 'packed' ? payload.count : 0; // Columns are refused as such.
}
