import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { connectControl } from 'troupe';
import { type ExitCode, runCommand } from '../../src/cli/command.js';
import { deferred } from '../../src/kernel/deferred.js';

const dir = mkdtempSync(path.join(tmpdir(), 'troupe-cli-'));
test.after.always(() => rmSync(dir, { recursive: true }));
const at = (name: string): string => path.join(dir, name);

writeFileSync(
  at('double.js'),
  `export default { predict: (batch) => batch.map((x) => (x === 13 ? new Error('unlucky') : x * 2)) };\n`,
);
writeFileSync(
  at('broken.js'),
  `export default { load() { throw new Error('no weights'); }, predict: (batch) => batch };\n`,
);
writeFileSync(
  at('steps.js'),
  `export const number = (line) => Number(line);
export const isOdd = (n) => n % 2 === 1;
export const join = (record, answer) => ({ record, answer });\n`,
);
writeFileSync(at('in.txt'), Array.from({ length: 20 }, (_, i) => `${i}\n`).join(''));

const CONFIG = `
pools:
  double: { actor: ./double.js, isolation: thread }
pipelines:
  numbers:
    source: { file: in.txt }
    steps:
      - map: ./steps.js#number
      - filter: ./steps.js#isOdd
      - infer: { pool: double, output: ./steps.js#join }
    sink: { file: out.ndjson }
    deadLetters: { file: dead.ndjson }
`;
const POOLS = 'pools:\n  double: { actor: ./double.js, isolation: thread }\n';
const write = (name: string, text: string): string => {
  writeFileSync(at(name), text);
  return at(name);
};

interface Ran {
  readonly code: ExitCode;
  readonly out: string;
  readonly err: string;
}

async function troupe(...words: string[]): Promise<Ran> {
  let out = '';
  let err = '';
  const signal = new AbortController().signal;
  const code = await runCommand(words, {
    stdin: process.stdin,
    stdout: { write: (text) => void (out += text) },
    stderr: { write: (text) => void (err += text) },
    env: {},
    stop: signal,
    kill: signal,
  });
  return { code, out, err };
}

test.serial('run reads, infers and writes, and --json prints one object whose counts add up', async (t) => {
  const { code, out, err } = await troupe('run', write('run.yaml', CONFIG), '--json');
  t.is(code, 0, err);
  t.is(out.split('\n').length, 2);
  const report = JSON.parse(out) as Record<string, number>;
  t.is(report['records'], 10);
  t.is(report['results'], 9);
  t.is(report['deadLetters'], 1);
  t.is(report['failed'], 0);
  t.is(report['filtered'], 10);
  const lines = readFileSync(at('out.ndjson'), 'utf8').trimEnd().split('\n');
  t.deepEqual(JSON.parse(lines[1] ?? ''), { record: 3, answer: 6 });
  t.regex(readFileSync(at('dead.ndjson'), 'utf8'), /unlucky/);
  t.regex(err, /records +10\n/);
});

test.serial('a pipeline through an ensemble starts the pools that the ensemble asks, and no others', async (t) => {
  mkdirSync(at('sum/1'), { recursive: true });
  const io = (name: string): string => `{ name: "${name}" data_type: TYPE_FP64 dims: 1 reshape {} }`;
  const step = 'model_name: "adder" input_map { key: "a" value: "n" } output_map { key: "sum" value: "total" }';
  write(
    'sum/config.pbtxt',
    `platform: "ensemble" max_batch_size: 8 input ${io('n')} output ${io('total')}
ensemble_scheduling { step { ${step} } }`,
  );
  write(
    'record.js',
    `export const asTensors = (n) => ({ n });\nexport const total = (n, { total }) => ({ n, total });\n`,
  );
  const inputs = '[{ name: a, dtype: float64, shape: [] }]';
  const text = `
pools:
  sum: { actor: ensemble, model: ./sum }
  adder: { actor: mock, options: { inputs: ${inputs}, answer: sum } }
  idle: { actor: ./broken.js, isolation: thread }
pipelines:
  sums:
    source: { file: in.txt }
    steps:
      - map: ./steps.js#number
      - infer: { pool: sum, input: ./record.js#asTensors, output: ./record.js#total }
    sink: { file: sums.ndjson }
`;
  const { code, err } = await troupe('run', write('sums.yaml', text), '--json');
  t.is(code, 0, err);
  const lines = readFileSync(at('sums.ndjson'), 'utf8').trimEnd().split('\n');
  t.deepEqual(
    lines.map((line) => JSON.parse(line)),
    Array.from({ length: 20 }, (_, n) => ({ n, total: n })),
  );
});

test.serial('a pool that does not load fails its own pipelines and no others, and the exit code says so', async (t) => {
  const both = CONFIG.replace(
    'pools:\n',
    'pools:\n  bad: { actor: ./broken.js, isolation: thread, restart: { max: 0 } }\n',
  );
  const text = `${both}  other:\n    source: { file: in.txt }\n    steps: [{ infer: { pool: bad } }]\n    sink: { file: other.txt }\n`;
  const { code, out, err } = await troupe('run', write('bad.yaml', text), '--json');
  t.is(code, 1);
  const report = JSON.parse(out) as { results: number; failures: { what: string; name: string; code: string }[] };
  t.is(report.results, 9);
  t.deepEqual(report.failures.map(({ what, name }) => `${what} ${name}`).sort(), ['pipeline other', 'pool bad']);
  t.is(report.failures.find(({ what }) => what === 'pool')?.code, 'ACTOR_LOAD_FAILED');
  t.regex(err, /pool bad: ACTOR_LOAD_FAILED: .*no weights/);
});

test.serial(
  'a run with control can be looked at while it goes on, and ends where another has its socket',
  async (t) => {
    const text = `control: { socket: ./run/c.sock }\n${CONFIG.replace('file: in.txt', 'stdin: lines').replaceAll('.ndjson', '-controlled.ndjson')}`;
    const file = write('controlled.yaml', text);
    const child = spawn(process.execPath, [main, 'run', file, '--quiet'], { stdio: ['pipe', 'ignore', 'pipe'] });
    t.teardown(() => child.kill('SIGKILL'));
    let err = '';
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (err += chunk));
    child.stdin.write('1\n13\n');
    const socket = at('run/c.sock');
    const control = await until(() => connectControl(socket));
    t.is(control.pid, child.pid ?? 0);
    const view = await until(async () => {
      const [first] = (await control.ps()).pipelines;
      if (first?.records !== 2) throw new Error(`${first?.records} records so far`);
      return first;
    });
    t.like(view, { name: 'numbers', results: 1, deadLetters: 1, held: 0 });
    const { letters, files } = await control.deadLetters('numbers');
    t.deepEqual(files, { numbers: at('dead-controlled.ndjson') });
    t.like(letters[0], { pipeline: 'numbers', code: 'PREDICT_FAILED', pool: 'double' });
    t.false(JSON.stringify(letters).includes('"13"'));

    const second = await troupe('run', file);
    t.is(second.code, 1);
    t.regex(second.err, /^troupe: CONTROL_IN_USE: .*another system listens/);
    child.stdin.end();
    const [code] = (await once(child, 'close')) as [number];
    t.is(code, 0, err);
    t.is((await control.closed)?.code, 'CONTROL_UNREACHABLE');
  },
);

/** Tries again while it fails: another process is on its way there. */
async function until<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = 400; ; left -= 1) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
}

test('wrong use and an invalid config end with 2, and nothing is written to stdout', async (t) => {
  const cases: [readonly string[], RegExp][] = [
    [['rnu'], /did you mean run\?/],
    [['run', at('absent.yaml')], /absent\.yaml:1:1 cannot be read: there is no such file/],
    [
      ['run', write('key.yaml', CONFIG.replace('pools:', 'pool:'))],
      /key\.yaml:2:1 pool: unknown key; did you mean pools\?/,
    ],
    [
      ['run', write('export.yaml', CONFIG.replace('#isOdd', '#isOdf'))],
      /expected an exported function isOdf; .* exports isOdd, join, number/,
    ],
    [['check', at('export.yaml')], /export\.yaml:9:17 pipelines\.numbers\.steps\[1\]\.filter: /],
    [['run', write('p.yaml', CONFIG), '--pipeline', 'nubmers'], /did you mean numbers\?/],
    [['run', write('none.yaml', 'name: x\n')], /none\.yaml has neither pools nor pipelines; there is nothing to run/],
    [
      ['run', write('alone.yaml', 'pools:\n  double: { actor: ./double.js }\n')],
      /has pools and no pipelines, and nothing could reach them: give it control: \{\}/,
    ],
    [
      ['run', write('asked.yaml', `control: {}\n${POOLS}`), '--pipeline', 'numbers'],
      /no pipeline "numbers"; it has none/,
    ],
    [['run', at('asked.yaml'), '--resume'], /--resume needs a pipeline with checkpoint/],
    [
      ['run', write('talk.yaml', CONFIG.replace('file: out.ndjson', 'stdout: ndjson')), '--json'],
      /--json prints one object on stdout, but the results of pipeline numbers go there too/,
    ],
  ];
  for (const [words, message] of cases) {
    const { code, out, err } = await troupe(...words);
    t.is(code, 2, words.join(' '));
    t.is(out, '');
    t.regex(err, message);
  }
});

test('check says what a valid config holds and starts nothing', async (t) => {
  const { code, out } = await troupe('check', write('check.yaml', CONFIG));
  t.is(code, 0);
  t.regex(out, /check\.yaml is valid: pools double; pipelines numbers\n$/);
});

test('check names models and versions that are not there, with line and column', async (t) => {
  mkdirSync(at('shelf/here/3'), { recursive: true });
  writeFileSync(at('shelf/here/3/m'), '');
  const many = 'models: { maxBytes: 1000, list: [here, gone, here@4] }';
  const text = `models: { roots: [shelf] }
pools:
  there: { actor: mock, model: here }
  away: { actor: mock, model: away }
  old:
    actor: mock
    model: here
    version: '2'
  path: { actor: mock, model: ./shelf/none/ }
  many: { actor: mock, ${many} }
  named: { actor: mock, models: { maxBytes: 1000, root: ./other, list: [x] } }
`;
  const { code, out, err } = await troupe('check', write('models.yaml', text));
  t.is(code, 2);
  t.is(out, '');
  for (const said of [
    /models\.yaml:4:31 pools\.away\.model: .*no model away/,
    /models\.yaml:7:12 pools\.old\.model: .*no version 2; it offers 3/,
    /models\.yaml:9:31 pools\.path\.model: .*none/,
    /models\.yaml:10:\d+ pools\.many\.models\.list\[1\]: .*no model gone/,
    /models\.yaml:10:\d+ pools\.many\.models\.list\[2\]: .*no version 4/,
    /models\.yaml:11:\d+ pools\.named\.models\.list\[0\]: .*other cannot be read/,
  ])
    t.regex(err, said);
  t.regex(err, /^6 problems in the config/);
  mkdirSync(at('shelf/away/1'), { recursive: true });
  const fixed = text.replace(/ {2}old:[^]*/, '');
  t.is((await troupe('check', write('models.yaml', fixed))).code, 0);
  const free = 'pools:\n  many: { actor: mock, models: { maxBytes: 1000, list: [gone] } }\n';
  t.is((await troupe('check', write('free.yaml', free))).code, 0, 'without directories they are names of the actor');
});

test('hash prints what stands below the name of a model in models.hashes', async (t) => {
  for (const version of ['1', '2']) {
    mkdirSync(at(`net/${version}`), { recursive: true });
    writeFileSync(at(`net/${version}/model.onnx`), version);
  }
  const { code, out, err } = await troupe('hash', at('net'));
  t.is(code, 0, err);
  t.regex(out, /^1: sha256:[0-9a-f]{64}\n2: sha256:[0-9a-f]{64}\n$/);
  const [, first = ''] = /^1: (.*)$/m.exec(out) ?? [];
  t.deepEqual(JSON.parse((await troupe('hash', at('net'), '1', '--json')).out), { 1: first });
  const config = (hash: string): string =>
    `models: { hashes: { net: { 1: '${hash}' } } }\npools: { p: { actor: mock, model: ./net } }\npipelines:\n  a: { source: { file: in.txt }, steps: [{ infer: { pool: p } }], sink: { file: out.ndjson } }\n`;
  t.is((await troupe('run', write('pinned.yaml', config(first)), '--quiet')).code, 0);
  const lie = await troupe('run', write('pinned.yaml', config(`sha256:${'0'.repeat(64)}`)), '--quiet');
  t.is(lie.code, 1);
  t.regex(lie.err, /pool p: HASH_MISMATCH: .*found sha256:/);
  const gone = await troupe('hash', at('net'), '7');
  t.is(gone.code, 1);
  t.regex(gone.err, /^troupe: VERSION_NOT_FOUND: .*it offers 1, 2/);
});

test('explain prints each value with its origin, as a table or as one object', async (t) => {
  const file = write('explain.yaml', CONFIG);
  const table = await troupe('explain', file);
  t.regex(table.out, /^pools\.double\.replicas +1 +default$/m);
  t.regex(table.out, /^pools\.double\.isolation +"thread" +.*explain\.yaml:3:44$/m);
  const { out } = await troupe('explain', file, '--json');
  const { values } = JSON.parse(out) as { values: { path: string; value: unknown }[] };
  t.is(values.find(({ path: key }) => key === 'pipelines.numbers.steps[2].infer.capacity')?.value, 512);
});

test('control characters in a config do not reach the terminal', async (t) => {
  const { err } = await troupe('check', write('esc.yaml', 'name: "\\e[2J\\a"\n'));
  t.regex(err, /esc\.yaml:1:7 name/);
  t.notRegex(err, /[\u0000-\u0009\u000b-\u001f\u007f]/);
});

test('pools without pipelines run until they are told to stop, asked and operated from outside', async (t) => {
  const socket = path.join(mkdtempSync(path.join(dir, 'run-')), 'troupe.sock');
  const file = write(
    'pools.yaml',
    `control: { socket: ${socket} }\n${POOLS}  broken: { actor: ./broken.js, isolation: thread }\n`,
  );
  const stop = new AbortController();
  const up = deferred<void>();
  t.teardown(() => stop.abort());
  let err = '';
  const ran = runCommand(['run', file], {
    stdin: process.stdin,
    stdout: { write: () => undefined },
    stderr: {
      write: (text) => {
        err += text;
        if (text.includes('run until they are stopped')) up.resolve();
      },
    },
    env: {},
    stop: stop.signal,
    kill: new AbortController().signal,
  });
  await Promise.race([up.promise, ran]);
  t.regex(err, /double run until they are stopped; troupe repl --socket \S+troupe\.sock operates them/);
  t.regex(err, /pool=broken.*did not start, and is left out: .*no weights/);
  const control = await connectControl(socket, { access: 'write' });
  t.is((await control.ask('double', 21)).value, 42);
  t.like(await control.scale('double', 2), { name: 'double', ready: 2 });
  await control.close();
  stop.abort();
  t.is(await ran, 1, 'a pool did not start');
  t.notRegex(err, /records per second/);
});

test('a system of pools alone ends with an error at once where none of them starts', async (t) => {
  const text = 'metrics: { port: 0 }\npools:\n  broken: { actor: ./broken.js, isolation: thread }\n';
  const { code, err } = await troupe('run', write('all-broken.yaml', text));
  t.is(code, 1);
  t.regex(err, /pool broken: ACTOR_LOAD_FAILED: .*no weights/);
});

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

test('the first SIGINT stops reading, finishes what is under way and reports; the exit code is 130', async (t) => {
  t.timeout(60_000);
  writeFileSync(at('slow.txt'), Array.from({ length: 200_000 }, (_, i) => `${i}\n`).join(''));
  const text = CONFIG.replace('in.txt', 'slow.txt')
    .replace('./double.js, isolation: thread', 'mock, options: { a: 20 }')
    .replace(/ {6}- filter.*\n/, '')
    .replace(', output: ./steps.js#join', '');
  const child = spawn(process.execPath, [main, 'run', write('slow.yaml', text), '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  let isTold = false;
  child.stdout.setEncoding('utf8').on('data', (data: string) => void (out += data));
  child.stderr.setEncoding('utf8').on('data', (data: string) => {
    err += data;
    if (isTold || !/\d+ records/.test(data)) return;
    isTold = true;
    child.kill('SIGINT');
  });
  const [code] = (await once(child, 'close')) as [number | null];
  t.is(code, 130, err);
  const report = JSON.parse(out) as Record<string, number>;
  t.true((report['records'] ?? 0) > 0 && (report['records'] ?? 0) < 200_000);
  t.is(report['records'], report['results']);
});

test('pools that only metrics can reach are kept alive until SIGTERM, and then drained', async (t) => {
  t.timeout(60_000);
  const text =
    'metrics: { port: 0 }\npools:\n  double: { actor: ./double.js, isolation: inline, replicas: { min: 0, max: 1 } }\n';
  const child = spawn(process.execPath, [main, 'run', write('term.yaml', text), '--log-format', 'json'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let err = '';
  const up = deferred<string>();
  child.stderr.setEncoding('utf8').on('data', (data: string) => {
    err += data;
    if (err.includes('run until they are stopped')) up.resolve(/served at ([^"]+)"/.exec(err)?.[1] ?? '');
  });
  const url = await Promise.race([up.promise, once(child, 'close').then(() => '')]);
  const ready = await fetch(new URL('/health/ready', url));
  t.deepEqual(await ready.json(), { ready: true, pools: { double: { ready: true } } });
  child.kill('SIGTERM');
  const [code] = (await once(child, 'close')) as [number | null];
  t.is(code, 143, err);
});
