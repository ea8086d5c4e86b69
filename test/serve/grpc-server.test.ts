import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import test from 'ava';
import { createSystem, silentLog } from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import { clientOf, firstOutput, floats, grpcStand, type Message, rows, status } from './grpc-stand.js';
import { doubler, doublerAfter, heldDoubler, pairs } from './oip-stand.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('the server, its models and their health are told over gRPC as over HTTP', async (t) => {
  const { system, ask, get, post, health } = await grpcStand(t);
  await system.spawn('double', { actor: doubler, batching: { maxSize: 16 } });
  t.deepEqual(await ask('ServerLive'), { live: true });
  t.deepEqual(await ask('ServerReady'), { ready: true });
  t.deepEqual(await ask('ServerMetadata'), (await get('/v2')).json);
  t.deepEqual(await ask('ModelReady', { name: 'double' }), { ready: true });
  t.deepEqual(await ask('ModelReady', { name: 'none' }), { ready: false });
  t.deepEqual(await ask('ModelReady', { name: 'double', version: '7' }), { ready: false });
  const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value), (_, part) => numeric(part));
  t.deepEqual(plain(await ask('ModelMetadata', { name: 'double' })), plain((await get('/v2/models/double')).json));
  const { config } = await ask('ModelConfig', { name: 'double', version: 'latest' });
  const { scheduling_choice, version_policy, ...same } = config;
  const { version_policy: _, ...told } = (await get('/v2/models/double/config')).json;
  t.deepEqual(plain(same), told);
  t.is(scheduling_choice, 'dynamic_batching');
  t.is(version_policy.latest.num_versions, 1);
  await ask('ModelInfer', rows([1, 2]));
  for (const [name, path] of [
    ['double', '/v2/models/double/stats'],
    ['', '/v2/models/stats'],
  ] as const) {
    const [own] = (await ask('ModelStatistics', { name })).model_stats;
    const [other] = (await get(path)).json.model_stats;
    t.deepEqual(plain(own.inference_stats), other.inference_stats);
    t.like(plain(own) as Message, { name: 'double', version: 1, inference_count: 1, execution_count: 1 });
  }
  const { models } = await ask('RepositoryIndex');
  const index = (await post('/v2/repository/index')).json;
  t.deepEqual(models, [{ ...index[0], reason: '' }]);
  t.deepEqual(await health(), { status: 'SERVING' });
  t.deepEqual(await health('inference.GRPCInferenceService'), { status: 'SERVING' });
  await t.throwsAsync(health('inference.Other'), { message: /no such service/ });
});

/** 64-bit fields are texts for the client of the test. */
function numeric(value: unknown): unknown {
  return typeof value === 'string' && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
}

test('a request of n rows is n records, answered raw, in order', async (t) => {
  const { system, ask } = await grpcStand(t);
  await system.spawn('double', { actor: doubler });
  const answer = await ask('ModelInfer', { ...rows([1, 2], [3, 4], [5, 6]), id: '42', outputs: [{ name: 'y' }] });
  t.deepEqual(answer, {
    model_name: 'double',
    model_version: '1',
    id: '42',
    parameters: {},
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['3', '2'], parameters: {}, contents: null }],
    raw_output_contents: [floats(2, 4, 6, 8, 10, 12)],
  });
  const typed = {
    model_name: 'double',
    inputs: [{ name: 'X', datatype: 'FP32', shape: [2], contents: { fp32_contents: [0.5, -1] } }],
  };
  const both = await ask('ModelInfer', typed);
  t.deepEqual(
    both['outputs'].map((output: Message) => [output['name'], output['datatype'], output['shape']]),
    [
      ['y', 'FP32', ['1', '2']],
      ['batch', 'INT64', ['1']],
    ],
  );
  t.deepEqual(firstOutput(both), [1, -2]);
  t.is(both['raw_output_contents'][1].readBigInt64LE(), 1n);
});

test('requests of gRPC, of HTTP and of ask share a batch', async (t) => {
  const { system, ask, post } = await grpcStand(t);
  const held = heldDoubler();
  const pool = await system.spawn<Message, Message>('double', { actor: held.actor as never, batching: { maxSize: 8 } });
  const first = ask('ModelInfer', rows([0, 0]));
  await held.entered; // The replica is busy: what comes now waits in the mailbox, and leaves it together.
  const overGrpc = ask('ModelInfer', rows([1, 1]));
  const overHttp = post('/v2/models/double/infer', pairs([2, 2]));
  const asked = pool.ask({ x: Float32Array.of(3, 3) });
  while (pool.stats().accepted < 4) await turn();
  held.letGo();
  t.is((await first)['raw_output_contents'][1].readBigInt64LE(), 1n);
  t.is((await overGrpc)['raw_output_contents'][1].readBigInt64LE(), 3n, 'a batch of three records');
  t.deepEqual((await overHttp).json.outputs[1].data, [3], 'the same batch');
  t.is((await asked)['batch'], 3n, 'the same batch');
});

test('errors have the codes that clients of Triton go by', async (t) => {
  const { system, refusal, ask } = await grpcStand(t);
  await system.spawn('double', { actor: doubler });
  await system.spawn('rows', { actor: 'mock', isolation: 'inline' });
  await system.spawn('broken', {
    actor: doublerAfter(() => {
      throw new Error('out of luck: 100 %, grüße');
    }),
  });
  const said = async (method: string, request: object, code: number, words: RegExp): Promise<void> => {
    const error = await refusal(method, request);
    t.is(error.code, code, `${method}: ${error.message}`);
    t.regex(error.details, words);
  };
  const { INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED, INTERNAL, PERMISSION_DENIED } = status;
  const input = { name: 'x', datatype: 'FP32', shape: [1, 2] };
  const raw = { model_name: 'double', raw_input_contents: [floats(1, 2)] };
  const bent = (more: object) => ({ ...raw, inputs: [{ ...input, ...more }] });
  await said('ModelInfer', { ...rows([1, 2]), model_name: 'none' }, NOT_FOUND, /no model "none"/);
  await said('ModelInfer', { ...rows([1, 2]), model_name: '__proto__' }, NOT_FOUND, /no model "__proto__"/);
  await said('ModelInfer', { ...rows([1, 2]), model_name: '../x' }, NOT_FOUND, /no model/);
  await said('ModelInfer', {}, NOT_FOUND, /no model ""/);
  await said('ModelInfer', { ...rows([1, 2]), model_version: '7' }, NOT_FOUND, /serves version 1, not 7/);
  await said('ModelMetadata', { name: 'none' }, NOT_FOUND, /no model/);
  await said('ModelInfer', { ...raw, inputs: [] }, INVALID_ARGUMENT, /raw_input_contents are 1, inputs 0/);
  await said('ModelInfer', { model_name: 'double' }, INVALID_ARGUMENT, /input "x" is missing/);
  await said('ModelInfer', bent({ name: 'z' }), INVALID_ARGUMENT, /no input "z"; the model has "x"/);
  await said('ModelInfer', bent({ name: '__proto__' }), INVALID_ARGUMENT, /no input "__proto__"/);
  await said('ModelInfer', bent({ name: '' }), INVALID_ARGUMENT, /name must be a string/);
  await said('ModelInfer', bent({ datatype: 'FP65' }), INVALID_ARGUMENT, /datatype must be one of/);
  await said('ModelInfer', bent({ datatype: 'constructor' }), INVALID_ARGUMENT, /datatype must be one of/);
  await said('ModelInfer', bent({ datatype: 'INT32' }), INVALID_ARGUMENT, /the model takes FP32, got INT32/);
  await said('ModelInfer', bent({ shape: [2, 2] }), INVALID_ARGUMENT, /takes 16 bytes, there are 8/);
  await said('ModelInfer', bent({ shape: [2, 1] }), INVALID_ARGUMENT, /shape must be \[-1, 2\]/);
  await said('ModelInfer', bent({ shape: [-1, 2] }), INVALID_ARGUMENT, /whole number from 0, got -1/);
  await said('ModelInfer', bent({ shape: ['9223372036854775807', 2] }), INVALID_ARGUMENT, /got 9223372036854775807/);
  await said('ModelInfer', bent({ shape: Array(17).fill(1) }), INVALID_ARGUMENT, /more than 16 dimensions/);
  await said('ModelInfer', bent({ contents: { fp32_contents: [1, 2] } }), INVALID_ARGUMENT, /do not go together/);
  const shared = { parameters: { shared_memory_region: { string_param: 'r' } } };
  await said('ModelInfer', bent(shared), INVALID_ARGUMENT, /shared memory is not served/);
  const typed = (more: object) => ({ model_name: 'double', inputs: [{ ...input, ...more }] });
  await said('ModelInfer', typed({}), INVALID_ARGUMENT, /takes 2 values, fp32_contents has 0/);
  await said('ModelInfer', typed({ contents: { fp32_contents: [1] } }), INVALID_ARGUMENT, /takes 2 values, .* has 1/);
  await said('ModelInfer', typed({ contents: { int_contents: [1, 2] } }), INVALID_ARGUMENT, /go into fp32_contents/);
  await said('ModelInfer', typed({ datatype: 'FP16' }), INVALID_ARGUMENT, /no typed contents/);
  await said('ModelInfer', { ...rows([1, 2]), outputs: [{ name: 'q' }] }, INVALID_ARGUMENT, /no output "q"/);
  const parameters = { timeout: { int64_param: -1 } };
  await said('ModelInfer', { ...rows([1, 2]), parameters }, INVALID_ARGUMENT, /timeout must be/);
  await said(
    'ModelInfer',
    { ...rows([1, 2]), parameters: { triton_x: { bool_param: true } } },
    INVALID_ARGUMENT,
    /reserved/,
  );
  await said('ModelInfer', { ...rows([1, 2]), model_name: 'rows' }, INVALID_ARGUMENT, /takes records and no tensors/);
  await said('ModelInfer', { ...rows([1, 2]), model_name: 'broken' }, INTERNAL, /out of luck: 100 %, grüße/);
  await said('RepositoryModelLoad', { model_name: 'double' }, PERMISSION_DENIED, /may not do that/);
  await said('RepositoryModelUnload', { model_name: 'double' }, PERMISSION_DENIED, /may not do that/);
  await said('RepositoryIndex', { repository_name: 'r' }, UNIMPLEMENTED, /no names/);
  for (const kind of ['System', 'Cuda']) {
    await said(`${kind}SharedMemoryRegister`, { name: 'r' }, UNIMPLEMENTED, /shared memory/);
    t.deepEqual(await ask(`${kind}SharedMemoryStatus`), {});
    t.deepEqual(await ask(`${kind}SharedMemoryUnregister`), {});
  }
  await said('TraceSetting', {}, UNIMPLEMENTED, /not served/);
  await said('LogSettings', {}, UNIMPLEMENTED, /not served/);
});

test('a full mailbox is UNAVAILABLE with retry-after, and what waits is not harmed', async (t) => {
  const { system, ask, refusal } = await grpcStand(t);
  const held = heldDoubler();
  const pool = await system.spawn('double', {
    actor: held.actor,
    mailbox: { capacity: 2 },
    batching: { maxSize: 1 },
  });
  const waiting = [ask('ModelInfer', rows([1, 1]))];
  await held.entered;
  waiting.push(ask('ModelInfer', rows([2, 2])), ask('ModelInfer', rows([3, 3])));
  while (pool.stats().mailbox.held < 2) await turn();
  const refused = await refusal('ModelInfer', rows([4, 4]));
  t.is(refused.code, status.UNAVAILABLE);
  t.is(refused.details, 'The mailbox of "double" is full');
  t.deepEqual(refused.metadata.get('retry-after'), ['1']);
  held.letGo();
  t.is((await Promise.all(waiting)).length, 3);
  t.regex(system.metrics(), /troupe_served_requests_total\{pool="double",outcome="unavailable"\} 1/);
});

test('a client that cancels, or whose deadline passes, takes its queued records with it', async (t) => {
  const { system, ask, send, refusal } = await grpcStand(t);
  const gate = deferred<void>();
  const entered = deferred<void>();
  const seen: number[] = [];
  const pool = await system.spawn('double', {
    actor: doublerAfter(async (xs) => {
      seen.push(...xs);
      entered.resolve();
      await gate.promise;
    }),
    batching: { maxSize: 1 },
  });
  const first = ask('ModelInfer', rows([1, 1]));
  await entered.promise;
  const cancelled = send('ModelInfer', rows([7, 7], [8, 8]));
  while (pool.stats().mailbox.held < 2) await turn();
  cancelled.call.cancel();
  t.is((await t.throwsAsync<Error & { code: number }>(cancelled.reply))?.code, status.CANCELLED);
  while (pool.stats().mailbox.held > 0) await turn();
  t.is(pool.stats().errors.CANCELLED, 2);
  const late = await refusal('ModelInfer', rows([9, 9]), { deadline: Date.now() + 50 });
  t.is(late.code, status.DEADLINE_EXCEEDED);
  while (pool.stats().mailbox.held > 0) await turn();
  const own = await refusal('ModelInfer', { ...rows([6, 6]), parameters: { timeout: { int64_param: 20_000 } } });
  t.is(own.code, status.UNAVAILABLE, 'late in the queue');
  gate.resolve();
  t.deepEqual(firstOutput(await first), [2, 2]);
  t.deepEqual(seen, [1, 1]);
  // Whether the deadline or the cancelling client is heard first is chance.
  const counted = (outcome: string): number =>
    Number(
      new RegExp(`served_requests_total\\{pool="double",outcome="${outcome}"\\} (\\d)`).exec(system.metrics())?.[1],
    );
  t.true(counted('gone') >= 1);
  t.is(counted('gone') + counted('late'), 2);
});

test('a deadline that passes while the model runs is DEADLINE_EXCEEDED', async (t) => {
  const { system, refusal } = await grpcStand(t);
  const held = heldDoubler();
  t.teardown(() => held.letGo());
  await system.spawn('double', { actor: held.actor });
  const refused = await refusal('ModelInfer', { ...rows([1, 1]), parameters: { timeout: { uint64_param: 100_000 } } });
  t.is(refused.code, status.DEADLINE_EXCEEDED);
});

test('tokens have scopes over gRPC as over HTTP, and health needs none', async (t) => {
  const tokens = { infer: ['infer-0123456789abcdef'], admin: ['admin-0123456789abcdef'] };
  const { system, ask, refusal, health } = await grpcStand(t, { tokens });
  await system.spawn('double', { actor: doubler });
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  t.deepEqual(await ask('ServerReady'), { ready: true });
  t.deepEqual(await health(), { status: 'SERVING' });
  const load = { model_name: 'double' };
  for (const more of [{}, bearer('wrong-0123456789abcdef'), { headers: { authorization: 'Basic x' } }]) {
    t.is((await refusal('ModelInfer', rows([1, 2]), more)).code, status.UNAUTHENTICATED);
    t.is((await refusal('RepositoryModelLoad', load, more)).code, status.UNAUTHENTICATED);
    t.is((await refusal('ServerMetadata', {}, more)).code, status.UNAUTHENTICATED);
  }
  t.deepEqual(firstOutput(await ask('ModelInfer', rows([1, 2]), bearer(tokens.infer[0] ?? ''))), [2, 4]);
  t.is((await refusal('RepositoryModelLoad', load, bearer(tokens.infer[0] ?? ''))).code, status.PERMISSION_DENIED);
  t.deepEqual(await ask('RepositoryModelLoad', load, bearer(tokens.admin[0] ?? '')), {});
  const uploaded = { ...load, parameters: { 'file:1/model.onnx': { bytes_param: Buffer.alloc(9) } } };
  t.is((await refusal('RepositoryModelLoad', uploaded, bearer(tokens.admin[0] ?? ''))).code, status.UNIMPLEMENTED);
  const admin = bearer(tokens.admin[0] ?? '');
  const one = await refusal('RepositoryModelUnload', load, admin);
  t.is(one.code, status.UNIMPLEMENTED, 'the one model of its pool');
  await system.spawn('many', { actor: doubler, models: { list: ['fr', 'de'], maxBytes: 1e6 } });
  await ask('RepositoryModelLoad', { model_name: 'fr' }, admin);
  t.deepEqual(await ask('RepositoryModelUnload', { model_name: 'fr' }, admin), {});
  t.is(system.registry.refusals()['serve']?.['token'], 9);
  t.is(system.registry.refusals()['serve']?.['scope'], 1);
});

test('beyond loopback gRPC alone is not served either without TLS and a token', async (t) => {
  const { system } = await grpcStand(t);
  const socket = '/nowhere/http.sock';
  await t.throwsAsync(system.serve({ socket, grpc: { port: 0 }, host: '0.0.0.0' }), { message: /token must be given/ });
  await t.throwsAsync(system.serve({ port: 0, grpc: { prot: 0 } as object }), { message: /unknown option "prot"/ });
  await t.throwsAsync(system.serve({ port: 0, grpc: { port: -1 } }), { message: /grpc\.port/ });
});

test('a call belongs to the span that its traceparent names, as a request of HTTP does', async (t) => {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  const system = createSystem({ log: silentLog, tracing: { tracer: provider.getTracer('test') } });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const serving = await system.serve({ port: 0, grpc: { port: 0 } });
  await system.spawn('double', { actor: doubler });
  const { ask, stream } = clientOf(t, `127.0.0.1:${serving.addresses[1]?.port}`);
  const headersOf = (digit: string) => ({
    headers: { traceparent: `00-${digit.repeat(32)}-${digit.repeat(16)}-01` },
  });
  /** The spans that the batch of the latest call is linked to. */
  const linked = async (batches: number): Promise<readonly (readonly [string, string])[] | undefined> => {
    while (exporter.getFinishedSpans().length < batches) await turn();
    return exporter
      .getFinishedSpans()
      .at(-1)
      ?.links.map(({ context }) => [context.traceId, context.spanId] as const);
  };
  await ask('ModelInfer', rows([1, 2]), headersOf('a'));
  t.deepEqual(await linked(1), [['a'.repeat(32), 'a'.repeat(16)]]);
  await ask('ModelInfer', rows([1, 2]));
  t.deepEqual(await linked(2), []);
  const call = stream(headersOf('c'));
  call.end(rows([1, 2]));
  for await (const message of call) t.is((message as Message)['error_message'], '');
  t.deepEqual(await linked(3), [['c'.repeat(32), 'c'.repeat(16)]]);
});
