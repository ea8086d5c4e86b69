import { once } from 'node:events';
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { connect } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { deflateSync, gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import type { ServeOptions } from 'troupe';
import { codecOf, firstOutput, type GrpcStand, grpcStand, type Message, rows, status } from './grpc-stand.js';
import { doubler, heldDoubler, pairs } from './oip-stand.js';

/** Calls whose bytes are ours, so that they can be wrong. */

const INFER = '/inference.GRPCInferenceService/ModelInfer';
const STREAM_INFER = '/inference.GRPCInferenceService/ModelStreamInfer';
const { write, read } = codecOf('ModelInfer');

function framed(bytes: Uint8Array, flag = 0, length = bytes.length): Buffer {
  const prefix = Buffer.from([flag, 0, 0, 0, 0]);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, bytes]);
}

interface Got {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly code: number;
}

interface Raw extends GrpcStand {
  raw(body: Buffer, headers?: OutgoingHttpHeaders): Promise<Got>;
}

async function rawStand(t: ExecutionContext, options: ServeOptions = {}): Promise<Raw> {
  const made = await grpcStand(t, options);
  const session = connectHttp2(`http://${made.target}`);
  t.teardown(() => session.destroy());
  session.on('error', () => undefined);
  const raw = async (body: Buffer, headers: OutgoingHttpHeaders = {}): Promise<Got> => {
    const stream = session.request({
      ':path': INFER,
      ':method': 'POST',
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    let [head, trailers]: IncomingHttpHeaders[] = [{}, {}];
    const parts: Buffer[] = [];
    stream.on('response', (got) => (head = got));
    stream.on('trailers', (got) => (trailers = got));
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.on('error', () => undefined);
    stream.end(body);
    await new Promise((resolve) => stream.on('close', resolve));
    const bytes = Buffer.concat(parts);
    const code = Number((trailers ?? {})['grpc-status'] ?? (head ?? {})['grpc-status'] ?? -1);
    return { headers: head ?? {}, trailers: trailers ?? {}, bytes, code };
  };
  return { ...made, raw };
}

test('messages may be packed, and are measured unpacked', async (t) => {
  const { system, raw } = await rawStand(t, { maxBodyBytes: 100_000 });
  await system.spawn('double', { actor: doubler });
  const bytes = write(rows([1, 2]));
  for (const [name, pack] of [
    ['gzip', gzipSync],
    ['deflate', deflateSync],
  ] as const) {
    const got = await raw(framed(pack(bytes), 1), { 'grpc-encoding': name });
    t.is(got.code, status.OK);
    t.deepEqual(firstOutput(read(got.bytes.subarray(5))), [2, 4]);
    t.is(
      (await raw(framed(bytes), { 'grpc-encoding': name })).code,
      status.OK,
      'each message says whether it is packed',
    );
  }
  const bomb = gzipSync(Buffer.alloc(50_000_000));
  t.is((await raw(framed(bomb, 1), { 'grpc-encoding': 'gzip' })).code, status.RESOURCE_EXHAUSTED);
  t.is((await raw(framed(bytes, 1), { 'grpc-encoding': 'gzip' })).code, status.INVALID_ARGUMENT);
  const strange = await raw(framed(bytes, 1), { 'grpc-encoding': 'snappy' });
  t.is(strange.code, status.UNIMPLEMENTED);
  t.is(strange.headers['grpc-accept-encoding'], 'identity,deflate,gzip');
  t.is((await raw(framed(bytes, 1))).code, status.UNIMPLEMENTED, 'packed, and nobody says how');
});

test('what is no message is refused with a code, and the server goes on', async (t) => {
  const { system, raw } = await rawStand(t, { maxBodyBytes: 100_000 });
  await system.spawn('double', { actor: doubler });
  const bytes = write(rows([1, 2]));
  const { INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, PERMISSION_DENIED } = status;
  for (const [what, code, body, headers] of [
    ['nothing', INVALID_ARGUMENT, Buffer.alloc(0)],
    ['half a prefix', INVALID_ARGUMENT, Buffer.from([0, 0])],
    ['a message cut short', INVALID_ARGUMENT, framed(bytes).subarray(0, -1)],
    ['two messages', INVALID_ARGUMENT, Buffer.concat([framed(bytes), framed(bytes)])],
    ['a length beyond the limit', RESOURCE_EXHAUSTED, framed(bytes, 0, 100_001)],
    ['a length of 4 GiB', RESOURCE_EXHAUSTED, framed(bytes, 0, 0xffffffff)],
    ['another flag', INVALID_ARGUMENT, framed(bytes, 2)],
    ['no message of the protocol', INVALID_ARGUMENT, framed(Buffer.from([0x0a, 0xff]))],
    ['JSON', INVALID_ARGUMENT, framed(bytes), { 'content-type': 'application/json' }],
    ['another method of HTTP', INVALID_ARGUMENT, framed(bytes), { ':method': 'PUT' }],
    ['another path', UNIMPLEMENTED, framed(bytes), { ':path': '/inference.GRPCInferenceService/Nothing' }],
    ['a name of no method', UNIMPLEMENTED, framed(bytes), { ':path': '/__proto__' }],
    ['another host', PERMISSION_DENIED, framed(bytes), { ':authority': 'evil.example' }],
    ['a web page', PERMISSION_DENIED, framed(bytes), { origin: 'http://evil.example' }],
    ['a deadline that is none', INVALID_ARGUMENT, framed(bytes), { 'grpc-timeout': 'soon' }],
  ] as const)
    t.is((await raw(body, headers)).code, code, what);
  t.is((await raw(framed(bytes), { 'grpc-timeout': '99999999H' })).code, status.OK);
  t.is((await raw(framed(bytes), { 'content-type': 'application/grpc+proto' })).code, status.OK);
  const late = await raw(framed(bytes), { 'grpc-timeout': '0m' });
  t.is(late.code, status.DEADLINE_EXCEEDED);
  t.regex(
    String({ ...late.headers, ...late.trailers }['grpc-message']),
    /^Deadline Exceeded/,
    'as ModelClient wants it',
  );
  t.is(system.registry.refusals()['serve']?.['host'], 1);
});

test('bytes of all requests, of gRPC and of HTTP, stand in one budget, and are given back', async (t) => {
  const { system, raw, post, ask } = await rawStand(t, { capacityBytes: 3000, maxBodyBytes: 5000 });
  const held = heldDoubler();
  const pool = await system.spawn('double', { actor: held.actor });
  const large = Array.from({ length: 250 }, (_, index) => [index, index] as const);
  const asked = { ...rows(...large), outputs: [{ name: 'y' }] };
  const first = ask('ModelInfer', asked);
  await held.entered;
  while (pool.stats().accepted < 250) await new Promise((resolve) => setImmediate(resolve));
  const refused = await raw(framed(write(asked)));
  t.is(refused.code, status.UNAVAILABLE);
  t.is(refused.headers['retry-after'], '1');
  t.is((await post('/v2/models/double/infer', pairs(...large))).status, 503);
  held.letGo();
  t.is(firstOutput(await first).length, 500);
  t.is((await raw(framed(write(asked)))).code, status.OK, 'given back');
});

test('an answer that nobody reads stands in the budget until its client has gone', async (t) => {
  const { system, ask, refusal, target } = await grpcStand(t, { capacityBytes: 200_000, maxBodyBytes: 200_000 });
  const pool = await system.spawn('double', { actor: doubler });
  const asked = rows(...Array.from({ length: 4000 }, (_, index) => [index, index] as const));
  const session = connectHttp2(`http://${target}`, { settings: { initialWindowSize: 0 } });
  t.teardown(() => session.destroy());
  session.on('error', () => undefined);
  for (const path of [STREAM_INFER, STREAM_INFER, INFER]) {
    const stream = session.request({ ':path': path, ':method': 'POST', 'content-type': 'application/grpc' });
    stream.on('error', () => undefined);
    stream.write(framed(write(asked)));
    if (path === INFER) stream.end();
    await once(stream, 'response');
  }
  // A stream says that it has begun before it has an answer.
  while (pool.stats().results < 3 * 4000) await new Promise((resolve) => setImmediate(resolve));
  const { code, details } = await refusal('ModelInfer', asked);
  t.is(code, status.UNAVAILABLE);
  t.regex(details, /too many bytes are held already/);
  t.is(system.registry.refusals()['serve']?.['busy'], 1);
  session.destroy();
  let got: Message | undefined;
  while (got === undefined) got = await ask('ModelInfer', asked).catch(() => undefined);
  t.is(firstOutput(got).length, 8000);
});

test('an answer over HTTP that has no room in the budget is refused, and what was answered is given back', async (t) => {
  const { system, post } = await rawStand(t, { capacityBytes: 5000, maxBodyBytes: 20_000 });
  await system.spawn('double', { actor: doubler });
  const row = [0.1, 0.7] as const;
  const refused = await post('/v2/models/double/infer', pairs(...Array.from({ length: 200 }, () => row)));
  t.is(refused.status, 503);
  for (let index = 0; index < 5; index++)
    t.is((await post('/v2/models/double/infer', pairs(...Array.from({ length: 40 }, () => row)))).status, 200);
});

test('packed messages take no more of the budget than they can expand to', async (t) => {
  const { system, raw } = await rawStand(t, { capacityBytes: 150_000, maxBodyBytes: 200_000 });
  const held = heldDoubler();
  const pool = await system.spawn('double', { actor: held.actor });
  const packed = framed(gzipSync(write(rows([1, 2]))), 1);
  const first = raw(packed, { 'grpc-encoding': 'gzip' });
  await held.entered;
  const second = raw(packed, { 'grpc-encoding': 'gzip' });
  while (pool.stats().accepted < 2) {
    const done = await Promise.race([second, new Promise((resolve) => setImmediate(resolve))]);
    if (done !== undefined) break;
  }
  held.letGo();
  t.deepEqual(
    (await Promise.all([first, second])).map(({ code }) => code),
    [status.OK, status.OK],
  );
});

test('so many may watch the health at a time, and no more', async (t) => {
  t.timeout(60_000);
  const { target } = await grpcStand(t);
  const watch = async (session: ClientHttp2Session): Promise<IncomingHttpHeaders> => {
    const path = '/grpc.health.v1.Health/Watch';
    const stream = session.request({ ':path': path, ':method': 'POST', 'content-type': 'application/grpc' });
    stream.on('error', () => undefined);
    stream.resume();
    stream.write(framed(Buffer.alloc(0)));
    const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    return headers;
  };
  const made = (): ClientHttp2Session => {
    const session = connectHttp2(`http://${target}`);
    session.on('error', () => undefined);
    t.teardown(() => session.destroy());
    return session;
  };
  for (let index = 0; index < 8; index++) {
    const session = made();
    await once(session, 'remoteSettings');
    const got = await Promise.all(Array.from({ length: 128 }, () => watch(session)));
    t.true(got.every((headers) => headers['grpc-status'] === undefined));
  }
  t.is(Number((await watch(made()))['grpc-status']), status.RESOURCE_EXHAUSTED);
});

test('who watched the health and has gone leaves room for others', async (t) => {
  t.timeout(60_000);
  const { target } = await grpcStand(t);
  const [path, rounds] = ['/grpc.health.v1.Health/Watch', 9];
  /** The statuses of so many that begin to watch at once, and go away when all of them have been told. */
  const watched = async (count: number): Promise<readonly unknown[]> => {
    const session = connectHttp2(`http://${target}`);
    session.on('error', () => undefined);
    t.teardown(() => session.destroy());
    await once(session, 'remoteSettings');
    const heads = await Promise.all(
      Array.from({ length: count }, async () => {
        const stream = session.request({ ':path': path, ':method': 'POST', 'content-type': 'application/grpc' });
        stream.on('error', () => undefined);
        stream.resume();
        stream.write(framed(Buffer.alloc(0)));
        const [head] = (await once(stream, 'response')) as [IncomingHttpHeaders];
        return head['grpc-status'];
      }),
    );
    session.destroy();
    return heads;
  };
  // More than may watch at a time, were they all counted for ever; who has just gone may still be counted.
  for (let round = 1; round < rounds; round++)
    t.true(
      (await watched(128)).every((code) => code === undefined),
      `round ${round}`,
    );
  let last: unknown = -1;
  while (last !== undefined) [last] = await watched(1);
  t.is(last, undefined);
});

test('a call that is given up is counted as gone, and one whose deadline passes as late', async (t) => {
  t.timeout(60_000);
  const { system, raw, ask, send } = await rawStand(t);
  const held = heldDoubler();
  const pool = await system.spawn('double', { actor: held.actor, batching: { maxSize: 1 } });
  const counted = (outcome: string): number => {
    const line = new RegExp(`served_requests_total\\{pool="double",outcome="${outcome}"\\} (\\d+)`);
    return Number(line.exec(system.metrics())?.[1] ?? 0);
  };
  const first = ask('ModelInfer', rows([1, 1]));
  await held.entered;
  const given = send('ModelInfer', rows([2, 2]));
  while (pool.stats().mailbox.held < 1) await new Promise((resolve) => setImmediate(resolve));
  given.call.cancel();
  await t.throwsAsync(given.reply, { message: /CANCELLED/ });
  while (counted('gone') + counted('late') < 1) await new Promise((resolve) => setImmediate(resolve));
  t.is(counted('gone'), 1);
  // The client does not give it up itself. As long a deadline as it takes for the call to wait in the queue when it passes.
  for (let ms = 50; pool.stats().accepted < 3; ms *= 2)
    t.is((await raw(framed(write(rows([3, 3]))), { 'grpc-timeout': `${ms}m` })).code, status.DEADLINE_EXCEEDED);
  while (pool.stats().mailbox.held > 0) await new Promise((resolve) => setImmediate(resolve));
  held.letGo();
  t.deepEqual(firstOutput(await first), [2, 2]);
  t.is(counted('gone'), 1);
  t.true(counted('late') >= 1);
  t.is(counted('unavailable') + counted('failed'), 0);
});

test('a client that never hangs up does not hold the end', async (t) => {
  t.timeout(30_000);
  const { serving, get } = await rawStand(t);
  const { port = 0 } = serving.addresses.at(-1) ?? {};
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  // Half open: it says nothing more, and its side stays as it is when the other one ends.
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.resume();
  const hungUp = once(socket, 'end');
  const known = once(socket, 'data');
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings]));
  await known;
  const closed = serving.close(50);
  await hungUp;
  await closed;
  await t.throwsAsync(get('/v2/health/live'), { code: 'ECONNREFUSED' });
});

test('a client whose session has ended and that does not hang up loses its connection', async (t) => {
  t.timeout(30_000);
  const { serving, health } = await grpcStand(t, { maxConnections: 1 });
  const { port = 0 } = serving.addresses.at(-1) ?? {};
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  const goaway = Buffer.from([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.resume();
  const hungUp = once(socket, 'end');
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings, goaway]));
  await hungUp;
  let isServing = false;
  while (!isServing) isServing = (await health().catch(() => undefined))?.['status'] === 'SERVING';
  t.true(isServing);
});

test('an answer larger than a body may be is refused', async (t) => {
  const { system, refusal } = await rawStand(t, { maxBodyBytes: 1000 });
  await system.spawn('double', { actor: doubler });
  const large = Array.from({ length: 100 }, (_, index) => [index, index] as const);
  const { code, details } = await refusal('ModelInfer', rows(...large));
  t.is(code, status.INVALID_ARGUMENT);
  t.regex(details, /the answer has \d+ bytes, more than 1000/);
});

test('who speaks no HTTP/2, or hangs up in the middle, harms nobody', async (t) => {
  const { system, ask, serving, target } = await rawStand(t);
  await system.spawn('double', { actor: doubler });
  const { port = 0 } = serving.addresses.at(-1) ?? {};
  for (const words of [
    'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n',
    '\u0000\u0001\u0002',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  ]) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.write(words);
    socket.destroySoon();
    await once(socket, 'close');
  }
  const session = connectHttp2(`http://${target}`);
  session.on('error', () => undefined);
  for (let index = 0; index < 50; index++) {
    const stream = session.request({ ':path': INFER, ':method': 'POST', 'content-type': 'application/grpc' });
    stream.on('error', () => undefined);
    stream.write(framed(Buffer.alloc(10), 0, 5000));
    if (index % 2 === 0) stream.close(8);
  }
  await new Promise((resolve) => setImmediate(resolve));
  session.destroy();
  t.deepEqual(firstOutput(await ask('ModelInfer', rows([1, 2]))), [2, 4]);
});

test('gRPC serves at a Unix socket in a private directory', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-grpc-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const socket = path.join(dir, 'run', 'g.sock');
  const { system, ask, serving, target } = await grpcStand(t, { grpc: { socket } });
  await system.spawn('double', { actor: doubler });
  t.is(target, `unix:${socket}`);
  t.deepEqual(firstOutput(await ask('ModelInfer', rows([1, 2]))), [2, 4]);
  await t.throwsAsync(system.serve({ port: 0, grpc: { socket } }), { code: 'LISTEN_FAILED' });
  await serving.close(0);
  t.is((await t.throwsAsync<Error & { code: number }>(ask('ServerLive')))?.code, status.UNAVAILABLE);
});
