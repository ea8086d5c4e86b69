import { gzipSync, deflateSync } from 'node:zlib';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { TroupeError } from '../../../src/kernel/errors.js';
import { RecordFailure } from '../../../src/stream/envelope.js';
import type { Acknowledgement } from '../../../src/stream/source.js';
import { fromHttp } from '../../../src/stream/sources/http.js';
import { ByteBudget, readBody } from '../../../src/stream/http-body.js';
import type { IncomingMessage } from '../../../src/stream/http-listener.js';
import { stream } from '../../../src/stream/pipeline.js';
import type { Report } from '../../../src/stream/report.js';
import { toArray } from '../../../src/stream/sinks/array.js';
import { toFile } from '../../../src/stream/sinks/file.js';
import { folder } from '../folder.js';
import { ask, listen, take } from '../http-stand.js';

const valuesOf = (items: readonly { readonly value: unknown }[]): unknown[] => items.map(({ value }) => value);
const NDJSON = { 'content-type': 'application/x-ndjson' };

test('a POST of one value, of an array and of NDJSON gives its records in order', async (t) => {
  const { reader, url } = await listen(t);
  const answers = [];
  for (const [body, headers] of [
    ['{"a":1}', {}],
    ['[1,[2],null]', { 'content-type': 'Application/JSON; charset=UTF-8' }],
    ['{"b":1}\n\n"x"\r\n3', NDJSON],
  ] as const) {
    const answer = ask(url, { body, headers });
    const items = await take(reader, body === '{"a":1}' ? 1 : 3);
    answers.push(valuesOf(items));
    await reader.acknowledge?.(items.map(({ token, value }) => ({ token, values: [value, 'too'] })));
    t.like(await answer, {
      status: 200,
      text: JSON.stringify({ results: items.map(({ value }) => ({ values: [value, 'too'] })) }),
    });
  }
  t.deepEqual(answers, [[{ a: 1 }], [1, [2], null], [{ b: 1 }, 'x', 3]]);
  t.like(await ask(url, { body: '[]' }), { status: 200, text: '{"results":[]}' });
  t.true(reader.wantsValues);
});

test('a request is answered when the last of its records has its outcome, whatever the order', async (t) => {
  const { reader, url } = await listen(t);
  const answer = ask(url, { body: '[1,2,3]' });
  const [first, second, third] = (await take(reader, 3)).map(({ token }) => token);
  let isAnswered = false;
  void answer.then(() => {
    isAnswered = true;
  });
  await reader.acknowledge?.([{ token: third, values: [3] }]);
  await reader.acknowledge?.([
    { token: third, values: ['told twice'] },
    { token: first, values: [] },
  ]);
  t.is((await ask(url, { method: 'GET' })).status, 405, 'another request passes meanwhile');
  t.false(isAnswered);
  await reader.acknowledge?.([{ token: second, values: [2, 2] }, { token: 'another/0/0' }]);
  t.is((await answer).text, '{"results":[{"values":[]},{"values":[2,2]},{"values":[3]}]}');
});

test('acknowledge: checkpoint answers with the number of records and wants no values', async (t) => {
  const { reader, url } = await listen(t, { acknowledge: 'checkpoint' });
  t.false(reader.wantsValues);
  const answer = ask(url, { body: '[1,2]' });
  await reader.acknowledge?.((await take(reader, 2)).map(({ token }) => ({ token })));
  t.like(await answer, { status: 200, text: '{"records":2}' });
});

test('a record that failed for good answers 422, one that may be tried again 503, both without the words of the error', async (t) => {
  const { reader, url } = await listen(t);
  const rounds: readonly [TroupeError, number, string | undefined][] = [
    [new TroupeError('PREDICT_FAILED', 'secret path /srv/model'), 422, undefined],
    [new TroupeError('MAILBOX_FULL', 'secret'), 503, '1'],
    [new TroupeError('BREAKER_OPEN', 'secret', { retryAfterMs: 4200 }), 503, '5'],
  ];
  for (const [error, status, retryAfter] of rounds) {
    const answer = ask(url, { body: '["good","bad"]' });
    const [good, bad] = await take(reader, 2);
    await reader.acknowledge?.([
      { token: good?.token, values: ['fine'] },
      { token: bad?.token, error },
    ]);
    const { status: got, text, headers } = await answer;
    t.is(got, status);
    t.is(headers['retry-after'], retryAfter);
    t.like(JSON.parse(text), {
      results: [{ values: ['fine'] }, { error: { code: error.code, retryable: error.retryable } }],
    });
    t.notRegex(text, /secret/);
  }
});

test('a result that is no JSON does not cost the others their answer', async (t) => {
  const { reader, url } = await listen(t);
  const answer = ask(url, { body: '[1,2]' });
  const [one, two] = await take(reader, 2);
  await reader.acknowledge?.([
    { token: one?.token, values: [1n] },
    { token: two?.token, values: [Float32Array.of(0.5)] },
  ]);
  const { results } = JSON.parse((await answer).text) as { results: unknown[] };
  t.like(results, { 0: { unwritable: 'The outcome is safe, but it is no JSON.' }, 1: { values: [[0.5]] } });
});

test('a bad line of NDJSON is one failed record in its place; a bad JSON body is refused as a whole', async (t) => {
  const { reader, url } = await listen(t);
  const answer = ask(url, { body: '1\n{oops\n3', headers: NDJSON });
  const items = await take(reader, 3);
  const failure = items[1]?.value;
  t.true(failure instanceof RecordFailure && failure.error.code === 'PARSE_FAILED');
  t.regex((failure as RecordFailure).error.message, /line 2 .*not JSON/);
  t.is((failure as RecordFailure).input, '{oops');
  await reader.acknowledge?.(
    items.map(
      ({ token, value }): Acknowledgement =>
        value instanceof RecordFailure ? { token, error: value.error } : { token, values: [] },
    ),
  );
  t.is((await answer).status, 422);
  const deep = `${'['.repeat(101)}${']'.repeat(101)}`;
  for (const body of ['{oops', '', '1 2', deep, Buffer.from([0x22, 0xff, 0x22])]) {
    const refused = await ask(url, { body });
    t.is(refused.status, 400);
    t.like(JSON.parse(refused.text), { error: { code: 'PARSE_FAILED' } });
  }
  const brackets = ask(url, { body: JSON.stringify('['.repeat(500)) });
  const [text] = await take(reader, 1);
  await reader.acknowledge?.([{ token: text?.token, values: [] }]);
  t.is((await brackets).status, 200, 'brackets inside a string are no depth');
});

test('NDJSON of more records than there may be, or of more objects and arrays in all its lines, is refused as a whole', async (t) => {
  const { reader, url } = await listen(t, { capacity: 3 });
  const post = (body: string): ReturnType<typeof ask> => ask(url, { body, headers: NDJSON });
  const many = await post('1\n'.repeat(1_000_000));
  t.is(many.status, 413);
  t.regex(many.text, /a body may hold 3 records, this one has more/);
  const line = `[${'{},'.repeat(499_999)}1]`; // 500,000 of them
  const brackets = await post(`${line}\n${line}\n[]`);
  t.is(brackets.status, 400);
  t.regex(brackets.text, /the body has more than 1000000 objects and arrays/);
  const answer = post(`${'['.repeat(200_000)}\n\n"${'['.repeat(2_000_000)}"\n[1]\r\n`);
  const items = await take(reader, 3);
  t.true(items[0]?.value instanceof RecordFailure && /line 1 .*deeper than 100/.test(items[0].value.error.message));
  t.is(items[1]?.value, '['.repeat(2_000_000), 'brackets inside a string are its own');
  t.deepEqual(items[2]?.value, [1]);
  await reader.acknowledge?.(items.map(({ token }) => ({ token, values: [] })));
  t.is((await answer).status, 200);
});

test('one content encoding is undone, within maxBodyBytes', async (t) => {
  const { reader, url } = await listen(t, { maxBodyBytes: 1000, capacityBytes: 5000 });
  for (const [name, encode] of [
    ['gzip', gzipSync],
    ['deflate', deflateSync],
  ] as const) {
    const answer = ask(url, { body: encode('["packed"]'), headers: { 'content-encoding': name } });
    const [item] = await take(reader, 1);
    t.is(item?.value, 'packed');
    await reader.acknowledge?.([{ token: item?.token, values: [] }]);
    t.is((await answer).status, 200);
  }
  const big = JSON.stringify('x'.repeat(1000));
  for (let round = 0; round < 10; round += 1) {
    t.is((await ask(url, { body: gzipSync(big), headers: { 'content-encoding': 'gzip' } })).status, 413);
    t.is((await ask(url, { body: big })).status, 413);
    t.is((await ask(url, { body: big, headers: { 'transfer-encoding': 'chunked' } })).status, 413);
  }
  t.is((await ask(url, { body: 'not gzip', headers: { 'content-encoding': 'gzip' } })).status, 400);
  for (const name of ['br', 'gzip, gzip', 'GZIP, identity']) {
    t.is((await ask(url, { body: '1', headers: { 'content-encoding': name } })).status, 415);
  }
  const after = ask(url, { body: JSON.stringify('x'.repeat(900)) });
  const [item] = await take(reader, 1);
  await reader.acknowledge?.([{ token: item?.token, values: [] }]);
  t.is((await after).status, 200, 'what was refused holds no bytes');
});

test('only an exact media type is taken', async (t) => {
  const { url } = await listen(t);
  for (const type of [
    'text/plain',
    'application/json;charset=latin1',
    'application/jsonx',
    'application/json, text/plain',
    '',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
  ]) {
    t.is((await ask(url, { body: '1', headers: { 'content-type': type } })).status, 415, type);
  }
});

test('another host name, origin, path or method is refused before the body', async (t) => {
  const { reader, url } = await listen(t, { hosts: ['feed.example'], origins: ['https://board.example'] });
  const { port } = new URL(url);
  for (const host of [
    'evil.example',
    'localhost.evil.example',
    `evil.example:${port}`,
    '127.0.0.1@evil.example',
    '[::2]',
    '127.0.0.1:80:80',
  ]) {
    t.is((await ask(url, { body: '1', headers: { host } })).status, 403, host);
  }
  for (const host of ['localhost', `LOCALHOST:${port}`, '[::1]:80', '127.0.0.1', 'feed.example']) {
    t.is((await ask(url, { method: 'DELETE', headers: { host } })).status, 405, host);
  }
  for (const method of ['GET', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'HEAD']) {
    const headers = { origin: 'https://evil.example' };
    t.is((await ask(url, { method, headers })).status, 403, method);
  }
  t.is((await ask(url, { body: '1', headers: { origin: 'null' } })).status, 403);
  for (const path of ['/', '/records/', '/Records', '/records/../records', '//records', '/%72ecords']) {
    t.is((await ask(url, { path, body: '1' })).status, 404, path);
  }
  const allowed = ask(url, { path: '/records?x=1', body: '1', headers: { origin: 'https://board.example' } });
  const [item] = await take(reader, 1);
  await reader.acknowledge?.([{ token: item?.token, values: [] }]);
  t.is((await allowed).headers['access-control-allow-origin'], 'https://board.example');
});

test('with a token nothing passes without it', async (t) => {
  const token = 'correct-horse-battery';
  const { reader, url } = await listen(t, { token });
  for (const authorization of [
    '',
    'Bearer',
    'Bearer ',
    `Basic ${token}`,
    `Bearer ${token}x`,
    'Bearer correct-horse-batterX',
    `Bearer  ${token}`,
  ]) {
    const refused = await ask(url, { body: '1', headers: { authorization } });
    t.is(refused.status, 401, authorization);
    t.is(refused.headers['www-authenticate'], 'Bearer');
  }
  const good = ask(url, { body: '1', headers: { authorization: `Bearer ${token}` } });
  const [item] = await take(reader, 1);
  await reader.acknowledge?.([{ token: item?.token, values: [] }]);
  t.is((await good).status, 200);
});

test('beyond loopback there is no source without a token, and no wildcard without names', (t) => {
  for (const host of ['0.0.0.0', '::', '192.168.1.5', 'example.com', '127.0.0.1.example.com']) {
    t.throws(() => fromHttp({ port: 0, host }), { instanceOf: TypeError, message: /token must be given/ }, host);
  }
  const token = 'correct-horse-battery';
  t.throws(() => fromHttp({ port: 0, host: '0.0.0.0', token }), { instanceOf: TypeError, message: /hosts must list/ });
  t.notThrows(() => fromHttp({ port: 0, host: '0.0.0.0', token, hosts: ['feed.example'] }));
  t.notThrows(() => fromHttp({ port: 0, host: '127.0.0.2' }));
});

test('a wrong option throws a TypeError that names it', (t) => {
  const wrong: readonly [object, RegExp][] = [
    [{}, /^port must be/],
    [{ port: -1 }, /^port must be/],
    [{ port: 70_000 }, /^port must be/],
    [{ port: 0, path: 'records' }, /^path must be/],
    [{ port: 0, token: 'short' }, /^token must be at least 16 .* got 5 characters/],
    [{ port: 0, hosts: 'a' }, /^hosts must be/],
    [{ port: 0, maxBodyBytes: 0 }, /^maxBodyBytes must be/],
    [{ port: 0, capacity: 1.5 }, /^capacity must be/],
    [{ port: 0, capacityBytes: 1 }, /^capacityBytes must be/],
    [{ port: 0, acknowledge: 'never' }, /^acknowledge must be one of/],
    [{ port: 0, onListening: 1 }, /^onListening must be/],
    [{ port: 0, prot: 1 }, /unknown option "prot"/],
  ];
  for (const [options, message] of wrong)
    t.throws(() => fromHttp(options as never), { instanceOf: TypeError, message });
});

test('a full queue refuses with 503 and Retry-After; what it holds stays', async (t) => {
  const { reader, url } = await listen(t, { capacity: 4 });
  const held = ask(url, { body: '[1,2,3]' });
  const first = await take(reader, 1);
  t.is((await ask(url, { body: '[1,2,3]' })).status, 503);
  t.is((await ask(url, { body: '[1,2,3,4,5]' })).status, 413, 'would never fit');
  const fits = ask(url, { body: '[4,5]' });
  const rest = await take(reader, 4);
  t.deepEqual(valuesOf([...first, ...rest]), [1, 2, 3, 4, 5]);
  await reader.acknowledge?.([...first, ...rest].map(({ token }) => ({ token, values: [] })));
  t.deepEqual([(await held).status, (await fits).status], [200, 200]);
});

test('with waitMs a request waits for room, first come first served', async (t) => {
  const { reader, url } = await listen(t, { capacity: 2, waitMs: 60_000 });
  const answers = [ask(url, { body: '[1,2]' })];
  // The next ones are sent when the source has taken the one before: their order is then known.
  await take(reader, 1);
  answers.push(ask(url, { body: '[3,4]' }));
  const items = await take(reader, 3);
  t.deepEqual(valuesOf(items), [2, 3, 4]);
  const short = await listen(t, { capacity: 1, waitMs: 1 });
  void ask(short.url, { body: '1' }).catch(() => undefined);
  const [one] = await take(short.reader, 1);
  t.is(one?.value, 1);
  const queued = ask(short.url, { body: '2' });
  const late = await ask(short.url, { body: '3' });
  t.is(late.status, 503);
  await short.reader.close();
  t.is((await queued).status, 503);
  await reader.close();
  t.deepEqual(
    (await Promise.all(answers)).map(({ status }) => status),
    [503, 503],
  );
});

test('bodies that are held are bounded in bytes', async (t) => {
  const { reader, url } = await listen(t, { maxBodyBytes: 600, capacityBytes: 1000 });
  const body = JSON.stringify('x'.repeat(500));
  const held = ask(url, { body });
  const [item] = await take(reader, 1);
  t.is((await ask(url, { body })).status, 503, 'read and not answered counts');
  await reader.acknowledge?.([{ token: item?.token, values: [] }]);
  t.is((await held).status, 200);
  const next = ask(url, { body });
  const [again] = await take(reader, 1);
  await reader.acknowledge?.([{ token: again?.token, values: [] }]);
  t.is((await next).status, 200);
});

test.serial('a body in chunks of one byte costs what its bytes cost', async (t) => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const heldNow = (): number => {
    gc();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  let growth = 0;
  async function* chunks(): AsyncGenerator<Buffer> {
    const before = heldNow();
    for (let n = 0; n < 300_000; n += 1) {
      yield Buffer.from([0x20]);
      // As from a socket: what is over is let go of between two turns.
      if (n % 1000 === 0) await setImmediate();
    }
    growth = heldNow() - before;
    yield Buffer.from('1');
  }
  const request = Object.assign(Readable.from(chunks()), { headers: {} }) as unknown as IncomingMessage;
  const body = await readBody(request, 1_000_000, new ByteBudget(1_000_000));
  t.true(body !== undefined && 'bytes' in body && body.bytes.toString().trim() === '1' && body.held === 300_001);
  t.true(growth < 3_000_000, `300,000 chunks of one byte hold ${growth} bytes`);
});

test('requests that wait behind another on a connection that breaks cost nothing, and hold no end up', async (t) => {
  t.timeout(20_000);
  const { reader, url } = await listen(t);
  const { port } = new URL(url);
  const one =
    'POST /records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n1';
  const client = connect(Number(port), '127.0.0.1', () =>
    client.write(`${one.repeat(3)}GET / HTTP/1.1\r\nhost: localhost\r\n\r\n`),
  );
  t.is((await take(reader, 3)).length, 3);
  client.resetAndDestroy();
  t.is((await ask(url, { method: 'GET' })).status, 405, 'by now the server knows of it');
  await reader.close();
});

test('an onListening that throws fails the source, and leaves no listener behind', async (t) => {
  let port = 0;
  const source = fromHttp({
    port: 0,
    onListening: (at) => {
      ({ port } = at);
      throw new Error('no place to tell of it');
    },
  });
  await t.throwsAsync(async () => source.open(), { code: 'SOURCE_FAILED', message: /no place to tell of it/ });
  const again = await fromHttp({ port }).open();
  await again.close();
});

test('a client that goes away costs nothing: its record finishes and the source goes on', async (t) => {
  const { reader, url } = await listen(t);
  const leaving = new AbortController();
  const gone = fetch(url, {
    method: 'POST',
    body: '"left"',
    headers: { 'content-type': 'application/json' },
    signal: leaving.signal,
  });
  const [left] = await take(reader, 1);
  leaving.abort();
  await t.throwsAsync(gone, { any: true });
  await reader.acknowledge?.([{ token: left?.token, values: [1] }]);
  const next = ask(url, { body: '"next"' });
  const [item] = await take(reader, 1);
  t.is(item?.value, 'next');
  await reader.acknowledge?.([{ token: item?.token, values: [] }]);
  t.is((await next).status, 200);
});

test('a request without an outcome in time is answered 504, and its record may still finish', async (t) => {
  const { reader, url } = await listen(t, { answerTimeoutMs: 20 });
  const answer = ask(url, { body: '1' });
  const [item] = await take(reader, 1);
  const { status, text } = await answer;
  t.is(status, 504);
  t.like(JSON.parse(text), { error: { code: 'DEADLINE_PASSED' } });
  t.notThrows(() => reader.acknowledge?.([{ token: item?.token, values: [] }]));
});

test('close ends an open read, answers what waits with 503, and frees the port', async (t) => {
  const { source, reader, url } = await listen(t);
  const answer = ask(url, { body: '1' });
  await take(reader, 1);
  const reading = reader.read(1);
  await reader.close();
  t.is(await reading, undefined);
  t.like(await answer, { status: 503, headers: { 'retry-after': '1' } });
  await t.throwsAsync(ask(url, { body: '1' }), { code: 'ECONNREFUSED' });
  const again = await source.open();
  await again.close();
});

test('a port that is taken fails the source, naming it', async (t) => {
  const { url } = await listen(t);
  const port = Number(new URL(url).port);
  const error = await t.throwsAsync(async () => fromHttp({ port }).open());
  t.like(error, { code: 'SOURCE_FAILED' });
  t.regex(error?.message ?? '', new RegExp(`http://127.0.0.1:${port}/: .*EADDRINUSE`));
});

test('the traceparent of a request goes with its records, and what is none does not', async (t) => {
  const { reader, url } = await listen(t);
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  for (const [header, wanted] of [
    [traceparent, traceparent],
    ['nonsense', undefined],
  ] as const) {
    const answer = ask(url, { body: '1', headers: { traceparent: header } });
    const items = await take(reader, 1);
    t.deepEqual(
      items.map(({ metadata }) => (metadata as { traceparent?: string }).traceparent),
      [wanted],
    );
    await reader.acknowledge?.(items.map(({ token }) => ({ token, values: [] })));
    await answer;
  }
});

test('an Idempotency-Key names the records of a request', async (t) => {
  const { reader, url } = await listen(t);
  const answer = ask(url, { body: '[1,2]', headers: { 'idempotency-key': 'order-17' } });
  const items = await take(reader, 2);
  t.deepEqual(
    items.map(({ metadata }) => (metadata as { key: string }).key),
    ['http:order-17:0', 'http:order-17:1'],
  );
  await reader.acknowledge?.(items.map(({ token }) => ({ token, values: [] })));
  await answer;
  t.is((await ask(url, { body: '1', headers: { 'idempotency-key': 'x'.repeat(201) } })).status, 400);
});

test('a pipeline answers each request with what became of its records, and stop ends it with all of them answered', async (t) => {
  const stopping = new AbortController();
  let url = '';
  let running: Promise<Report> | undefined;
  await new Promise<void>((resolve) => {
    const source = fromHttp<number>({
      port: 0,
      onListening: (at) => {
        ({ url } = at);
        resolve();
      },
    });
    running = stream(source)
      .filter((n) => n !== 0)
      .flatMap((n) => (n > 9 ? [n, n + 1] : [n]))
      .map((n) => {
        if (n < 0) throw new Error('negative');
        return n * 2;
      })
      .to(toArray(), { stop: stopping.signal });
  });
  t.is((await ask(url, { body: '[1,10,0]' })).text, '{"results":[{"values":[2]},{"values":[20,22]},{"values":[]}]}');
  const mixed = await ask(url, { body: '[3,-1]' });
  t.is(mixed.status, 422);
  t.like(JSON.parse(mixed.text), { results: [{ values: [6] }, { error: { code: 'OPERATOR_FAILED' } }] });
  stopping.abort();
  t.like(await running, { results: 4, failed: 1, filtered: 1, cancelled: false });
});

test('with checkpoints the answer comes after one that holds the outcome', async (t) => {
  const path = await folder(t);
  const stopping = new AbortController();
  let url = '';
  let running: Promise<Report> | undefined;
  await new Promise<void>((resolve) => {
    const source = fromHttp({
      port: 0,
      acknowledge: 'checkpoint',
      onListening: (at) => {
        ({ url } = at);
        resolve();
      },
    });
    running = stream(source).to(toFile(join(path, 'out.ndjson')), {
      stop: stopping.signal,
      checkpoint: { dir: join(path, 'checkpoints'), intervalMs: 10 },
    });
  });
  t.like(await ask(url, { body: '[{"a":1},2]' }), { status: 200, text: '{"records":2}' });
  t.is(await readFile(join(path, 'out.ndjson'), 'utf8'), '{"a":1}\n2\n');
  stopping.abort();
  const report = await running;
  t.true((report?.checkpoints?.written ?? 0) >= 2);
});
