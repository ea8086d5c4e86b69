import net from 'node:net';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connect, defineActor, isTroupeError } from 'troupe';
import { IncomingStream } from '../../src/host/incoming-stream.js';
import { type Deferred, deferred } from '../../src/kernel/deferred.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { LaneReads } from '../../src/serve/lane-reads.js';
import { LANE_STREAMS_MAX, LaneWrites } from '../../src/serve/lane-writes.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { toFault } from '../../src/wire/fault.js';
import {
  decodeToClient,
  decodeToServer,
  LANE_PROTOCOL,
  type OutcomesMessage,
  type ToClient,
  type ToServer,
} from '../../src/wire/lane-messages.js';
import { encodeMessage } from '../../src/wire/process-codec.js';
import { openLane } from '../../src/wire/socket-lane.js';
import { folder, laneStand } from './lane-stand.js';

/** What either side of the lane makes of the other where that is slow, repeats itself, or breaks the rules. */

const echo = defineActor({ predict: (batch: readonly unknown[]) => batch });

function say(socket: net.Socket, message: ToClient | ToServer): void {
  for (const piece of encodeMessage(message)) socket.write(piece);
}

/** A client by hand, let in; a refusal or an end that nobody asked for fails the test. */
async function handClient(t: ExecutionContext, at: string, hear: (message: ToClient) => void): Promise<net.Socket> {
  const dialled = net.connect(at);
  await new Promise<void>((resolve) => dialled.once('connect', () => resolve()));
  const welcomed = deferred<void>();
  let isOver = false;
  const fail = (why: string): void => {
    if (isOver) return;
    welcomed.reject(new Error(why));
    t.fail(why);
  };
  const lane = openLane<ToServer, ToClient>(
    dialled,
    {
      heard: (message) => {
        if (message.kind === 'welcome') welcomed.resolve();
        else if (message.kind === 'refused') fail(message.fault.message);
        else hear(message);
      },
      broken: (error) => fail(String(error)),
      lends: true,
    },
    decodeToClient,
  );
  const { socket } = lane;
  t.teardown(() => {
    isOver = true;
    socket.destroy();
  });
  socket.on('error', () => undefined);
  socket.on('close', () => fail('the connection was ended'));
  say(socket, { kind: 'hello', protocol: LANE_PROTOCOL, client: '1'.repeat(32), heard: 0, heartbeatMs: 60_000 });
  // Before the hello was heard only small frames are taken.
  await welcomed.promise;
  return socket;
}

test('who reads outcomes and never says so is answered with MAILBOX_FULL, until it says so', async (t) => {
  const { system, socket } = await laneStand(t, { maxBodyBytes: 100_000 });
  await system.spawn('echo', { actor: echo });
  let answered: Deferred<OutcomesMessage> = deferred();
  const client = await handClient(t, socket, (message) => {
    if (message.kind === 'outcomes') answered.resolve(message);
  });
  say(client, { kind: 'open', channel: 0, pool: 'echo' });
  const terms = { priority: 0, callTimeoutMs: undefined, key: undefined, model: undefined, traceparent: undefined };
  const ask = async (id: number, heard: number): Promise<OutcomesMessage> => {
    answered = deferred();
    const payload = { kind: 'rows', values: [new Uint8Array(30_000)] } as const;
    const rest = { channel: 0, asked: true, remainingMs: Infinity, flush: true } as const;
    say(client, { kind: 'records', ids: id, ...rest, ...terms, heard, payload });
    return answered.promise;
  };
  const codes: unknown[] = [];
  let last = 0;
  for (let id = 1; id <= 20; id++) {
    const { faults, seq } = await ask(id, 0);
    codes.push(faults?.[0]?.[1].code ?? 'ok');
    last = seq;
  }
  const full = codes.indexOf('MAILBOX_FULL');
  // Four times the bytes of a body, and one outcome.
  t.true(full >= 13 && full <= 15, String(codes));
  t.true(codes.slice(full).every((code) => code === 'MAILBOX_FULL'));
  t.is((await ask(21, last)).faults, undefined);
});

test('a channel that is opened twice is answered twice', async (t) => {
  const { system, socket } = await laneStand(t);
  await system.spawn('echo', { actor: echo });
  const heard: ToClient[] = [];
  const answered = deferred<void>();
  const client = await handClient(t, socket, (message) => {
    if (message.kind === 'opened') heard.push(message);
    if (heard.length === 2) answered.resolve();
  });
  for (let time = 0; time < 2; time++) say(client, { kind: 'open', channel: 0, pool: 'echo' });
  await answered.promise;
  t.deepEqual(heard[1], heard[0]);
});

test('a pool that is waited for is not asked for again while the question is open', async (t) => {
  const at = path.join(folder(t), 'l');
  const opens: string[] = [];
  const enough = deferred<void>();
  let connections = 0;
  const sockets: net.Socket[] = [];
  const notFound = toFault(new TroupeError('POOL_NOT_FOUND', 'There is none yet'));
  const server = net.createServer((dialled) => {
    const isFirst = connections++ === 0;
    const { socket } = openLane<ToClient, ToServer>(
      dialled,
      {
        heard: (message) => {
          if (message.kind === 'hello') {
            const sizes = { frameBytes: 100_000, records: 100, asked: 100 };
            say(socket, { kind: 'welcome', protocol: LANE_PROTOCOL, resumed: false, known: [], ...sizes });
          }
          if (message.kind === 'ping') say(socket, { kind: 'pong' });
          if (message.kind === 'records' && isFirst) socket.destroy();
          if (message.kind !== 'open') return;
          const { channel, pool } = message;
          if (isFirst) {
            say(socket, { kind: 'opened', channel, repeatable: true, attempts: 5, records: 100, bytes: 100_000 });
            return;
          }
          opens.push(pool);
          const count = opens.filter((name) => name === pool).length;
          // The first is on its way by now, the second is not there.
          if (pool === 'far' || count === 1) say(socket, { kind: 'closed', channel, fault: notFound });
          if (pool === 'far' && count === 5) enough.resolve();
        },
        broken: (error) => t.fail(String(error)),
      },
      decodeToServer,
    );
    socket.on('error', () => undefined);
    sockets.push(socket);
  });
  await new Promise<void>((resolve) => server.listen(at, () => resolve()));
  const connection = connect(`unix://${at}`, { timeoutMs: 120_000 });
  t.teardown(async () => {
    await connection.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const asks = ['near', 'far'].map((name) =>
    connection
      .pool(name)
      .ask(1)
      .catch((error: unknown) => error),
  );
  await enough.promise;
  t.is(opens.filter((name) => name === 'near').length, 2);
  await connection.close();
  for (const error of await Promise.all(asks)) t.is(isTroupeError(error) && error.code, 'POOL_STOPPED');
});

test('methods, stats and flushes go to the pool that has the name now', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  const of = (label: string) =>
    defineActor({ predict: (batch: readonly unknown[]) => batch, methods: { label: () => label } });
  const first = await system.spawn('p', { actor: of('first') });
  const pool = dial().pool('p');
  t.is(await pool.call('label'), 'first');
  await first.stop();
  await system.spawn('p', { actor: of('second'), batching: { maxSize: 7 } });
  t.is((await pool.stats()).state, 'running');
  t.is((await pool.health()).ready, true);
  t.is(await pool.call('label'), 'second');
});

test('a pool that takes the place of one that was stopped is told of with its own terms before it is given a record', async (t) => {
  const { system, socket } = await laneStand(t);
  const first = await system.spawn('p', { actor: echo });
  const heard: unknown[] = [];
  let next: Deferred<void> = deferred();
  const client = await handClient(t, socket, (message) => {
    if (message.kind === 'opened') heard.push([message.repeatable, message.attempts]);
    else if (message.kind === 'outcomes') heard.push('outcome');
    else return;
    next.resolve();
  });
  const heardOf = async (count: number): Promise<void> => {
    while (heard.length < count) {
      next = deferred();
      await next.promise;
    }
  };
  const records = { channel: 0, asked: true, remainingMs: Infinity, priority: 0, heard: 0, flush: true } as const;
  const rest = { callTimeoutMs: undefined, key: undefined, model: undefined, traceparent: undefined } as const;
  const ask = (id: number): void => {
    const payload = { kind: 'rows', values: [id] } as const;
    say(client, { kind: 'records', ids: id, payload, ...records, ...rest });
  };
  say(client, { kind: 'open', channel: 0, pool: 'p' });
  ask(1);
  await heardOf(2);
  await first.stop();
  // One whose replica is up: what it is, is known at once.
  const once = defineActor({ repeatable: false, predict: (batch: readonly unknown[]) => batch });
  const second = await system.spawn('p', { actor: once, attempts: 2 });
  ask(2);
  await heardOf(4);
  await second.stop();
  // One that loads: told once more, unasked, when it has.
  const loaded = deferred<void>();
  const slow = defineActor({ load: () => loaded.promise, predict: (batch: readonly unknown[]) => batch });
  const third = system.spawn('p', { actor: slow, attempts: 3 });
  ask(3);
  await heardOf(5);
  loaded.resolve();
  await heardOf(7);
  await third;
  t.deepEqual(heard.slice(0, 5), [[true, 5], 'outcome', [false, 2], 'outcome', [false, 3]]);
  t.deepEqual(heard.slice(5).map(String).sort(), ['outcome', 'true,3']);
});

test('a client goes by what it was told last of whether a record may run again', async (t) => {
  const at = path.join(folder(t), 'l');
  const sockets: net.Socket[] = [];
  let recordsHeard = 0;
  const server = net.createServer((dialled) => {
    const { socket } = openLane<ToClient, ToServer>(
      dialled,
      {
        heard: (message) => {
          const terms = { kind: 'opened', channel: 0, attempts: 5, records: 100, bytes: 100_000 } as const;
          if (message.kind === 'hello') {
            const sizes = { frameBytes: 100_000, records: 100, asked: 100 };
            say(socket, { kind: 'welcome', protocol: LANE_PROTOCOL, resumed: false, known: [], ...sizes });
          } else if (message.kind === 'ping') say(socket, { kind: 'pong' });
          else if (message.kind === 'open') say(socket, { ...terms, repeatable: true });
          else if (message.kind === 'records') {
            recordsHeard++;
            say(socket, { ...terms, repeatable: false });
            socket.end();
          }
        },
        broken: (error) => t.fail(String(error)),
      },
      decodeToServer,
    );
    socket.on('error', () => undefined);
    sockets.push(socket);
  });
  await new Promise<void>((resolve) => server.listen(at, () => resolve()));
  const connection = connect(`unix://${at}`, { timeoutMs: 120_000 });
  t.teardown(async () => {
    await connection.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const error = await t.throwsAsync(connection.pool('p').ask(1), { code: 'INTERRUPTED' });
  t.regex(String(error), /its actor is not repeatable/);
  t.is(recordsHeard, 1);
});

test('a reader that takes a piece every fifty seconds gets all of them over the lane', async (t) => {
  const clock = new VirtualClock();
  let made = 0;
  const make = (count: number): void => {
    for (let n = 0; n < count; n++) source.piece(made++);
  };
  const source = new IncomingStream(
    'p',
    { pull: (count) => queueMicrotask(() => make(count)), giveUp: () => undefined },
    clock,
    1000,
  );
  const flush = (): void =>
    writes.flush((message) => {
      if (message.kind === 'pieces') reads.pieces(message.id, message.values);
      if (message.kind === 'ended')
        reads.ended(message.id, new TroupeError('INTERNAL', String(message.fault?.message)));
    });
  const writes: LaneWrites = new LaneWrites(() => queueMicrotask(flush));
  const reads: LaneReads = new LaneReads(
    (message) => void (message.kind === 'pull' && writes.pull(message.id, message.count)),
    clock,
    () => undefined,
  );
  writes.begin(1, source);
  const stream = reads.begin(1, 'p');
  for (let piece = 0; piece < 60; piece++) {
    t.deepEqual(await stream.next(), { done: false, value: piece });
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(50_000);
  }
});

test('a record that is answered with a stream twice ends the one that is read', async (t) => {
  const told: ToServer[] = [];
  const reads = new LaneReads(
    (message) => void told.push(message),
    new VirtualClock(),
    () => undefined,
  );
  const next = reads.begin(1, 'p').next();
  reads.giveUp(1);
  await t.throwsAsync(next, { code: 'PROTOCOL_VIOLATION' });
  t.is(reads.count, 0);
  t.deepEqual(told.at(-1), { kind: 'quit', id: 1 });
});

test('a stream that begins under the number of another one gives that up', (t) => {
  const ends: string[] = [];
  const named = (name: string): AsyncIterable<unknown> => ({
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise<never>(() => undefined),
      return: () => {
        ends.push(name);
        return Promise.resolve({ done: true, value: undefined });
      },
    }),
  });
  const writes = new LaneWrites(() => undefined);
  writes.begin(1, named('first'));
  writes.begin(1, named('second'));
  t.deepEqual(ends, ['first']);
  t.is(writes.count, 1);
});

test('a client has at most 4096 token streams, and what comes beyond is refused', async (t) => {
  t.timeout(120_000);
  const { system, connect: dial } = await laneStand(t);
  async function* one(): AsyncGenerator<unknown> {
    yield 1;
  }
  const actor = defineActor({ predict: (batch: readonly number[]) => batch.map(one) });
  await system.spawn('one', { actor, replicas: 2, batching: { maxStreams: LANE_STREAMS_MAX } });
  const pool = dial().pool<number, AsyncIterable<unknown>>('one');
  const outcomes = await pool.askMany(Array.from({ length: LANE_STREAMS_MAX + 4 }, (_, n) => n));
  const codes = outcomes.map((outcome) => (outcome.ok ? 'ok' : outcome.error.code));
  t.is(codes.filter((code) => code === 'ok').length, LANE_STREAMS_MAX);
  t.is(codes.filter((code) => code === 'OVERLOADED').length, 4);
});
