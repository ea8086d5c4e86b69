import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';

/** The main job as a user runs it, `npm start` in a terminal, interrupted; and with a disk that is full. */

const root = fileURLToPath(new URL('../../../', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'troupe-start-'));
test.after.always(() => rmSync(scratch, { recursive: true, force: true }));

const onLinux = process.platform === 'linux' ? test.serial : test.serial.skip;

/** The processes of a group that run; npm, when it is asked, is the first of its own. */
function running(group: number): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
        const [state, , pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return Number(pgrp) === group && state !== 'Z' ? [readFileSync(`/proc/${name}/cmdline`, 'utf8')] : [];
      } catch {
        return []; // It has ended.
      }
    });
}

interface Started {
  readonly npm: ChildProcess;
  readonly out: string;
  readonly group: number;
  readonly ended: Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>;
}

/** `npm start` in a process group of its own, as a shell with job control starts it; back when results are written. */
async function npmStart(t: ExecutionContext, name: string): Promise<Started> {
  const out = join(scratch, `${name}.ndjson`);
  // Without the scripts around it: the build is done.
  const args = ['start', '--ignore-scripts', '--silent', '--', '--json', '--out', out];
  const npm = spawn('npm', args, { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const group = npm.pid as number;
  t.teardown(() => {
    if (running(group).length > 0) process.kill(-group, 'SIGKILL');
  });
  let stdout = '';
  let stderr = '';
  npm.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  npm.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<Awaited<Started['ended']>>((resolve) =>
    // As a shell tells it. npm leaves its handlers once the job has ended, so a later signal may end npm itself.
    npm.on('close', (code, signal) =>
      resolve({ code: signal === null ? code : 128 + constants.signals[signal], stdout, stderr }),
    ),
  );
  while ((statSync(out, { throwIfNoEntry: false })?.size ?? 0) === 0) {
    if (npm.exitCode !== null) throw new Error(`npm start ended with ${npm.exitCode}: ${stderr}`);
    await wait(20);
  }
  return { npm, out, group, ended };
}

for (const [what, signal, code, send] of [
  ['Ctrl-C in the terminal of npm start', 'SIGINT', 130, (group: number) => process.kill(-group, 'SIGINT')],
  ['SIGINT to npm alone', 'SIGINT', 130, (group: number) => process.kill(group, 'SIGINT')],
  ['SIGTERM to npm alone', 'SIGTERM', 143, (group: number) => process.kill(group, 'SIGTERM')],
] as const) {
  onLinux(`${what} finishes what is under way, ends with ${code}, and a second later no process is left`, async (t) => {
    t.timeout(120_000);
    const { out, group, ended } = await npmStart(t, what.replaceAll(' ', '-'));
    t.true(running(group).length >= 3, 'npm, the job, its replicas');
    send(group);
    const end = await ended;
    t.is(end.code, code, end.stderr);
    t.regex(end.stderr, new RegExp(`${signal}: finishing what is under way`));
    const { records, results, failed } = JSON.parse(end.stdout) as Record<string, number>;
    t.is(records, (results as number) + (failed as number));
    const lines = readFileSync(out, 'utf8').trimEnd().split('\n');
    t.is(lines.length, records as number);
    t.false(
      lines.some((line) => line.includes('POOL_STOPPED')),
      'nothing under way was thrown away',
    );
    await wait(1000);
    t.deepEqual(running(group), []);
  });
}

onLinux('a second Ctrl-C in the terminal of npm start ends at once', async (t) => {
  t.timeout(120_000);
  const { group, ended } = await npmStart(t, 'twice');
  process.kill(-group, 'SIGINT');
  await wait(300);
  // It may have ended by itself meanwhile.
  if (running(group).length > 0) process.kill(-group, 'SIGINT');
  t.is((await ended).code, 130);
  await wait(1000);
  t.deepEqual(running(group), []);
});

onLinux('a disk that is full ends the job with SINK_FAILED and the reason, and no process is left', async (t) => {
  t.timeout(120_000);
  const disk = join(scratch, 'disk');
  const mounted = mountSmall(disk);
  if (mounted !== undefined) {
    t.log(`not run: ${mounted}`);
    t.pass();
    return;
  }
  t.teardown(() => execFileSync('umount', [disk]));
  const out = join(disk, 'out.ndjson');
  const job = spawn(process.execPath, [join(root, 'dist/examples/filetypes.js'), '--json', '--out', out], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  job.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  job.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const code = await new Promise((resolve) => job.on('close', resolve));
  t.is(code, 1, stderr);
  t.is(stdout, '', 'no figures that would claim a whole run');
  t.regex(stderr, /SINK_FAILED.*out\.ndjson.*ENOSPC/);
  const lines = readFileSync(out, 'utf8').split('\n');
  t.is(statSync(out).size, 2 ** 20, 'it was written until the disk was full');
  t.notThrows(() => lines.slice(0, -1).map((line) => JSON.parse(line) as unknown), 'all but the cut line is whole');
  await wait(1000);
  t.deepEqual(running(job.pid as number), []);
});

/** A disk of 1 MiB; or why there is none. */
function mountSmall(at: string): string | undefined {
  try {
    execFileSync('mkdir', ['-p', at]);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at], { stdio: ['ignore', 'ignore', 'pipe'] });
    return undefined;
  } catch (error) {
    return `a tmpfs cannot be mounted here: ${String((error as { stderr?: unknown }).stderr ?? error).trim()}`;
  }
}
