import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { createSystem, silentLog } from 'troupe';
import { beginRow, inTenths, quantile } from './row-report.js';
import { isFull, sizes } from './sizes.js';
import type { Weighed } from './weighty-actor.js';

/**
 * A replica of a pool without work is killed; the next answer comes after the time its successor takes to load and less than
 * 250 ms beside. At full size that is held, of the median; where a machine is so busy that a bare child does not come up
 * within 100 ms, as many times more. What a load took is told by the replica itself.
 */
const LOAD_MS = 200;
const BOUND_MS = 250;
const BARE_MS = 100;

test.serial('A2-idle after SIGKILL of an idle replica the next answer takes the load and little more', async (t) => {
  t.timeout(20 * 60_000);
  const row = beginRow(t, 'A2-idle');
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<number, Weighed>('idle', {
    actor: new URL('./weighty-actor.js', import.meta.url).href,
    isolation: 'process',
    options: { loadMs: LOAD_MS },
    attempts: 5,
    restart: { max: 3 * sizes.idleKills },
  });
  const besideMs: number[] = [];
  const bareMs: number[] = [];
  let alive = await pool.ask(0);
  for (let round = 1; round <= sizes.idleKills; round++) {
    const killedAt = performance.now();
    process.kill(alive.pid, 'SIGKILL');
    const next = await pool.ask(round, { timeoutMs: 120_000 });
    besideMs.push(performance.now() - killedAt - next.loadMs);
    t.not(next.pid, alive.pid);
    t.true(next.loadMs >= LOAD_MS - 2);
    alive = next;
    bareMs.push(await bareStart());
  }
  const { deaths, restarts, results } = pool.stats();
  t.is(deaths.crash, sizes.idleKills);
  t.is(restarts, sizes.idleKills);
  t.is(results, sizes.idleKills + 1);
  const median = quantile(besideMs, 0.5);
  const bare = quantile(bareMs, 0.5);
  row({
    faults: sizes.idleKills,
    runs: results,
    lost: 0,
    dup: 0,
    reorder: 0,
    p99RecoveryMs: inTenths(quantile(besideMs, 0.99)),
    more: {
      leastMs: inTenths(Math.min(...besideMs)),
      medianMs: inTenths(median),
      bareStartMedianMs: inTenths(bare),
    },
  });
  if (isFull)
    t.true(median < BOUND_MS * Math.max(1, bare / BARE_MS), `${median} ms beside the load; bare child ${bare} ms`);
});

async function bareStart(): Promise<number> {
  const from = performance.now();
  const child = fork(fileURLToPath(new URL('./bare-child.js', import.meta.url)));
  const exited = once(child, 'exit');
  await once(child, 'message');
  const ms = performance.now() - from;
  await exited;
  return ms;
}
