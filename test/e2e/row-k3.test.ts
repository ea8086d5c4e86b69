import test from 'ava';
import type { LogEntry, PoolEvents } from 'troupe';
import { children } from './family.js';
import { assertSettled, stage, until } from './faulty-pool.js';
import { beginRow, inTenths, quantile } from './row-report.js';
import { isFull, sizes } from './sizes.js';

/** Row K3 of the reliability scorecard: every replica of a pool dies at once, as with the device that all of them use. */

const SECRET = 'PAYLOAD-3f9a';
/** Of what is told of one death. */
const REPORT_CHARACTERS_MAX = 4000;

test.serial(
  'K3 all replicas die at once and all come back, some at a time, no record is lost, and what is told of it is short',
  async (t) => {
    t.timeout(20 * 60_000);
    const row = beginRow(t, 'K3');
    const count = sizes.k3Replicas;
    // As many as there are by default, or few enough for a small number of replicas to have to wait.
    const { system, log, spawn } = stage(t, isFull ? {} : { startsAtOnce: 2 });
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
    let mostWaiting = 0;
    const waiting = (): number => pool.stats().replicas.filter(({ isWaiting }) => isWaiting).length;
    pool.on('died', (event) => died.push(event));
    pool.on('restarting', () => (mostWaiting = Math.max(mostWaiting, waiting())));
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
    t.true(mostWaiting > 0, 'some waited for their turn to start');
    t.is(waiting(), 0);
    await until('all ends are told', () => endsToldIn(log) === count);
    const ends = log.filter(isEnd);
    t.true(ends.length <= END_LINES_MAX, ends.map(({ message }) => message).join('\n'));
    t.true(
      ends.some(({ message }) =>
        /^\d+ replicas ended within .* s, and held \d+ records: it was killed from outside by SIGKILL \(\d+\)$/.test(
          message,
        ),
      ),
    );
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
      more: {
        firstMs: inTenths(Math.min(...readyMs)),
        medianMs: inTenths(quantile(readyMs, 0.5)),
        lastMs: inTenths(Math.max(...readyMs)),
        mostWaiting,
        endLines: ends.length,
        lines: told.length,
      },
    });
  },
);

/** One for the first and one for all, twice where the news of the ends takes longer than a moment. */
const END_LINES_MAX = 4;

function isEnd({ message }: LogEntry): boolean {
  return /^(replica ended|\d+ replicas ended)/.test(message);
}

/** How many ends the lines tell of: a line for several counts the one that was told before it too. */
function endsToldIn(log: readonly LogEntry[]): number {
  let count = 0;
  let open = 0;
  for (const { message } of log.filter(isEnd)) {
    const several = /^(\d+) replicas/.exec(message)?.[1];
    if (several === undefined) open++;
    else {
      count += Number(several);
      open--;
    }
  }
  return count + open;
}
