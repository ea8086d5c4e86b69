import test from 'ava';
import { createSystem, forEach, fromIterable, silentLog, stream } from 'troupe';
import { seededRandom } from '../../src/kernel/random.js';
import { beginRow } from './row-report.js';
import { seed, sizes } from './sizes.js';

/** Row K5 of the reliability scorecard: a pool is resized under load; the config side of it is row H5. */

const actor = new URL('../fixtures/actors/versions.js', import.meta.url).href;
const ASKERS = 16;
const MOST = 4;

for (const isolation of ['thread', 'process'] as const) {
  test.serial(
    `K5 a pool of ${isolation === 'thread' ? 'threads' : 'processes'} resized under load loses, doubles and reorders nothing`,
    async (t) => {
      t.timeout(30 * 60_000);
      const row = beginRow(t, 'K5');
      const random = seededRandom(seed);
      const system = createSystem({ log: silentLog });
      t.teardown(() => system.stop({ timeoutMs: 0 }));
      const pool = await system.spawn<number, string>('k5', {
        actor,
        isolation,
        version: 1,
        replicas: 2,
        batching: { maxSize: 4 },
      });
      let isOver = false;
      t.teardown(() => (isOver = true));
      let asked = 0;
      let answered = 0;
      const asker = async (): Promise<void> => {
        while (!isOver) {
          const n = asked++;
          if ((await pool.ask(n)) === `${n} by 1`) answered++;
        }
      };
      let pulled = 0;
      async function* numbered(): AsyncGenerator<number> {
        while (!isOver) yield pulled++;
      }
      let written = 0;
      let reordered = 0;
      const stepped = stream(fromIterable(numbered()))
        .infer(pool, { capacity: 32, order: 'ordered' })
        .to(
          forEach((answer: string) => {
            if (answer !== `${written} by 1`) reordered++;
            written++;
          }),
        );
      const load = Promise.all([stepped, ...Array.from({ length: ASKERS }, asker)]);
      let resizes = 0;
      for (let replicas = 2; resizes < sizes.k5Resizes[isolation]; resizes++) {
        replicas = 1 + ((replicas + Math.floor(random() * (MOST - 1))) % MOST);
        // Every third time somebody else changes their mind before it is done.
        const first = resizes % 3 === 0 ? pool.scale(1 + (replicas % MOST)) : undefined;
        await pool.scale(replicas);
        await first;
        const ready = pool.stats().replicas.filter(({ state }) => state === 'ready').length;
        t.is(ready, replicas);
      }
      isOver = true;
      await load;
      const { results, restarts, held, errors } = pool.stats();
      const lost = asked - answered + (pulled - written);
      const dup = results - asked - pulled;
      row({ faults: resizes, runs: asked + pulled, lost, dup, reorder: reordered });
      t.deepEqual({ lost, dup, reordered }, { lost: 0, dup: 0, reordered: 0 });
      t.deepEqual({ restarts, held, errors }, { restarts: 0, held: 0, errors: {} });
      t.true(written > 0 && answered > 0);
    },
  );
}
