import { appendFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { RecordFailure } from '../../../src/stream/envelope.js';
import type { Source } from '../../../src/stream/source.js';
import { fromFile, type FileFormat } from '../../../src/stream/sources/file.js';
import { fromFiles, type FileRecord } from '../../../src/stream/sources/files.js';
import { stream } from '../../../src/stream/pipeline.js';
import { toArray } from '../../../src/stream/sinks/array.js';
import { fromIterable } from '../../../src/stream/sources/iterable.js';
import { folder } from '../folder.js';

/** Every record from `position` on, with the position behind each. */
async function readAll(source: Source<unknown>, position: unknown, max: number): Promise<[unknown, unknown][]> {
  const reader = await source.open(position === undefined ? undefined : { position });
  const records: [unknown, unknown][] = [];
  try {
    for (;;) {
      const chunk = await reader.read(max);
      const behind: unknown = JSON.parse(JSON.stringify(reader.position?.()));
      if (chunk === undefined) return records;
      for (const record of chunk) records.push([plain(record), behind]);
    }
  } finally {
    await reader.close();
  }
}

function plain(record: unknown): unknown {
  return record instanceof RecordFailure ? { failed: record.error.message, input: record.input } : record;
}

const text = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.constantFrom('a,b', '"x', 'y"', '{"a":1}', '', '\r', '{', '1,"2\r', 'é€,ü', '"q""r",s'),
    },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 40_000 }).map((n) => 'z'.repeat(n)) },
    { weight: 1, arbitrary: fc.constant('a,"b,c') },
  ),
  { maxLength: 40 },
);

test('a file read on from any position gives the very records that came after it', async (t) => {
  const path = await folder(t);
  let count = 0;
  await fc.assert(
    fc.asyncProperty(
      text,
      fc.constantFrom<FileFormat>('lines', 'ndjson', 'csv'),
      fc.record({
        hasMark: fc.boolean(),
        endsWhole: fc.boolean(),
        max: fc.constantFrom(1, 3, 1000),
        isShort: fc.boolean(),
      }),
      async (lines, format, { hasMark, endsWhole, max, isShort }) => {
        const file = join(path, `in-${(count += 1)}`);
        const head = format === 'csv' ? 'h1,h2\n' : '';
        await writeFile(file, `${hasMark ? '\ufeff' : ''}${head}${lines.join('\n')}${endsWhole ? '\n' : ''}`);
        const source = fromFile(file, { format, maxLineBytes: isShort ? 30 : 1_048_576 });
        const all = await readAll(source, undefined, max);
        for (const [index, [, position]] of all.entries()) {
          if (all[index + 1]?.[1] === position) continue; // Within a chunk nobody asks.
          const rest = await readAll(source, position, 7);
          t.deepEqual(
            rest.map(([record]) => record),
            all.slice(index + 1).map(([record]) => record),
          );
        }
      },
    ),
    { numRuns: 60 },
  );
});

test('quoted fields over many blocks do not make a resumed run read from the beginning', async (t) => {
  const record = `"${'line\n'.repeat(3000)}",1\n`;
  const path = await folder(t, { 'a.csv': `text,n\n${record.repeat(60)}` });
  const reader = await fromFile(join(path, 'a.csv')).open();
  for (let n = 0; n < 50; n += 1) await reader.read(1);
  const position = reader.position?.() as { offset: number; skip: number };
  await reader.close();
  t.true(position.skip <= 10, `${position.skip} records skipped`);
  t.true(position.offset > record.length * 40);
});

test('a file that got shorter or was replaced is refused, and one that grew is read on', async (t) => {
  const path = await folder(t, { 'a.txt': 'one\ntwo\nthree' });
  const file = join(path, 'a.txt');
  const all = await readAll(fromFile(file), undefined, 1);
  const [, end] = all[2] as [unknown, unknown];
  t.deepEqual(await readAll(fromFile(file), end, 1), []);
  // The last line had no end: what is appended is part of it, and it has been read.
  await appendFile(file, 'more\n');
  await t.throwsAsync(readAll(fromFile(file), end, 1), { code: 'CHECKPOINT_INVALID', message: /no line ends before/ });
  await writeFile(file, 'one\n');
  await t.throwsAsync(readAll(fromFile(file), { offset: 8, line: 3, skip: 0 }, 1), {
    code: 'CHECKPOINT_INVALID',
    message: /has 4 bytes, and 8 had been read/,
  });
  await writeFile(file, 'one\ntwo\nthree\nfour\n');
  const grown = await readAll(fromFile(file), { offset: 8, line: 3, skip: 0 }, 9);
  t.deepEqual(
    grown.map(([record]) => record),
    ['three', 'four'],
  );
});

test('a directory read on from any position gives the files after it, in the same order', async (t) => {
  const path = await folder(t, {
    'b.txt': '1',
    'b/x': '2',
    'b/y/z': '3',
    'b-c/q': '4',
    a: '5',
    'b/y.txt': '6',
    é: '7',
  });
  await mkdir(join(path, 'c'));
  for (const given of [path, `${path}/**`]) {
    const source = fromFiles(given);
    const all = await readAll(source, undefined, 1);
    t.is(all.length, 7);
    for (const [index, [, position]] of all.entries()) {
      const rest = await readAll(source, position, 2);
      t.deepEqual(
        rest.map(([record]) => (record as FileRecord).path),
        all.slice(index + 1).map(([record]) => (record as FileRecord).path),
      );
    }
  }
  const single = fromFiles(join(path, 'a'));
  const [one] = await readAll(single, undefined, 1);
  t.deepEqual(await readAll(single, one?.[1], 1), []);
});

test('an array is replayable, another iterable only where that is said', async (t) => {
  t.deepEqual(
    (await readAll(fromIterable([1, 2, 3, 4]), 2, 5)).map(([record]) => record),
    [3, 4],
  );
  t.is((await fromIterable(new Set([1])).open()).position, undefined);
  async function* numbers(): AsyncGenerator<number> {
    for (let n = 0; n < 5000; n += 1) yield n;
  }
  const again = { [Symbol.asyncIterator]: () => numbers() };
  const rest = await readAll(fromIterable(again, { replayable: true }), 4998, 5);
  t.deepEqual(
    rest.map(([record]) => record),
    [4998, 4999],
  );
});

test('a source that says nothing about its position is refused, not taken for one that can be read again', async (t) => {
  const dir = await folder(t);
  let left = 3;
  const source = {
    name: 'mute',
    open: () => ({ read: () => (left-- > 0 ? [left] : undefined), position: () => undefined, close: () => undefined }),
  };
  const run = stream(source).to(toArray(), { checkpoint: { dir } });
  const error = await t.throwsAsync(run);
  t.like(error, { code: 'SOURCE_FAILED' });
  t.regex(error?.message ?? '', /position\(\) must give JSON/);
});
