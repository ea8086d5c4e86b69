import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { deferred } from '../../src/kernel/deferred.js';
import { BodyMemory } from '../../src/stream/body-memory.js';
import { ByteBudget, type ReadOptions, readBody, Refusal } from '../../src/stream/http-body.js';
import { standStill } from './late-stand.js';

const COUNTED = ['data', 'end', 'close'] as const;
const POST = 'POST / HTTP/1.1\r\nHost: localhost\r\n';

/** A server that reads one body, and a connection to it. */
async function reader(t: ExecutionContext, options: ReadOptions = {}, onReading = (): void => undefined) {
  const budget = new ByteBudget(1_000_000);
  const read = deferred<Awaited<ReturnType<typeof readBody>>>();
  const server = createServer((request, response) => {
    void readBody(request, 1_000_000, budget, options).then((body) => {
      read.resolve(body);
      response.end();
    });
    onReading();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket: Socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => undefined);
  t.teardown(() => {
    socket.destroy();
    server.close();
  });
  return { socket, budget, read: read.promise };
}

test('a body of which nothing more comes costs its connection, and gives back what it held', async (t) => {
  const { socket, budget, read } = await reader(t, { stallMs: 50 });
  const closed = once(socket, 'close');
  socket.write(`${POST}Content-Length: 10\r\n\r\nabc`);
  await closed;
  t.is(await read, undefined);
  t.is(budget.held, 0);
});

test('a body whose rest came while the process stood still is read', async (t) => {
  const made = await reader(t, { stallMs: 50 }, () => {
    made.socket.write('defghij');
    standStill(200);
  });
  made.socket.write(`${POST}Content-Length: 10\r\n\r\nabc`);
  const body = await made.read;
  t.is(body instanceof Refusal ? body.message : body?.bytes.toString(), 'abcdefghij');
});

test('a body in more chunks than there may be is refused, and one with as many is read', async (t) => {
  const chunks = (count: number): string =>
    `${POST}Transfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(count)}0\r\n\r\n`;
  const most = await reader(t);
  most.socket.write(chunks(65_536));
  const body = await most.read;
  t.is(body instanceof Refusal ? body.message : body?.bytes.length, 65_536);
  const more = await reader(t);
  more.socket.write(chunks(65_537));
  const refusal = await more.read;
  t.like(refusal, { status: 400, message: 'the body has more than 65536 chunks' });
  t.is(more.budget.held, 0);
});

test('a large body is read into memory of one before it, whatever its pieces, and what a length only says gets none', async (t) => {
  const memory = new BodyMemory(4 * 2 ** 20);
  const post = async (bytes: Buffer): Promise<Awaited<ReturnType<typeof readBody>>> => {
    const { socket, read } = await reader(t, { memory, alignedAt: 5 });
    socket.write(`${POST}Content-Length: ${bytes.length}\r\n\r\n`);
    for (let at = 0; at < bytes.length; at += 100_000) {
      socket.write(bytes.subarray(at, at + 100_000));
      await new Promise((resolve) => setImmediate(resolve));
    }
    return read;
  };
  for (const size of [700_000, 690_001, 600_123]) {
    const sent = Buffer.from(Uint8Array.from({ length: size }, (_, index) => (index * 31 + size) & 0xff));
    const body = await post(sent);
    if (body === undefined || body instanceof Refusal) return t.fail();
    t.true(body.bytes.equals(sent), String(size));
    t.is((body.bytes.byteOffset + 5) % 8, 0, 'numbers lie evenly');
    t.is(memory.freeBytes, 0, 'the one buffer is in use');
    body.free?.();
    t.is(memory.freeBytes, 720_896);
    t.is(body.bytes.length, 0, 'nobody sees the bytes of the next');
  }
  const liar = await reader(t, { memory });
  liar.socket.write(`${POST}Content-Length: 700000\r\n\r\nabc`);
  while (liar.budget.held === 0) await new Promise((resolve) => setImmediate(resolve));
  t.is(memory.freeBytes, 720_896, 'while it is on its way, too');
  liar.socket.end();
  t.is(await liar.read, undefined);
  t.is(liar.budget.held, 0);
  t.is(memory.freeBytes, 720_896);
});

test('a request that waits for its answer keeps nothing of a body that was read or refused', async (t) => {
  const server = createServer((request) => {
    const before = COUNTED.map((event) => request.listenerCount(event));
    void readBody(request, 1000, new ByteBudget(1000)).then((body) => {
      heard.resolve([body instanceof Refusal, before, COUNTED.map((event) => request.listenerCount(event))]);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  let heard = deferred<[boolean, number[], number[]]>();
  for (const [isRefused, chunk] of [
    [false, '3\r\nabc\r\n0\r\n\r\n'],
    [true, `7d0\r\n${'x'.repeat(2000)}\r\n0\r\n\r\n`],
  ] as const) {
    heard = deferred();
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('error', () => undefined);
    t.teardown(() => socket.destroy());
    socket.write(`${POST}Transfer-Encoding: chunked\r\n\r\n${chunk}`);
    const [wasRefused, before, after] = await heard.promise;
    t.is(wasRefused, isRefused);
    t.deepEqual(after, before);
  }
});
