/**
 * The main job as a user starts it, with real processes, over a tree of odd files. One job at a time: the machine is
 * shared, and a job that has no processor for its children proves nothing.
 */

import { execFile, spawn } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const job = join(root, 'dist/examples/filetypes.js');
const model = join(root, 'models/filetype');
const scratch = mkdtempSync(join(tmpdir(), 'troupe-job-'));
const tree = join(scratch, 'tree');

interface End {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Line {
  readonly path: string;
  readonly type?: string;
  readonly size?: number;
  readonly version?: string;
  readonly error?: { readonly code: string; readonly message: string };
}

interface Figures {
  readonly records: number;
  readonly results: number;
  readonly failed: number;
  readonly deadLetters: number;
  readonly restarts: number;
  readonly agreement: number;
  readonly batches: number;
  readonly meanBatchSize: number;
  readonly recordsPerSecond: number;
  readonly latencyMs: { readonly p50: number; readonly p99: number };
}

/** Runs the job; `disturb` is given its pid once, and waited for. */
async function run(
  args: readonly string[],
  disturb?: (pid: number, ended: AbortSignal) => Promise<void>,
): Promise<End> {
  const child = spawn(process.execPath, [job, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new AbortController();
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const end = new Promise<End>((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })));
  void end.then(() => ended.abort());
  await disturb?.(child.pid as number, ended.signal);
  return end;
}

function figuresOf({ stdout }: End): Figures {
  return JSON.parse(stdout) as Figures;
}

function linesOf(file: string): Line[] {
  const text = readFileSync(file, 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

function out(name: string): string {
  return join(scratch, `${name}.ndjson`);
}

/** Children of every thread of a process. */
function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return []; // It has ended.
  }
}

/** How long the job took from its start to its first result when nothing disturbed it. */
let startMs = 0;

const onLinux = process.platform === 'linux' ? test.serial : test.serial.skip;

test.before(async () => {
  mkdirSync(tree);
  // A real part of what npm installed: source, types, maps, text.
  for (const name of ['comlink', 'eventemitter3', 'yaml', 'picomatch', 'csv-parse']) {
    cpSync(join(root, 'node_modules', name), join(tree, name), { recursive: true });
  }
  writeFileSync(join(tree, 'empty.js'), '');
  writeFileSync(join(tree, 'a name with spaces, \u00fc and \u{1f3ad}.txt'), 'plain words of a plain text\n'.repeat(20));
  mkdirSync(join(tree, 'directory.js'));
  writeFileSync(join(tree, 'huge.bin'), '\u007fELF');
  truncateSync(join(tree, 'huge.bin'), 8 * 2 ** 30); // Sparse.
  symlinkSync('loop', join(tree, 'loop'));
  symlinkSync('nowhere', join(tree, 'dangling.js'));
  // A loop through directories: symlinks to directories are not entered.
  symlinkSync('..', join(tree, 'directory.js', 'up'));
  await promisify(execFile)('mkfifo', [join(tree, 'pipe.js')]);
});

test.after.always(() => rmSync(scratch, { recursive: true, force: true }));

test.serial('every file of a tree has one line, and the counts add up', async (t) => {
  t.timeout(180_000);
  const before = performance.now();
  const end = await run([tree, '--json', '--out', out('calm')], async (_pid, ended) => {
    while (!ended.aborted && sizeOf(out('calm')) === 0) await wait(20);
    startMs = performance.now() - before;
  });
  t.is(end.code, 0, end.stderr);
  t.is(end.stdout.trim().split('\n').length, 1);
  const figures = figuresOf(end);
  t.is(figures.records, figures.results + figures.failed + figures.deadLetters);
  t.true(figures.records > 300 && figures.agreement > 0.85, end.stdout);
  t.like(figures, { restarts: 0, deadLetters: 0 });
  t.true(figures.recordsPerSecond > 0 && figures.batches > 0 && figures.meanBatchSize > 1);
  t.true(figures.latencyMs.p50 > 0 && figures.latencyMs.p99 >= figures.latencyMs.p50);

  const lines = linesOf(out('calm'));
  t.is(lines.length, figures.records);
  t.is(new Set(lines.map(({ path }) => path)).size, lines.length);
  t.is(figures.results, countFiles(tree));
});

/** Not readdir with `recursive`: on Node 24 that one follows the symlink loop. */
function countFiles(directory: string): number {
  let count = 0;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) count += countFiles(join(directory, entry.name));
    else if (entry.isFile()) count++;
  }
  return count;
}

test.serial('empty, huge, special and looping entries have their own outcome', (t) => {
  const lines = new Map(linesOf(out('calm')).map((line) => [line.path, line]));
  const at = (name: string): Line | undefined => lines.get(join(tree, name));
  t.deepEqual(at('empty.js'), { path: join(tree, 'empty.js'), size: 0, type: 'empty' });
  t.is(at('huge.bin')?.size, 8 * 2 ** 30);
  t.is(typeof at('huge.bin')?.type, 'string');
  t.is(at('a name with spaces, \u00fc and \u{1f3ad}.txt')?.type, 'txt');
  t.is(at('directory.js'), undefined);
  for (const name of ['loop', 'dangling.js', 'pipe.js']) {
    t.is(at(name)?.error?.code, 'FILE_UNREADABLE', name);
    t.true(at(name)?.error?.message.includes(join(tree, name)), name);
  }
});

onLinux(
  'with every child killed again and again each file has one outcome, and the results are the same',
  async (t) => {
    t.timeout(600_000);
    const modules = join(root, 'node_modules');
    t.is((await run([modules, '--json', '--out', out('undisturbed')])).code, 0);
    let kills = 0;
    const end = await run([modules, '--json', '--out', out('disturbed')], async (pid, ended) => {
      // Each child is killed 0.3 to 1 s after about the time that its start takes on this machine now, so that a busy
      // machine makes the test slow and not endless.
      const seen = new Map<number, number>();
      const patience = [300, 1000, 500, 700];
      while (!ended.aborted) {
        await wait(50, undefined, { signal: ended }).catch(() => undefined);
        const now = performance.now();
        for (const child of childrenOf(pid)) {
          const since = seen.get(child) ?? now;
          seen.set(child, since);
          if (now - since < startMs / 2 + (patience[kills % patience.length] as number)) continue;
          try {
            process.kill(child, 'SIGKILL');
            kills++;
          } catch {
            // It has ended by itself.
          }
        }
      }
    });
    t.is(end.code, 0, end.stderr);
    const figures = figuresOf(end);
    t.true(kills >= 2, `${kills} kills; a start takes ${startMs} ms; ${end.stdout}`);
    t.true(figures.restarts >= 1, end.stdout);
    t.is(figures.records, figures.results + figures.failed + figures.deadLetters);
    t.is(linesOf(out('disturbed')).length, figures.records);
    t.true(readFileSync(out('disturbed')).equals(readFileSync(out('undisturbed'))), 'the results differ');
    t.log(`${kills} kills, ${figures.restarts} restarts`);
  },
);

test.serial('files renamed to a wrong extension are still recognised', async (t) => {
  t.timeout(180_000);
  const renamed = join(scratch, 'renamed');
  mkdirSync(renamed);
  const before = new Map<string, string>();
  for (const { path, type, size } of linesOf(out('calm'))) {
    if (type === undefined || type === 'empty' || (size as number) > 1e6) continue;
    const name = `${before.size}.png`;
    cpSync(path, join(renamed, name));
    before.set(join(renamed, name), type);
  }
  const end = await run([renamed, '--json', '--out', out('renamed')]);
  t.is(end.code, 0, end.stderr);
  const lines = linesOf(out('renamed'));
  t.is(lines.length, before.size);
  t.deepEqual(
    lines.filter(({ path, type }) => before.get(path) !== type),
    [],
  );
  t.is(figuresOf(end).agreement, 0);
});

test.serial('version 1 and version 2 both run, and every result names its version', async (t) => {
  t.timeout(180_000);
  for (const version of ['1', '2']) {
    const end = await run([
      join(tree, 'comlink'),
      '--json',
      '--version',
      version,
      '--replicas',
      '1',
      '--out',
      out(version),
    ]);
    t.is(end.code, 0, end.stderr);
    t.deepEqual([...new Set(linesOf(out(version)).map((line) => line.version))], [version]);
  }
});

test.serial('a file that vanishes between its listing and its turn fails alone', async (t) => {
  t.timeout(180_000);
  const place = join(scratch, 'vanishing');
  mkdirSync(place);
  // More files than the job holds at once, so that the last one is listed and not yet read when the first result is out.
  for (let index = 0; index < 5000; index++) writeFileSync(join(place, `${index}.js`), `export const n = ${index};\n`);
  const last = join(place, 'zz.js');
  writeFileSync(last, 'export {};\n');
  const end = await run([place, '--json', '--out', out('vanishing')], async (_pid, ended) => {
    while (!ended.aborted && sizeOf(out('vanishing')) === 0) await wait(5);
    rmSync(last);
  });
  t.is(end.code, 0, end.stderr);
  const lines = linesOf(out('vanishing'));
  t.is(lines.length, 5001);
  const failed = lines.filter((line) => line.error !== undefined);
  t.deepEqual(
    failed.map(({ path, error }) => [path, error?.code]),
    [[last, 'FILE_UNREADABLE']],
  );
});

test.serial('a missing, an empty and a cut model end the job with the code, the file and the pool', async (t) => {
  t.timeout(180_000);
  const whole = readFileSync(join(model, '1', 'model.onnx'));
  const broken = join(scratch, 'broken', 'filetype');
  cpSync(model, broken, { recursive: true, filter: (path) => !path.includes('train') });
  const cases: readonly (readonly [string, () => void, readonly string[], RegExp])[] = [
    ['no such directory', () => undefined, ['--model', join(scratch, 'none')], /none/],
    ['no such version', () => undefined, ['--version', '9'], /VERSION_NOT_FOUND.*"filetype".*9/],
    [
      'empty',
      () => writeFileSync(join(broken, '1', 'model.onnx'), ''),
      [],
      /MODEL_INVALID.*"filetype".*1\/model\.onnx.*empty/,
    ],
    [
      'cut',
      () => writeFileSync(join(broken, '1', 'model.onnx'), whole.subarray(0, whole.length >> 1)),
      [],
      /MODEL_INVALID.*"filetype".*1\/model\.onnx/,
    ],
    ['missing', () => rmSync(join(broken, '1', 'model.onnx')), [], /MODEL_NOT_FOUND.*"filetype".*1\/model\.onnx/],
  ];
  for (const [what, breakIt, more, expected] of cases) {
    breakIt();
    const end = await run([tree, '--json', '--model', broken, '--version', '1', '--out', out('broken'), ...more]);
    t.is(end.code, 1, `${what}: ${end.stderr}`);
    t.is(end.stdout, '', what);
    t.regex(end.stderr, expected, what);
  }
});

test.serial('a wrong flag ends with 2 and says where help is', async (t) => {
  for (const args of [['--no-such-flag'], ['--replicas', 'many'], [tree, tree]]) {
    const end = await run(args);
    t.is(end.code, 2, args.join(' '));
    t.is(end.stdout, '');
    t.regex(end.stderr, /--help/);
  }
  const help = await run(['--help']);
  t.is(help.code, 0);
  t.regex(help.stdout, /--replicas/);
});

test.serial('without --json the summary is a table on stdout', async (t) => {
  t.timeout(180_000);
  const end = await run([join(tree, 'comlink'), '--out', out('table')]);
  t.is(end.code, 0, end.stderr);
  t.regex(end.stdout, /records +\d+/);
  t.regex(end.stdout, /files per type\n +\w+ +\d+/);
  t.regex(end.stdout, /type agrees with extension: \d+\.\d\d %/);
});

test.serial('a tree that is not there ends with 1 and names it', async (t) => {
  t.timeout(180_000);
  const end = await run([join(scratch, 'no-tree'), '--json', '--out', out('none')]);
  t.is(end.code, 1);
  t.is(end.stdout, '');
  t.regex(end.stderr, /SOURCE_FAILED.*no-tree/);
});

onLinux('the first SIGINT finishes what is under way and reports, and no child stays', async (t) => {
  t.timeout(180_000);
  let children: number[] = [];
  const end = await run([join(root, 'node_modules'), '--json', '--out', out('stopped')], async (pid, ended) => {
    while (!ended.aborted && sizeOf(out('stopped')) === 0) await wait(20);
    children = childrenOf(pid);
    process.kill(pid, 'SIGINT');
  });
  t.is(end.code, 130, end.stderr);
  const figures = figuresOf(end);
  t.is(figures.records, figures.results + figures.failed + figures.deadLetters);
  t.is(linesOf(out('stopped')).length, figures.records);
  t.is(figures.failed, linesOf(out('stopped')).filter((line) => line.error !== undefined).length);
  t.true(children.length >= 1);
  for (const child of children) t.throws(() => process.kill(child, 0), { message: /ESRCH/ });
});

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
