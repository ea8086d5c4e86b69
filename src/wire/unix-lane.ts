/**
 * The door of the framed lane to Unix sockets: checks a path, dials it, and makes a server that another room binds.
 *
 * U1 a path that is too long is refused before anything is dialled: Node cuts it off without a word.
 * U2 nothing is said to a socket that another user could have put there: the socket and its directory belong to us or to
 *    root, and nobody else can put something in its place.
 */
import { lstatSync, statSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import path from 'node:path';
import { systemClock } from '../kernel/clock.js';
import { FRAME_HEADER_BYTES } from './frame.js';
import type { AllocateFrame } from './process-codec.js';

export type { Server, Socket };

/** sun_path holds 108 bytes on Linux and 104 on macOS, the last for the end. */
const PATH_BYTES_MAX = process.platform === 'darwin' ? 103 : 107;

/** U1. What is wrong with the path of a socket; undefined where nothing is. */
export function objectionToPath(socket: string): string | undefined {
  if (!path.isAbsolute(socket)) return 'an absolute path, as in unix:///run/troupe.sock';
  if (socket.includes('\0')) return 'a path without NUL';
  const bytes = Buffer.byteLength(socket);
  return bytes <= PATH_BYTES_MAX ? undefined : `a path of at most ${PATH_BYTES_MAX} bytes (it has ${bytes})`;
}

/** Connects, or rejects with the error of the system: ETIMEDOUT after `timeoutMs`, EACCES where U2 does not hold. */
export function dialLane(socketPath: string, timeoutMs: number, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    checkOwner(socketPath);
    const socket = new Socket();
    const timer = systemClock.at(systemClock.now() + timeoutMs, () =>
      socket.destroy(failure('ETIMEDOUT', `no connection within ${timeoutMs} ms`)),
    );
    const aborted = (): void => void socket.destroy(failure('ECANCELED', 'the connection was closed'));
    const over = (): void => {
      timer.cancel();
      signal.removeEventListener('abort', aborted);
    };
    signal.addEventListener('abort', aborted, { once: true });
    const failed = (error: Error): void => {
      over();
      reject(error);
    };
    socket.once('error', failed);
    socket.connect({ path: socketPath }, () => {
      over();
      socket.off('error', failed);
      resolve(socket);
    });
    if (signal.aborted) aborted();
  });
}

/** A server for lanes, to be bound to its path elsewhere. */
export function laneServer(connected: (socket: Socket) => void): Server {
  return createServer(connected);
}

/** Writes what belongs together in one go. */
export function writePieces(socket: Socket, pieces: readonly Buffer[]): void {
  if (pieces.length > 1) socket.cork();
  for (const piece of pieces) socket.write(piece);
  if (pieces.length > 1) socket.uncork();
}

/** What the other side counts as the bytes of a message: its frames without their headers. A far array is two pieces. */
export function payloadBytes(pieces: readonly Buffer[]): number {
  let bytes = -FRAME_HEADER_BYTES * ((pieces.length + 1) >> 1);
  for (const piece of pieces) bytes += piece.byteLength;
  return bytes;
}

/** Memory of its own for each frame, which may be kept. */
export const ownMemory: AllocateFrame = (bytes) => Buffer.allocUnsafeSlow(bytes);

/** U2. Throws ENOENT where there is no socket. */
function checkOwner(socketPath: string): void {
  const uid = process.geteuid?.();
  if (uid === undefined) throw failure('ENOTSUP', 'this system has no Unix sockets');
  const stats = lstatSync(socketPath);
  if (!stats.isSocket()) throw failure('ENOTSOCK', 'it is no socket');
  const directory = statSync(path.dirname(socketPath));
  const isSticky = (directory.mode & 0o1000) !== 0;
  if ((directory.mode & 0o022) !== 0 && !isSticky) throw failure('EACCES', 'others may write to its directory');
  for (const owner of [stats.uid, directory.uid])
    if (owner !== uid && owner !== 0) throw failure('EACCES', `it belongs to user ${owner}`);
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
