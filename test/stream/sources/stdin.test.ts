import { PassThrough, Readable } from 'node:stream';
import test from 'ava';
import { RecordFailure } from '../../../src/stream/envelope.js';
import type { SourceReader } from '../../../src/stream/source.js';
import { fromStdin, readStream } from '../../../src/stream/sources/stdin.js';

async function readAll(reader: SourceReader<unknown>): Promise<unknown[]> {
  const values: unknown[] = [];
  for (let read = await reader.read(7); read !== undefined; read = await reader.read(7)) values.push(...read);
  await reader.close();
  return values;
}

test('a stream of bytes is read as a file is: lines, NDJSON, CSV, whatever the borders of its blocks', async (t) => {
  const bytes = Buffer.from('\ufeffnaïve,b\r\n1,"two\nlines"\r\n3,4');
  for (const size of [1, 2, 5, bytes.length]) {
    const blocks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) =>
      bytes.subarray(n * size, n * size + size),
    );
    const rows = await readAll(readStream('stdin', Readable.from(blocks, { objectMode: false }), 'csv', 1000));
    t.deepEqual(
      rows,
      [
        { naïve: '1', b: 'two\nlines' },
        { naïve: '3', b: '4' },
      ],
      `blocks of ${size}`,
    );
  }
  t.deepEqual(await readAll(readStream('stdin', Readable.from([Buffer.from('a\n\nb')]), 'lines', 100)), ['a', '', 'b']);
  t.deepEqual(await readAll(readStream('stdin', Readable.from([]), 'ndjson', 100)), []);
});

test('a bad line of standard input fails alone and names its place', async (t) => {
  const [good, bad, next] = await readAll(
    readStream('stdin', Readable.from([Buffer.from('1\n{oops\n3\n')]), 'ndjson', 100),
  );
  t.deepEqual([good, next], [1, 3]);
  t.true(bad instanceof RecordFailure);
  t.regex((bad as RecordFailure).error.message, /^stdin:2 is not JSON/);
});

test('a stream that fails rejects the read with SOURCE_FAILED', async (t) => {
  const input = new PassThrough();
  const reader = readStream('stdin', input, 'lines', 100);
  const reading = reader.read(1);
  input.destroy(new Error('terminal gone'));
  t.like(await t.throwsAsync(Promise.resolve(reading)), {
    code: 'SOURCE_FAILED',
    message: 'Cannot read stdin: terminal gone',
  });
  await reader.close();
});

test('close ends an open read, leaves the stream open, and a later reader goes on with it', async (t) => {
  const input = new PassThrough();
  const reader = readStream('stdin', input, 'lines', 100);
  const reading = reader.read(1);
  await reader.close();
  t.is(await reading, undefined);
  t.false(input.destroyed);
  t.is(input.listenerCount('readable'), 0);
  input.end('later\n');
  t.deepEqual(await readAll(readStream('stdin', input, 'lines', 100)), ['later']);
  t.deepEqual(await readAll(readStream('stdin', input, 'lines', 100)), [], 'at its end it stays');
});

test('a second reader is refused while there is one: each would get a part of the lines', async (t) => {
  const input = new PassThrough();
  const reader = readStream('stdin', input, 'lines', 100);
  t.throws(() => readStream('stdin', input, 'lines', 100), {
    code: 'SOURCE_FAILED',
    message: 'Cannot read stdin: another pipeline reads it already; only one can',
  });
  await reader.close();
  for (let round = 0; round < 20; round += 1) await readStream('stdin', input, 'lines', 100).close();
  t.is(input.listenerCount('error'), 1, 'what readers leave behind does not add up');
});

test('standard input has no positions, and wrong options throw at once', async (t) => {
  const reader = readStream('stdin', Readable.from([]), 'lines', 100);
  t.is(reader.position, undefined);
  t.is(reader.acknowledge, undefined);
  await reader.close();
  t.is(fromStdin().name, 'stdin');
  t.throws(() => fromStdin({ format: 'json' as never }), { instanceOf: TypeError, message: /^format must be one of/ });
  t.throws(() => fromStdin({ maxLineBytes: 0 }), { instanceOf: TypeError, message: /^maxLineBytes must be/ });
  t.throws(() => fromStdin({ path: 'x' } as never), { instanceOf: TypeError, message: /unknown option "path"/ });
});
