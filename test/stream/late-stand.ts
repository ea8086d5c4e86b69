import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';

/** A process that stands still while bytes wait in its sockets, without a race: the stall begins where the test says. */

export interface Late {
  /** For the `bind` of a listener. */
  readonly bind: (server: Server) => Promise<{ readonly path: string; close(): void }>;
  /** What is written to it waits unread until `enter`. */
  readonly client: Socket;
  /** The listener gets the connection. */
  enter(): void;
  /** All that it has said, once that matches or the connection has ended. */
  readonly said: (expected: RegExp) => Promise<string>;
}

export async function late(t: ExecutionContext): Promise<Late> {
  let listener: Server | undefined;
  const gate = createServer({ pauseOnConnect: true, allowHalfOpen: true });
  const accepted = once(gate, 'connection') as Promise<[Socket]>;
  gate.listen(0, '127.0.0.1');
  await once(gate, 'listening');
  const client = connect((gate.address() as AddressInfo).port, '127.0.0.1');
  await once(client, 'connect');
  const [inner] = await accepted;
  t.teardown(() => {
    client.destroy();
    inner.destroy();
    gate.close();
  });
  let text = '';
  let hear = (): void => undefined;
  let isOver = false;
  client.setEncoding('latin1');
  client.on('data', (part: string) => {
    text += part;
    hear();
  });
  client.on('error', () => undefined);
  client.on('close', () => {
    isOver = true;
    hear();
  });
  return {
    client,
    bind: async (server) => {
      listener = server;
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      return { path: 'late', close: () => undefined };
    },
    enter: () => {
      listener?.emit('connection', inner);
      inner.resume();
    },
    said: async (expected) => {
      while (!expected.test(text) && !isOver) await new Promise<void>((resolve) => (hear = resolve));
      return text;
    },
  };
}

/** Nothing else happens in this thread meanwhile. */
export function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
