import { connect, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { Envelope, type RecordInfo, type Stamped } from '../../../src/stream/envelope.js';
import type { ListenAddress } from '../../../src/stream/http-listener.js';
import type { Sink } from '../../../src/stream/sink.js';
import { toSse, type ToSseOptions } from '../../../src/stream/sinks/sse.js';
import { fromSse } from '../../../src/stream/sources/sse.js';
import { ask } from '../http-stand.js';

async function serve(t: ExecutionContext, options: Partial<ToSseOptions> = {}): Promise<{ sink: Sink; url: string }> {
  let url = '';
  const onListening = (at: ListenAddress): void => {
    ({ url } = at);
  };
  const sink = toSse({ port: 0, path: '/feed', key: 'k', retryMs: 10, onListening, ...options });
  await sink.open?.();
  t.teardown(() => sink.close());
  return { sink, url };
}

const records = (count: number, from = 0): RecordInfo[] =>
  Array.from({ length: count }, (_, n) => new Envelope(from + n, undefined, 0, undefined, undefined));

/** Reads until `pattern` stands in what came. */
async function listen(
  t: ExecutionContext,
  url: string,
  headers: Record<string, string> = {},
): Promise<(pattern: RegExp) => Promise<string>> {
  const leaving = new AbortController();
  t.teardown(() => leaving.abort());
  const response = await fetch(url, { headers, signal: leaving.signal });
  t.is(response.status, 200);
  t.is(response.headers.get('content-type'), 'text/event-stream');
  const body = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = '';
  return async (pattern) => {
    while (!pattern.test(text)) {
      const { value, done } = (await body?.read()) ?? { done: true };
      if (done) break;
      text += decoder.decode(value as Uint8Array, { stream: true });
    }
    return text;
  };
}

test('a client sees what is written while it is there, with ids and types', async (t) => {
  const { sink, url } = await serve(t, { event: 'scored' });
  await sink.write(['before'], records(1));
  const until = await listen(t, url);
  await until(/retry: 10\n\n/);
  await sink.write([{ text: 'a\nb' }, Float32Array.of(0.5)], records(2, 1));
  t.is(
    await until(/0\.5/),
    'retry: 10\n\nid: k:1\nevent: scored\ndata: {"text":"a\\nb"}\n\nid: k:2\nevent: scored\ndata: [0.5]\n\n',
  );
  await sink.close();
  t.regex(await until(/never/), /0\.5\]\n\n$/, 'and then the end');
});

test('a client that comes back gets what it missed, and is told of what is gone', async (t) => {
  const { sink, url } = await serve(t, { history: 3 });
  await sink.write([0, 1, 2, 3, 4], records(5));
  t.regex(
    await (await listen(t, url, { 'last-event-id': 'k:2' }))(/data: 4/),
    /^retry: 10\n\nid: k:3\ndata: 3\n\nid: k:4\n/,
  );
  for (const id of ['k:0', 'other:3']) {
    const text = await (await listen(t, url, { 'last-event-id': id }))(/data: 4/);
    t.regex(text, /^retry: 10\n\nevent: troupe-gap\ndata: \{\}\n\nid: k:2\ndata: 2\n\nid: k:3\n/);
  }
});

test('the history is bounded in bytes too, and the newest event stays whatever its size', async (t) => {
  const { sink, url } = await serve(t, { historyBytes: 200 });
  await sink.write(['x'.repeat(150), 'y'.repeat(150), 'z'.repeat(5000)], records(3));
  const text = await (await listen(t, url, { 'last-event-id': 'none' }))(/z{5000}"\n\n/);
  t.notRegex(text, /x|y{10}/);
});

test('a record that is written again while it is in the history is not sent again', async (t) => {
  const { sink, url } = await serve(t);
  await sink.write([0, 1], records(2));
  await sink.write([1, 2], records(2, 1));
  const text = await (await listen(t, url, { 'last-event-id': 'none' }))(/data: 2/);
  t.deepEqual(text.match(/data: \d/g), ['data: 0', 'data: 1', 'data: 2']);
});

test('a client that reads nothing is disconnected, holds nobody up and costs no memory', async (t) => {
  const { sink, url } = await serve(t, { history: 50 });
  const { port } = new URL(url);
  const stuck = connect(Number(port), '127.0.0.1');
  stuck.on('error', () => undefined);
  t.teardown(() => stuck.destroy());
  stuck.write(`GET /feed HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  await firstByte(stuck);
  stuck.pause();
  const closed = new Promise((resolve) => stuck.on('close', resolve));
  const leaving = new AbortController();
  t.teardown(() => leaving.abort());
  const { body } = await fetch(url, { signal: leaving.signal });
  let heard = '';
  let isHeard: () => void = () => undefined;
  const reading = (async () => {
    for await (const chunk of body ?? []) {
      heard = `${heard}${Buffer.from(chunk).toString()}`.slice(-30);
      isHeard();
    }
  })().catch(() => undefined);
  const big = 'x'.repeat(100_000);
  for (let seq = 0; seq < 300; seq += 1) {
    t.is(sink.write([big, seq], records(2, 2 * seq)), undefined, 'it never asks its writer to wait');
    // The one that reads has it before the next is written, so the other one alone is slow.
    while (!heard.endsWith(`data: ${seq}\n\n`)) {
      await new Promise<void>((resolve) => {
        isHeard = resolve;
      });
    }
  }
  stuck.resume();
  await closed;
  await sink.close();
  await reading;
});

async function firstByte(socket: Socket): Promise<void> {
  await new Promise((resolve) => socket.once('data', resolve));
}

test('at most maxClients are served, and the gate is that of every listener', async (t) => {
  const { url } = await serve(t, { maxClients: 1, token: 'correct-horse-battery' });
  const headers = { authorization: 'Bearer correct-horse-battery' };
  t.is((await ask(url, { method: 'GET' })).status, 401);
  t.is((await ask(url, { method: 'GET', headers: { host: 'evil.example' } })).status, 403);
  t.is((await ask(url, { method: 'POST', headers })).status, 405);
  await (await listen(t, url, headers))(/retry/);
  t.like(await ask(url, { method: 'GET', headers }), { status: 503, headers: { 'retry-after': '1' } });
});

test('a heartbeat shows that the connection lives', async (t) => {
  const { url } = await serve(t, { heartbeatMs: 10 });
  t.regex(await (await listen(t, url))(/:\n\n:\n\n/), /^retry: 10\n\n(:\n\n)+$/);
});

test('a value that is no JSON, or a key that is no id, fails the write and names the record', async (t) => {
  const { sink } = await serve(t);
  await t.throwsAsync(async () => sink.write([1n], records(1, 4)), { message: /record 4 cannot be written as JSON/ });
  const { sink: other } = await serve(t, { key: () => 'two\nlines' });
  await t.throwsAsync(async () => other.write([1], records(1, 4)), { message: /record 4: a line break in its key/ });
});

test('what toSse serves fromSse reads, over a break, each record once', async (t) => {
  const { sink, url } = await serve(t);
  const reader = await fromSse(url, { retry: { attempts: 5, backoffMs: 1 } }).open();
  t.teardown(() => reader.close());
  const got: Stamped<unknown>[] = [];
  const read = async (count: number): Promise<void> => {
    while (got.length < count) got.push(...((await reader.read(10)) as Stamped<unknown>[]));
  };
  await sink.write([0, 1], records(2));
  await read(2);
  const position = reader.position?.();
  await reader.close();
  await sink.write([2, 3], records(2, 2));
  const again = await fromSse(url).open({ position: JSON.parse(JSON.stringify(position)) });
  const rest: unknown[] = [];
  while (rest.length < 2) rest.push(...((await again.read(10)) as Stamped<unknown>[]).map(({ value }) => value));
  await again.close();
  t.deepEqual([...got.map(({ value }) => value), ...rest], [0, 1, 2, 3]);
  t.like(got[0]?.metadata, { key: `sse:${url}:k:0`, event: 'message' });
});

test('a wrong option throws a TypeError that names it', (t) => {
  const wrong: readonly [object, RegExp][] = [
    [{}, /^port must be/],
    [{ port: 0, host: '0.0.0.0' }, /token must be given/],
    [{ port: 0, event: 'a b' }, /^event must be/],
    [{ port: 0, event: 'troupe-gap' }, /^event must be/],
    [{ port: 0, history: 0 }, /^history must be/],
    [{ port: 0, historyBytes: 0 }, /^historyBytes must be/],
    [{ port: 0, maxClients: 0 }, /^maxClients must be/],
    [{ port: 0, retryMs: -1 }, /^retryMs must be/],
    [{ port: 0, heartbeatMs: 0 }, /^heartbeatMs must be/],
    [{ port: 0, key: '' }, /^key must be/],
    [{ port: 0, bach: 1 }, /unknown option "bach"/],
  ];
  for (const [options, message] of wrong) t.throws(() => toSse(options as never), { instanceOf: TypeError, message });
});
