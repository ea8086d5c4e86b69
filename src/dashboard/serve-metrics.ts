import type { System } from '../control/system.js';
import {
  listenForMetrics,
  type MetricsListener,
  type MetricsListenOptions as ListenOptions,
} from '../serve/metrics-listener.js';
import { isLoopback } from '../stream/http-listener.js';
import { checkFlag } from '../stream/options.js';
import { Page } from './page.js';

export interface MetricsListenOptions extends ListenOptions {
  /**
   * Serves a page at `/` too, to watch the system and, with the token of its control socket, to swap its models. Needs a
   * loopback `host`. Default false.
   */
  page?: boolean;
}

/**
 * Serves `/metrics` (for Prometheus), `/health/live` (200 while the process answers) and `/health/ready` (200 or 503, see
 * `system.health()`), with GET and nothing else; with `page`, docs/dashboard.md, a page for people too. Stops with the
 * system. Throws a TypeError for wrong options (anything but loopback needs a token, and has no page); rejects with
 * LISTEN_FAILED when the port cannot be had.
 */
export async function serveMetrics(system: System, options: MetricsListenOptions = {}): Promise<MetricsListener> {
  const { page = false, ...rest } = options;
  checkFlag('page', page);
  if (!page) return listenForMetrics(system, rest);
  const { host = '127.0.0.1', token } = rest;
  if (typeof host !== 'string' || !isLoopback(host)) {
    throw new TypeError(
      `serveMetrics: page is served at a loopback host only, such as 127.0.0.1, got host ${JSON.stringify(host)}; ` +
        'for others put a proxy with TLS and a login before it',
    );
  }
  return listenForMetrics(system, rest, new Page(system, token));
}
