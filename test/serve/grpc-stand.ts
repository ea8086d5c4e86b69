import { fileURLToPath } from 'node:url';
import {
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  loadPackageDefinition,
  Metadata,
  Server,
  ServerCredentials,
  type ServiceClientConstructor,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { ExecutionContext } from 'ava';
import type { ServeOptions } from 'troupe';
import { type Stand, stand } from './oip-stand.js';

/** A client of others that speaks gRPC, and a server to call. */

export type Message = Readonly<Record<string, any>>; // any: tests look into what they expect

const definition = loadSync(
  ['inference.proto', 'health.proto'].map((name) =>
    fileURLToPath(new URL(`../../../test/serve/${name}`, import.meta.url)),
  ),
  { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
);
const all = loadPackageDefinition(definition) as unknown as Message;
const Inference = all['inference'].GRPCInferenceService as ServiceClientConstructor;
const Health = all['grpc'].health.v1.Health as ServiceClientConstructor;

/** How a message is written and read by others. */
export function codecOf(method: string): {
  readonly write: (message: object) => Buffer;
  readonly read: (bytes: Buffer) => Message;
  readonly asked: (bytes: Buffer) => Message;
  readonly answer: (message: object) => Buffer;
} {
  const service = definition['inference.GRPCInferenceService'] as unknown as Message;
  const { requestSerialize, requestDeserialize, responseSerialize, responseDeserialize } = service[method];
  return { write: requestSerialize, read: responseDeserialize, asked: requestDeserialize, answer: responseSerialize };
}

export interface Sent {
  readonly reply: Promise<Message>;
  readonly call: ClientUnaryCall;
}

export interface CallMore extends CallOptions {
  readonly headers?: Readonly<Record<string, string>>;
}

export interface GrpcStand extends Stand {
  /** As clients write an address. */
  readonly target: string;
  send(method: string, request?: object, more?: CallMore): Sent;
  /** The answer, or the error that the client has made of its status. */
  ask(method: string, request?: object, more?: CallMore): Promise<Message>;
  /** The error; fails where there is none. */
  refusal(method: string, request?: object, more?: CallMore): Promise<ServiceError>;
  stream(more?: CallMore): ClientDuplexStream<object, Message>;
  health(service?: string): Promise<Message>;
  watch(service?: string): ClientReadableStream<Message>;
}

export async function grpcStand(t: ExecutionContext, options: ServeOptions = {}): Promise<GrpcStand> {
  const http = await stand(t, { grpc: { port: 0 }, ...options });
  const address = http.serving.addresses.at(-1);
  const target = address?.port === 0 ? address.url : `127.0.0.1:${address?.port}`;
  return { ...http, target, ...clientOf(t, target) };
}

export function clientOf(
  t: ExecutionContext,
  target: string,
  how: ChannelCredentials = credentials.createInsecure(),
): Omit<GrpcStand, keyof Stand | 'target'> {
  const options = { 'grpc.max_receive_message_length': -1, 'grpc.enable_http_proxy': 0 };
  const inference = new Inference(target, how, options);
  const health = new Health(target, how, options);
  t.teardown(() => {
    inference.close();
    health.close();
  });
  const send = (client: Client, method: string, request: object, { headers = {}, ...more }: CallMore): Sent => {
    let call: ClientUnaryCall | undefined;
    const reply = new Promise<Message>((resolve, reject) => {
      const done = (error: ServiceError | null, got: Message): void => (error === null ? resolve(got) : reject(error));
      call = (client as unknown as Message)[method](request, metadataOf(headers), more, done);
    });
    return { reply, call: call as ClientUnaryCall };
  };
  const ask = (method: string, request: object = {}, more: CallMore = {}): Promise<Message> =>
    send(inference, method, request, more).reply;
  return {
    send: (method, request = {}, more = {}) => send(inference, method, request, more),
    ask,
    refusal: async (method, request, more) => {
      try {
        await ask(method, request, more);
      } catch (error) {
        return error as ServiceError;
      }
      throw new Error(`${method} was not refused`);
    },
    stream: ({ headers = {}, ...more } = {}) =>
      (inference as unknown as Message)['ModelStreamInfer'](metadataOf(headers), more),
    health: (service = '') => send(health, 'Check', { service }, {}).reply,
    watch: (service = '') => (health as unknown as Message)['Watch']({ service }),
  };
}

export interface JsCall {
  readonly request: Message;
  readonly metadata: Metadata;
}

/** A server of others, whose methods are these; what one throws is its status. Its address, as our clients write it. */
export async function jsServer(
  t: ExecutionContext,
  methods: Readonly<Record<string, (call: JsCall) => object>>,
): Promise<string> {
  const server = new Server();
  const handlers = Object.entries(methods).map(([name, answer]) => [
    name,
    (call: JsCall, done: (error: unknown, value?: object) => void): void => {
      try {
        done(null, answer(call));
      } catch (error) {
        done(error);
      }
    },
  ]);
  server.addService(Inference.service, Object.fromEntries(handlers) as never);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, at) =>
      error === null ? resolve(at) : reject(error),
    ),
  );
  t.teardown(() => server.forceShutdown());
  return `grpc://127.0.0.1:${port}`;
}

function metadataOf(headers: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return metadata;
}

export { status };

export function floats(...values: readonly number[]): Buffer {
  return Buffer.from(Float32Array.from(values).buffer);
}

/** A request for `doubler`, its values raw. */
export function rows(...pairs: readonly (readonly [number, number])[]): Message {
  return {
    model_name: 'double',
    inputs: [{ name: 'x', datatype: 'FP32', shape: [pairs.length, 2] }],
    raw_input_contents: [floats(...pairs.flat())],
  };
}

/** The values of the first output. */
export function firstOutput({ raw_output_contents: raws }: Message): readonly number[] {
  const [bytes] = raws as readonly Buffer[];
  const copy = Uint8Array.from(bytes ?? []);
  return [...new Float32Array(copy.buffer)];
}
