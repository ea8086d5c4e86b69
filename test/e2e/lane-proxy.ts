import { createConnection, createServer, type Socket } from 'node:net';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { folder } from '../serve/lane-stand.js';

/** Both ends of one connection through the proxy. */
export interface ProxiedPair {
  /** 0 for the first connection. */
  readonly index: number;
  readonly client: Socket;
  readonly server: Socket;
  cut(): void;
}

export interface LaneProxy {
  readonly address: string;
  readonly connectionCount: number;
}

/** Decides what becomes of each chunk; what it gives is passed on, all of it, some of it, or nothing. */
export type Passing = (chunk: Buffer, pair: ProxiedPair) => Buffer | undefined;

/**
 * Stands between clients and the socket of a lane, or a port of this machine, and does to their bytes what it is told. Its
 * address is `unix://path`, or `127.0.0.1:port`.
 */
export async function laneProxy(
  t: ExecutionContext,
  target: string | number,
  up: Passing = (chunk) => chunk,
  down: Passing = (chunk) => chunk,
): Promise<LaneProxy> {
  const socketPath = path.join(folder(t), 'p');
  let connectionCount = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = typeof target === 'string' ? createConnection(target) : createConnection(target, '127.0.0.1');
    const cut = (): void => {
      client.destroy();
      upstream.destroy();
    };
    const pair: ProxiedPair = { index: connectionCount++, client, server: upstream, cut };
    for (const [from, to, passing] of [
      [client, upstream, up],
      [upstream, client, down],
    ] as const) {
      sockets.add(from);
      from.on('data', (chunk: Buffer) => {
        const passed = passing(chunk, pair);
        if (passed !== undefined && passed.length > 0 && !to.destroyed) to.write(passed);
      });
      from.on('error', () => undefined);
      from.on('close', () => {
        sockets.delete(from);
        to.end();
      });
    }
  });
  await new Promise<void>((resolve) => {
    if (typeof target === 'string') server.listen(socketPath, resolve);
    else server.listen(0, '127.0.0.1', resolve);
  });
  const bound = server.address();
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    address: typeof bound === 'string' ? `unix://${bound}` : `127.0.0.1:${bound?.port}`,
    get connectionCount() {
      return connectionCount;
    },
  };
}
