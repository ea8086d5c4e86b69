import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { RecordFailure, type Stamped } from '../../../src/stream/envelope.js';
import type { SourceReader } from '../../../src/stream/source.js';
import { fromSse, type FromSseOptions, type SseMetadata } from '../../../src/stream/sources/sse.js';

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

/** A server that answers the n-th request as told, and the last way for ever. */
async function serve(
  t: ExecutionContext,
  ...answers: Answer[]
): Promise<{ url: string; asked: (string | undefined)[] }> {
  const asked: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    const id = request.headers['last-event-id'];
    asked.push(id === undefined ? undefined : Buffer.from(String(id), 'latin1').toString());
    answers[Math.min(asked.length, answers.length) - 1]?.(response, request);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/events?secret=1`, asked };
}

const events =
  (text: string, { end = false, type = 'text/event-stream' } = {}): Answer =>
  (response) => {
    response.writeHead(200, { 'content-type': type }).write(`retry: 10\n\n${text}`);
    if (end) response.end();
  };
const status =
  (code: number): Answer =>
  (response) =>
    void response.writeHead(code).end();

async function open(
  t: ExecutionContext,
  url: string,
  options: FromSseOptions = {},
  from?: unknown,
): Promise<SourceReader<unknown>> {
  const source = fromSse(url, { retry: { attempts: 3, backoffMs: 1, maxBackoffMs: 2 }, ...options });
  const reader = await source.open(from === undefined ? undefined : { position: from });
  t.teardown(() => reader.close());
  return reader;
}

async function read(reader: SourceReader<unknown>, count: number): Promise<Stamped<unknown>[]> {
  const items: Stamped<unknown>[] = [];
  while (items.length < count) {
    const some = await reader.read(count - items.length);
    if (some === undefined) break;
    items.push(...(some as Stamped<unknown>[]));
  }
  return items;
}

const valuesOf = (items: readonly Stamped<unknown>[]): unknown[] => items.map(({ value }) => value);

test('events are read with their types, ids and lines, whatever the line ends and the borders of blocks', async (t) => {
  const text =
    'id: ä\nevent: added\ndata: {"a":\ndata: 1}\n\n: a comment\r\ndata:2\r\n\r\nid\ndata: "three"\n\nunknown: x\ndata: 4\n\n';
  const { url } = await serve(t, (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const byte of Buffer.from(`\ufeff${text}`)) response.write(Buffer.of(byte));
  });
  const items = await read(await open(t, url), 4);
  t.deepEqual(valuesOf(items), [{ a: 1 }, 2, 'three', 4]);
  const name = url.split('?')[0];
  t.deepEqual(
    items.slice(0, 3).map(({ metadata }) => metadata as SseMetadata),
    [
      { key: `sse:${name}:ä`, event: 'added', lastEventId: 'ä' },
      { event: 'message', lastEventId: 'ä' },
      { event: 'message', lastEventId: undefined },
    ],
  );
});

test('after a connection ends it comes back with the last id, and leaves out what it had without ids', async (t) => {
  const { url, asked } = await serve(
    t,
    events('id: ä1\ndata: 1\n\ndata: 2\n\ndata: 3\n\n', { end: true }),
    events('data: 2\n\ndata: 3\n\ndata: 4\n\nid: 5\ndata: 5\n\n', { end: true }),
    events('data: 6\n\n'),
  );
  t.deepEqual(valuesOf(await read(await open(t, url), 6)), [1, 2, 3, 4, 5, 6]);
  t.deepEqual(asked, [undefined, 'ä1', '5']);
});

test('a position goes on after the records that were read, not after those that were parsed', async (t) => {
  const all = 'id: a\ndata: 1\n\ndata: 2\n\ndata: 3\n\n';
  const { url, asked } = await serve(t, events(all), events('data: 2\n\ndata: 3\n\ndata: 4\n\n'));
  const reader = await open(t, url);
  await read(reader, 2);
  const position = reader.position?.();
  t.deepEqual(position, { lastEventId: 'a', skip: 1 });
  t.deepEqual(valuesOf(await read(await open(t, url, {}, position), 2)), [3, 4]);
  t.deepEqual(asked, [undefined, 'a']);
  await t.throwsAsync(open(t, url, {}, { offset: 3 }), { message: /\{"offset":3\} is no position of it/ });
});

test('events without ids give no position, and replayable: false gives none at all', async (t) => {
  const { url } = await serve(t, events('data: 1\n\n'));
  const reader = await open(t, url);
  t.deepEqual(reader.position?.(), { lastEventId: undefined, skip: 0 });
  await read(reader, 1);
  t.throws(() => reader.position?.(), { message: /its events have no ids.*replayable: false/ });
  t.is((await open(t, url, { replayable: false })).position, undefined);
});

test('text, types and the first id can be chosen', async (t) => {
  const { url, asked } = await serve(
    t,
    events('event: a\ndata: no json\n\ndata: skipped\n\nevent: b\ndata: x\ndata: y\n\n'),
  );
  const reader = await open(t, url, { format: 'text', events: ['a', 'b'], lastEventId: '41' });
  t.deepEqual(valuesOf(await read(reader, 2)), ['no json', 'x\ny']);
  t.deepEqual(asked, ['41']);
});

test('an event that is no JSON fails alone and names its id', async (t) => {
  const { url } = await serve(t, events('id: 7\ndata: {oops\n\ndata: 1\n\n'));
  const [bad, good] = await read(await open(t, url), 2);
  const failure = bad?.value;
  t.true(failure instanceof RecordFailure && failure.error.code === 'PARSE_FAILED' && failure.input === '{oops');
  t.regex((failure as RecordFailure).error.message, /events: the event 7 is not JSON/);
  t.is(good?.value, 1);
  const deep = await serve(t, events(`data: ${'['.repeat(5000)}${']'.repeat(5000)}\n\ndata: 1\n\n`));
  const [nested, next] = valuesOf(await read(await open(t, deep.url), 2));
  t.regex(
    (nested as RecordFailure).error.message,
    /events: an event without an id before it is not JSON: it is nested deeper/,
  );
  t.is(next, 1);
});

test('204, and the end of a connection with reconnect: false, end the source', async (t) => {
  const { url, asked } = await serve(t, events('data: 1\n\n', { end: true }), status(204));
  t.deepEqual(valuesOf(await read(await open(t, url), 9)), [1]);
  t.is(asked.length, 2);
  const once = await serve(t, events('data: 1\n\n', { end: true }));
  t.deepEqual(valuesOf(await read(await open(t, once.url, { reconnect: false }), 9)), [1]);
  t.is(once.asked.length, 1);
});

test('a server that is busy is asked again; one that says no ends the source, in words and without the query', async (t) => {
  const busy = await serve(t, status(503), status(429), events('data: 1\n\n'));
  t.deepEqual(valuesOf(await read(await open(t, busy.url), 1)), [1]);
  const rounds: readonly [Answer, RegExp][] = [
    [status(404), /status 404/],
    [status(401), /status 401/],
    [(response) => void response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(), /status 302/],
    [status(503), /status 503/],
    [events('data: 1\n\n', { type: 'text/html' }), /its content type is text\/html/],
  ];
  for (const [answer, words] of rounds) {
    const { url } = await serve(t, answer);
    const error = await t.throwsAsync(open(t, url));
    t.like(error, { code: 'SOURCE_FAILED' });
    t.regex(error?.message ?? '', /^Cannot read http:\/\/127\.0\.0\.1:\d+\/events: /);
    t.regex(error?.message ?? '', words);
    t.notRegex(error?.message ?? '', /secret/);
  }
});

test('tries that fail are counted in a row: a connection that is made ends the row, also where nothing comes', async (t) => {
  const silent = events('', { end: true });
  const { url, asked } = await serve(
    t,
    silent,
    status(503),
    silent,
    status(503),
    silent,
    status(503),
    events('data: 1\n\n'),
  );
  t.deepEqual(valuesOf(await read(await open(t, url), 1)), [1]);
  t.is(asked.length, 7);
});

test('an id that no header can hold ends the source when it would have to be sent back, without further tries', async (t) => {
  const { url, asked } = await serve(t, events('id: a\u0001b\ndata: 1\n\n', { end: true }));
  const reader = await open(t, url);
  t.deepEqual(valuesOf(await read(reader, 1)), [1]);
  await t.throwsAsync(async () => reader.read(1), { code: 'SOURCE_FAILED', message: /invalid last-event-id header/ });
  t.is(asked.length, 1);
});

test('an event longer than maxEventBytes ends the source after those before it', async (t) => {
  const { url } = await serve(t, events(`data: 1\n\ndata: "${'x'.repeat(5000)}`));
  const reader = await open(t, url, { maxEventBytes: 1000 });
  t.deepEqual(valuesOf(await read(reader, 1)), [1]);
  const error = await t.throwsAsync(async () => reader.read(1));
  t.like(error, { code: 'SOURCE_FAILED' });
  t.regex(error?.message ?? '', /longer than maxEventBytes \(1000\)/);
});

test('a gap that the server reports ends a replayable source before anything after it is read', async (t) => {
  const text = 'id: 1\ndata: 1\n\nevent: troupe-gap\ndata: {}\n\nid: 9\ndata: 9\n\n';
  const { url } = await serve(t, events(text));
  const reader = await open(t, url);
  t.deepEqual(valuesOf(await read(reader, 1)), [1]);
  await t.throwsAsync(async () => reader.read(1), { message: /the events after 1 are gone from the server/ });
  t.deepEqual(reader.position?.(), { lastEventId: '1', skip: 0 });
  t.deepEqual(valuesOf(await read(await open(t, url, { replayable: false }), 2)), [1, 9]);
});

test('a connection that is silent for idleTimeoutMs is made anew', async (t) => {
  const { url, asked } = await serve(t, events('id: 1\ndata: 1\n\n'), events('data: 2\n\n'));
  t.deepEqual(valuesOf(await read(await open(t, url, { idleTimeoutMs: 50 }), 2)), [1, 2]);
  t.deepEqual(asked, [undefined, '1']);
});

test('a slow reader holds the server back', async (t) => {
  let sent = 0;
  let isHeld: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    isHeld = resolve;
  });
  const { url } = await serve(t, (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const text = `data: "${'x'.repeat(10_000)}"\n\n`;
    const more = (): void => {
      for (; sent < 20_000; sent += 1) {
        if (!response.write(text)) {
          response.once('drain', more);
          // The other side has had every chance to take it when nothing moves for this long.
          const at = sent;
          setTimeout(() => sent === at && isHeld(), 300);
          return;
        }
      }
      isHeld();
    };
    more();
  });
  const reader = await open(t, url);
  await read(reader, 1);
  await held;
  t.true(sent < 5000, `${sent} of 20,000 events of 10 kB were sent`);
});

test('a wrong option throws a TypeError that names it', (t) => {
  const wrong: readonly [object, RegExp][] = [
    [{ lastEventId: '' }, /^lastEventId must be/],
    [{ format: 'xml' }, /^format must be/],
    [{ events: 'a' }, /^events must be/],
    [{ replayable: 1 }, /^replayable must be/],
    [{ reconnect: 'no' }, /^reconnect must be/],
    [{ retry: { attempts: 0 } }, /^retry\.attempts must be/],
    [{ timeoutMs: 0 }, /^timeoutMs must be/],
    [{ idleTimeoutMs: -1 }, /^idleTimeoutMs must be/],
    [{ maxEventBytes: 0 }, /^maxEventBytes must be/],
    [{ header: {} }, /unknown option "header"/],
  ];
  for (const [options, message] of wrong)
    t.throws(() => fromSse('http://a', options as never), { instanceOf: TypeError, message });
  t.throws(() => fromSse('file:///a'), { instanceOf: TypeError, message: /^url must be/ });
});
