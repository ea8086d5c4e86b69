/**
 * The Open Inference Protocol v2 over HTTP/1.1, at a port, at a Unix socket, or both; beside it the routes of OpenAI, and gRPC.
 *
 * Owns the routes, and that every request gets an answer in the protocol's own form. What a request passes before it gets
 * here (host, origin, method, token, limits of headers and connections) is the listener's: stream/http-listener.ts.
 *
 * L1 every answer but 200 is `{ "error": "…" }`, or of OpenAI's form on its routes; what is no error of the client's or the model's is told as 500 without words.
 * L2 the health of the server needs no token, and is found out by a probe through the mailboxes.
 * L3 what changes models needs the scope admin, which nobody has without a token for it.
 */
import type { System } from '../actor/system.js';
import { TroupeError } from '../kernel/errors.js';
import { isName } from '../models/names.js';
import { BodyMemory } from '../stream/body-memory.js';
import { ByteBudget, readBody, Refusal } from '../stream/http-body.js';
import {
  answer,
  HTTP_REFUSALS,
  HttpListener,
  type IncomingMessage,
  type ListenAddress,
  type ListenWays,
  type Method,
  type Route,
  type ServerResponse,
} from '../stream/http-listener.js';
import type { Exposition } from '../telemetry/exposition.js';
import type { Server as NetServer } from '../wire/unix-lane.js';
import { accessOf, type Scope } from './access.js';
import { generate } from './generate.js';
import { GrpcListener } from './grpc-listener.js';
import { grpcMethods } from './grpc-service.js';
import { answerHeld } from './held-answer.js';
import { modelConfig, modelMetadata, repositoryIndex, serverMetadata, statistics } from './oip-describe.js';
import { infer, type InferParts } from './oip-infer.js';
import { LaneServer } from './lane-server.js';
import { invalid } from './oip-invalid.js';
import { openAiErrorText } from './openai-error.js';
import { OPENAI_PREFIX, OpenAiRoutes } from './openai-routes.js';
import { parseOipJson } from './oip-json.js';
import { KnownHead } from './oip-request.js';
import { versionToLoad } from './load-parameters.js';
import { failureOf, UNSERVED } from './oip-status.js';
import { Scrapes, SCRAPES_BUSY } from './scrapes.js';
import { allModels, findModel, isServerReady, loadModel, type ServedModel, unloadModel } from './served-models.js';
import { ServedMeter } from './served-meter.js';
import { type ResolvedServe, resolveServe, type ServeOptions } from './serve-options.js';

/** Pools that are served. */
export interface Serving extends AsyncDisposable {
  /** Of HTTP its port and its socket, then those of gRPC, then the lane, as far as there are any. */
  readonly addresses: readonly ListenAddress[];
  /**
   * Takes no new request and resolves when those under way are answered, or their connections are cut after `graceMs`
   * (10,000). Ends with the system by itself. May be called again, with 0 to end now.
   */
  close(graceMs?: number): Promise<void>;
}

export interface ServeParts {
  /** Of the package, for the metadata of the server. */
  readonly version: string;
  /** Names of pools that have to be there for the server to be ready, besides those that are. */
  readonly pools: () => readonly string[];
  /** Has a server listen at a Unix socket. */
  readonly bindAt: (path: string) => (server: NetServer) => Promise<{ readonly path: string; close(): void }>;
}

/** Who waits between two batches for minutes must find its connection open: one that retries nothing would fail its job. */
const KEEP_ALIVE_MS = 310_000;
const CLOSE_MS = 10_000;
/** Of what is posted beside inference. */
const SMALL_BODY_BYTES = 65_536;
/** Memory that lies ready for large bodies, and which part of what all bodies may have it is at most. */
const MEMORY_BYTES_MAX = 2 ** 25;
const MEMORY_PART = 8;
const ROUTES_MAX = 256;
const ROUTE_CHARS_MAX = 256;

/** As `system.serve`, which says what it needs. */
export async function listenForInference(system: System, options: ServeOptions, parts: ServeParts): Promise<Serving> {
  return new OipServer(system, resolveServe(options), parts).open();
}

type Take = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

interface OipRoute extends Route {
  readonly take: Take;
}

class OipServer {
  readonly #system: System;
  readonly #options: ResolvedServe;
  readonly #parts: ServeParts;
  readonly #access: ReturnType<typeof accessOf>;
  readonly #budget: ByteBudget;
  readonly #shared: InferParts;
  readonly #meter = new ServedMeter();
  readonly #scrapes: Scrapes;
  readonly #openAi: OpenAiRoutes;
  readonly #listeners: (HttpListener<OipRoute> | GrpcListener)[] = [];
  readonly #lanes: LaneServer[] = [];
  /** By path. A route knows no pool: it looks for it with every request. */
  readonly #routes = new Map<string, OipRoute>();

  constructor(system: System, options: ResolvedServe, parts: ServeParts) {
    this.#system = system;
    this.#options = options;
    this.#parts = parts;
    this.#access = accessOf(options);
    this.#scrapes = new Scrapes(system);
    this.#budget = new ByteBudget(options.capacityBytes);
    const memory = new BodyMemory(Math.min(MEMORY_BYTES_MAX, options.capacityBytes / MEMORY_PART));
    this.#shared = { options, budget: this.#budget, memory };
    const admits = this.#access.infer;
    this.#openAi = new OpenAiRoutes({ system, options, budget: this.#budget, meter: this.#meter, admits });
  }

  async open(): Promise<Serving> {
    const { port, host, socket, lane } = this.#options;
    const addresses: ListenAddress[] = [];
    try {
      if (port !== undefined) addresses.push(await this.#listen(port, `${host} port ${port}`));
      if (socket !== undefined) addresses.push(await this.#listen(0, socket, this.#parts.bindAt(socket)));
      addresses.push(...(await this.#listenGrpc()));
      if (lane !== undefined) addresses.push(await this.#openLane(lane));
    } catch (error) {
      await this.#close(0);
      throw error;
    }
    const stopCounting = this.#system.registry.add({
      collect: (into) => this.#collect(into),
      refusals: () => ['serve', this.#refusals()],
    });
    let isCounted = true;
    const close = async (graceMs = CLOSE_MS): Promise<void> => {
      await this.#close(graceMs);
      if (isCounted) stopCounting();
      isCounted = false;
      forget();
    };
    const forget = this.#system.atEnd(() => close(0));
    return { addresses, close, [Symbol.asyncDispose]: close };
  }

  async #listen(port: number, where: string, bind?: ListenWays['bind']): Promise<ListenAddress> {
    const { host, hosts, tls, maxConnections, onListening } = this.#options;
    const listener = new HttpListener<OipRoute>(
      { port, host, hosts, ...(onListening === undefined ? {} : { onListening }) },
      (path) => this.#knownRoute(path),
      (request, response, route) => void this.#take(request, response, route),
      {
        errorText: (message, request, status) =>
          request?.url?.startsWith(OPENAI_PREFIX) === true ? openAiErrorText(message, status) : errorText(message),
        keepAliveMs: KEEP_ALIVE_MS,
        connectionsMax: maxConnections,
        ...(bind === undefined ? { tls } : { bind }),
      },
    );
    return this.#open(listener, where);
  }

  async #listenGrpc(): Promise<readonly ListenAddress[]> {
    const options = this.#options;
    if (options.grpc === undefined) return [];
    const { port, socket } = options.grpc;
    const { version, pools, bindAt } = this.#parts;
    const [system, budget, meter, access] = [this.#system, this.#budget, this.#meter, this.#access];
    const methods = grpcMethods({ system, options, budget, meter, access, version, pools });
    const place = { methods, budget, keepAliveMs: KEEP_ALIVE_MS, port: port ?? 0 };
    const addresses: ListenAddress[] = [];
    if (port !== undefined)
      addresses.push(await this.#open(new GrpcListener(options, place), `${options.host} port ${port}`));
    if (socket !== undefined)
      addresses.push(await this.#open(new GrpcListener(options, { ...place, bind: bindAt(socket) }), socket));
    return addresses;
  }

  async #open(listener: HttpListener<OipRoute> | GrpcListener, where: string): Promise<ListenAddress> {
    this.#listeners.push(listener);
    try {
      return await listener.open();
    } catch (cause) {
      const words = cause instanceof Error ? cause.message : String(cause);
      throw new TroupeError('LISTEN_FAILED', `Cannot serve at ${where}: ${words}`, { cause });
    }
  }

  async #openLane(path: string): Promise<ListenAddress> {
    const { pools, bindAt } = this.#parts;
    const bind = bindAt(path);
    const lane = new LaneServer({
      system: this.#system,
      options: this.#options,
      admits: this.#access.infer,
      pools,
      bind,
    });
    this.#lanes.push(lane);
    try {
      const address = await lane.open();
      this.#options.onListening?.(address);
      return address;
    } catch (cause) {
      const words = cause instanceof Error ? cause.message : String(cause);
      throw new TroupeError('LISTEN_FAILED', `Cannot serve the lane at ${path}: ${words}`, { cause });
    }
  }

  async #close(graceMs: number): Promise<void> {
    await Promise.all([...this.#listeners, ...this.#lanes].map((way) => way.close(graceMs)));
  }

  /** L1. */
  async #take(request: IncomingMessage, response: ServerResponse, route: OipRoute): Promise<void> {
    try {
      await route.take(request, response);
    } catch (error) {
      const { status, message, retryAfterS } = failureOf(error);
      if (retryAfterS !== undefined && !response.headersSent) response.setHeader('retry-after', retryAfterS);
      answer(request, response, status, errorText(message));
    }
  }

  /** Few paths are asked for again and again; who asks for many finds each anew. */
  #knownRoute(path: string): OipRoute | undefined {
    const known = this.#routes.get(path);
    if (known !== undefined) return known;
    const route = this.#routeOf(path);
    if (route === undefined || path.length > ROUTE_CHARS_MAX) return route;
    if (this.#routes.size === ROUTES_MAX) this.#routes.clear();
    this.#routes.set(path, route);
    return route;
  }

  #routeOf(path: string): OipRoute | undefined {
    if (path === '/metrics')
      return this.#get(path, 'infer', async (request, response) => {
        if (!this.#scrapes.answer(request, response)) throw new Refusal(503, SCRAPES_BUSY);
      });
    if (path.startsWith(OPENAI_PREFIX)) return this.#openAi.routeOf(path);
    const [nothing, v2, ...words] = path.split('/');
    if (nothing !== '' || v2 !== 'v2') return undefined;
    const [area, ...rest] = words;
    switch (area) {
      case undefined:
        return this.#tell(path, () => serverMetadata(this.#parts.version));
      case 'health':
        return this.#health(path, rest);
      case 'models':
        return this.#models(path, rest);
      case 'repository':
        return this.#repository(path, rest);
      case 'systemsharedmemory':
      case 'cudasharedmemory':
        return this.#sharedMemory(path, rest);
      default:
        return undefined;
    }
  }

  /** L2. */
  #health(path: string, [what, ...more]: readonly string[]): OipRoute | undefined {
    if (more.length > 0) return undefined;
    const tell = (request: IncomingMessage, response: ServerResponse, is: boolean): void =>
      answer(request, response, is ? 200 : 400, JSON.stringify({ live: true, ready: is }));
    if (what === 'live')
      return this.#get(path, 'open', async (request, response) =>
        answer(request, response, 200, JSON.stringify({ live: true })),
      );
    if (what !== 'ready') return undefined;
    return this.#get(path, 'open', async (request, response) => {
      tell(request, response, await isServerReady(this.#system, this.#parts.pools()));
    });
  }

  #models(path: string, words: readonly string[]): OipRoute | undefined {
    if (words.length === 1 && words[0] === 'stats')
      return this.#tell(path, () => statistics(allModels(this.#system), this.#meter));
    const [encoded = '', ...afterName] = words;
    const name = decoded(encoded);
    if (name === undefined) return undefined;
    let [rest, version]: [readonly string[], string | undefined] = [afterName, undefined];
    if (afterName[0] === 'versions') {
      version = decoded(afterName[1] ?? '');
      if (version === undefined) return undefined;
      rest = afterName.slice(2);
    }
    const [action, ...more] = rest;
    if (more.length > 0) return undefined;
    const found = (): ServedModel => findModel(this.#system, name, version);
    switch (action) {
      case undefined:
        return this.#tell(path, () => modelMetadata(found()));
      case 'config':
        return this.#tell(path, () => modelConfig(found()));
      case 'stats':
        return this.#tell(path, () => statistics([found()], this.#meter));
      case 'ready':
        return this.#get(path, 'infer', async (request, response) => {
          const { ready } = await found().pool.health();
          if (ready) answer(request, response, 200, JSON.stringify({ name, ready }));
          else answer(request, response, 400, errorText('Model version not ready'));
        });
      case 'infer':
        return this.#inference(path, found);
      case 'generate':
      case 'generate_stream':
        return this.#generation(path, found, action === 'generate_stream');
      default:
        return undefined;
    }
  }

  #inference(path: string, found: () => ServedModel): OipRoute {
    const known = new KnownHead();
    return this.#metered(path, found, (...of) => infer(...of, this.#shared, known));
  }

  #generation(path: string, found: () => ServedModel, isStream: boolean): OipRoute {
    return this.#metered(path, found, (...of) => generate(...of, this.#shared, isStream));
  }

  /** `work` resolves to a number of records. */
  #metered(
    path: string,
    found: () => ServedModel,
    work: (served: ServedModel, request: IncomingMessage, response: ServerResponse) => Promise<number>,
  ): OipRoute {
    return this.#post(path, 'infer', async (request, response) => {
      const served = found();
      await this.#meter.during(
        served,
        () => work(served, request, response),
        (error) => (response.destroyed || response.closed ? 'gone' : failureOf(error).outcome),
      );
    });
  }

  #repository(path: string, words: readonly string[]): OipRoute | undefined {
    if (words.length === 1 && words[0] === 'index')
      return this.#post(path, 'infer', async (request, response) => {
        const asked = await this.#smallBody(request);
        const index = repositoryIndex(this.#system, asked['ready'] === true);
        answerHeld(this.#budget, request, response, JSON.stringify(index));
      });
    if (words.length === 3 && words[0] === 'models') {
      const name = decoded(words[1] ?? '');
      if (name === undefined) return undefined;
      if (words[2] === 'load') return this.#post(path, 'admin', (...of) => this.#load(name, ...of));
      if (words[2] === 'unload') return this.#post(path, 'admin', (...of) => this.#unload(name, ...of));
    }
    return words.length > 1 ? this.#refused(path, UNSERVED.repositories) : undefined;
  }

  /** L3. */
  async #load(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { parameters = {} } = await this.#smallBody(request);
    const served = findModel(this.#system, name, undefined);
    const given = new Map(Object.entries(parameters as object));
    await loadModel(served, await versionToLoad(given, () => modelConfig(served)));
    answer(request, response, 200, '{}');
  }

  /** L3. */
  async #unload(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    await this.#smallBody(request);
    unloadModel(findModel(this.#system, name, undefined));
    answer(request, response, 200, '{}');
  }

  /** There is none, so none is registered, and taking it all back is done. */
  #sharedMemory(path: string, words: readonly string[]): OipRoute | undefined {
    const action = words.at(-1);
    if (words.length !== 1 && !(words.length === 3 && words[0] === 'region')) return undefined;
    if (action === 'status') return this.#tell(path, () => []);
    if (action === 'unregister') return this.#post(path, 'infer', async (...of) => answer(...of, 200, '{}'));
    return action === 'register' ? this.#refused(path, UNSERVED.sharedMemory) : undefined;
  }

  #tell(path: string, what: () => unknown): OipRoute {
    return this.#get(path, 'infer', async (request, response) => {
      answerHeld(this.#budget, request, response, JSON.stringify(await what()));
    });
  }

  #refused(path: string, why: string): OipRoute {
    return this.#post(path, 'infer', async () => {
      throw new Refusal(501, why);
    });
  }

  #get(path: string, scope: Scope, take: Take): OipRoute {
    return this.#route(path, 'GET', scope, take);
  }

  #post(path: string, scope: Scope, take: Take): OipRoute {
    return this.#route(path, 'POST', scope, take);
  }

  #route(path: string, method: Method, scope: Scope, take: Take): OipRoute {
    return { path, method, admits: this.#access[scope], take };
  }

  /** Of a request that may have none. */
  async #smallBody(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
    const body = await readBody(request, SMALL_BODY_BYTES, this.#budget);
    if (body === undefined) throw new TroupeError('CANCELLED', 'The client has gone');
    if (body instanceof Refusal) throw body;
    this.#budget.give(body.held);
    if (body.bytes.length === 0) return {};
    let value: unknown;
    try {
      value = parseOipJson(body.bytes.toString());
    } catch (cause) {
      throw new TroupeError('PARSE_FAILED', 'the request is not JSON', { cause });
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw invalid('the request must be an object');
    const { parameters } = value as { parameters?: unknown };
    if (parameters !== undefined && (typeof parameters !== 'object' || parameters === null))
      throw invalid('parameters must be an object');
    return value as Record<string, unknown>;
  }

  #refusals(): readonly (readonly [reason: string, count: number])[] {
    const all = [...this.#listeners, ...this.#lanes].flatMap(({ refusals }) => [...refusals]);
    return [...all, ['busy', this.#busyCount()]];
  }

  /** What found no room behind the gates: bytes, and scrapes. */
  #busyCount(): number {
    return this.#budget.refusedCount + this.#scrapes.refusedCount;
  }

  #collect(into: Exposition): void {
    for (const reason of HTTP_REFUSALS) {
      const busyCount = reason === 'busy' ? this.#busyCount() : 0;
      const count = this.#listeners.reduce((total, { refusals }) => total + (refusals.get(reason) ?? 0), busyCount);
      into.add('troupe_refused_requests_total', { listener: 'serve', reason }, count);
    }
    for (const lane of this.#lanes) lane.collect(into);
    this.#meter.collect(into);
  }
}

/** Once, and only to what a model or a version may be called. */
function decoded(word: string): string | undefined {
  try {
    const name = decodeURIComponent(word);
    return isName(name) ? name : undefined;
  } catch {
    return undefined;
  }
}

function errorText(message: string): string {
  return JSON.stringify({ error: message });
}
