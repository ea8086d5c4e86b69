import net from 'node:net';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connect, createSystem, defineActor, fromIterable, type Outcome, silentLog, stream, TroupeError } from 'troupe';
import { systemClock } from '../../src/kernel/clock.js';
import { deferred } from '../../src/kernel/deferred.js';
import { seededRandom } from '../../src/kernel/random.js';
import { LaneLink } from '../../src/serve/lane-link.js';
import { LaneServer } from '../../src/serve/lane-server.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { encodeFrame, FRAME_ARRAY } from '../../src/wire/frame.js';
import { toFault } from '../../src/wire/fault.js';
import { decodeToServer, LANE_PROTOCOL, type ToClient, type ToServer } from '../../src/wire/lane-messages.js';
import { openLane, type SocketLane } from '../../src/wire/socket-lane.js';
import { encodeMessage } from '../../src/wire/process-codec.js';
import { folder, laneStand } from './lane-stand.js';

/** What is too long or too much for the lane, and who is cut off for it and who is not. */

const echo = defineActor({
  predict: (batch: readonly unknown[]) => batch,
  methods: { labels: () => ['a'] },
});
const LONG = 'x'.repeat(2000);

/** Called from a check phase, as the polls of sockets come between two of them. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function turns(count: number): Promise<void> {
  for (let done = 0; done < count; done++) await turn();
}

function say(socket: net.Socket, message: ToClient | ToServer): void {
  for (const piece of encodeMessage(message)) socket.write(piece);
}

test('a key, a model or a name that is too long for the lane fails alone, and a trace that is too long is left out', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  await system.spawn('echo', { actor: echo });
  const connection = dial();
  const pool = connection.pool<number, number>('echo');
  const sender = pool.openSender('test');
  const offer = (input: number, more: object) =>
    new Promise<Outcome<number>>((settled) => {
      pool.offer({ input, sender, priority: 0, deadlineAt: Infinity, settled, ...more });
    });
  const ended = await Promise.all([
    pool.ask(1).catch((error: TroupeError) => error.code),
    pool.ask(2, { key: LONG }).catch((error: TroupeError) => error.code),
    pool.ask(3, { model: LONG }).catch((error: TroupeError) => error.code),
    pool.call(LONG).catch((error: TroupeError) => error.code),
    offer(4, { key: LONG }).then((outcome) => (outcome.ok ? outcome.value : outcome.error.code)),
    offer(5, { traceparent: LONG }).then((outcome) => (outcome.ok ? outcome.value : outcome.error.code)),
  ]);
  t.deepEqual(ended, [1, 'INPUT_INVALID', 'INPUT_INVALID', 'INPUT_INVALID', 'INPUT_INVALID', 5]);
  for (let index = 1; index < 1024; index++) connection.pool(`other-${index}`);
  t.throws(() => connection.pool('one-more'), { instanceOf: TypeError, message: /at most 1024 pools/ });
  t.is(connection.pool('echo'), pool);
  t.is(await pool.ask(6), 6);
});

interface ServerStand {
  readonly clock: VirtualClock;
  readonly socket: string;
  readonly server: LaneServer;
}

/** A server of the lane alone, whose time stands still. */
async function serverStand(t: ExecutionContext, system: ReturnType<typeof createSystem>): Promise<ServerStand> {
  const clock = new VirtualClock();
  clock.advanceTo(systemClock.now()); // That of the pools goes on.
  const socket = path.join(folder(t), 'l');
  const server = new LaneServer({
    system,
    clock,
    options: { maxBodyBytes: 1_000_000, capacityBytes: 1_000_000, maxRecords: 1024, maxConnections: 8 },
    admits: () => true,
    pools: () => ['late'],
    bind: (made) =>
      new Promise((resolve) => {
        made.listen(socket, () => resolve({ path: socket, close: () => made.close() }));
      }),
  });
  await server.open();
  t.teardown(() => server.close(0));
  return { clock, socket, server };
}

test('a pool that comes later than its client opens when it is there, whatever the client did before', async (t) => {
  await using system = createSystem({ log: silentLog });
  await system.spawn('echo', { actor: echo });
  const { clock, socket } = await serverStand(t, system);
  const connection = connect(`unix://${socket}`, { timeoutMs: 60_000 });
  t.teardown(() => connection.close());
  t.is(await connection.pool('echo').ask(1), 1);
  clock.advanceTo(clock.now() + 50); // The first look: nothing was waited for.
  const late = connection.pool('late').ask(2);
  t.is(await connection.pool('echo').ask(3), 3); // What was said before it has been heard.
  await system.spawn('late', { actor: echo });
  clock.advanceTo(clock.now() + 50);
  t.is(await late, 2);
});

test('a server that stops says so only to those it has let in', async (t) => {
  const { system, socket, connect: dial } = await laneStand(t);
  await system.spawn('echo', { actor: echo });
  const stranger = net.connect(socket);
  const heard: Buffer[] = [];
  stranger.on('data', (chunk: Buffer) => heard.push(chunk));
  const gone = new Promise<void>((resolve) => stranger.once('close', () => resolve()));
  await new Promise<void>((resolve) => stranger.once('connect', () => resolve()));
  t.is(await dial().pool('echo').ask(1), 1); // It came later, so the stranger was let in.
  await system.stop();
  await gone;
  t.is(Buffer.concat(heard).length, 0);
});

/** A link whose time stands still, and the sockets of those it dials. */
async function linkStand(t: ExecutionContext) {
  const clock = new VirtualClock();
  const socket = path.join(folder(t), 'l');
  const sockets: net.Socket[] = [];
  const server = net.createServer((one) => sockets.push(one));
  await new Promise<void>((resolve) => server.listen(socket, () => resolve()));
  const downs: string[] = [];
  const link = new LaneLink({
    path: socket,
    heartbeatMs: 1000,
    clock,
    random: seededRandom(1),
    hello: () => ({ client: '0'.repeat(32), heard: 0 }),
    heard: () => 0,
    welcomed: () => undefined,
    hear: () => undefined,
    down: (error) => void downs.push(error.code),
  });
  t.teardown(() => {
    link.close();
    for (const one of sockets) one.destroy();
    server.close();
  });
  link.hold(true);
  clock.advanceTo(1);
  while (sockets.length === 0) await turn();
  return { clock, link, downs, server: sockets[0] as net.Socket };
}

test('a server that says before its welcome that it stops is away, and no wrong one', async (t) => {
  const { downs, server } = await linkStand(t);
  say(server, { kind: 'leaving' });
  while (downs.length === 0) await turn();
  t.deepEqual(downs, ['SERVER_UNREACHABLE']);
});

test('who stood still himself reads what has come before he takes the other side for gone', async (t) => {
  const { clock, link, downs, server } = await linkStand(t);
  say(server, {
    kind: 'welcome',
    protocol: LANE_PROTOCOL,
    resumed: false,
    known: [],
    frameBytes: 1_000_000,
    records: 1,
    asked: 1,
  });
  while (!link.isUp) await turn();
  clock.advanceTo(clock.now() + 1000);
  await turn();
  say(server, { kind: 'pong' });
  clock.advanceTo(clock.now() + 1000);
  await turns(3);
  t.true(link.isUp);
  clock.advanceTo(clock.now() + 1000);
  await turns(3);
  t.deepEqual(downs, ['SERVER_UNREACHABLE']); // Silent indeed.
});

test('a client whose words lie unread when its time is over is heard', async (t) => {
  await using system = createSystem({ log: silentLog });
  const { clock, socket, server } = await serverStand(t, system);
  const client = net.connect(socket);
  t.teardown(() => client.destroy());
  const heard: Buffer[] = [];
  client.on('data', (chunk: Buffer) => heard.push(chunk));
  const welcomed = new Promise<void>((resolve) => client.once('data', () => resolve()));
  const gone = new Promise<void>((resolve) => client.once('close', () => resolve()));
  say(client, { kind: 'hello', protocol: LANE_PROTOCOL, client: '1'.repeat(32), heard: 0, heartbeatMs: 1000 });
  await welcomed;
  await turn();
  say(client, { kind: 'ping', heard: 0 });
  clock.advanceTo(clock.now() + 3000);
  await turns(3);
  t.is(server.refusals.get('silent'), undefined);
  clock.advanceTo(clock.now() + 3000);
  await gone;
  t.is(server.refusals.get('silent'), 1);
  t.true(Buffer.concat(heard).includes('SERVER_UNREACHABLE'), 'it may come again');
});

test('more than 64 calls of a client at once are refused, and a server that stops waits for those under way', async (t) => {
  const gate = deferred<void>();
  const slow = defineActor({
    predict: (batch: readonly unknown[]) => batch,
    methods: { wait: () => gate.promise.then(() => 'done') },
  });
  const { system, connect: dial } = await laneStand(t);
  await system.spawn('slow', { actor: slow });
  const pool = dial().pool('slow');
  const calls = Array.from({ length: 64 }, () => pool.call('wait'));
  await t.throwsAsync(pool.call('wait'), { code: 'OVERLOADED' });
  const stopped = system.stop();
  gate.resolve();
  t.deepEqual(new Set(await Promise.all(calls)), new Set(['done']));
  await stopped;
});

test('a stranger is taken no large frame from, and nobody opens one pool twice', async (t) => {
  await using system = createSystem({ log: silentLog });
  await system.spawn('echo', { actor: echo });
  const { socket, server } = await serverStand(t, system);
  const hello = { kind: 'hello', protocol: LANE_PROTOCOL, heard: 0, heartbeatMs: 1000 } as const;
  const refused = async (messages: readonly (ToServer | Buffer)[]) => {
    const client = net.connect(socket);
    const gone = new Promise<void>((resolve) => client.once('close', () => resolve()));
    client.resume();
    client.on('error', () => undefined);
    for (const message of messages) {
      if (Buffer.isBuffer(message)) client.write(message);
      else say(client, message);
    }
    await gone;
    return server.refusals.get('frame');
  };
  t.is(await refused([encodeFrame(new Uint8Array(0), FRAME_ARRAY)]), 1);
  t.is(await refused([encodeFrame(new Uint8Array(9000))]), 2);
  t.is(
    await refused([
      { ...hello, client: '1'.repeat(32) },
      { kind: 'open', channel: 0, pool: 'echo' },
      { kind: 'open', channel: 1, pool: 'echo' },
    ]),
    3,
  );
});

test('a burst of outcomes far beyond what the server keeps cuts nobody off', async (t) => {
  const { system, connect: dial } = await laneStand(t, { maxBodyBytes: 100_000 });
  const gate = deferred<void>();
  const large = defineActor({
    predict: async (batch: readonly number[]) => {
      await gate.promise;
      return batch.map((n) => new Uint8Array(90_000).fill(n));
    },
  });
  await system.spawn('large', { actor: large, batching: { maxSize: 64 } });
  const pool = dial().pool<number, Uint8Array>('large');
  const asks = Array.from({ length: 60 }, (_, index) => pool.ask(index));
  await pool.health(); // They are there.
  gate.resolve();
  t.deepEqual(
    (await Promise.all(asks)).map((bytes) => bytes[0]),
    Array.from({ length: 60 }, (_, index) => index),
  );
  t.notRegex(system.metrics(), /listener="lane",reason="unread"\} [1-9]/);
});

test('a pool that code spawns after its server was started anew is waited for by those who knew it, and by nobody else', async (t) => {
  const first = await laneStand(t);
  await first.system.spawn('echo', { actor: echo });
  const connection = first.connect();
  const pool = connection.pool<number, number>('echo');
  t.is(await pool.ask(1), 1);
  await first.system.stop({ timeoutMs: 0 });
  const waiting = pool.ask(2, { timeoutMs: 120_000 });
  await using second = createSystem({ log: silentLog });
  await second.spawn('other', { actor: echo });
  await second.serve({ lane: first.socket });
  t.is(await connection.pool('other').ask(3, { timeoutMs: 120_000 }), 3);
  const late = await t.throwsAsync(pool.ask(4, { timeoutMs: 300 }), { code: 'DEADLINE_PASSED' });
  t.like((late as TroupeError).cause, { code: 'POOL_NOT_FOUND' });
  await t.throwsAsync(connection.pool('none').ask(5), { code: 'POOL_NOT_FOUND' });
  await second.spawn('echo', { actor: echo });
  t.is(await waiting, 2);
  await connection.close();
});

test('a record that a server has had may have run, also where the next one lets nobody in; one that waits has not', async (t) => {
  const socket = path.join(folder(t), 'l');
  const sockets: net.Socket[] = [];
  const server = net.createServer((one) => {
    let isFirst = false;
    const hear = (message: ToServer): void => {
      const { socket: far } = lane;
      if (message.kind === 'hello' && !isFirst)
        say(far, { kind: 'refused', fault: toFault(new TroupeError('SERVER_REFUSED', 'the token is wrong')) });
      else if (message.kind === 'hello')
        say(far, {
          kind: 'welcome',
          protocol: LANE_PROTOCOL,
          resumed: false,
          known: [],
          frameBytes: 1_000_000,
          records: 9,
          asked: 9,
        });
      else if (message.kind === 'open')
        say(far, { kind: 'opened', channel: 0, repeatable: true, attempts: 5, records: 1, bytes: 1000 });
      else if (message.kind === 'records') far.destroy();
    };
    const lane: SocketLane<ToClient> = openLane<ToClient, ToServer>(
      one,
      { heard: hear, broken: () => lane.socket.destroy(), lends: true },
      decodeToServer,
    );
    isFirst = sockets.push(lane.socket) === 1;
    lane.socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(socket, () => resolve()));
  t.teardown(() => {
    for (const one of sockets) one.destroy();
    server.close();
  });
  const connection = connect(`unix://${socket}`, { timeoutMs: 120_000 });
  t.teardown(() => connection.close());
  const pool = connection.pool<number, number>('p');
  const outcomes = await pool.askMany([1, 2]);
  t.deepEqual(
    outcomes.map((outcome) => !outcome.ok && [outcome.error.code, outcome.error.ran]),
    [
      ['SERVER_REFUSED', 'interrupted'],
      ['SERVER_REFUSED', 'not-started'],
    ],
  );
});

test('who takes none of its outcomes is cut off when its time is over', async (t) => {
  await using system = createSystem({ log: silentLog });
  const large = defineActor({ predict: (batch: readonly unknown[]) => batch.map(() => new Uint8Array(900_000)) });
  const pool = await system.spawn('large', { actor: large });
  const { clock, socket, server } = await serverStand(t, system);
  const client = net.connect(socket);
  t.teardown(() => client.destroy());
  client.on('error', () => undefined);
  client.pause();
  say(client, { kind: 'hello', protocol: LANE_PROTOCOL, client: '1'.repeat(32), heard: 0, heartbeatMs: 1000 });
  say(client, { kind: 'open', channel: 0, pool: 'large' });
  const terms = { priority: 0, callTimeoutMs: undefined, key: undefined, model: undefined, traceparent: undefined };
  const payload = { kind: 'rows', values: Array.from({ length: 8 }, () => 1) } as const;
  say(client, {
    kind: 'records',
    channel: 0,
    ids: 1,
    asked: true,
    remainingMs: Infinity,
    ...terms,
    heard: 0,
    flush: true,
    payload,
  });
  while (pool.stats().results < 8) await turn();
  await turns(5);
  clock.advanceTo(clock.now() + 3000);
  while (server.refusals.size === 0) await turn();
  t.deepEqual([...server.refusals], [['unread', 1]]);
});

test('a cancel settles after the call that made it, and once', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  await system.spawn('echo', { actor: echo });
  const pool = dial().pool<number, number>('echo');
  const outcomes: Outcome<number>[] = [];
  const sender = pool.openSender('test');
  const settled = (outcome: Outcome<number>): unknown => outcomes.push(outcome);
  const terms = { sender, priority: 0, deadlineAt: Infinity };
  const ticket = pool.offer({ input: 1, ...terms, settled });
  ticket?.cancel(new Error('enough'));
  ticket?.cancel();
  t.is(outcomes.length, 0, 'not from inside the call');
  await turn();
  t.is(outcomes.length, 1);
  t.like(outcomes[0], { ok: false, error: { code: 'CANCELLED', ran: 'not-started', cause: { message: 'enough' } } });
  // One that is on its way is given up at the server, and its answer is nobody's.
  const sent = pool.offer({ input: 2, ...terms, settled });
  await turn();
  sent?.cancel();
  t.is(await pool.ask(3), 3);
  t.true(outcomes.length === 2);
});

test('bytes that wait for pools without room are bounded over all pools of a client; what comes beyond is MAILBOX_FULL', async (t) => {
  const { system, connect: dial } = await laneStand(t, { maxBodyBytes: 100_000, capacityBytes: 65_536 });
  const gate = deferred<void>();
  const stuck = defineActor({
    predict: async (batch: readonly unknown[]) => {
      await gate.promise;
      return batch.map(() => 1);
    },
  });
  const connection = dial();
  const names = Array.from({ length: 6 }, (_, index) => `stuck-${index}`);
  const asks: Promise<unknown>[] = [];
  for (const name of names) {
    const local = await system.spawn(name, { actor: stuck, batching: { maxSize: 1 }, mailbox: { capacity: 1 } });
    asks.push(local.ask(0));
    while (local.inFlightBatches !== 1) await turn();
    asks.push(local.ask(0));
    while (local.stats().mailbox.held !== 1) await turn();
  }
  const bulk = names.map((name) => connection.pool(name).askMany([new Uint8Array(95_000)]));
  const refused: string[] = [];
  for (const outcomes of bulk)
    void outcomes.then(([outcome]) => refused.push(outcome?.ok === false ? outcome.error.code : 'ok'));
  // Two of them are within what may wait.
  while (refused.length < 4) await turn();
  t.deepEqual(refused, ['MAILBOX_FULL', 'MAILBOX_FULL', 'MAILBOX_FULL', 'MAILBOX_FULL']);
  gate.resolve();
  await Promise.all([...asks, ...bulk]);
  t.deepEqual(refused.slice(4), ['ok', 'ok']);
});

test('records that nothing more comes behind are a batch at once, also before the connection is up', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  const double = defineActor({ predict: (batch: readonly number[]) => batch.map((input) => 2 * input) });
  await system.spawn('double', { actor: double, batching: { maxSize: 100, maxDelayMs: 600_000 } });
  const results = await stream(fromIterable([1, 2, 3]))
    .infer(dial().pool<number, number>('double'))
    .toArray();
  t.deepEqual(results, [2, 4, 6]);
});

test('records that nothing more comes behind are a batch at once, also where their message is too large and goes out in halves', async (t) => {
  const { system, connect: dial } = await laneStand(t, { maxBodyBytes: 100_000 });
  const sizes: number[] = [];
  const measured = defineActor({
    predict: (batch: readonly Uint8Array[]) => {
      sizes.push(batch.length);
      return batch.map(({ length }) => length);
    },
  });
  await system.spawn('measured', { actor: measured, batching: { maxSize: 100, maxDelayMs: 600_000 } });
  const pool = dial().pool<Uint8Array, number>('measured');
  // Open, so that there is room for all of them in one turn.
  await pool.health();
  const input = new Uint8Array(30_000);
  const sender = pool.openSender('test');
  const outcomes = Array.from({ length: 4 }, () => {
    const answer = deferred<Outcome<number>>();
    const terms = { priority: 0, sender, deadlineAt: Infinity, settled: answer.resolve };
    pool.offer({ input, ...terms, callTimeoutMs: undefined, key: undefined, model: undefined, traceparent: undefined });
    return answer.promise;
  });
  pool.flush();
  for (const outcome of await Promise.all(outcomes)) t.like(outcome, { ok: true, value: 30_000 });
  t.deepEqual(sizes, [4]);
});
