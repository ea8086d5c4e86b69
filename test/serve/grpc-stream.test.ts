import { once } from 'node:events';
import { connect, type IncomingHttpHeaders } from 'node:http2';
import test from 'ava';
import type { ServiceError } from '@grpc/grpc-js';
import { defineActor } from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import { codecOf, firstOutput, grpcStand, type Message, rows, status } from './grpc-stand.js';
import { doubler, heldDoubler } from './oip-stand.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Everything that comes until the end, which is the status. */
async function heard(
  stream: AsyncIterable<Message>,
): Promise<{ readonly told: Message[]; readonly error?: ServiceError }> {
  const told: Message[] = [];
  try {
    for await (const message of stream) told.push(message);
  } catch (error) {
    return { told, error: error as ServiceError };
  }
  return { told };
}

test('a stream answers its requests in their order, and each answer says that it is the last of its own', async (t) => {
  const { system, stream } = await grpcStand(t);
  await system.spawn('double', { actor: doubler, batching: { maxSize: 8 } });
  const call = stream();
  for (let index = 0; index < 200; index++) call.write({ ...rows([index, 0]), id: `r${index}` });
  call.end();
  const { told, error } = await heard(call);
  t.is(error, undefined);
  t.deepEqual(
    told.map(({ error_message: message, infer_response: got }) => [message, got.id, firstOutput(got)[0]]),
    Array.from({ length: 200 }, (_, index) => ['', `r${index}`, 2 * index]),
  );
  t.true(told.every(({ infer_response: got }) => got.parameters.triton_final_response.bool_param === true));
});

test('a request that fails is told so with its id, and the stream goes on', async (t) => {
  const { system, stream } = await grpcStand(t);
  await system.spawn('double', { actor: doubler });
  const call = stream();
  const parameters = { triton_enable_empty_final_response: { bool_param: true } };
  call.write({ ...rows([1, 1]), parameters });
  call.write({ ...rows([1, 1]), model_name: 'none', id: 'a' });
  call.write({ ...rows([1, 1]), raw_input_contents: [Buffer.alloc(3)], id: 'b' });
  call.write(rows([4, 4]));
  call.end();
  const { told, error } = await heard(call);
  t.is(error, undefined);
  t.deepEqual(
    told.map(({ error_message: message, infer_response: got }) => [message.slice(0, 22), got?.model_name, got?.id]),
    [
      ['', 'double', ''],
      ['There is no model "non', 'none', 'a'],
      ['input "x": shape [1, 2', 'double', 'b'],
      ['', 'double', ''],
    ],
  );
});

test('with triton_grpc_error a request that fails ends the stream with its code', async (t) => {
  const { system, stream } = await grpcStand(t);
  await system.spawn('double', { actor: doubler });
  const call = stream({ headers: { triton_grpc_error: 'true' } });
  call.write(rows([1, 1]));
  call.write({ ...rows([1, 1]), model_name: 'none' });
  const { told, error } = await heard(call);
  t.is(told.length, 1);
  t.is(error?.code, status.NOT_FOUND);
});

test('a stream takes so many requests at a time, and what waits behind them is not read', async (t) => {
  const { system, stream } = await grpcStand(t);
  const held = heldDoubler();
  const pool = await system.spawn('double', { actor: held.actor, batching: { maxSize: 1 } });
  const call = stream();
  for (let index = 0; index < 300; index++) call.write(rows([index, 0]));
  call.end();
  await held.entered;
  while (pool.stats().accepted < 64) await turn();
  for (let index = 0; index < 200; index++) await turn();
  t.is(pool.stats().accepted, 64);
  held.letGo();
  const { told } = await heard(call);
  t.is(told.length, 300);
  t.true(told.every(({ infer_response: got }, index) => firstOutput(got)[0] === 2 * index));
});

test('a client that leaves a stream takes its queued records with it', async (t) => {
  const { system, stream } = await grpcStand(t);
  const held = heldDoubler();
  const pool = await system.spawn('double', { actor: held.actor, batching: { maxSize: 1 } });
  const call = stream();
  call.on('error', () => undefined);
  for (let index = 0; index < 5; index++) call.write(rows([index, 0]));
  await held.entered;
  while (pool.stats().accepted < 5) await turn();
  call.cancel();
  while (pool.stats().mailbox.held > 0) await turn();
  // The one that runs is given up too: its client is gone.
  t.is(pool.stats().errors.CANCELLED, 5);
  held.letGo();
});

test('a stop answers what is under way, ends streams, and tells those who watch', async (t) => {
  const { system, stream, ask, watch, refusal } = await grpcStand(t);
  const held = heldDoubler();
  const pool = await system.spawn('double', { actor: held.actor });
  const watched = watch();
  const [first] = (await once(watched, 'data')) as [Message];
  t.deepEqual(first, { status: 'SERVING' });
  const rest = heard(watched);
  const call = stream();
  const streamed = heard(call);
  call.write(rows([3, 3]));
  const unary = ask('ModelInfer', rows([1, 1]));
  while (pool.stats().accepted < 2) await turn();
  const stopped = system.stop();
  const ended = await rest;
  t.deepEqual(ended.told, [{ status: 'NOT_SERVING' }]);
  t.is(ended.error?.code, status.UNAVAILABLE);
  held.letGo();
  t.deepEqual(firstOutput(await unary), [2, 2]);
  const { told, error } = await streamed;
  t.deepEqual(
    told.map(({ infer_response: got }) => firstOutput(got)),
    [[6, 6]],
  );
  t.is(error?.code, status.UNAVAILABLE);
  await stopped;
  t.is((await refusal('ServerLive')).code, status.UNAVAILABLE);
});

test('who watches is told when readiness changes, and of an unknown service that it is unknown', async (t) => {
  t.timeout(60_000);
  const { system, watch } = await grpcStand(t);
  const watched = watch('inference.GRPCInferenceService');
  t.teardown(() => watched.cancel());
  watched.on('error', () => undefined);
  t.deepEqual(await once(watched, 'data'), [{ status: 'SERVING' }]);
  const unknown = watch('other');
  unknown.on('error', () => undefined);
  t.deepEqual(await once(unknown, 'data'), [{ status: 'SERVICE_UNKNOWN' }]);
  unknown.cancel();
  const gate = deferred<void>();
  const spawned = system.spawn('slow', { actor: defineActor({ load: () => gate.promise, predict: (batch) => batch }) });
  t.deepEqual(await once(watched, 'data'), [{ status: 'NOT_SERVING' }]);
  const again = once(watched, 'data');
  gate.resolve();
  t.deepEqual(await again, [{ status: 'SERVING' }]);
  await spawned;
});

test('a request that cannot be unpacked is told so, and the stream goes on', async (t) => {
  const { system, target } = await grpcStand(t);
  await system.spawn('double', { actor: doubler });
  const { write, read } = codecOf('ModelStreamInfer');
  const session = connect(`http://${target}`);
  t.teardown(() => session.destroy());
  const path = '/inference.GRPCInferenceService/ModelStreamInfer';
  const headers = { 'content-type': 'application/grpc', 'grpc-encoding': 'gzip' };
  const stream = session.request({ ':path': path, ':method': 'POST', ...headers });
  const framed = (bytes: Buffer, flag: number): Buffer =>
    Buffer.concat([Buffer.from([flag, 0, 0, 0, bytes.length]), bytes]);
  stream.end(Buffer.concat([framed(Buffer.from('odd'), 1), framed(write(rows([1, 2])), 0)]));
  const parts: Buffer[] = [];
  stream.on('data', (part: Buffer) => parts.push(part));
  const [trailers] = (await once(stream, 'trailers')) as [IncomingHttpHeaders];
  t.is(Number(trailers['grpc-status']), status.OK);
  const bytes = Buffer.concat(parts);
  const length = bytes.readUInt32BE(1);
  t.is(read(bytes.subarray(5, 5 + length))['error_message'], 'the body is not gzip');
  t.deepEqual(firstOutput(read(bytes.subarray(10 + length))['infer_response'] as Message), [2, 4]);
});
