/**
 * The conformance kit for sinks: what a pipeline relies on, tried on the real thing. A sink is checked by a stand,
 * a small object that prepares a place to write to, reads it back, and can disturb it.
 */
import { Envelope, Watermark, type RecordInfo } from '../../stream/envelope.js';
import { wordsOf } from '../../stream/foreign.js';
import type { Sink } from '../../stream/sink.js';
import {
  NotApplicable,
  expect,
  expectEqual,
  inTime,
  runChecks,
  settles,
  type Check,
  type ConformanceReport,
} from './report.js';

/** An empty place of its own for one check. */
export interface SinkStand {
  /** A sink over the place; each call gives another one, as another run of the same program has. */
  sink(): Sink<never>;
  /** What the place holds, in order, as JSON values. */
  values(): unknown[] | Promise<unknown[]>;
  /** Breaks every connection of the sink once, as a network does. The place stays. */
  disconnect?(): Promise<void>;
  /** From now on the place takes nothing and says nothing. */
  stall?(): Promise<void>;
  /** From now on the place refuses everything. */
  refuse?(): Promise<void>;
  /** Gives everything back. */
  close?(): Promise<void>;
}

export interface SinkSubject {
  stand(): Promise<SinkStand>;
  /** A value it cannot write. Default a bigint; null where it takes anything. */
  readonly unwritable?: { readonly value: unknown } | null;
  /** A sink that can never be opened, such as one for a missing directory. */
  unreachable?(): Sink<never>;
  /** A new run of the sink begins an empty place. Default false: it adds to what is there. */
  readonly beginsAnew?: boolean;
}

/** Tries a sink against the contract of Sink. Give it any test runner's assertion: `passed` is all. */
export function checkSink(name: string, subject: SinkSubject): Promise<ConformanceReport> {
  return runChecks(name, CHECKS, subject);
}

const VALUES = Array.from({ length: 25 }, (_, n) => ({ n, text: `wért ${n}` }));

const CHECKS: readonly Check<SinkSubject>[] = [
  [
    'it has a name',
    async (subject) => {
      await within(subject, async (stand) => {
        const { name } = stand.sink();
        expect(typeof name === 'string' && name !== '', 'sink.name must be a string that is not empty');
      });
    },
  ],
  [
    'after close it has written every value once, in order',
    async (subject) => {
      for (const size of [1, 7, VALUES.length]) {
        await within(subject, async (stand) => {
          await writing(stand.sink(), async (sink) => write(sink, VALUES, 0, size));
          expectEqual(await stand.values(), VALUES, `writes of ${size}`);
        });
      }
    },
  ],
  [
    'it can be opened and closed without a value',
    async (subject) => {
      await within(subject, async (stand) => {
        await writing(stand.sink(), async () => undefined);
        expectEqual(await stand.values(), [], 'the place');
      });
    },
  ],
  [
    'a later run adds to the place or begins it anew, as the sink says',
    async (subject) => {
      await within(subject, async (stand) => {
        await writing(stand.sink(), async (sink) => write(sink, VALUES.slice(0, 5)));
        await writing(stand.sink(), async (sink) => write(sink, VALUES.slice(5, 10), 5));
        const expected = subject.beginsAnew === true ? VALUES.slice(5, 10) : VALUES.slice(0, 10);
        expectEqual(await stand.values(), expected, 'the place');
      });
    },
  ],
  [
    'one sink serves several runs, one after the other',
    async (subject) => {
      await within(subject, async (stand) => {
        const sink = stand.sink();
        await writing(sink, async () => write(sink, VALUES.slice(0, 5)));
        await writing(sink, async () => write(sink, VALUES.slice(5, 10), 5));
        const expected = subject.beginsAnew === true ? VALUES.slice(5, 10) : VALUES.slice(0, 10);
        expectEqual(await stand.values(), expected, 'the place');
      });
    },
  ],
  [
    'control elements between values change nothing',
    async (subject) => {
      await within(subject, async (stand) => {
        await writing(stand.sink(), async (sink) => {
          await write(sink, VALUES.slice(0, 2));
          await inTime(sink.control?.(new Watermark(1000)), 'control');
          await write(sink, VALUES.slice(2, 4), 2);
        });
        expectEqual(await stand.values(), VALUES.slice(0, 4), 'the place');
      });
    },
  ],
  [
    'idempotent: a record that is written again is there once',
    async (subject) => {
      await within(subject, async (stand) => {
        await writing(stand.sink(), async (sink) => {
          if (sink.isIdempotent !== true) throw new NotApplicable('it does not say so');
          await write(sink, VALUES.slice(0, 10));
          await write(sink, VALUES.slice(3, 12), 3);
        });
        expectEqual(await stand.values(), VALUES.slice(0, 12), 'the place');
      });
    },
  ],
  [
    'a run that goes on from prepare() has the values before it once and those after it as written anew',
    async (subject) => {
      await within(subject, async (stand) => {
        let state: unknown;
        const first = stand.sink();
        await opened(first, async () => {
          if (first.prepare === undefined) throw new NotApplicable('it has no prepare');
          await write(first, VALUES.slice(0, 10));
          const json = JSON.stringify(await inTime(first.prepare() as Promise<unknown>, 'prepare')) as
            | string
            | undefined;
          state = json === undefined ? undefined : (JSON.parse(json) as unknown);
          await inTime(first.commit?.(state), 'commit');
          await write(first, VALUES.slice(10, 15), 10);
          await inTime(first.abort === undefined ? first.close() : first.abort(), 'abort');
        });
        const second = stand.sink();
        await opened(
          second,
          async () => {
            await inTime(second.commit?.(state), 'commit that comes again');
            await write(second, VALUES.slice(10), 10);
            await inTime(second.close(), 'close');
          },
          { state },
        );
        expectEqual(await stand.values(), VALUES, 'the place');
      });
    },
  ],
  [
    'a broken connection costs no value',
    async (subject) => {
      await within(subject, async (stand) => {
        if (stand.disconnect === undefined) throw new NotApplicable('it has no connection');
        await writing(stand.sink(), async (sink) => {
          await write(sink, VALUES.slice(0, 10));
          await stand.disconnect?.();
          await write(sink, VALUES.slice(10), 10);
        });
        const values = (await stand.values()).map((value) => JSON.stringify(value));
        expectEqual(
          [...new Set(values)],
          VALUES.map((value) => JSON.stringify(value)),
          'the place, doubles aside',
        );
      });
    },
  ],
  [
    'a place that takes nothing holds the writer back, and abort ends it',
    async (subject) => {
      await within(subject, async (stand) => {
        if (stand.stall === undefined) throw new NotApplicable('it never makes its writer wait');
        const sink = stand.sink();
        await inTime(sink.open?.(), 'open');
        await stand.stall();
        let last: Promise<void> = Promise.resolve();
        let isHeld = false;
        // Buffers on the way take some: 64 MiB is more than any of them should.
        const big = { text: 'x'.repeat(65_536) };
        for (let count = 0; count < 1024 && !isHeld; count += 1) {
          last = Promise.resolve(sink.write([big as never], [info(count)]));
          last.catch(() => undefined);
          isHeld = !(await settles(last, count < 1000 ? 20 : 200));
        }
        expect(isHeld, '64 MiB were taken though nobody read them');
        await inTime(sink.abort === undefined ? sink.close() : sink.abort(), 'abort while a write is open');
      });
    },
  ],
  [
    'a value that cannot be written fails the run with words',
    async (subject) => {
      const { unwritable = { value: 1n } } = subject;
      if (unwritable === null) throw new NotApplicable('it takes any value');
      await within(subject, async (stand) => {
        const cause = await failureOf(stand.sink(), [unwritable.value]);
        expect(cause instanceof Error && cause.message !== '', `it failed with ${wordsOf(cause)}`);
      });
    },
  ],
  [
    'a place that refuses fails the run, and names itself',
    async (subject) => {
      await within(subject, async (stand) => {
        if (stand.refuse === undefined) throw new NotApplicable('the stand cannot make it refuse');
        const sink = stand.sink();
        const cause = await failureOf(sink, VALUES, stand.refuse.bind(stand));
        expect(cause instanceof Error, 'nothing failed');
        expect(cause.message.includes(sink.name), `"${cause.message}" does not name ${sink.name}`);
      });
    },
  ],
  [
    'a place that is not there fails it before anything is written, naming the place',
    async (subject) => {
      if (subject.unreachable === undefined) throw new NotApplicable('it can always be opened');
      const sink = subject.unreachable();
      let cause: unknown;
      try {
        await inTime(sink.open?.(), 'open');
      } catch (reason) {
        cause = reason;
      }
      expect(cause instanceof Error, 'open resolved');
      expect(cause.message.includes(sink.name), `"${cause.message}" does not name ${sink.name}`);
    },
  ],
];

async function within(subject: SinkSubject, check: (stand: SinkStand) => Promise<void>): Promise<void> {
  const stand = await inTime(subject.stand(), 'the stand');
  try {
    await check(stand);
  } finally {
    await stand.close?.();
  }
}

async function writing(sink: Sink<never>, check: (sink: Sink<never>) => Promise<void>): Promise<void> {
  await opened(sink, async () => {
    await check(sink);
    await inTime(sink.close(), 'close');
  });
}

/** The check ends the sink itself; only where it fails before that, this does. */
async function opened(sink: Sink<never>, check: () => Promise<void>, resume?: { state: unknown }): Promise<void> {
  await inTime(sink.open?.(resume), 'open');
  try {
    await check();
  } catch (cause) {
    await Promise.resolve(sink.abort === undefined ? sink.close() : sink.abort()).catch(() => undefined);
    throw cause;
  }
}

async function write(
  sink: Sink<never>,
  values: readonly unknown[],
  firstSeq = 0,
  size: number = values.length,
): Promise<void> {
  for (let from = 0; from < values.length; from += size) {
    const some = values.slice(from, from + size);
    const records = some.map((_, index) => info(firstSeq + from + index));
    await inTime(sink.write(some as never[], records), `write of ${some.length} values`);
  }
}

/** What opening, writing or closing failed with. */
async function failureOf(
  sink: Sink<never>,
  values: readonly unknown[],
  meanwhile?: () => Promise<void>,
): Promise<unknown> {
  try {
    await inTime(sink.open?.(), 'open');
    await meanwhile?.();
    await inTime(
      sink.write(
        values as never[],
        values.map((_, index) => info(index)),
      ),
      'write',
    );
    await inTime(sink.close(), 'close');
    return undefined;
  } catch (cause) {
    await Promise.resolve(sink.abort === undefined ? sink.close() : sink.abort()).catch(() => undefined);
    return cause;
  }
}

function info(seq: number): RecordInfo {
  return new Envelope(seq, undefined, 0, undefined, undefined);
}
