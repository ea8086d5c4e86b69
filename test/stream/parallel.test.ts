import test from 'ava';
import type { TroupeError } from '../../src/kernel/errors.js';
import { stream } from '../../src/stream/pipeline.js';
import { toArray } from '../../src/stream/sinks/array.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import { settleDown } from './hand-target.js';

const module = new URL('./parallel-work.js', import.meta.url).href;
const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

test('mapParallel runs in threads and keeps the order', async (t) => {
  const values = await stream(fromIterable(numbers(100)), { chunkSize: 5 })
    .mapParallel<number>({ module, concurrency: 2 })
    .toArray();
  t.deepEqual(
    values,
    numbers(100).map((n) => n * n),
  );
  const threads = await stream(fromIterable(numbers(3)))
    .mapParallel<number>({ module, exportName: 'whereAmI' })
    .toArray();
  t.true(threads.every((id) => id > 0));
});

test('a record that throws, ends its thread or cannot be copied fails alone', async (t) => {
  const sink = toArray<unknown>();
  const failures: [unknown, TroupeError][] = [];
  const report = await stream(fromIterable<unknown>([1, 2, 3, 4, 5, 6, 7, () => 8, 9]))
    .mapParallel({ module: new URL(module), exportName: 'picky', concurrency: 1 })
    .to(sink, { onFailed: (record, error) => failures.push([record, error]) });
  t.deepEqual(sink.values, [1, 2, 4, 6, 9]);
  t.like(report, { records: 9, results: 5, failed: 4, errors: { OPERATOR_FAILED: 4 } });
  t.deepEqual(
    failures.map(([record]) => (typeof record === 'function' ? 'function' : record)),
    [3, 5, 7, 'function'],
  );
  t.is(failures[0]?.[1].message, 'mapParallel threw: no threes');
  t.like(failures[0]?.[1].cause, { name: 'RangeError', code: 'E_THREE' });
});

test('mapParallel reads no further than its window while nothing is taken', async (t) => {
  let pulled = 0;
  function* forever(): Generator<number> {
    for (;;) yield (pulled += 1);
  }
  const stop = new AbortController();
  let written: (() => void) | undefined;
  const writing = new Promise<void>((resolve) => {
    written = resolve;
  });
  const running = stream(fromIterable(forever()))
    .mapParallel({ module, concurrency: 1 })
    .to(
      {
        name: 'stuck',
        write: () => {
          written?.();
          return new Promise<void>(() => undefined);
        },
        close: () => undefined,
      },
      { signal: stop.signal },
    );
  await writing;
  await settleDown(20);
  t.true(pulled <= 24, `${pulled} pulled: two tasks of 8 and the 8 in the sink`);
  stop.abort();
  t.true((await running).cancelled);
});

test('a closure, a relative path and a module without the function are refused with a reason', async (t) => {
  const some = stream(fromIterable([1]));
  t.throws(() => some.mapParallel(((n: number) => n) as never), {
    instanceOf: TypeError,
    message: /closes over.*import\.meta/,
  });
  t.throws(() => some.mapParallel('./work.js'), {
    instanceOf: TypeError,
    message: /import\.meta\.resolve\("\.\/work\.js"\)/,
  });
  t.throws(() => some.mapParallel({ module, threads: 1 } as never), { message: /unknown option "threads"/ });
  for (const [given, words] of [
    [{ module, exportName: 'none' }, /export "none" is not there/],
    [{ module, exportName: 'notAFunction' }, /export "notAFunction" is no function but number/],
    [{ module: '/does/not/exist.js' }, /Cannot find module/],
  ] as const) {
    const error = await t.throwsAsync(some.mapParallel(given).to(toArray()));
    t.like(error, { code: 'OPERATOR_FAILED' });
    t.regex(error.message, words);
  }
});
