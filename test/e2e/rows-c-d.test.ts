import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { stream } from '../../src/stream/pipeline.js';
import { forEach } from '../../src/stream/sinks/for-each.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import { deferred } from '../../src/kernel/deferred.js';
import type { Answer, Order } from '../fixtures/actors/faulty.js';
import { assertSettled, directory, errorOf, linesOf, stage } from './faulty-pool.js';
import { beginRow } from './row-report.js';
import { sizes } from './sizes.js';

/** Rows C3, C4, C6, D3 and D4 of the reliability scorecard on real threads and processes. */

/** D3 asks for this many at once, so that its own memory stays small at full size. */
const D3_CHUNK = 10_000;

for (const isolation of ['thread', 'process'] as const) {
  test.serial(`C3 a sink that stops holds the source back, and a ${isolation} pool within its capacity`, async (t) => {
    t.timeout(60_000);
    const { spawn } = stage(t);
    const capacity = 64;
    const mailbox = { capacity, overflow: 'wait' } as const;
    const pool = await spawn('faulty', { isolation, mailbox, batching: { maxSize: 8 } });
    const total = 4000;
    const stopAt = 500;
    let pulled = 0;
    let highest = 0;
    function* source(): Generator<Order> {
      for (let id = 0; id < total; id++) {
        pulled++;
        highest = Math.max(highest, pool.stats().mailbox.held);
        yield { id };
      }
    }
    const opened = deferred<void>();
    const stalled = deferred<void>();
    let written = 0;
    const seen: number[] = [];
    const run = stream(fromIterable(source()))
      .infer(pool, { capacity: 128 })
      .to(
        forEach(async (answer: Answer) => {
          seen.push(answer.id);
          if (++written !== stopAt) return;
          stalled.resolve();
          await opened.promise;
        }),
      );
    await stalled.promise;
    // Nothing may move any more once every place is full: two looks apart must see the same.
    let before = -1;
    while (before !== pulled) {
      before = pulled;
      await pool.ask({ id: -1, do: 'slow', ms: 100 });
    }
    t.log(`${pulled} records pulled while ${stopAt} were written`);
    t.true(pulled - stopAt <= 128 + 3 * 128, 'the source was held back');
    opened.resolve();
    const report = await run;
    t.is(report.results, total);
    t.deepEqual(
      seen,
      Array.from({ length: total }, (_, id) => id),
      'nothing lost, nothing doubled, in order',
    );
    t.true(highest <= capacity, `${highest} held of ${capacity}`);
    assertSettled(t, pool);
  });
}

test.serial('C4 a hundred records of 20 MB pass through a mailbox of 64 MB within its bytes', async (t) => {
  t.timeout(110_000);
  const file = fileURLToPath(new URL('./huge-records.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', file]);
  const { answers, refused, highestBytes, baseBytes, peakBytes } = JSON.parse(stdout) as Record<string, number>;
  const grown = ((peakBytes as number) - (baseBytes as number)) / 1e6;
  t.log(
    `${refused} refused; mailbox held up to ${(highestBytes as number) / 1e6} MB; memory grew by ${grown.toFixed(0)} MB`,
  );
  t.is(answers, 100);
  t.true((refused as number) > 0, 'the bytes were the limit');
  t.true((highestBytes as number) <= 64e6);
  // Mailbox; caller's next record; one batch in flight: the caller's, the packed copy, the one in the actor.
  t.true(grown < 1.15 * (64 + 4 * 20) + 32, `${grown} MB`);
});

for (const isolation of ['thread', 'process'] as const) {
  test.serial(
    `C6 a deadline that passes in the queue, in the batch or with the reply settles once (${isolation})`,
    async (t) => {
      t.timeout(60_000);
      const { spawn } = stage(t);
      const journal = join(directory(t), 'journal');
      const pool = await spawn('faulty', { isolation, batching: { maxSize: 1 }, options: { journal } });
      const busy = pool.ask({ id: 1, do: 'slow', ms: 400 });
      const queued = await errorOf(t, pool.ask({ id: 2 }, { timeoutMs: 100 }));
      t.is(queued.code, 'DEADLINE_PASSED');
      t.is(queued.ran, 'not-started');
      t.is((await busy).id, 1);

      const inBatch = await errorOf(t, pool.ask({ id: 3, do: 'slow', ms: 300 }, { timeoutMs: 100 }));
      t.is(inBatch.ran, 'interrupted');

      // The reply waits in the channel while we are busy, and the deadline passes meanwhile: either is right, once.
      t.is((await pool.ask({ id: 4 })).id, 4);
      const outcomes: string[] = [];
      const late = pool.ask({ id: 5, do: 'slow', ms: 20 }, { timeoutMs: 100 }).then(
        () => outcomes.push('ok'),
        (error: { code: string }) => outcomes.push(error.code),
      );
      await new Promise((resolve) => setImmediate(resolve));
      const endAt = performance.now() + 200;
      while (performance.now() < endAt);
      await late;
      t.log(`reply and deadline together: ${outcomes.join()}`);
      t.is(outcomes.length, 1);
      t.true(outcomes[0] === 'ok' || outcomes[0] === 'DEADLINE_PASSED');

      t.is((await pool.ask({ id: 6 })).id, 6, 'the slots are free');
      t.false(linesOf(journal).includes('run 2'), 'expired in the queue, so it never ran');
      t.is(pool.stats().deaths.hang, 0);
      assertSettled(t, pool);
    },
  );

  test.serial(
    `D3 a ${isolation} that returns a wrong number of results is found out, and nothing is misaligned`,
    async (t) => {
      t.timeout(60_000 + sizes.d3Records);
      const { spawn } = stage(t);
      const report = beginRow(t, `D3 ${isolation}`);
      const pool = await spawn('faulty', { isolation, batching: { maxSize: 16 } });
      for (const lie of ['short', 'long', 'no-array'] as const) {
        const error = await errorOf(t, pool.ask({ id: 1, do: lie }));
        t.is(error.code, 'PROTOCOL_VIOLATION', lie);
      }
      const total = sizes.d3Records;
      const lies = ['short', 'long', 'no-array'] as const;
      let answered = 0;
      let violations = 0;
      let misaligned = 0;
      for (let from = 0; from < total; from += D3_CHUNK) {
        const orders: Order[] = Array.from({ length: Math.min(D3_CHUNK, total - from) }, (_, at) => {
          const id = from + at;
          return id % 97 === 0 ? { id, do: lies[id % 3] as (typeof lies)[number] } : { id };
        });
        const outcomes = await pool.askMany(orders);
        answered += outcomes.length;
        for (const [at, outcome] of outcomes.entries()) {
          if (outcome.ok) misaligned += outcome.value.id === from + at ? 0 : 1;
          else if (outcome.error.code === 'PROTOCOL_VIOLATION') violations++;
          else t.fail(`record ${from + at}: ${outcome.error.message}`);
        }
      }
      report({
        faults: Math.ceil(total / 97),
        runs: total,
        lost: total - answered,
        dup: 0,
        reorder: misaligned,
        more: { failedWithTheirBatch: violations },
      });
      t.log(`${violations} of ${total} records failed with their batch`);
      t.is(misaligned, 0);
      t.true(violations >= Math.ceil(total / 97) && violations <= 16 * Math.ceil(total / 97));
      t.is((await pool.ask({ id: 7 })).id, 7);
      assertSettled(t, pool);
    },
  );
}

/** The running Node, and those that lie in the cache of the checkout. */
function nodeBinaries(): string[] {
  const cache = fileURLToPath(new URL('../../../node_modules/.cache', import.meta.url));
  const found = existsSync(cache)
    ? readdirSync(cache)
        .map((name) => join(cache, name, 'bin', 'node'))
        .filter((path) => existsSync(path))
    : [];
  return [process.execPath, ...found];
}

test.serial('D4 a record that is sent again after its replica died arrives whole', async (t) => {
  t.timeout(60_000);
  const file = fileURLToPath(new URL('./sent-again.js', import.meta.url));
  for (const node of nodeBinaries()) {
    for (const isolation of ['thread', 'process']) {
      const { stdout } = await promisify(execFile)(node, [file, isolation, join(directory(t), 'died')]);
      const { version, sums, expected, kept, restarts } = JSON.parse(stdout) as Record<string, unknown>;
      t.log(`${isolation} on ${String(version)}`);
      t.deepEqual(sums, expected, 'each attempt saw every value');
      t.true(kept, 'the inputs are still the whole arrays of the caller');
      t.is(restarts, 1);
    }
  }
});
