import test from 'ava';
import { FetchRefused, guardedFetch } from '../../src/serve/guarded-fetch.js';
import { begun, rawServer, reply } from './raw-server.js';

test('it sends what it is given, and gives the answer as it comes', async (t) => {
  const server = await rawServer(t, ({ socket, body }) => {
    socket.write(begun('transfer-encoding: chunked', 'x-a: 1', 'x-a: 2'));
    socket.write(`${body.length.toString(16)}\r\n${body.toString()}\r\n`);
    return undefined;
  });
  const { fetch, close } = guardedFetch('url', `${server.url}/v1`);
  t.teardown(close);
  const answer = await fetch(`${server.url}/v1/x?y=1`, { method: 'POST', headers: { 'X-B': 'b' }, body: 'hello' });
  t.is(answer.status, 200);
  t.is(answer.headers.get('x-a'), '1, 2');
  const reader = answer.body?.getReader();
  t.is(Buffer.from((await reader?.read())?.value ?? []).toString(), 'hello', 'before the end is there');
  await reader?.cancel();
  const head = server.requests[0]?.head ?? '';
  t.regex(head, /^POST \/v1\/x\?y=1 HTTP\/1\.1/);
  t.regex(head, /x-b: b/i);
  t.regex(head, /accept-encoding: identity/i);
});

test('another server than its own is refused, and an address that may not be connected to', async (t) => {
  const server = await rawServer(t, () => reply(200));
  const { fetch } = guardedFetch('url', server.url);
  await t.throwsAsync(fetch('http://127.0.0.1:1/'), { instanceOf: FetchRefused, message: /not the server of url/ });
  const metadata = guardedFetch('url', 'http://169.254.169.254');
  await t.throwsAsync(metadata.fetch('http://169.254.169.254/latest'), {
    instanceOf: FetchRefused,
    message: /link-local/,
  });
  t.is(server.requests.length, 0);
  t.throws(() => guardedFetch('url', 'http://0x7f.1'), { instanceOf: TypeError, message: /url must be/ });
});

test('an abort ends a request that waits, and an answer that comes', async (t) => {
  const server = await rawServer(t, ({ number }) => (number === 1 ? undefined : begun('content-length: 10')));
  const { fetch } = guardedFetch('url', server.url);
  const first = new AbortController();
  const waiting = fetch(server.url, { signal: first.signal });
  while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
  first.abort();
  await t.throwsAsync(waiting, { name: 'AbortError' });
  const second = new AbortController();
  const answer = await fetch(server.url, { signal: second.signal });
  second.abort();
  await t.throwsAsync(answer.text());
});

test('more bytes than are wanted end the answer', async (t) => {
  const server = await rawServer(t, () => reply(200, 'x'.repeat(2000)));
  const { fetch } = guardedFetch('url', server.url, { maxReplyBytes: 1999 });
  await t.throwsAsync((await fetch(server.url)).text(), { instanceOf: FetchRefused, message: /1999 bytes/ });
  t.is((await (await guardedFetch('url', server.url, { maxReplyBytes: 2000 }).fetch(server.url)).text()).length, 2000);
});

test('a status that is none is told as an answer that is none, and its connection ended', async (t) => {
  let closed = 0;
  const server = await rawServer(t, ({ socket }) => {
    socket.on('close', () => closed++);
    return 'HTTP/1.1 999 Said\r\ncontent-length: 10\r\n\r\n';
  });
  const { fetch, close } = guardedFetch('url', server.url);
  t.teardown(close);
  const error = await t.throwsAsync<FetchRefused>(fetch(server.url), {
    instanceOf: FetchRefused,
    message: /status 999/,
  });
  t.is(error?.kind, 'invalid');
  while (closed === 0) await new Promise((resolve) => setImmediate(resolve));
  t.is(closed, 1);
});

test('a change of protocol is told as an answer that is none, and odd words behind a status do no harm', async (t) => {
  const server = await rawServer(t, ({ number }) =>
    number === 1
      ? 'HTTP/1.1 101 Said\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n'
      : 'HTTP/1.1 200 a\x01b\r\ncontent-length: 4\r\n\r\nfine',
  );
  const { fetch, close } = guardedFetch('url', server.url);
  t.teardown(close);
  const error = await t.throwsAsync<FetchRefused>(fetch(server.url), { instanceOf: FetchRefused, message: /protocol/ });
  t.is(error?.kind, 'invalid');
  const answer = await fetch(server.url);
  t.is(answer.statusText, 'ab');
  t.is(await answer.text(), 'fine');
});
