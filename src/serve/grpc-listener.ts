/**
 * The door to HTTP/2: a server that calls of gRPC come to, at a port or at a Unix socket.
 *
 * Owns the connections, their limits and the gate every call passes, which is that of stream/http-listener.ts: closing, host,
 * origin, path, token, in this order, before anything of a message is read. Knows nothing of models.
 *
 * Not on @grpc/grpc-js: that puts whole messages together before anybody can count their bytes, so that the connections of one
 * client could hold more than all limits allow.
 */
import {
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Duplex } from 'node:stream';
import { systemClock, type Timer } from '../kernel/clock.js';
import { type ByteBudget, Refusal } from '../stream/http-body.js';
import {
  bearerOf,
  HEADERS_MS,
  type HttpRefusal,
  type ListenAddress,
  listenAt,
  readTls,
  servedNames,
} from '../stream/http-listener.js';
import type { Admits } from './access.js';
import { GrpcCall } from './grpc-call.js';
import type { ResolvedServe } from './serve-options.js';

export type { Http2Server };

export interface GrpcMethod {
  readonly admits: Admits;
  /** It may hold any number of messages. */
  readonly isStream: boolean;
  /** Has to end the call, or to reject with why it fails. */
  take(call: GrpcCall): Promise<void>;
}

export interface GrpcPlace {
  /** What a request names is never looked up in an object. */
  readonly methods: ReadonlyMap<string, GrpcMethod>;
  readonly budget: ByteBudget;
  readonly keepAliveMs: number;
  /** A client has said by then what every client says first. Default 10 s. */
  readonly helloMs?: number;
  readonly port: number;
  /** Makes the server listen elsewhere: no name is asked for, and no port is taken. */
  readonly bind?: (server: Http2Server) => Promise<{ readonly path: string; close(): void }>;
}

const STREAMS_MAX = 128;
const HEADER_PAIRS_MAX = 100;
const HEADER_BYTES_MAX = 16_384;
/** Of one call, and of a connection: what may be under way unread. Larger ones make larger messages faster. */
const WINDOW_BYTES = 262_144;
const SESSION_WINDOW_BYTES = 1_048_576;
const SWEEP_MS = 1000;
/** Who hangs up without a word is found out by the system. */
const TCP_KEEP_ALIVE_MS = 60_000;
/** A client whose session has ended hangs up by then, or is hung up on. */
const HANG_UP_MS = 2000;

interface Connected {
  /** It has said what every client says first. */
  isKnown: boolean;
  calls: number;
  /** Since the connection was made, or the last call on it ended. */
  restsSince: number;
  readonly socket: Duplex | undefined;
  /** Its session has ended, by whomever, and nothing is under way on it. */
  endedSince: number | undefined;
}

export class GrpcListener {
  readonly #options: ResolvedServe;
  readonly #place: GrpcPlace;
  readonly #isOurs: (authority: string | undefined) => boolean;
  readonly #calls = new Set<GrpcCall>();
  readonly #sessions = new Map<Http2Session, Connected>();
  /** Those in the handshake of TLS too. A session that was closed lets go of its socket, which stays open as its client likes. */
  readonly #sockets = new Set<Duplex>();
  /** The one whose session is being made. */
  #entering: Duplex | undefined;
  readonly #refusals = new Map<HttpRefusal, number>();
  #server: Http2Server | Http2SecureServer | undefined;
  #bound: { close(): void } | undefined;
  #sweeper: Timer | undefined;
  #isClosing = false;

  constructor(options: ResolvedServe, place: GrpcPlace) {
    this.#options = options;
    this.#place = place;
    this.#isOurs = servedNames(options.host, options.hosts);
  }

  /** Calls that were not taken, by reason. */
  get refusals(): ReadonlyMap<HttpRefusal, number> {
    return this.#refusals;
  }

  /** Rejects with what the system says: the port is taken, or not permitted; or with what `onListening` threw. */
  async open(): Promise<ListenAddress> {
    const server = await this.#make();
    this.#server = server;
    const at = await this.#listen(server);
    // accept() may fail later for want of file handles: that refuses a client, it does not end the process.
    server.on('error', () => undefined);
    this.#sweep();
    try {
      this.#options.onListening?.(at);
    } catch (cause) {
      await this.close(0);
      throw cause;
    }
    return at;
  }

  /** No new connection, no new call; those under way have `graceMs` to be answered. */
  async close(graceMs: number): Promise<void> {
    this.#isClosing = true;
    const server = this.#server;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    this.#bound?.close();
    for (const call of this.#calls) call.drain();
    for (const session of this.#sessions.keys()) session.close();
    const timer = systemClock.at(systemClock.now() + graceMs, () => {
      for (const session of this.#sessions.keys()) session.destroy();
      for (const socket of this.#sockets) socket.destroy();
    });
    await closed;
    timer.cancel();
    this.#sweeper?.cancel();
    this.#server = undefined;
  }

  async #make(): Promise<Http2Server | Http2SecureServer> {
    const { maxConnections, capacityBytes, tls } = this.#options;
    const limits = {
      settings: {
        maxConcurrentStreams: STREAMS_MAX,
        maxHeaderListSize: HEADER_BYTES_MAX,
        initialWindowSize: WINDOW_BYTES,
      },
      maxHeaderListPairs: HEADER_PAIRS_MAX,
      // In megabytes, of one connection; what is above makes it refuse calls.
      maxSessionMemory: Math.ceil(capacityBytes / 1e6) + 1,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
    };
    const isSecure = tls !== undefined && this.#place.bind === undefined;
    const server = isSecure
      ? createSecureServer({ ...limits, ...(await readTls(tls)), handshakeTimeout: HEADERS_MS })
      : createServer(limits);
    server.maxConnections = maxConnections;
    server.prependListener('connection', (socket: Duplex) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      if (!isSecure) this.#entering = socket;
    });
    if (isSecure)
      server.prependListener('secureConnection', (socket: Duplex) => {
        this.#entering = socket;
        // Some versions of Node leave an error of it to nobody, which would end the process.
        socket.on('error', () => undefined);
      });
    server.on('session', this.#onSession);
    server.on('stream', this.#onStream);
    return server;
  }

  async #listen(server: Http2Server | Http2SecureServer): Promise<ListenAddress> {
    const { bind, port } = this.#place;
    if (bind !== undefined) {
      const bound = await bind(server as Http2Server);
      this.#bound = bound;
      return { host: bound.path, port: 0, url: `unix:${bound.path}` };
    }
    const { host, tls } = this.#options;
    const at = await listenAt(server, port, host);
    return { host: at.host, port: at.port, url: `${tls === undefined ? 'grpc' : 'grpcs'}://${at.authority}` };
  }

  readonly #onSession = (session: ServerHttp2Session): void => {
    const [socket, restsSince] = [this.#entering, systemClock.now()];
    const connected: Connected = { isKnown: false, calls: 0, restsSince, socket, endedSince: undefined };
    this.#entering = undefined;
    this.#sessions.set(session, connected);
    session.setLocalWindowSize(SESSION_WINDOW_BYTES);
    session.once('remoteSettings', () => (connected.isKnown = true));
    // One that speaks no HTTP/2 is no error of ours.
    session.on('error', () => undefined);
    session.on('close', () => this.#sessions.delete(session));
  };

  readonly #onStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void => {
    const method = this.#place.methods.get(headers[':path'] ?? '');
    const { maxBodyBytes } = this.#options;
    const { budget } = this.#place;
    const call = new GrpcCall(stream, headers, { maxBodyBytes, budget, isStream: method?.isStream ?? false });
    this.#calls.add(call);
    const connected = stream.session === undefined ? undefined : this.#sessions.get(stream.session);
    if (connected !== undefined) connected.calls++;
    stream.on('close', () => {
      this.#calls.delete(call);
      if (connected === undefined) return;
      connected.calls--;
      connected.restsSince = systemClock.now();
    });
    const found = this.#refusal(headers, method);
    if (found === undefined) method?.take(call).catch((error: unknown) => call.fail(error));
    else this.#refuse(call, ...found);
  };

  #refuse(call: GrpcCall, why: HttpRefusal, status: number, message: string): void {
    this.#refusals.set(why, (this.#refusals.get(why) ?? 0) + 1);
    call.fail(new Refusal(status, message));
  }

  #refusal(
    headers: IncomingHttpHeaders,
    method: GrpcMethod | undefined,
  ): readonly [HttpRefusal, number, string] | undefined {
    if (this.#isClosing) return ['closing', 503, 'the listener is closing'];
    const authority = headers[':authority'] ?? headers.host;
    if (this.#place.bind === undefined && !this.#isOurs(authority))
      return ['host', 403, 'this host name is not served here'];
    if (headers.origin !== undefined) return ['origin', 403, 'this origin may not use it'];
    if (headers[':method'] !== 'POST' || !isGrpc(headers['content-type']))
      return ['method', 400, 'only gRPC is served here'];
    if (method === undefined) return ['path', 501, 'there is no such method'];
    const admitted = method.admits(bearerOf(headers.authorization));
    if (admitted === 'scope') return ['scope', 403, 'this token may not do that'];
    return admitted ? undefined : ['token', 401, 'a bearer token is needed'];
  }

  readonly #sweep = (): void => {
    if (this.#server === undefined) return;
    const { keepAliveMs, helloMs = HEADERS_MS } = this.#place;
    const now = systemClock.now();
    for (const call of this.#calls) call.expire(now);
    for (const [session, connected] of this.#sessions) {
      const { isKnown, calls, restsSince, socket } = connected;
      if (session.closed && calls === 0) {
        connected.endedSince ??= now;
        if (now - connected.endedSince > HANG_UP_MS) socket?.destroy();
      } else if (!isKnown && now - restsSince > helloMs) session.destroy();
      else if (calls === 0 && now - restsSince > keepAliveMs) session.close();
    }
    // Where this process itself stood still, what came meanwhile is read before anything counts as late: timers are first.
    this.#sweeper = systemClock.at(now + SWEEP_MS, () => void setImmediate(this.#sweep));
    this.#sweeper.hold?.(false);
  };
}

function isGrpc(type: string | undefined): boolean {
  return type !== undefined && /^application\/grpc(\+proto)?(;|$)/i.test(type.trim());
}
