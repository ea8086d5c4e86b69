import { constants } from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { deferred } from '../../src/kernel/deferred.js';
import { isTroupeError, type TroupeError } from '../../src/kernel/errors.js';
import { AddressGuard, type Resolve } from '../../src/serve/address-guard.js';
import { GrpcChannel, type GrpcRequest } from '../../src/serve/grpc-channel.js';
import { GrpcEndpoint, type GrpcQuestion } from '../../src/serve/grpc-endpoint.js';
import type { NoReply } from '../../src/serve/guarded-http.js';
import type { RemoteOptions } from '../../src/serve/remote-options.js';
import { framed, HEAD, type RawGrpc, rawGrpc, type RawGrpcCall, refuse, say } from './raw-grpc.js';
import { rawServer } from './raw-server.js';

/** One server of gRPC as actors ask it, whatever it answers. */

const never = (): AbortSignal => new AbortController().signal;

function endpointOf(t: ExecutionContext, url: string, options: RemoteOptions = {}, resolve?: Resolve): GrpcEndpoint {
  const endpoint = new GrpcEndpoint('test', 'endpoint', url, { retryForMs: 0, timeoutMs: 60_000, ...options }, resolve);
  t.teardown(() => endpoint.close());
  return endpoint;
}

const question = (more: Partial<GrpcQuestion> = {}): GrpcQuestion => ({
  path: '/s/M',
  parts: [Buffer.from('he'), Buffer.from('llo')],
  signal: never(),
  ...more,
});

async function failureOf(answer: Promise<unknown>): Promise<TroupeError> {
  try {
    await answer;
  } catch (error) {
    if (isTroupeError(error)) return error;
    throw error;
  }
  throw new Error('it answered');
}

function channelOf(t: ExecutionContext, port: number, pongMs?: number): GrpcChannel {
  const url = new URL(`http://127.0.0.1:${port}`);
  const channel = new GrpcChannel(url, new AddressGuard('allow', url, []), 60_000, undefined, pongMs);
  t.teardown(() => channel.close());
  return channel;
}

const asked = (more: Partial<GrpcRequest> = {}): GrpcRequest => ({
  path: '/s/M',
  headers: {},
  parts: [],
  isPacked: false,
  timeoutMs: 60_000,
  maxReplyBytes: 100,
  signal: never(),
  ...more,
});

test('a call has a path, metadata, a token, a deadline and one message, and its answer is one message', async (t) => {
  const server = await rawGrpc(t, (call) => say(call, framed(Buffer.from('fine'))));
  const endpoint = endpointOf(t, server.url, { token: 'abc', headers: { 'X-Tenant': 'a' } });
  t.is((await endpoint.call(question())).toString(), 'fine');
  const [call] = server.calls;
  t.like(call?.headers, {
    ':path': '/s/M',
    ':authority': `127.0.0.1:${server.port}`,
    'content-type': 'application/grpc',
    te: 'trailers',
    'grpc-timeout': '60000m',
    authorization: 'Bearer abc',
    'x-tenant': 'a',
  });
  t.is(call?.body.toString('latin1'), '\0\0\0\0\x05hello');
  t.deepEqual(endpoint.counts, { requests: 1, retries: 0 });
});

/** Status -> code, ran; of one record, and of several. */
const STATUSES: readonly (readonly [readonly number[], string, string, string])[] = [
  [[14], 'REMOTE_UNAVAILABLE', 'not-started', 'REMOTE_UNAVAILABLE'],
  [[1, 4, 10], 'REMOTE_UNAVAILABLE', 'interrupted', 'REMOTE_UNAVAILABLE'],
  [[5, 7, 16], 'REMOTE_REFUSED', 'not-started', 'REMOTE_REFUSED'],
  [[3, 6, 8, 9, 11, 12], 'PREDICT_FAILED', 'failed', 'PREDICT_FAILED'],
  [[2, 13, 15, 99], 'REMOTE_FAILED', 'interrupted', 'PREDICT_FAILED'],
];

test('a status is blamed on the server, on the way there, or on the records, as over HTTP', async (t) => {
  const server = await rawGrpc(t, (call) => {
    const status = call.headers[':path']?.slice(3) as string;
    refuse(call, { 'grpc-status': status, 'grpc-message': 'be%63ause%0A%C3%BC', 'retry-after': '7' });
  });
  const endpoint = endpointOf(t, server.url);
  for (const [statuses, code, ran, ofSeveral] of STATUSES)
    for (const status of statuses) {
      if (status === 8) continue; // With a time to come back it is one of those that pass.
      const error = await failureOf(endpoint.call(question({ path: `/s/${status}`, count: 1 })));
      t.like(error, { code, ran }, String(status));
      t.regex(error.message, new RegExp(`^${server.url}/s/${status} answered with [A-Z_]+: because ü$`));
      t.is(error.retryAfterMs, code === 'REMOTE_UNAVAILABLE' ? 7000 : undefined);
      t.is((await failureOf(endpoint.call(question({ path: `/s/${status}`, count: 2 })))).code, ofSeveral as never);
    }
  const full = await failureOf(endpoint.call(question({ path: '/s/8', count: 1 })));
  t.like(full, { code: 'REMOTE_UNAVAILABLE', retryAfterMs: 7000 });
});

test('a message that is too large for the server is the fault of the records; one pushed back for a while is not', async (t) => {
  const server = await rawGrpc(t, (call) =>
    refuse(call, {
      'grpc-status': '8',
      ...(call.headers[':path'] === '/s/later' ? { 'grpc-retry-pushback-ms': '1500' } : {}),
    }),
  );
  const endpoint = endpointOf(t, server.url);
  t.is((await failureOf(endpoint.call(question({ count: 2 })))).code, 'PREDICT_FAILED');
  const later = await failureOf(endpoint.call(question({ path: '/s/later', count: 2 })));
  t.like(later, { code: 'REMOTE_UNAVAILABLE', retryAfterMs: 2000 });
});

const big = Buffer.alloc(2000, 97);

/** What a hostile or broken server does -> what becomes of it. */
const LIES: readonly (readonly [string, (call: RawGrpcCall) => void, string, RegExp])[] = [
  ['no message', (call) => say(call, Buffer.alloc(0)), 'PROTOCOL_VIOLATION', /no whole message/],
  [
    'half a message',
    (call) => say(call, framed(Buffer.from('a'), { says: 9 })),
    'PROTOCOL_VIOLATION',
    /no whole message/,
  ],
  [
    'two messages',
    (call) => say(call, Buffer.concat([framed(Buffer.from('a')), framed(Buffer.from('b'))])),
    'PROTOCOL_VIOLATION',
    /more than one message/,
  ],
  ['more than it may', (call) => say(call, framed(Buffer.alloc(1025))), 'PROTOCOL_VIOLATION', /larger than 1024 bytes/],
  [
    'a length of four gigabytes',
    (call) => say(call, framed(Buffer.alloc(1), { says: 2 ** 32 - 1 })),
    'PROTOCOL_VIOLATION',
    /larger than 1024 bytes/,
  ],
  ['no prefix', (call) => say(call, Buffer.from('hello world')), 'PROTOCOL_VIOLATION', /no message of gRPC/],
  [
    'more than it may when it is unpacked',
    (call) => say(call, framed(gzipSync(big), { isPacked: true }), undefined, { 'grpc-encoding': 'gzip' }),
    'PROTOCOL_VIOLATION',
    /larger than 1024 bytes/,
  ],
  [
    'a packing that is none',
    (call) => say(call, framed(big.subarray(0, 9), { isPacked: true }), undefined, { 'grpc-encoding': 'gzip' }),
    'PROTOCOL_VIOLATION',
    /cannot be unpacked/,
  ],
  [
    'a packing it did not name',
    (call) => say(call, framed(big.subarray(0, 9), { isPacked: true })),
    'PROTOCOL_VIOLATION',
    /cannot be unpacked/,
  ],
  ['no status', (call) => say(call, framed(Buffer.from('a')), { 'x-other': '1' }), 'REMOTE_FAILED', /UNKNOWN/],
  [
    'an answer of HTTP',
    ({ stream }) => {
      stream.respond({ ':status': 404, 'content-type': 'text/html' });
      stream.end('<html>');
    },
    'REMOTE_REFUSED',
    /status 404 of HTTP/,
  ],
  [
    'an error of something before it',
    ({ stream }) => {
      stream.respond({ ':status': 503, 'content-type': 'text/plain' });
      stream.end('no upstream');
    },
    'REMOTE_UNAVAILABLE',
    /status 503 of HTTP/,
  ],
  ['a reset', ({ stream }) => stream.close(2), 'REMOTE_UNAVAILABLE', /.+/],
  [
    'a reset in the middle',
    ({ stream }) => {
      stream.respond(HEAD);
      stream.write(framed(Buffer.from('abc'), { says: 9 }), () => stream.close(8));
    },
    'REMOTE_UNAVAILABLE',
    /.+/,
  ],
  ['the end of the connection', ({ session }) => session.destroy(), 'REMOTE_UNAVAILABLE', /.+/],
  ['a call it has not looked at', ({ stream }) => stream.close(7), 'REMOTE_UNAVAILABLE', /takes no more calls/],
];

for (const [what, answer, code, message] of LIES)
  test(`a server that answers with ${what} makes a typed error and never a result`, async (t) => {
    const server = await rawGrpc(t, answer);
    const endpoint = endpointOf(t, server.url, { maxReplyBytes: 1024 });
    const error = await failureOf(endpoint.call(question({ count: 1 })));
    t.is(error.code, code as never, error.message);
    t.regex(error.message, message);
    const isUnread = what === 'a call it has not looked at' || what.startsWith('an error of');
    if (code === 'REMOTE_UNAVAILABLE') t.is(error.ran, isUnread ? 'not-started' : 'interrupted', error.message);
  });

test('what speaks no HTTP/2, and what is not there, is told apart', async (t) => {
  const mute = await rawServer(t, () => undefined);
  const plain = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
  });
  await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
  t.teardown(() => plain.close());
  const { port } = plain.address() as { port: number };
  const other = await failureOf(endpointOf(t, `grpc://127.0.0.1:${port}`).call(question()));
  t.is(other.code, 'PROTOCOL_VIOLATION');
  t.regex(other.message, /speaks no HTTP\/2/);
  const silent = await failureOf(endpointOf(t, `grpc://127.0.0.1:${mute.port}`, { timeoutMs: 50 }).call(question()));
  t.like(silent, { code: 'REMOTE_UNAVAILABLE', ran: 'not-started' });
  const none = await failureOf(endpointOf(t, 'grpc://127.0.0.1:1').call(question()));
  t.like(none, { code: 'REMOTE_UNAVAILABLE', ran: 'not-started' });
  t.regex(none.message, /^grpc:\/\/127\.0\.0\.1:1\/s\/M cannot be reached: .*ECONNREFUSED/);
});

test('an answer that does not come in time ends the call at the server, and so does nobody waiting for it', async (t) => {
  const ended: Promise<void>[] = [];
  const begun = deferred<void>();
  const server = await rawGrpc(t, (call) => {
    const { stream, headers } = call;
    if (headers[':path'] === '/s/M') return say(call, framed(Buffer.from('fine')));
    const closed = deferred<void>();
    stream.on('close', () => closed.resolve());
    ended.push(closed.promise);
    if (headers[':path'] === '/s/waits') begun.resolve();
  });
  const channel = channelOf(t, server.port);
  const late = t.throwsAsync(channel.send(asked({ path: '/s/late', timeoutMs: 50 })), {
    message: /no answer within 50 ms/,
  });
  // Of which the time to connect is a part.
  t.is(((await late) as NoReply).kind, ended.length === 0 ? 'unreached' : 'late');
  t.is((await channel.send(asked())).kind, 'ok');
  const known = ended.length;
  const later = t.throwsAsync(channel.send(asked({ path: '/s/late', timeoutMs: 50 })), {
    message: /no answer within 50 ms/,
  });
  t.is(((await later) as NoReply).kind, 'late');
  const gone = new AbortController();
  const cancelled = failureOf(endpointOf(t, server.url).call(question({ path: '/s/waits', signal: gone.signal })));
  await begun.promise;
  gone.abort();
  t.is((await cancelled).code, 'CANCELLED');
  t.is((await failureOf(endpointOf(t, server.url).call(question({ signal: AbortSignal.abort() })))).code, 'CANCELLED');
  await Promise.all(ended);
  t.is(ended.length, known + 2);
});

test('all calls share one connection, and after it has ended the next call makes another', async (t) => {
  const held: RawGrpcCall[] = [];
  const all = deferred<void>();
  const server = await rawGrpc(t, (call) => {
    if (call.headers[':path'] !== '/s/together') return say(call, framed(Buffer.from('one')));
    held.push(call);
    if (held.length === 50) all.resolve();
  });
  const endpoint = endpointOf(t, server.url);
  const together = Array.from({ length: 50 }, () => endpoint.call(question({ path: '/s/together' })));
  await all.promise;
  t.is(server.sessionCount(), 1);
  // It says that it ends: what is under way goes on, and what comes now goes elsewhere.
  const [old] = server.sessions;
  old?.close();
  const goneAway = deferred<void>();
  const poll = async (): Promise<void> => {
    while (server.sessionCount() === 1) await endpoint.call(question({ retryForMs: 60_000 }));
    goneAway.resolve();
  };
  await Promise.all([poll(), goneAway.promise]);
  for (const call of held) say(call, framed(Buffer.from('many')));
  t.deepEqual(
    (await Promise.all(together)).map(String),
    Array.from({ length: 50 }, () => 'many'),
  );
  t.is(server.sessionCount(), 2);
  for (const session of server.sessions) session.destroy();
  // A call may still have gone out on it.
  t.is((await endpoint.call(question({ retryForMs: 60_000 }))).toString(), 'one');
  t.is(server.sessionCount(), 3);
});

test('what passes is tried again for a while, one call at a time where nobody is there', async (t) => {
  let refusals = 3;
  const server = await rawGrpc(t, (call) => {
    if (refusals-- > 0) refuse(call, { 'grpc-status': '14' });
    else say(call, framed(Buffer.from('late')));
  });
  const endpoint = endpointOf(t, server.url, { retryForMs: 60_000 });
  t.is((await endpoint.call(question())).toString(), 'late');
  t.deepEqual(endpoint.counts, { requests: 4, retries: 3 });
});

test('a connection on which nothing moves is given up after a call was late, and the next call makes another', async (t) => {
  const server = await rawGrpc(t, (call) => say(call, framed(Buffer.from('fine'))));
  // What lies between swallows everything from some moment on, and says nothing.
  const pairs: [Socket, Socket][] = [];
  let isDeaf = false;
  const between = createServer((near) => {
    const far = connect(server.port, '127.0.0.1');
    pairs.push([near, far]);
    isDeaf = false;
    near.on('data', (chunk) => (isDeaf ? undefined : far.write(chunk)));
    far.on('data', (chunk) => near.write(chunk));
    for (const socket of [near, far]) socket.on('error', () => undefined);
    near.on('close', () => far.destroy());
  });
  await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of pairs.flat()) socket.destroy();
    between.close();
  });
  const { port } = between.address() as { port: number };
  const channel = channelOf(t, port, 50);
  t.is((await channel.send(asked())).kind, 'ok');
  isDeaf = true;
  const closed = new Promise<void>((resolve) => pairs[0]?.[0].once('close', () => resolve()));
  await t.throwsAsync(channel.send(asked({ timeoutMs: 50 })), { message: /no answer within 50 ms/ });
  await closed;
  t.is((await channel.send(asked())).kind, 'ok');
  t.is(pairs.length, 2);
});

/** Who ends a connection with calls under way on it; resolves when the client knows. */
const ENDS: readonly (readonly [string, (server: RawGrpc, channel: GrpcChannel) => Promise<void>])[] = [
  [
    'its server ends',
    async (server, channel) => {
      for (const session of server.sessions) session.close();
      while (server.sessionCount() === 1) await channel.send(asked());
    },
  ],
  ['the client ends', async (_server, channel) => channel.close()],
];

for (const [who, end] of ENDS)
  test(`a call that is late on a connection that ${who} leaves the others on it alone`, async (t) => {
    const kept = deferred<RawGrpcCall>();
    const server = await rawGrpc(t, (call) => {
      if (call.method === 'M') say(call, framed(Buffer.from('fine')));
      else if (call.method === 'kept') kept.resolve(call);
    });
    const channel = channelOf(t, server.port);
    t.is((await channel.send(asked())).kind, 'ok');
    const late = t.throwsAsync(channel.send(asked({ path: '/s/late', timeoutMs: 300 })), {
      message: /no answer within 300 ms/,
    });
    const answer = channel.send(asked({ path: '/s/kept' }));
    const call = await kept.promise;
    const isOver = new Promise<void>((resolve) => call.session.once('close', () => resolve()));
    await end(server, channel);
    await late;
    say(call, framed(Buffer.from('kept')));
    const reply = await answer;
    t.is(reply.kind === 'ok' ? reply.body.toString() : reply.kind, 'kept');
    await isOver;
  });

test('what is no gRPC and does not end is not read: the call is ended at the server', async (t) => {
  const ended = deferred<number>();
  const server = await rawGrpc(t, ({ stream }) => {
    stream.on('close', () => ended.resolve(stream.rstCode ?? 0));
    stream.respond({ ':status': 200, 'content-type': 'text/html' });
    stream.write('<html>');
  });
  const reply = await channelOf(t, server.port).send(asked({ parts: [Buffer.from('hello')] }));
  t.deepEqual(reply, { kind: 'http', status: 200 });
  t.is(await ended.promise, constants.NGHTTP2_CANCEL);
});

/** Address or options -> why they cannot be right. */
const WRONG: readonly (readonly [string, RemoteOptions, RegExp])[] = [
  ['grpc://127.0.0.1:1/v2', {}, /endpoint must be an address of gRPC, which has no path/],
  ['grpc://127.0.0.1:1?a=b', {}, /endpoint must be an address of gRPC, which has no path/],
  ['grpc://user:password@127.0.0.1:1', {}, /no user name and no password/],
  ['grpc://0x7f.1:8001', {}, /plain form/],
  ['grpc://', {}, /endpoint must be an address such as grpc:/],
  ['grpc://127.0.0.1:1', { headers: { 'grpc-timeout': '1S' } }, /"grpc-timeout" is set by the request itself/],
  ['grpc://127.0.0.1:1', { headers: { TE: 'x' } }, /"TE" is set by the request itself/],
  ['grpc://127.0.0.1:1', { ca: '/nowhere/ca.pem' }, /ca must be a file that can be read: .*nowhere/],
  ['grpc://127.0.0.1:1', { ca: import.meta.filename }, /ca must be a file with certificates/],
  ['grpc://127.0.0.1:1', { timeoutMs: 0 }, /timeoutMs must be/],
];

for (const [url, options, message] of WRONG)
  test(`an endpoint is not made of ${url} with ${JSON.stringify(options).slice(0, 40)}`, (t) => {
    const error = t.throws(() => endpointOf(t, url, options), { instanceOf: TypeError });
    t.regex(error?.message ?? '', message);
    t.false(error?.message.includes('password@'));
  });

test('addresses are judged as over HTTP, in the lookup that the connection makes', async (t) => {
  const server = await rawGrpc(t, (call) => say(call, framed(Buffer.from('fine'))));
  const at =
    (address: string): Resolve =>
    (_name, done) =>
      done(null, [{ address, family: 4 }]);
  const name = `grpc://models.test:${server.port}`;
  const refused = await failureOf(endpointOf(t, name, {}, at('127.0.0.1')).call(question()));
  t.is(refused.code, 'REMOTE_REFUSED');
  t.regex(refused.message, /models\.test is at 127\.0\.0\.1, which is a loopback address .*allow/);
  t.is((await endpointOf(t, name, { allow: ['models.test'] }, at('127.0.0.1')).call(question())).toString(), 'fine');
  const metadata = await failureOf(endpointOf(t, 'grpc://169.254.169.254:80').call(question()));
  t.is(metadata.code, 'REMOTE_REFUSED');
  t.is(server.calls.length, 1);
});

test('an answer has as many bytes as the question takes, and never more than the options say', async (t) => {
  const server = await rawGrpc(t, (call) => say(call, framed(Buffer.alloc(Number(call.headers[':path']?.slice(3))))));
  const endpoint = endpointOf(t, server.url, { maxReplyBytes: 1024 });
  const sizeOf = async (size: number, maxReplyBytes?: number): Promise<number> => {
    const asked = question({ path: `/s/${size}`, ...(maxReplyBytes === undefined ? {} : { maxReplyBytes }) });
    const reply = await endpoint.ask(asked);
    t.is((await endpoint.call(asked)).length, size);
    return reply.kind === 'ok' ? reply.body.length : -1;
  };
  t.is(await sizeOf(10, 10), 10);
  t.is(await sizeOf(1024), 1024);
  t.is(await sizeOf(1024, 9999), 1024);
  for (const [size, most, limit] of [
    [11, 10, 10],
    [1025, undefined, 1024],
    [1025, 9999, 1024],
  ] as const) {
    const error = await failureOf(sizeOf(size, most));
    t.is(error.code, 'PROTOCOL_VIOLATION');
    t.regex(error.message, new RegExp(`larger than ${limit} bytes`));
  }
});
