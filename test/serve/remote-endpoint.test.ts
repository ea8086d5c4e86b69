import { gzipSync, gunzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import type { Resolve } from '../../src/serve/address-guard.js';
import { type RemoteCall, RemoteEndpoint } from '../../src/serve/remote-endpoint.js';
import type { RemoteOptions } from '../../src/serve/remote-options.js';
import { isTroupeError, type TroupeError } from '../../src/kernel/errors.js';
import { begun, rawServer, type RawServer, reply } from './raw-server.js';

const never = (): AbortSignal => new AbortController().signal;

function endpointOf(t: ExecutionContext, url: string, options: RemoteOptions = {}, resolve?: Resolve): RemoteEndpoint {
  const endpoint = new RemoteEndpoint('test', 'endpoint', url, { retryForMs: 0, ...options }, resolve);
  t.teardown(() => endpoint.close());
  return endpoint;
}

async function failureOf(endpoint: RemoteEndpoint, call: Partial<RemoteCall> = {}): Promise<TroupeError> {
  try {
    await endpoint.call({ method: 'POST', path: 'v2/x', signal: never(), ...call });
  } catch (error) {
    if (isTroupeError(error)) return error;
    throw error;
  }
  throw new Error('it answered');
}

const get = (): RemoteCall => ({ method: 'GET', path: 'ok', signal: never() });

test('a request has method, path, headers, token and body, and connections are used again', async (t) => {
  const server = await rawServer(t, () => reply(200, 'fine'));
  const endpoint = endpointOf(t, `${server.url}/base/?key=1`, {
    token: 'abc',
    headers: { 'X-Tenant': 'a' },
    timeoutMs: 60_000,
  });
  const { status, body } = await endpoint.call({
    method: 'POST',
    path: 'v2/x',
    headers: { 'content-type': 'text/plain' },
    body: [Buffer.from('he'), Buffer.from('llo')],
    signal: never(),
  });
  t.is(status, 200);
  t.is(body.toString(), 'fine');
  const [first] = server.requests;
  t.regex(first?.head ?? '', /^POST \/base\/v2\/x\?key=1 HTTP\/1\.1\r\n/);
  for (const line of ['authorization: Bearer abc', 'x-tenant: a', 'content-type: text/plain', `host: 127.0.0.1:`])
    t.true(first?.head.toLowerCase().includes(line.toLowerCase()), line);
  t.is(first?.body.toString(), 'hello');
  await endpoint.call(get());
  t.is(server.connections(), 1);
  t.deepEqual(endpoint.counts, { requests: 2, retries: 0 });
});

/** Status -> code, ran; of one record, and of several. */
const STATUSES: readonly (readonly [readonly number[], string, string, string])[] = [
  [[408, 425, 429, 503], 'REMOTE_UNAVAILABLE', 'not-started', 'REMOTE_UNAVAILABLE'],
  [[502, 504, 520, 599], 'REMOTE_UNAVAILABLE', 'interrupted', 'REMOTE_UNAVAILABLE'],
  [[301, 302, 303, 307, 308], 'REMOTE_REFUSED', 'not-started', 'REMOTE_REFUSED'],
  [[401, 403, 404, 405, 407, 410, 415, 505], 'REMOTE_REFUSED', 'not-started', 'REMOTE_REFUSED'],
  [[400, 409, 413, 418, 422, 501], 'PREDICT_FAILED', 'failed', 'PREDICT_FAILED'],
  [[500], 'REMOTE_FAILED', 'interrupted', 'PREDICT_FAILED'],
];

test('a status is blamed on the server, on the way there, or on the records', async (t) => {
  const server = await rawServer(t, ({ head }) => {
    const status = Number(/\/(\d{3})\?/.exec(head)?.[1]);
    return reply(status, '{"error":"because"}', ['retry-after: 7']);
  });
  const endpoint = endpointOf(t, `${server.url}/?key=secret`);
  for (const [statuses, code, ran, ofSeveral] of STATUSES)
    for (const status of statuses) {
      const error = await failureOf(endpoint, { path: String(status), count: 1 });
      t.like(error, { code, ran }, String(status));
      t.regex(error.message, new RegExp(`^${server.url}/${status} answered with status ${status}.*: because$`));
      t.is(error.retryAfterMs, code === 'REMOTE_UNAVAILABLE' ? 7000 : undefined);
      t.is((await failureOf(endpoint, { path: String(status), count: 2 })).code, ofSeveral as never);
    }
});

/** What a hostile or broken server says -> what becomes of it. */
const FAULTS: readonly (readonly [
  string,
  string,
  (server: RawServer['requests'][number]) => string | Buffer | undefined,
])[] = [
  ['ends without an answer', 'REMOTE_UNAVAILABLE', ({ socket }) => void socket.destroy()],
  ['resets', 'REMOTE_UNAVAILABLE', ({ socket }) => void socket.resetAndDestroy()],
  ['ends in the head', 'REMOTE_UNAVAILABLE', ({ socket }) => void socket.end('HTTP/1.1 200 OK\r\ncontent-le')],
  [
    'ends in a body of known length',
    'REMOTE_UNAVAILABLE',
    ({ socket }) => void socket.end(`${begun('content-length: 100')}abc`),
  ],
  [
    'ends in a chunk',
    'REMOTE_UNAVAILABLE',
    ({ socket }) => void socket.end(`${begun('transfer-encoding: chunked')}5\r\nab`),
  ],
  [
    'ends between chunks',
    'REMOTE_UNAVAILABLE',
    ({ socket }) => void socket.end(`${begun('transfer-encoding: chunked')}1\r\na\r\n`),
  ],
  ['says nothing', 'REMOTE_UNAVAILABLE', () => undefined],
  ['says a head and no more', 'REMOTE_UNAVAILABLE', () => begun('content-length: 5')],
  ['promises more than is taken', 'PROTOCOL_VIOLATION', () => begun('content-length: 99999')],
  [
    'sends more than is taken',
    'PROTOCOL_VIOLATION',
    ({ socket }) => {
      const chunk = `1000\r\n${'x'.repeat(0x1000)}\r\n`;
      socket.write(begun('transfer-encoding: chunked'));
      for (let sent = 0; sent < 64; sent++) socket.write(chunk);
      return undefined;
    },
  ],
  [
    'sends a bomb',
    'PROTOCOL_VIOLATION',
    () => reply(200, gzipSync(Buffer.alloc(10_000_000)), ['content-encoding: gzip']),
  ],
  ['packs twice', 'PROTOCOL_VIOLATION', () => reply(200, gzipSync(gzipSync('{}')), ['content-encoding: gzip, gzip'])],
  ['packs otherwise', 'PROTOCOL_VIOLATION', () => reply(200, 'x', ['content-encoding: br'])],
  ['says gzip of what is none', 'PROTOCOL_VIOLATION', () => reply(200, 'x', ['content-encoding: gzip'])],
  ['speaks another protocol', 'PROTOCOL_VIOLATION', () => 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['has a head without end', 'PROTOCOL_VIOLATION', () => begun(`x: ${'y'.repeat(100_000)}`)],
  ['has two lengths', 'PROTOCOL_VIOLATION', () => `${begun('content-length: 1', 'content-length: 2')}ab`],
  [
    'changes the protocol',
    'PROTOCOL_VIOLATION',
    () => 'HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n',
  ],
];

for (const [what, code, answer] of FAULTS)
  test(`a server that ${what} is ${code}, and the next request is answered`, async (t) => {
    const server = await rawServer(t, (request) => (request.number === 1 ? answer(request) : reply(200, 'fine')));
    const timeoutMs = / no more$|^says nothing/.test(what) ? 500 : 60_000;
    const endpoint = endpointOf(t, server.url, { maxReplyBytes: 10_000, timeoutMs });
    const error = await failureOf(endpoint);
    t.is(error.code, code as never, error.message);
    t.is(error.ran, code === 'REMOTE_UNAVAILABLE' ? 'interrupted' : 'failed');
    t.is((await endpointOf(t, server.url, { timeoutMs: 60_000 }).call(get())).body.toString(), 'fine');
  });

test('nobody at the port is unavailable, and nothing was started', async (t) => {
  const server = await rawServer(t, () => undefined);
  const { port } = server;
  const gone = await rawServer(t, () => undefined);
  t.not(gone.port, port);
  // Port 1 of loopback: nobody listens there who is not root.
  const error = await failureOf(endpointOf(t, 'http://127.0.0.1:1'));
  t.like(error, { code: 'REMOTE_UNAVAILABLE', ran: 'not-started' });
  t.regex(error.message, /^http:\/\/127\.0\.0\.1:1\/v2\/x cannot be reached: .*ECONNREFUSED/);
});

test('a redirect is not followed, wherever it leads', async (t) => {
  const other = await rawServer(t, () => reply(200, 'here'));
  const server = await rawServer(t, () => reply(307, '', [`location: ${other.url}/`]));
  const error = await failureOf(endpointOf(t, server.url, { token: 'secret-token' }));
  t.is(error.code, 'REMOTE_REFUSED');
  t.regex(error.message, /status 307, a redirect, which is not followed/);
  t.is(other.requests.length, 0);
});

test('a name is resolved for each connection, and what it resolves to then is judged', async (t) => {
  const server = await rawServer(t, ({ socket }) => {
    setImmediate(() => socket.end());
    return reply(200, 'fine', ['connection: close']);
  });
  let address = '127.0.0.1';
  let lookups = 0;
  const resolve: Resolve = (_name, done) => {
    lookups++;
    done(null, [{ address, family: 4 }]);
  };
  const url = `http://models.example:${server.port}`;
  const endpoint = endpointOf(t, url, { allow: ['models.example'] }, resolve);
  t.is((await endpoint.call(get())).body.toString(), 'fine');
  t.regex(server.requests[0]?.head ?? '', new RegExp(`host: models\\.example:${server.port}`, 'i'));
  address = '169.254.169.254';
  const error = await failureOf(endpoint);
  t.is(error.code, 'REMOTE_REFUSED');
  t.regex(error.message, /models\.example is at 169\.254\.169\.254, which is a link-local address/);
  t.is(lookups, 2, 'one for each connection');
  t.is(server.connections(), 1);
  t.is((await failureOf(endpointOf(t, url, {}, resolve))).code, 'REMOTE_REFUSED');
  address = '127.0.0.1';
  t.is((await failureOf(endpointOf(t, url, {}, resolve))).code, 'REMOTE_REFUSED', 'a public name of loopback');
});

test('what passes is tried again until it goes well, and no other failure is', async (t) => {
  const server = await rawServer(t, ({ number, socket }) => {
    if (number === 1) return reply(503);
    if (number === 2) return void socket.destroy();
    return number === 3 ? reply(504) : number === 4 ? reply(200, 'fine') : reply(400);
  });
  const endpoint = endpointOf(t, server.url, { retryForMs: 60_000, timeoutMs: 60_000 });
  t.is((await endpoint.call(get())).body.toString(), 'fine');
  t.deepEqual(endpoint.counts, { requests: 4, retries: 3 });
  t.is((await failureOf(endpoint)).code, 'PREDICT_FAILED');
  t.is(endpoint.counts.requests, 5);
});

test('Retry-After is waited for; where it goes beyond the time there is, it is told at once', async (t) => {
  const asked: number[] = [];
  const server = await rawServer(t, ({ number }) => {
    asked.push(performance.now());
    return number === 1
      ? reply(503, '', ['retry-after: 1'])
      : number === 2
        ? reply(200)
        : reply(503, '', ['retry-after: 60']);
  });
  const endpoint = endpointOf(t, server.url, { retryForMs: 30_000, timeoutMs: 60_000 });
  await endpoint.call(get());
  t.true((asked[1] as number) - (asked[0] as number) >= 990);
  const error = await failureOf(endpoint);
  t.like(error, { code: 'REMOTE_UNAVAILABLE', retryAfterMs: 60_000 });
  t.is(server.requests.length, 3);
});

test('who gives up is heard: the connection ends, and no further try is made', async (t) => {
  const closed = new Promise<void>((resolve) => {
    void rawServer(t, ({ socket, number }) => {
      if (number > 1) return reply(200);
      socket.once('close', () => resolve());
      controller.abort();
      return undefined;
    }).then(async (server) => {
      const endpoint = endpointOf(t, server.url, { retryForMs: 60_000, timeoutMs: 60_000 });
      t.is((await failureOf(endpoint, { signal: controller.signal })).code, 'CANCELLED');
      t.is((await failureOf(endpoint, { signal: controller.signal })).code, 'CANCELLED');
      t.is(server.requests.length, 1);
    });
  });
  const controller = new AbortController();
  await closed;
  t.plan(3);
});

test('bodies are packed where that is asked for, and packed answers taken', async (t) => {
  const server = await rawServer(t, ({ body }) => reply(200, gzipSync(gunzipSync(body)), ['content-encoding: gzip']));
  const endpoint = endpointOf(t, server.url, { compression: 'gzip', timeoutMs: 60_000 });
  const text = 'again '.repeat(1000);
  const { body } = await endpoint.call({ method: 'POST', body: [Buffer.from(text)], signal: never() });
  t.is(body.toString(), text);
  t.true((server.requests[0]?.body.length ?? Infinity) < 200);
  t.regex(server.requests[0]?.head ?? '', /accept-encoding: gzip/i);
});

test('JSON goes both ways: typed arrays are lists, and what is no JSON is told', async (t) => {
  const server = await rawServer(t, ({ number, body }) =>
    reply(200, number === 1 ? body : number === 2 ? '{"a":' : '['.repeat(200) + ']'.repeat(200)),
  );
  const endpoint = endpointOf(t, server.url, { timeoutMs: 60_000 });
  const call = { method: 'POST', signal: never() } as const;
  const value = { x: Float32Array.of(1, 0.5), big: 7n, longs: BigInt64Array.of(1n), text: 'ö' };
  t.deepEqual(await endpoint.callJson(call, value), { x: [1, 0.5], big: 7, longs: [1], text: 'ö' });
  t.like(await t.throwsAsync(endpoint.callJson(call, {})), { code: 'PROTOCOL_VIOLATION' });
  t.like(await t.throwsAsync(endpoint.callJson(call, {})), { code: 'PROTOCOL_VIOLATION' });
  t.like(await t.throwsAsync(endpoint.callJson(call, 2n ** 60n)), { code: 'INPUT_INVALID' });
  t.like(await t.throwsAsync(endpoint.callJson({ ...call, count: 2 }, 2n ** 60n)), { code: 'PREDICT_FAILED' });
});

test('wrong options are refused at once, and secrets are not shown', (t) => {
  const wrong: readonly RemoteOptions[] = [
    { timeoutMs: 0 },
    { timeoutMs: Number.NaN },
    { retryForMs: -1 },
    { maxReplyBytes: 0 },
    { maxReplyBytes: 2 ** 32 },
    { compression: 'br' as never },
    { token: 'two words' },
    { headers: { 'content-type': 'a' } },
    { headers: { host: 'a' } },
    { headers: { 'x-secret': 'line\nbreak' } },
    { token: 'abc', headers: { Authorization: 'Basic secret' } },
    { allow: 'all' as never },
  ];
  for (const options of wrong) {
    const error = t.throws(() => new RemoteEndpoint('Pool "a"', 'endpoint', 'http://127.0.0.1:1', options), {
      instanceOf: TypeError,
      message: /^Pool "a": /,
    });
    t.false(/secret|two words|break/.test(error.message.replace('x-secret', '')), error.message);
  }
});

test('while a server cannot be reached one call tries, and the others wait for it', async (t) => {
  let seen = 0;
  const server = await rawServer(t, ({ number, socket }) => {
    if (number > 1) return reply(200);
    // Long enough for calls that wait for nobody to come by themselves.
    setTimeout(() => {
      seen = server.requests.length;
      socket.write(reply(200));
    }, 300);
    return undefined;
  });
  const calls = 20;
  let lookups = 0;
  const resolve: Resolve = (_name, done) => {
    // Nobody listens at the first address.
    done(null, [{ address: ++lookups < calls + 5 ? '127.0.0.2' : '127.0.0.1', family: 4 }]);
  };
  const options = { allow: ['models.example'], retryForMs: 120_000, timeoutMs: 60_000 };
  const endpoint = endpointOf(t, `http://models.example:${server.port}`, options, resolve);
  const answers = await Promise.all(Array.from({ length: calls }, () => endpoint.call(get())));
  t.true(answers.every(({ status }) => status === 200));
  t.is(seen, 1);
  t.is(server.requests.length, calls);
});

test('a header of a call goes before that of the options, and the others stay', async (t) => {
  const server = await rawServer(t, () => reply(200));
  const endpoint = endpointOf(t, server.url, { headers: { 'X-Tenant': 'options', 'x-kept': 'options' } });
  await endpoint.call({ ...get(), headers: { 'x-tenant': 'call' } });
  await endpoint.ask({ ...get(), headers: { 'x-tenant': 'ask' } });
  await endpoint.call(get());
  const sent = (name: string): readonly (readonly string[])[] =>
    server.requests.map(({ head }) =>
      [...head.matchAll(new RegExp(`^${name}: (.*)$`, 'gim'))].map(([, value = '']) => value.trim()),
    );
  t.deepEqual(sent('x-tenant'), [['call'], ['ask'], ['options']]);
  t.deepEqual(sent('x-kept'), [['options'], ['options'], ['options']]);
});
