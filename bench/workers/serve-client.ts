import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { Client, credentials } from '@grpc/grpc-js';
import { performance } from 'node:perf_hooks';

/**
 * Clients in a process of their own: so many connections, each with one request at a time. The parent says what to ask, and is
 * told how many answers came in how long.
 */

export interface Order {
  readonly protocol: 'http' | 'grpc';
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | number>>;
  /** Base64. */
  readonly body: string;
  readonly connections: number;
  readonly ms: number;
  /** An answer has at least as many bytes. */
  readonly leastBytes: number;
}

export interface Outcome {
  readonly answers: number;
  readonly ms: number;
}

type Ask = () => Promise<number>;

/** Kept from order to order: a server is asked again over the connections it has. */
const asks = new Map<string, readonly Ask[]>();

process.on('message', (order: Order) => void carryOut(order).then((outcome) => process.send?.(outcome)));
process.on('disconnect', () => process.exit());

async function carryOut(order: Order): Promise<Outcome> {
  const { port, path, connections, ms, leastBytes } = order;
  const key = `${port} ${path} ${order.body.length}`;
  const all =
    asks.get(key) ??
    Array.from({ length: connections }, () => (order.protocol === 'http' ? overHttp : overGrpc)(order));
  asks.set(key, all);
  const from = performance.now();
  let answers = 0;
  await Promise.all(
    all.map(async (ask) => {
      while (performance.now() - from < ms) {
        const bytes = await ask();
        if (bytes < leastBytes) throw new Error(`an answer of ${bytes} bytes, expected ${leastBytes} at least`);
        answers++;
      }
    }),
  );
  return { answers, ms: performance.now() - from };
}

function overHttp({ port, path, headers, body }: Order): Ask {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const bytes = Buffer.from(body, 'base64');
  return async () => {
    const sent = request({
      agent,
      port,
      path,
      method: 'POST',
      headers: { ...headers, 'content-length': bytes.length },
    });
    sent.end(bytes);
    const [response] = (await once(sent, 'response')) as [import('node:http').IncomingMessage];
    if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
    let length = 0;
    response.on('data', (part: Buffer) => (length += part.length));
    await once(response, 'end');
    return length;
  };
}

function overGrpc({ port, path, body }: Order): Ask {
  const options = { 'grpc.use_local_subchannel_pool': 1, 'grpc.max_receive_message_length': -1 };
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), options);
  const bytes = Buffer.from(body, 'base64');
  const same = (value: Buffer): Buffer => value;
  return () =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, same, same, bytes, (error, answer) =>
        error === null ? resolve(answer?.length ?? 0) : reject(error),
      );
    });
}
