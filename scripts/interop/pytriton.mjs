// Our server beside a real Triton (of nvidia-pytriton) that holds the same models: the same requests to both, and what they
// answer. Where the answers are not alike, the page says how, and why.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { createServer } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createSystem, defineActor, silentLog } from 'troupe';
import { sameRequests } from './same-requests.mjs';

const script = fileURLToPath(new URL('./pytriton_server.py', import.meta.url));
const START_MS = 400_000;

/** A running Triton: { version, ports, stop() }; or { why } there is none. `python` has nvidia-pytriton. */
export async function startTriton(python) {
  const [http, grpc, metrics] = [await freePort(), await freePort(), await freePort()];
  // Triton's own Python must be that of `python`: another one's library does not fit its modules.
  const libraries = execFileSync(python, ['-c', 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))']);
  const env = {
    ...process.env,
    PATH: `${path.dirname(python)}:${process.env.PATH}`,
    LD_LIBRARY_PATH: `${String(libraries).trim()}:${process.env.LD_LIBRARY_PATH ?? ''}`,
  };
  const child = spawn(python, [script, http, grpc, metrics].map(String), { env, stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (part) => (said = (said + part).slice(-4000)));
  const closed = once(child, 'close');
  const ready = new Promise((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line === 'ready') resolve(true);
    });
    closed.then(() => resolve(false));
    setTimeout(() => resolve(false), START_MS).unref();
  });
  const stop = async () => {
    child.stdin.end();
    const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
    await closed;
    clearTimeout(timer);
  };
  if (await ready) {
    const { json } = await send(http, 'GET', '/v2', {}, '');
    return { version: json.version, ports: { http, grpc, metrics }, stop };
  }
  child.kill('SIGKILL');
  await closed;
  return { why: `Triton does not start here: ${said.trim().split('\n').at(-1)}` };
}

/** The lines of the page, as { what, fact }. Throws where an answer differs that should not. */
export async function compare(triton, dtypes) {
  const system = createSystem({ log: silentLog });
  try {
    for (const [name, dtype] of Object.entries(dtypes))
      await system.spawn(`mirror_${name.toLowerCase()}`, { actor: mirrorOf(name, dtype), batching: { maxSize: 32 } });
    const { addresses } = await system.serve({ port: 0 });
    return await compareAll(triton.ports.http, addresses[0].port);
  } finally {
    await system.stop();
  }
}

async function compareAll(theirs, ours) {
  const groups = new Map();
  const lines = [];
  for (const { what, method, path: at, headers, body, differs } of sameRequests()) {
    const [their, our] = [await send(theirs, method, at, headers, body), await send(ours, method, at, headers, body)];
    const difference = differenceOf(their, our);
    const group = groupOf(their, our, difference);
    if (group !== undefined) groups.set(group, [...(groups.get(group) ?? []), what]);
    else if (differs !== undefined) lines.push({ what, fact: `${difference}: ${differs}` });
    else throw new Error(`${what}: ${difference}`);
  }
  const alike = [...groups].map(([what, whats]) => ({ what, fact: whats.join('; ') }));
  for (const { what, fact } of [...alike, ...lines]) process.stdout.write(`ok ${what}: ${fact}\n`);
  return [...alike, ...lines];
}

/** What is the same for many requests; undefined where a difference has a reason of its own, or none. */
function groupOf(their, our, difference) {
  if (difference === undefined) return `both ${our.status}`;
  if (their.status === 403) return 'only ours: pytriton keeps these to itself';
  if (their.status === 500 && our.status === 400) return 'Triton 500, which asks to be tried again; ours 400';
  return undefined;
}

/** undefined where both mean the same: the status, the content type, the tensors; of errors not the words. */
function differenceOf(their, our) {
  if (their.status !== our.status) return `Triton ${shown(their)}; ours ${our.status}`;
  if (their.status !== 200) return our.json?.error === undefined ? `ours is no error: ${shown(our)}` : undefined;
  if (their.type !== our.type) return `content type ${their.type}; ours ${our.type}`;
  if (their.isPacked !== our.isPacked) return `header length ${their.isPacked}; ours ${our.isPacked}`;
  if (!their.blobs.equals(our.blobs)) return `bytes ${their.blobs.toString('hex')}; ours ${our.blobs.toString('hex')}`;
  const outputs = [their, our].map(({ json }) => JSON.stringify(meant(json)));
  return outputs[0] === outputs[1] ? undefined : `${outputs[0]}; ours ${outputs[1]}`;
}

/** Of metadata, statistics and the like the keys that clients read; of inference everything. */
function meant(json) {
  if (json?.outputs !== undefined && json.model_name !== undefined) return [json.model_version, json.id, json.outputs];
  if (json?.inputs !== undefined) return [json.name, json.versions, json.inputs, json.outputs];
  if (Array.isArray(json)) return json;
  if (json?.model_stats !== undefined) return json.model_stats.map(({ name, version }) => [name, version]);
  if (json?.max_batch_size !== undefined)
    return [json.name, json.max_batch_size, tensors(json.input), tensors(json.output)];
  return undefined;
}

function tensors(list) {
  return list.map(({ name, data_type, dims }) => [name, data_type, dims.map(Number)]);
}

function shown({ status, json, text }) {
  return `${status} ${(json?.error ?? text).slice(0, 80)}`.trim();
}

function send(port, method, at, headers, body) {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ port, host: '127.0.0.1', method, path: at, headers }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => resolve(answerOf(response, Buffer.concat(parts))));
    });
    sent.on('error', reject).end(body);
  });
}

function answerOf({ statusCode: status, headers }, bytes) {
  const length = headers['inference-header-content-length'];
  const head = length === undefined ? bytes : bytes.subarray(0, Number(length));
  const text = head.toString();
  const type = headers['content-type'];
  return { status, type, isPacked: length !== undefined, blobs: bytes.subarray(head.length), text, json: parsed(text) };
}

/** Digits beyond 2^53, NaN and the infinities as text. */
function parsed(text) {
  try {
    return JSON.parse(text.replace(/(?<=[[,:\s])(-?(?:\d{16,}|NaN|Infinity))(?=[\],}\s])/g, '"$1"'));
  } catch {
    return undefined;
  }
}

/** A model like one of pytriton_server.py. */
function mirrorOf(name, dtype) {
  return defineActor({
    signature: {
      inputs: [{ name, dtype, shape: [3] }],
      outputs: [{ name: `out_${name}`, dtype, shape: [3] }],
    },
    predict: ({ count, columns }) => ({ count, columns: { [`out_${name}`]: columns[name] } }),
  });
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
