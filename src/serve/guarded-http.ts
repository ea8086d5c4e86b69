/**
 * The door to servers that a config names: one request over HTTP/1.1, whose connection goes where the guard allows, whose
 * answer is taken for hostile, and whose end is known whatever the other side does.
 *
 * H1 one answer per request: redirects are answers, never followed, for the token is not meant for another address.
 * H2 bytes of an answer are bounded, as they come and inflated; so is the time from the first byte of the request to the
 *    last of the answer.
 * H3 a failure says whether the request can have been read by the other side.
 */
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as SecureAgent, request as requestHttps } from 'node:https';
import { systemClock } from '../kernel/clock.js';
import { ByteBudget, readBody, Refusal } from '../stream/http-body.js';
import { type AddressGuard, AddressRefused } from './address-guard.js';

/** What a call through a guarded door is bound by, whatever it speaks. */
export interface GuardedCall {
  /** With the query; of gRPC `/service/method`. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly maxReplyBytes: number;
  readonly signal: AbortSignal;
}

export interface GuardedRequest extends GuardedCall {
  readonly method: string;
  /** Sent as they lie in memory; they must stay as they are until the answer. */
  readonly body: readonly Uint8Array[];
}

export interface GuardedReply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Inflated. Empty where the status is no success and the body could not be read. */
  readonly body: Buffer;
}

/**
 * Why there is no answer. `refused`: the address may not be connected to. `unreached`: nobody can have read the request.
 * `cut`: somebody may. `late`: no whole answer in time. `invalid`: what came is no answer. `cancelled`: by the signal.
 */
export type NoReplyKind = 'refused' | 'unreached' | 'cut' | 'late' | 'invalid' | 'cancelled';

export class NoReply extends Error {
  constructor(
    readonly kind: NoReplyKind,
    message: string,
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'NoReply';
  }
}

/** Of an answer that says no. */
const REFUSAL_BYTES_MAX = 65_536;
/** Connections that nobody uses are kept so long, where the server does not say less. */
const IDLE_MS = 60_000;
const IDLE_SOCKETS_MAX = 16;

/** Holds the connections to one server. */
export class GuardedHttp {
  readonly #url: URL;
  readonly #guard: AddressGuard;
  readonly #agent: Agent;

  /** `ca`: the authorities that are trusted, in the place of those that everybody trusts. */
  constructor(url: URL, guard: AddressGuard, ca?: Buffer) {
    this.#url = url;
    this.#guard = guard;
    const options = { keepAlive: true, maxFreeSockets: IDLE_SOCKETS_MAX, timeout: IDLE_MS };
    this.#agent =
      url.protocol === 'https:'
        ? new SecureAgent({ ...options, ...(ca === undefined ? {} : { ca }) })
        : new Agent(options);
  }

  /** Resolves to whatever the server answered; rejects with a NoReply. */
  send(request: GuardedRequest): Promise<GuardedReply> {
    return new Promise((resolve, reject) => {
      if (request.signal.aborted) return reject(new NoReply('cancelled', 'nobody waits for the answer any more'));
      try {
        this.#guard.check();
      } catch (cause) {
        return reject(asNoReply(cause, false));
      }
      this.#open(request, resolve, reject);
    });
  }

  /** Ends idle connections; what is under way goes on. */
  close(): void {
    this.#agent.destroy();
  }

  #open(
    { method, path, headers, body, timeoutMs, maxReplyBytes, signal }: GuardedRequest,
    resolve: (reply: GuardedReply) => void,
    reject: (error: NoReply) => void,
  ): void {
    const isSecure = this.#url.protocol === 'https:';
    const { port } = this.#url;
    const length = body.reduce((sum, part) => sum + part.length, 0);
    const sent = (isSecure ? requestHttps : requestHttp)({
      // Brackets off: a socket takes the bare address. The header Host gets them back.
      host: this.#guard.host,
      port: port === '' ? (isSecure ? 443 : 80) : Number(port),
      method,
      path,
      headers: { ...headers, host: this.#url.host, ...(method === 'GET' ? {} : { 'content-length': length }) },
      agent: this.#agent,
      lookup: this.#guard.lookup,
    });
    let wasReached = false;
    /** From the head of an answer on, its body tells how it ends. */
    let isAnswered = false;
    let isOver = false;
    const end = (): boolean => {
      if (isOver) return false;
      isOver = true;
      timer.cancel();
      signal.removeEventListener('abort', onAbort);
      return true;
    };
    const fail = (error: NoReply): void => {
      if (!end()) return;
      sent.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(new NoReply('cancelled', 'nobody waits for the answer any more'));
    const timer = systemClock.at(systemClock.now() + timeoutMs, () =>
      fail(new NoReply(wasReached ? 'late' : 'unreached', `no answer within ${timeoutMs} ms`)),
    );
    signal.addEventListener('abort', onAbort);
    sent.on('socket', (socket) => {
      if (!socket.connecting) wasReached = true;
      else socket.once(isSecure ? 'secureConnect' : 'connect', () => (wasReached = true));
    });
    const onEnd = (error: NoReply): void => {
      if (!isAnswered) fail(error);
    };
    // Also after the end: a socket that breaks under an answer nobody wants has to have somebody who hears it.
    sent.on('error', (cause) => onEnd(asNoReply(cause, wasReached)));
    sent.on('close', () =>
      onEnd(new NoReply(wasReached ? 'cut' : 'unreached', 'the connection ended without an answer')),
    );
    sent.on('upgrade', (_response, socket) => {
      socket.destroy();
      fail(new NoReply('invalid', 'the server wants to change the protocol'));
    });
    sent.on('response', (response) => {
      isAnswered = true;
      response.on('error', () => undefined); // Who reads the body is told.
      void replyOf(response, maxReplyBytes, timeoutMs).then((reply) => {
        if (reply instanceof NoReply) fail(reply);
        else if (end()) {
          // A connection on which either side has not come to its end is of no more use.
          if (!response.complete || !sent.writableFinished) sent.destroy();
          resolve(reply);
        }
      });
    });
    sent.cork();
    for (const part of body) sent.write(part);
    sent.end();
    sent.uncork();
  }
}

/** Never rejects. `timeoutMs`: of the whole request (H2), so that no pause in the answer ends it any sooner. */
async function replyOf(
  response: IncomingMessage,
  maxReplyBytes: number,
  timeoutMs: number,
): Promise<GuardedReply | NoReply> {
  const { statusCode: status = 0, headers } = response;
  const isGood = status >= 200 && status < 300;
  const most = isGood ? maxReplyBytes : Math.min(maxReplyBytes, REFUSAL_BYTES_MAX);
  // Inflating is counted as all that it may come to.
  const body = await readBody(response, most, new ByteBudget(Infinity), { stallMs: timeoutMs });
  if (body !== undefined && !(body instanceof Refusal)) return { status, headers, body: body.bytes };
  // What it says beside its status is lost, and the status is not.
  if (!isGood) return { status, headers, body: Buffer.alloc(0) };
  return body === undefined
    ? new NoReply('cut', 'the connection ended in the middle of the answer')
    : new NoReply('invalid', `the answer cannot be taken: ${body.message}`);
}

/** What the system, or the guard, says of a connection. */
export function asNoReply(cause: unknown, wasReached: boolean): NoReply {
  if (cause instanceof NoReply) return cause;
  if (cause instanceof AddressRefused) return new NoReply('refused', cause.message, cause);
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  // The parser of HTTP gave up on what came.
  if (code.startsWith('HPE_')) return new NoReply('invalid', `the answer is not HTTP/1.1 (${code})`, cause);
  return new NoReply(wasReached ? 'cut' : 'unreached', wordsOf(cause), cause);
}

/** Node puts the failures of several addresses into one error without words. */
function wordsOf(cause: unknown): string {
  if (cause instanceof AggregateError) return cause.errors.map(wordsOf).join('; ');
  if (!(cause instanceof Error)) return String(cause);
  return cause.message === '' && 'code' in cause ? String(cause.code) : cause.message;
}
