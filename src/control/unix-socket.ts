import { createServer, type Server, Socket } from 'node:net';
import { systemClock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import {
  type FileIdentity,
  makePrivate,
  nameBeside,
  privateSocketPath,
  removeIf,
  socketAt,
  tryName,
} from './private-path.js';

/**
 * The door of this room to sockets: binds one that only its owner can reach, and dials one.
 *
 * The socket is made under another name in the private directory and gets its own when it is closed to others. So nobody
 * ever meets a half-made one, two systems that start at once cannot both have it, and Node, which removes the name that it
 * bound, never removes that of a successor.
 */

export type { Socket };

/** Who listens answers within this time, or is taken for one who does. */
const PROBE_MS = 2000;
/** Stale sockets that turn up again and again are somebody at work. */
const CLAIMS_MAX = 5;

export interface BoundSocket {
  /** Absolute, links resolved. */
  readonly path: string;
  /** No new connection; removes the socket, if it is still this one. Those who are connected are the caller's business. */
  close(): void;
}

/** Listens at a private path; keeps no process alive. Rejects with CONTROL_PATH_REFUSED or CONTROL_IN_USE. */
export async function bindPrivate(wanted: string, connected: (socket: Socket) => void): Promise<BoundSocket> {
  const server = createServer({ pauseOnConnect: false }, connected);
  const bound = await bindServer(wanted, server);
  server.unref();
  return bound;
}

/** Has a server listen at a private path. Rejects as `bindPrivate` does. */
export async function bindServer(wanted: string, server: Server): Promise<BoundSocket> {
  const path = privateSocketPath(wanted, true);
  const made = nameBeside(path);
  await listen(server, made);
  try {
    makePrivate(made);
    await claim(made, path);
  } catch (error) {
    server.close();
    throw error;
  }
  // accept() may fail for want of file handles: that refuses a client, it does not end the process.
  server.on('error', () => undefined);
  const identity = socketAt(path);
  return {
    path,
    close: () => {
      server.close();
      if (identity !== undefined) removeIf(path, identity);
    },
  };
}

async function claim(made: string, path: string): Promise<void> {
  for (let attempt = 0; attempt < CLAIMS_MAX; attempt += 1) {
    if (tryName(made, path)) return;
    const there: FileIdentity | undefined = socketAt(path);
    if (there === undefined) continue;
    if (await answers(path)) {
      throw new TroupeError('CONTROL_IN_USE', `Socket: another system listens at ${JSON.stringify(path)}`);
    }
    removeIf(path, there); // Its owner died.
  }
  throw new TroupeError('CONTROL_IN_USE', `Socket: others keep taking ${JSON.stringify(path)}`);
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause: Error): void => {
      const message = `Socket: ${JSON.stringify(path)} cannot be made: ${cause.message}`;
      reject(new TroupeError('CONTROL_PATH_REFUSED', message, { cause }));
    };
    server.once('error', failed);
    server.listen({ path }, () => {
      server.off('error', failed);
      resolve();
    });
  });
}

/** Is there a process behind the socket? One that is too busy to say counts. */
async function answers(path: string): Promise<boolean> {
  try {
    (await dial(path, PROBE_MS)).destroy();
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code !== 'ECONNREFUSED' && code !== 'ENOENT';
  }
}

/** Connects, or rejects with the error of the system; ETIMEDOUT after `timeoutMs`. */
export function dial(path: string, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = new Socket();
    const timer = systemClock.at(systemClock.now() + timeoutMs, () => {
      socket.destroy(Object.assign(new Error(`no connection within ${timeoutMs} ms`), { code: 'ETIMEDOUT' }));
    });
    const failed = (error: Error): void => {
      timer.cancel();
      reject(error);
    };
    socket.once('error', failed);
    socket.connect({ path }, () => {
      timer.cancel();
      socket.off('error', failed);
      resolve(socket);
    });
  });
}
