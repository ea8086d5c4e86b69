import test from 'ava';
import { TroupeError } from '../../src/kernel/errors.js';
import { CheckpointTrigger } from '../../src/stream/checkpoint/options.js';
import { runIn, stream } from '../../src/stream/pipeline.js';
import { StreamError } from '../../src/stream/report.js';
import { toArray } from '../../src/stream/sinks/array.js';
import { forEach } from '../../src/stream/sinks/for-each.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import { RecordFailure, type DeadLetter } from '../../src/stream/envelope.js';
import { MemoryDisk } from '../../src/testing/memory-disk.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { alone } from './checkpoint/stores.js';
import { settleDown } from './hand-target.js';

const throwing = (): never => {
  throw new Error('trap');
};

test('a pipeline maps, filters and writes in the order of its source', async (t) => {
  const sink = toArray<number>();
  const report = await stream(fromIterable([1, 2, 3, 4, 5]))
    .map((n) => n * 10)
    .filter((n) => n !== 30)
    .to(sink);
  t.deepEqual(sink.values, [10, 20, 40, 50]);
  t.like(report, { records: 4, results: 4, failed: 0, deadLetters: 0, filtered: 1, cancelled: false, errors: {} });
  t.true(report.latencyMs.p99 >= report.latencyMs.p50);
});

test('a pipeline is a value: deriving from it leaves it as it was, and it can run again', async (t) => {
  const numbers = stream(fromIterable([1, 2, 3]));
  const doubled = numbers.map((n) => n * 2);
  t.deepEqual(await numbers.toArray(), [1, 2, 3]);
  t.deepEqual(await doubled.toArray(), [2, 4, 6]);
  t.deepEqual(await doubled.toArray(), [2, 4, 6]);
});

test('async functions keep the order and what is ready does not wait for a slow record behind it', async (t) => {
  let release: (() => void) | undefined;
  const slow = new Promise<void>((resolve) => {
    release = resolve;
  });
  const seen: number[] = [];
  const running = stream(fromIterable([1, 2, 3, 4]))
    .map(async (n) => {
      if (n === 3) await slow;
      return n;
    })
    .filter(async (n) => n !== 2)
    .to(forEach<number>((n) => seen.push(n)));
  await settleDown(6);
  t.deepEqual(seen, [1]);
  release?.();
  t.is((await running).results, 3);
  t.deepEqual(seen, [1, 3, 4]);
});

test('a function that throws or rejects fails its own record only', async (t) => {
  const failures: [unknown, string][] = [];
  const sink = toArray<number>();
  const report = await stream(fromIterable([1, 2, 3, 4]))
    .map((n) => {
      if (n === 2) throw new Error('no twos');
      return n;
    })
    .map(async (n) => {
      if (n === 3) throw new Error('no threes');
      return n;
    })
    .to(sink, { onFailed: (record, error) => failures.push([record, error.message]) });
  t.deepEqual(sink.values, [1, 4]);
  t.like(report, { records: 4, results: 2, failed: 2, errors: { OPERATOR_FAILED: 2 } });
  t.deepEqual(failures, [
    [2, 'map threw: no twos'],
    [3, 'map threw: no threes'],
  ]);
});

test('failed records go to the dead-letter sink with input, code and time, and count as dead letters', async (t) => {
  const dead = toArray<DeadLetter>();
  const report = await stream(fromIterable(['{}', '{']))
    .map((line) => JSON.parse(line) as unknown)
    .to(toArray(), { deadLetters: dead });
  t.like(report, { records: 2, results: 1, failed: 0, deadLetters: 1 });
  t.is(dead.values.length, 1);
  t.like(dead.values[0], {
    input: '{',
    error: { code: 'OPERATOR_FAILED', ran: 'failed', retryable: false, cause: { name: 'SyntaxError' } },
    attempts: 0,
    seq: 1,
    id: '1',
    pipeline: 'iterable',
    step: 0,
  });
  t.regex(dead.values[0]?.times.pulledAt ?? '', /^\d{4}-\d\d-\d\dT/);
  t.true((dead.values[0]?.times.failedAt ?? '') >= (dead.values[0]?.times.pulledAt ?? ''));
});

test('flatMap puts children in the place of their parent, and a parent without children counts as filtered', async (t) => {
  const sink = toArray<string>();
  const report = await stream(fromIterable([0, 1, 2, 3]), { chunkSize: 2 })
    .flatMap((n) => Array.from({ length: n }, (_, i) => `${n}.${i}`))
    .to(sink);
  t.deepEqual(sink.values, ['1.0', '2.0', '2.1', '3.0', '3.1', '3.2']);
  t.like(report, { records: 6, results: 6, filtered: 1 });
});

test('flatMap takes generators, async generators and promises, and fails a record that gives none of them', async (t) => {
  const sink = toArray<number>();
  const give: Record<number, () => unknown> = {
    1: () => Promise.resolve([10, 11]),
    2: async function* () {
      yield 20;
      await settleDown();
      yield 21;
    },
    3: () => 'a string',
    4: function* () {
      yield 40;
      throw new Error('half-way');
    },
  };
  const failures: string[] = [];
  const report = await stream(fromIterable([1, 2, 3, 4]))
    .flatMap((n) => give[n]?.() as Iterable<number>)
    .to(sink, { onFailed: (record, error) => failures.push(`${String(record)}: ${error.message}`) });
  t.deepEqual(sink.values, [10, 11, 20, 21, 40]);
  t.like(report, { records: 7, results: 5, failed: 2 });
  t.deepEqual(failures, [
    '3: flatMap threw: flatMap expects an array, an iterable or an async iterable, got string',
    '4: flatMap threw: half-way',
  ]);
});

test('a slow sink stops the source', async (t) => {
  let pulled = 0;
  function* numbers(): Generator<number> {
    for (;;) yield (pulled += 1);
  }
  const stop = new AbortController();
  const running = stream(fromIterable(numbers()), { chunkSize: 8 })
    .map((n) => n)
    .to(
      { name: 'stuck', write: () => new Promise<void>(() => undefined), close: () => undefined },
      { signal: stop.signal },
    );
  await settleDown();
  t.is(pulled, 8);
  stop.abort();
  const report = await running;
  t.like(report, { cancelled: true, records: 8, results: 0, failed: 8, errors: { CANCELLED: 8 } });
});

test('a signal ends a run that is synchronous from end to end, and the generator is given back', async (t) => {
  let isReturned = false;
  function* forever(): Generator<number> {
    try {
      for (;;) yield 1;
    } finally {
      isReturned = true;
    }
  }
  const stop = new AbortController();
  setImmediate(() => setImmediate(() => stop.abort()));
  const report = await stream(fromIterable(forever())).to(
    forEach(() => undefined),
    { signal: stop.signal },
  );
  t.true(report.cancelled);
  t.true(isReturned);
  t.is(report.records, report.results + report.failed + report.deadLetters);
});

test('a signal ends a run whose source has nothing to give', async (t) => {
  const stop = new AbortController();
  async function* silent(): AsyncGenerator<number> {
    yield 1;
    await new Promise<void>(() => undefined);
  }
  const sink = toArray<number>();
  const running = stream(fromIterable(silent())).to(sink, { signal: stop.signal });
  await settleDown();
  t.deepEqual(sink.values, [1]);
  stop.abort();
  t.like(await running, { cancelled: true, results: 1, failed: 0 });
});

test('a signal that is aborted already opens nothing', async (t) => {
  const report = await stream({
    name: 'never',
    open: () => t.fail() as never,
  }).to(toArray(), { signal: AbortSignal.abort() });
  t.like(report, { cancelled: true, records: 0 });
});

test('a source that fails as a whole rejects with SOURCE_FAILED, its cause and the report so far', async (t) => {
  async function* broken(): AsyncGenerator<number> {
    yield 1;
    await settleDown();
    throw new Error('disk gone');
  }
  let isClosed = false;
  const error = await t.throwsAsync(
    stream(fromIterable(broken())).to({
      name: 'sink',
      write: () => undefined,
      close: () => {
        isClosed = true;
      },
    }),
    { instanceOf: StreamError },
  );
  t.like(error, { code: 'SOURCE_FAILED', message: 'Source iterable failed: disk gone', report: { results: 1 } });
  t.true(isClosed);
});

test('a sink that fails rejects with SINK_FAILED and gives the source back', async (t) => {
  let isReturned = false;
  async function* numbers(): AsyncGenerator<number> {
    try {
      for (let n = 0; ; n += 1) yield n;
    } finally {
      isReturned = true;
    }
  }
  const error = await t.throwsAsync(
    stream(fromIterable(numbers())).to(
      forEach<number>((n) => {
        if (n === 3) throw new Error('full');
      }),
    ),
  );
  t.true(error instanceof TroupeError);
  t.like(error, { code: 'SINK_FAILED', message: 'Sink forEach failed: full' });
  t.true(isReturned);
});

test('progress is reported while the run goes on', async (t) => {
  const seen: number[] = [];
  await stream(fromIterable([1, 2, 3, 4]), { chunkSize: 1 }).to(toArray(), {
    onProgress: (report) => seen.push(report.results),
    progressMs: 0,
  });
  t.deepEqual(seen, [1, 2, 3, 4]);
});

test('wrong use is a TypeError that names option, expectation and value', (t) => {
  const some = stream(fromIterable([1]));
  t.throws(() => fromIterable('abc'), { instanceOf: TypeError, message: /fromIterable must be given an array.*"abc"/ });
  t.throws(() => stream([1] as never), { instanceOf: TypeError, message: /source must be a source/ });
  t.throws(() => stream(fromIterable([1]), { chunkSize: 0 }), { message: /chunkSize must be a whole number.*got 0/ });
  t.throws(() => some.map(3 as never), { instanceOf: TypeError, message: /map must be a function, got 3/ });
  t.throws(() => some.to({} as never), { instanceOf: TypeError, message: /sink must be a sink/ });
  t.throws(() => some.to(toArray(), { sginal: 1 } as never), { message: /unknown option "sginal"; known are signal/ });
});

test('records, errors and iterators that throw when they are looked at fail alone, and the run goes on', async (t) => {
  const trap = (): never => {
    throw new Error('trap');
  };
  const hostile: object = new Proxy({}, { get: trap, has: trap, ownKeys: trap, getPrototypeOf: trap });
  const through = await stream(fromIterable([1, hostile, 2])).to(toArray());
  t.like(through, { records: 3, results: 3 });
  const thrown = await stream(fromIterable([1, 2]))
    .map((n) => {
      if (n === 1) throw hostile;
      return n;
    })
    .to(toArray());
  t.like(thrown, { records: 2, results: 1, failed: 1, errors: { OPERATOR_FAILED: 1 } });
  const throughPromises = await stream(fromIterable([1, 2, 3]))
    .flatMap(async (n) => (n === 1 ? (new Proxy([], { has: trap }) as number[]) : [n]))
    .to(toArray());
  t.like(throughPromises, { records: 3, results: 2, failed: 1, errors: { OPERATOR_FAILED: 1 } });
  const step = new Proxy({}, { get: (_, key) => (key === 'done' ? trap() : undefined) }) as never;
  const steps = { [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve(step) }) };
  const throughSteps = await stream(fromIterable([1, 2]))
    .flatMap((n) => (n === 1 ? steps : [n]))
    .to(toArray());
  t.like(throughSteps, { records: 2, results: 1, failed: 1, errors: { OPERATOR_FAILED: 1 } });
  const numbers = { [Symbol.iterator]: () => ({ next: () => 5 as never }) };
  const children = await stream(fromIterable([1]))
    .flatMap(() => numbers)
    .to(toArray());
  t.like(children, { results: 0, failed: 1, errors: { OPERATOR_FAILED: 1 } });
  const endless = stream(fromIterable(numbers)).to(toArray());
  await t.throwsAsync(endless, { instanceOf: StreamError, message: /The iterator gave a number/ });
});

test('a source that gives no array, or does not open, ends the run by name or by signal', async (t) => {
  const wrong = { name: 'mine', open: () => ({ read: () => 5 as never, close: () => undefined }) };
  await t.throwsAsync(stream(wrong).to(toArray()), {
    instanceOf: StreamError,
    message: /Source mine failed: read\(\)/,
  });
  const never = { name: 'fifo', open: () => new Promise<never>(() => undefined) };
  const abort = new AbortController();
  const run = stream(never).to(toArray(), { signal: abort.signal });
  await settleDown();
  abort.abort();
  t.like(await run, { records: 0, cancelled: true });
});

test('what a source may not give ends the run with SOURCE_FAILED and says what it was', async (t) => {
  const failing = (given: unknown) =>
    t.throwsAsync(
      stream({ name: 'odd', open: () => ({ read: () => given as number[], close: () => undefined }) }).to(toArray()),
      { code: 'SOURCE_FAILED' },
    );
  t.regex((await failing(null)).message, /got null/);
  t.regex((await failing({ length: 2 })).message, /got object/);
  t.regex((await failing(Array.from({ length: 129 }))).message, /at most 128 records, got 129/);
  let looks = 0;
  const changing = new Proxy([], { get: (_, key) => (key === 'length' && ++looks > 1 ? throwing() : 0) });
  t.regex((await failing(changing)).message, /Source odd failed: trap/);
});

test('a record that a source could not read has a code, whatever error the source gave', async (t) => {
  const errors: unknown[] = [new RangeError('line 3'), 'line 4', undefined];
  const source = fromIterable(errors.map((error) => new RecordFailure(error as TroupeError, 'input')));
  const letters = toArray<DeadLetter>();
  const report = await stream(source).to(toArray(), { deadLetters: letters });
  t.deepEqual(report.errors, { PARSE_FAILED: 3 });
  t.regex(letters.values[0]?.error.message ?? '', /could not read the record: line 3/);
});

test('onFailed and onProgress may be async: they are waited for, and a rejection ends the run', async (t) => {
  const failing = stream(fromIterable([1, 2])).map((n): number => {
    throw new Error(String(n));
  });
  const seen: unknown[] = [];
  await failing.to(toArray(), {
    onFailed: async (record) => {
      await settleDown();
      seen.push(record);
    },
  });
  t.deepEqual(seen, [1, 2]);
  const refuse = async (): Promise<void> => {
    await settleDown();
    throw new Error('no more');
  };
  await t.throwsAsync(failing.to(toArray(), { onFailed: refuse }), {
    instanceOf: StreamError,
    code: 'OPERATOR_FAILED',
    message: 'onFailed for record 0 threw: no more',
  });
  const fine = stream(fromIterable([1]));
  await t.throwsAsync(fine.to(toArray(), { onProgress: refuse, progressMs: 0 }), {
    instanceOf: StreamError,
    code: 'OPERATOR_FAILED',
    message: 'onProgress threw: no more',
  });
});

test('an onFailed or onProgress that throws ends the run by name, and the report counts what the sinks took', async (t) => {
  const numbers = stream(fromIterable([1, 2, 3])).map((n) => {
    if (n === 1) throw new Error('one');
    return n;
  });
  const hostile: object = new Proxy({}, { has: throwing, getPrototypeOf: throwing });
  const refusing = {
    throws: throwing,
    'gives what throws': () => hostile,
  };
  for (const [title, refuse] of Object.entries(refusing)) {
    for (const deadLetters of [undefined, toArray<DeadLetter>()]) {
      const sink = toArray<number>();
      const options = deadLetters === undefined ? {} : { deadLetters };
      const error = await t.throwsAsync(numbers.to(sink, { ...options, onFailed: refuse }), {
        instanceOf: StreamError,
      });
      t.like(error, { code: 'OPERATOR_FAILED', message: 'onFailed for record 0 threw: trap' }, title);
      t.deepEqual(sink.values, [2, 3]);
      t.like(error?.report, { results: 2, errors: { OPERATOR_FAILED: 1 } }, 'all of the chunk is counted');
    }
    const error = await t.throwsAsync(numbers.to(toArray(), { onProgress: refuse, progressMs: 0 }));
    t.like(error, { code: 'OPERATOR_FAILED', message: 'onProgress threw: trap', report: { results: 2 } }, title);
  }
});

test('a signal ends a run whose flatMap is inside an iterator that does not let itself be ended', async (t) => {
  const stop = new AbortController();
  const endings = {
    get return() {
      return throwing();
    },
  };
  const children = {
    [Symbol.iterator]: () => Object.assign(Object.create(endings) as object, { next: () => ({ value: 1 }) }),
  };
  const running = stream(fromIterable([1]))
    .flatMap(() => children as Iterable<number>)
    .to(
      forEach(() => stop.abort()),
      { signal: stop.signal },
    );
  t.like(await running, { cancelled: true });
});

test('two runs cannot share a CheckpointTrigger: the second ends by name', async (t) => {
  const trigger = new CheckpointTrigger();
  const requests: unknown[] = [];
  trigger.attach((request) => requests.push(request));
  const world = { disk: new MemoryDisk(), clock: new VirtualClock(), processes: alone };
  const run = runIn(world, stream(fromIterable([1])), toArray(), { checkpoint: { dir: '/c', trigger } });
  await t.throwsAsync(run, { instanceOf: StreamError, code: 'CHECKPOINT_FAILED', message: /in use by another run/ });
  void trigger.now();
  t.is(requests.length, 1, 'and the first goes on to have it');
});
