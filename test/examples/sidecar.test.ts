import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { lineOf } from '../e2e/servers.js';

/** The three terminals of docs/connect.md. */

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../../', import.meta.url));
const PYTHON = new URL('../../../scripts/python.mjs', import.meta.url).href;

/** Thousands, which nobody writes meanwhile. */
const FILES = 'node_modules/openai';
const SHARED = /^one batch, \d+ records: \d+ of pipeline, \d+ of python$/m;

interface Python {
  readonly TRITONCLIENT: string;
  readonly pythonOf: (
    name: string,
    requirement: string,
    known: string,
  ) => Promise<{ readonly bin: string } | { readonly why: string }>;
}

test('a script with tritonclient and a pipeline through connect share a batch of troupe serve', async (t) => {
  t.timeout(1_200_000); // The client may have to be fetched first.
  const { TRITONCLIENT, pythonOf } = (await import(PYTHON)) as Python;
  const python = await pythonOf('tritonclient', TRITONCLIENT, 'tritonclient');
  if ('why' in python) {
    t.log(`not run: ${python.why}`);
    t.pass();
    return;
  }
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-sidecar-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const env = { ...process.env, SERVE_PORT: '0', LANE: path.join(dir, 'run', 'lane.sock') };
  const start = (file: string, args: readonly string[]): ChildProcess => {
    const child = spawn(file, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    t.teardown(() => child.kill('SIGKILL'));
    return child;
  };
  const batches = path.join(root, 'examples/sidecar/batches.js');
  const command = path.join(root, 'dist/src/cli/main.js');
  const server = start(process.execPath, ['--import', batches, command, 'serve', 'examples/sidecar/troupe.yaml']);
  let said = '';
  server.stderr?.on('data', (part: Buffer) => (said += part.toString()));
  if (server.stderr !== null) await lineOf(server, server.stderr, /served at http/);
  const port = /served at http:\/\/127\.0\.0\.1:(\d+)\//.exec(said)?.[1] ?? '';
  const client = start(python.bin, ['examples/sidecar/client.py', FILES, `127.0.0.1:${port}`]);
  let wrong = '';
  client.stderr?.on('data', (part: Buffer) => (wrong += part.toString()));
  if (client.stdout !== null) await lineOf(client, client.stdout, /: \w+$/).catch(() => t.fail(wrong));
  // Once is enough; a busy machine may give the script no turn while the pipeline runs.
  for (let round = 0; round < 20 && !SHARED.test(said) && client.exitCode === null; round++) {
    const { stdout } = await run(process.execPath, ['examples/sidecar/pipeline.js', FILES], { cwd: root, env });
    const [, files, recognised] = /^(\d+) files, (\d+) recognised, 0 failed/.exec(stdout) ?? [];
    t.true(Number(files) > 1000, stdout);
    t.is(recognised, files);
  }
  t.regex(said, SHARED, wrong);
});
