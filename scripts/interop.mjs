// Clients of others against our server: `npm run interop`. Each part says what it called, or why it was not run, and fails
// the command where it fails. `--page` writes the transcript into docs/interop.md. Needs a build.
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createSystem, defineActor, silentLog } from 'troupe';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../', import.meta.url));
/** One for each client, made anew when its version changes. */
const venvs = path.join(root, 'node_modules/.cache/troupe-interop');
const TRITONCLIENT = 'tritonclient[http]==2.73.0';
const INSTALL_MS = 600_000;
const TOKEN = 'a-token-for-interop-0123456789';
const DTYPES = {
  BOOL: 'bool',
  UINT8: 'uint8',
  UINT16: 'uint16',
  UINT32: 'uint32',
  UINT64: 'uint64',
  INT8: 'int8',
  INT16: 'int16',
  INT32: 'int32',
  INT64: 'int64',
  FP16: 'float16',
  FP32: 'float32',
  FP64: 'float64',
  BYTES: 'string',
};

const python = await pythonOf('tritonclient', TRITONCLIENT);
if (python.why !== undefined) process.stdout.write(`tritonclient: not run: ${python.why}\n`);
else await tritonclient(python);

async function tritonclient({ bin, versions }) {
  const system = createSystem({ log: silentLog });
  try {
    await askAll(system, bin, versions);
  } finally {
    await system.stop();
  }
}

async function askAll(system, bin, versions) {
  const all = Object.entries(DTYPES);
  await system.spawn('mirror', { actor: mirrorOf(all) });
  for (const [name, dtype] of all)
    await system.spawn(`mirror_${name.toLowerCase()}`, { actor: mirrorOf([[name, dtype]]) });
  const { addresses } = await system.serve({ port: 0, tokens: { infer: [TOKEN] } });
  const lines = await calls(bin, 'tritonclient_http.py', [`127.0.0.1:${addresses[0].port}`, TOKEN]);
  if (lines === undefined) process.exitCode = 1;
  else if (process.argv.includes('--page')) toPage('tritonclient', versions, lines);
}

/** Gives back what it is given: the tensor FP32 as out_FP32. */
function mirrorOf(tensors) {
  const specs = (prefix) => tensors.map(([name, dtype]) => ({ name: `${prefix}${name}`, dtype, shape: [3] }));
  return defineActor({
    signature: { inputs: specs(''), outputs: specs('out_') },
    predict: ({ count, columns }) => ({
      count,
      columns: Object.fromEntries(tensors.map(([name]) => [`out_${name}`, columns[name]])),
    }),
  });
}

/** What the script says it called; undefined where it failed. */
async function calls(bin, script, args) {
  const child = spawn(bin, [path.join(root, 'scripts/interop', script), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.on('close', resolve));
  const lines = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const { what, fact } = JSON.parse(line);
    lines.push({ what, fact });
    process.stdout.write(`ok ${what}: ${fact}\n`);
  }
  const code = await ended;
  if (code !== 0) process.stderr.write(`interop: ${script} ended with ${code}\n`);
  return code === 0 ? lines : undefined;
}

/** A Python with the package in it, in an environment of its own; or why there is none. */
async function pythonOf(name, requirement) {
  const dir = path.join(venvs, name);
  const bin = path.join(dir, 'bin/python');
  const mark = path.join(dir, 'requirement');
  try {
    if (!existsSync(mark) || readFileSync(mark, 'utf8') !== requirement) {
      rmSync(dir, { recursive: true, force: true });
      mkdirSync(venvs, { recursive: true });
      await run('python3', ['-m', 'venv', dir]);
      await run(bin, ['-m', 'pip', 'install', '-q', requirement], { timeout: INSTALL_MS });
      writeFileSync(mark, requirement);
    }
    const words =
      'import sys, importlib.metadata as m; print("Python", sys.version.split()[0] + ",", "tritonclient", m.version("tritonclient"))';
    return { bin, versions: (await run(bin, ['-c', words])).stdout.trim() };
  } catch (error) {
    return {
      why: `no Python with ${requirement}: ${String(error.stderr || error.message)
        .trim()
        .split('\n')
        .at(-1)}`,
    };
  }
}

function toPage(name, versions, lines) {
  const page = path.join(root, 'docs/interop.md');
  const cell = (text) => text.replaceAll('|', '\\|');
  const table = [`${versions}:`, '', '| called | answered |', '|---|---|'];
  for (const { what, fact } of lines) table.push(`| ${cell(what)} | ${cell(fact)} |`);
  const text = readFileSync(page, 'utf8');
  const begin = `<!-- calls of ${name} -->`;
  const end = `<!-- end of ${name} -->`;
  writeFileSync(page, `${text.split(begin)[0]}${begin}\n${table.join('\n')}\n${end}${text.split(end)[1]}`);
}
