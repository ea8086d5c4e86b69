/**
 * A job that is killed with SIGKILL three times and goes on each time with other settings: where its replicas live, how
 * many they are, how large batches are, how much a step may hold, how much moves at once.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { Report } from '../../src/stream/report.js';
import { isPoison, keyOf, type Numbered, type Settings } from './changing-job-records.js';

const COUNT = 1500;
const job = fileURLToPath(new URL('./changing-job.js', import.meta.url));

const LIVES: readonly Omit<Settings, 'order'>[] = [
  { isolation: 'inline', replicas: 3, maxSize: 4, capacity: 64, chunkSize: 16, killAfter: 60 },
  { isolation: 'thread', replicas: 1, maxSize: 7, capacity: 5, chunkSize: 3, killAfter: 60 },
  { isolation: 'process', replicas: 2, maxSize: 1, capacity: 200, chunkSize: 64, killAfter: 60 },
  { isolation: 'thread', replicas: 2, maxSize: 16, capacity: 33, chunkSize: 8, killAfter: undefined },
];

for (const order of ['unordered', 'keyed', 'ordered'] as const) {
  test(`E1: a job, ${order}, that is killed and goes on with other settings each time loses and doubles nothing`, async (t) => {
    t.timeout(300_000);
    const folder = await mkdtemp(join(tmpdir(), 'troupe-changes-'));
    t.teardown(() => rm(folder, { recursive: true, force: true }));
    const numbers = Array.from({ length: COUNT }, (_, n): Numbered => ({ n }));
    await writeFile(join(folder, 'in.ndjson'), numbers.map((record) => `${JSON.stringify(record)}\n`).join(''));
    const reports: Report[] = [];
    for (const [index, life] of LIVES.entries()) {
      const { code, signal, output, errors } = await run(folder, { ...life, order });
      if (life.killAfter !== undefined) {
        t.is(signal, 'SIGKILL', `life ${index}: ${errors}`);
        continue;
      }
      t.is(code, 0, errors);
      reports.push(JSON.parse(output) as Report);
    }
    const read = async <T>(name: string): Promise<T[]> => {
      const lines = (await readFile(join(folder, name), 'utf8')).split('\n');
      t.is(lines.pop(), '', `${name} ends with a whole line`);
      return lines.map((line) => JSON.parse(line) as T);
    };
    const results = await read<Numbered>('out.ndjson');
    const dead = (await read<{ input: Numbered }>('dead.ndjson')).map(({ input }) => input);
    const inOrder = (list: readonly Numbered[]): Numbered[] => [...list].sort((a, b) => a.n - b.n);
    const good = numbers.filter((record) => !isPoison(record));
    t.deepEqual(inOrder(results), good, 'results, each once');
    t.deepEqual(inOrder(dead), numbers.filter(isPoison), 'dead letters, each once');
    if (order === 'ordered') t.deepEqual(results, good);
    if (order === 'keyed') {
      for (const key of ['0', '1', '2', '3', '4']) {
        const ofKey = results.filter((record) => keyOf(record) === key);
        t.deepEqual(ofKey, inOrder(ofKey), `the results of key ${key}`);
      }
    }
    if (order !== 'ordered') t.notDeepEqual(results, good, 'records overtook each other, so the kills met gaps');
    const [last] = reports;
    t.is(last?.delivery, 'exactly-once');
    const left = last?.records ?? COUNT;
    t.true(left <= COUNT - 3 * 60, `the lives before did their part; ${left} were left`);
  });
}

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
  readonly errors: string;
}

async function run(folder: string, settings: Settings): Promise<Ended> {
  const child = spawn(process.execPath, [job, folder, JSON.stringify(settings)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, output, errors };
}
