import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { seededRandom } from '../../src/kernel/random.js';
import { stream } from '../../src/stream/pipeline.js';
import { forEach } from '../../src/stream/sinks/for-each.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import type { Answer, Order } from '../fixtures/actors/faulty.js';
import { assertSettled, stage, timed } from './faulty-pool.js';
import { beginRow, inTenths, quantile } from './row-report.js';
import { seed, sizes } from './sizes.js';

/** Row A2 of the reliability scorecard: SIGKILL at random times, under callers and an ordered stream. */

test.serial(
  'A2 kill -9 under load loses, doubles and reorders nothing; the next replica answers within 500 ms (best quarter; at full size p99, or three times the start of a bare child on a busy machine)',
  async (t) => {
    const { a2, a2CallerPauseMs, isQuiet } = sizes;
    t.timeout(a2.seconds * 1000 + 80_000);
    const { spawn } = stage(t);
    const random = seededRandom(seed);
    const pool = await spawn('faulty', {
      isolation: 'process',
      attempts: 50,
      restart: { max: 1000 },
      timeoutMs: 60_000,
    });
    // What the first seconds allocate is not growth.
    await pool.askMany(Array.from({ length: 20_000 }, (_, id) => ({ id })));
    const report = beginRow(t, 'A2');
    const runUntil = performance.now() + a2.seconds * 1000;
    const isOn = (): boolean => performance.now() < runUntil;
    const pause = (): Promise<unknown> => new Promise((resolve) => setTimeout(resolve, a2CallerPauseMs));
    const before = pool.stats();
    let pid = (await pool.call('pid')) as number;
    let recovered = (): void => undefined;
    const heard = (answer: Answer): void => {
      if (answer.pid === pid) return;
      pid = answer.pid;
      recovered();
    };

    let asked = 0;
    let answered = 0;
    let mispaired = 0;
    const caller = async (): Promise<void> => {
      while (isOn()) {
        const id = ++asked;
        const answer = await pool.ask(id % 50 === 0 ? { id, do: 'slow', ms: 20 } : { id });
        answered++;
        if (answer.id !== id) mispaired++;
        heard(answer);
        if (a2CallerPauseMs > 0) await pause();
      }
    };
    let pulled = 0;
    async function* numbered(): AsyncGenerator<Order> {
      while (isOn()) {
        yield { id: pulled++ };
        if (a2CallerPauseMs > 0 && pulled % 16 === 0) await pause();
      }
    }
    let written = 0;
    let doubled = 0;
    let reordered = 0;
    let highest = -1;
    const stepped = stream(fromIterable(numbered()))
      .infer(pool, { capacity: 64, order: 'ordered' })
      .to(
        forEach((answer: Answer) => {
          written++;
          if (answer.id === highest) doubled++;
          else if (answer.id < highest) reordered++;
          highest = Math.max(highest, answer.id);
          heard(answer);
        }),
      );

    const load = Promise.all([stepped, ...Array.from({ length: 32 }, caller)]);
    const recoveriesMs: number[] = [];
    const bareStartsMs: number[] = [];
    const [shortest, longest] = a2.betweenMs;
    while (performance.now() < runUntil - longest - 500) {
      const due = performance.now() + shortest + random() * (longest - shortest);
      const again = new Promise<void>((resolve) => {
        recovered = resolve;
      });
      const killedAt = performance.now();
      process.kill(pid, 'SIGKILL');
      await again;
      recoveriesMs.push(performance.now() - killedAt);
      bareStartsMs.push(await bareStart());
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
    }
    await load;

    const after = pool.stats();
    const kills = recoveriesMs.length;
    const p99 = quantile(recoveriesMs, 0.99);
    const median = quantile(recoveriesMs, 0.5);
    const bareP99 = quantile(bareStartsMs, 0.99);
    const bare = isQuiet
      ? { bareStartMedianMs: inTenths(quantile(bareStartsMs, 0.5)), bareStartP99Ms: inTenths(bareP99) }
      : {};
    report({
      faults: kills,
      runs: asked + pulled,
      lost: asked - answered + (pulled - written),
      dup: doubled + (after.results - before.results - asked - pulled),
      reorder: reordered + mispaired,
      p99RecoveryMs: inTenths(p99),
      more: { medianRecoveryMs: inTenths(median), slowestRecoveryMs: inTenths(Math.max(...recoveriesMs)), ...bare },
    });
    t.is(answered, asked);
    t.is(mispaired, 0);
    t.is(written, pulled, 'nothing lost in the stream');
    t.is(highest, pulled - 1);
    t.is(doubled + reordered, 0);
    t.is(after.results - before.results, asked + pulled, 'every record had its one answer');
    t.deepEqual(after.errors, {});
    t.true(kills >= a2.killsMin, `${kills} kills`);
    t.is(after.deaths.crash, kills);
    t.is(after.restarts, kills);
    t.true(Math.max(...recoveriesMs) < 10_000);
    const judged = isQuiet ? p99 : quantile(recoveriesMs, 0.25);
    t.true(judged < Math.max(500, 3 * bareP99), `recovery: ${judged} ms; median ${median} ms, p99 ${p99} ms`);
    assertSettled(t, pool);
  },
);

/** How long a child takes that does nothing, from its fork to its first word. */
async function bareStart(): Promise<number> {
  const [, ms] = await timed(async () =>
    once(fork(fileURLToPath(new URL('./bare-child.js', import.meta.url))), 'message'),
  );
  return ms;
}
