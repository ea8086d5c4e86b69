import { connect as connectHttp2 } from 'node:http2';
import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import { connect } from 'troupe';
import { BATCH_SIZE } from './ours.js';
import { GRPC_PATH, GRPC_STREAM_PATH, grpcHead } from './grpc-tensor.js';
import type { Lane, OpenLane } from './lane.js';

/** The pool `tensors` of another process, by the framed lane and by gRPC. */
export interface RemoteAddress {
  readonly lane: string;
  readonly grpcPort: number;
  /** Values of a record. */
  readonly values: number;
}

/** Callers are spread over them; the server takes 128 calls of a connection, and 64 messages of a stream at once. */
const CONNECTIONS = 4;
const POOL = 'tensors';

type AskOne = OpenLane['ask'];

export function ourRemoteLane({ lane }: RemoteAddress): Lane {
  return {
    id: 'troupe-remote',
    kind: 'remote',
    setup: `connect('unix:…'), one connection, batching.maxSize ${BATCH_SIZE}`,
    async open() {
      const connection = connect(`unix:${lane}`);
      const pool = connection.pool<{ x: Float32Array }, { y: Float32Array }>(POOL);
      return { ask: async (x) => (await pool.ask({ x })).y, close: () => connection.close() };
    },
  };
}

/**
 * Requests are put together from a head that is made once and the bytes of the record, answers are read by where the tensor
 * stands: no client does with less.
 */
export function grpcLanes(address: RemoteAddress): readonly Lane[] {
  const head = grpcHead(POOL, address.values);
  const bytes = 4 * address.values;
  const requestOf = (record: Float32Array): Buffer =>
    Buffer.concat([head, new Uint8Array(record.buffer, record.byteOffset, bytes)]);
  /** The tensor is the last thing in an answer. */
  const recordOf = (answer: Buffer): Float32Array => {
    const at = answer.byteOffset + answer.length - bytes;
    return new Float32Array(answer.buffer.slice(at, at + bytes));
  };
  const lane = (id: string, setup: string, open: () => { ask: AskOne; close: () => void }): Lane => ({
    id,
    kind: 'remote',
    setup,
    async open() {
      const all = Array.from({ length: CONNECTIONS }, open);
      let turn = 0;
      return {
        ask: (record) => (all[turn++ % CONNECTIONS] as { ask: AskOne }).ask(record),
        close: async () => all.forEach(({ close }) => close()),
      };
    },
  });
  const client = (): Client =>
    new Client(`127.0.0.1:${address.grpcPort}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  return [
    lane('grpc-js', `ModelInfer, @grpc/grpc-js, ${CONNECTIONS} connections`, () => {
      const grpc = client();
      return { ask: (record) => unary(grpc, requestOf(record)).then(recordOf), close: () => grpc.close() };
    }),
    lane('grpc-stream', `ModelStreamInfer, @grpc/grpc-js, ${CONNECTIONS} streams`, () => {
      const grpc = client();
      const { ask, end } = overStream(grpc);
      return {
        ask: (record) => ask(requestOf(record)).then(recordOf),
        close: () => {
          end();
          grpc.close();
        },
      };
    }),
    lane('http2', `ModelInfer, bare node:http2, ${CONNECTIONS} connections`, () => {
      const session = connectHttp2(`http://127.0.0.1:${address.grpcPort}`);
      const ask = (message: Buffer): Promise<Buffer> =>
        new Promise((resolve, reject) => {
          const stream = session.request({
            ':method': 'POST',
            ':path': GRPC_PATH,
            'content-type': 'application/grpc',
            te: 'trailers',
          });
          const parts: Buffer[] = [];
          stream.on('data', (part: Buffer) => parts.push(part));
          stream.on('error', reject);
          stream.on('end', () => {
            const [first] = parts;
            if (first === undefined) reject(new Error('gRPC: an answer without a message'));
            else resolve(parts.length === 1 ? first : Buffer.concat(parts));
          });
          const prefix = Buffer.alloc(5);
          prefix.writeUInt32BE(message.length, 1);
          stream.end(Buffer.concat([prefix, message]));
        });
      return { ask: (record) => ask(requestOf(record)).then(recordOf), close: () => session.destroy() };
    }),
  ];
}

const same = (value: Buffer): Buffer => value;

function unary(client: Client, message: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(GRPC_PATH, same, same, message, (error, answer) =>
      error === null && answer !== undefined ? resolve(answer) : reject(error),
    );
  });
}

/** Answers come in the order of the messages. */
function overStream(client: Client): { ask: (message: Buffer) => Promise<Buffer>; end: () => void } {
  const waiting: { resolve: (answer: Buffer) => void; reject: (error: Error) => void }[] = [];
  const stream: ClientDuplexStream<Buffer, Buffer> = client.makeBidiStreamRequest(GRPC_STREAM_PATH, same, same);
  stream.on('data', (answer: Buffer) => waiting.shift()?.resolve(answer));
  stream.on('error', (error: Error) => waiting.splice(0).forEach(({ reject }) => reject(error)));
  return {
    ask: (message) =>
      new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        stream.write(message);
      }),
    end: () => stream.cancel(),
  };
}
