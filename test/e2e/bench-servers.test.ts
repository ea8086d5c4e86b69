import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import test from 'ava';
import { startMarked } from '../../bench/peers/marked.js';

const linux = process.platform === 'linux' ? test : test.skip;

/** Starts one that detaches itself, says its pid, and lives on. */
const PARENT = `
  const { spawn } = require('node:child_process');
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { detached: true, stdio: 'ignore' });
  child.unref();
  console.log('child ' + child.pid);
  setInterval(() => {}, 1000);
`;

/** R, S, T for stopped; undefined for one that is gone, or is dead and only not yet waited for. */
function stateOf(pid: number): string | undefined {
  try {
    const state = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.[0];
    return state === 'Z' || state === 'X' ? undefined : state;
  } catch {
    return undefined;
  }
}

linux('a marked command is stopped, continued and killed with a child that has detached itself', async (t) => {
  t.timeout(240_000);
  const marked = startMarked(process.execPath, ['-e', PARENT], { cwd: process.cwd() });
  t.teardown(() => marked.kill());
  const said = (): number => Number(/child (\d+)/.exec(marked.said())?.[1] ?? 0);
  while (said() === 0) await wait(10);
  const child = said();
  t.not(stateOf(child), undefined);
  marked.stop();
  while (stateOf(child) !== 'T') await wait(10);
  marked.go();
  while (stateOf(child) === 'T') await wait(10);
  t.true(marked.isRunning());
  marked.kill();
  while (stateOf(child) !== undefined) await wait(10);
  while (marked.isRunning()) await wait(10);
  t.true(marked.cpuMicros() === 0, 'nobody is left');
});

linux('a command that cannot be started says so and does not run', async (t) => {
  t.timeout(240_000);
  const marked = startMarked('/there/is/no/such/command', [], { cwd: process.cwd() });
  t.teardown(() => marked.kill());
  while (marked.said() === '') await wait(10);
  t.regex(marked.said(), /ENOENT/);
  t.false(marked.isRunning());
});
