import { setTimeout as wait } from 'node:timers/promises';
import test from 'ava';
import { serveMetrics } from 'troupe';
import { type FaultyPool, stage } from './faulty-pool.js';
import { beginRow, inTenths, keepsBound } from './row-report.js';

/** Row F5 of the reliability scorecard: ready is true when a record would be answered, and false when not. */

const BOUND = { ms: 500, slackMs: 3000, attemptsMax: 5 };
const LOAD_MS = 700;

/** Milliseconds until /health/ready answers with the status. */
async function msUntil(url: string, status: number): Promise<number> {
  const from = performance.now();
  for (;;) {
    const response = await fetch(url);
    await response.text();
    const ms = performance.now() - from;
    if (response.status === status) return ms;
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

test.serial(
  'F5 ready turns false when every replica was killed and true when one is up again, each within 500 ms',
  async (t) => {
    const row = beginRow(t, 'F5');
    const { system, spawn } = stage(t);
    const { address } = await serveMetrics(system, { port: 0 });
    const url = address.url.replace('/metrics', '/health/ready');
    const pool = await spawn('f5', {
      isolation: 'process',
      replicas: 2,
      batching: { maxSize: 1 },
      restart: { max: 1000, backoffMs: 1 },
      options: { load: 'slow', loadMs: LOAD_MS },
    });
    await msUntil(url, 200);
    const downs: number[] = [];
    let killed = 0;
    const ups = await keepsBound(t, 'ready after a replica is up', BOUND, async () => {
      const restarted = new Promise<number>((resolve) => pool.once('restarted', () => resolve(performance.now())));
      const down = await keepsBound(t, 'not ready after the kill', { ...BOUND, attemptsMax: 1 }, async () => {
        for (const pid of await pidsOf(pool)) {
          process.kill(pid, 'SIGKILL');
          killed++;
        }
        return msUntil(url, 503);
      });
      downs.push(...down);
      const upAt = await restarted;
      await msUntil(url, 200);
      const ms = performance.now() - upAt;
      while (pool.stats().replicas.some(({ state }) => state !== 'ready')) await wait(5);
      return ms;
    });
    row({
      faults: killed,
      runs: ups.length,
      lost: 0,
      dup: 0,
      reorder: 0,
      more: { downMs: inTenths(Math.min(...downs)), upMs: inTenths(Math.min(...ups)) },
    });
  },
);

test.serial(
  'a replica that stands still is not ready within 500 ms, though it lives, and is again when it goes on',
  async (t) => {
    const { system, spawn } = stage(t);
    const { address } = await serveMetrics(system, { port: 0 });
    const url = address.url.replace('/metrics', '/health/ready');
    const pool = await spawn('still', { isolation: 'process', heartbeatMs: 30_000 });
    await msUntil(url, 200);
    const pid = (await pool.call('pid')) as number;
    await keepsBound(t, 'not ready after SIGSTOP', BOUND, async () => {
      process.kill(pid, 'SIGSTOP');
      const ms = await msUntil(url, 503);
      process.kill(pid, 'SIGCONT');
      await msUntil(url, 200);
      return ms;
    });
    t.is(pool.stats().accepted, 0, 'probes are no work');
    t.is(pool.stats().restarts, 0);
  },
);
