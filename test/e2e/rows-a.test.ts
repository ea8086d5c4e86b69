import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { Isolation } from '../../src/wire/definition.js';
import type { Deed } from '../fixtures/actors/faulty.js';
import {
  assertSettled,
  directory,
  errorOf,
  type FaultyPool,
  isRunning,
  linesOf,
  next,
  stage,
  timed,
  until,
} from './faulty-pool.js';
import { beginRow, inTenths, keepsBound, quantile } from './row-report.js';

/**
 * Rows A1 and A3 to A8 of the reliability scorecard on real threads and processes: crash, hang, restart, stop. Serial, since
 * they measure times. A bound on speed is held by a median or by the best of some tries, which a busy machine cannot spoil;
 * every single try has its slack. A2 and A9 have files of their own.
 */
const SLACK_MS = 1000;

for (const isolation of ['inline', 'thread', 'process'] as const) {
  test.serial(
    `A1 a record that throws, rejects or is an Error fails alone, with its cause, in a ${isolation}`,
    async (t) => {
      const { spawn, log } = stage(t);
      const pool = await spawn('faulty', { isolation, batching: { maxSize: 8 } });
      for (const deed of ['throw', 'reject', 'error'] as const) {
        log.length = 0;
        const before = pool.stats().batches;
        const outcomes = await pool.askMany(
          Array.from({ length: 8 }, (_, id) => (id === 5 ? { id, do: deed } : { id })),
        );
        for (const [id, outcome] of outcomes.entries()) {
          if (id !== 5) {
            t.true(outcome.ok, `${deed}: record ${id}`);
            t.is(outcome.ok ? outcome.value.id : -1, id);
            continue;
          }
          if (outcome.ok) {
            t.fail(`${deed}: record 5 has an answer`);
            continue;
          }
          const { code, ran, recordIds, cause, message } = outcome.error;
          t.is(code, 'PREDICT_FAILED');
          t.is(ran, 'failed');
          t.is(recordIds?.length, 1, 'the error names the one record');
          t.regex(message, /record 5/);
          t.true(cause instanceof Error);
          t.is((cause as { code?: unknown }).code, 'E_TOLD', 'the cause keeps its fields');
        }
        t.true(pool.stats().batches - before <= 1 + 2 * Math.ceil(Math.log2(8)), 'halving costs few extra batches');
        await pool.askMany([{ id: 9 }]);
      }
      t.true(log.length <= 1, 'failures within a second share a line');
      t.is(pool.stats().deaths.crash, 0, 'no replica died of it');
      assertSettled(t, pool);
    },
  );
}

test.serial('A1 a failed record is told within 20 ms: p99 of 100, in the best of some tries', async (t) => {
  const { spawn } = stage(t);
  const report = beginRow(t, 'A1');
  const pool = await spawn('faulty');
  let asked = 0;
  const all: number[] = [];
  await keepsBound(t, 'error p99', { ms: 20, slackMs: SLACK_MS }, async () => {
    const took: number[] = [];
    for (let n = 0; n < 100; n++) {
      const [error, ms] = await timed(() => errorOf(t, pool.ask({ id: ++asked, do: n % 2 === 0 ? 'throw' : 'error' })));
      if (error.code !== 'PREDICT_FAILED') t.fail(error.message);
      took.push(ms);
    }
    all.push(...took);
    return quantile(took, 0.99);
  });
  t.true(Math.max(...all) < SLACK_MS);
  report({
    faults: asked,
    runs: asked,
    lost: asked - all.length,
    dup: 0,
    reorder: 0,
    more: { errorP99Ms: inTenths(quantile(all, 0.99)) },
  });
  assertSettled(t, pool);
});

test.serial('A1 the first failed record of a pool is logged in one line with its code', async (t) => {
  const { spawn, log } = stage(t);
  const pool = await spawn('faulty');
  const [error, ms] = await timed(() => errorOf(t, pool.ask({ id: 1, do: 'throw' })));
  t.log(`error after ${ms.toFixed(1)} ms`);
  t.is(error.code, 'PREDICT_FAILED');
  t.is(log.length, 1);
  t.like(log[0], { level: 'warn', pool: 'faulty', code: 'PREDICT_FAILED' });
  t.regex(log[0]?.message ?? '', /record 1 throws/);
});

for (const isolation of ['thread', 'process'] as const) {
  test.serial(`A1 a late rejection ends only its own ${isolation}, is logged, and the pool goes on`, async (t) => {
    const { spawn, log } = stage(t);
    const pool = await spawn('faulty', { isolation });
    const sibling = await spawn('sibling', { isolation });
    const siblingPid = (await sibling.call('pid')) as number;
    const died = next(pool, 'died');
    t.is((await pool.ask({ id: 1, do: 'reject-late' })).id, 1, 'its answer counts: it came first');
    const { death } = await died;
    t.is(death.cause, 'crash');
    t.regex(String((death.error as Error).message), /rejects late/);
    t.is((await pool.ask({ id: 2 })).before, 0, 'a new replica answers');
    t.is(await sibling.call('pid'), siblingPid);
    t.is(log.filter(({ message }) => message.includes('rejects late')).length, 1);
    assertSettled(t, pool);
  });
}

/** Records in, and how many of them have no outcome or more than one. */
function outcomesOf(pool: FaultyPool): { runs: number; lost: number; dup: number; reorder: number } {
  const { accepted, settled } = pool.stats();
  return { runs: accepted, lost: Math.max(0, accepted - settled), dup: Math.max(0, settled - accepted), reorder: 0 };
}

const ENDS: readonly (readonly [string, { do: Deed; code?: number; signal?: NodeJS.Signals }, RegExp])[] = [
  ['exit with code 0', { do: 'exit', code: 0 }, /code 0/],
  ['exit with code 3', { do: 'exit', code: 3 }, /code 3/],
  ['abort', { do: 'abort' }, /SIGABRT/],
  ['SIGSEGV', { do: 'signal', signal: 'SIGSEGV' }, /SIGSEGV/],
  ['SIGBUS', { do: 'signal', signal: 'SIGBUS' }, /SIGBUS/],
];

test.serial(
  'A3 every unexpected end of a process is a crash, told within 50 ms (best of some tries), and touches no sibling',
  async (t) => {
    t.timeout(110_000);
    const { spawn } = stage(t);
    const pool = await spawn('faulty', { isolation: 'process', attempts: 1, restart: { max: 100 } });
    const sibling = await spawn('sibling', { isolation: 'process' });
    const siblingPid = (await sibling.call('pid')) as number;
    const report = beginRow(t, 'A3');
    const detectedMs: number[] = [];
    let ends = 0;
    for (const [name, end, words] of ENDS) {
      const busy = sibling.ask({ id: 1, do: 'slow', ms: 30 });
      const took = await keepsBound(t, name, { ms: 50, slackMs: SLACK_MS }, async () => {
        await pool.ask({ id: 1 });
        ends++;
        const [error, ms] = await timed(() => errorOf(t, pool.ask({ id: 2, ...end })));
        t.is(error.code, 'ACTOR_CRASHED', name);
        t.is(error.ran, 'interrupted');
        t.regex(error.message, words);
        return ms;
      });
      detectedMs.push(...took);
      t.is((await busy).pid, siblingPid);
    }
    report({ faults: ends, ...outcomesOf(pool), more: { detectedSlowestMs: inTenths(Math.max(...detectedMs)) } });
    t.is(pool.stats().deaths.crash, ends);
    t.is(await sibling.call('pid'), siblingPid);
    assertSettled(t, pool);
  },
);

test.serial('A3 a thread that exits with code 0 has crashed too', async (t) => {
  const { spawn } = stage(t);
  const pool = await spawn('faulty', { attempts: 1 });
  const error = await errorOf(t, pool.ask({ id: 1, do: 'exit', code: 0 }));
  t.is(error.code, 'ACTOR_CRASHED');
  t.regex(error.message, /code 0/);
  t.is((await pool.ask({ id: 2 })).id, 2);
});

const HOGS: readonly (readonly [Isolation, Deed])[] = [
  ['thread', 'heap'],
  ['process', 'heap'],
  ['process', 'buffers'],
];

for (const [isolation, hog] of HOGS) {
  test.serial(
    `A4 a ${isolation} whose ${hog} outgrows its limit ends with ACTOR_OOM, and the host lives`,
    async (t) => {
      t.timeout(60_000);
      const { spawn, log } = stage(t);
      const memoryLimitBytes = isolation === 'thread' ? 32 * 2 ** 20 : 160 * 2 ** 20;
      const pool = await spawn('faulty', { isolation, attempts: 1, memoryLimitBytes });
      const rssBefore = process.memoryUsage.rss();
      const [error, ms] = await timed(() => errorOf(t, pool.ask({ id: 1, do: hog })));
      t.log(`${ms.toFixed(0)} ms: ${error.message.slice(0, 200)}`);
      t.is(error.code, 'ACTOR_OOM');
      t.is(pool.stats().deaths.oom, 1, 'counted as what it was');
      t.is((await pool.ask({ id: 2 })).id, 2);
      t.true(log.some(({ message }) => message.includes('out of memory')));
      if (isolation === 'process') t.true(process.memoryUsage.rss() - rssBefore < 64 * 2 ** 20);
    },
  );
}

const HANGS: readonly (readonly [Isolation, Deed])[] = [
  ['thread', 'loop'],
  ['thread', 'wait'],
  ['thread', 'never'],
  ['process', 'loop'],
  ['process', 'never'],
];

for (const [isolation, hang] of HANGS) {
  test.serial(
    `A5 a ${isolation} that hangs (${hang}) costs its callers their deadline and at most 50 ms (best of some tries), and is replaced`,
    async (t) => {
      t.timeout(60_000);
      const { spawn } = stage(t);
      const pool = await spawn('faulty', { isolation, batchTimeoutMs: 600, batching: { maxSize: 1 } });
      const report = beginRow(t, `A5 ${isolation} ${hang}`);
      const replacedAfterMs: number[] = [];
      let hangs = 0;
      const late = await keepsBound(
        t,
        'after the deadline',
        { ms: 50, slackMs: SLACK_MS, attemptsMax: 5 },
        async () => {
          hangs++;
          const restarted = next(pool, 'restarted');
          const [error, ms] = await timed(() => errorOf(t, pool.ask({ id: 1, do: hang }, { timeoutMs: 300 })));
          t.is(error.code, 'DEADLINE_PASSED');
          t.is(error.ran, 'interrupted');
          t.true(ms >= 299, 'not before the deadline');
          const [, replacedMs] = await timed(() => restarted);
          replacedAfterMs.push(replacedMs);
          t.is((await pool.ask({ id: 2 })).id, 2);
          return ms - 300;
        },
      );
      report({
        faults: hangs,
        ...outcomesOf(pool),
        more: {
          afterDeadlineMs: inTenths(Math.max(...late)),
          replacedLaterMs: inTenths(Math.max(...replacedAfterMs)),
        },
      });
      t.is(pool.stats().deaths.hang, hangs);
      assertSettled(t, pool);
    },
  );
}

test.serial('A5 a process that is stopped by a signal is found by its missing heartbeat and replaced', async (t) => {
  t.timeout(60_000);
  const { spawn } = stage(t);
  const pool = await spawn('faulty', { isolation: 'process', heartbeatMs: 200 });
  const pid = (await pool.call('pid')) as number;
  const restarted = next(pool, 'restarted');
  process.kill(pid, 'SIGSTOP');
  const [answer, ms] = await timed(() => pool.ask({ id: 1 }));
  t.log(`answered by the next replica after ${ms.toFixed(0)} ms`);
  await restarted;
  t.not(answer.pid, pid);
  t.is(pool.stats().deaths.hang, 1);
  await until('the stopped child is gone', () => !isRunning(pid));
});

test.serial('A5 a reply that comes after the deadline is dropped and counted', async (t) => {
  const { spawn } = stage(t);
  const pool = await spawn('faulty', { batching: { maxSize: 1 } });
  const error = await errorOf(t, pool.ask({ id: 1, do: 'slow', ms: 300 }, { timeoutMs: 100 }));
  t.is(error.code, 'DEADLINE_PASSED');
  t.is((await pool.ask({ id: 2 })).id, 2, 'the replica was not given up');
  t.is(pool.stats().lateResults, 1);
  t.is(pool.stats().deaths.hang, 0);
});

test.serial(
  'A6 a crash loop is restarted exactly as often as allowed, then the pool fails and asks fail at once',
  async (t) => {
    t.timeout(60_000);
    const { spawn } = stage(t);
    const pool = await spawn('faulty', { options: { exitAfterMs: 20 }, restart: { max: 3, backoffMs: 10 } });
    const delays: number[] = [];
    pool.on('restarting', ({ delayMs }) => delays.push(delayMs));
    const { error: failure } = await next(pool, 'failed');
    t.is(failure.code, 'NO_REPLICA');
    const { deaths, restarts, state } = pool.stats();
    t.deepEqual({ crash: deaths.crash, restarts, state }, { crash: 4, restarts: 3, state: 'failed' });
    t.is(delays[0], 0, 'the first restart is immediate');
    t.true((delays[1] ?? 0) > 0 && (delays[2] ?? 0) > (delays[1] ?? 0), `backoff grows: ${delays.join(', ')}`);
    const [error, ms] = await timed(() => errorOf(t, pool.ask({ id: 1 })));
    t.is(error.code, 'NO_REPLICA');
    t.true(ms < 200, `asked ${ms} ms`);
  },
);

for (const isolation of ['thread', 'process'] as const) {
  test.serial(
    `A6 a load that throws or hangs in a ${isolation} rejects the spawn and leaves nothing behind`,
    async (t) => {
      const { spawn, system } = stage(t);
      const thrown = await errorOf(t, spawn('faulty', { isolation, options: { load: 'throw' } }));
      t.is(thrown.code, 'ACTOR_LOAD_FAILED');
      t.is((thrown.cause as { code?: unknown }).code, 'E_WEIGHTS');
      for (const load of ['never', 'loop'] as const) {
        const journal = join(directory(t), 'journal');
        const hung = await errorOf(t, spawn('faulty', { isolation, loadTimeoutMs: 1500, options: { load, journal } }));
        t.is(hung.code, 'ACTOR_LOAD_FAILED', load);
        t.regex(hung.message, /1500 ms/);
        if (isolation === 'process') {
          const pid = Number(linesOf(journal)[0]?.split(' ')[2]);
          await until('the child is gone', () => !isRunning(pid));
        }
      }
      t.is(system.get('faulty'), undefined, 'its name is free again');
    },
  );
}

test.serial('A6 a load that fails only when restarted counts as such, in backoff, which costs no CPU', async (t) => {
  t.timeout(60_000);
  const { spawn } = stage(t);
  const journal = join(directory(t), 'journal');
  const pool = await spawn('faulty', {
    attempts: 1,
    options: { load: 'throw-again', journal },
    // A second death in a row without a batch in between doubles it.
    restart: { max: 2, backoffMs: 750, jitter: 0 },
  });
  const backoff = next(pool, 'restarting', ({ delayMs }) => delayMs === 1500);
  const failed = next(pool, 'failed');
  await errorOf(t, pool.ask({ id: 1, do: 'exit' }));
  await backoff;
  const waiting = errorOf(t, pool.ask({ id: 2 }, { timeoutMs: 1000 }));
  // Who spins, spins in all of them; a collection of garbage falls into one.
  const shares: number[] = [];
  for (let n = 0; n < 9; n++) {
    const [wallFrom, cpuFrom] = [performance.now(), process.cpuUsage()];
    await wait(100);
    const { user, system } = process.cpuUsage(cpuFrom);
    shares.push((user + system) / 1000 / (performance.now() - wallFrom));
  }
  t.is((await waiting).code, 'DEADLINE_PASSED', 'who waits keeps the own deadline');
  const share = shares.sort((a, b) => a - b)[4] ?? 1;
  t.log(`CPU in backoff: ${(100 * share).toFixed(1)} %`);
  t.true(share < 0.05);
  await failed;
  t.like(pool.stats().deaths, { crash: 1, init: 2 });
  t.is(linesOf(journal).filter((line) => line.startsWith('load')).length, 3, 'one load per life');
});

const TOGETHER = {
  'one-for-one': ['load b'],
  'rest-for-one': ['unload c', 'load b', 'load c'],
  'one-for-all': ['unload c', 'unload a', 'load a', 'load b', 'load c'],
} as const;

for (const strategy of ['one-for-one', 'rest-for-one', 'one-for-all'] as const) {
  test.serial(`A7 a pool that failed takes its siblings along by ${strategy}, in order`, async (t) => {
    t.timeout(60_000);
    const { system, spawn } = stage(t, { supervision: { strategy, max: 2 } });
    const journal = join(directory(t), 'journal');
    const pools: FaultyPool[] = [];
    for (const name of ['a', 'b', 'c'])
      pools.push(await spawn(name, { attempts: 1, restart: { max: 0 }, options: { journal } }));
    const known = linesOf(journal).length;
    const restarted = new Set<string>();
    const all = new Promise<void>((resolve) => {
      system.on('pool-restarted', ({ name }) => {
        restarted.add(name);
        if (restarted.size === TOGETHER[strategy].filter((line) => line.startsWith('load')).length) resolve();
      });
    });
    await errorOf(t, (pools[1] as FaultyPool).ask({ id: 1, do: 'exit' }));
    await all;
    const lines = linesOf(journal)
      .slice(known)
      .filter((line) => !line.startsWith('run'))
      .map((line) => line.replace(/\/.*/, ''));
    t.deepEqual(lines, TOGETHER[strategy]);
    for (const [index, pool] of pools.entries()) t.is((await pool.ask({ id: index })).id, index, pool.name);
  });

  test.serial(`A7 a replica that died takes its siblings along by ${strategy}`, async (t) => {
    t.timeout(60_000);
    const { spawn } = stage(t);
    const pool = await spawn('faulty', {
      replicas: 3,
      attempts: 1,
      restart: { strategy },
      batching: { maxSize: 1 },
    });
    const expected = { 'one-for-one': 1, 'rest-for-one': 2, 'one-for-all': 3 }[strategy];
    const restarted: number[] = [];
    const all = new Promise<void>((resolve) => {
      pool.on('restarted', ({ replica }) => {
        restarted.push(replica);
        if (restarted.length === expected) resolve();
      });
    });
    // Replica 0 is kept busy, so that replica 1 takes the next record.
    const busy = pool.ask({ id: 0, do: 'slow', ms: 200 });
    const died = next(pool, 'died');
    await errorOf(t, pool.ask({ id: 1, do: 'exit' }));
    t.is((await died).replica, 1);
    await all;
    t.deepEqual(
      restarted.toSorted((a, b) => a - b),
      { 'one-for-one': [1], 'rest-for-one': [1, 2], 'one-for-all': [0, 1, 2] }[strategy],
    );
    t.is((await busy).id, 0, 'what a sibling held is not lost');
    assertSettled(t, pool);
  });
}

test.serial('A7 a temporary replica is never restarted, a transient one only after an abnormal end', async (t) => {
  t.timeout(60_000);
  const { spawn } = stage(t);
  const temporary = await spawn('temporary', { attempts: 1, restart: { type: 'temporary' } });
  const gone = next(temporary, 'failed');
  await errorOf(t, temporary.ask({ id: 1, do: 'exit', code: 3 }));
  await gone;
  t.is(temporary.stats().restarts, 0);
  const transient = await spawn('transient', { attempts: 1, restart: { type: 'transient' } });
  const again = next(transient, 'restarted');
  await errorOf(t, transient.ask({ id: 1, do: 'exit', code: 3 }));
  await again;
  t.is(transient.stats().restarts, 1);
});

test.serial('A8 a child that ignores every request to stop is killed within the budget of the ladder', async (t) => {
  t.timeout(60_000);
  for (const unload of ['never', 'loop'] as const) {
    const { spawn, system } = stage(t);
    const pool = await spawn('deaf', {
      isolation: 'process',
      stopTimeoutMs: 300,
      options: { ignoreSigterm: true, unload },
    });
    const pid = (await pool.call('pid')) as number;
    const [, ms] = await timed(() => system.stop());
    t.log(`unload ${unload}: stopped after ${ms.toFixed(0)} ms`);
    t.true(ms >= 550 && ms < 600 + SLACK_MS, `${ms} ms`);
    t.false(isRunning(pid));
  }
});

test.serial('A8 children of a killed parent end within a second, idle, busy or loading', async (t) => {
  t.timeout(60_000);
  const report = beginRow(t, 'A8');
  const journal = join(directory(t), 'journal');
  const parent = fork(fileURLToPath(new URL('./doomed-parent.js', import.meta.url)), [journal], { stdio: 'inherit' });
  await once(parent, 'message');
  const pids = (): number[] =>
    linesOf(journal)
      .filter((line) => line.startsWith('load'))
      .map((line) => Number(line.split(' ')[2]));
  t.is(pids().length, 3);
  t.true(pids().every(isRunning));
  parent.kill('SIGKILL');
  const ms = await until('no child runs', () => !pids().some(isRunning));
  const orphans = pids().filter(isRunning).length;
  report({ faults: 1, runs: 3, lost: 0, dup: 0, reorder: 0, more: { orphans, orphansGoneMs: inTenths(ms) } });
  t.true(ms < 1000, `${ms} ms`);
});
