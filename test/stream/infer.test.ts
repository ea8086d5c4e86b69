import test from 'ava';
import fc from 'fast-check';
import { TroupeError } from '../../src/kernel/errors.js';
import { seededRandom } from '../../src/kernel/random.js';
import type { DeadLetter } from '../../src/stream/envelope.js';
import { stream } from '../../src/stream/pipeline.js';
import { toArray } from '../../src/stream/sinks/array.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import { HandTarget, ShufflingTarget, settleDown } from './hand-target.js';

const failure = (text: string): TroupeError => new TroupeError('PREDICT_FAILED', text, { attempt: 1 });

test('an ordered step holds back what settles early, an unordered step does not', async (t) => {
  for (const order of ['ordered', 'unordered'] as const) {
    const target = new HandTarget<number, string>();
    const sink = toArray<string>();
    const running = stream(fromIterable([0, 1, 2]))
      .infer(target, { order })
      .to(sink);
    await target.holds(3);
    const [first, second, third] = [...target.waiting];
    target.answer(third!, 'c');
    target.answer(second!, 'b');
    await settleDown();
    t.deepEqual(sink.values, order === 'ordered' ? [] : ['c', 'b']);
    target.answer(first!, 'a');
    await running;
    t.deepEqual(sink.values, order === 'ordered' ? ['a', 'b', 'c'] : ['c', 'b', 'a']);
    t.is(target.openSenders, 0);
  }
});

test('input, output and priority are made of the record, and output learns the model version', async (t) => {
  const target = new HandTarget<string, number>();
  const sink = toArray<unknown>();
  const running = stream(fromIterable([{ text: 'ab', user: 'u1' }]))
    .infer(target, {
      input: (record) => record.text,
      output: (record, result, version) => ({ ...record, result, version }),
      priority: (record) => record.text.length,
      timeout: { ms: 1000 },
    })
    .to(sink);
  await target.holds(1);
  t.like(target.waiting[0], { input: 'ab', priority: 2 });
  t.true((target.waiting[0]?.deadlineAt ?? Infinity) < Infinity);
  target.answer(target.waiting[0]!, 5);
  await running;
  t.deepEqual(sink.values, [{ text: 'ab', user: 'u1', result: 5, version: '7' }]);
});

test('a record with a bypass value keeps its place and never reaches the actor', async (t) => {
  const target = new HandTarget<string, string>();
  const sink = toArray<string>();
  const running = stream(fromIterable(['a', '', 'b', '']))
    .infer(target, { bypass: (text) => (text === '' ? 'empty' : undefined) })
    .to(sink);
  await target.holds(2);
  for (const submission of target.waiting.slice()) target.answer(submission, submission.input.toUpperCase());
  t.like(await running, { records: 4, results: 4, failed: 0 });
  t.deepEqual(sink.values, ['A', 'empty', 'B', 'empty']);
  t.is(target.offered, 2);
});

test('a bypass that throws fails its record alone', async (t) => {
  const target = new HandTarget<number, number>();
  const bypass = (record: number): undefined => {
    if (record === 1) throw new Error('no such record');
  };
  const running = stream(fromIterable([0, 1]))
    .infer(target, { bypass })
    .to(toArray());
  await target.holds(1);
  target.answer(target.waiting[0]!, 0);
  t.like(await running, { records: 2, results: 1, failed: 1, errors: { OPERATOR_FAILED: 1 } });
});

test('capacity, in records, bounds what a step holds: the source is read no further while nothing leaves (B2, C2)', async (t) => {
  let pulled = 0;
  function* numbers(): Generator<number> {
    while (pulled < 100) yield (pulled += 1);
  }
  const target = new HandTarget<number, number>();
  const running = stream(fromIterable(numbers())).infer(target, { capacity: 10 }).toArray();
  await target.holds(10);
  await settleDown();
  t.is(pulled, 10);
  t.true(target.flushed > 0, 'a step that is full asks for partial batches');
  target.answer(target.waiting[1]!, 0);
  await settleDown();
  t.is(pulled, 10, 'a record behind the slow head keeps its place');
  target.answer(target.waiting[0]!, 0);
  await target.holds(10);
  t.is(pulled, 12);
  while (pulled < 100 || target.waiting.length > 0) {
    for (const submission of target.waiting.slice()) target.answer(submission, 0);
    await settleDown(1);
  }
  t.is((await running).length, 100);
});

test('a pool without room stops the source, and room goes on where it stopped', async (t) => {
  let pulled = 0;
  function* numbers(): Generator<number> {
    while (pulled < 20) yield (pulled += 1);
  }
  const target = new HandTarget<number, number>(4);
  const running = stream(fromIterable(numbers()), { chunkSize: 2 }).infer(target).toArray();
  await target.holds(4);
  await settleDown();
  t.is(pulled, 6, 'four accepted, and the chunk that found no room');
  while (target.waiting.length > 0) {
    target.answer(target.waiting[0]!, target.waiting[0]!.input);
    await settleDown(1);
  }
  t.deepEqual(
    await running,
    Array.from({ length: 20 }, (_, n) => n + 1),
  );
  t.is(target.mostWaiting, 4);
});

test('the end of the source flushes the pool, so that a partial batch goes', async (t) => {
  const target = new HandTarget<number, number>();
  const running = stream(fromIterable([1]))
    .infer(target)
    .toArray();
  await target.when(() => target.flushed > 0);
  target.answer(target.waiting[0]!, 1);
  t.deepEqual(await running, [1]);
});

test('a failed record becomes a dead letter of its step, a value by `failed`, or a failed count', async (t) => {
  const run = async (options: {
    deadLetters?: boolean;
    failed?: boolean;
  }): Promise<[unknown, unknown[], unknown[]]> => {
    const target = new ShufflingTarget<number, number>(
      8,
      () => 0,
      (n) => (n === 2 ? failure('two') : n),
    );
    const dead = toArray<DeadLetter>();
    const sink = toArray<unknown>();
    const report = await stream(fromIterable([1, 2, 3]))
      .infer(target, {
        ...(options.deadLetters === true ? { deadLetters: dead } : {}),
        ...(options.failed === true ? { failed: (record: unknown, error: TroupeError) => [record, error.code] } : {}),
      })
      .to(sink);
    const { results, failed, deadLetters } = report;
    return [{ results, failed, deadLetters }, sink.values, dead.values];
  };
  const [counted, values] = await run({});
  t.deepEqual(counted, { results: 2, failed: 1, deadLetters: 0 });
  t.deepEqual(values, [1, 3]);
  const [substituted, lines] = await run({ failed: true });
  t.deepEqual(substituted, { results: 2, failed: 1, deadLetters: 0 });
  t.deepEqual(lines, [1, [2, 'PREDICT_FAILED'], 3]);
  const [lettered, rest, letters] = await run({ deadLetters: true });
  t.deepEqual(lettered, { results: 2, failed: 0, deadLetters: 1 });
  t.deepEqual(rest, [1, 3]);
  t.like(letters[0], { input: 2, actor: 'hand', error: { code: 'PREDICT_FAILED', message: 'two' } });
});

test('`failed` also sees the records that failed before the step, in their place', async (t) => {
  const target = new ShufflingTarget<number, number>(
    8,
    () => 0,
    (n) => n,
  );
  const values = await stream(fromIterable([1, 2, 3]))
    .map((n) => {
      if (n === 2) throw new Error('no');
      return n;
    })
    .infer(target, { failed: (record, error) => `${String(record)} ${error.code}` })
    .toArray();
  t.deepEqual(values, [1, '2 OPERATOR_FAILED', 3]);
  t.is(target.offered, 2);
});

test('functions of the step that throw, and a pool that refuses a record, fail that record only', async (t) => {
  const target = new ShufflingTarget<number, number>(
    8,
    () => 0,
    (n) => n,
  );
  const offer = target.offer.bind(target);
  target.offer = (submission) => {
    if (submission.input === 4) throw new TroupeError('INPUT_INVALID', 'not a tensor');
    return offer(submission);
  };
  const codes: string[] = [];
  const sink = toArray<number>();
  const report = await stream(fromIterable([1, 2, 3, 4, 5]))
    .infer(target, {
      input: (n) => {
        if (n === 2) throw new Error('input');
        return n;
      },
      output: (_, n) => {
        if (n === 3) throw new Error('output');
        return n;
      },
    })
    .to(sink, { onFailed: (record, error) => codes.push(`${String(record)} ${error.code}`) });
  t.deepEqual(sink.values, [1, 5]);
  t.deepEqual(codes, ['2 OPERATOR_FAILED', '3 OPERATOR_FAILED', '4 INPUT_INVALID']);
  t.is(report.records, 5);
});

test('a signal cancels what the pool has accepted, closes the sender and counts every held record once', async (t) => {
  const stop = new AbortController();
  const target = new HandTarget<number, number>(3);
  let isReturned = false;
  function* numbers(): Generator<number> {
    try {
      for (let n = 0; ; n += 1) yield n;
    } finally {
      isReturned = true;
    }
  }
  const running = stream(fromIterable(numbers()), { chunkSize: 4 })
    .infer(target, { capacity: 8 })
    .to(toArray(), { signal: stop.signal });
  await target.holds(3);
  target.answer(target.waiting[0]!, 1);
  await settleDown();
  stop.abort();
  const report = await running;
  t.is(target.cancelled, 3);
  t.is(target.waiting.length, 0);
  t.is(target.openSenders, 0);
  t.true(isReturned);
  t.like(report, { cancelled: true, results: 1 });
  t.is(report.records, report.results + report.failed);
  t.is(report.errors.CANCELLED, report.failed);
});

test('several steps and several pipelines share one pool', async (t) => {
  const target = new ShufflingTarget<number, number>(4, seededRandom(1), (n) => n + 1);
  const twice = stream(fromIterable(Array.from({ length: 50 }, (_, n) => n)))
    .infer(target, { capacity: 7 })
    .infer(target, { capacity: 5 });
  const [a, b] = await Promise.all([twice.toArray(), twice.toArray()]);
  t.deepEqual(
    a,
    Array.from({ length: 50 }, (_, n) => n + 2),
  );
  t.deepEqual(b, a);
  t.is(target.openSenders, 0);
});

test('failed may not be async: its record fails and says so', async (t) => {
  const target = new HandTarget<number, number>();
  const source = stream(fromIterable([1])).map((): number => {
    throw new Error('no');
  });
  const letters: TroupeError[] = [];
  const report = await source
    .infer(target, { failed: async () => 0 })
    .to(toArray(), { onFailed: (_record, error) => void letters.push(error) });
  t.like(report, { results: 0, failed: 1 });
  t.regex(letters[0]?.message ?? '', /failed of infer\("hand"\) for record 0 threw: it returned a promise/);
});

test('options that contradict or do not exist are refused at once', (t) => {
  const some = stream(fromIterable([1]));
  const target = new HandTarget<number, number>();
  t.throws(() => some.infer(target, { retries: 3 } as never), { message: /infer: unknown option "retries"/ });
  t.throws(() => some.infer(target, { order: 'sorted' as never }), {
    message: /infer.order must be one of ordered, unor/,
  });
  t.throws(() => some.infer(target, { timeout: { ms: 0 } }), { message: /infer.timeout.ms must be .* above 0, got 0/ });
  for (const wrong of ['5', true, null, 10n, Symbol('s'), Number.NaN] as never[]) {
    const options = [
      { timeout: { ms: wrong } },
      { retry: { attempts: 2, budget: wrong } },
      { retry: { attempts: 2, multiplier: wrong } },
      { breaker: { windowMs: wrong } },
    ];
    for (const given of options)
      t.throws(() => some.infer(target, given), { instanceOf: TypeError, message: /must be/ });
  }
  t.throws(() => some.infer({} as never), { instanceOf: TypeError, message: /infer must be given a pool/ });
  t.throws(() => some.infer(target, { failed: () => 0, deadLetters: toArray() }), { message: /not both/ });
});

test('no order of settlements reorders an ordered stream, loses or doubles a record, or breaks a bound', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        count: fc.integer({ min: 0, max: 60 }),
        chunkSize: fc.integer({ min: 1, max: 9 }),
        capacity: fc.integer({ min: 1, max: 12 }),
        second: fc.integer({ min: 1, max: 12 }),
        room: fc.integer({ min: 1, max: 12 }),
        seed: fc.integer(),
        order: fc.constantFrom('ordered' as const, 'unordered' as const),
        isAsync: fc.boolean(),
        deadLetters: fc.boolean(),
        stopAfter: fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined }),
      }),
      async ({ count, chunkSize, capacity, second, room, seed, order, isAsync, deadLetters, stopAfter }) => {
        const random = seededRandom(seed);
        let pulled = 0;
        let left = 0;
        let most = 0;
        function* numbers(): Generator<number> {
          for (let n = 0; n < count; n += 1) {
            pulled += 1;
            most = Math.max(most, pulled - left);
            yield n;
          }
        }
        async function* slowly(): AsyncGenerator<number> {
          for (const n of numbers()) {
            if (random() < 0.3) await settleDown(1);
            yield n;
          }
        }
        const stop = new AbortController();
        const target = new ShufflingTarget<number, number>(room, random, (n) => (n % 7 === 3 ? failure('3') : n));
        const values: number[] = [];
        const dead: unknown[] = [];
        const failed: unknown[] = [];
        const drop = (n: number): boolean => n % 5 !== 1 || ((left += 1), false);
        const report = await stream(fromIterable(isAsync ? slowly() : numbers()), { chunkSize })
          .filter(drop)
          .infer(target, { order, capacity })
          .map(async (n) => {
            if (n % 11 === 5) throw new Error('5');
            if (random() < 0.1) await settleDown(1);
            return n;
          })
          .flatMap((n) => (n % 2 === 0 ? [n, n] : [n]))
          .infer(target, { order, capacity: second })
          .to(
            {
              name: 'sink',
              async write(chunk) {
                if (random() < 0.2) await settleDown(1);
                for (const n of chunk as number[]) {
                  if (values.at(-1) !== n) left += 1;
                  values.push(n);
                  if (values.length === stopAfter) stop.abort();
                }
              },
              close: () => undefined,
            },
            {
              signal: stop.signal,
              onFailed: (record) => {
                left += 1;
                failed.push(record);
              },
              ...(deadLetters
                ? {
                    deadLetters: {
                      name: 'dead',
                      write: (letters) => void dead.push(...letters),
                      close: () => undefined,
                    },
                  }
                : {}),
            },
          );
        t.is(target.openSenders, 0);
        t.is(report.records, report.results + report.failed + report.deadLetters);
        t.is(report.deadLetters, dead.length);
        t.true(most <= capacity + second + chunkSize * 5 + 1, `${most} pulled and not written`);
        t.true(target.mostWaiting <= room);
        if (order === 'ordered') {
          t.deepEqual(
            values,
            [...values].sort((a, b) => a - b),
          );
        }
        if (report.cancelled) return;
        const all = Array.from({ length: count }, (_, n) => n).filter((n) => n % 5 !== 1);
        const bad = all.filter((n) => n % 7 === 3 || n % 11 === 5);
        const good = all.filter((n) => !bad.includes(n)).flatMap((n) => (n % 2 === 0 ? [n, n] : [n]));
        t.deepEqual(
          [...values].sort((a, b) => a - b),
          good,
        );
        t.deepEqual(
          failed.map(Number).sort((a, b) => a - b),
          bad,
        );
        t.is(report.filtered, count - all.length);
        t.is(report.records, good.length + bad.length);
      },
    ),
    { numRuns: 300 },
  );
});
