import test from 'ava';
import { createSystem } from '../../src/actor/system.js';
import { stream } from '../../src/stream/pipeline.js';
import { toArray } from '../../src/stream/sinks/array.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import type { DeadLetter } from '../../src/stream/envelope.js';
import { silentLog } from '../../src/telemetry/log.js';

const actor = new URL('./stream-actor.js', import.meta.url).href;
const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

test('pipelines share a pool, keep their order, and each bad record costs itself only', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<number, number>('double', {
    actor,
    isolation: 'thread',
    replicas: 2,
    batching: { maxSize: 16 },
    mailbox: { capacity: 64 },
    restart: { backoffMs: 1, max: 20 },
  });
  const dead = toArray<DeadLetter>();
  const ordered = toArray<number>();
  const unordered = toArray<number>();
  const [first, second] = await Promise.all([
    stream(fromIterable(numbers(500)))
      .infer(pool, { capacity: 100, deadLetters: dead })
      .to(ordered),
    stream(fromIterable(numbers(500)))
      .filter((n) => n !== 13 && n !== 17)
      .infer(pool, { capacity: 100, order: 'unordered' })
      .to(unordered),
  ]);
  const good = numbers(500)
    .filter((n) => n !== 13 && n !== 17)
    .map((n) => n * 2);
  t.deepEqual(ordered.values, good);
  t.deepEqual(
    unordered.values.toSorted((a, b) => a - b),
    good,
  );
  t.like(first, { records: 500, results: 498, deadLetters: 2, failed: 0 });
  t.like(second, { records: 498, results: 498, filtered: 2, failed: 0 });
  const letters = dead.values.map(({ input, error, actor: name }) => ({
    input,
    code: error.code,
    ran: error.ran,
    name,
  }));
  t.deepEqual(letters, [
    { input: 13, code: 'PREDICT_FAILED', ran: 'failed', name: 'double' },
    { input: 17, code: 'ACTOR_CRASHED', ran: 'interrupted', name: 'double' },
  ]);
});
test('a sink that stops for a while stops pool and source, bounded, and nothing is lost', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<number, number>('slow-sink', {
    actor,
    isolation: 'thread',
    mailbox: { capacity: 32 },
    batching: { maxSize: 8 },
  });
  let pulled = 0;
  function* source(): Generator<number> {
    while (pulled < 2000) {
      pulled += 1;
      yield 100 + pulled;
    }
  }
  const values: number[] = [];
  let mostHeld = 0;
  let mostWaiting = 0;
  const report = await stream(fromIterable(source()), { chunkSize: 16 })
    .infer(pool, { capacity: 64 })
    .to({
      name: 'pausing',
      async write(chunk) {
        // The pool goes on to answer until nothing moves any more: pulled is then as far as it can get.
        if (values.length % 480 === 0) for (let turn = 0; turn < 200; turn += 1) await new Promise(setImmediate);
        mostHeld = Math.max(mostHeld, pulled - values.length);
        mostWaiting = Math.max(mostWaiting, pool.stats().mailbox.held);
        for (const value of chunk as number[]) values.push(value);
      },
      close: () => undefined,
    });
  t.like(report, { records: 2000, results: 2000 });
  t.deepEqual(
    values,
    numbers(2000).map((n) => (101 + n) * 2),
  );
  t.true(mostHeld <= 64 + 16, `${mostHeld} held`);
  t.true(mostWaiting <= 32, `${mostWaiting} waiting`);
});

test('a signal ends a run in the middle and leaves the pool empty and fit for others', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<number, number>('cancelled', { actor, isolation: 'thread' });
  const stop = new AbortController();
  let written = 0;
  function* forever(): Generator<number> {
    for (;;) yield 1;
  }
  const report = await stream(fromIterable(forever()))
    .infer(pool)
    .to(
      {
        name: 'stopping',
        write: (chunk) => {
          written += chunk.length;
          if (written > 1000) stop.abort();
        },
        close: () => undefined,
      },
      { signal: stop.signal },
    );
  t.true(report.cancelled);
  t.is(report.results, written);
  t.is(report.records, report.results + report.failed);
  t.is(await pool.ask(21), 42);
  t.is(pool.stats().held, 0);
});
