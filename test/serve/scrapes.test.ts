import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { createSystem, serveMetrics, silentLog, type System } from 'troupe';
import { send } from './oip-stand.js';

const SCRAPES_MAX = 8;
/** More than the system takes for a client that reads nothing. */
const TEXT = `# ${'x'.repeat(2 ** 23)}\n`;

function systemOfLargeMetrics(t: ExecutionContext): { readonly system: System; readonly told: () => number } {
  t.timeout(120_000);
  let count = 0;
  const system = createSystem({ log: silentLog });
  system.metrics = () => {
    count++;
    return TEXT;
  };
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  return { system, told: () => count };
}

/** Scrapes that are never read, each on a connection of its own; resolves when the answer to each has begun. */
async function unread(t: ExecutionContext, port: number, count: number): Promise<readonly Socket[]> {
  const sockets: Socket[] = [];
  for (let n = 0; n < count; n++) {
    const socket = connect(port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    socket.on('error', () => undefined);
    socket.write(`GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n\r\n`);
    await once(socket, 'readable'); // Nothing is taken from it.
    sockets.push(socket);
  }
  return sockets;
}

for (const [name, listen] of [
  ['metrics', async (system: System) => (await serveMetrics(system, { port: 0 })).address],
  [
    'serve',
    async (system: System) => (await system.serve({ port: 0, capacityBytes: 1000, maxBodyBytes: 1000 })).addresses[0],
  ],
] as const)
  test(`${name}: of scrapes that nobody reads there are so many at most, apart from the bytes of requests`, async (t) => {
    const { system, told } = systemOfLargeMetrics(t);
    const { port = 0 } = (await listen(system)) ?? {};
    const sockets = await unread(t, port, SCRAPES_MAX);
    const scrape = { port, path: '/metrics' };
    const refused = await send(scrape);
    t.is(refused.status, 503);
    t.is(refused.headers['retry-after'], '1');
    t.regex(refused.text, /8 scrapes have not been read to their end yet/);
    t.is(told(), SCRAPES_MAX, 'no text is made for nobody');
    t.is(system.registry.refusals()[name]?.['busy'], 1);
    sockets[0]?.destroy();
    let { status, bytes } = refused;
    while (status === 503) ({ status, bytes } = await send(scrape));
    t.is(status, 200, 'who goes leaves room');
    t.is(bytes.length, TEXT.length);
  });
