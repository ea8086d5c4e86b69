// Clients of others against our server: `npm run interop`. Each part says what it called, or why it was not run, and fails
// the command where it fails. `--page` writes the transcript into docs/interop.md. Needs a build. Arguments choose parts:
// `npm run interop -- flink`.
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createSystem, defineActor, silentLog } from 'troupe';
import { deploy } from './interop/deploy.mjs';
import { flink } from './interop/flink.mjs';
import { openai } from './interop/openai.mjs';
import { openaiPython } from './interop/openai-python.mjs';
import { perfAnalyzer } from './interop/perf.mjs';
import { compare, startTriton } from './interop/pytriton.mjs';
import { askTriton } from './interop/triton-actor.mjs';
import { pythonOf, TRITONCLIENT, VENVS } from './python.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
/** The last one whose package holds perf_analyzer, and what that is linked with. */
const PERF_ANALYZER = 'tritonclient==2.41.1 nvidia-cuda-runtime-cu12';
const PYTRITON = 'nvidia-pytriton==0.7.0';
/** Without compiled modules: half of its 450 MB. */
const KSERVE = '--no-compile kserve==0.21.0';
const TOKEN = 'a-token-for-interop-0123456789';
const ADMIN = 'a-token-that-may-load-0123456789';
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

const chosen = process.argv.slice(2).filter((word) => !word.startsWith('--'));
if (isChosen('tritonclient')) {
  const python = await pythonOf('tritonclient', TRITONCLIENT, 'tritonclient');
  if (python.why !== undefined) process.stdout.write(`tritonclient: not run: ${python.why}\n`);
  else await tritonclient(python);
}
await part('flink', () => flink(VENVS));
await part('openai', () => openai(tell));
await part('openai-python', () => openaiPython(tell));
await part('deploy', async () => {
  const { missing, ...checked } = await deploy(tell);
  return missing.length === 0 ? checked : { why: missing.join('; ') };
});
await part('pytriton', besideTriton);
await part('ModelClient', () => scripted(['pytriton', PYTRITON, 'nvidia-pytriton'], 'model_client.py', {}));
await part('kserve', () => scripted(['kserve', KSERVE, 'kserve'], 'kserve_client.py', { tokens: { infer: [TOKEN] } }));
await part('perf_analyzer', async () => {
  const python = await pythonOf('perf_analyzer', PERF_ANALYZER, 'tritonclient');
  return python.why === undefined ? perfAnalyzer(python) : python;
});

function tell({ what, fact }) {
  process.stdout.write(`ok ${what}: ${fact}\n`);
}

function isChosen(name) {
  return chosen.length === 0 || chosen.includes(name);
}

/** `call` resolves to what was called, as { versions, lines }, or to { why } not; it rejects where something differs. */
async function part(name, call) {
  if (!isChosen(name)) return;
  try {
    const { why, versions, lines } = await call();
    if (why !== undefined) process.stdout.write(`${name}: not run: ${why}\n`);
    else if (process.argv.includes('--page')) toPage(name, versions, lines);
  } catch (error) {
    process.stderr.write(`interop: ${name}: ${error.stack}\n`);
    process.exitCode = 1;
  }
}

async function besideTriton() {
  const { why, bin, versions } = await pythonOf('pytriton', PYTRITON, 'nvidia-pytriton');
  if (why !== undefined) return { why };
  const triton = await startTriton(bin);
  if (triton.why !== undefined) return triton;
  try {
    const known = `${versions}, Triton ${triton.version}`;
    const asked = await askTriton(triton);
    if (process.argv.includes('--page')) toPage('the actor triton', known, asked);
    return { versions: known, lines: await compare(triton, DTYPES) };
  } finally {
    await triton.stop();
  }
}

async function tritonclient({ bin, versions }) {
  await serving({ tokens: { infer: [TOKEN], admin: [ADMIN] } }, async (ports) => {
    for (const [index, [name, script]] of [
      ['tritonclient', 'tritonclient_http.py'],
      ['tritonclient over gRPC', 'tritonclient_grpc.py'],
    ].entries()) {
      const lines = await calls(bin, script, [`127.0.0.1:${ports[index]}`, TOKEN, ADMIN]);
      if (lines === undefined) process.exitCode = 1;
      else if (process.argv.includes('--page')) toPage(name, versions, lines);
    }
  });
}

/** A part that is one script of a Python that holds a client: its arguments are the ports of HTTP and gRPC, and a token. */
async function scripted(installed, script, options) {
  const { why, bin, versions } = await pythonOf(...installed);
  if (why !== undefined) return { why };
  const lines = await serving(options, (ports) => calls(bin, script, [...ports, TOKEN]));
  if (lines === undefined) throw new Error(`${script} has failed`);
  return { versions, lines };
}

/** What `call` gives with the ports of HTTP and gRPC of a server of models that give back what they are given. */
async function serving(options, call) {
  const system = createSystem({ log: silentLog });
  try {
    const all = Object.entries(DTYPES);
    await system.spawn('mirror', { actor: mirrorOf(all) });
    for (const [name, dtype] of all)
      await system.spawn(`mirror_${name.toLowerCase()}`, { actor: mirrorOf([[name, dtype]]) });
    await system.spawn('slow', { actor: mirrorOf([['FP32', 'float32']], 2000) });
    await system.spawn('words', { actor: wordsActor() });
    await system.spawn('filetype', { actor: 'onnx', model: path.join(root, 'models/filetype') });
    const { addresses } = await system.serve({ port: 0, grpc: { port: 0 }, ...options });
    return await call(addresses.map(({ port }) => port));
  } finally {
    await system.stop();
  }
}

/** Says what it is asked word by word, or whole; FAIL in the place of a word ends it. */
function wordsActor() {
  return defineActor({
    kinds: ['completions'],
    predict: (batch) => batch.map(({ prompt, stream }) => (stream ? piecesOf(prompt) : prompt)),
  });
}

async function* piecesOf(text) {
  for (const word of text.split(/(?= )/)) {
    if (word.trim() === 'FAIL') throw new Error('out of words');
    yield word;
  }
}

/** Gives back what it is given: the tensor FP32 as out_FP32. */
function mirrorOf(tensors, afterMs = 0) {
  const specs = (prefix) => tensors.map(([name, dtype]) => ({ name: `${prefix}${name}`, dtype, shape: [3] }));
  return defineActor({
    signature: { inputs: specs(''), outputs: specs('out_') },
    predict: async ({ count, columns }) => {
      if (afterMs > 0) await setTimeout(afterMs);
      return { count, columns: Object.fromEntries(tensors.map(([name]) => [`out_${name}`, columns[name]])) };
    },
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
