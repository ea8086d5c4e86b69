import { createServer, type Http2Session, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';
import { codecOf, type Message } from './grpc-stand.js';

/** A server of HTTP/2 that answers calls exactly as a test tells it to, with none of our code. */

export interface RawGrpcCall {
  /** `ModelInfer`. */
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  /** The message, with its prefix. */
  readonly body: Buffer;
  readonly stream: ServerHttp2Stream;
  readonly session: Http2Session;
}

export interface RawGrpc {
  readonly port: number;
  readonly url: string;
  readonly calls: readonly RawGrpcCall[];
  readonly sessions: ReadonlySet<Http2Session>;
  readonly sessionCount: () => number;
}

/** `answer` is called when all of a call has come. */
export async function rawGrpc(t: ExecutionContext, answer: (call: RawGrpcCall) => void): Promise<RawGrpc> {
  const calls: RawGrpcCall[] = [];
  const sessions = new Set<Http2Session>();
  let sessionCount = 0;
  const server = createServer();
  server.on('session', (session) => {
    sessionCount++;
    sessions.add(session);
    session.on('error', () => undefined);
    session.on('close', () => sessions.delete(session));
  });
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    const parts: Buffer[] = [];
    stream.on('error', () => undefined);
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.on('end', () => {
      const method = String(headers[':path']).split('/').at(-1) ?? '';
      const session = stream.session as Http2Session;
      const call = { method, headers, body: Buffer.concat(parts), stream, session };
      calls.push(call);
      answer(call);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { port, url: `grpc://127.0.0.1:${port}`, calls, sessions, sessionCount: () => sessionCount };
}

export const HEAD = { ':status': 200, 'content-type': 'application/grpc' };

/** A message with its prefix; `says` a length that it has not. */
export function framed(message: Uint8Array, { isPacked = false, says = message.length } = {}): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = isPacked ? 1 : 0;
  prefix.writeUInt32BE(says, 1);
  return Buffer.concat([prefix, message]);
}

/** All is well: bytes as they are, then the trailers. */
export function say(
  { stream }: RawGrpcCall,
  bytes: Uint8Array,
  trailers: Record<string, string> = { 'grpc-status': '0' },
  head: Record<string, string> = {},
): void {
  stream.respond({ ...HEAD, ...head }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  stream.end(bytes);
}

/** A status and nothing else. */
export function refuse({ stream }: RawGrpcCall, trailers: Record<string, string>): void {
  stream.respond({ ...HEAD, ...trailers }, { endStream: true });
}

const MODEL = {
  inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
  outputs: [{ name: 'y', datatype: 'INT64', shape: [-1] }],
};

/** What a server of one model tells of it; `more` may be another config, metadata or list of extensions. */
export function tellModel(call: RawGrpcCall, more: Readonly<Record<string, Message>> = {}): void {
  const said: Readonly<Record<string, Message>> = {
    ServerReady: { ready: true },
    ModelReady: { ready: true },
    ServerMetadata: { name: 'raw', extensions: ['model_configuration'] },
    ModelMetadata: { name: 'm', ...MODEL },
    ModelConfig: { config: { name: 'm' } },
    ...more,
  };
  const message = said[call.method];
  if (message === undefined) refuse(call, { 'grpc-status': '12' });
  else say(call, framed(writeAnswer(call.method, message)));
}

/** As others write it. */
export function writeAnswer(method: string, message: object): Uint8Array {
  return codecOf(method).answer(message);
}

export function readAsked({ method, body }: RawGrpcCall): Message {
  return codecOf(method).asked(body.subarray(5));
}
