import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { Envelope, type RecordInfo } from '../../../src/stream/envelope.js';
import { toHttp, type ToHttpOptions } from '../../../src/stream/sinks/http.js';
import type { Sink } from '../../../src/stream/sink.js';
import { listen, take } from '../http-stand.js';

interface Got {
  readonly body: string;
  readonly headers: IncomingMessage['headers'];
}

/** A receiver that answers the n-th request as told, and the last way for ever. */
async function receiver(
  t: ExecutionContext,
  ...answers: ((response: ServerResponse) => void)[]
): Promise<{ url: string; got: Got[] }> {
  const got: Got[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (chunk: string) => {
      body += chunk;
    });
    request.on('end', () => {
      got.push({ body, headers: request.headers });
      const reply = answers[Math.min(got.length, answers.length) - 1];
      if (reply === undefined) response.end('{"ok":true}');
      else reply(response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?secret=1`, got };
}

const status =
  (code: number, headers: Record<string, string> = {}, text = '') =>
  (response: ServerResponse): void => {
    response.writeHead(code, headers).end(text);
  };

function open(t: ExecutionContext, url: string, options: ToHttpOptions = {}, resume?: { state: unknown }): Sink {
  const sink = toHttp(url, { retry: { attempts: 3, backoffMs: 1, maxBackoffMs: 2 }, ...options });
  void sink.open?.(resume);
  t.teardown(() => sink.close());
  return sink;
}

const records = (...seqs: number[]): RecordInfo[] =>
  seqs.map((seq) => new Envelope(seq, undefined, 0, undefined, undefined));

test('values are posted in order as JSON arrays of at most batch records', async (t) => {
  const { url, got } = await receiver(t);
  const sink = open(t, url, { batch: 2, headers: { authorization: 'Bearer x' } });
  await sink.write([1, { a: Float32Array.of(0.5) }, 'three'], records(0, 1, 2));
  t.deepEqual(
    got.map(({ body }) => body),
    ['[1,{"a":[0.5]}]', '["three"]'],
  );
  t.like(got[0]?.headers, { authorization: 'Bearer x', 'content-type': 'application/json' });
  t.not(got[0]?.headers['idempotency-key'], got[1]?.headers['idempotency-key']);
});

test('ndjson is a line for each value, and batch 1 the bare value under the key of its record', async (t) => {
  const { url, got } = await receiver(t);
  await open(t, url, { format: 'ndjson' }).write(['a', 2], records(0, 1));
  t.like(got[0], { body: '"a"\n2\n', headers: { 'content-type': 'application/x-ndjson' } });
  const single = open(t, url, { batch: 1, key: 'nightly' });
  t.true(single.isIdempotent);
  await single.write([{ a: 1 }, [2]], records(7, 8));
  t.deepEqual(
    got.slice(1).map(({ body, headers }) => [body, headers['idempotency-key']]),
    [
      ['{"a":1}', 'nightly:7'],
      ['[2]', 'nightly:8'],
    ],
  );
});

test('keys stay the same in a run that goes on from a checkpoint, and differ in one that begins', async (t) => {
  const { url, got } = await receiver(t);
  const first = open(t, url, { batch: 1 });
  await first.write([1], records(3));
  await open(t, url, { batch: 1 }, { state: JSON.parse(JSON.stringify(first.prepare?.())) as unknown }).write(
    [1],
    records(3),
  );
  await open(t, url, { batch: 1 }).write([1], records(3));
  const [before, resumed, anew] = got.map(({ headers }) => headers['idempotency-key']);
  t.is(resumed, before);
  t.not(anew, before);
});

test('a record its source has named keeps that name as key, and its children get their places', async (t) => {
  const { url, got } = await receiver(t);
  const metadata = { key: 'redis:orders:5-0' };
  const sink = open(t, url, { batch: 1, key: 'unused' });
  await sink.write(
    [1, 2],
    [new Envelope(9, 0, 0, undefined, metadata), new Envelope(9, 0, 0, undefined, metadata, '.0.2')],
  );
  t.deepEqual(
    got.map(({ headers }) => headers['idempotency-key']),
    ['redis:orders:5-0', 'redis:orders:5-0.0.2'],
  );
  const own = open(t, url, { batch: 1, key: (value, { id }) => `${String(value)}/${id}` });
  await own.write(['v'], [new Envelope(9, 0, 0, undefined, metadata)]);
  t.is(got[2]?.headers['idempotency-key'], 'v/9');
});

test('what is busy, late or broken is tried again under the same key', async (t) => {
  for (const bad of [
    status(503),
    status(429, { 'retry-after': '0' }),
    status(500),
    status(507),
    (response: ServerResponse) => response.destroy(),
  ]) {
    const { url, got } = await receiver(t, bad, bad, status(204));
    await open(t, url).write(['v'], records(0));
    t.is(got.length, 3);
    t.is(new Set(got.map(({ headers }) => headers['idempotency-key'])).size, 1);
  }
  const { url, got } = await receiver(t, () => undefined, status(200));
  await open(t, url, { timeoutMs: 400 }).write(['v'], records(0));
  t.is(got.length, 2);
});

test('a Retry-After in seconds is waited for', async (t) => {
  const { url, got } = await receiver(t, status(503, { 'retry-after': '1' }), status(200));
  const startedAt = process.hrtime.bigint();
  await open(t, url).write(['v'], records(0));
  t.true(process.hrtime.bigint() - startedAt >= 999_000_000n);
  t.is(got.length, 2);
});

test('when tries are used up, or the answer is final, the write fails and names receiver, record and reason', async (t) => {
  const rounds: readonly [(response: ServerResponse) => void, number, RegExp][] = [
    [status(503, {}, 'over capacity'), 3, /hook did not take records 4 to 5 after 3 tries: status 503: over capacity/],
    [status(422, {}, 'no such field'), 1, /did not take records 4 to 5: status 422: no such field/],
    [status(302, { location: 'http://127.0.0.1:1/' }), 1, /status 302, a redirect, which is not followed/],
    [status(404), 1, /status 404/],
    [status(400, {}, '\u001b[31mred\u0007\u202e'), 1, /status 400: \[31mred$/],
    [(response) => response.destroy(), 3, /after 3 tries/],
  ];
  for (const [bad, tries, message] of rounds) {
    const { url, got } = await receiver(t, bad);
    const error = await t.throwsAsync(async () => open(t, url).write(['a', 'b'], records(4, 5)));
    t.like(error, { code: 'SINK_FAILED' });
    t.regex(error?.message ?? '', message);
    t.notRegex(error?.message ?? '', /secret/);
    t.is(got.length, tries);
  }
});

test('close ends a request that nobody answers, and the wait before a next try', async (t) => {
  for (const [bad, options] of [
    [() => undefined, {}],
    [status(503, { 'retry-after': '300' }), {}],
  ] as const) {
    const { url, got } = await receiver(t, bad);
    const sink = open(t, url, options);
    const writing = sink.write(['v'], records(0));
    // The request is under way when the receiver has it; the wait begins some turns later.
    while (got.length === 0) await new Promise((resolve) => setImmediate(resolve));
    await sink.close();
    t.like(await t.throwsAsync(Promise.resolve(writing)), { code: 'SINK_FAILED' });
  }
});

test('a header in any writing is sent once, and a content-type of the user stands in the place of ours', async (t) => {
  const { url, got } = await receiver(t);
  await open(t, url, { headers: { 'Content-Type': 'application/vnd.x+json', 'X-A': 'é' } }).write(['v'], records(0));
  t.like(got[0]?.headers, { 'content-type': 'application/vnd.x+json', 'x-a': 'é' });
});

test('a value that is no JSON fails the write and names the record', async (t) => {
  const { url, got } = await receiver(t);
  const circle: { self?: unknown } = {};
  circle.self = circle;
  for (const value of [1n, undefined, circle, () => 1]) {
    await t.throwsAsync(async () => open(t, url).write([0, value], records(0, 1)), {
      message: /record 1 cannot be written as JSON/,
    });
  }
  t.is(got.length, 0);
});

test('what toHttp posts fromHttp reads, with names that survive a second POST', async (t) => {
  const { reader, url } = await listen(t);
  const sink = open(t, url, { format: 'ndjson', key: 'x' });
  const written = sink.write([1, { b: 2 }], records(0, 1));
  const items = await take(reader, 2);
  t.deepEqual(
    items.map(({ value }) => value),
    [1, { b: 2 }],
  );
  t.regex((items[0]?.metadata as { key?: string } | undefined)?.key ?? '', /^http:[0-9a-f]{64}:0$/);
  await reader.acknowledge?.(items.map(({ token }) => ({ token, values: [] })));
  await written;
});

test('a wrong option throws a TypeError that names it and shows no secret', (t) => {
  const wrong: readonly [unknown, object, RegExp][] = [
    ['ftp://a', {}, /^url must be an http or https URL/],
    ['ftp://me:pw@a', {}, /^url must be .* got "another string"/],
    ['http://me:pw@a:99999', {}, /^url must be .* got "another string"/],
    ['/relative', {}, /^url must be/],
    ['http://me:pw@a', {}, /^url must have no user name/],
    ['http://a', { batch: 0 }, /^batch must be/],
    ['http://a', { format: 'xml' }, /^format must be/],
    ['http://a', { timeoutMs: 0 }, /^timeoutMs must be/],
    ['http://a', { retry: { attempts: 0 } }, /^retry\.attempts must be/],
    ['http://a', { retry: { tries: 1 } }, /unknown option "tries"/],
    ['http://a', { key: '' }, /^key must be/],
    ['http://a', { headers: { 'x-a': 'b\r\nc: d' } }, /^headers: header "x-a"/],
    ['http://a', { headers: { 'x a': 'b' } }, /^headers: header "x a"/],
    ['http://a', { headers: { 'x-a': 'pw \u20ac' } }, /^headers: header "x-a" must be a name with a string of Latin-1/],
    ['http://a', { headers: { 'Idempotency-Key': 'pw' } }, /^headers: header "Idempotency-Key" is set by the request/],
    ['http://a', { headers: { Host: 'pw' } }, /^headers: header "Host" is set by the request/],
    ['http://a', { headers: { 'X-a': '1', 'x-A': '2' } }, /^headers: header "x-a" is there twice/],
    ['http://a', { heders: {} }, /unknown option "heders"/],
  ];
  for (const [url, options, message] of wrong) {
    const error = t.throws(() => toHttp(url as string, options), { instanceOf: TypeError, message });
    t.notRegex(error?.message ?? '', /pw|c: d/);
  }
});
