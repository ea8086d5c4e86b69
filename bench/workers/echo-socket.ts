import { Socket } from 'node:net';

/** A bare Unix socket: messages of a known length, each assembled in memory of its own and written back from there. */
const bytes = Number(process.argv[2]);
const socket = new Socket({ fd: 4, readable: true, writable: true });
let value = Buffer.allocUnsafeSlow(bytes);
let fill = 0;
socket.on('data', (chunk: Buffer) => {
  for (let at = 0; at < chunk.length; ) {
    const length = Math.min(bytes - fill, chunk.length - at);
    value.set(chunk.subarray(at, at + length), fill);
    fill += length;
    at += length;
    if (fill < bytes) continue;
    socket.write(value);
    value = Buffer.allocUnsafeSlow(bytes);
    fill = 0;
  }
});
process.on('disconnect', () => process.exit());
