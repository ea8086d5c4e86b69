import { writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../kernel/clock.js';
import { PULSE_BEAT, PULSE_FD, PULSE_OUT_OF_MEMORY, type ProcessData } from '../wire/messages.js';

/**
 * A thread of its own in every child: it beats to the host, ends the child when its parent is gone, and ends it when its
 * memory passes the limit. It sleeps in Atomics.wait and needs no event loop, so it works while the actor blocks its own.
 */

const { parentPid, heartbeatMs, memoryLimitBytes } = workerData as ProcessData;

/** An orphan is gone well within a second; a limit is passed by less when it is looked at more often. */
const PARENT_CHECK_MS = 100;
const MEMORY_CHECK_MS = 25;
const tickMs = Math.min(
  heartbeatMs,
  PARENT_CHECK_MS,
  memoryLimitBytes === undefined ? PARENT_CHECK_MS : MEMORY_CHECK_MS,
);

const sleeper = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
let beatAt = -Infinity;
let isUp = false;
for (;;) {
  // A process that has lost its parent gets another one.
  if (process.ppid !== parentPid) endProcess();
  if (memoryLimitBytes !== undefined && process.memoryUsage.rss() > memoryLimitBytes) {
    tell(PULSE_OUT_OF_MEMORY);
    endProcess();
  }
  // By the clock: on a busy machine a tick takes longer than it asks for, and forty of them a beat too long.
  const now = systemClock.now();
  if (now + tickMs / 2 >= beatAt + heartbeatMs) {
    tell(PULSE_BEAT);
    beatAt = now;
    if (!isUp) parentPort?.postMessage('up');
    isUp = true;
  }
  Atomics.wait(sleeper, 0, 0, tickMs);
}

function tell(byte: number): void {
  try {
    writeSync(PULSE_FD, Uint8Array.of(byte));
  } catch (error) {
    // A full pipe means that the host is busy and has beats enough to read; every other error, that nobody listens.
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') endProcess();
  }
}

/** process.exit would end this thread alone. */
function endProcess(): void {
  process.kill(process.pid, 'SIGKILL');
}
