import path from 'node:path';
import test from 'ava';
import {
  connect,
  createSystem,
  defineActor,
  fromIterable,
  isTroupeError,
  type Outcome,
  silentLog,
  stream,
  toArray,
  type TroupeError,
} from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import type { RemotePool } from '../../src/serve/remote-pool.js';
import { folder, laneStand } from './lane-stand.js';

/** Remote pools as a client meets them, against a real server at a real socket. */

const echo = defineActor({
  predict: (batch: readonly unknown[]) =>
    batch.map((value) => (value === 'bad' ? new RangeError('too far', { cause: new Error('deep') }) : value)),
  methods: {
    labels: () => ['a', 'b'],
    fail: () => {
      throw new Error('no');
    },
  },
});

test('a remote pool answers as the local one: values, arrays, objects', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  await system.spawn('echo', { actor: echo });
  const pool = dial().pool('echo');
  for (const value of [
    1,
    'text',
    { a: [1, { b: null }], d: new Date(5) },
    new Float32Array([1, 2, 3]),
    new Uint8Array(200_000).fill(7),
    12n,
  ])
    t.deepEqual(await pool.ask(value), value);
  const many = Array.from({ length: 5000 }, (_, index) => new Float32Array([index, index + 0.5]));
  const outcomes = await pool.askMany(many);
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? [...(outcome.value as Float32Array)] : outcome.error)),
    many.map((one) => [...one]),
  );
});

test('errors arrive with code, ran, retryable and cause', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  const local = await system.spawn('echo', { actor: echo });
  const pool = dial().pool('echo');
  const [near, far] = await Promise.all([
    local.ask('bad').catch((error: unknown) => error),
    pool.ask('bad').catch((error: unknown) => error),
  ]);
  t.true(isTroupeError(near) && isTroupeError(far));
  const facts = ({ code, ran, retryable, message, actor, cause }: TroupeError) => ({
    code,
    ran,
    retryable,
    message,
    actor,
    cause: (cause as Error).message,
    name: (cause as Error).name,
    deep: ((cause as Error).cause as Error).message,
  });
  t.deepEqual(facts(far as TroupeError), facts(near as TroupeError));
  t.is((far as TroupeError).code, 'PREDICT_FAILED');
  const outcomes = await pool.askMany(['a', 'bad', 'b']);
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? outcome.value : outcome.error.code)),
    ['a', 'PREDICT_FAILED', 'b'],
  );
  await t.throwsAsync(
    pool.ask(() => 1),
    { code: 'INPUT_INVALID' },
  );
  const mixed = await pool.askMany([1, () => 1, 3]);
  t.deepEqual(
    mixed.map((outcome) => (outcome.ok ? outcome.value : outcome.error.code)),
    [1, 'INPUT_INVALID', 3],
  );
});

test('methods are called and health is asked for; what is not there is said so', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  await system.spawn('echo', { actor: echo });
  const connection = dial();
  const pool = connection.pool('echo');
  t.deepEqual(await pool.call('labels'), ['a', 'b']);
  await t.throwsAsync(pool.call('fail'), { code: 'METHOD_FAILED' });
  await t.throwsAsync(pool.call('nothing'), { code: 'METHOD_NOT_FOUND' });
  t.deepEqual(await pool.health(), { ready: true });
  const other = connection.pool('other');
  await t.throwsAsync(other.ask(1), { code: 'POOL_NOT_FOUND', message: /there are: echo/ });
  await t.throwsAsync(other.call('labels'), { code: 'POOL_NOT_FOUND' });
  await system.spawn('other', { actor: echo });
  t.is(await other.ask(2), 2);
  t.is(connection.pool('echo'), pool);
});

/** An actor whose batches wait until they are let go. */
function held() {
  const gate = deferred<void>();
  const entered = deferred<void>();
  const sizes: number[] = [];
  const actor = defineActor({
    predict: async (batch: readonly number[]) => {
      sizes.push(batch.length);
      entered.resolve();
      await gate.promise;
      return batch;
    },
  });
  return { actor, sizes, entered: entered.promise, letGo: () => gate.resolve() };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('records of several clients and of the process itself share one batch', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  const { actor, sizes, entered, letGo } = held();
  const local = await system.spawn('held', { actor });
  const pools = [dial().pool<number, number>('held'), dial().pool<number, number>('held')];
  const first = local.ask(0);
  await entered;
  const rest = [...pools.map((pool, index) => pool.ask(index + 1)), local.ask(3)];
  while (local.stats().mailbox.held < 3) await turn();
  letGo();
  t.deepEqual(await Promise.all([first, ...rest]), [0, 1, 2, 3]);
  t.deepEqual(sizes, [1, 3]);
});

test('a full mailbox stops the client: its offers find no room until there is some', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  const { actor, entered, letGo } = held();
  const local = await system.spawn('held', { actor, mailbox: { capacity: 8 }, batching: { maxSize: 4 } });
  const pool = dial().pool<number, number>('held');
  await pool.health();
  const sender = pool.openSender('test');
  const outcomes: Outcome<number>[] = [];
  let offered = 0;
  const offer = () =>
    pool.offer({
      input: offered,
      sender,
      priority: 0,
      deadlineAt: Infinity,
      settled: (outcome) => void outcomes.push(outcome),
    });
  for (let quiet = 0; quiet < 50; quiet++) {
    while (offer() !== undefined) {
      offered++;
      quiet = 0;
    }
    await turn();
  }
  await entered;
  const { held: heldThere } = local.stats();
  t.is(heldThere, 8 + 4);
  t.true(offered >= heldThere && offered <= 1024 + 12, `${offered} taken in`);
  const room = new Promise<void>((resolve) => pool.onRoom(sender, resolve));
  letGo();
  await room;
  t.truthy(offer());
  offered++;
  while (outcomes.length < offered) await turn();
  t.true(outcomes.every((outcome) => outcome.ok));
});

test('an ask that meets a full mailbox is treated by the overflow rule of the pool', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  const { actor, entered, letGo } = held();
  await system.spawn('held', { actor, mailbox: { capacity: 2, overflow: 'reject' }, batching: { maxSize: 1 } });
  const pool = dial().pool<number, number>('held');
  const first = pool.ask(0);
  await entered;
  const more = [1, 2, 3, 4].map((n) => pool.ask(n).catch((error: TroupeError) => error.code));
  const early = await Promise.all([more[2], more[3]]);
  t.deepEqual(early, ['MAILBOX_FULL', 'MAILBOX_FULL']);
  letGo();
  t.deepEqual(await Promise.all([first, more[0], more[1]]), [0, 1, 2]);
});

test('a signal, a deadline and the end of a client take their records out of the mailbox', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  const { actor, entered, letGo } = held();
  const local = await system.spawn('held', { actor, batching: { maxSize: 1 } });
  const connection = dial();
  const pool = connection.pool<number, number>('held');
  const first = pool.ask(0);
  await entered;
  const abort = new AbortController();
  const given = pool.ask(1, { signal: abort.signal });
  const late = t.throwsAsync(pool.ask(2, { timeoutMs: 40 }), { code: 'DEADLINE_PASSED' });
  const other = dial();
  const lost = t.throwsAsync(other.pool<number, number>('held').ask(3), { code: 'POOL_STOPPED' });
  while (local.stats().accepted < 4) await turn();
  abort.abort(new Error('enough'));
  const error = await t.throwsAsync<TroupeError>(given, { code: 'CANCELLED' });
  t.is((error.cause as Error).message, 'enough');
  await late;
  await other.close();
  await lost;
  while (local.stats().mailbox.held > 0) await turn();
  letGo();
  t.is(await first, 0);
  t.is(local.stats().results, 1);
});

test('large records and large outcomes go through windows that are much smaller than all of them', async (t) => {
  const { system, connect: dial } = await laneStand(t, { maxBodyBytes: 1_000_000, capacityBytes: 65_536 });
  await system.spawn('echo', { actor: echo, batching: { maxSize: 4 } });
  const pool = dial().pool<Uint8Array, Uint8Array>('echo');
  const inputs = Array.from({ length: 60 }, (_, index) => new Uint8Array(index % 2 === 0 ? 300_000 : 500).fill(index));
  const outcomes = await pool.askMany([...inputs, new Uint8Array(2_000_000)]);
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? [outcome.value.length, outcome.value[7]] : outcome.error.code)),
    [...inputs.map((input) => [input.length, input[7]]), 'RECORD_TOO_LARGE'],
  );
});

test('a pipeline cannot tell a remote pool from a local one', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  await system.spawn('echo', { actor: echo, batching: { maxSize: 16 } });
  const pool = dial().pool<unknown, unknown>('echo');
  const inputs = Array.from({ length: 3000 }, (_, index) => (index % 100 === 7 ? 'bad' : index));
  const sink = toArray();
  const dead = toArray();
  const report = await stream(fromIterable(inputs)).infer(pool, { order: 'ordered' }).to(sink, { deadLetters: dead });
  t.deepEqual(
    sink.values,
    inputs.filter((one) => one !== 'bad'),
  );
  t.is(report.deadLetters, 30);
  t.is(dead.values.length, 30);
});

test('a token is asked for where the server has some, and a stopped server refuses nobody for good', async (t) => {
  const token = 'secret-of-this-lane';
  const { system, connect: dial } = await laneStand(t, { tokens: { infer: [token] } });
  await system.spawn('echo', { actor: echo });
  await t.throwsAsync(dial().pool('echo').ask(1), { code: 'SERVER_REFUSED', message: /token/ });
  await t.throwsAsync(dial({ token: 'another-of-that-length' }).pool('echo').ask(1), { code: 'SERVER_REFUSED' });
  t.is(await dial({ token }).pool('echo').ask(1), 1);
  t.regex(system.metrics(), /troupe_refused_requests_total\{[^}]*listener="lane",reason="token"\} [2-9]/);
});

test('where nobody listens, records wait until their deadline; an address that cannot be right is refused at once', async (t) => {
  const socket = path.join(folder(t), 'nobody');
  const connection = connect(`unix://${socket}`);
  t.teardown(() => connection.close());
  const pool = connection.pool('echo');
  const error = await t.throwsAsync<TroupeError>(pool.ask(1, { timeoutMs: 60 }), { code: 'DEADLINE_PASSED' });
  t.is(error.ran, 'not-started');
  t.is((error.cause as TroupeError).code, 'SERVER_UNREACHABLE');
  t.regex((error.cause as TroupeError).message, /there is no socket/);
  t.like(await pool.health(), { ready: false });
  for (const [address, message] of [
    [`unix:///tmp/${'x'.repeat(120)}`, /at most 10\d bytes/],
    ['unix://run/t.sock', /absolute/],
    ['ftp://x', /scheme/],
    ['troupe.sock', /scheme/],
  ] as const)
    t.throws(() => connect(address), { instanceOf: TypeError, message });
  t.throws(() => connect('unix:///a', { heartbeatMs: 0 }), { instanceOf: TypeError });
  t.throws(() => connect('unix:///a', { tokens: '' } as object), { instanceOf: TypeError, message: /unknown option/ });
  t.throws(() => connection.pool(''), { instanceOf: TypeError });
});

test('a socket that speaks something else is told apart, and tells apart', async (t) => {
  const socket = path.join(folder(t), 'run', 'h');
  await using system = createSystem({ log: silentLog });
  await system.spawn('echo', { actor: echo });
  await system.serve({ socket });
  const connection = connect(`unix://${socket}`);
  t.teardown(() => connection.close());
  await t.throwsAsync(connection.pool('echo').ask(1), { code: 'SERVER_REFUSED', message: /serve\.lane/ });
});

test('what a client tells and what fails of it becomes an event of its pool', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  await system.spawn('echo', { actor: echo });
  const pool = dial().pool('echo') as RemotePool;
  const dead = new Promise<{ input: unknown; error: TroupeError }>((resolve) => pool.on('dead-letter', resolve));
  pool.tell('fine');
  pool.tell('bad');
  const { input, error } = await dead;
  t.is(input, 'bad');
  t.is(error.code, 'PREDICT_FAILED');
});

test('the stats of a remote pool are those of the pool at its server, with what all its clients sent', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  const local = await system.spawn('echo', { actor: echo });
  const pool = dial().pool('echo');
  await pool.askMany([1, 2, 'bad']);
  await dial().pool('echo').ask(3);
  const { upMs, ...far } = await pool.stats();
  const { upMs: _, ...near } = local.stats();
  t.deepEqual(far, near);
  t.like(far, { accepted: 4, results: 3, errors: { PREDICT_FAILED: 1 } });
  t.true(upMs >= 0);
  await t.throwsAsync(async () => dial().pool('none').stats(), { code: 'POOL_NOT_FOUND' });
});

test('what changes a pool is refused where it is not, and says where to do it', async (t) => {
  const { system, serving, connect: dial, address } = await laneStand(t, { port: 0 });
  const local = await system.spawn('echo', { actor: echo });
  const http = connect(serving.addresses.find(({ url }) => url.startsWith('http'))?.url as string);
  t.teardown(() => http.close());
  for (const pool of [dial().pool('echo'), http.pool('echo')]) {
    const calls: readonly (readonly [string, () => Promise<void>])[] = [
      ['swap echo VERSION', () => pool.swap(2)],
      ['rollback echo', () => pool.rollback()],
      ['scale echo REPLICAS', () => pool.scale(2)],
      ['repl --write', () => pool.promote()],
      ['repl --write', () => pool.restart()],
      ['repl --write', () => pool.drain()],
    ];
    for (const [command, call] of calls) {
      const error = await t.throwsAsync(call());
      t.like(error, { code: 'POOL_ELSEWHERE', ran: 'not-started', retryable: false, actor: 'echo' });
      t.true(error?.message.endsWith(`over the control socket of that: npx troupe ${command}`), error?.message);
    }
  }
  t.true((await t.throwsAsync(dial().pool('echo').swap(2)))?.message.includes(address));
  t.is(local.stats().wanted, 1);
});
