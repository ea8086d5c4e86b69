import { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
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
import { beginRow } from './row-report.js';

/** Row A9 of the reliability scorecard: replicas that were replaced and are not dead. */

test.serial('A9 a thread that was given up while native code held it has no say any more', async (t) => {
  t.timeout(60_000);
  const { system } = stage(t);
  const pool = (await system.spawn('native', {
    actor: new URL('../fixtures/actors/faulty-native.js', import.meta.url).href,
    isolation: 'thread',
    batchTimeoutMs: 300,
    attempts: 1,
  })) as FaultyPool;
  const restarted = next(pool, 'restarted');
  const error = await errorOf(t, pool.ask({ id: 1, do: 'spin', ms: 1500 }));
  t.is(error.code, 'ACTOR_HUNG');
  await restarted;
  // The old thread still runs, and answers record 1 while these go through the new one.
  for (let id = 2; id < 6; id++) t.is((await pool.ask({ id, do: 'slow', ms: 100 })).id, id);
  const { results, deaths } = pool.stats();
  t.is(results, 4, 'no stale reply was taken for an answer');
  t.is(deaths.hang, 1);
  await until('the old thread has answered', () => pool.stats().staleReplies > 0);
  t.like(pool.stats(), { staleReplies: 1, results: 4 });
  assertSettled(t, pool);
});

test.serial('A9 a process that was stopped, replaced and continued has no say any more', async (t) => {
  t.timeout(60_000);
  const { spawn } = stage(t);
  const pool = await spawn('faulty', { isolation: 'process', heartbeatMs: 200, attempts: 3 });
  const pid = (await pool.call('pid')) as number;
  const held = pool.ask({ id: 1, do: 'slow', ms: 50 });
  process.kill(pid, 'SIGSTOP');
  const died = next(pool, 'died');
  await died;
  try {
    process.kill(pid, 'SIGCONT');
  } catch (error) {
    t.is((error as NodeJS.ErrnoException).code, 'ESRCH', 'it was ended before it could go on');
  }
  t.not((await held).pid, pid);
  const { results, staleReplies } = pool.stats();
  t.log(`${staleReplies} stale replies dropped`);
  t.is(results, 1);
  assertSettled(t, pool);
});

/** The signals by which the host ends this child get lost, as for a child that hangs in the kernel, until it is let go. */
function loseSignals(t: ExecutionContext, pid: number): void {
  const { kill } = ChildProcess.prototype;
  ChildProcess.prototype.kill = function (this: ChildProcess, signal) {
    return this.pid === pid ? true : kill.call(this, signal);
  };
  t.teardown(() => {
    ChildProcess.prototype.kill = kill;
    if (isRunning(pid)) process.kill(pid, 'SIGKILL');
  });
}

test.serial(
  'A9 the reply of a process that goes on after it was replaced arrives, is counted, and is not taken',
  async (t) => {
    t.timeout(60_000);
    const { spawn } = stage(t);
    const report = beginRow(t, 'A9');
    const journal = join(directory(t), 'journal');
    const pool = await spawn('faulty', { isolation: 'process', heartbeatMs: 200, attempts: 3, options: { journal } });
    const pid = (await pool.call('pid')) as number;
    loseSignals(t, pid);
    const held = pool.ask({ id: 1, do: 'slow', ms: 50 });
    await until('it runs', () => linesOf(journal).includes('run 1'));
    process.kill(pid, 'SIGSTOP');
    const [answer, ms] = await timed(() => held);
    t.log(`answered by the next incarnation after ${ms.toFixed(0)} ms`);
    t.not(answer.pid, pid);
    t.like(pool.stats(), { results: 1, staleReplies: 0 });
    t.true(isRunning(pid), 'the old one is there, and stopped');

    process.kill(pid, 'SIGCONT');
    await until('its reply has arrived', () => pool.stats().staleReplies > 0);
    t.is((await pool.ask({ id: 2 })).pid, answer.pid);
    const { results, staleReplies, deaths } = pool.stats();
    t.deepEqual({ results, staleReplies, hang: deaths.hang }, { results: 2, staleReplies: 1, hang: 1 });
    report({ faults: 1, runs: 2, lost: 0, dup: results - 2, reorder: 0, more: { staleReplies } });
    assertSettled(t, pool);
  },
);
