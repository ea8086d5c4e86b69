// Between a client and a server: passes on every byte as it is, and keeps what the client sent.
import { connect, createServer } from 'node:net';
import { once } from 'node:events';

/** `requests()` are those of all connections so far: { connection, method, path, headers, body }. */
export async function tap(port) {
  const connections = [];
  const sockets = new Set();
  const server = createServer((socket) => {
    const parts = [];
    connections.push(parts);
    const upstream = connect(port, '127.0.0.1');
    sockets.add(socket);
    socket.on('data', (part) => parts.push(part));
    socket.pipe(upstream);
    upstream.pipe(socket);
    socket.on('error', () => upstream.destroy());
    upstream.on('error', () => socket.destroy());
    socket.on('close', () => {
      sockets.delete(socket);
      upstream.destroy();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: server.address().port,
    requests: () => connections.flatMap((parts, connection) => requestsOf(Buffer.concat(parts), connection)),
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Of clients that say how long their bodies are. */
function requestsOf(bytes, connection) {
  const requests = [];
  for (let at = 0; ; ) {
    const end = bytes.indexOf('\r\n\r\n', at);
    if (end < 0) return requests;
    const [first, ...lines] = bytes.toString('latin1', at, end).split('\r\n');
    const [method, path] = first.split(' ');
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    at = end + 4 + Number(headers['content-length'] ?? 0);
    requests.push({ connection, method, path, headers, body: bytes.subarray(end + 4, at) });
  }
}
