import test from 'ava';
import { Stamped } from '../../src/stream/envelope.js';
import { runIn, stream, type ToOptions } from '../../src/stream/pipeline.js';
import { type Report, StreamError } from '../../src/stream/report.js';
import type { Sink } from '../../src/stream/sink.js';
import { toArray } from '../../src/stream/sinks/array.js';
import type { Source, SourceReader } from '../../src/stream/source.js';
import { MemoryDisk } from '../../src/testing/memory-disk.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { alone } from './checkpoint/stores.js';
import { settleDown } from './hand-target.js';

/** How a run ends whose parts do not. */

const never = new Promise<never>(() => undefined);
const MINUTE = 60_000;

function world(): { disk: MemoryDisk; clock: VirtualClock; processes: typeof alone } {
  return { disk: new MemoryDisk(), clock: new VirtualClock(), processes: alone };
}

/** Gives 1 and 2, and then its end. */
function twoNumbers(parts: Partial<SourceReader<number>> = {}): Source<number> {
  let left = [1, 2];
  return {
    name: 'numbers',
    open: () => ({
      read: () => {
        const some = left.map((n) => (parts.acknowledge === undefined ? n : new Stamped(n, { token: n })));
        left = [];
        return some.length > 0 ? some : undefined;
      },
      close: () => undefined,
      ...parts,
    }),
  };
}

/** Takes everything. */
function table(parts: Partial<Sink<number>> = {}): Sink<number> {
  return { name: 'table', write: () => undefined, close: () => undefined, ...parts };
}

/** What a run comes to that ends only when its time is up. */
async function endOf(
  clock: VirtualClock,
  running: Promise<Report>,
  timeoutMs: number,
): Promise<{ error: StreamError } | { report: Report }> {
  let end: { error: StreamError } | { report: Report } | undefined;
  running.then(
    (report) => (end = { report }),
    (error: unknown) => (end = { error: error as StreamError }),
  );
  await settleDown(20);
  clock.advance(timeoutMs - 1);
  await settleDown(20);
  if (end !== undefined) throw new Error('it ended before its time was up');
  clock.advance(1);
  await settleDown(20);
  if (end === undefined) throw new Error('it has not ended');
  return end;
}

test('a source whose close never ends is left after closeTimeoutMs, and named; the report is whole', async (t) => {
  const options: [ToOptions, number][] = [
    [{}, MINUTE],
    [{ closeTimeoutMs: 5 }, 5],
  ];
  for (const [given, timeoutMs] of options) {
    const { clock } = world();
    const sink = toArray<number>();
    const end = await endOf(
      clock,
      runIn({ clock }, stream(twoNumbers({ close: () => never })), sink, given),
      timeoutMs,
    );
    t.like(end, {
      error: {
        code: 'SOURCE_FAILED',
        message: `Source numbers failed: close() did not end within ${timeoutMs} ms (closeTimeoutMs)`,
        report: { records: 2, results: 2 },
      },
    });
    t.true('error' in end && end.error instanceof StreamError);
    t.deepEqual(sink.values, [1, 2]);
  }
});

test('a cancelled run whose source does not close has an end, too', async (t) => {
  const { clock } = world();
  const stop = new AbortController();
  const source = twoNumbers({ read: () => never, close: () => never });
  const running = runIn({ clock }, stream(source), table(), { signal: stop.signal });
  await settleDown();
  stop.abort();
  t.like(await endOf(clock, running, MINUTE), { error: { code: 'SOURCE_FAILED', report: { cancelled: true } } });
});

test('a sink whose close never ends is left after closeTimeoutMs and named, and the source is closed', async (t) => {
  const { clock } = world();
  let isClosed = false;
  const source = twoNumbers({ close: () => void (isClosed = true) });
  const end = await endOf(clock, runIn({ clock }, stream(source), table({ close: () => never })), MINUTE);
  t.like(end, {
    error: {
      code: 'SINK_FAILED',
      message: 'Sink table failed: close() did not end within 60000 ms (closeTimeoutMs)',
      report: { results: 2 },
    },
  });
  t.true(isClosed);
});

test('a sink whose abort never ends hides neither the failure of its write nor the end of the run', async (t) => {
  const { clock } = world();
  const sink = table({ write: () => Promise.reject(new Error('connection lost')), abort: () => never });
  const end = await endOf(clock, runIn({ clock }, stream(twoNumbers()), sink), MINUTE);
  t.like(end, { error: { code: 'SINK_FAILED', message: 'Sink table failed: connection lost' } });
});

test('what ends late, well or badly, changes nothing', async (t) => {
  const { clock } = world();
  let fail: (reason: Error) => void = () => undefined;
  const sink = table({ close: () => new Promise<void>((_, reject) => (fail = reject)) });
  const end = await endOf(clock, runIn({ clock }, stream(twoNumbers()), sink), MINUTE);
  fail(new Error('much later'));
  await settleDown();
  t.like(end, { error: { message: 'Sink table failed: close() did not end within 60000 ms (closeTimeoutMs)' } });
});

test('a sink that does not open, a write, prepare, commit or acknowledgement that stalls: no limit, and signal ends it', async (t) => {
  const stalls: Record<string, { sink?: Partial<Sink<number>>; source?: Partial<SourceReader<number>> }> = {
    open: { sink: { open: () => never } },
    write: { sink: { write: () => never } },
    prepare: { sink: { prepare: () => never } },
    commit: { sink: { prepare: () => 1, commit: () => never } },
  };
  for (const [what, { sink, source }] of Object.entries(stalls)) {
    const around = world();
    const signal = new AbortController();
    let isDone = false;
    const options = { signal: signal.signal, checkpoint: { dir: '/c', intervalMs: 10 } };
    const running = runIn(around, stream(twoNumbers(source)), table(sink), options);
    void running.then(() => (isDone = true));
    await settleDown(20);
    around.clock.advance(60 * MINUTE);
    await settleDown(20);
    t.false(isDone, `${what}: a slow sink holds the run back`);
    signal.abort();
    t.like(await running, { cancelled: true }, what);
  }
  const around = world();
  const signal = new AbortController();
  const source = twoNumbers({ acknowledge: () => never });
  const running = runIn(around, stream(source), table(), { signal: signal.signal });
  await settleDown(20);
  around.clock.advance(60 * MINUTE);
  await settleDown(20);
  signal.abort();
  t.like(await endOf(around.clock, running, MINUTE), {
    error: {
      code: 'SOURCE_FAILED',
      message: 'Source numbers failed: acknowledge() did not end within 60000 ms (closeTimeoutMs)',
      report: { cancelled: true },
    },
  });
});

test('a sink that opens when the run has been cancelled is closed', async (t) => {
  let open: () => void = () => undefined;
  let isClosed = false;
  const sink = table({ open: () => new Promise((resolve) => (open = resolve)), close: () => void (isClosed = true) });
  const stop = new AbortController();
  const running = stream(twoNumbers()).to(sink, { signal: stop.signal });
  await settleDown();
  stop.abort();
  t.like(await running, { cancelled: true, records: 0 });
  t.false(isClosed);
  open();
  await settleDown();
  t.true(isClosed);
});

test('a source or a sink that is still opening when the run ends is told to give up', async (t) => {
  const told: string[] = [];
  const opening = (who: string, giveUp: AbortSignal | undefined, begun: () => void): Promise<never> => {
    giveUp?.addEventListener('abort', () => told.push(who));
    begun();
    return never;
  };
  const ending = new AbortController();
  const sink = table({ open: (_resume, giveUp) => opening('sink', giveUp, () => ending.abort()) });
  t.like(await stream(twoNumbers()).to(sink, { signal: ending.signal }), { results: 0, cancelled: true });
  const stopping = new AbortController();
  const source: Source<number> = {
    name: 'away',
    open: (_from, giveUp) => opening('source', giveUp, () => stopping.abort()),
  };
  t.like(await stream(source).to(table(), { stop: stopping.signal }), { results: 0, cancelled: false });
  t.deepEqual(told, ['sink', 'source']);
});

test('a source that is refused after it was opened is closed', async (t) => {
  let closed = 0;
  const source = twoNumbers({ position: () => undefined, close: () => void (closed += 1) });
  const running = runIn(world(), stream(source), table(), { checkpoint: { dir: '/c' } });
  await t.throwsAsync(running, { code: 'SOURCE_FAILED', message: /position\(\) must give JSON/ });
  t.is(closed, 1);
});

test('closeTimeoutMs is checked at once', (t) => {
  const to = (closeTimeoutMs: number) => () => stream(twoNumbers()).to(table(), { closeTimeoutMs });
  t.throws(to(0), { instanceOf: TypeError, message: /closeTimeoutMs must be a number of milliseconds above 0, got 0/ });
  t.throws(to(Number.NaN), { instanceOf: TypeError, message: /closeTimeoutMs/ });
});
