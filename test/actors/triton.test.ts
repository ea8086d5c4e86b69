import test, { type ExecutionContext } from 'ava';
import {
  type Columns,
  createSystem,
  defineActor,
  isTroupeError,
  type Pool,
  silentLog,
  type SpawnOptions,
  type ServeOptions,
  type System,
  type TensorRecord,
} from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import { doubler, doublerAfter, type Stand, stand } from '../serve/oip-stand.js';
import { rawServer, reply } from '../serve/raw-server.js';

/** The actor `triton` in a pool, before servers of ours and servers that misbehave. */

type Given = Omit<SpawnOptions, 'actor'> & { readonly options?: Record<string, unknown> };
type TritonPool = Pool<TensorRecord, TensorRecord>;

async function tritonPool(t: ExecutionContext, url: string, { options, ...given }: Given = {}): Promise<TritonPool> {
  const system: System = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  return system.spawn('double', { actor: 'triton', ...given, options: { endpoint: url, ...options } });
}

const x = (...values: number[]): TensorRecord => ({ x: Float32Array.from(values) });
const y = (record: TensorRecord): readonly number[] => Array.from(record['y'] as Float32Array);

/** Where a server of ours is asked. */
type Way = 'http' | 'grpc';
const WAYS: readonly Way[] = ['http', 'grpc'];
const served = (t: ExecutionContext, options: ServeOptions = {}): Promise<Stand> =>
  stand(t, { grpc: { port: 0 }, ...options });
const urlOf = ({ serving }: Stand, way: Way): string => serving.addresses[way === 'grpc' ? 1 : 0]?.url as string;

for (const way of WAYS) {
  test(`a pool of the actor triton answers as the pool behind the server does, batch by batch, over ${way}`, async (t) => {
    const behind = await served(t);
    await behind.system.spawn('double', { actor: doubler, batching: { maxSize: 64 } });
    const pool = await tritonPool(t, urlOf(behind, way), { batching: { maxSize: 64 } });
    t.deepEqual(pool.signature?.outputs, [
      { name: 'y', dtype: 'float32', shape: [2] },
      { name: 'batch', dtype: 'int64', shape: [] },
    ]);
    t.deepEqual(y(await pool.ask(x(1, 2))), [2, 4]);
    const outcomes = await pool.askMany(Array.from({ length: 500 }, (_, at) => x(at, -at)));
    for (const [at, outcome] of outcomes.entries()) {
      if (!outcome.ok) throw outcome.error;
      t.deepEqual(
        y(outcome.value).map((value) => value + 0),
        [2 * at, 0 - 2 * at],
      );
    }
    const batches = new Set(outcomes.map((outcome) => (outcome.ok ? outcome.value['batch'] : 0n)));
    t.true(
      [...batches].some((size) => (size as bigint) > 1n),
      'records share requests',
    );
    const { requests } = (await pool.call('counts')) as { requests: number };
    t.true(requests < 500, `${requests} requests for 501 records`);
  });

  test(`a record that the remote model throws at fails alone, whatever batch it was in, over ${way}`, async (t) => {
    const behind = await served(t);
    const actor = doublerAfter((xs) => {
      if (xs.includes(13)) throw new Error('thirteen');
    });
    await behind.system.spawn('double', { actor, batching: { maxSize: 16 } });
    const pool = await tritonPool(t, urlOf(behind, way), { batching: { maxSize: 16, adaptive: false } });
    const outcomes = await pool.askMany(Array.from({ length: 40 }, (_, at) => x(at, 0)));
    for (const [at, outcome] of outcomes.entries()) {
      if (at !== 13) t.true(outcome.ok, String(at));
      else if (!outcome.ok) {
        t.like(outcome.error, { code: 'REMOTE_FAILED', retryable: true, actor: 'double' });
        t.regex(outcome.error.message, /(status 500|INTERNAL): .*thirteen/);
      } else t.fail('it has no result');
    }
  });
}

test('a record that the server refuses fails alone and is not tried again', async (t) => {
  const server = await rawServer(t, ({ head, body }) => {
    if (!head.includes('/infer')) return describe(head);
    const values = floatsOf(head, body);
    if (values.includes(13)) return reply(400, '{"error":"no 13"}');
    const outputs = [{ name: 'y', datatype: 'FP32', shape: [values.length], data: values }];
    return reply(200, JSON.stringify({ outputs }));
  });
  const pool = await tritonPool(t, server.url, { batching: { maxSize: 8, adaptive: false } });
  const outcomes = await pool.askMany(Array.from({ length: 16 }, (_, at) => ({ x: at })));
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? outcome.value['y'] : outcome.error.code)),
    Array.from({ length: 16 }, (_, at) => (at === 13 ? 'PREDICT_FAILED' : at)),
  );
  t.is(((await pool.call('counts')) as { retries: number }).retries, 0);
});

test('a server that is away is blamed on no record: the whole batch is told so after one request', async (t) => {
  let isAway = false;
  const server = await rawServer(t, ({ head }) =>
    isAway ? reply(503, '{"error":"later"}', ['retry-after: 30']) : describe(head),
  );
  const pool = await tritonPool(t, server.url, { batching: { maxSize: 32 }, options: { retryForMs: 0 } });
  isAway = true;
  const asked = server.requests.length;
  const outcomes = await pool.askMany(Array.from({ length: 8 }, (_, at) => ({ x: at })));
  for (const outcome of outcomes)
    t.like(outcome, {
      ok: false,
      error: { code: 'REMOTE_UNAVAILABLE', ran: 'not-started', retryable: true, retryAfterMs: 30_000 },
    });
  t.true(server.requests.length - asked < 8, 'not halved');
});

test('a breaker of the pool opens when the server is away, for all who ask', async (t) => {
  let isAway = false;
  const server = await rawServer(t, ({ head, socket }) => (isAway ? void socket.destroy() : describe(head)));
  const pool = await tritonPool(t, server.url, {
    breaker: { minCalls: 4, openMs: 60_000 },
    options: { retryForMs: 0 },
  });
  isAway = true;
  await pool.askMany(Array.from({ length: 8 }, (_, at) => ({ x: at })));
  const asked = server.requests.length;
  await t.throwsAsync(pool.ask({ x: 1 }), { code: 'BREAKER_OPEN' });
  t.is(server.requests.length, asked);
});

for (const way of WAYS)
  test(`while a server is started again, batches over ${way} wait and nothing is lost`, async (t) => {
    const first = await served(t);
    await first.system.spawn('double', { actor: doubler });
    const port = first.serving.addresses[way === 'grpc' ? 1 : 0]?.port as number;
    const pool = await tritonPool(t, `${way}://127.0.0.1:${port}`, {
      replicas: 2,
      options: { retryForMs: 60_000 },
      batchTimeoutMs: 120_000,
    });
    const half = deferred<void>();
    let answered = 0;
    const asks = Array.from({ length: 400 }, async (_, at) => {
      if (at >= 100) await half.promise;
      const answer = await pool.ask(x(at, at), { timeoutMs: 120_000 });
      if (++answered === 100) half.resolve();
      return y(answer)[0];
    });
    await half.promise;
    await first.system.stop({ timeoutMs: 0 });
    const second = await stand(t, way === 'grpc' ? { grpc: { port } } : { port });
    await second.system.spawn('double', { actor: doubler });
    t.deepEqual(
      await Promise.all(asks),
      Array.from({ length: 400 }, (_, at) => 2 * at),
    );
  });

test('a batch that everybody gave up ends its request at the server', async (t) => {
  const closed = deferred<void>();
  const entered = deferred<void>();
  const server = await rawServer(t, ({ head, socket }) => {
    if (!head.includes('/infer')) return describe(head);
    socket.once('close', () => closed.resolve());
    entered.resolve();
    return undefined;
  });
  const pool = await tritonPool(t, server.url);
  const gone = new AbortController();
  const asked = pool.ask({ x: 1 }, { signal: gone.signal });
  await entered.promise;
  gone.abort();
  await t.throwsAsync(asked, { code: 'CANCELLED' });
  await closed.promise;
  t.pass();
});

/** Options -> why no replica loads. */
const UNFIT: readonly (readonly [string, Record<string, unknown>, RegExp])[] = [
  [
    'nobody listens',
    { endpoint: 'http://127.0.0.1:1' },
    /^Pool "double": http:\/\/127\.0\.0\.1:1\/.* cannot be reached: .*; start the server, correct options\.endpoint/,
  ],
  [
    'nobody that speaks gRPC',
    { endpoint: 'grpc://127.0.0.1:1' },
    /^Pool "double": grpc:\/\/127\.0\.0\.1:1\/.* cannot be reached: .*; start the server, correct options\.endpoint/,
  ],
  ['JSON over gRPC', { endpoint: 'grpc://127.0.0.1:1', tensors: 'json' }, /tensors must be auto or binary over gRPC/],
  [
    'a signature that is none',
    { signature: { inputs: [], outputs: [] } },
    /^Pool "double": The signature of its options has no inputs; correct options\.signature/,
  ],
  ['no endpoint', { endpoint: undefined }, /endpoint must be an http or https URL/],
  ['an endpoint that is a file', { endpoint: 'file:///etc/passwd' }, /endpoint must be an http or https URL/],
  ['a private address', { endpoint: 'http://10.0.0.1:8000' }, /10\.0\.0\.1 is a private address .*allow/],
  [
    'a mistyped option',
    { endpoint: 'http://127.0.0.1:1', modle: 'a' },
    /has no option "modle"; it has endpoint, model/,
  ],
  ['a negative wait', { endpoint: 'http://127.0.0.1:1', waitMs: -1 }, /waitMs must be a number of milliseconds/],
  ['a model name that is none', { endpoint: 'http://127.0.0.1:1', model: '../x' }, /The model must be 1 to 128/],
];

for (const [what, options, message] of UNFIT)
  test(`a pool does not start where there is ${what}, and says what to do`, async (t) => {
    const error = await t.throwsAsync(tritonPool(t, 'http://127.0.0.1:1', { options }));
    t.true(isTroupeError(error));
    t.regex(error?.message ?? '', message);
    t.regex(error?.message ?? '', /double/);
  });

for (const way of WAYS)
  test(`a model that is not at the server is named, over ${way}`, async (t) => {
    const behind = await served(t);
    await behind.system.spawn('other', { actor: doubler });
    const error = await t.throwsAsync(tritonPool(t, urlOf(behind, way)), { code: 'MODEL_NOT_FOUND' });
    t.regex(error?.message ?? '', /^Pool "double": Model "double" at .* is not there; .*options\.model/);
  });

for (const way of WAYS)
  test(`texts and shapes that vary go through, and what does not fit fails alone, over ${way}`, async (t) => {
    const behind = await served(t);
    const actor = defineActor({
      signature: {
        inputs: [{ name: 'words', dtype: 'string', shape: [-1] }],
        outputs: [{ name: 'count', dtype: 'int64', shape: [] }],
      },
      predict: ({ count, columns }: Columns) => {
        const each = (columns['words']?.shape[0] ?? 0) as number;
        return {
          count,
          columns: {
            count: {
              dtype: 'int64' as const,
              shape: [],
              data: new BigInt64Array(count).fill(2n ** 60n + BigInt(each)),
            },
          },
        };
      },
    });
    await behind.system.spawn('double', { actor });
    const pool = await tritonPool(t, urlOf(behind, way));
    const outcomes = await pool.askMany([{ words: ['a', 'ü'] }, { words: ['b'] }, { words: 7 }, { words: ['', 'c'] }]);
    t.deepEqual(
      outcomes.map((outcome) => (outcome.ok ? outcome.value['count'] : outcome.error.code)),
      [2n ** 60n + 2n, 2n ** 60n + 1n, 'INPUT_INVALID', 2n ** 60n + 2n],
    );
  });

/** A model with one number in and one out, which takes bytes and answers JSON. */
function describe(head: string): Buffer {
  const tensor = { datatype: 'FP32', shape: [-1] };
  const model = { inputs: [{ name: 'x', ...tensor }], outputs: [{ name: 'y', ...tensor }] };
  return reply(200, head.includes('/ready') ? '' : JSON.stringify({ extensions: ['binary_tensor_data'], ...model }));
}

function floatsOf(head: string, body: Buffer): number[] {
  const bytes = new Uint8Array(body.subarray(Number(/header-content-length: (\d+)/i.exec(head)?.[1])));
  return Array.from(new Float32Array(bytes.buffer));
}

test('requests are never larger than the model takes at once, whatever the batches of the pool are', async (t) => {
  const behind = await served(t);
  await behind.system.spawn('double', { actor: doubler, batching: { maxSize: 4, adaptive: false } });
  for (const way of WAYS) {
    const pool = await tritonPool(t, urlOf(behind, way), { batching: { maxSize: 64, adaptive: false } });
    const outcomes = await pool.askMany(Array.from({ length: 64 }, (_, at) => x(at, 0)));
    t.deepEqual(
      outcomes.map((outcome) => outcome.ok && y(outcome.value)[0]),
      Array.from({ length: 64 }, (_, at) => 2 * at),
    );
    const { requests } = (await pool.call('counts')) as { requests: number };
    t.true(requests >= 16, `${requests} requests for 64 records, four at most in each`);
  }
});
