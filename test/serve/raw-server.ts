import { createServer, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';

/** A server that says exactly what a test tells it to, request by request, with no HTTP of its own. */

export interface RawRequest {
  /** From 1, of all connections. */
  readonly number: number;
  readonly head: string;
  readonly body: Buffer;
  readonly socket: Socket;
}

export interface RawServer {
  readonly port: number;
  readonly url: string;
  readonly requests: readonly RawRequest[];
  readonly connections: () => number;
}

/** `answer` is called when a request is there with as much of a body as its content-length says. */
export async function rawServer(
  t: ExecutionContext,
  answer: (request: RawRequest) => string | Buffer | undefined,
): Promise<RawServer> {
  const requests: RawRequest[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    let held = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      held = Buffer.concat([held, chunk]);
      for (;;) {
        const end = held.indexOf('\r\n\r\n');
        if (end === -1) return;
        const head = held.subarray(0, end).toString('latin1');
        const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
        if (held.length < end + 4 + length) return;
        const body = held.subarray(end + 4, end + 4 + length);
        held = held.subarray(end + 4 + length);
        const request = { number: requests.length + 1, head, body, socket };
        requests.push(request);
        const said = answer(request);
        if (said !== undefined) socket.write(said);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return { port, url: `http://127.0.0.1:${port}`, requests, connections: () => connections };
}

/** A whole answer. */
export function reply(status: number, body: string | Buffer = '', headers: readonly string[] = []): Buffer {
  const bytes = Buffer.from(body);
  const head = [`HTTP/1.1 ${status} Said`, `content-length: ${bytes.length}`, ...headers].join('\r\n');
  return Buffer.concat([Buffer.from(`${head}\r\n\r\n`), bytes]);
}

/** A head, and whatever comes behind it. */
export function begun(...headers: readonly string[]): string {
  return `${['HTTP/1.1 200 OK', ...headers].join('\r\n')}\r\n\r\n`;
}
