/**
 * The page that a system serves beside its metrics: its files, what it is told, and what it may ask for.
 *
 * G1 the files hold nothing of the system and are for everybody who reaches the port. G2 what the system is told is for
 * those with a token, where the metrics have one, and for the page's own code alone: a request must carry its mark. G3
 * nothing changes the system but a POST with the token of the control socket.
 */
import { type ControlParts, controlParts, type System } from '../control/system.js';
import { systemClock } from '../kernel/clock.js';
import type { BesideMetrics } from '../serve/metrics-listener.js';
import {
  answer,
  type HttpListener,
  type IncomingMessage,
  type Route,
  type ServerResponse,
  tokenCheck,
} from '../stream/http-listener.js';
import { type Asset, pageAssets, SECURITY_HEADERS } from './assets.js';
import { answerFault, PageCalls } from './calls.js';
import { Feed } from './feed.js';
import { pageEvent, pageState } from './snapshot.js';
import { MARK, PATHS } from './state.js';

type Admits = (bearer: string | undefined) => boolean;

/** Wrong tokens are told at most this often. */
const TOLD_EVERY_MS = 1000;

export class Page implements BesideMetrics {
  readonly routes: readonly Route[];
  readonly #system: System;
  readonly #assets: ReadonlyMap<string, Asset>;
  readonly #feed: Feed;
  readonly #calls: PageCalls;
  #wrongCount = 0;
  #toldAt = -Infinity;

  /** `token`: that of the metrics, where they have one. */
  constructor(system: System, token: string | undefined) {
    this.#system = system;
    const { operations } = this.#control;
    const { events } = operations;
    this.#assets = new Map(pageAssets().map((asset) => [asset.path, asset]));
    this.#calls = new PageCalls(operations);
    this.#feed = new Feed({
      state: () => pageState(system, this.#control, systemClock.wallNow()),
      past: (count) => events.last(count).map(pageEvent),
      listen: (hear) => events.listen((event) => hear(pageEvent(event))),
    });
    const isReader = token === undefined ? undefined : tokenCheck(token);
    const reads: Admits = (bearer) => isReader === undefined || isReader(bearer) || this.#isControl(bearer);
    const changes: Admits = (bearer) => this.#isControl(bearer) || this.#wrong(bearer);
    const page = { mark: MARK };
    this.routes = [
      ...[...this.#assets.keys()].map((path) => ({ path, method: 'GET', admits: () => true, page: {} }) as const),
      { path: PATHS.feed, method: 'GET', admits: reads, page },
      { path: PATHS.versions, method: 'GET', admits: reads, page },
      { path: PATHS.unlock, method: 'POST', admits: changes, page },
      { path: PATHS.call, method: 'POST', admits: changes, page },
    ];
  }

  take(request: IncomingMessage, response: ServerResponse, listener: HttpListener): void {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://page');
    switch (pathname) {
      case PATHS.feed:
        this.#feed.join(request, response, listener);
        return;
      case PATHS.versions:
        void this.#versions(searchParams.get('pool'), request, response);
        return;
      case PATHS.unlock:
        answer(request, response, 200, '{"unlocked":true}');
        return;
      case PATHS.call:
        this.#calls.take(request, response, listener).catch((error: unknown) => answerFault(request, response, error));
        return;
      default:
        this.#send(this.#assets.get(pathname), request, response);
    }
  }

  close(): void {
    this.#feed.close();
  }

  get #control(): ControlParts {
    return controlParts(this.#system);
  }

  /** G3. */
  #isControl(bearer: string | undefined): boolean {
    return bearer !== undefined && (this.#control.server?.isToken(bearer) ?? false);
  }

  /** False; who tries tokens is told of. */
  #wrong(bearer: string | undefined): false {
    if (bearer === undefined) return false;
    this.#wrongCount += 1;
    const now = systemClock.now();
    if (now - this.#toldAt < TOLD_EVERY_MS) return false;
    this.#toldAt = now;
    const { operations } = this.#control;
    const message = `the page refused a request: its token is wrong; ${this.#wrongCount} such so far`;
    operations.events.add('refused', message);
    operations.log({ level: 'warn', message });
    return false;
  }

  async #versions(pool: string | null, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { operations } = this.#control;
    const { signal } = new AbortController();
    try {
      const value = await operations.run('versions', { pool }, { who: 'the page', access: 'read', signal });
      answer(request, response, 200, JSON.stringify({ value }));
    } catch (error) {
      answerFault(request, response, error);
    }
  }

  #send(asset: Asset | undefined, request: IncomingMessage, response: ServerResponse): void {
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
    answer(request, response, asset === undefined ? 404 : 200, asset?.text ?? '', asset?.type ?? 'text/plain');
  }
}
