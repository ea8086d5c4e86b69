#!/usr/bin/env node
import { drainAll } from '../host/shutdown.js';
import { systemClock } from '../kernel/clock.js';
import { runCommand } from './command.js';

/** The `troupe` command: signals in, exit code out. Everything else is in command.ts. */

const stop = new AbortController();
const kill = new AbortController();
const SIGNAL_CODES = { SIGINT: 130, SIGTERM: 143 } as const;
/**
 * The same signal again within this time is the same wish: a terminal sends Ctrl-C to the whole process group, and npm
 * sends it on to its child besides.
 */
const SAME_WISH_MS = 200;
let endedBy: keyof typeof SIGNAL_CODES | undefined;
let endedAt = 0;

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    const now = systemClock.now();
    if (endedBy === signal && now - endedAt < SAME_WISH_MS) return;
    if (endedBy !== undefined) {
      kill.abort();
      void endNow(SIGNAL_CODES[signal]);
      return;
    }
    endedBy = signal;
    endedAt = now;
    stop.abort();
  });
}

/** Not process.exit alone: leaving while a native engine runs in a thread would abort the process. */
async function endNow(code: number): Promise<never> {
  const { leftCount } = await drainAll(0);
  if (leftCount > 0) process.kill(process.pid, 'SIGKILL');
  return process.exit(code);
}

const code = await runCommand(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  stop: stop.signal,
  kill: kill.signal,
});
process.exitCode = endedBy === undefined ? code : SIGNAL_CODES[endedBy];
