import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { type Columns, defineActor, type DType, type Signature } from 'troupe';
import { isTroupeError, type TroupeError } from '../../src/kernel/errors.js';
import { OipClient, type OipClientOptions } from '../../src/serve/oip-client.js';
import { makeValues, OIP_DATATYPES, type OipDatatype } from '../../src/serve/oip-datatype.js';
import type { GrpcEndpoint } from '../../src/serve/grpc-endpoint.js';
import { openEndpoint } from '../../src/serve/open-endpoint.js';
import type { RemoteEndpoint } from '../../src/serve/remote-endpoint.js';
import type { RemoteOptions } from '../../src/serve/remote-options.js';
import { sizes } from '../e2e/sizes.js';
import { valuesToBytes } from '../../src/serve/oip-tensor.js';
import { anyTensor, bodyOf, sameData } from './oip-bodies.js';
import { stand } from './oip-stand.js';
import { jsServer } from './grpc-stand.js';
import { framed, rawGrpc, type RawGrpcCall, readAsked, refuse, say, tellModel, writeAnswer } from './raw-grpc.js';
import { type RawServer, rawServer, reply } from './raw-server.js';

const signalOf = (): AbortSignal => new AbortController().signal;

function clientOf(
  t: ExecutionContext,
  url: string,
  options: OipClientOptions,
  remote: RemoteOptions = {},
): { readonly client: OipClient; readonly endpoint: RemoteEndpoint | GrpcEndpoint } {
  const endpoint = openEndpoint('test', 'endpoint', url, { retryForMs: 0, timeoutMs: 60_000, ...remote });
  t.teardown(() => endpoint.close());
  return { endpoint, client: new OipClient('test', endpoint, options) };
}

async function failureOf(answer: Promise<unknown>): Promise<TroupeError> {
  try {
    await answer;
  } catch (error) {
    if (isTroupeError(error)) return error;
    throw error;
  }
  throw new Error('it answered');
}

const DTYPES = [...OIP_DATATYPES.values()].filter(({ dtype }) => dtype !== undefined);

/** A model that gives every tensor back. */
function echo(datatypes: readonly OipDatatype[]) {
  const specs = datatypes.map(({ name, dtype }) => ({ name, dtype: dtype as DType, shape: [-1] }));
  return defineActor({ signature: { inputs: specs, outputs: specs }, predict: (batch: Columns) => batch });
}

/** Values from one end of the range of a datatype to the other. */
function columnOf(datatype: OipDatatype, count: number): Columns['columns'][string] {
  const dtype = datatype.dtype as DType;
  if (datatype.json === 'text')
    return { dtype, shape: [2], data: Array.from({ length: 2 * count }, (_, at) => (at === 0 ? '' : `ü${at}\0"`)) };
  const data = makeValues(datatype, 2 * count) as { [index: number]: number | bigint; length: number };
  const [least, most] = datatype.range ?? datatype.bigRange ?? [0, 1];
  for (let at = 0; at < data.length; at++) data[at] = at % 2 === 0 ? least : most;
  if (datatype.json === 'float') (data as unknown as Float32Array).set([-0, 1e-45, 3.4028234663852886e38, 0.1]);
  return { dtype, shape: [2], data: data as never };
}

for (const how of ['binary', 'json', 'grpc'] as const)
  test(`every datatype comes back from a server as it was sent, as ${how}, packed or not`, async (t) => {
    const { system, serving } = await stand(t, { grpc: { port: 0 } });
    const datatypes = DTYPES.filter(({ json }) => how !== 'json' || json !== 'none');
    await system.spawn('echo', { actor: echo(datatypes), batching: { maxSize: 512 } });
    const url = serving.addresses[how === 'grpc' ? 1 : 0]?.url as string;
    for (const compression of ['none', 'gzip', 'deflate'] as const) {
      const tensors = how === 'grpc' ? 'auto' : how;
      const { client } = clientOf(t, url, { model: 'echo', tensors }, { compression });
      await client.open(signalOf());
      t.deepEqual(
        client.signature?.inputs,
        datatypes.map(({ name, dtype }) => ({ name, dtype, shape: [-1] })),
      );
      const columns = Object.fromEntries(datatypes.map((one) => [one.name, columnOf(one, 300)]));
      const answer = await client.infer({ count: 300, columns }, signalOf());
      for (const { name } of datatypes)
        t.true(sameData(answer.columns[name]?.data as never, columns[name]?.data as never, false), name);
    }
  });

test('NaN and the infinities go as bytes; where a server takes only JSON, they are refused', async (t) => {
  const { system, serving } = await stand(t);
  await system.spawn('echo', { actor: echo([OIP_DATATYPES.get('FP64') as OipDatatype]) });
  const url = serving.addresses[0]?.url as string;
  const column = { dtype: 'float64', shape: [3], data: Float64Array.of(Number.NaN, Infinity, -Infinity) } as const;
  const batch = { count: 1, columns: { FP64: column } };
  const binary = clientOf(t, url, { model: 'echo' }).client;
  await binary.open(signalOf());
  t.deepEqual((await binary.infer(batch, signalOf())).columns['FP64'], column);
  const json = clientOf(t, url, { model: 'echo', tensors: 'json' }).client;
  await json.open(signalOf());
  const error = await failureOf(json.infer(batch, signalOf()));
  t.is(error.code, 'INPUT_INVALID');
  t.regex(error.message, /input "FP64" holds NaN or an infinity/);
});

interface Said {
  readonly ready?: string | Buffer;
  readonly live?: string | Buffer;
  readonly extensions?: readonly string[];
  readonly metadata?: object;
  readonly infer?: (request: RawServer['requests'][number]) => string | Buffer | undefined;
}

const X = { name: 'x', datatype: 'FP32', shape: [-1, 2] };
const Y = { name: 'y', datatype: 'INT64', shape: [-1] };

/** A server of one model, whose answers the test gives. */
function modelServer(t: ExecutionContext, said: Said): Promise<RawServer> {
  const { ready = reply(200), live = reply(200), metadata = { inputs: [X], outputs: [Y] } } = said;
  return rawServer(t, (request) => {
    const path = request.head.split(' ')[1];
    if (path === '/v2/models/m/ready') return ready;
    if (path === '/v2/health/ready') return live;
    if (path === '/v2')
      return reply(200, JSON.stringify({ name: 'raw', extensions: said.extensions ?? ['binary_tensor_data'] }));
    if (path === '/v2/models/m') return reply(200, JSON.stringify(metadata));
    return said.infer?.(request) ?? reply(404);
  });
}

async function opened(
  t: ExecutionContext,
  server: RawServer,
  options: Partial<OipClientOptions> = {},
): Promise<OipClient> {
  const { client } = clientOf(t, server.url, { model: 'm', ...options });
  await client.open(signalOf());
  return client;
}

/** The first number of each record is that of `firsts`. */
const batchOf = (count: number, firsts: readonly number[] = []): Columns => ({
  count,
  columns: {
    x: { dtype: 'float32', shape: [2], data: Float32Array.from({ length: 2 * count }, (_, at) => firsts[at / 2] ?? 0) },
  },
});

test('a server that does not say that it takes bytes is sent JSON, and its 64-bit numbers keep every digit', async (t) => {
  const server = await modelServer(t, {
    extensions: [],
    infer: () =>
      reply(
        200,
        '{"outputs":[{"name":"y","datatype":"INT64","shape":[2],"parameters":null,"data":[9007199254740993,-9223372036854775808]}]}',
      ),
  });
  const client = await opened(t, server);
  const { columns } = await client.infer(batchOf(2), signalOf());
  t.deepEqual(columns['y']?.data, BigInt64Array.of(9007199254740993n, -(2n ** 63n)));
  const request = server.requests.at(-1);
  t.regex(request?.head ?? '', /content-type: application\/json/i);
  t.deepEqual(JSON.parse(request?.body.toString() ?? ''), {
    inputs: [{ name: 'x', shape: [2, 2], datatype: 'FP32', data: [0, 0, 0, 0] }],
    outputs: [{ name: 'y' }],
  });
});

test('what is asked for is what the options say: version and outputs', async (t) => {
  const seen: string[] = [];
  const server = await rawServer(t, ({ head, body }) => {
    seen.push(head.split(' ')[1] ?? '');
    if (head.includes('/infer')) {
      const json = JSON.parse(body.subarray(0, Number(/header-content-length: (\d+)/i.exec(head)?.[1])).toString());
      t.deepEqual(json.outputs, [{ name: 'y', parameters: { binary_data: true } }]);
      return reply(200, '{"outputs":[{"name":"y","datatype":"INT64","shape":[1],"data":[1]}]}');
    }
    if (head.includes('/ready') || !head.includes('/m/')) return reply(200, '{"extensions":["binary_tensor_data"]}');
    return reply(200, JSON.stringify({ inputs: [X], outputs: [{ name: 'z', datatype: 'BF16', shape: [-1] }, Y] }));
  });
  const client = await opened(t, server, { version: '3', outputs: ['y'] });
  t.deepEqual(client.signature?.outputs, [{ name: 'y', dtype: 'int64', shape: [] }]);
  await client.infer(batchOf(1), signalOf());
  t.deepEqual(seen, [
    '/v2/models/m/versions/3/ready',
    '/v2',
    '/v2/models/m/versions/3',
    '/v2/models/m/versions/3/infer',
  ]);
});

/** What a server says of itself -> why nothing can be asked of it. */
const UNFIT: readonly (readonly [string, Said, string, RegExp, Partial<OipClientOptions>?])[] = [
  ['a model that is not there', { ready: reply(404) }, 'MODEL_NOT_FOUND', /Model "m" at .* is not there/],
  ['a model that is not ready', { ready: reply(400) }, 'REMOTE_UNAVAILABLE', /Model "m" at .* is not ready/],
  [
    'a model that is not ready with status 200',
    { ready: reply(200, '{"ready": false}') },
    'REMOTE_UNAVAILABLE',
    /not ready/,
  ],
  [
    'a server that is not ready',
    { ready: reply(503), live: reply(503) },
    'REMOTE_UNAVAILABLE',
    /answers and is not ready/,
  ],
  [
    'a token that is wrong',
    { ready: reply(401, '{"error":"a bearer token is needed"}') },
    'REMOTE_REFUSED',
    /bearer token/,
  ],
  ['no inputs', { metadata: { inputs: [], outputs: [Y] } }, 'SIGNATURE_MISMATCH', /one input and one output/],
  ['no lists', { metadata: {} }, 'SIGNATURE_MISMATCH', /inputs must be an array/],
  [
    'a datatype that is none',
    { metadata: { inputs: [{ ...X, datatype: 'FP8' }], outputs: [Y] } },
    'SIGNATURE_MISMATCH',
    /datatype must be/,
  ],
  [
    'an input of BF16',
    { metadata: { inputs: [{ ...X, datatype: 'BF16' }], outputs: [Y] } },
    'SIGNATURE_MISMATCH',
    /BF16, which has no type/,
  ],
  [
    'an output of BF16',
    { metadata: { inputs: [X], outputs: [{ ...Y, datatype: 'BF16' }] } },
    'SIGNATURE_MISMATCH',
    /options\.outputs/,
  ],
  [
    'FP16 without bytes',
    { extensions: [], metadata: { inputs: [{ ...X, datatype: 'FP16' }], outputs: [Y] } },
    'SIGNATURE_MISMATCH',
    /takes no bytes/,
  ],
  [
    'a model without batches',
    { metadata: { inputs: [{ ...X, shape: [2] }], outputs: [Y] } },
    'SIGNATURE_MISMATCH',
    /must begin with -1/,
  ],
  [
    'a shape that is none',
    { metadata: { inputs: [{ ...X, shape: [-1, -2] }], outputs: [Y] } },
    'SIGNATURE_MISMATCH',
    /dimensions from 1/,
  ],
  ['one name twice', { metadata: { inputs: [X, X], outputs: [Y] } }, 'SIGNATURE_MISMATCH', /one name/],
  ['an output that is not there', {}, 'SIGNATURE_MISMATCH', /no output "z"/, { outputs: ['z'] }],
];

for (const [what, said, code, message, options] of UNFIT)
  test(`the probe at load tells of ${what}`, async (t) => {
    const error = await failureOf(opened(t, await modelServer(t, said), options));
    t.is(error.code, code as never, error.message);
    t.regex(error.message, message);
  });

test('a server or a model that is not ready yet is waited for', async (t) => {
  let asked = 0;
  const server = await rawServer(t, ({ head }) => {
    if (head.includes('/m/ready')) return reply(++asked < 3 ? 503 : 200);
    if (head.startsWith('GET /v2/health')) return reply(503);
    return reply(200, JSON.stringify({ extensions: [], inputs: [X], outputs: [Y] }));
  });
  const { client } = clientOf(t, server.url, { model: 'm' });
  await client.open(signalOf(), 60_000);
  t.is(asked, 3);
  t.deepEqual(client.signature?.inputs, [{ name: 'x', dtype: 'float32', shape: [2] }]);
});

const json = (...outputs: readonly object[]): Buffer => reply(200, JSON.stringify({ outputs }));
const GOOD = { name: 'y', datatype: 'INT64', shape: [2], data: [1, 2] };

/** An answer about two records -> what is wrong with it. */
const LIES: readonly (readonly [string, Buffer, RegExp])[] = [
  ['no JSON', reply(200, 'hello'), /is not JSON/],
  ['no UTF-8', reply(200, Buffer.from([0x22, 0xff, 0x22])), /not UTF-8/],
  ['nothing', reply(200), /is not JSON/],
  ['no outputs', reply(200, '{}'), /outputs must be an array/],
  ['an error with status 200', reply(200, '{"error":"no"}'), /outputs must be an array/],
  ['another output', json({ ...GOOD, name: 'z' }), /output "y" is missing/],
  ['one output twice', json(GOOD, GOOD), /is there twice/],
  ['another datatype', json({ ...GOOD, datatype: 'INT32' }), /metadata say int64, got INT32/],
  ['fewer records', json({ ...GOOD, shape: [0], data: [] }), /shape must be \[2\], got \[0\]/],
  ['more records', json({ ...GOOD, shape: [3], data: [1, 2, 3] }), /shape must be \[2\], got \[3\]/],
  ['another rank', json({ ...GOOD, shape: [2, 1] }), /shape must be/],
  ['fewer values than the shape says', json({ ...GOOD, data: [1] }), /takes 2 values, data has 1/],
  ['a shape past all numbers', json({ ...GOOD, shape: [4294967296, 4294967296] }), /spans more values/],
  ['a negative shape', json({ ...GOOD, shape: [-2] }), /whole number from 0/],
  ['null', json({ ...GOOD, data: [1, null] }), /value 1 must be/],
  [
    'a number past its type',
    reply(200, JSON.stringify({ outputs: [GOOD] }).replace('[1,2]', '[1,9223372036854775808]')),
    /value 1/,
  ],
  [
    'bytes without a header',
    json({ ...GOOD, data: undefined, parameters: { binary_data_size: 16 } }),
    /needs the header/,
  ],
  ['a header past the body', reply(200, '{}', ['inference-header-content-length: 100']), /is 100, the body has 2/],
  ['a header that is no number', reply(200, '{}', ['inference-header-content-length: -1']), /must be a whole number/],
  [
    'bytes behind the tensors',
    reply(200, `${JSON.stringify({ outputs: [GOOD] })}abc`, [
      `inference-header-content-length: ${JSON.stringify({ outputs: [GOOD] }).length}`,
    ]),
    /3 bytes are left/,
  ],
  ['both data and bytes', json({ ...GOOD, parameters: { binary_data_size: 16 } }), /both data and binary_data_size/],
  ['parameters that are none', json({ ...GOOD, parameters: 7 }), /must be an object/],
  ['JSON too deep', reply(200, `${'['.repeat(5000)}${']'.repeat(5000)}`), /nested deeper/],
];

for (const [what, answer, message] of LIES)
  test(`an answer with ${what} is a typed error and never a result`, async (t) => {
    const client = await opened(t, await modelServer(t, { infer: () => answer }));
    // Two records: one of them may be the reason, so the batch is halved.
    const error = await failureOf(client.infer(batchOf(2), signalOf()));
    t.is(error.code, 'PREDICT_FAILED');
    t.regex(error.message, message);
    const alone = await failureOf(client.infer(batchOf(1), signalOf()));
    t.is(alone.code, 'PROTOCOL_VIOLATION');
  });

test('no bytes of an answer make anything but columns or a typed error', async (t) => {
  let answer = reply(200);
  const server = await modelServer(t, { infer: () => answer });
  const client = await opened(t, server);
  const specs = (client.signature as Signature).outputs;
  const bent = fc.record({
    tensor: anyTensor,
    isBinary: fc.boolean(),
    cut: fc.nat({ max: 40 }),
    off: fc.integer({ min: -3, max: 3 }),
  });
  await fc.assert(
    fc.asyncProperty(bent, async ({ tensor, isBinary, cut, off }) => {
      if (tensor.datatype.json === 'none' && !isBinary) return;
      const { body, headerLength } = bodyOf([{ ...tensor, name: 'y', isBinary }]);
      const text = Buffer.from(body.toString('latin1').replace('"inputs"', '"outputs"'), 'latin1');
      const length = Math.max(0, Number(headerLength) + 1 + off);
      answer = reply(200, text.subarray(0, text.length - Math.min(cut, text.length)), [
        `inference-header-content-length: ${length}`,
      ]);
      try {
        const { columns } = await client.infer(batchOf(1), signalOf());
        t.is(columns[specs[0]?.name as string]?.data.length, 1);
      } catch (error) {
        t.true(isTroupeError(error) && error.code === 'PROTOCOL_VIOLATION', String(error));
      }
    }),
    { numRuns: Math.ceil(sizes.oipRuns / 10) },
  );
});

test('names that are none are refused before anything is asked', (t) => {
  for (const model of ['', '..', 'a/b', 'a b', '%2e', 'x'.repeat(129)])
    t.throws(() => clientOf(t, 'http://127.0.0.1:1', { model }), { code: 'NAME_INVALID' }, model);
  t.throws(() => clientOf(t, 'http://127.0.0.1:1', { model: 'm', version: '../3' }), { code: 'NAME_INVALID' });
  for (const options of [{ tensors: 'text' as never }, { outputs: [] }, { outputs: 'y' as never }])
    t.throws(() => clientOf(t, 'http://127.0.0.1:1', { model: 'm', ...options }), { instanceOf: TypeError });
});

/** A model of which the server says this much -> how many records each request has, of a batch of ten. */
const SIZES: readonly (readonly [string, number, readonly number[]])[] = [
  ['of at most four records', 4, [4, 4, 2]],
  ['of one record', 1, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]],
  ['of ten records', 10, [10]],
  ['without a number', 0, [10]],
];

for (const [what, size, expected] of SIZES)
  test(`a batch for a model ${what} is that many requests, over HTTP and gRPC`, async (t) => {
    const outputs = (rows: number, first: number): object => ({
      name: 'y',
      datatype: 'INT64',
      shape: [rows],
      data: Array.from({ length: rows }, (_, at) => first + at),
    });
    const http = await rawServer(t, ({ head, body }) => {
      const path = head.split(' ')[1] as string;
      if (path === '/v2') return reply(200, '{"extensions":["model_configuration"]}');
      if (path.endsWith('/config')) return reply(200, JSON.stringify({ max_batch_size: size }));
      if (!path.endsWith('/infer')) return reply(200, JSON.stringify({ inputs: [X], outputs: [Y] }));
      const { shape, data } = JSON.parse(body.toString()).inputs[0];
      return reply(200, JSON.stringify({ outputs: [outputs(shape[0], data[0])] }));
    });
    const grpc = await rawGrpc(t, (call) => {
      if (call.method !== 'ModelInfer') return tellModel(call, { ModelConfig: { config: { max_batch_size: size } } });
      const { inputs, raw_input_contents: raws } = readAsked(call);
      const [rows, first] = [Number(inputs[0].shape[0]), raws[0].readFloatLE(0)];
      const raw = Buffer.from(BigInt64Array.from({ length: rows }, (_, at) => BigInt(first + at)).buffer);
      const { data: _, ...output } = outputs(rows, first) as { data: unknown };
      say(call, framed(writeAnswer('ModelInfer', { outputs: [output], raw_output_contents: [raw] })));
    });
    const batch: Columns = {
      count: 10,
      columns: { x: { dtype: 'float32', shape: [2], data: Float32Array.from({ length: 20 }, (_, at) => at >> 1) } },
    };
    for (const url of [http.url, grpc.url]) {
      const { client } = clientOf(t, url, { model: 'm' });
      await client.open(signalOf());
      t.is(client.maxBatchSize, size === 0 ? Infinity : size);
      const { count, columns } = await client.infer(batch, signalOf());
      t.is(count, 10);
      t.deepEqual(
        columns['y']?.data,
        BigInt64Array.from({ length: 10 }, (_, at) => BigInt(at)),
      );
    }
    const sizes = http.requests
      .filter(({ head }) => head.includes('/infer'))
      .map(({ body }) => JSON.parse(body.toString()).inputs[0].shape[0]);
    t.deepEqual(
      sizes.sort((a, b) => b - a),
      expected,
    );
    const grpcSizes = grpc.calls
      .filter(({ method }) => method === 'ModelInfer')
      .map((call) => Number(readAsked(call)['inputs'][0].shape[0]));
    t.deepEqual(
      grpcSizes.sort((a, b) => b - a),
      expected,
    );
  });

test('what one request of several fails with is told of the whole batch, when all have ended', async (t) => {
  let under = 0;
  const server = await rawGrpc(t, (call) => {
    if (call.method !== 'ModelInfer') return tellModel(call, { ModelConfig: { config: { max_batch_size: 1 } } });
    under++;
    const { raw_input_contents: raws } = readAsked(call);
    setImmediate(() => {
      under--;
      if (raws[0].readFloatLE(0) === 0) refuse(call, { 'grpc-status': '13', 'grpc-message': 'zero' });
      else {
        const output = { name: 'y', datatype: 'INT64', shape: [1] };
        say(call, framed(writeAnswer('ModelInfer', { outputs: [output], raw_output_contents: [Buffer.alloc(8)] })));
      }
    });
  });
  const { client } = clientOf(t, server.url, { model: 'm' });
  await client.open(signalOf());
  const batch = batchOf(3, [1, 0, 2]);
  const error = await failureOf(client.infer(batch, signalOf()));
  // One of several records is the reason: the batch is halved.
  t.is(error.code, 'PREDICT_FAILED');
  t.regex(error.message, /INTERNAL: zero/);
  t.is(under, 0);
});

const SIGNATURE: Signature = {
  inputs: [{ name: 'x', dtype: 'float32', shape: [2] }],
  outputs: [{ name: 'y', dtype: 'int64', shape: [] }],
};

test('a signature that is given by hand is what the model takes and gives, and no metadata is asked for', async (t) => {
  const seen: string[] = [];
  const http = await rawServer(t, ({ head }) => {
    const path = head.split(' ')[1] as string;
    seen.push(path);
    if (path.endsWith('/infer')) return json({ ...GOOD, shape: [1], data: [7] });
    return reply(path.endsWith('/ready') ? 200 : 404);
  });
  const grpc = await rawGrpc(t, (call) => {
    seen.push(call.method);
    if (call.method === 'ModelReady') return tellModel(call);
    if (call.method !== 'ModelInfer') return refuse(call, { 'grpc-status': '12' });
    // Typed, as some servers answer to raw values.
    const output = { name: 'y', datatype: 'INT64', shape: [1], contents: { int64_contents: [7] } };
    say(call, framed(writeAnswer('ModelInfer', { outputs: [output] })));
  });
  for (const url of [http.url, grpc.url]) {
    const { client } = clientOf(t, url, { model: 'm', signature: SIGNATURE });
    await client.open(signalOf());
    t.deepEqual(client.signature, SIGNATURE);
    t.deepEqual((await client.infer(batchOf(1), signalOf())).columns['y']?.data, BigInt64Array.of(7n));
  }
  t.deepEqual(seen, ['/v2/models/m/ready', '/v2', '/v2/models/m/infer', 'ModelReady', 'ServerMetadata', 'ModelInfer']);
  t.throws(() => clientOf(t, http.url, { model: 'm', signature: { ...SIGNATURE, outputs: [] } }), {
    code: 'ACTOR_INVALID',
  });
  const { client } = clientOf(t, http.url, { model: 'm', signature: SIGNATURE, outputs: ['z'] });
  t.is((await failureOf(client.open(signalOf()))).code, 'SIGNATURE_MISMATCH');
});

/** What a server of gRPC says of itself -> why nothing can be asked of it. */
const UNFIT_GRPC: readonly (readonly [string, (call: RawGrpcCall) => void, string, RegExp])[] = [
  [
    'a model that is not there',
    (call) => (call.method.startsWith('Model') ? refuse(call, { 'grpc-status': '5' }) : tellModel(call)),
    'MODEL_NOT_FOUND',
    /Model "m" at grpc:.* is not there/,
  ],
  [
    'a model that is not ready',
    (call) => tellModel(call, { ModelReady: { ready: false } }),
    'REMOTE_UNAVAILABLE',
    /is not ready: not loaded/,
  ],
  [
    'a server that is not ready',
    (call) => refuse(call, { 'grpc-status': '14' }),
    'REMOTE_UNAVAILABLE',
    /answers and is not ready/,
  ],
  [
    'a token that is wrong',
    (call) => refuse(call, { 'grpc-status': '16', 'grpc-message': 'who?' }),
    'REMOTE_REFUSED',
    /UNAUTHENTICATED: who\?/,
  ],
  ['another protocol', (call) => refuse(call, { 'grpc-status': '12' }), 'REMOTE_REFUSED', /UNIMPLEMENTED/],
  [
    'metadata that are none',
    (call) => (call.method === 'ModelMetadata' ? say(call, framed(Buffer.from([0xff]))) : tellModel(call)),
    'SIGNATURE_MISMATCH',
    /the message is not what its \.proto says/,
  ],
  [
    'a model without batches',
    (call) => tellModel(call, { ModelMetadata: { inputs: [{ ...X, shape: [2] }], outputs: [Y] } }),
    'SIGNATURE_MISMATCH',
    /must begin with -1/,
  ],
];

for (const [what, answer, code, message] of UNFIT_GRPC)
  test(`the probe at load tells of ${what} over gRPC`, async (t) => {
    const server = await rawGrpc(t, answer);
    const { client } = clientOf(t, server.url, { model: 'm' });
    const error = await failureOf(client.open(signalOf()));
    t.is(error.code, code as never, error.message);
    t.regex(error.message, message);
  });

test('no bytes of an answer over gRPC make anything but columns or a typed error', async (t) => {
  let answer: Uint8Array = Buffer.alloc(0);
  const server = await rawGrpc(t, (call) =>
    call.method === 'ModelInfer' ? say(call, framed(answer)) : tellModel(call),
  );
  const { client } = clientOf(t, server.url, { model: 'm' });
  await client.open(signalOf());
  const bent = fc.record({
    tensor: anyTensor,
    isRaw: fc.boolean(),
    cut: fc.nat({ max: 30 }),
    at: fc.nat(),
    bits: fc.nat({ max: 255 }),
  });
  await fc.assert(
    fc.asyncProperty(bent, async ({ tensor, isRaw, cut, at, bits }) => {
      const output = { name: 'y', datatype: tensor.datatype.name, shape: tensor.shape };
      const raws = isRaw ? [Buffer.from(valuesToBytes(tensor))] : [];
      const bytes = Buffer.from(writeAnswer('ModelInfer', { outputs: [output], raw_output_contents: raws }));
      bytes[at % bytes.length] = (bytes[at % bytes.length] as number) ^ bits;
      answer = bytes.subarray(0, bytes.length - Math.min(cut, bytes.length));
      try {
        const { columns } = await client.infer(batchOf(1), signalOf());
        t.is(columns['y']?.data.length, 1);
      } catch (error) {
        t.true(isTroupeError(error) && error.code === 'PROTOCOL_VIOLATION', String(error));
      }
    }),
    { numRuns: Math.ceil(sizes.oipRuns / 10) },
  );
});

test('a server of grpc-js is asked as ours is', async (t) => {
  const seen: string[] = [];
  const server = await jsServer(t, {
    ModelReady: ({ request, metadata }) => {
      seen.push(String(metadata.get('authorization')[0]), request['name'], request['version']);
      return { ready: true };
    },
    ServerMetadata: () => ({ name: 'js', extensions: ['model_configuration'] }),
    ModelMetadata: () => ({ name: 'm', inputs: [X], outputs: [{ ...Y, datatype: 'BYTES' }] }),
    ModelConfig: () => ({ config: { max_batch_size: 2 } }),
    ModelInfer: ({ request }) => {
      const rows = Number(request['inputs'][0].shape[0]);
      if (request['raw_input_contents'][0].readFloatLE(0) === 13)
        throw Object.assign(new Error('thirteen: ü'), { code: 3 });
      const texts = Array.from({ length: rows }, (_, at) => `ü${request['raw_input_contents'][0].readFloatLE(8 * at)}`);
      const raw = Buffer.from(valuesToBytes({ datatype: OIP_DATATYPES.get('BYTES') as OipDatatype, data: texts }));
      const output = { name: 'y', datatype: 'BYTES', shape: [rows] };
      return { model_name: 'm', outputs: [output], raw_output_contents: [raw] };
    },
  });
  for (const compression of ['none', 'gzip', 'deflate'] as const) {
    const { client } = clientOf(t, server, { model: 'm', version: '2' }, { token: 'abc', compression });
    await client.open(signalOf());
    t.is(client.maxBatchSize, 2);
    const batch = batchOf(5, [0, 1, 2, 3, 4]);
    t.deepEqual((await client.infer(batch, signalOf())).columns['y']?.data, ['ü0', 'ü1', 'ü2', 'ü3', 'ü4']);
    const error = await failureOf(client.infer(batchOf(1, [13]), signalOf()));
    t.is(error.code, 'PREDICT_FAILED');
    t.regex(error.message, /INVALID_ARGUMENT: thirteen: ü$/);
  }
  t.deepEqual(seen, ['Bearer abc', 'm', '2', 'Bearer abc', 'm', '2', 'Bearer abc', 'm', '2']);
});

test('Retry-After of a probe goes before the time between probes: beyond the wait of open it is told at once', async (t) => {
  const server = await modelServer(t, { ready: reply(429, '', ['retry-after: 200']) });
  const { client } = clientOf(t, server.url, { model: 'm' });
  const error = await failureOf(client.open(signalOf(), 60_000));
  t.like(error, { code: 'REMOTE_UNAVAILABLE', retryAfterMs: 200_000 });
  t.is(server.requests.length, 1);
});

test('who gives up while a server is waited for is heard at once, and told why it was', async (t) => {
  t.timeout(60_000);
  const server = await modelServer(t, { ready: reply(429, '', ['retry-after: 200']) });
  const { client, endpoint } = clientOf(t, server.url, { model: 'm' });
  const controller = new AbortController();
  const http = endpoint as RemoteEndpoint;
  const ask = http.ask.bind(http);
  http.ask = async (call) => {
    const answer = await ask(call);
    // What open makes of the answer comes first: then it waits.
    setImmediate(() => controller.abort());
    return answer;
  };
  const error = await failureOf(client.open(controller.signal, Infinity));
  t.like(error, { code: 'REMOTE_UNAVAILABLE', retryAfterMs: 200_000 });
  t.is(server.requests.length, 1);
});

test('a record that cannot be sent is blamed alone; in a request of its own of a batch, the batch is halved', async (t) => {
  const server = await modelServer(t, {
    extensions: ['model_configuration'],
    infer: ({ head }) =>
      head.includes('/config') ? reply(200, '{"max_batch_size":1}') : json({ ...GOOD, shape: [1], data: [7] }),
  });
  const client = await opened(t, server);
  t.is(client.maxBatchSize, 1);
  const batch = await failureOf(client.infer(batchOf(3, [0, Number.NaN, 0]), signalOf()));
  t.is(batch.code, 'PREDICT_FAILED');
  t.regex(batch.message, /input "x" holds NaN or an infinity/);
  t.like(batch.cause, { code: 'INPUT_INVALID' });
  t.is((await failureOf(client.infer(batchOf(1, [Number.NaN]), signalOf()))).code, 'INPUT_INVALID');
  t.deepEqual((await client.infer(batchOf(2), signalOf())).columns['y']?.data, BigInt64Array.of(7n, 7n));
});
