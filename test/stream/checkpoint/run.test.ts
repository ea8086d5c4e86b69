import { appendFile, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { TroupeError } from '../../../src/kernel/errors.js';
import { CheckpointTrigger } from '../../../src/stream/checkpoint/options.js';
import { Control, RecordFailure, Stamped, Watermark, type DeadLetter } from '../../../src/stream/envelope.js';
import { runIn, stream, type ToOptions } from '../../../src/stream/pipeline.js';
import { StreamError } from '../../../src/stream/report.js';
import type { Sink } from '../../../src/stream/sink.js';
import { toArray } from '../../../src/stream/sinks/array.js';
import { toFile } from '../../../src/stream/sinks/file.js';
import { forEach } from '../../../src/stream/sinks/for-each.js';
import type { Acknowledgement, Source, SourceItem } from '../../../src/stream/source.js';
import { fromFile } from '../../../src/stream/sources/file.js';
import { fromIterable } from '../../../src/stream/sources/iterable.js';
import { MemoryDisk, diskError } from '../../../src/testing/memory-disk.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { folder } from '../folder.js';
import { HandTarget, settleDown } from '../hand-target.js';
import { alone } from './stores.js';

function testWorld(): { disk: MemoryDisk; clock: VirtualClock; processes: typeof alone } {
  return { disk: new MemoryDisk(), clock: new VirtualClock(), processes: alone };
}

const checkpoint = { dir: '/c', intervalMs: 100, resume: true };

/** Gives what it is told to, when it is told to. */
class HandSource<T> implements Source<T> {
  readonly name = 'hand';
  readonly acknowledged: Acknowledgement[] = [];
  reads = 0;
  #give: ((items: readonly SourceItem<T>[] | undefined) => void) | undefined;

  constructor(private readonly kind: 'acknowledging' | 'neither' = 'neither') {}

  open(): ReturnType<Source<T>['open']> {
    return {
      read: () => {
        this.reads += 1;
        return new Promise((resolve) => (this.#give = resolve));
      },
      close: () => undefined,
      ...(this.kind === 'neither'
        ? {}
        : {
            wantsValues: true,
            acknowledge: (outcomes: readonly Acknowledgement[]) => void this.acknowledged.push(...outcomes),
          }),
    };
  }

  async give(...items: SourceItem<T>[]): Promise<void> {
    this.#give?.(items);
    await settleDown(6);
  }

  end(): void {
    this.#give?.(undefined);
  }
}

test('stop ends the reading: what is inside finishes, and the report is whole', async (t) => {
  const source = new HandSource<number>();
  const stop = new AbortController();
  const sink = toArray<number>();
  const pool = new HandTarget<number, number>();
  const running = stream(source).infer(pool).to(sink, { stop: stop.signal });
  await settleDown();
  await source.give(1, 2);
  stop.abort();
  await pool.holds(2);
  for (const submission of [...pool.waiting]) pool.answer(submission, submission.input * 10);
  t.like(await running, { records: 2, results: 2, cancelled: false });
  t.deepEqual(sink.values, [10, 20]);
});

test('a stop before the run, or while its source is opening, reads nothing', async (t) => {
  const stop = new AbortController();
  const never: Source<number> = { name: 'never', open: () => new Promise(() => undefined) };
  const running = stream(never).to(toArray<number>(), { stop: stop.signal });
  await settleDown();
  stop.abort();
  t.like(await running, { records: 0, cancelled: false });
  const sink = toArray<number>();
  t.like(await stream(fromIterable([1, 2])).to(sink, { stop: AbortSignal.abort() }), { records: 0, cancelled: false });
  t.deepEqual(sink.values, []);
});

test('the same pipeline runs bounded to the end of its source, and unbounded until stop', async (t) => {
  const doubled = (source: Source<number>) => stream(source).map((n) => n * 2);
  const bounded = toArray<number>();
  await doubled(fromIterable([1, 2])).to(bounded);
  const source = new HandSource<number>();
  const stop = new AbortController();
  const unbounded = toArray<number>();
  const running = doubled(source).to(unbounded, { stop: stop.signal });
  await settleDown();
  await source.give(1, 2);
  stop.abort();
  await running;
  t.deepEqual(unbounded.values, bounded.values);
});

test('an idle source, an actor that never answers and a request make checkpoints wait for nothing', async (t) => {
  const world = testWorld();
  const source = new HandSource<number>();
  const pool = new HandTarget<number, number>();
  const trigger = new CheckpointTrigger();
  const stop = new AbortController();
  const progress: number[] = [];
  const running = runIn(world, stream(source).infer(pool, { order: 'unordered' }), toArray<number>(), {
    checkpoint: { ...checkpoint, trigger },
    stop: stop.signal,
    onProgress: ({ checkpoints }) => progress.push(checkpoints?.written ?? 0),
    progressMs: 0,
  });
  await settleDown(10);
  await source.give(1, 2);
  // Nothing more comes, nothing is answered: the interval alone.
  const before = world.disk.operations.filter(({ kind }) => kind === 'rename').length;
  t.is(before, 2, 'the first checkpoint, before anything is delivered');
  world.clock.advance(100);
  await settleDown(10);
  t.is(world.disk.operations.filter(({ kind }) => kind === 'rename').length, 4);
  world.clock.advance(100);
  await settleDown(10);
  t.is(world.disk.operations.filter(({ kind }) => kind === 'rename').length, 4, 'nothing new, nothing written');
  t.is(await trigger.now(), 2, 'which the request is told, too');
  pool.answer(pool.waiting[0] as (typeof pool.waiting)[number], 10);
  await settleDown(4);
  t.is(await trigger.now(), 3);
  for (const submission of [...pool.waiting]) pool.answer(submission, 20);
  stop.abort();
  const report = await running;
  t.like(report, { records: 2, delivery: undefined });
  t.is(report.checkpoints?.written, 4, 'and one at the end');
  await t.throwsAsync(trigger.now(), { code: 'CHECKPOINT_FAILED', message: /No run uses/ });
});

test('a finished run that is resumed does nothing again, and says so', async (t) => {
  for (const source of [fromIterable([1, 2, 3]), fromIterable(new Set([1, 2, 3]))]) {
    const world = testWorld();
    const sink = toArray<number>();
    await runIn(world, stream(source), sink, { checkpoint });
    const renames = world.disk.operations.length;
    const report = await runIn({ ...world, clock: new VirtualClock() }, stream(source), sink, { checkpoint });
    t.like(report, { records: 0, checkpoints: { written: 0, failed: 0, resumedFrom: 2, hadEnded: true } });
    t.deepEqual(sink.values, [1, 2, 3]);
    t.false(world.disk.operations.slice(renames).some(({ kind }) => kind === 'rename'));
  }
});

test('another pipeline, source, number of steps or a missing sink is refused before anything is destroyed', async (t) => {
  const path = await folder(t, { 'in.txt': 'one\ntwo\n', 'other.txt': 'three\n' });
  const out = join(path, 'out.txt');
  const options: ToOptions = { checkpoint: { dir: join(path, 'c'), resume: true } };
  const source = fromFile(join(path, 'in.txt'), { format: 'lines' });
  await stream(source, { name: 'p' }).to(toFile(out), {
    ...options,
    deadLetters: toFile(join(path, 'dead')) as Sink<DeadLetter>,
  });
  const refused = async (run: Promise<unknown>, message: RegExp): Promise<void> => {
    await t.throwsAsync(run, { code: 'CHECKPOINT_INVALID', message });
    t.is(await readFile(out, 'utf8'), 'one\ntwo\n');
  };
  await refused(stream(source, { name: 'q' }).to(toFile(out), options), /the pipeline was "p", now it is "q"/);
  const other = fromFile(join(path, 'other.txt'), { format: 'lines' });
  await refused(stream(other, { name: 'p' }).to(toFile(out), options), /the source was ".*in.txt"/);
  await refused(
    stream(source, { name: 'p' })
      .map((line) => line)
      .to(toFile(out), options),
    /number of steps was 0, now it is 1/,
  );
  await refused(stream(source, { name: 'p' }).to(toFile(out), options), /has the state of a sink .*dead/);
});

test('a resumed file is cut to what the checkpoint holds; one that is shorter or gone is refused', async (t) => {
  const path = await folder(t, { 'in.txt': 'one\ntwo\n' });
  const out = join(path, 'out.txt');
  const run = () =>
    stream(fromFile(join(path, 'in.txt'), { format: 'lines' })).to(toFile(out), {
      checkpoint: { dir: join(path, 'c'), resume: true },
    });
  await writeFile(out, 'something else entirely, which a run that begins anew replaces');
  t.is((await run()).delivery, 'exactly-once');
  await appendFile(out, 'written after the checkpo');
  await appendFile(join(path, 'in.txt'), 'three\n');
  t.like(await run(), { records: 1 });
  t.is(await readFile(out, 'utf8'), 'one\ntwo\nthree\n');
  await truncate(out, 9);
  await t.throwsAsync(run(), { code: 'CHECKPOINT_INVALID', message: /is 9 bytes long; the checkpoint needs 14/ });
  t.is(await readFile(out, 'utf8'), 'one\ntwo\nt', 'and left as it is');
});

test('without resume a run begins anew, and its checkpoints are its own', async (t) => {
  const world = testWorld();
  const sink = toArray<number>();
  await runIn(world, stream(fromIterable([1, 2])), sink, { checkpoint });
  const report = await runIn(
    { ...world, clock: new VirtualClock() },
    stream(fromIterable([3, 4, 5])),
    toArray<number>(),
    {
      checkpoint: { ...checkpoint, resume: false },
    },
  );
  t.is(report.checkpoints?.resumedFrom, undefined);
  const names = [...world.disk.image.keys()].filter((name) => name.endsWith('manifest'));
  t.deepEqual(names.sort(), ['/c/000000000003.manifest', '/c/000000000004.manifest']);
});

test('a checkpoint that fails ends the run or is counted, as the policy says', async (t) => {
  for (const onFailure of ['stop', 'continue'] as const) {
    const world = testWorld();
    const source = new HandSource<number>();
    const sink = toArray<number>();
    let isFull = false;
    world.disk.onOperation = ({ kind, path }) => (isFull && kind === 'write' ? diskError('ENOSPC', path) : undefined);
    const stop = new AbortController();
    const running = runIn(world, stream(source), sink, { checkpoint: { ...checkpoint, onFailure }, stop: stop.signal });
    running.catch(() => undefined);
    await settleDown(10);
    isFull = true;
    await source.give(1);
    world.clock.advance(100);
    await settleDown(10);
    if (onFailure === 'stop') {
      const error = await t.throwsAsync(running, {
        instanceOf: StreamError,
        code: 'CHECKPOINT_FAILED',
        message: /ENOSPC/,
      });
      t.like(error?.report, { records: 1, checkpoints: { written: 1, failed: 1 } });
      continue;
    }
    await source.give(2);
    isFull = false;
    world.clock.advance(100);
    await settleDown(10);
    stop.abort();
    const report = await running;
    t.like(report, { records: 2, checkpoints: { failed: 1, lastError: { code: 'CHECKPOINT_FAILED' } } });
    t.is(report.checkpoints?.written, 2, 'the one before and one after');
    t.deepEqual(sink.values, [1, 2]);
  }
});

test('a directory that cannot be used ends the run before anything is read, whatever the policy', async (t) => {
  const world = testWorld();
  world.disk.onOperation = ({ kind, path }) => (kind === 'makeDirectory' ? diskError('EACCES', path) : undefined);
  const source = new HandSource<number>();
  await t.throwsAsync(
    runIn(world, stream(source), toArray<number>(), { checkpoint: { ...checkpoint, onFailure: 'continue' } }),
    { code: 'CHECKPOINT_FAILED', message: /Cannot use the checkpoint directory \/c: EACCES/ },
  );
  t.is(source.reads, 0);
});

test('a sink that cannot prepare fails the checkpoint, and nothing is acknowledged', async (t) => {
  const world = testWorld();
  const source = new HandSource<number>('acknowledging');
  const stop = new AbortController();
  let isBroken = false;
  const sink: Sink<number> = {
    name: 'table',
    write: () => undefined,
    prepare: async () => {
      if (isBroken) throw new Error('connection lost');
      return 1;
    },
    close: () => undefined,
  };
  const running = runIn(world, stream(source), sink, {
    checkpoint: { ...checkpoint, onFailure: 'continue' },
    stop: stop.signal,
  });
  await settleDown(10);
  await source.give(new Stamped(1, { token: 'a' }));
  isBroken = true;
  world.clock.advance(100);
  await settleDown(10);
  t.deepEqual(source.acknowledged, []);
  isBroken = false;
  stop.abort();
  const report = await running;
  t.like(report.checkpoints, { failed: 1, lastError: { message: 'Sink table could not prepare: connection lost' } });
  t.deepEqual(source.acknowledged, [{ token: 'a', values: [1] }]);
});

test('without checkpoints records are acknowledged when the sink has them safe, with values and errors', async (t) => {
  const clock = new VirtualClock();
  const source = new HandSource<number>('acknowledging');
  const stop = new AbortController();
  let prepared: (() => void) | undefined;
  const sink: Sink<number> = {
    name: 'slow',
    write: () => undefined,
    prepare: () => new Promise<void>((resolve) => (prepared = resolve)),
    close: () => undefined,
  };
  const pipeline = stream(source)
    .filter((n) => n !== 3)
    .flatMap((n) => {
      if (n === 4) throw new Error('four');
      return n === 2 ? [n, -n] : [n];
    });
  const running = runIn({ clock }, pipeline, sink, { stop: stop.signal });
  await settleDown();
  await source.give(...[1, 2, 3, 4].map((n) => new Stamped(n, { token: n })));
  t.deepEqual(source.acknowledged, [], 'the sink has not said that they are safe');
  // The one that was filtered had its turn at once; the sink is asked again after ten milliseconds.
  prepared?.();
  await settleDown(6);
  clock.advance(10);
  await settleDown(6);
  prepared?.();
  await settleDown(6);
  const told = source.acknowledged.map(({ token, values, error }) => [token, values, error?.code]);
  t.deepEqual(
    told.sort((a, b) => Number(a[0]) - Number(b[0])),
    [
      [1, [1], undefined],
      [2, [2, -2], undefined],
      [3, [], undefined],
      [4, [], 'OPERATOR_FAILED'],
    ],
  );
  // Also where no delivery follows: a filter took the record, and the source is idle.
  await source.give(new Stamped(3, { token: 5 }));
  clock.advance(10);
  await settleDown(6);
  prepared?.();
  await settleDown(6);
  t.is(source.acknowledged.length, 5);
  stop.abort();
  const report = await running;
  t.is(report.delivery, 'at-least-once');
});

test('records without a token, or given again while theirs is not acknowledged, are worth at least once, and said so', async (t) => {
  const named = (n: number): Stamped<number> => new Stamped(n, { token: { n } });
  const gives: Record<string, { items: SourceItem<number>[][]; delivery: string }> = {
    'a token each': { items: [[named(1), new Watermark(5), named(2)], [named(3)]], delivery: 'exactly-once' },
    'no stamp': { items: [[named(1), 2]], delivery: 'at-least-once' },
    'no token': { items: [[new Stamped(1, { timestamp: 1 })]], delivery: 'at-least-once' },
    'two under way': { items: [[named(1), named(1)]], delivery: 'at-least-once' },
    'again before it is acknowledged': { items: [[named(1)], [named(1)]], delivery: 'at-least-once' },
  };
  for (const [title, { items, delivery }] of Object.entries(gives)) {
    const world = testWorld();
    const source = new HandSource<number>('acknowledging');
    const stop = new AbortController();
    const running = runIn(world, stream(source), toArray<number>(), { checkpoint, stop: stop.signal });
    await settleDown(10);
    for (const some of items) await source.give(...some);
    stop.abort();
    t.is((await running).delivery, delivery as 'exactly-once', title);
  }
  const world = testWorld();
  const source = new HandSource<number>('acknowledging');
  const stop = new AbortController();
  const running = runIn(world, stream(source), toArray<number>(), { checkpoint, stop: stop.signal });
  await settleDown(10);
  await source.give(named(1));
  world.clock.advance(100);
  await settleDown(10);
  t.is(source.acknowledged.length, 1);
  await source.give(named(1));
  stop.abort();
  t.is((await running).delivery, 'exactly-once', 'acknowledged, and so another record');
});

test('a token of two records is acknowledged when both have settled, and a resumed run drops neither', async (t) => {
  const world = testWorld();
  const kill = new AbortController();
  const source = new HandSource<number>('acknowledging');
  const pool = new HandTarget<number, number>();
  const sink = toArray<number>();
  const pipeline = (target: HandTarget<number, number>, from: HandSource<number>) =>
    stream(from).infer(target, { order: 'unordered' });
  const running = runIn(world, pipeline(pool, source), sink, { checkpoint, signal: kill.signal });
  await settleDown(10);
  await source.give(new Stamped(1, { token: 'same' }), new Stamped(2, { token: 'same' }), new Stamped(3, { token: 3 }));
  await pool.holds(3);
  for (const n of [1, 3]) {
    const submission = pool.waiting.find(({ input }) => input === n) as (typeof pool.waiting)[number];
    pool.answer(submission, n);
  }
  await settleDown(6);
  world.clock.advance(100);
  await settleDown(20);
  t.deepEqual(
    source.acknowledged.map(({ token }) => token),
    [3],
    'one of the two is under way',
  );
  kill.abort();
  t.is((await running).delivery, 'at-least-once');
  const again = new HandSource<number>('acknowledging');
  const second = new HandTarget<number, number>();
  const stop = new AbortController();
  const resumed = runIn({ ...world, clock: new VirtualClock() }, pipeline(second, again), sink, {
    checkpoint,
    stop: stop.signal,
  });
  await settleDown(10);
  await again.give(new Stamped(1, { token: 'same' }), new Stamped(2, { token: 'same' }));
  await second.holds(2);
  for (const submission of [...second.waiting]) second.answer(submission, submission.input);
  stop.abort();
  const report = await resumed;
  t.is(report.delivery, 'at-least-once');
  t.deepEqual(sink.values, [1, 3, 1, 2]);
  t.deepEqual(
    again.acknowledged.map(({ token }) => token),
    [3, 'same'],
    'what the first run could not be sure of, and then both as one',
  );
});

test('a source that cannot acknowledge ends a run without checkpoints', async (t) => {
  const source: Source<number> = {
    name: 'queue',
    open: () => {
      let count = 0;
      return {
        read: () => (count++ === 0 ? [new Stamped(1, { token: 1 })] : new Promise(() => undefined)),
        acknowledge: () => Promise.reject(new Error('gone')),
        close: () => undefined,
      };
    },
  };
  await t.throwsAsync(stream(source).to(forEach(() => undefined)), {
    code: 'SOURCE_FAILED',
    message: 'Source queue could not acknowledge: gone',
  });
});

test('control elements reach the sink in their place, and not again after a resume', async (t) => {
  const world = testWorld();
  const source: Source<number> = {
    name: 'marked',
    open: (from) => {
      const items = [1, new Watermark(10), 2, 3, new Control('end of day'), 4];
      let next = (from?.position as number | undefined) ?? 0;
      return {
        read: () => {
          if (next === items.length) return undefined;
          next += 3;
          return items.slice(next - 3, next);
        },
        position: () => next,
        close: () => undefined,
      };
    },
  };
  const seen: unknown[] = [];
  const sink: Sink<number> = {
    name: 'log',
    write: (values) => void seen.push(...values),
    control: (element) => void seen.push(element.name),
    prepare: () => seen.length,
    open: (resume) => void seen.splice((resume?.state as number | undefined) ?? 0),
    close: () => undefined,
  };
  const pipeline = stream(source)
    .map((n) => n * 10)
    .filter(() => true);
  const report = await runIn(world, pipeline, sink, { checkpoint });
  t.deepEqual(seen, [10, 'watermark', 20, 30, 'end of day', 40]);
  t.like(report, { records: 4, results: 4 });
  await runIn({ ...world, clock: new VirtualClock() }, pipeline, sink, { checkpoint });
  t.deepEqual(seen, [10, 'watermark', 20, 30, 'end of day', 40]);
});

test('records of a source that is neither come from the checkpoint as they were, with results that were there', async (t) => {
  const world = testWorld();
  const trigger = new CheckpointTrigger();
  const kill = new AbortController();
  const first = new HandSource<{ n: number; at: Date }>();
  const pool = new HandTarget<number, number>();
  const pipelineOf = (source: Source<{ n: number; at: Date }>, target: HandTarget<number, number>) =>
    stream(source)
      .map((record) => {
        record.n += 100; // In place: the checkpoint must not see it.
        return record;
      })
      .infer(target, { input: ({ n }) => n, output: ({ n, at }, y) => ({ n, at, y }) });
  const sink = toArray<{ n: number; at: Date; y: number }>();
  const running = runIn(world, pipelineOf(first, pool), sink, {
    checkpoint: { ...checkpoint, trigger },
    signal: kill.signal,
  });
  await settleDown(10);
  const at = new Date(5);
  await first.give({ n: 1, at }, { n: 2, at }, new Stamped({ n: 3, at }, { timestamp: 7 }));
  await pool.holds(3);
  // The second is finished and waits for the first.
  pool.answer(pool.waiting[1] as (typeof pool.waiting)[number], 22);
  await settleDown(4);
  await trigger.now();
  kill.abort();
  await running;
  const again = new HandTarget<number, number>();
  const second = new HandSource<{ n: number; at: Date }>();
  const resumed = runIn({ ...world, clock: new VirtualClock() }, pipelineOf(second, again), sink, { checkpoint });
  await again.holds(2);
  await settleDown(4);
  t.deepEqual(
    again.waiting.map(({ input }) => input),
    [101, 103],
    'what was finished is not computed again',
  );
  for (const submission of [...again.waiting]) again.answer(submission, submission.input);
  await settleDown(6);
  second.end();
  const report = await resumed;
  t.deepEqual(sink.values, [
    { n: 101, at, y: 101 },
    { n: 102, at, y: 22 },
    { n: 103, at, y: 103 },
  ]);
  t.is(report.delivery, undefined);
});

test('a record that cannot be copied into a checkpoint fails alone, by name, and is known after a crash', async (t) => {
  const world = testWorld();
  const kill = new AbortController();
  const trigger = new CheckpointTrigger();
  const pool = new HandTarget<unknown, number>();
  const sink = toArray<number>();
  const letters = toArray<DeadLetter>();
  const first = new HandSource<unknown>();
  const running = runIn(world, stream(first).infer(pool), sink, {
    checkpoint: { ...checkpoint, trigger },
    deadLetters: letters,
    signal: kill.signal,
  });
  await settleDown(10);
  const odd = { n: 2, fn: () => 2 };
  await first.give({ n: 1 }, odd, new Stamped({ n: 3, fn: () => 3 }, { timestamp: 7, metadata: { at: odd } }), {
    n: 4,
  });
  await pool.holds(2);
  await trigger.now();
  kill.abort();
  await running;
  t.deepEqual(letters.values, [], 'their places are behind the first, which is under way');
  const again = new HandTarget<unknown, number>();
  const second = new HandSource<unknown>();
  const resumed = runIn({ ...world, clock: new VirtualClock() }, stream(second).infer(again), sink, {
    checkpoint,
    deadLetters: letters,
  });
  await again.holds(2);
  for (const submission of [...again.waiting]) again.answer(submission, (submission.input as { n: number }).n);
  await settleDown(6);
  await second.give(odd);
  second.end();
  t.like(await resumed, { results: 2, deadLetters: 3, errors: { INPUT_INVALID: 3 }, checkpoints: { failed: 0 } });
  t.deepEqual(sink.values, [1, 4]);
  const [one, two, three] = letters.values;
  t.like(one, { input: { n: 2, fn: '[function fn]' }, seq: 1 });
  t.like(two, { input: { n: 3, fn: '[function fn]' }, seq: 2, timestamp: 7, metadata: { at: { n: 2 } } });
  t.regex(two?.error.message ?? '', /^Record 2 cannot be copied into a checkpoint: .* could not be cloned/);
  t.like(
    three,
    { input: { n: 2, fn: '[function fn]' }, error: { code: 'INPUT_INVALID' } },
    'in the run it came to, too',
  );
});

test('what is no record and cannot be copied has its own end: a failure stays what it was, a control ends the run', async (t) => {
  const fn = (): number => 1;
  const failing = new RecordFailure(new TroupeError('FILE_UNREADABLE', 'no right'), { fn });
  const letters = toArray<DeadLetter>();
  const source = fromIterable(new Set([failing]));
  await runIn(testWorld(), stream(source), toArray(), { checkpoint, deadLetters: letters });
  t.like(letters.values, { 0: { error: { code: 'FILE_UNREADABLE' }, input: { fn: '[function fn]' } } });
  const odd = fromIterable(new Set([new Control('mark', fn)]));
  await t.throwsAsync(runIn(testWorld(), stream(odd), toArray(), { checkpoint }), {
    code: 'SOURCE_FAILED',
    message: /the data of control element "mark" must be JSON: .* could not be cloned/,
  });
});

test('a result that cannot be copied does not stand in a checkpoint: the next run asks for it again', async (t) => {
  const world = testWorld();
  const kill = new AbortController();
  const trigger = new CheckpointTrigger();
  const pool = new HandTarget<number, () => number>();
  const source = new HandSource<number>();
  const running = runIn(world, stream(source).infer(pool), toArray(), {
    checkpoint: { ...checkpoint, trigger },
    signal: kill.signal,
  });
  await settleDown(10);
  await source.give(1, 2);
  await pool.holds(2);
  pool.answer(pool.waiting[1] as (typeof pool.waiting)[number], () => 2);
  await settleDown(4);
  t.is(await trigger.now(), 2);
  kill.abort();
  await running;
  const again = new HandTarget<number, number>();
  const second = new HandSource<number>();
  const sink = toArray<number>();
  const resumed = runIn({ ...world, clock: new VirtualClock() }, stream(second).infer(again), sink, { checkpoint });
  await again.holds(2);
  for (const submission of [...again.waiting]) again.answer(submission, submission.input);
  await settleDown(6);
  second.end();
  await resumed;
  t.deepEqual(sink.values, [1, 2]);
});

test('the size of a checkpoint does not grow with the records of a replayable source', async (t) => {
  const sizeWith = async (bytes: number): Promise<number> => {
    const world = testWorld();
    const trigger = new CheckpointTrigger();
    const kill = new AbortController();
    const pool = new HandTarget<string, number>();
    const records = Array.from({ length: 50 }, () => 'x'.repeat(bytes));
    const running = runIn(world, stream(fromIterable(records)).infer(pool), toArray<number>(), {
      checkpoint: { ...checkpoint, trigger },
      signal: kill.signal,
    });
    await pool.holds(50);
    await settleDown(10);
    pool.answer(pool.waiting[0] as (typeof pool.waiting)[number], 1);
    await settleDown(4);
    const number = await trigger.now();
    kill.abort();
    await running;
    return world.disk.image.get(`/c/${String(number).padStart(12, '0')}.data`)?.length ?? 0;
  };
  const small = await sizeWith(10);
  t.true(small > 0 && small < 1000, `${small} bytes`);
  t.is(await sizeWith(100_000), small);
});

test('retries that were used up before a crash are not given again', async (t) => {
  const world = testWorld();
  const trigger = new CheckpointTrigger();
  const kill = new AbortController();
  const options = { retry: { attempts: 2, backoffMs: 1, jitter: 0, rules: { PREDICT_FAILED: {} } } } as const;
  const pool = new HandTarget<number, number>();
  const source = fromIterable([7]);
  const running = runIn(world, stream(source).infer(pool, options), toArray<number>(), {
    checkpoint: { ...checkpoint, trigger },
    signal: kill.signal,
  });
  await pool.holds(1);
  pool.fail(pool.waiting[0] as (typeof pool.waiting)[number], new TroupeError('PREDICT_FAILED', 'no'));
  await settleDown(4);
  world.clock.advance(50);
  await pool.holds(1);
  await trigger.now();
  kill.abort();
  await running;
  const again = new HandTarget<number, number>();
  const resumed = runIn(
    { ...world, clock: new VirtualClock() },
    stream(source).infer(again, options),
    toArray<number>(),
    {
      checkpoint,
    },
  );
  await again.holds(1);
  again.fail(again.waiting[0] as (typeof again.waiting)[number], new TroupeError('PREDICT_FAILED', 'no'));
  t.like(await resumed, { failed: 1, errors: { PREDICT_FAILED: 1 } });
  t.is(again.offered, 1);
});

test('wrong options of checkpoints are refused at once', (t) => {
  const to = (options: object) => () => stream(fromIterable([1])).to(toArray(), { checkpoint: options } as ToOptions);
  t.throws(to({}), { instanceOf: TypeError, message: /checkpoint\.dir must be a path, got undefined/ });
  t.throws(to({ dir: 'c', interval: 5 }), { instanceOf: TypeError, message: /unknown option "interval"/ });
  t.throws(to({ dir: 'c', intervalMs: 0 }), { instanceOf: TypeError, message: /checkpoint\.intervalMs/ });
  t.throws(to({ dir: 'c', onFailure: 'ignore' }), { instanceOf: TypeError, message: /one of stop, continue/ });
  t.throws(to({ dir: 'c', trigger: {} }), { instanceOf: TypeError, message: /a CheckpointTrigger/ });
});
