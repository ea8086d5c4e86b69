/**
 * E1: a real job is killed with SIGKILL at every write, fsync, rename and unlink of a checkpoint, by strace, which ends
 * it as it enters the chosen call, and is resumed. The output must be what it would have been without.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import type { Report } from '../../src/stream/report.js';
import { childrenOf, isKept, isPoison, type Child } from './checkpoint-job-records.js';
import { findServer, notRun, serverEnvironment } from './servers.js';

const COUNT = 150;
const job = fileURLToPath(new URL('./checkpoint-job.js', import.meta.url));
/** More than a job of this size makes. */
const CHECKPOINTS = 12;

/** What is killed at: calls on the files of checkpoints and their directory, and on the output that takes part. */
const TARGETS = [
  { what: 'a write', calls: 'write,pwrite64,writev', least: 4 },
  { what: 'an fsync', calls: 'fsync,fdatasync', least: 8 },
  { what: 'a rename', calls: 'rename', least: 4 },
  { what: 'an unlink', calls: 'unlink', least: 3 },
] as const;

for (const { what, calls, least } of TARGETS) {
  test(`E1: a job killed at ${what} of a checkpoint, whichever, and resumed has lost and doubled nothing`, async (t) => {
    t.timeout(300_000);
    const strace = findServer('strace');
    if (strace === undefined) return notRun(t, 'strace');
    const trial = spawnSync(strace, ['-qq', '-o', '/dev/null', process.execPath, '--version'], {
      env: serverEnvironment(),
    });
    if (trial.status !== 0) {
      t.log(`not run: this system does not let strace trace: ${trial.stderr.toString().trim()}`);
      t.pass();
      return;
    }
    let killed = 0;
    for (let when = 1; ; when += 1) {
      const folder = await mkdtemp(join(tmpdir(), 'troupe-kill-'));
      try {
        const numbers = Array.from({ length: COUNT }, (_, n) => JSON.stringify({ n }));
        await writeFile(join(folder, 'in.ndjson'), `${numbers.join('\n')}\n`);
        const first = await run(strace, [...killingAt(folder, calls, when), process.execPath, job, folder]);
        if (first.signal === null) {
          t.is(first.code, 0, first.errors);
          break;
        }
        t.is(first.signal, 'SIGKILL');
        killed += 1;
        const second = await run(process.execPath, [job, folder, 'other']);
        t.is(second.code, 0, second.errors);
        await verify(t, folder, `killed at ${what} ${when}`);
        const again = JSON.parse(second.output) as Report;
        t.is(again.delivery, 'exactly-once');
        t.deepEqual(again.checkpoints?.putAside, [], 'a kill damages nothing');
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    }
    t.log(`${killed} kills`);
    t.true(killed >= least, `${killed} kills`);
  });
}

function killingAt(folder: string, calls: string, when: number): string[] {
  const directory = join(folder, 'checkpoints');
  const files = Array.from({ length: CHECKPOINTS }, (_, index) => String(index + 1).padStart(12, '0')).flatMap(
    (number) => ['data', 'manifest'].flatMap((kind) => [`${number}.${kind}`, `${number}.${kind}.new`]),
  );
  const paths = [folder, join(folder, 'out.ndjson'), join(folder, 'dead.ndjson'), directory];
  return [
    ...['-f', '-qq', '-o', '/dev/null', '-e', `trace=${calls}`, '-e', `inject=${calls}:signal=KILL:when=${when}`],
    ...[...paths, ...files.map((name) => join(directory, name))].flatMap((path) => ['-P', path]),
  ];
}

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
  readonly errors: string;
}

async function run(command: string, args: readonly string[]): Promise<Ended> {
  // One thread for files, so that the calls have an order and strace, which counts for each thread, counts them all.
  const env = { ...serverEnvironment(), UV_THREADPOOL_SIZE: '1' };
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, output, errors };
}

async function verify(t: ExecutionContext, folder: string, when: string): Promise<void> {
  const children = Array.from({ length: COUNT }, (_, n) => childrenOf(n)).flat();
  const results = children.filter((child) => !isPoison(child) && isKept(child));
  const read = async <T>(name: string): Promise<T[]> => {
    const lines = (await readFile(join(folder, name), 'utf8')).split('\n');
    t.is(lines.pop(), '', `${name} ends with a whole line, ${when}`);
    return lines.map((line) => JSON.parse(line) as T);
  };
  const words = (list: readonly Child[]): string[] => list.map(({ n, child }) => `${n}.${child}`).sort();
  t.deepEqual(words(await read<Child>('out.ndjson')), words(results), `results, ${when}`);
  const dead = (await read<{ input: Child }>('dead.ndjson')).map(({ input }) => input);
  t.deepEqual(words(dead), words(children.filter(isPoison)), `dead letters, ${when}`);
}
