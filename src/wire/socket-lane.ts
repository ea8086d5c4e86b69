import type { Socket } from 'node:net';
import { FrameDecoder } from './frame.js';
import type { ToEntry, ToHost } from './messages.js';
import { decodeMessage, encodeMessage } from './process-codec.js';

/**
 * The data lane of a child process over a socket. What may stand in its write buffer is bounded by the credit window: the
 * host never has more batches on the way to one replica than the pool allows.
 */

/**
 * Writes one message. Undefined: the arrays of the message may be used again. Otherwise the socket still reads them until
 * the promise resolves, which it also does when the socket breaks. Throws, before anything is written, when a value cannot
 * be copied.
 */
export function writeMessage(socket: Socket, message: ToEntry | ToHost): Promise<void> | undefined {
  const pieces = encodeMessage(message);
  const only = pieces[0];
  if (pieces.length === 1 && only !== undefined) {
    socket.write(only); // A copy already.
    return undefined;
  }
  let flushed: () => void = () => undefined;
  const last = pieces.length - 1;
  socket.cork();
  pieces.forEach((piece, index) => {
    if (index === last) socket.write(piece, () => flushed());
    else socket.write(piece);
  });
  socket.uncork();
  if (socket.writableLength === 0) return undefined;
  return new Promise((resolve) => {
    flushed = resolve;
  });
}

/** Hears every message. `broken` is told once, after which nothing more is read: the two sides are out of step for good. */
export function readMessages(
  socket: Socket,
  heard: (message: ToEntry | ToHost) => void,
  broken: (error: unknown) => void,
): void {
  const decoder = new FrameDecoder();
  const onData = (chunk: Buffer): void => {
    const messages: (ToEntry | ToHost)[] = [];
    let trouble: unknown;
    try {
      decoder.push(chunk, (payload) => messages.push(decodeMessage(payload)));
    } catch (error) {
      trouble = error;
    }
    // Outside of the try: what the listener throws is not the peer's fault.
    for (const message of messages) heard(message);
    if (trouble === undefined) return;
    socket.off('data', onData);
    socket.resume();
    broken(trouble);
  };
  socket.on('data', onData);
}
