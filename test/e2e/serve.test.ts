import { once } from 'node:events';
import { connect } from 'node:net';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { connect as connectTo, createSystem, defineActor, silentLog, type TensorRecord } from 'troupe';
import { credentials } from '@grpc/grpc-js';
import { clientOf, firstOutput, rows } from '../serve/grpc-stand.js';
import { doubler, pairs, send } from '../serve/oip-stand.js';

/** The server as others meet it: as a command that gets a signal, behind a Unix socket, behind TLS. */

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const slow = new URL('./served-actor.js', import.meta.url).href;

function folder(t: ExecutionContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-serve-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('troupe serve starts the pools of a file, says where, and answers what is under way at SIGTERM', async (t) => {
  t.timeout(240_000);
  const file = path.join(folder(t), 'troupe.yaml');
  writeFileSync(
    file,
    `pools:\n  double: { actor: '${slow}', isolation: thread }\nserve: { port: 0, grpc: { port: 0 } }\n`,
  );
  const child = spawn(process.execPath, [main, 'serve', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
  const [port = 0, grpcPort = 0] = await new Promise<number[]>((resolve, reject) => {
    let text = '';
    child.stderr.on('data', (part: Buffer) => {
      text += part.toString();
      const found = /served at http:\/\/127\.0\.0\.1:(\d+)\/ and grpc:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.slice(1);
      if (found !== undefined) resolve(found.map(Number));
    });
    void ended.then(() => reject(new Error(text)));
  });
  t.is((await send({ port, path: '/v2/health/ready' })).status, 200);
  const infer = { port, path: '/v2/models/double/infer', method: 'POST' };
  const under = send(infer, JSON.stringify(pairs([1, 2])));
  const underGrpc = clientOf(t, `127.0.0.1:${grpcPort}`).ask('ModelInfer', rows([3, 4]));
  for (;;) {
    const { text } = await send({ port, path: '/metrics' });
    if (/troupe_accepted_records_total\{pool="double"\} 2/.test(text)) break;
  }
  child.kill('SIGTERM');
  const answer = await under;
  t.is(answer.status, 200);
  t.deepEqual(answer.json.outputs[0].data, [2, 4]);
  t.deepEqual(firstOutput(await underGrpc), [6, 8]);
  t.is(await ended, 143);
  await t.throwsAsync(send({ port, path: '/v2' }));
});

test('a Unix socket in a private directory serves, and in one that others can enter it is refused', async (t) => {
  const dir = folder(t);
  await using system = createSystem({ log: silentLog });
  await system.spawn('double', { actor: doubler });
  const socketPath = path.join(dir, 'run', 't.sock');
  const { addresses } = await system.serve({ socket: socketPath });
  t.deepEqual(
    addresses.map(({ url }) => url),
    [`unix:${socketPath}`],
  );
  const infer = { socketPath, path: '/v2/models/double/infer', method: 'POST' };
  t.deepEqual((await send(infer, JSON.stringify(pairs([1, 2])))).json.outputs[0].data, [2, 4]);
  t.is((await send({ ...infer, headers: { origin: 'http://evil.example' } }, '{}')).status, 403);
  await t.throwsAsync(system.serve({ socket: socketPath }), {
    code: 'LISTEN_FAILED',
    message: /another system listens/,
  });
  const open = path.join(dir, 'open');
  mkdirSync(open, { mode: 0o755 });
  await t.throwsAsync(system.serve({ socket: path.join(open, 't.sock') }), { code: 'LISTEN_FAILED' });
  const long = path.join(dir, 'x'.repeat(120), 't.sock');
  await t.throwsAsync(system.serve({ socket: long }), { code: 'LISTEN_FAILED', message: /give a shorter one$/ });
});

test('hundreds of clients that stop in the middle of a request keep nobody else from an answer', async (t) => {
  await using system = createSystem({ log: silentLog });
  await system.spawn('double', { actor: doubler });
  const { addresses } = await system.serve({ port: 0, maxConnections: 400 });
  const { port = 0 } = addresses[0] ?? {};
  const begun = [
    'POST /v2/mod',
    'POST /v2/models/double/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{',
  ];
  const slow = await Promise.all(
    Array.from({ length: 300 }, async (_, index) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      socket.write(begun[index % 2] as string);
      return socket;
    }),
  );
  const infer = { port, path: '/v2/models/double/infer', method: 'POST' };
  for (let index = 0; index < 20; index++) t.is((await send(infer, JSON.stringify(pairs([index, 1])))).status, 200);
  // One more than there may be: refused, and the server goes on.
  const more = Array.from({ length: 200 }, () => connect(port, '127.0.0.1').on('error', () => undefined));
  await Promise.any(more.map((socket) => once(socket, 'close')));
  for (const socket of [...slow, ...more]) socket.destroy();
  let answered = false;
  while (!answered)
    answered = await send(infer, JSON.stringify(pairs([1, 1]))).then(
      ({ status }) => status === 200,
      () => false,
    );
  t.is(system.get('double')?.stats().errors.CANCELLED, undefined);
});

test('TLS serves with the certificate of a file, and nothing without it', async (t) => {
  const dir = folder(t);
  const [key, cert] = [path.join(dir, 'key.pem'), path.join(dir, 'cert.pem')];
  const words = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost';
  const names = ['-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert];
  try {
    execFileSync('openssl', [...words.split(' '), ...names], { stdio: 'ignore' });
  } catch {
    t.log('not run: there is no openssl to make a certificate with');
    t.pass();
    return;
  }
  await using system = createSystem({ log: silentLog });
  await system.spawn('double', { actor: doubler });
  await system.spawn('yes', { actor: defineActor({ kinds: ['chat'], predict: (batch) => batch.map(() => 'yes') }) });
  const tokens = { infer: ['0123456789abcdef'] };
  const { addresses } = await system.serve({ port: 0, grpc: { port: 0 }, tls: { cert, key }, tokens });
  const { port = 0, url = '' } = addresses[0] ?? {};
  t.regex(url, /^https:/);
  const status = (headers: Record<string, string>, ca?: Buffer): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const options = { port, host: 'localhost', path: '/v2', headers, ...(ca === undefined ? {} : { ca }) };
      const sent = httpsRequest(options, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on('error', reject).end();
    });
  const ca = readFileSync(cert);
  t.is(await status({ authorization: 'Bearer 0123456789abcdef' }, ca), 200);
  t.is(await status({}, ca), 401);
  await t.throwsAsync(status({}), { message: /self-signed/ });
  await t.throwsAsync(send({ port, path: '/v2' }));
  const { port: grpcPort = 0, url: grpcUrl = '' } = addresses[1] ?? {};
  t.regex(grpcUrl, /^grpcs:/);
  const headers = { authorization: 'Bearer 0123456789abcdef' };
  const { ask } = clientOf(t, `localhost:${grpcPort}`, credentials.createSsl(ca));
  t.is((await ask('ServerMetadata', {}, { headers }))['name'], 'troupe');
  await t.throwsAsync(clientOf(t, `localhost:${grpcPort}`).ask('ServerLive', {}, { deadline: Date.now() + 5000 }));
  // Our own clients, with the authority that made the certificate and without it.
  for (const [scheme, at] of [
    ['https', port],
    ['grpcs', grpcPort],
  ] as const) {
    const asked = { endpoint: `${scheme}://localhost:${at}`, model: 'double', token: '0123456789abcdef', ca: cert };
    const pool = await system.spawn<TensorRecord, TensorRecord>(scheme, { actor: 'triton', options: asked });
    t.deepEqual((await pool.ask({ x: Float32Array.of(1, 2) }))['y'], Float32Array.of(2, 4));
    const { ca: _, ...stranger } = asked;
    const error = await t.throwsAsync(system.spawn(`${scheme}-stranger`, { actor: 'triton', options: stranger }));
    t.like(error, { code: 'REMOTE_UNAVAILABLE' });
    t.regex(error?.message ?? '', /self-signed certificate/);
    const connection = connectTo(asked.endpoint, { token: asked.token, ca: cert });
    t.teardown(() => connection.close());
    const remote = connection.pool<TensorRecord, TensorRecord>('double');
    t.deepEqual((await remote.ask({ x: Float32Array.of(3, 4) }))['y'], Float32Array.of(6, 8));
  }
  const asked = { baseURL: `https://localhost:${port}/v1`, model: 'yes', apiKey: '0123456789abcdef', probe: true };
  const pool = await system.spawn('texts', { actor: 'openai', options: { ...asked, ca: cert } });
  t.like(await pool.ask('is it so?'), { text: 'yes' });
  const error = await t.throwsAsync(system.spawn('texts-stranger', { actor: 'openai', options: asked }));
  t.like(error, { code: 'REMOTE_UNAVAILABLE' });
  t.regex(error?.message ?? '', /self-signed certificate/);
});

test('a client of gRPC keeps its process alive while it is asked something, and no longer', async (t) => {
  t.timeout(240_000);
  await using system = createSystem({ log: silentLog });
  await system.spawn('double', { actor: doubler });
  const { addresses } = await system.serve({ port: 0, grpc: { port: 0 } });
  const script = `
    import { GrpcEndpoint } from 'troupe/remote';
    const endpoint = new GrpcEndpoint('test', 'endpoint', ${JSON.stringify(addresses[1]?.url)}, {});
    const ask = { path: '/inference.GRPCInferenceService/ServerLive', parts: [], signal: new AbortController().signal };
    console.log((await endpoint.call(ask)).toString('hex'), (await endpoint.call(ask)).toString('hex'));`;
  const cwd = fileURLToPath(new URL('../../..', import.meta.url));
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  child.stdout.on('data', (part: Buffer) => (text += part.toString()));
  // The connection would rest for a minute.
  const [code] = (await once(child, 'close')) as [number];
  t.is(code, 0);
  t.is(text, '0801 0801\n');
});
