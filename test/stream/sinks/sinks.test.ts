import { readFile } from 'node:fs/promises';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'ava';
import { stream } from '../../../src/stream/pipeline.js';
import { toArray } from '../../../src/stream/sinks/array.js';
import { toFile } from '../../../src/stream/sinks/file.js';
import { StreamSink, type LineOutput } from '../../../src/stream/sinks/stdout.js';
import { fromIterable } from '../../../src/stream/sources/iterable.js';
import { folder } from '../folder.js';
import { settleDown } from '../hand-target.js';

test('a file gets text for strings and NDJSON for everything else, typed arrays as arrays', async (t) => {
  const path = join(await folder(t), 'out.ndjson');
  await stream(fromIterable<unknown>(['plain', { a: Float32Array.of(1, 0.5) }, [1], null])).to(toFile(path));
  t.is(await readFile(path, 'utf8'), 'plain\n{"a":[1,0.5]}\n[1]\nnull\n');
  await stream(fromIterable(['more'])).to(toFile(path, { format: 'ndjson', append: true }));
  t.regex(await readFile(path, 'utf8'), /null\n"more"\n$/);
  await stream(fromIterable(['anew'])).to(toFile(path));
  t.is(await readFile(path, 'utf8'), 'anew\n');
});

test('a file takes many more lines than its buffer holds', async (t) => {
  const path = join(await folder(t), 'out.txt');
  const lines = Array.from({ length: 50_000 }, (_, n) => `line ${n}`);
  const report = await stream(fromIterable(lines)).to(toFile(path));
  t.is(report.results, 50_000);
  t.is(await readFile(path, 'utf8'), `${lines.join('\n')}\n`);
});

test('the directory of a file is made where it is all that is missing', async (t) => {
  const path = join(await folder(t), 'results', 'out.txt');
  await stream(fromIterable(['x'])).to(toFile(path));
  await stream(fromIterable(['y'])).to(toFile(path, { append: true }));
  t.is(await readFile(path, 'utf8'), 'x\ny\n');
});

test('a file with more directories missing ends the run before anything is read, naming the path', async (t) => {
  const path = join(await folder(t), 'none', 'whatever', 'out.txt');
  const error = await t.throwsAsync(stream({ name: 'never', open: () => t.fail() as never }).to(toFile(path)));
  t.like(error, { code: 'SINK_FAILED' });
  t.true(error.message.includes(path));
});

test('a full disk ends the run with SINK_FAILED', async (t) => {
  const error = await t.throwsAsync(stream(fromIterable(['x'])).to(toFile('/dev/full')));
  t.like(error, { code: 'SINK_FAILED' });
  t.regex(error.message, /\/dev\/full: .*ENOSPC/);
});

test('a value that is no JSON ends the run with SINK_FAILED and keeps what was written before', async (t) => {
  const path = join(await folder(t), 'out.ndjson');
  const error = await t.throwsAsync(stream(fromIterable<unknown>([{ a: 1 }, 5n]), { chunkSize: 1 }).to(toFile(path)));
  t.like(error, { code: 'SINK_FAILED' });
  t.regex(error.message, /BigInt/);
  t.is(await readFile(path, 'utf8'), '{"a":1}\n');
});

test('a source that fails leaves a file with everything before the failure', async (t) => {
  const path = join(await folder(t), 'out.txt');
  async function* broken(): AsyncGenerator<string> {
    yield 'one';
    await settleDown();
    throw new Error('gone');
  }
  await t.throwsAsync(stream(fromIterable(broken())).to(toFile(path)));
  t.is(await readFile(path, 'utf8'), 'one\n');
});

test('dead letters go to a file of their own', async (t) => {
  const path = await folder(t);
  const report = await stream(fromIterable(['1', 'x']))
    .map((text) => JSON.parse(text) as unknown)
    .to(toFile(join(path, 'out')), { deadLetters: toFile(join(path, 'dead.ndjson')) });
  t.like(report, { results: 1, deadLetters: 1 });
  const letter = JSON.parse(await readFile(join(path, 'dead.ndjson'), 'utf8')) as object;
  t.like(letter, { input: 'x', error: { code: 'OPERATOR_FAILED' } });
});

/** An output that takes nothing until told to. */
class SlowOutput implements LineOutput {
  taken: string[] = [];
  readonly pending: { text: string; done: (error?: Error | null) => void }[] = [];
  listeners = 0;
  write(text: string, done: (error?: Error | null) => void): boolean {
    this.pending.push({ text, done });
    return false;
  }
  on(): void {
    this.listeners += 1;
  }
  off(): void {
    this.listeners -= 1;
  }
}

test('standard output holds the pipeline back until it has drained', async (t) => {
  const output = new SlowOutput();
  let pulled = 0;
  function* numbers(): Generator<number> {
    while (pulled < 6) yield (pulled += 1);
  }
  const running = stream(fromIterable(numbers()), { chunkSize: 2 }).to(new StreamSink('out', output, 'auto'));
  await settleDown();
  t.is(pulled, 2);
  while (output.pending.length > 0) {
    output.pending.shift()?.done();
    await settleDown();
  }
  t.like(await running, { results: 6, cancelled: false });
  t.is(output.listeners, 0);
});

test('a broken pipe ends the run quietly, as cancelled', async (t) => {
  const output = new SlowOutput();
  const running = stream(fromIterable([1, 2, 3]), { chunkSize: 1 }).to(new StreamSink('out', output, 'auto'));
  await settleDown();
  output.pending[0]?.done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  const report = await running;
  t.like(report, { cancelled: true, results: 0, failed: 1 });
});

test('a process that writes into a closed pipe goes on to its report', (t) => {
  const module = new URL('../../../src/index.js', import.meta.url).href;
  const script = `
    const { stream, fromIterable, toStdout } = await import('${module}');
    function* lines() { for (;;) yield 'y'.repeat(100); }
    const report = await stream(fromIterable(lines())).to(toStdout());
    process.stderr.write('cancelled ' + report.cancelled);`;
  const run = spawnSync(
    'bash',
    ['-c', '"$0" --input-type=module -e "$1" | head -n 2 | wc -l', process.execPath, script],
    {
      encoding: 'utf8',
      timeout: 60_000,
    },
  );
  t.is(run.stdout.trim(), '2');
  t.is(run.stderr, 'cancelled true');
});

test('an array sink may be the array of the caller', async (t) => {
  const mine: number[] = [0];
  await stream(fromIterable([1])).to(toArray(mine));
  t.deepEqual(mine, [0, 1]);
});
