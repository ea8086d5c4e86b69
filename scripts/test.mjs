// Runs the compiled tests with ava, shows failures in full and everything else in short, and ends with the line
// `N passed, N failed` ; what was skipped stands in the line before. Arguments go to ava: `npm test -- dist/test/core/*.test.js`.
//
// A test counts as skipped when ava says so, or when it passes after `t.log('not run: REASON')`. A plan that does not
// hold, an ava that crashes, and a run without tests are failures.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { provideServers } from './servers.mjs';

const ava = fileURLToPath(new URL('../node_modules/ava/entrypoints/cli.mjs', import.meta.url));
const child = spawn(process.execPath, [ava, '--tap', ...process.argv.slice(2)], {
  stdio: ['ignore', 'pipe', 'inherit'],
  env: { ...process.env, ...provideServers(say), FORCE_COLOR: '0' },
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));

const startedAt = performance.now();
const counts = { passed: 0, failed: 0, skipped: 0 };
const perFile = new Map();
let planned;
/** The point that is being read, with the lines that follow it; it is judged when the next one begins. */
let point;

for await (const line of createInterface({ input: child.stdout })) {
  const match = /^(not )?ok \d+ - (.*?)(?: # (SKIP|TODO).*)?$/.exec(line);
  const plan = /^1\.\.(\d+)/.exec(line);
  if (match) {
    judge();
    point = { isOk: match[1] === undefined, title: match[2], directive: match[3], lines: [] };
  } else if (plan) {
    judge();
    planned = Number(plan[1]);
  } else if (point !== undefined) point.lines.push(line);
}
judge();
const { code, signal } = await new Promise((resolve) => {
  if (child.exitCode !== null || child.signalCode !== null) resolve({ code: child.exitCode, signal: child.signalCode });
  else child.on('close', (code, signal) => resolve({ code, signal }));
});

const troubles = [];
const { passed, failed, skipped } = counts;
const seen = passed + failed + skipped;
if (seen === 0) troubles.push('no test ran');
else if (planned === undefined) troubles.push(`ava ended in the middle, after ${seen} tests`);
else if (planned !== seen) troubles.push(`${planned} tests were announced, ${seen} reported`);
if (signal !== null) troubles.push(`ava was ended by ${signal}`);
else if (code !== 0 && failed === 0 && troubles.length === 0) troubles.push(`ava exited with ${code}`);

for (const trouble of troubles) say(`not ok: ${trouble}`);
say(`${perFile.size} files in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
if (skipped > 0) say(`${skipped} skipped, for the reasons above`);
say(`${passed} passed, ${failed + troubles.length} failed`);
process.exitCode = failed + troubles.length > 0 ? 1 : 0;

function judge() {
  if (point === undefined) return;
  const { isOk, title, directive, lines } = point;
  point = undefined;
  const file = title.split(' › ')[0];
  perFile.set(file, (perFile.get(file) ?? 0) + 1);
  const notRun = lines.find((line) => /^# +not run: /.test(line))?.replace(/^# +/, '');
  if (!isOk || directive === 'TODO') {
    counts.failed += 1;
    say(`\nnot ok: ${title}${directive === 'TODO' ? ' (a test that is only announced)' : ''}`);
    for (const line of lines) say(line);
    say('');
  } else if (directive === 'SKIP' || notRun !== undefined) {
    counts.skipped += 1;
    say(`skipped: ${title}${notRun === undefined ? '' : ` (${notRun})`}`);
  } else {
    counts.passed += 1;
    if (counts.passed % 50 === 0) say(`${counts.passed} passed`);
  }
}

function say(line) {
  process.stdout.write(`${line}\n`);
}
