/**
 * The conformance kit for sources: what a pipeline relies on, tried on the real thing. A source is checked by a stand,
 * a small object that prepares a place to read from and can disturb it; what a stand cannot do is not checked, and the
 * report says so.
 */
import { TroupeError, isTroupeError } from '../../kernel/errors.js';
import { Control, RecordFailure, Stamped } from '../../stream/envelope.js';
import type { Acknowledgement, Source, SourceReader } from '../../stream/source.js';
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

/** A place of its own that holds the records of one check. */
export interface SourceStand {
  /** Reads the place; opened several times, one after the other. */
  readonly source: Source<unknown>;
  /** True: the source ends after the records, without more being done. */
  readonly ends: boolean;
  /** Adds records; where it is missing a place holds what it was made with. */
  add?(records: readonly unknown[]): Promise<void>;
  /** Breaks every connection of the source once, as a network does. The place stays. */
  disconnect?(): Promise<void>;
  /** Records that have left the place and not been given by `read`, where the source has a read-ahead of its own. */
  readAhead?(): number | Promise<number>;
  /** Brings what was acknowledged with an error back at once, where only time would do it. */
  redeliver?(): Promise<void>;
  /** Gives everything back. */
  close?(): Promise<void>;
}

export interface SourceSubject {
  /** A new stand that holds these records, JSON values all; `bad` places one that cannot be read after them. */
  stand(records: readonly unknown[], options?: { readonly bad?: boolean }): Promise<SourceStand>;
  /** False: a place with a bad record cannot be made. Default true. */
  readonly hasBadRecords?: boolean;
  /** A source that can never be opened, such as one for a missing file or a closed port. */
  unreachable?(): Source<unknown>;
  /** An acknowledgement with an error brings the record again, or ends it. Default again. */
  readonly afterError?: 'again' | 'ends';
  /** Most records the source may take from its place before they are read. Default 1024. */
  readonly readAheadMax?: number;
}

/** Tries a source against the contract of Source and SourceReader. Give it any test runner's assertion: `passed` is all. */
export function checkSource(name: string, subject: SourceSubject): Promise<ConformanceReport> {
  return runChecks(name, CHECKS, subject);
}

const RECORDS = Array.from({ length: 25 }, (_, n) => ({ n, text: `récord ${n}` }));

const CHECKS: readonly Check<SourceSubject>[] = [
  [
    'it has a name',
    async (subject) => {
      await within(subject, RECORDS.slice(0, 1), async ({ source }) => {
        expect(typeof source.name === 'string' && source.name !== '', 'source.name must be a string that is not empty');
      });
    },
  ],
  [
    'it gives every record once, in order, at most max at a time and never none',
    async (subject) => {
      for (const max of [1, 7, 1000]) {
        await within(subject, RECORDS, async ({ source }) => {
          await reading(source, async (reader) => {
            const items = await take(reader, RECORDS.length, max);
            expectEqual(valuesOf(items), RECORDS, `read(${max})`);
            await settle(reader, items);
          });
        });
      }
    },
  ],
  [
    'it ends with undefined, and stays ended',
    async (subject) => {
      await within(subject, RECORDS, async ({ source, ends }) => {
        if (!ends) throw new NotApplicable('it waits for more records');
        await reading(source, async (reader) => {
          const items = await take(reader, RECORDS.length, 1000);
          await settle(reader, items);
          for (let round = 0; round < 2; round += 1) {
            expectEqual(await inTime(reader.read(10), 'read at the end'), undefined, 'after the last record');
          }
        });
      });
    },
  ],
  [
    'it waits for records that come later',
    async (subject) => {
      await within(subject, [], async (stand) => {
        const { source, add } = stand;
        if (add === undefined) throw new NotApplicable('its records are there from the beginning');
        await reading(source, async (reader) => {
          const first = Promise.resolve(reader.read(10));
          expect(!(await settles(first, 50)), 'read settled though there was no record');
          await stand.add?.(RECORDS.slice(0, 1));
          const items = (await inTime(first, 'a read that waited')) ?? [];
          expectEqual(valuesOf(items), RECORDS.slice(0, 1), 'the record that came');
          await settle(reader, items);
        });
      });
    },
  ],
  [
    'close ends it while a read is open, and it can be opened again',
    async (subject) => {
      await within(subject, [], async (stand) => {
        const { source, ends, add } = stand;
        if (ends) throw new NotApplicable('a read never waits');
        const reader = await inTime(source.open(), 'open');
        const open = Promise.resolve(reader.read(10));
        const quiet = open.then(
          () => undefined,
          () => undefined,
        );
        await inTime(reader.close(), 'close while a read is open');
        await inTime(quiet, 'the read that was open');
        await stand.add?.(RECORDS);
        await reading(source, async (again) => {
          const items = await take(again, add === undefined ? 0 : RECORDS.length, 10);
          expectEqual(valuesOf(items), add === undefined ? [] : RECORDS, 'after it was opened again');
          await settle(again, items);
        });
      });
    },
  ],
  [
    'it takes no more from its place than is read, but for a bounded read-ahead',
    async (subject) => {
      const many = Array.from({ length: 3000 }, (_, n) => n);
      await within(subject, many, async (stand) => {
        const { source, readAhead } = stand;
        if (readAhead === undefined) throw new NotApplicable('the stand cannot see what was taken');
        await reading(source, async (reader) => {
          const items = await take(reader, 10, 10);
          await settles(new Promise(() => undefined), 100);
          const held = (await stand.readAhead?.()) ?? 0;
          expect(held <= (subject.readAheadMax ?? 1024), `${held} records were taken and not read`);
          await settle(reader, items);
        });
      });
    },
  ],
  [
    'every record has a token of its own, which a checkpoint can hold',
    async (subject) => {
      await within(subject, RECORDS, async ({ source }) => {
        await reading(source, async (reader) => {
          needAcknowledge(reader);
          const items = await take(reader, RECORDS.length, 7);
          const tokens = items.map((item) => (item instanceof Stamped ? item.token : undefined));
          const missing = tokens.indexOf(undefined);
          expect(missing < 0, `record ${missing + 1} has none; give it with new Stamped(value, { token })`);
          const texts = tokens.map((token) => JSON.stringify(token) as string | undefined);
          expect(!texts.includes(undefined), 'a token is no JSON');
          expectEqual(new Set(texts).size, RECORDS.length, 'different tokens');
          await settle(reader, items);
        });
      });
    },
  ],
  [
    'what was acknowledged does not come again, and what was not does',
    async (subject) => {
      await within(subject, RECORDS, async ({ source }) => {
        await reading(source, async (reader) => {
          needAcknowledge(reader);
          const items = await take(reader, RECORDS.length, 10);
          await settle(
            reader,
            items.filter((_, index) => index % 2 === 0),
          );
        });
        const left = RECORDS.filter((_, index) => index % 2 === 1);
        await reading(source, async (reader) => {
          const items = await take(reader, left.length, 10);
          expectEqual(valuesOf(items), left, 'after it was opened again');
          await settle(reader, items);
        });
        await reading(source, async (reader) => expectNothing(reader));
      });
    },
  ],
  [
    'an acknowledgement that is told twice, or in another run, does no harm',
    async (subject) => {
      await within(subject, RECORDS, async ({ source }) => {
        let items: readonly unknown[] = [];
        await reading(source, async (reader) => {
          needAcknowledge(reader);
          items = await take(reader, RECORDS.length, 1000);
          const some = items.slice(0, 5);
          await settle(reader, some);
          await settle(reader, some);
        });
        await reading(source, async (reader) => {
          await settle(reader, items.slice(0, 10));
          const rest = await take(
            reader,
            RECORDS.length - 10,
            1000,
            new Set(RECORDS.slice(5, 10).map((record) => JSON.stringify(record))),
          );
          expectEqual(valuesOf(rest), RECORDS.slice(10), 'the records without acknowledgement');
          await settle(reader, rest);
        });
      });
    },
  ],
  [
    "a name it gives a record is the record's alone, and the same when it comes again",
    async (subject) => {
      await within(subject, RECORDS, async ({ source }) => {
        let names: unknown[] = [];
        await reading(source, async (reader) => {
          if (reader.namesRecords !== true) throw new NotApplicable('it does not name its records');
          names = keysOf(await take(reader, RECORDS.length, 1000));
          expect(
            names.every((name) => typeof name === 'string' && name !== ''),
            'metadata.key must be a string',
          );
          expectEqual(new Set(names).size, RECORDS.length, 'different names');
        });
        await reading(source, async (reader) => {
          const items = await take(reader, RECORDS.length, 1000);
          expectEqual(keysOf(items), names, 'the names at the second delivery');
          await settle(reader, items);
        });
      });
    },
  ],
  [
    'a record that failed comes again, or ends, as the source says, and holds up no other',
    async (subject) => {
      await within(subject, RECORDS, async (stand) => {
        const error = new TroupeError('PREDICT_FAILED', 'the model said no');
        await reading(stand.source, async (reader) => {
          needAcknowledge(reader);
          const items = await take(reader, RECORDS.length, 1000);
          await settle(reader, items.slice(0, 1), error);
          await settle(reader, items.slice(1));
        });
        await stand.redeliver?.();
        await reading(stand.source, async (reader) => {
          if (subject.afterError === 'ends') return expectNothing(reader);
          const again = await take(reader, 1, 10);
          expectEqual(valuesOf(again), RECORDS.slice(0, 1), 'the record that failed');
          return settle(reader, again);
        });
      });
    },
  ],
  [
    'from every position it goes on with exactly the records that came after it',
    async (subject) => {
      await within(subject, RECORDS, async ({ source }) => {
        const positions: unknown[] = [];
        await reading(source, async (reader) => {
          if (reader.position === undefined) throw new NotApplicable('it is not replayable');
          positions.push(reader.position());
          for (let count = 0; count < RECORDS.length; ) {
            count += (await take(reader, Math.min(3, RECORDS.length - count), 3)).length;
            positions[count] = reader.position();
          }
        });
        for (const [count, position] of positions.entries()) {
          if (position === undefined) continue;
          const json = JSON.stringify(position) as string | undefined;
          expect(json !== undefined, `the position after ${count} records is no JSON`);
          await reading(
            source,
            async (reader) => {
              const rest = await take(reader, RECORDS.length - count, 4);
              expectEqual(valuesOf(rest), RECORDS.slice(count), `from the position after ${count} records`);
            },
            { position: JSON.parse(json) as unknown },
          );
        }
      });
    },
  ],
  [
    'a broken connection costs no record',
    async (subject) => {
      await within(subject, RECORDS, async (stand) => {
        const { source, disconnect } = stand;
        if (disconnect === undefined) throw new NotApplicable('it has no connection');
        await reading(source, async (reader) => {
          const before = await take(reader, 10, 5);
          await settle(reader, before);
          await stand.disconnect?.();
          const after = await take(
            reader,
            RECORDS.length - 10,
            5,
            new Set(valuesOf(before).map((value) => JSON.stringify(value))),
          );
          expectEqual(valuesOf(after), RECORDS.slice(10), 'after the connection broke');
          await settle(reader, after);
        });
      });
    },
  ],
  [
    'a record that cannot be read takes its place as a RecordFailure, and costs no other',
    async (subject) => {
      if (subject.hasBadRecords === false) throw new NotApplicable('every record of it can be read');
      const stand = await inTime(subject.stand(RECORDS.slice(0, 2), { bad: true }), 'the stand');
      try {
        await stand.add?.(RECORDS.slice(2, 3));
        await reading(stand.source, async (reader) => {
          const items = await take(reader, stand.add === undefined ? 3 : 4, 10);
          const [first, second, bad, ...rest] = items.map(plain);
          expectEqual([first, second], RECORDS.slice(0, 2), 'the records before it');
          expect(bad instanceof RecordFailure, `it came as ${JSON.stringify(bad)}`);
          expect(isTroupeError(bad.error) && bad.error.message !== '', 'its error must be a TroupeError with words');
          expectEqual(rest, stand.add === undefined ? [] : RECORDS.slice(2, 3), 'the record after it');
          await settle(reader, items);
        });
      } finally {
        await stand.close?.();
      }
    },
  ],
  [
    'a place that is not there fails it with a TroupeError that names the place',
    async (subject) => {
      if (subject.unreachable === undefined) throw new NotApplicable('it can always be opened');
      const source = subject.unreachable();
      const cause = await inTime(failureOf(source), 'the failure');
      expect(isTroupeError(cause), `it failed with ${String(cause)}`);
      expect(cause.message.includes(source.name), `"${cause.message}" does not name ${source.name}`);
    },
  ],
];

/** By the key of its metadata, where a source says that it names its records. */
function keysOf(items: readonly unknown[]): unknown[] {
  return items.map((item) => {
    const metadata = item instanceof Stamped ? item.metadata : undefined;
    return typeof metadata === 'object' && metadata !== null && 'key' in metadata ? metadata.key : undefined;
  });
}

async function within(
  subject: SourceSubject,
  records: readonly unknown[],
  check: (stand: SourceStand) => Promise<void>,
): Promise<void> {
  const stand = await inTime(subject.stand(records), 'the stand');
  try {
    await check(stand);
  } finally {
    await stand.close?.();
  }
}

async function reading(
  source: Source<unknown>,
  check: (reader: SourceReader<unknown>) => Promise<void>,
  from?: { readonly position: unknown },
): Promise<void> {
  const reader = await inTime(source.open(from), 'open');
  try {
    await check(reader);
  } finally {
    await inTime(reader.close(), 'close');
  }
}

/** Reads `count` records; those in `ignored` may come, because delivery is at least once, and are acknowledged. */
async function take(
  reader: SourceReader<unknown>,
  count: number,
  max: number,
  ignored: ReadonlySet<string> = new Set(),
): Promise<unknown[]> {
  const items: unknown[] = [];
  while (items.length < count) {
    const read = await inTime(reader.read(max), `read after ${items.length} of ${count} records`);
    if (read === undefined) break;
    expect(read.length > 0, 'read gave no record');
    expect(read.length <= max, `read(${max}) gave ${read.length} records`);
    const known = read.filter((item) => ignored.has(JSON.stringify(plain(item))));
    await settle(reader, known);
    items.push(...read.filter((item) => !(item instanceof Control) && !known.includes(item)));
  }
  return items;
}

async function settle(
  reader: SourceReader<unknown>,
  items: readonly unknown[],
  error?: Acknowledgement['error'],
): Promise<void> {
  const tokens = items.flatMap((item) => (item instanceof Stamped && item.token !== undefined ? [item.token] : []));
  if (reader.acknowledge === undefined || tokens.length === 0) return;
  const values = reader.wantsValues === true ? { values: [] } : {};
  // A token may come from a checkpoint file.
  const outcomes = tokens.map((token) => ({
    token: JSON.parse(JSON.stringify(token)) as unknown,
    ...(error === undefined ? values : { error }),
  }));
  await inTime(reader.acknowledge(outcomes), 'acknowledge');
}

async function expectNothing(reader: SourceReader<unknown>): Promise<void> {
  const read = Promise.resolve(reader.read(10));
  const quiet = read.catch(() => undefined);
  if (!(await settles(quiet, 200))) return;
  expectEqual((await read)?.map(plain), undefined, 'there should be nothing left');
}

function needAcknowledge(reader: SourceReader<unknown>): void {
  if (reader.acknowledge === undefined) throw new NotApplicable('it does not acknowledge');
}

async function failureOf(source: Source<unknown>): Promise<unknown> {
  try {
    const reader = await source.open();
    try {
      await reader.read(1);
    } finally {
      await reader.close();
    }
  } catch (cause) {
    return cause;
  }
  return undefined;
}

function plain(item: unknown): unknown {
  return item instanceof Stamped ? item.value : item;
}

function valuesOf(items: readonly unknown[]): unknown[] {
  return items.map(plain);
}
