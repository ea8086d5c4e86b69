// The rows of the reliability scorecard at their full size, as they run small with every commit: `npm run nightly`.
// Prints one JSON line per row to stdout (id, faults, runs, seconds, lost, dup, reorder, p99RecoveryMs, rssDeltaBytes, seed, commit) and what
// fails to stderr. Arguments choose rows: `npm run nightly -- A2 K6`. TROUPE_SEED sets the seed, 1 otherwise.
import { execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** Row -> its files and the beginning of its tests' titles; '' for every test of the files. */
const ROWS = {
  A1: ['e2e/rows-a', 'A1'],
  A2: ['e2e/row-a2', 'A2'],
  'A2-idle': ['e2e/row-a2-idle', 'A2-idle'],
  A3: ['e2e/rows-a', 'A3'],
  A5: ['e2e/rows-a', 'A5'],
  A8: ['e2e/rows-a', 'A8'],
  A9: ['e2e/row-a9', 'A9'],
  'B1-memory': ['e2e/row-swap-memory', 'B1-memory'],
  B2: ['e2e/row-b2', 'B2'],
  B4: ['e2e/row-b4', 'B4'],
  B5: ['e2e/row-b5', 'B5'],
  C1: ['e2e/rows-overload', 'C1'],
  C2: ['e2e/rows-overload', 'C2'],
  D3: ['e2e/rows-c-d', 'D3'],
  D7: ['e2e/row-d7', 'D7'],
  F1: ['e2e/{rows-f,row-f1-oip}', 'F1'],
  F2: ['e2e/rows-f', 'F2'],
  F3: ['e2e/rows-f', 'F3'],
  F4: ['e2e/rows-f', 'F4'],
  F5: ['e2e/health', 'F5'],
  FK: ['e2e/lane-kill', ''],
  G1: ['serve/{request-fuzz,grpc-codec}', 'G1'],
  G2: ['serve/oip-codec', 'G2'],
  G3: ['serve/oip-shapes', 'G3'],
  G4: ['serve/{oip,grpc}-codec', 'G4'],
  G5: ['e2e/rows-g', 'G5'],
  G6: ['e2e/{rows-g,row-g6}', 'G6'],
  G7: ['wire/lane-messages', 'G7'],
  H2: ['models/repository', 'H2'],
  H3: ['actors/onnx-external', 'H3'],
  H4: ['config/corpus', 'H4'],
  H5: ['e2e/row-h5', 'H5'],
  I7: ['e2e/row-i7', 'I7'],
  K3: ['e2e/row-k3', 'K3'],
  K5: ['e2e/row-k5', 'K5'],
  K6: ['e2e/rows-k', 'K6'],
};

const root = fileURLToPath(new URL('../', import.meta.url));
const ava = fileURLToPath(new URL('../node_modules/ava/entrypoints/cli.mjs', import.meta.url));
const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(ROWS);
for (const id of chosen) {
  if (Object.hasOwn(ROWS, id)) continue;
  process.stderr.write(`nightly: there is no row ${id}; there are ${Object.keys(ROWS).join(', ')}\n`);
  process.exit(2);
}
const commit = commitOf();
const seed = process.env.TROUPE_SEED ?? '1';

let child;
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child?.kill(signal));
for (const id of chosen) {
  const { rows, isGood } = await run(...ROWS[id]);
  for (const row of rows) process.stdout.write(`${JSON.stringify({ ...row, commit })}\n`);
  if (!isGood) process.exitCode = 1;
}

async function run(file, title) {
  const args = [ava, '--tap', '--concurrency=1', '--serial', '--timeout=30m', `dist/test/${file}.test.js`];
  if (title !== '') args.push(`--match=${title} *`);
  child = spawn(process.execPath, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      FORCE_COLOR: '0',
      TROUPE_SIZE: 'full',
      TROUPE_SEED: seed,
    },
  });
  const rows = [];
  let isFailing = false;
  for await (const line of createInterface({ input: child.stdout })) {
    const row = /^# +row (\{.*\})$/.exec(line)?.[1];
    if (row !== undefined) rows.push(JSON.parse(row));
    if (/^(not )?ok /.test(line)) isFailing = line.startsWith('not');
    if (isFailing) process.stderr.write(`${line}\n`);
  }
  const code = child.exitCode ?? (await new Promise((resolve) => child.on('close', resolve)));
  if (rows.length === 0) process.stderr.write(`nightly: ${file} ${title} has told no figures\n`);
  return { rows, isGood: code === 0 && rows.length > 0 };
}

function commitOf() {
  try {
    const options = { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] };
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], options).trim();
  } catch {
    return 'unknown';
  }
}
