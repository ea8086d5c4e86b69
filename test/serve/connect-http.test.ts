import test, { type ExecutionContext } from 'ava';
import {
  connect,
  type Connection,
  type ConnectOptions,
  fromIterable,
  stream,
  type TensorRecord,
  toArray,
} from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import { doubler, doublerAfter, heldDoubler, stand } from './oip-stand.js';
import { rawServer, reply } from './raw-server.js';

/** `connect` to a server of the Open Inference Protocol over HTTP and gRPC. */

function connected(t: ExecutionContext, url: string, options: ConnectOptions = {}): Connection {
  const connection = connect(url, options);
  t.teardown(() => connection.close());
  return connection;
}

const x = (...values: number[]): TensorRecord => ({ x: Float32Array.from(values) });
const first = (record: TensorRecord): number => (record['y'] as Float32Array)[0] as number;

for (const [index, way] of ['http', 'grpc'].entries())
  test(`a pool behind ${way} is asked, asked in bulk and used by a stream as one of this process`, async (t) => {
    const { system, serving } = await stand(t, { grpc: { port: 0 } });
    await system.spawn('double', { actor: doubler });
    const pool = connected(t, serving.addresses[index]?.url as string).pool<TensorRecord, TensorRecord>('double');
    t.is(first(await pool.ask(x(21, 0))), 42);
    const outcomes = await pool.askMany([x(1, 1), { x: 'no' }, x(2, 2)]);
    t.deepEqual(
      outcomes.map((outcome) => (outcome.ok ? first(outcome.value) : outcome.error.code)),
      [2, 'INPUT_INVALID', 4],
    );
    const sink = toArray<number>();
    const report = await stream(fromIterable(Array.from({ length: 1000 }, (_, at) => at)))
      .infer(pool, { input: (at) => x(at, 0), output: (_at, result) => first(result) })
      .to(sink);
    t.like(report, { results: 1000, failed: 0 });
    t.deepEqual(
      sink.values,
      Array.from({ length: 1000 }, (_, at) => 2 * at),
    );
    t.deepEqual(await pool.health(), { ready: true });
    const { accepted, results, errors } = await pool.stats();
    t.deepEqual([accepted, results, errors], [1004, 1003, { INPUT_INVALID: 1 }]);
  });

test('a name gives one pool, and whether there is one shows when it is asked', async (t) => {
  const { system, serving } = await stand(t);
  const connection = connected(t, serving.addresses[0]?.url as string);
  const pool = connection.pool<TensorRecord, TensorRecord>('double');
  t.is(connection.pool('double'), pool as never);
  await t.throwsAsync(pool.ask(x(1, 1)), { code: 'POOL_NOT_FOUND' });
  const report = await stream(fromIterable([1, 2, 3]))
    .infer(pool, { input: (at) => x(at, 0) })
    .to(toArray());
  t.like(report, { results: 0, failed: 3 });
  // From when it is there, it answers, with no other call.
  await system.spawn('double', { actor: doubler });
  t.is(first(await pool.ask(x(4, 0))), 8);
  t.throws(() => connection.pool('../x'), { code: 'NAME_INVALID' });
  await t.throwsAsync(pool.call('labels'), { code: 'METHOD_NOT_FOUND' });
});

for (const way of ['http', 'grpc'])
  test(`a connection over ${way} is there before its server, and outlives it: records wait, and none is lost`, async (t) => {
    const port = await freePort(t);
    const pool = connected(t, `${way}://127.0.0.1:${port}`).pool<TensorRecord, TensorRecord>('double');
    const early = pool.ask(x(5, 0), { timeoutMs: 120_000 });
    const one = await stand(t, way === 'grpc' ? { grpc: { port } } : { port });
    await one.system.spawn('double', { actor: doubler });
    t.is(first(await early), 10);
    await one.system.stop({ timeoutMs: 0 });
    const waiting = Array.from({ length: 50 }, (_, at) => pool.ask(x(at, 0), { timeoutMs: 120_000 }));
    const two = await stand(t, way === 'grpc' ? { grpc: { port } } : { port });
    await two.system.spawn('double', { actor: doubler });
    t.deepEqual(
      (await Promise.all(waiting)).map(first),
      Array.from({ length: 50 }, (_, at) => 2 * at),
    );
  });

test('errors are those of a pool here: the deadline, the caller, a wrong token', async (t) => {
  const { actor, entered, letGo } = heldDoubler();
  t.teardown(letGo);
  const token = 'a token of many characters'.replaceAll(' ', '-');
  const { system, serving } = await stand(t, { tokens: { infer: [token] } });
  await system.spawn('double', { actor });
  const url = serving.addresses[0]?.url as string;
  await t.throwsAsync(connected(t, url, { token: 'another' }).pool('double').ask(x(1, 1)), { code: 'REMOTE_REFUSED' });
  const pool = connected(t, url, { token }).pool<TensorRecord, TensorRecord>('double');
  const gone = new AbortController();
  const asked = pool.ask(x(1, 1), { signal: gone.signal });
  await entered;
  gone.abort();
  await t.throwsAsync(asked, { code: 'CANCELLED' });
  await t.throwsAsync(pool.ask(x(1, 1), { timeoutMs: 50 }), { code: 'DEADLINE_PASSED' });
  letGo();
  t.is(first(await pool.ask(x(2, 0))), 4);
});

test('a record that the remote model throws at fails alone', async (t) => {
  const { system, serving } = await stand(t);
  const actor = doublerAfter((xs) => {
    if (xs.includes(13)) throw new Error('thirteen');
  });
  await system.spawn('double', { actor });
  const pool = connected(t, serving.addresses[0]?.url as string).pool<TensorRecord, TensorRecord>('double');
  const outcomes = await pool.askMany(Array.from({ length: 30 }, (_, at) => x(at, 0)));
  t.deepEqual(
    outcomes.map((outcome, at) => (outcome.ok ? first(outcome.value) === 2 * at : outcome.error.code)),
    Array.from({ length: 30 }, (_, at) => (at === 13 ? 'REMOTE_FAILED' : true)),
  );
});

test('replicas that load together ask the server once what its model is', async (t) => {
  const paths: string[] = [];
  const server = await rawServer(t, ({ head }) => {
    paths.push(head.split(' ')[1] ?? '');
    const tensor = { name: 'x', datatype: 'FP32', shape: [-1] };
    if (!head.includes('/infer'))
      return reply(200, JSON.stringify({ extensions: [], inputs: [tensor], outputs: [tensor] }));
    return reply(200, JSON.stringify({ outputs: [{ ...tensor, shape: [1], data: [7] }] }));
  });
  const pool = connected(t, server.url).pool<TensorRecord, TensorRecord>('m');
  t.deepEqual({ ...(await pool.ask({ x: 1 })) }, { x: 7 });
  t.deepEqual(
    paths.filter((path) => !path.endsWith('/infer')),
    ['/v2/models/m/ready', '/v2', '/v2/models/m'],
  );
});

test('a closed connection ends what is under way, and refuses what comes', async (t) => {
  const { actor, entered, letGo } = heldDoubler();
  t.teardown(letGo);
  const { system, serving } = await stand(t);
  await system.spawn('double', { actor });
  const connection = connect(serving.addresses[0]?.url as string);
  const pool = connection.pool<TensorRecord, TensorRecord>('double');
  const asked = pool.ask(x(1, 1));
  await entered;
  const ended = t.throwsAsync(asked, { code: 'POOL_STOPPED' });
  await connection.close();
  await ended;
  await t.throwsAsync(pool.ask(x(1, 1)), { code: 'POOL_STOPPED' });
  const settled = deferred<string>();
  const ticket = pool.offer({
    input: x(1, 1),
    sender: pool.openSender('late'),
    priority: 0,
    deadlineAt: Infinity,
    settled: (outcome) => settled.resolve(outcome.ok ? 'a result' : outcome.error.code),
  });
  t.truthy(ticket);
  t.is(await settled.promise, 'POOL_STOPPED');
  t.deepEqual((await pool.health()).ready, false);
  await connection.close();
  letGo();
});

test('wrong addresses and options are refused at once, and addresses that may not be asked when they are', async (t) => {
  for (const address of [
    'http://user:pw@127.0.0.1',
    'http://0x7f.1',
    'http:\\\\127.0.0.1',
    'ftp://127.0.0.1',
    'nothing',
  ])
    t.throws(() => connect(address), { instanceOf: TypeError }, address);
  for (const options of [{ timeoutMs: -1 }, { timeout: 1 }, { heartbeatMs: 100 }, { allow: 'all' }])
    t.throws(() => connect('http://127.0.0.1:1', options as never), { instanceOf: TypeError });
  const pool = connected(t, 'http://10.0.0.1:8000').pool('double');
  await t.throwsAsync(pool.ask(x(1, 1)), { code: 'REMOTE_REFUSED', message: /private address/ });
});

async function freePort(t: ExecutionContext): Promise<number> {
  const { system, serving } = await stand(t);
  const { port } = new URL(serving.addresses[0]?.url as string);
  await system.stop({ timeoutMs: 0 });
  return Number(port);
}
