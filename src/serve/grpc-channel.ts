/**
 * The door to servers of gRPC that a config names: unary calls, all of them over one connection of HTTP/2 that is made when
 * it is needed, where the guard allows, and anew when it is gone. What is answered is taken for hostile.
 *
 * H1 a call ends once, by an answer or by a NoReply, whatever the other side does; its time includes that of connecting.
 * H2 bytes of an answer are bounded, as they come and inflated.
 * H3 a failure says whether the call can have been read by the other side.
 * H4 one connection is made at a time. One that says that it ends takes no further call, and those under way go on; any other
 *    on which a call was late and that is silent then is ended.
 * H5 it keeps the process alive only while calls are under way.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type SecureClientSessionOptions,
} from 'node:http2';
import { systemClock, type Timer } from '../kernel/clock.js';
import { deferred } from '../kernel/deferred.js';
import { ByteBudget, inflated, Refusal } from '../stream/http-body.js';
import type { AddressGuard } from './address-guard.js';
import { type Framed, GrpcFrames, writeFramed } from './grpc-frames.js';
import { asNoReply, type GuardedCall, NoReply } from './guarded-http.js';

export interface GrpcRequest extends GuardedCall {
  /** Of the one message; sent as they lie in memory, and must stay as they are until the answer. */
  readonly parts: readonly Uint8Array[];
  readonly isPacked: boolean;
}

/** `http`: whoever answered speaks no gRPC, such as something on the way there. */
export type GrpcReply =
  | { readonly kind: 'ok'; readonly body: Buffer }
  | {
      readonly kind: 'status';
      readonly code: number;
      readonly message: string;
      /** As the server wrote it. */
      readonly retryAfter: string | undefined;
    }
  | { readonly kind: 'http'; readonly status: number };

/** What may be under way unread: of one call, and of the connection. Larger ones make larger messages faster. */
const WINDOW_BYTES = 1_048_576;
const SESSION_WINDOW_BYTES = 16_777_216;
/** In megabytes: calls are bounded by those who call, and a limit of it would only end them. */
const SESSION_MEMORY_MAX = 2 ** 31;
const IDLE_MS = 60_000;
/** A server that is there answers by then. */
const PONG_MS = 5000;
const MESSAGE_CHARS_MAX = 8192;
const UNKNOWN = 2;
const UNAVAILABLE = 14;

interface Connected {
  readonly session: ClientHttp2Session;
  calls: number;
  idle: Timer | undefined;
  isDoubted: boolean;
}

export class GrpcChannel {
  readonly #url: URL;
  readonly #guard: AddressGuard;
  readonly #ca: Buffer | undefined;
  readonly #connectMs: number;
  readonly #pongMs: number;
  #connected: Connected | undefined;
  #connecting: Promise<Connected> | undefined;
  #closing = new AbortController();

  /** `url` has the scheme http or https. `ca`: the authorities that are trusted, in the place of those that everybody trusts. */
  constructor(url: URL, guard: AddressGuard, connectMs: number, ca?: Buffer, pongMs: number = PONG_MS) {
    this.#url = url;
    this.#guard = guard;
    this.#connectMs = connectMs;
    this.#ca = ca;
    this.#pongMs = pongMs;
  }

  /** Resolves to whatever the server answered; rejects with a NoReply. */
  async send(request: GrpcRequest): Promise<GrpcReply> {
    const { signal, timeoutMs } = request;
    const gone = (): NoReply => new NoReply('cancelled', 'nobody waits for the answer any more');
    if (signal.aborted) throw gone();
    const ended = deferred<'late' | 'cancelled'>();
    const onAbort = (): void => ended.resolve('cancelled');
    const timer = systemClock.at(systemClock.now() + timeoutMs, () => ended.resolve('late'));
    signal.addEventListener('abort', onAbort);
    try {
      const late = `no answer within ${timeoutMs} ms`;
      const unconnected = ended.promise.then((why) => {
        throw why === 'late' ? new NoReply('unreached', late) : gone();
      });
      const connected = await Promise.race([this.#connect(), unconnected]);
      return await this.#exchange(connected, request, (fail) => {
        void ended.promise.then((why) => {
          if (why === 'late') this.#doubt(connected);
          fail(why === 'late' ? new NoReply('late', late) : gone());
        });
      });
    } finally {
      timer.cancel();
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Ends the connection as soon as nothing is under way on it. */
  close(): void {
    this.#closing.abort();
    this.#closing = new AbortController();
    if (this.#connected !== undefined) this.#retire(this.#connected);
  }

  /** H4. */
  #connect(): Connected | Promise<Connected> {
    const known = this.#connected;
    if (known !== undefined && !known.session.closed && !known.session.destroyed) return known;
    this.#connecting ??= this.#dial().finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  /** Resolves when the server has said what a server of HTTP/2 says first: nothing was sent before (H3). */
  async #dial(): Promise<Connected> {
    try {
      this.#guard.check();
    } catch (cause) {
      throw asNoReply(cause, false);
    }
    // The types have what goes to the socket only where it is a secure one.
    const options: SecureClientSessionOptions = {
      lookup: this.#guard.lookup,
      ...(this.#ca === undefined ? {} : { ca: this.#ca }),
      settings: { enablePush: false, initialWindowSize: WINDOW_BYTES },
      maxSessionMemory: SESSION_MEMORY_MAX,
    };
    const session = connect(this.#url, options);
    const result = deferred<void>();
    let isReached = false;
    const fail = (error: NoReply): void => result.reject(error);
    const timer = systemClock.at(systemClock.now() + this.#connectMs, () =>
      fail(new NoReply('unreached', `no connection within ${this.#connectMs} ms`)),
    );
    const { signal } = this.#closing;
    const onClosing = (): void => fail(new NoReply('cancelled', 'the client was closed'));
    signal.addEventListener('abort', onClosing);
    session.once('connect', () => (isReached = true));
    session.once('remoteSettings', () => result.resolve());
    // Also later: a connection that breaks while nobody calls has to have somebody who hears it.
    session.on('error', (cause) => fail(unconnected(cause, isReached)));
    session.on('close', () => fail(new NoReply('unreached', 'the server ended the connection at once')));
    try {
      await result.promise;
    } catch (error) {
      session.destroy();
      throw error;
    } finally {
      timer.cancel();
      signal.removeEventListener('abort', onClosing);
    }
    session.setLocalWindowSize(SESSION_WINDOW_BYTES);
    const connected: Connected = { session, calls: 0, idle: undefined, isDoubted: false };
    this.#connected = connected;
    session.on('goaway', () => this.#forget(connected));
    session.on('close', () => this.#forget(connected));
    this.#rest(connected);
    return connected;
  }

  /** `limit` is given what ends the call before its answer. */
  #exchange(
    connected: Connected,
    { path, headers, parts, isPacked, timeoutMs, maxReplyBytes }: GrpcRequest,
    limit: (fail: (error: NoReply) => void) => void,
  ): Promise<GrpcReply> {
    return new Promise((resolve, reject) => {
      let stream: ClientHttp2Stream;
      try {
        stream = connected.session.request({
          ':method': 'POST',
          ':path': path,
          ':scheme': this.#url.protocol.slice(0, -1),
          ':authority': this.#url.host,
          te: 'trailers',
          'content-type': 'application/grpc',
          'grpc-timeout': timeoutOf(timeoutMs),
          ...headers,
        });
      } catch (cause) {
        // It has said meanwhile that it ends.
        this.#forget(connected);
        reject(new NoReply('unreached', cause instanceof Error ? cause.message : String(cause), cause));
        return;
      }
      this.#begin(connected);
      const reader = new ReplyReader(maxReplyBytes);
      let isOver = false;
      const end = (): boolean => {
        if (isOver) return false;
        isOver = true;
        this.#end(connected);
        return true;
      };
      const fail = (error: NoReply): void => {
        if (!end()) return;
        stream.close(constants.NGHTTP2_CANCEL);
        reject(error);
      };
      const answered = (): void => {
        if (!reader.isComplete || !end()) return;
        // A server may answer before it has read all that is sent, and what speaks no gRPC may write without end: the rest is
        // of no use, and a stream that stays open counts against those the server allows.
        if (!stream.writableFinished || !reader.isFinal) stream.close(constants.NGHTTP2_CANCEL);
        reader.reply().then(resolve, reject);
      };
      limit(fail);
      stream.on('response', (head, flags) => {
        reader.head(head, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0);
        answered();
      });
      stream.on('data', (chunk: Buffer) => {
        const wrong = isOver ? undefined : reader.data(chunk);
        if (wrong !== undefined) fail(wrong);
      });
      stream.on('trailers', (trailers) => {
        reader.trailers(trailers);
        answered();
      });
      stream.on('end', () => {
        reader.hasEnded = true;
        answered();
      });
      const broken = (words: string, cause?: unknown): void => {
        // It says of these that it has not looked at them; so does one that ends of those behind the last that it takes.
        const isRefused = stream.rstCode === constants.NGHTTP2_REFUSED_STREAM && !reader.hasBegun;
        if (!isRefused) fail(new NoReply('cut', words, cause));
        else if (end())
          resolve({ kind: 'status', code: UNAVAILABLE, message: 'it takes no more calls', retryAfter: undefined });
      };
      stream.on('error', (cause) => broken(cause.message, cause));
      stream.on('close', () => {
        reader.hasEnded = true;
        answered();
        if (!isOver) broken(`the call ended without an answer (code ${stream.rstCode ?? 0} of HTTP/2)`);
      });
      writeFramed(stream, parts, isPacked);
      stream.end();
    });
  }

  #begin(connected: Connected): void {
    connected.idle?.cancel();
    connected.idle = undefined;
    if (connected.calls++ === 0) connected.session.ref();
  }

  #end(connected: Connected): void {
    if (--connected.calls === 0) this.#rest(connected);
  }

  /** H5. */
  #rest(connected: Connected): void {
    const { session } = connected;
    if (session.destroyed) return;
    session.unref();
    connected.idle = systemClock.at(systemClock.now() + IDLE_MS, () => this.#retire(connected));
    connected.idle.hold?.(false);
  }

  #retire(connected: Connected): void {
    this.#forget(connected);
    connected.session.close();
  }

  #forget(connected: Connected): void {
    if (this.#connected === connected) this.#connected = undefined;
    connected.idle?.cancel();
  }

  /** H4: not every network says that the other side is gone. */
  #doubt(connected: Connected): void {
    const { session } = connected;
    // One that ends takes no ping: its other calls have their own time, and it goes with the last of them.
    if (connected.isDoubted || session.closed || session.destroyed) return;
    connected.isDoubted = true;
    const silent = (): void => {
      this.#forget(connected);
      session.destroy();
    };
    const timer = systemClock.at(systemClock.now() + this.#pongMs, silent);
    timer.hold?.(false);
    const isSent = session.ping((error) => {
      timer.cancel();
      connected.isDoubted = false;
      if (error !== null) silent();
    });
    if (!isSent) silent();
  }
}

/** What comes of one call. */
class ReplyReader {
  hasEnded = false;
  readonly #maxBytes: number;
  readonly #frames: GrpcFrames;
  readonly #messages: Framed[] = [];
  #head: IncomingHttpHeaders | undefined;
  #last: IncomingHttpHeaders | undefined;
  #hasTrailers = false;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
    this.#frames = new GrpcFrames(maxBytes, () => true);
  }

  get hasBegun(): boolean {
    return this.#head !== undefined;
  }

  /** The other side has said its last: with the head, with trailers, which always end a stream, or with the end of the body. */
  get isFinal(): boolean {
    return this.hasEnded || this.#hasTrailers;
  }

  /** There is nothing more to come that would change it. */
  get isComplete(): boolean {
    return this.#last !== undefined && (this.hasEnded || this.#statusIn(this.#last) !== 0);
  }

  head(head: IncomingHttpHeaders, isLast: boolean): void {
    this.#head = head;
    // Of what speaks no gRPC the status is all.
    if (isLast || !isGrpc(head)) this.#last = head;
    if (isLast) this.hasEnded = true;
  }

  /** Why it cannot be taken; undefined where it can. */
  data(chunk: Buffer): NoReply | undefined {
    if (this.#last !== undefined) return undefined;
    const wrong = this.#frames.push(chunk, this.#messages);
    if (wrong instanceof Refusal) return new NoReply('invalid', `the answer cannot be taken: ${wrong.message}`);
    return this.#messages.length > 1 ? new NoReply('invalid', 'the answer is more than one message') : undefined;
  }

  trailers(trailers: IncomingHttpHeaders): void {
    this.#hasTrailers = true;
    this.#last ??= trailers;
  }

  /** Rejects with a NoReply. */
  async reply(): Promise<GrpcReply> {
    const head = this.#head ?? {};
    const last = this.#last ?? {};
    if (!isGrpc(head)) return { kind: 'http', status: Number(head[':status'] ?? 0) };
    const code = this.#statusIn(last);
    if (code !== 0) {
      const message = messageIn(last['grpc-message']);
      return { kind: 'status', code, message, retryAfter: retryAfterIn(last) ?? retryAfterIn(head) };
    }
    const [message] = this.#messages;
    if (message === undefined || this.#frames.isInside)
      throw new NoReply('invalid', 'the answer says that all went well and has no whole message');
    if (!message.isPacked) return { kind: 'ok', body: message.bytes };
    const encoding = String(head['grpc-encoding'] ?? 'identity').toLowerCase();
    const body = await inflated(message.bytes, encoding, 0, this.#maxBytes, new ByteBudget(Infinity));
    if (body instanceof Refusal) throw new NoReply('invalid', `the answer cannot be unpacked: ${body.message}`);
    return { kind: 'ok', body: body.bytes };
  }

  #statusIn(last: IncomingHttpHeaders): number {
    const given = last['grpc-status'];
    return typeof given === 'string' && /^\d{1,2}$/.test(given) ? Number(given) : UNKNOWN;
  }
}

function unconnected(cause: Error, isReached: boolean): NoReply {
  const code = 'code' in cause ? String(cause.code) : '';
  if (isReached && code.startsWith('ERR_HTTP2_'))
    return new NoReply('invalid', `the server speaks no HTTP/2 (${cause.message})`, cause);
  return asNoReply(cause, false);
}

function isGrpc(head: IncomingHttpHeaders): boolean {
  return head[':status'] === (200 as unknown) && /^application\/grpc(\+proto)?(;|$)/i.test(head['content-type'] ?? '');
}

/** A whole number of at most eight digits, in the finest unit that holds it. */
function timeoutOf(ms: number): string {
  const most = 99_999_999;
  if (ms <= most) return `${Math.max(1, Math.ceil(ms))}m`;
  return `${Math.min(most, Math.ceil(ms / 1000))}S`;
}

/** As gRPC has texts in headers: percent-encoded UTF-8. */
function messageIn(given: string | string[] | undefined): string {
  const text = String(given ?? '').slice(0, MESSAGE_CHARS_MAX);
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // It holds a percent sign that encodes nothing.
  }
}

/** As over HTTP; or as gRPC has it, in milliseconds. */
function retryAfterIn(headers: IncomingHttpHeaders): string | undefined {
  const given = headers['retry-after'];
  if (typeof given === 'string') return given;
  const pushback = headers['grpc-retry-pushback-ms'];
  return typeof pushback === 'string' && /^\d{1,9}$/.test(pushback)
    ? String(Math.ceil(Number(pushback) / 1000))
    : undefined;
}
