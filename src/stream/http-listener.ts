/**
 * The door to HTTP servers: one listener with one path or many, for sources that are posted to, sinks that are read from,
 * those who look at metrics and those who ask for inference.
 * Owns the socket, the limits and the gate every request passes; knows nothing of bodies and records.
 *
 * H1 nothing of a body is read before host, origin, path, method, header and token are right.
 * H2 every request gets exactly one answer, or its connection is gone.
 * H3 beyond loopback there is no listener without a token.
 * H4 nobody is late whose bytes are here: behind a stall of this process timers come before the sockets are read, so what a
 *    timer ends is ended one reading later, by what is missing then.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { systemClock } from '../kernel/clock.js';
import { checkCount, checkOptionalFunction, refuse } from './options.js';

/** Where an HTTP source or sink listens, and who may come. */
export interface ListenOptions {
  /** 0 takes a free one; `onListening` tells which. */
  port: number;
  /** Default 127.0.0.1. Anything but loopback needs `token`. */
  host?: string;
  /** The one path there is, without a query. Default `/`. */
  path?: string;
  /** Asked for as `Authorization: Bearer TOKEN`; at least 16 characters. Default none. */
  token?: string;
  /** Names by which clients may address the listener, besides `host` and loopback; needed where `host` is a wildcard. */
  hosts?: readonly string[];
  /** Origins of web pages that may use it, such as `https://board.example`. Default none: a request from a page is refused. */
  origins?: readonly string[];
  /** Told once it listens. */
  onListening?: (address: ListenAddress) => void;
}

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
  readonly url: string;
}

export const LISTEN_KEYS = ['port', 'host', 'path', 'token', 'hosts', 'origins', 'onListening'] as const;

export type { IncomingMessage, Server, ServerResponse };

/** Takes a request that has passed the gate, by which route, and must answer it. */
export type Handler<R extends Route = Route> = (request: IncomingMessage, response: ServerResponse, route: R) => void;

export type Method = 'GET' | 'POST';

/** One path of a listener, and what a request to it must bring. */
export interface Route {
  readonly path: string;
  readonly method: Method;
  /**
   * Whether this bearer may; `scope`: it is known, and may not do this. Without it the token of the options decides, where
   * there is one.
   */
  readonly admits?: (bearer: string | undefined) => boolean | 'scope';
  /**
   * It belongs to a page that this listener serves: that page's origin, the Host of the request behind `http://`, or behind
   * `https://` where a proxy ends TLS before it, may use it.
   * `mark` names a header that the page's own code sends and no other site can make a browser send.
   */
  readonly page?: { readonly mark?: string };
}

/** In what a listener differs from the plain one at a port. */
export interface ListenWays {
  /** The body of a refusal; `{ error: { code, message } }` without it. */
  readonly errorText?: (message: string, request: IncomingMessage | undefined, status: number) => string;
  /** How long a connection may rest between two requests. Default 30 s. */
  readonly keepAliveMs?: number;
  /** Default 1024. */
  readonly connectionsMax?: number;
  /** From the first byte of a connection, or of a request on it, until its headers are there. Default 10 s. */
  readonly headersMs?: number;
  /** Until the body is there too; at least `headersMs`. Default 60 s. */
  readonly receiveMs?: number;
  /** Paths of PEM files. With `ca`, clients must show a certificate of its. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string } | undefined;
  /** Makes the server listen elsewhere: no Host is asked for, and no port is taken. */
  readonly bind?: ((server: Server) => Promise<{ readonly path: string; close(): void }>) | undefined;
}

/** Why a request was not taken; one word each, for a metric. */
export type HttpRefusal = keyof typeof STATUSES;

const STATUSES = {
  closing: 503,
  host: 403,
  origin: 403,
  path: 404,
  method: 405,
  mark: 403,
  token: 401,
  scope: 403,
  body: 400,
  busy: 503,
  unread: 503,
} as const;

export const HTTP_REFUSALS = Object.keys(STATUSES) as readonly HttpRefusal[];

const LATE = 'ERR_HTTP_REQUEST_TIMEOUT';
/** What ends a connection before there is a request to answer; anything else is no HTTP: 400. */
const MALFORMED: ReadonlyMap<string | undefined, readonly [string, string]> = new Map([
  ['HPE_HEADER_OVERFLOW', ['431 Request Header Fields Too Large', 'the headers are larger than 16384 bytes']],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', ['413 Payload Too Large', 'the chunk extensions are too large']],
  [LATE, ['408 Request Timeout', 'the request did not arrive in time']],
]);

const LOOPBACK = ['127.0.0.1', 'localhost', '::1'];
const WILDCARDS = ['0.0.0.0', '::'];
const MAX_CONNECTIONS = 1024;
const KEEP_ALIVE_MS = 30_000;
/** Until who comes and what is wanted is known. */
export const HEADERS_MS = 10_000;
/** Until a request is all there. */
export const RECEIVE_MS = 60_000;
/** A client that has not taken its answer by then loses its connection, and the answer its memory. */
export const ANSWER_MS = 60_000;
const CHECK_MS = 1000;

/** Throws a TypeError for what cannot be right. */
export function checkListen(where: string, options: ListenOptions): void {
  const { port, host = '127.0.0.1', path = '/', token, hosts = [], origins = [], onListening } = options;
  checkCount('port', port, 0);
  if (port > 65_535) refuse('port', 'a port number of at most 65535', port);
  if (typeof host !== 'string' || host === '') refuse('host', 'a host name or address', host);
  if (typeof path !== 'string' || !/^\/[^?#\s]*$/.test(path)) refuse('path', 'a path such as /records', path);
  // Shown by its length alone: a token must not end up in a log.
  if (token !== undefined && (typeof token !== 'string' || !/^[\x21-\x7e]{16,}$/.test(token))) {
    throw new TypeError(`token must be at least 16 printable characters without spaces, got ${lengthOf(token)}`);
  }
  checkStrings('hosts', hosts);
  checkStrings('origins', origins);
  checkOptionalFunction('onListening', onListening);
  if (!isLoopback(host) && token === undefined) {
    throw new TypeError(
      `${where}: host ${JSON.stringify(host)} can be reached by others, so token must be given; ` +
        'without a token use a loopback host such as 127.0.0.1',
    );
  }
  if (WILDCARDS.includes(host) && hosts.length === 0) {
    throw new TypeError(`${where}: host ${JSON.stringify(host)} is no name, so hosts must list those clients use`);
  }
}

export class HttpListener<R extends Route = Route> {
  #server: Server | undefined;
  #bound: { close(): void } | undefined;
  readonly #isOurs: (authority: string | undefined) => boolean;
  readonly #origins: ReadonlySet<string>;
  /** What a request names is never looked up in an object. */
  readonly #routeOf: (path: string) => R | undefined;
  readonly #firstPath: string;
  readonly #admits: ((bearer: string | undefined) => boolean) | undefined;
  readonly #open = new Set<ServerResponse>();
  /** Out of their time, and not judged yet. */
  readonly #late = new Set<Duplex>();
  readonly #refusals = new Map<HttpRefusal, number>();
  #isClosing = false;

  /**
   * `routes`: those there are, the first one for the address; or the method of the one path of the options; or what finds
   * the route of a path.
   */
  constructor(
    private readonly options: ListenOptions,
    routes: Method | readonly R[] | ((path: string) => R | undefined),
    private readonly handler: Handler<R>,
    private readonly ways: ListenWays = {},
  ) {
    const { host = '127.0.0.1', hosts = [], origins = [], path = '/', token } = options;
    this.#isOurs = servedNames(host, hosts);
    this.#origins = new Set(origins);
    this.#admits = token === undefined ? undefined : tokenCheck(token);
    if (typeof routes === 'function') {
      this.#firstPath = '/';
      this.#routeOf = routes;
      return;
    }
    const all = typeof routes === 'string' ? [{ path, method: routes } as R] : routes;
    const byPath = new Map(all.map((route) => [route.path, route]));
    this.#firstPath = all[0]?.path ?? '/';
    this.#routeOf = (asked) => byPath.get(asked);
  }

  /** Rejects with what the system says: the port is taken, or not permitted; or with what `onListening` threw. */
  async open(): Promise<ListenAddress> {
    const { onListening } = this.options;
    const server = await this.#make();
    this.#server = server;
    const at = await this.#listen(server);
    // accept() may fail later for want of file handles: that refuses a client, it does not end the process.
    server.on('error', () => undefined);
    try {
      onListening?.(at);
    } catch (cause) {
      await this.close(0);
      throw cause;
    }
    return at;
  }

  /** Requests that were not taken, by reason. */
  get refusals(): ReadonlyMap<HttpRefusal, number> {
    return this.#refusals;
  }

  /** Counts a request that is not taken after all, and answers it unless its answer has begun. */
  refuse(request: IncomingMessage, response: ServerResponse, why: HttpRefusal, message: string, status?: number): void {
    this.#refusals.set(why, (this.#refusals.get(why) ?? 0) + 1);
    const { errorText } = this.ways;
    const code = status ?? STATUSES[why];
    const text = errorText === undefined ? undefined : (words: string): string => errorText(words, request, code);
    answerError(request, response, code, message, undefined, text);
  }

  /** No new connection, no new request; answers under way have `graceMs` to be written. */
  async close(graceMs: number): Promise<void> {
    this.#isClosing = true;
    const server = this.#server;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    this.#bound?.close();
    server.closeIdleConnections();
    const timer = systemClock.at(systemClock.now() + graceMs, () => server.closeAllConnections());
    await Promise.all([...this.#open].map(finished));
    server.closeAllConnections();
    await closed;
    timer.cancel();
  }

  async #make(): Promise<Server> {
    const { keepAliveMs = KEEP_ALIVE_MS, connectionsMax = MAX_CONNECTIONS, tls } = this.ways;
    const { headersMs = HEADERS_MS, receiveMs = RECEIVE_MS } = this.ways;
    const limits = {
      maxHeaderSize: 16_384,
      headersTimeout: headersMs,
      requestTimeout: receiveMs,
      keepAliveTimeout: keepAliveMs,
      connectionsCheckingInterval: Math.min(CHECK_MS, headersMs),
    };
    const take = (request: IncomingMessage, response: ServerResponse): void => this.#take(request, response);
    const server =
      tls === undefined ? createServer(limits, take) : createTlsServer({ ...limits, ...(await readTls(tls)) }, take);
    server.maxHeadersCount = 100;
    server.maxConnections = connectionsMax;
    // Who rests between two requests makes room for who has one.
    server.on('drop', () => server.closeIdleConnections());
    server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
      if (error.code === LATE) this.#judge(socket);
      else this.#malformed(error.code, socket);
    });
    server.on('timeout', (socket) => {
      const { bytesRead } = socket;
      setImmediate(() => socket.bytesRead === bytesRead && socket.destroy()); // H4
    });
    const connected = tls === undefined ? 'connection' : 'secureConnection';
    server.on(connected, (socket: IncomingMessage['socket']) => socket.on('close', () => this.#lost(socket)));
    return server;
  }

  async #listen(server: Server): Promise<ListenAddress> {
    const { port, host = '127.0.0.1' } = this.options;
    const { bind, tls } = this.ways;
    if (bind !== undefined) {
      const bound = await bind(server);
      this.#bound = bound;
      return { host: bound.path, port: 0, url: `unix:${bound.path}` };
    }
    const at = await listenAt(server, port, host);
    const scheme = tls === undefined ? 'http' : 'https';
    return { host: at.host, port: at.port, url: `${scheme}://${at.authority}${this.#firstPath}` };
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    this.#open.add(response);
    response.on('close', () => this.#open.delete(response));
    // A client that goes away is no error of ours; what waits for the request hears its close.
    request.on('error', ignore);
    response.on('error', ignore);
    if (this.#late.size > 0 && this.#late.delete(request.socket)) this.#receive(request, response);
    const found = this.#refusal(request, response);
    if (Array.isArray(found)) this.refuse(request, response, ...(found as [HttpRefusal, string]));
    else this.handler(request, response, found as R);
  }

  /** H4. */
  #judge(socket: Duplex): void {
    const { req: awaited } = [...this.#open].find(({ req }) => req.socket === socket && !req.complete) ?? {};
    this.#late.add(socket);
    setImmediate(() => {
      if (this.#late.delete(socket) && awaited?.complete !== true) this.#malformed(LATE, socket);
    });
  }

  /** Its headers came when its time was over: Node does not look at it again, however long its body takes. */
  #receive(request: IncomingMessage, response: ServerResponse): void {
    const timer = systemClock.at(systemClock.now() + (this.ways.receiveMs ?? RECEIVE_MS), () => {
      if (!request.complete) this.#judge(request.socket);
    });
    response.on('close', () => timer.cancel());
  }

  /** Whoever sent it gets an answer in the form of all others, unless one is being written already. */
  #malformed(code: string | undefined, socket: Duplex): void {
    const under = [...this.#open].find(({ req }) => req.socket === socket);
    if (!socket.writable || under?.headersSent === true) {
      socket.destroy();
      return;
    }
    const [status, words] = MALFORMED.get(code) ?? ['400 Bad Request', 'this is no HTTP request'];
    const { errorText = plainError } = this.ways;
    const text = errorText(words, under?.req, Number.parseInt(status, 10));
    const head = `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}`;
    socket.end(`${head}\r\nConnection: close\r\n\r\n${text}`, () => socket.destroy());
  }

  /** H2. Of a response that waits behind another on its connection, Node does not tell that the connection is gone. */
  #lost(socket: IncomingMessage['socket']): void {
    for (const response of this.#open) {
      if (response.req.socket !== socket || response.socket !== null) continue;
      response.destroy();
      response.emit('close');
    }
  }

  /** H1. The route, where there is none. */
  #refusal(request: IncomingMessage, response: ServerResponse): [HttpRefusal, string] | R {
    const { host, origin, authorization } = request.headers;
    if (this.#isClosing) return ['closing', 'the listener is closing'];
    if (this.ways.bind === undefined && !this.#isOurs(host)) return ['host', 'this host name is not served here'];
    const route = this.#routeOf(pathOf(request.url ?? ''));
    const isOwnPage =
      route?.page !== undefined && host !== undefined && origin !== undefined && isOriginOf(host, origin);
    if (origin !== undefined && !isOwnPage) {
      if (!this.#origins.has(origin)) return ['origin', 'this origin may not use it'];
      response.setHeader('access-control-allow-origin', origin);
      response.setHeader('vary', 'origin');
    }
    if (route === undefined) return ['path', 'there is no such path'];
    const { method, page, admits = this.#admits } = route;
    if (request.method !== method) {
      response.setHeader('allow', method);
      return ['method', `only ${method} is served here`];
    }
    if (page?.mark !== undefined && request.headers[page.mark] === undefined) {
      return ['mark', `the header ${page.mark} is needed`];
    }
    const admitted = admits === undefined || admits(bearerOf(authorization));
    if (admitted === 'scope') return ['scope', 'this token may not do that'];
    if (!admitted) {
      response.setHeader('www-authenticate', 'Bearer');
      return ['token', 'a bearer token is needed'];
    }
    return route;
  }
}

/**
 * Answers with JSON, or with text or bytes of another type; `more`: further headers, names and values in turn. A body that
 * was not read to its end costs the connection, because it cannot be told from a next request.
 */
export function answer(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  body: string | readonly Uint8Array[],
  type = 'application/json',
  more: readonly string[] = NO_HEADERS,
): void {
  if (response.headersSent || response.destroyed) return;
  if (!request.complete) response.setHeader('connection', 'close');
  const size = typeof body === 'string' ? Buffer.byteLength(body) : sizeOf(body);
  // A flat list goes as it is, an object is taken apart first.
  response.writeHead(status, [
    'content-type',
    type,
    'content-length',
    String(size),
    'cache-control',
    'no-store',
    'x-content-type-options',
    'nosniff',
    ...more,
  ]);
  if (typeof body === 'string') response.end(body);
  else if (size <= ONE_WRITE_BYTES_MAX) response.end(latin1Of(body), 'latin1');
  else {
    response.cork();
    for (const part of body) response.write(part);
    response.end();
    response.uncork();
  }
  if (!isTaken(response)) {
    const timer = systemClock.at(systemClock.now() + ANSWER_MS, () => request.socket.destroy());
    response.on('close', () => timer.cancel());
  }
  if (!request.complete) request.resume();
}

/** Head and body of an answer that is no larger go to the system as one text, which costs less than the two that bytes take. */
const ONE_WRITE_BYTES_MAX = 8192;
const NO_HEADERS: readonly string[] = [];

/** As many characters as bytes. */
function latin1Of(parts: readonly Uint8Array[]): string {
  let text = '';
  for (const { buffer, byteOffset, length } of parts)
    text += Buffer.from(buffer, byteOffset, length).toString('latin1');
  return text;
}

/** Whether the system has every byte of the answer, so that none of it is held here. */
function isTaken({ socket, writableLength }: ServerResponse): boolean {
  return socket !== null && socket.writableLength === 0 && writableLength === 0;
}

export function answerError(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  message: string,
  code?: string,
  errorText: (message: string) => string = (words) => JSON.stringify({ error: { code, message: words } }),
): void {
  if (status === 503 && !response.headersSent && !response.hasHeader('retry-after')) {
    response.setHeader('retry-after', '1');
  }
  answer(request, response, status, errorText(message));
}

function ignore(): void {}

function plainError(message: string): string {
  return JSON.stringify({ error: { message } });
}

function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((total, part) => total + part.length, 0);
}

/** Of a server of node, whichever protocol it speaks. */
interface Listens {
  once(event: 'error', heard: (error: Error) => void): unknown;
  off(event: 'error', heard: (error: Error) => void): unknown;
  listen(at: { readonly port: number; readonly host: string }, done: () => void): unknown;
  address(): string | { readonly address: string; readonly port: number } | null;
}

/** Has it listen there; rejects with what the system says. */
export async function listenAt(
  server: Listens,
  port: number,
  host: string,
): Promise<{ readonly host: string; readonly port: number; readonly authority: string }> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, host }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new TypeError('the listener has no port');
  const name = address.address.includes(':') ? `[${address.address}]` : address.address;
  return { host: address.address, port: address.port, authority: `${name}:${address.port}` };
}

/** Which names of a Host header, or of what stands for one, are those of a listener. */
export function servedNames(host: string, hosts: readonly string[]): (authority: string | undefined) => boolean {
  const names = new Set([...LOOPBACK, host, ...hosts].map((name) => name.toLowerCase()));
  let last: string | undefined; // Clients of one server mostly write it alike.
  return (authority) => {
    if (authority === undefined) return false;
    if (authority === last) return true;
    const isOurs = names.has(nameOf(authority));
    if (isOurs) last = authority;
    return isOurs;
  };
}

export async function readTls({ cert, key, ca }: NonNullable<ListenWays['tls']>): Promise<Record<string, unknown>> {
  // One after another: of files that are missing the first is told, not any.
  const certificate = await readFile(cert);
  const secret = await readFile(key);
  const authority = ca === undefined ? undefined : await readFile(ca);
  const clients = authority === undefined ? {} : { ca: authority, requestCert: true, rejectUnauthorized: true };
  return { cert: certificate, key: secret, minVersion: 'TLSv1.2', ...clients };
}

function finished(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    if (response.closed) resolve();
    else response.once('close', resolve);
  });
}

export function bearerOf(authorization: string | undefined): string | undefined {
  if (authorization === undefined) return undefined;
  // Some clients put the word before a token that has it already.
  return /^Bearer (?:Bearer )?([\x21-\x7e]+)$/i.exec(authorization)?.[1];
}

/** Says of a bearer whether it is this token; takes the same time whatever is given, for digests have one length. */
export function tokenCheck(token: string): (bearer: string | undefined) => boolean {
  const right = digest(token);
  return (bearer) => timingSafeEqual(digest(bearer ?? ''), right) && bearer !== undefined;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function pathOf(url: string): string {
  const end = url.indexOf('?');
  return end === -1 ? url : url.slice(0, end);
}

/** Nobody else can have it: whichever name it is was found among ours. */
function isOriginOf(host: string, origin: string): boolean {
  return origin === `http://${host}` || origin === `https://${host}`;
}

/** Of a Host header: `name`, `name:port`, `[v6]:port`. */
function nameOf(host: string): string {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/.exec(host);
  return (match?.[1] ?? match?.[2] ?? '').toLowerCase();
}

/** Whether only this machine can reach what listens there. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.includes(host) || /^127(\.\d{1,3}){3}$/.test(host);
}

function checkStrings(option: string, value: unknown): void {
  if (!Array.isArray(value) || value.some((entry) => typeof entry !== 'string' || entry === '')) {
    refuse(option, 'an array of strings', value);
  }
}

function lengthOf(value: unknown): string {
  return typeof value === 'string' ? `${value.length} characters` : typeof value;
}
