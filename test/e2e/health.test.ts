import { setTimeout as wait } from 'node:timers/promises';
import test from 'ava';
import type { System } from '../../src/actor/system.js';
import { listenForMetrics } from '../../src/serve/metrics-listener.js';
import { listenForInference } from '../../src/serve/oip-listener.js';
import { type FaultyPool, stage } from './faulty-pool.js';
import { beginRow, inTenths, keepsBound, quantile } from './row-report.js';
import { sizes } from './sizes.js';

/**
 * Row F5 of the reliability scorecard: ready is true when a record would be answered, and false when not, at `/health/ready` of
 * the metrics and at `/v2/health/ready` of the server.
 */

const BOUND = { ms: 500, slackMs: 3000, attemptsMax: 5 };
const LOAD_MS = 700;

/** One of the ways to ask, and its status where nothing is ready: of the metrics, and of the server. */
interface Way {
  readonly url: string;
  readonly unready: number;
}

/** Of the system, by the listeners that load balancers ask. */
async function waysTo(system: System): Promise<readonly Way[]> {
  const { address } = await listenForMetrics(system, { port: 0 });
  const bindAt = () => (): Promise<never> => Promise.reject(new Error('it has a port'));
  const { addresses } = await listenForInference(system, { port: 0 }, { version: '1', pools: () => [], bindAt });
  return [
    { url: address.url.replace('/metrics', '/health/ready'), unready: 503 },
    { url: `${addresses[0]?.url}v2/health/ready`, unready: 400 },
  ];
}

/** Milliseconds until all ways say that it is ready, or that it is not. */
async function msUntil(ways: readonly Way[], isReady: boolean): Promise<number> {
  return Math.max(...(await Promise.all(ways.map((way) => msOf(way, isReady)))));
}

async function msOf({ url, unready }: Way, isReady: boolean): Promise<number> {
  const from = performance.now();
  for (;;) {
    const response = await fetch(url);
    await response.text();
    const ms = performance.now() - from;
    if (response.status !== 200 && response.status !== unready) throw new Error(`${url} answers ${response.status}`);
    if ((response.status === 200) === isReady) return ms;
    if (ms > 20_000) throw new Error(`still ${response.status} after ${Math.round(ms)} ms`);
    await wait(5);
  }
}

/** Of all replicas, as those tell that answer a few records. */
async function pidsOf(pool: FaultyPool): Promise<number[]> {
  const pids = new Set<number>();
  const count = pool.stats().replicas.length;
  while (pids.size < count) {
    const orders = Array.from({ length: 2 * count }, (_, id) => ({ id, do: 'spin' as const, ms: 20 }));
    const answers = await Promise.all(orders.map((order) => pool.ask(order)));
    for (const { pid } of answers) pids.add(pid);
  }
  return [...pids];
}

const title = 'ready turns false when every replica was killed and true when one is up again, each within 500 ms';
test.serial(`F5 ${title}`, async (t) => {
  t.timeout(20 * 60_000);
  const row = beginRow(t, 'F5');
  const { system, spawn } = stage(t);
  const ways = await waysTo(system);
  const pool = await spawn('f5', {
    isolation: 'process',
    replicas: 2,
    batching: { maxSize: 1 },
    restart: { max: 10_000, backoffMs: 1 },
    options: { load: 'slow', loadMs: LOAD_MS },
  });
  const downs: number[] = [];
  const ups: number[] = [];
  let killed = 0;
  const killAll = async (): Promise<number> => {
    await msUntil(ways, true);
    while (pool.stats().replicas.some(({ state }) => state !== 'ready')) await wait(5);
    const pids = await pidsOf(pool);
    const restartedAt = new Promise<number>((resolve) => {
      pool.once('restarted', () => resolve(performance.now()));
    });
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    killed += pids.length;
    const downMs = await msUntil(ways, false);
    const from = await restartedAt;
    await msUntil(ways, true);
    const upMs = performance.now() - from;
    downs.push(downMs);
    ups.push(upMs);
    return Math.max(downMs, upMs);
  };
  for (let round = 0; round < sizes.f5Rounds; round++) await keepsBound(t, 'the slower of both ways', BOUND, killAll);
  const more = { downP99Ms: inTenths(quantile(downs, 0.99)), upP99Ms: inTenths(quantile(ups, 0.99)) };
  row({ faults: killed, runs: ups.length, lost: 0, dup: 0, reorder: 0, more });
});

test.serial(
  'a replica that stands still is not ready within 500 ms, though it lives, and is again when it goes on',
  async (t) => {
    const { system, spawn } = stage(t);
    const ways = await waysTo(system);
    const pool = await spawn('still', { isolation: 'process', heartbeatMs: 30_000 });
    await msUntil(ways, true);
    const pid = (await pool.call('pid')) as number;
    await keepsBound(t, 'not ready after SIGSTOP', BOUND, async () => {
      process.kill(pid, 'SIGSTOP');
      const ms = await msUntil(ways, false);
      process.kill(pid, 'SIGCONT');
      await msUntil(ways, true);
      return ms;
    });
    t.is(pool.stats().accepted, 0, 'probes are no work');
    t.is(pool.stats().restarts, 0);
  },
);
