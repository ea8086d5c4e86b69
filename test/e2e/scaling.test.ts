import test from 'ava';
import { createSystem, silentLog, type PoolEvents } from 'troupe';
import type slow from './slow-actor.js';

const ACTOR = new URL('slow-actor.js', import.meta.url).href;

for (const isolation of ['thread', 'process'] as const) {
  test(`a pool of ${isolation === 'thread' ? 'threads' : 'processes'} grows under load, goes to 0 without it, and wakes; nothing is lost`, async (t) => {
    t.timeout(240_000);
    await using system = createSystem({ log: silentLog });
    const pool = await system.spawn<typeof slow>('slow', {
      actor: ACTOR,
      isolation,
      options: { ms: 10 },
      replicas: { min: 0, max: 2, targetWaitMs: 15, upAfterMs: 160, downAfterMs: 200, idleAfterMs: 200 },
      batching: { maxSize: 1 },
      timeoutMs: 120_000,
    });
    const scaled: PoolEvents['scaled'][0][] = [];
    pool.on('scaled', (event) => scaled.push(event));
    const until = (replicas: number): Promise<void> =>
      new Promise((resolve) => {
        const hear = (event: PoolEvents['scaled'][0]): void => {
          if (event.replicas !== replicas) return;
          pool.off('scaled', hear);
          resolve();
        };
        pool.on('scaled', hear);
      });
    // As many ask as long as it takes to grow, and a second replica answers some of them.
    let isLoaded = true;
    const grown = until(2);
    let asked = 0;
    const seen = new Set<number>();
    const caller = async (): Promise<number> => {
      let answered = 0;
      while (isLoaded) {
        const n = ++asked;
        const answer = await pool.ask(n);
        t.is(answer.n, n);
        seen.add(answer.pid);
        answered++;
      }
      return answered;
    };
    const callers = Promise.all(Array.from({ length: 8 }, caller));
    await grown;
    while (pool.stats().replicas.filter(({ state }) => state === 'ready').length < 2) await pool.ask(0);
    const asleep = until(0);
    isLoaded = false;
    const answered = (await callers).reduce((total, count) => total + count, 0);
    t.is(answered, asked);
    await asleep;
    t.deepEqual(await pool.health(), { ready: true, asleep: true });
    const outcomes = await pool.askMany([1, 2, 3, 4]);
    t.deepEqual(
      outcomes.map((outcome) => outcome.ok && outcome.value.n),
      [1, 2, 3, 4],
    );
    t.true(scaled.every(({ replicas }) => replicas >= 0 && replicas <= 2));
    const reasons = scaled.map(({ reason }) => reason);
    t.true(reasons.includes('queue-age') || reasons.includes('busy'));
    t.true(reasons.indexOf('idle') < reasons.indexOf('demand'));
    const { held, settled, accepted, errors } = pool.stats();
    t.deepEqual({ held, unsettled: accepted - settled, errors }, { held: 0, unsettled: 0, errors: {} });
    t.regex(system.metrics(), /troupe_scalings_total\{pool="slow",reason="demand"\} 1/);
    if (isolation === 'process') t.false(seen.has(process.pid));
  });
}
