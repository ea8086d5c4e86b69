import test from 'ava';
import type { PoolEvents } from 'troupe';
import { children } from './family.js';
import { assertSettled, stage, until } from './faulty-pool.js';
import { beginRow, inTenths, quantile } from './row-report.js';
import { sizes } from './sizes.js';

/** Row K3 of the reliability scorecard: every replica of a pool dies at once, as with the device that all of them use. */

const SECRET = 'PAYLOAD-3f9a';
/** Of what is told of one death. */
const REPORT_CHARACTERS_MAX = 4000;

test.serial(
  'K3 all replicas die at once and all come back, no record is lost, and what is told of it is short',
  async (t) => {
    t.timeout(20 * 60_000);
    const row = beginRow(t, 'K3');
    const { system, log, spawn } = stage(t);
    const count = sizes.k3Replicas;
    const pool = await spawn('k3', {
      isolation: 'process',
      replicas: count,
      attempts: 10,
      loadTimeoutMs: 300_000,
      timeoutMs: 300_000,
      restart: { max: 3, backoffMs: 50 },
      batching: { maxSize: 1 },
      mailbox: { capacity: 4 * count },
    });
    t.is(children().length, count);
    const died: PoolEvents['died'][0][] = [];
    const readyMs: number[] = [];
    const orders = Array.from({ length: 3 * count }, (_, id) => ({ id, do: 'slow' as const, ms: 20, note: SECRET }));
    const asked = Promise.all(orders.map((order) => pool.ask(order)));
    await until('every replica has work', () =>
      pool.stats().replicas.every(({ inFlightBatches }) => inFlightBatches > 0),
    );
    const killedAt = performance.now();
    pool.on('died', (event) => died.push(event));
    pool.on('restarted', () => readyMs.push(performance.now() - killedAt));
    for (const { pid } of children()) process.kill(pid, 'SIGKILL');
    const answers = await asked;
    await until('all are back', () => readyMs.length === count, 300_000);
    t.deepEqual(
      answers.map(({ id }) => id),
      orders.map(({ id }) => id),
    );
    t.is(died.length, count);
    t.is(children().length, count);
    assertSettled(t, pool);
    t.is(pool.stats().state, 'running');
    const told = log.map((entry) => JSON.stringify(entry));
    const longest = Math.max(...told.map((line) => line.length));
    t.true(longest < REPORT_CHARACTERS_MAX, `${longest} characters`);
    t.false(
      told.some((line) => line.includes(SECRET)),
      'no record stands in the log',
    );
    t.false(system.metrics().includes(SECRET));
    row({
      faults: died.length,
      runs: answers.length,
      lost: orders.length - answers.length,
      dup: 0,
      reorder: 0,
      p99RecoveryMs: inTenths(quantile(readyMs, 0.99)),
      more: { firstMs: inTenths(Math.min(...readyMs)), lines: told.length },
    });
  },
);
