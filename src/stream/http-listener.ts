/**
 * The door to HTTP servers: one listener with one path or a few, for sources that are posted to, sinks that are read from
 * and those who look at metrics.
 * Owns the socket, the limits and the gate every request passes; knows nothing of bodies and records.
 *
 * H1 nothing of a body is read before host, origin, path, method, header and token are right.
 * H2 every request gets exactly one answer, or its connection is gone.
 * H3 beyond loopback there is no listener without a token.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
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

export type { IncomingMessage, ServerResponse };

/** Takes a request that has passed the gate, and must answer it. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export type Method = 'GET' | 'POST';

/** One path of a listener, and what a request to it must bring. */
export interface Route {
  readonly path: string;
  readonly method: Method;
  /** Whether this bearer may; without it the token of the options decides, where there is one. */
  readonly admits?: (bearer: string | undefined) => boolean;
  /**
   * It belongs to a page that this listener serves: that page's origin, the Host of the request behind `http://`, or behind
   * `https://` where a proxy ends TLS before it, may use it.
   * `mark` names a header that the page's own code sends and no other site can make a browser send.
   */
  readonly page?: { readonly mark?: string };
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
  body: 400,
  busy: 503,
  unread: 503,
} as const;

export const HTTP_REFUSALS = Object.keys(STATUSES) as readonly HttpRefusal[];

const LOOPBACK = ['127.0.0.1', 'localhost', '::1'];
const WILDCARDS = ['0.0.0.0', '::'];
const MAX_CONNECTIONS = 1024;
/** A client that has not taken its answer by then loses its connection, and the answer its memory. */
const ANSWER_MS = 60_000;

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

export class HttpListener {
  readonly #server: Server;
  readonly #hosts: ReadonlySet<string>;
  readonly #origins: ReadonlySet<string>;
  /** A Map: what a request names is never looked up in an object. */
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #admits: ((bearer: string | undefined) => boolean) | undefined;
  readonly #open = new Set<ServerResponse>();
  readonly #refusals = new Map<HttpRefusal, number>();
  #isClosing = false;

  /** `routes`: those there are, the first one for the address; or the method of the one path of the options. */
  constructor(
    private readonly options: ListenOptions,
    routes: Method | readonly Route[],
    private readonly handler: Handler,
  ) {
    const { host = '127.0.0.1', hosts = [], origins = [], path = '/', token } = options;
    this.#hosts = new Set([...LOOPBACK, host, ...hosts].map((name) => name.toLowerCase()));
    this.#origins = new Set(origins);
    const all = typeof routes === 'string' ? [{ path, method: routes }] : routes;
    this.#routes = new Map(all.map((route) => [route.path, route]));
    this.#admits = token === undefined ? undefined : tokenCheck(token);
    this.#server = createServer(
      {
        maxHeaderSize: 16_384,
        headersTimeout: 10_000,
        requestTimeout: 60_000,
        keepAliveTimeout: 30_000,
        connectionsCheckingInterval: 1000,
      },
      (request, response) => this.#take(request, response),
    );
    this.#server.maxHeadersCount = 100;
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('connection', (socket) => socket.on('close', () => this.#lost(socket)));
  }

  /** Rejects with what the system says: the port is taken, or not permitted; or with what `onListening` threw. */
  async open(): Promise<ListenAddress> {
    const { port, host = '127.0.0.1', onListening } = this.options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ port, host }, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    // accept() may fail later for want of file handles: that refuses a client, it does not end the process.
    this.#server.on('error', () => undefined);
    const address = this.#server.address();
    if (typeof address !== 'object' || address === null) throw new TypeError('the listener has no port');
    const name = address.address.includes(':') ? `[${address.address}]` : address.address;
    const at = {
      host: address.address,
      port: address.port,
      url: `http://${name}:${address.port}${[...this.#routes.keys()][0]}`,
    };
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
    answerError(request, response, status ?? STATUSES[why], message);
  }

  /** No new connection, no new request; answers under way have `graceMs` to be written. */
  async close(graceMs: number): Promise<void> {
    this.#isClosing = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const timer = systemClock.at(systemClock.now() + graceMs, () => this.#server.closeAllConnections());
    await Promise.all([...this.#open].map(finished));
    this.#server.closeAllConnections();
    await closed;
    timer.cancel();
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    this.#open.add(response);
    response.on('close', () => this.#open.delete(response));
    // A client that goes away is no error of ours; what waits for the request hears its close.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const refusal = this.#refusal(request, response);
    if (refusal === undefined) this.handler(request, response);
    else this.refuse(request, response, ...refusal);
  }

  /** H2. Of a response that waits behind another on its connection, Node does not tell that the connection is gone. */
  #lost(socket: IncomingMessage['socket']): void {
    for (const response of this.#open) {
      if (response.req.socket !== socket || response.socket !== null) continue;
      response.destroy();
      response.emit('close');
    }
  }

  /** H1. */
  #refusal(request: IncomingMessage, response: ServerResponse): [HttpRefusal, string] | undefined {
    const { host, origin, authorization } = request.headers;
    if (this.#isClosing) return ['closing', 'the listener is closing'];
    if (host === undefined || !this.#hosts.has(nameOf(host))) return ['host', 'this host name is not served here'];
    const route = this.#routes.get(request.url?.split('?')[0] ?? '');
    if (origin !== undefined && !(route?.page !== undefined && isOriginOf(host, origin))) {
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
    if (admits !== undefined && !admits(bearerOf(authorization))) {
      response.setHeader('www-authenticate', 'Bearer');
      return ['token', 'a bearer token is needed'];
    }
    return undefined;
  }
}

/** Answers with JSON, or text of another type. A body that was not read to its end costs the connection, because it cannot be told from a next request. */
export function answer(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  text: string,
  type = 'application/json',
): void {
  if (response.headersSent || response.destroyed) return;
  if (!request.complete) response.setHeader('connection', 'close');
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  const timer = systemClock.at(systemClock.now() + ANSWER_MS, () => request.socket.destroy());
  response.on('close', () => timer.cancel());
  response.end(text);
  if (!request.complete) request.resume();
}

export function answerError(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  message: string,
  code?: string,
): void {
  if (status === 503 && !response.headersSent && !response.hasHeader('retry-after')) {
    response.setHeader('retry-after', '1');
  }
  answer(request, response, status, JSON.stringify({ error: { code, message } }));
}

function finished(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    if (response.closed) resolve();
    else response.once('close', resolve);
  });
}

function bearerOf(authorization: string | undefined): string | undefined {
  return /^Bearer ([\x21-\x7e]+)$/i.exec(authorization ?? '')?.[1];
}

/** Says of a bearer whether it is this token; takes the same time whatever is given, for digests have one length. */
export function tokenCheck(token: string): (bearer: string | undefined) => boolean {
  const right = digest(token);
  return (bearer) => timingSafeEqual(digest(bearer ?? ''), right) && bearer !== undefined;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
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
