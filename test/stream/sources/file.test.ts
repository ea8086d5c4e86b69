import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parse } from 'csv-parse/sync';
import fc from 'fast-check';
import { stream } from '../../../src/stream/pipeline.js';
import type { Report } from '../../../src/stream/report.js';
import { toArray } from '../../../src/stream/sinks/array.js';
import { toLines } from '../../../src/stream/sinks/json-lines.js';
import { csvFault } from '../../../src/stream/sources/csv-fault.js';
import { fromFile, type FromFileOptions } from '../../../src/stream/sources/file.js';
import { folder } from '../folder.js';

interface Read {
  values: unknown[];
  failures: string[];
  inputs: unknown[];
  report: Report;
}

async function read(
  t: ExecutionContext,
  name: string,
  content: string | Uint8Array,
  options: FromFileOptions = {},
): Promise<Read> {
  const path = await folder(t, { [name]: content });
  const sink = toArray();
  const failures: string[] = [];
  const inputs: unknown[] = [];
  const report = await stream(fromFile(join(path, name), options)).to(sink, {
    onFailed: (input, error) => {
      t.is(error.code, 'PARSE_FAILED');
      failures.push(error.message.replace(`${path}/`, ''));
      inputs.push(input);
    },
  });
  return { values: sink.values, failures, inputs, report };
}

test('lines lose byte order mark and CRLF, blank lines stay, and the last line needs no end', async (t) => {
  t.deepEqual((await read(t, 'a.txt', '\ufeffone\r\n\r\ntwo\nthr\u00e9e')).values, ['one', '', 'two', 'thr\u00e9e']);
  t.deepEqual((await read(t, 'a.txt', 'one\n')).values, ['one']);
  t.deepEqual((await read(t, 'a.txt', '')).values, []);
});

test('a line that is no JSON fails alone and names file and line', async (t) => {
  const { values, failures, inputs, report } = await read(t, 'a.ndjson', '\ufeff{"a":1}\r\n\n{bad\r\n[2]\n"x"');
  t.deepEqual(values, [{ a: 1 }, [2], 'x']);
  t.is(failures.length, 1);
  t.regex(failures[0] ?? '', /^a\.ndjson:3 is not JSON: /);
  t.deepEqual(inputs, ['{bad']);
  t.like(report, { records: 4, results: 3, failed: 1, errors: { PARSE_FAILED: 1 } });
});

test('a line of JSON nested too deep to be written again fails alone', async (t) => {
  const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;
  const { values, failures } = await read(t, 'a.ndjson', `1\n${nested(5000)}\n${nested(1000)}\n`);
  t.deepEqual(failures, ['a.ndjson:2 is not JSON: it is nested deeper than 1000']);
  t.deepEqual(toLines(values, 'ndjson'), `1\n${nested(1000)}\n`);
});

test('a line longer than maxLineBytes fails alone, also when it is larger than many blocks', async (t) => {
  for (const long of [20, 200_000, 1_500_000]) {
    const text = `first\n${'x'.repeat(long)}\nthird\n${'y'.repeat(long)}`;
    const { values, failures } = await read(t, 'a.txt', text, { maxLineBytes: 10 });
    t.deepEqual(values, ['first', 'third']);
    t.deepEqual(failures, ['a.txt:2 is longer than maxLineBytes (10)', 'a.txt:4 is longer than maxLineBytes (10)']);
  }
});

test('a line that is not UTF-8 fails alone', async (t) => {
  const bytes = Buffer.concat([Buffer.from('good \ufffd\n'), Buffer.from([0xff, 0xfe, 10]), Buffer.from('fine')]);
  const { values, failures } = await read(t, 'a.txt', bytes);
  t.deepEqual(values, ['good \ufffd', 'fine']);
  t.deepEqual(failures, ['a.txt:2 is not valid UTF-8']);
});

test('CSV rows become objects named by the header; quotes may hold commas, quotes and line ends', async (t) => {
  const { values } = await read(t, 'a.csv', '\ufeffid,text\r\n1,"a, ""b"""\r\n\r\n2,"x\r\ny"\r\n3,\r\n');
  t.deepEqual(values, [
    { id: '1', text: 'a, "b"' },
    { id: '2', text: 'x\r\ny' },
    { id: '3', text: '' },
  ]);
});

test('a bad CSV row fails alone, and a forgotten quote does not swallow the rows after it', async (t) => {
  const rows = ['a,b', '1,2', '3', '4,5,6', '7,"never', '8,"fine"', '9,x"y"', '10,11', '12,"open', '13,14'];
  const { values, failures } = await read(t, 'a.csv', rows.join('\n'));
  t.deepEqual(
    values.map((row) => (row as { a: string }).a),
    ['1', '8', '10', '13'],
  );
  t.deepEqual(
    failures.map((text) => text.split(' ')[0]),
    ['a.csv:3', 'a.csv:4', 'a.csv:5', 'a.csv:7', 'a.csv:9'],
  );
});

test('what is no CSV record is told without a parser, and is what csv-parse refuses', (t) => {
  const options = { record_delimiter: ['\r\n', '\n'], skip_empty_lines: true, columns: ['a', 'b'] };
  const isRefused = (text: string): boolean => {
    try {
      parse(`${text}\n`, options);
      return false;
    } catch {
      return true;
    }
  };
  const texts = fc.string({ unit: fc.constantFrom('a', ',', '"', '\n', '\r', ' '), maxLength: 12 });
  // A record of several lines begins inside quotes at each of them; a carriage return is found before a line end alone.
  const isCandidate = (text: string): boolean => {
    const lines = text.split('\n');
    const odd = lines.map((line) => line.split('"').length % 2 === 0);
    const isWhole = odd.every((isOdd, at) => isOdd === (lines.length > 1 && (at === 0 || at === lines.length - 1)));
    return isWhole && !/\r(?!$)/.test(text.replaceAll('\r\n', ''));
  };
  fc.assert(
    fc.property(texts.filter(isCandidate), (text) => {
      t.is(csvFault(text, 2) !== undefined, isRefused(text), JSON.stringify(text));
    }),
    { numRuns: 3000 },
  );
});

test.serial(
  'bad CSV rows cost little more than good ones: a block of them does not hold the event loop for long',
  async (t) => {
    const cpuOf = async (rows: string): Promise<number> => {
      const before = process.cpuUsage();
      const { values, failures } = await read(t, 'a.csv', `a,b\n1,2\n${rows.repeat(5000)}3,4\n`);
      t.is(values.length + failures.length, 15_002);
      const { user, system } = process.cpuUsage(before);
      return user + system;
    };
    await cpuOf('x,y\n"z",1\n,\n');
    const good = await cpuOf('x,y\n"z",1\n,\n');
    for (const rows of ['x\n"y"z,1\na"b,"\n', 'x"\nx"\nx"\n']) {
      const bad = await cpuOf(rows);
      // With a parser for each it is more than ten times as much.
      t.true(bad < 8 * good, `${JSON.stringify(rows)}: ${bad / good} times the time of good rows`);
      t.log(`${(bad / good).toFixed(1)} times the time of good rows`);
    }
  },
);

test('a CSV header that names a column twice ends the run, because rows would lose a value', async (t) => {
  const error = await t.throwsAsync(read(t, 'a.csv', 'a,a\n1,2\n'));
  t.like(error, { code: 'SOURCE_FAILED' });
  t.regex(error.message, /a\.csv:1 is not a CSV header: column "a" is there twice/);
});

test('a file that is not there, or is a directory, ends the run at once with SOURCE_FAILED', async (t) => {
  const path = await folder(t);
  const missing = stream(fromFile(join(path, 'none.txt'))).to(toArray());
  t.like(await t.throwsAsync(missing), { code: 'SOURCE_FAILED' });
  const directory = await t.throwsAsync(stream(fromFile(path)).to(toArray()));
  t.regex(directory.message, /is a directory; use fromFiles/);
  t.throws(() => fromFile('a', { format: 'xml' as never }), { message: /format must be one of lines, ndjson, csv/ });
});

test('no placing of line ends, blocks and pulls changes the lines of a file', async (t) => {
  const line = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 12 }), fc.constant('z'.repeat(40_000)));
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { maxLength: 12 }),
      fc.constantFrom('\n', '\r\n'),
      fc.integer({ min: 1, max: 5 }),
      async (given, end, chunkSize) => {
        const lines = given.map((text) => text.replace(/[\r\n\ufeff]/g, ''));
        const path = await folder(t, { 'a.txt': lines.map((text) => text + end).join('') });
        t.deepEqual(await stream(fromFile(join(path, 'a.txt'), { format: 'lines' }), { chunkSize }).toArray(), lines);
      },
    ),
    { numRuns: 60 },
  );
});
