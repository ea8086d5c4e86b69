import test from 'ava';
import { createSystem, defineActor, fromIterable, silentLog, stream } from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import { HandTarget, settleDown } from './hand-target.js';
import { contextOf, drain, inferStage, PushStage } from './stage-rig.js';

/** Open question 5 of the AsyncBatch discussion: when are partial batches sent? Holding them here for a minute would stall. */

const HELD_MS = 60_000;

async function withPool<T>(run: (pool: Awaited<ReturnType<typeof spawn>>, sizes: number[]) => Promise<T>): Promise<T> {
  await using system = createSystem({ log: silentLog });
  const sizes: number[] = [];
  // Awaited here: the system must not stop before the run has ended.
  return await run(await spawn(system, sizes), sizes);
}

function spawn(system: ReturnType<typeof createSystem>, sizes: number[]) {
  const actor = defineActor({
    predict: (batch: readonly number[]) => {
      sizes.push(batch.length);
      return batch.map((n) => n + 1);
    },
  });
  return system.spawn<number, number>('slowly', {
    actor,
    isolation: 'inline',
    batching: { maxSize: 32, maxDelayMs: HELD_MS },
  });
}

test('a source that waits for the result of its last record gets it, though the batch is far from full', async (t) => {
  t.timeout(HELD_MS);
  await withPool(async (pool) => {
    let result = deferred<number>();
    async function* closedLoop(): AsyncGenerator<number> {
      for (let n = 0; n < 100; n = await result.promise) {
        result = deferred();
        yield n;
      }
    }
    let last = 0;
    const report = await stream(fromIterable(closedLoop()))
      .infer(pool)
      .to({
        name: 'loop',
        write: (values) => {
          for (const value of values) {
            last = value;
            result.resolve(value);
          }
        },
        close: () => undefined,
      });
    t.is(last, 100);
    t.is(report.results, 100);
  });
});

test('two steps in a row stand still together for no longer than two turns', async (t) => {
  await withPool(async (pool) => {
    let result = deferred<number>();
    async function* closedLoop(): AsyncGenerator<number> {
      for (let n = 0; n < 20; n = await result.promise) {
        result = deferred();
        yield n;
      }
    }
    const report = await stream(fromIterable(closedLoop()))
      .infer(pool, { order: 'unordered' })
      .infer(pool)
      .to({
        name: 'loop',
        write: (values) => {
          for (const value of values) result.resolve(value);
        },
        close: () => undefined,
      });
    t.is(report.results, 10);
  });
});

test('a busy stream fills its batches: sync, and with one record for each turn of the event loop', async (t) => {
  async function* eachTurn(count: number): AsyncGenerator<number> {
    for (let n = 0; n < count; n++) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      yield n;
    }
  }
  for (const source of [Array.from({ length: 320 }, (_, n) => n), eachTurn(320)]) {
    await withPool(async (pool, sizes) => {
      const { results } = await stream(fromIterable(source))
        .infer(pool, { capacity: 256 })
        .to({
          name: 'count',
          write: () => undefined,
          close: () => undefined,
        });
      t.is(results, 320);
      t.deepEqual(
        sizes,
        Array.from({ length: 10 }, () => 32),
      );
    });
  }
});

test('a step flushes when downstream waits and upstream has nothing, not while one of them is busy, and once', async (t) => {
  const target = new HandTarget<number, number>();
  const source = new PushStage();
  const stage = inferStage(target, {}, source, contextOf());
  source.push(0);
  await target.holds(1);
  await settleDown(6);
  t.is(target.flushed, 0, 'nobody waits for it');
  const pulled = stage.pull(8);
  await target.when(() => target.flushed > 0);
  await settleDown(6);
  t.is(target.flushed, 1, 'there is nothing new to flush');
  source.push(1);
  await target.when(() => target.flushed > 1);
  target.answer(target.waiting[0]!, 0);
  t.is((await pulled)?.length, 1);
  source.end();
  target.answer(target.waiting[0]!, 1);
  t.is((await drain(stage)).length, 1);
  stage.close();
});

test('a pool without room is flushed, for what waits there cannot get company from here', async (t) => {
  const target = new HandTarget<number, number>(3);
  const source = new PushStage().push(0, 1, 2, 3, 4);
  const stage = inferStage(target, {}, source);
  await target.holds(3);
  await settleDown();
  t.is(target.flushed, 1);
  stage.close();
});
