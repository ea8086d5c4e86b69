/**
 * D7: the wall clock of a whole process, its actors' included, jumps by an hour and back (libfaketime), the process is
 * stopped and goes on, and its event loop stalls; no deadline, time-out or restart may come of it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { ClockReport } from './clock-job.js';
import { beginRow } from './row-report.js';
import { findFaketime, notRun } from './servers.js';

const job = fileURLToPath(new URL('./clock-job.js', import.meta.url));
const HOUR_MS = 3_600_000;
const STALL_MS = 5000;

test('D7 jumps of the wall clock by an hour, a stop of the process and a stalled loop change no time-out', async (t) => {
  t.timeout(120_000);
  const library = findFaketime();
  if (library === undefined) return notRun(t, 'faketime');
  const row = beginRow(t, 'D7');
  const folder = mkdtempSync(join(tmpdir(), 'troupe-d7-'));
  const offsets = join(folder, 'offset');
  const setClock = (offset: string): void => {
    // By a rename: the library may read it at any moment.
    writeFileSync(`${offsets}.new`, offset);
    renameSync(`${offsets}.new`, offsets);
  };
  setClock('+0');
  const child = spawn(process.execPath, [job], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
    env: {
      ...process.env,
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: offsets,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    },
  });
  const group = -(child.pid ?? 0);
  t.teardown(() => {
    if (child.exitCode === null && child.signalCode === null) process.kill(group, 'SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  const lines: string[] = [];
  const output = createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  const closed = once(child, 'close');
  await Promise.race([once(output, 'line'), closed]);
  t.is(lines[0], 'ready');

  let faults = 0;
  for (const offset of ['+1h', '-1h', '+0', '-1h', '+1h', '+0']) {
    setClock(offset);
    faults += 1;
    await pause(500);
  }
  // The machine sleeps: host and actors stop together, the monotonic clock goes on.
  process.kill(group, 'SIGSTOP');
  await pause(STALL_MS);
  setClock('+1h');
  process.kill(group, 'SIGCONT');
  await pause(1000);
  child.stdin.write(`stall ${STALL_MS}\n`);
  await pause(STALL_MS + 1000);
  faults += 2;
  child.stdin.write('stop\n');
  const [code] = (await closed) as [number | null];
  t.is(code, 0);

  const seen = JSON.parse(lines.at(-1) ?? '') as ClockReport;
  t.log(JSON.stringify(seen));
  t.true(seen.wallMs[1] - seen.wallMs[0] > 1.9 * HOUR_MS, 'the jumps were seen');
  t.true(seen.answered > 100);
  t.is(seen.restarts, 0, 'nobody was taken for hung');
  t.deepEqual(seen.wrongFigures, []);
  // What waited while everything stood still may be past its deadline; nothing else may.
  const { DEADLINE_PASSED: late = 0, ...others } = seen.errors;
  t.deepEqual(others, {});
  t.true(late <= 16, `${late} asks passed their deadline: at most those of two stalls`);
  t.true(seen.earliestMs >= 0, `a time-out came ${-seen.earliestMs} ms early`);
  // One waits at a time, so each stall makes one late at most.
  t.true(seen.lateMs.length <= 2 && Math.max(0, ...seen.lateMs) < STALL_MS + 1000, `late: ${seen.lateMs.join(' ')} ms`);
  t.is(seen.stream.failed, 0);
  t.is(seen.stream.records, seen.stream.results);
  t.is(seen.checkpointsFailed, 0);
  t.true(seen.checkpoints >= 5, `${seen.checkpoints} checkpoints`);
  row({ faults, runs: seen.answered + seen.stream.records, lost: 0, dup: 0, reorder: 0 });
});
