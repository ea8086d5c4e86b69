import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { connect, type Report } from 'troupe';
import { folder } from '../serve/lane-stand.js';
import { beginRow } from './row-report.js';
import { isFull, sizes } from './sizes.js';

/** Real processes on both sides of a lane, killed in the middle of their batches; the file at the end is what it should be. */

const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
const COUNT = sizes.laneRecords;
const TIMEOUT_MS = isFull ? 1_500_000 : 240_000;

interface Stand {
  readonly dir: string;
  readonly lane: string;
}

function stand(t: ExecutionContext): Stand {
  const dir = folder(t);
  writeFileSync(path.join(dir, 'in.ndjson'), Array.from({ length: COUNT }, (_, n) => `{"n":${n}}\n`).join(''));
  return { dir, lane: path.join(dir, 'run', 'l') };
}

/** A process of its own that ends with its test. */
function start(t: ExecutionContext, file: string, args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, [pathOf(file), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

async function sidecar(t: ExecutionContext, { lane }: Stand): Promise<ChildProcess> {
  const child = start(t, './lane-sidecar.js', [lane]);
  await once(child.stdout as NonNullable<typeof child.stdout>, 'data');
  return child;
}

interface Job {
  readonly child: ChildProcess;
  readonly ended: Promise<{ readonly code: number | null; readonly report: Report | undefined }>;
}

function job(t: ExecutionContext, { dir, lane }: Stand): Job {
  const child = start(t, './lane-job.js', [dir, lane]);
  let text = '';
  child.stdout?.on('data', (part: Buffer) => (text += part.toString()));
  const ended = once(child, 'close').then(([code]) => ({
    code: code as number | null,
    report: text === '' ? undefined : (JSON.parse(text) as Report),
  }));
  return { child, ended };
}

/** Until so much more has been written; false where the job has ended before. */
async function progress({ dir }: Stand, { child }: Job, bytes: number): Promise<boolean> {
  const file = path.join(dir, 'out.ndjson');
  const size = (): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  const from = size();
  while (size() < from + bytes) {
    if (child.exitCode !== null || child.signalCode !== null) return false;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return true;
}

/** How many of the records are not there, are there twice, or are not what they should be. */
function verify(
  t: ExecutionContext,
  { dir }: Stand,
  report: Report | undefined,
): { readonly lost: number; readonly dup: number } {
  const lines = readFileSync(path.join(dir, 'out.ndjson'), 'utf8').trimEnd().split('\n');
  const found = lines.map((line) => JSON.parse(line) as { n: number; square: number });
  const right = new Set(found.filter(({ n, square }) => n >= 0 && n < COUNT && square === n * n).map(({ n }) => n));
  const counts = { lost: COUNT - right.size, dup: found.length - right.size };
  t.deepEqual(counts, { lost: 0, dup: 0 });
  t.is(report?.failed, 0);
  t.is(report?.delivery, 'exactly-once');
  return counts;
}

test('a client killed in the middle of its batches leaves the sidecar as it was; begun again it loses and doubles nothing', async (t) => {
  t.timeout(TIMEOUT_MS);
  const row = beginRow(t, 'FK');
  const here = stand(t);
  const server = await sidecar(t, here);
  let kills = 0;
  for (let round = 0; round < sizes.laneKills; round++) {
    const one = job(t, here);
    if (!(await progress(here, one, COUNT))) break;
    one.child.kill('SIGKILL');
    await one.ended;
    kills++;
  }
  const last = job(t, here);
  const { code, report } = await last.ended;
  t.is(code, 0);
  row({ faults: kills, runs: COUNT, ...verify(t, here, report), reorder: 0 });
  t.true(kills > 0);
  t.is(server.exitCode, null);
  await using connection = connect(`unix://${here.lane}`);
  t.deepEqual(await connection.pool('square').health(), { ready: true });
  server.kill('SIGUSR2');
  const [held] = (await once(server.stdout as NonNullable<typeof server.stdout>, 'data')) as [Buffer];
  t.is(held.toString(), 'held 0\n');
});

for (const [what, signal] of [
  ['killed in the middle of its batches and started again', 'SIGKILL'],
  ['replaced by a new process at the same path while it works', 'SIGTERM'],
] as const) {
  test(`a sidecar that is ${what} costs its client nothing: nothing lost, nothing doubled, nothing failed`, async (t) => {
    t.timeout(TIMEOUT_MS);
    const row = beginRow(t, 'FK');
    const here = stand(t);
    let server = await sidecar(t, here);
    const one = job(t, here);
    let changes = 0;
    for (let round = 0; round < sizes.laneKills; round++) {
      if (!(await progress(here, one, COUNT))) break;
      const ended = once(server, 'exit');
      server.kill(signal);
      if (signal === 'SIGKILL') await ended;
      else await gone(here.lane);
      server = await sidecar(t, here);
      changes++;
    }
    const { code, report } = await one.ended;
    t.is(code, 0);
    row({ faults: changes, runs: COUNT, ...verify(t, here, report), reorder: 0 });
    t.true(changes > 0);
  });
}

/** The old process takes its name away before it has answered everything: the new one need not wait for its end. */
async function gone(lane: string): Promise<void> {
  while (statSync(lane, { throwIfNoEntry: false }) !== undefined)
    await new Promise((resolve) => setTimeout(resolve, 2));
}
