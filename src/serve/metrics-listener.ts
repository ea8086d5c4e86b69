import type { System } from '../actor/system.js';
import { TroupeError } from '../kernel/errors.js';
import {
  answer,
  answerError,
  checkListen,
  HTTP_REFUSALS,
  HttpListener,
  type IncomingMessage,
  type ListenAddress,
  type ListenOptions,
  type Route,
  type ServerResponse,
} from '../stream/http-listener.js';
import { checkKeys } from '../stream/options.js';
import type { Exposition } from '../telemetry/exposition.js';
import { Scrapes, SCRAPES_BUSY } from './scrapes.js';

export interface MetricsListenOptions extends Pick<ListenOptions, 'host' | 'token' | 'hosts' | 'onListening'> {
  /** 0 takes a free one; `onListening` tells which. Default 9464. */
  port?: number;
  /** Names of pools that have to be there for the system to be ready, besides those that are, or what tells them. Default none. */
  pools?: readonly string[] | (() => readonly string[]);
}

export interface MetricsListener extends AsyncDisposable {
  readonly address: ListenAddress;
  /** Ends with the system by itself. May be called twice. */
  close(): Promise<void>;
}

/** What the same listener serves besides the metrics. */
export interface BesideMetrics {
  readonly routes: readonly Route[];
  /** Takes a request to one of the routes, and must answer it; throws nothing and rejects never. */
  take(request: IncomingMessage, response: ServerResponse, listener: HttpListener): void;
  /** The listener closes: answers without an end are to end. */
  close(): void;
}

export const METRICS_PORT = 9464;

const PATHS = ['/metrics', '/health/live', '/health/ready'];
const CLOSE_MS = 1000;

/** As `serveMetrics` of the public interface, with what else is to be served. */
export async function listenForMetrics(
  system: System,
  options: MetricsListenOptions,
  beside?: BesideMetrics,
): Promise<MetricsListener> {
  checkKeys('serveMetrics', options, ['port', 'host', 'token', 'hosts', 'pools', 'onListening']);
  const { pools = [], ...rest } = options;
  const listen = { port: METRICS_PORT, ...rest };
  checkListen('serveMetrics', listen);
  const scrapes = new Scrapes(system);
  const others = new Set(beside?.routes.map(({ path }) => path));
  const handler = (request: IncomingMessage, response: ServerResponse): void => {
    if (others.has(request.url?.split('?')[0] ?? '')) {
      beside?.take(request, response, listener);
      return;
    }
    const expected = typeof pools === 'function' ? pools() : pools;
    void handle({ system, scrapes, listener, expected }, request, response).catch((cause: unknown) => {
      const words = cause instanceof Error ? cause.message : String(cause);
      answerError(request, response, 500, words, 'INTERNAL');
    });
  };
  const routes: Route[] = PATHS.map((path) => ({ path, method: 'GET' }));
  const listener = new HttpListener(listen, [...routes, ...(beside?.routes ?? [])], handler);
  let address: ListenAddress;
  try {
    address = await listener.open();
  } catch (cause) {
    const { host = '127.0.0.1', port } = listen;
    const words = cause instanceof Error ? cause.message : String(cause);
    throw new TroupeError('LISTEN_FAILED', `Cannot serve metrics at ${host} port ${port}: ${words}`, { cause });
  }
  const stopCounting = system.registry.add({
    collect: (into) => collectRefusals(into, listener),
    refusals: () => ['metrics', listener.refusals],
  });
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    beside?.close();
    closing ??= listener.close(CLOSE_MS).finally(stopCounting);
    forget();
    return closing;
  };
  const forget = system.atEnd(close);
  return { address, close, [Symbol.asyncDispose]: close };
}

interface Asked {
  readonly system: System;
  readonly scrapes: Scrapes;
  readonly listener: HttpListener;
  readonly expected: readonly string[];
}

async function handle(
  { system, scrapes, listener, expected }: Asked,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  switch (request.url?.split('?')[0]) {
    case '/metrics':
      if (!scrapes.answer(request, response)) listener.refuse(request, response, 'busy', SCRAPES_BUSY);
      return;
    case '/health/live':
      answer(request, response, 200, '{"live":true}');
      return;
    default: {
      const { ready, pools } = await system.health();
      const missing = expected.filter((name) => pools[name] === undefined);
      const health = {
        ready: ready && missing.length === 0,
        pools: {
          ...pools,
          ...Object.fromEntries(missing.map((name) => [name, { ready: false, why: 'it is not there' }])),
        },
      };
      answer(request, response, health.ready ? 200 : 503, JSON.stringify(health));
    }
  }
}

function collectRefusals(into: Exposition, { refusals }: HttpListener): void {
  for (const reason of HTTP_REFUSALS) {
    into.add('troupe_refused_requests_total', { listener: 'metrics', reason }, refusals.get(reason) ?? 0);
  }
}
