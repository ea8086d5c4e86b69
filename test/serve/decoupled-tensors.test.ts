import test, { type ExecutionContext } from 'ava';
import { type Columns, createSystem, defineActor, silentLog, type TensorRecord } from 'troupe';
import { firstOutput, floats, grpcStand, type GrpcStand, type Message, status } from './grpc-stand.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Counts from x down: one answer for each number; some numbers stand for trouble. */
const counter = (seen: { left: number } = { left: 0 }) =>
  defineActor({
    signature: {
      inputs: [{ name: 'x', dtype: 'float32', shape: [1] }],
      outputs: [
        { name: 'y', dtype: 'float32', shape: [1] },
        { name: 'all', dtype: 'int64', shape: [-1] },
      ],
      decoupled: true,
    },
    predict: ({ columns }: Columns) =>
      Array.from(columns['x']?.data as Float32Array).map((x) => (x < 0 ? new Error('below zero') : down(x, seen))),
  });

async function* down(from: number, seen: { left: number }): AsyncGenerator<TensorRecord> {
  let isWhole = false;
  try {
    for (let n = from; n > 0; n--) {
      if (n === 13) throw new Error('thirteen');
      if (n === 14) yield { y: Float32Array.of(14) };
      else yield { y: Float32Array.of(n), all: BigInt64Array.from({ length: n }, () => 2n ** 60n) };
    }
    isWhole = true;
  } finally {
    if (!isWhole) seen.left++;
  }
}

async function counterStand(t: ExecutionContext): Promise<GrpcStand & { readonly seen: { left: number } }> {
  t.timeout(60_000);
  const at = await grpcStand(t);
  const seen = { left: 0 };
  await at.system.spawn('count', { actor: counter(seen), batching: { maxSize: 8 } });
  return { ...at, seen };
}

const asked = (x: number, more: Message = {}): Message => ({
  model_name: 'count',
  inputs: [{ name: 'x', datatype: 'FP32', shape: [1] }],
  raw_input_contents: [floats(x)],
  parameters: { triton_enable_empty_final_response: { bool_param: true } },
  ...more,
});

async function told(stream: AsyncIterable<Message>): Promise<(readonly unknown[])[]> {
  const all: (readonly unknown[])[] = [];
  for await (const { error_message: error, infer_response: got } of stream) {
    const value = error !== '' ? error : got.outputs.length === 0 ? 'end' : firstOutput(got)[0];
    all.push([got.id, value, got.parameters.triton_final_response.bool_param]);
  }
  return all;
}

test('a decoupled signature answers ask with a stream of records, which are held against its outputs', async (t) => {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const seen = { left: 0 };
  const pool = await system.spawn('count', { actor: counter(seen) });
  const got: unknown[] = [];
  for await (const { y, all } of await pool.ask({ x: Float32Array.of(3) })) got.push([y, all]);
  t.deepEqual(got[2], [Float32Array.of(1), BigInt64Array.of(2n ** 60n)]);
  t.is(got.length, 3);
  await t.throwsAsync(pool.ask({ x: Float32Array.of(-1) }), { message: /below zero/ });
  const odd = await pool.ask({ x: Float32Array.of(14) });
  const error = await t.throwsAsync(odd[Symbol.asyncIterator]().next(), { code: 'PROTOCOL_VIOLATION' });
  t.regex(error?.message ?? '', /output "all" is missing/);
  t.is(seen.left, 1, 'its generator was ended');
  const number = { name: 'x', dtype: 'float32', shape: [] } as const;
  const plain = await system.spawn('plain', {
    actor: defineActor({
      signature: { inputs: [number], outputs: [number], decoupled: true },
      predict: (batch: Columns) => [batch] as never,
    }),
  });
  await t.throwsAsync(plain.ask({ x: 1 }), { message: /must return an async iterable/ });
});

test('from a thread and a child process too', async (t) => {
  t.timeout(120_000);
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  for (const isolation of ['thread', 'process'] as const) {
    const pool = await system.spawn<TensorRecord, AsyncIterable<TensorRecord>>(`count-${isolation}`, {
      actor: new URL('decoupled-actor.js', import.meta.url).href,
      isolation,
    });
    const got: unknown[] = [];
    for await (const piece of await pool.ask({ x: Float32Array.of(2) })) got.push(piece);
    t.deepEqual(got, [{ y: Float32Array.of(2) }, { y: Float32Array.of(1) }]);
  }
});

test('a decoupled model answers a request of a stream any number of times, none among them', async (t) => {
  const { stream } = await counterStand(t);
  const call = stream();
  call.write(asked(2, { id: 'two' }));
  call.write(asked(0, { id: 'none' }));
  call.write(asked(-1, { id: 'bad' }));
  call.write(asked(13, { id: 'early' }));
  call.write(asked(1, { id: 'one', outputs: [{ name: 'Y' }], parameters: {} }));
  call.write(
    asked(1, {
      id: 'wide',
      inputs: [{ name: 'x', datatype: 'FP32', shape: [2, 1] }],
      raw_input_contents: [floats(1, 2)],
    }),
  );
  call.end();
  const all = await told(call);
  const of = (id: string): unknown => all.filter(([own]) => own === id).map(([, ...rest]) => rest);
  t.deepEqual(of('two'), [
    [2, false],
    [1, false],
    ['end', true],
  ]);
  t.deepEqual(of('none'), [['end', true]]);
  t.deepEqual(of('bad'), [['predict of actor "count" failed: below zero', true]]);
  t.deepEqual(of('early'), [['predict of actor "count" failed: thirteen', true]]);
  t.deepEqual(of('one'), [[1, false]]);
  t.deepEqual(of('wide'), [['input "x": shape begins with 2; at most 1 records a request', true]]);
});

test('outputs of a decoupled model come as classes too', async (t) => {
  const { stream } = await counterStand(t);
  const call = stream();
  call.write(asked(2, { outputs: [{ name: 'y', parameters: { classification: { int64_param: 1 } } }] }));
  call.end();
  const texts: unknown[] = [];
  for await (const { infer_response: got } of call as AsyncIterable<Message>)
    texts.push(
      got.outputs.map(({ shape }: Message) => shape),
      Buffer.from(got.raw_output_contents[0] ?? []).subarray(4),
    );
  t.deepEqual(texts.map(String), ['1', '2.000000:0', '1', '1.000000:0', '', '']);
});

test('one of many models is loaded when it is asked, by generate and by a stream', async (t) => {
  const { system, stream, post, get } = await counterStand(t);
  await system.spawn('many', { actor: counter(), models: { list: ['one', 'two', 'three'], maxBytes: 1e6 } });
  const call = stream();
  call.write(asked(2, { id: 'a', model_name: 'one' }));
  call.write(asked(1, { id: 'b', model_name: 'none' }));
  call.end();
  const all = await told(call);
  const of = (id: string): unknown => all.filter(([own]) => own === id).map(([, what]) => what);
  t.deepEqual(of('a'), [2, 1, 'end']);
  t.deepEqual(of('b'), ['There is no model "none" here']);
  t.like((await post('/v2/models/two/generate', { x: 1 })).json, { model_name: 'two', y: 1 });
  t.is((await post('/v2/models/three/infer', { inputs: [] })).status, 501);
  t.true((await get('/v2/models/two/config')).json.model_transaction_policy.decoupled);
});

test('generate_stream answers each, and generate where there is exactly one', async (t) => {
  const { post, seen } = await counterStand(t);
  const { status: code, text } = await post('/v2/models/count/generate_stream', { x: 2, id: 'a' });
  t.is(code, 200);
  const big = String(2n ** 60n);
  const head = '"id":"a","model_name":"count","model_version":"1"';
  t.is(
    text,
    `data: {${head},"y":2.0,"all":[${big},${big}]}\n\ndata: {${head},"y":1.0,"all":${big}}\n\n`.replaceAll('.0', ''),
  );
  const one = await post('/v2/models/count/generate', { x: [[1]] });
  t.is(one.text, `{"model_name":"count","model_version":"1","y":1,"all":${big}}`);
  const none = await post('/v2/models/count/generate_stream', { x: 0 });
  t.deepEqual([none.status, none.text], [200, '']);
  const wrong: readonly (readonly [number | number[], number, RegExp])[] = [
    [0, 501, /gave none; ask it by generate_stream/],
    [100, 501, /gave more than one/],
    [-1, 500, /below zero/],
    [13, 500, /thirteen/],
    [[1, 2], 400, /at most 1 records/],
  ];
  for (const [x, expected, words] of wrong) {
    const { status: got, json } = await post('/v2/models/count/generate', { x });
    t.is(got, expected);
    t.regex(json.error, words);
  }
  // That of the error, and the one that would have given more.
  while (seen.left < 2) await turn();
  t.is(seen.left, 2);
});

test('a decoupled model is told as one, and one answer is refused', async (t) => {
  const { get, ask, refusal, post } = await counterStand(t);
  const { inputs, outputs } = (await get('/v2/models/count')).json;
  t.deepEqual([inputs[0].shape, outputs[1].shape], [[1], [-1]]);
  const { config } = await ask('ModelConfig', { name: 'count' });
  t.true(config.model_transaction_policy.decoupled);
  t.is((await refusal('ModelInfer', asked(1))).code, status.UNIMPLEMENTED);
  const body = { inputs: [{ name: 'x', datatype: 'FP32', shape: [1], data: [1] }] };
  t.is((await post('/v2/models/count/infer', body)).status, 501);
});
