import net from 'node:net';
import path from 'node:path';
import test from 'ava';
import { createSystem, defineActor, silentLog } from 'troupe';
import { systemClock } from '../../src/kernel/clock.js';
import { deferred } from '../../src/kernel/deferred.js';
import { LaneServer } from '../../src/serve/lane-server.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { decodeToClient, LANE_PROTOCOL, type ToClient, type ToServer } from '../../src/wire/lane-messages.js';
import { encodeMessage } from '../../src/wire/process-codec.js';
import { openLane } from '../../src/wire/socket-lane.js';
import { folder, laneStand } from './lane-stand.js';

/** What the server of a lane lets go of that nobody will come for. */

interface Visit {
  say(message: ToServer): void;
  /** Ends without a goodbye; resolves when the server has ended too. */
  leave(): Promise<void>;
}

/** A client by hand, let in. */
async function visit(at: string, client: number): Promise<Visit> {
  const dialled = net.connect(at);
  await new Promise<void>((resolve) => dialled.once('connect', () => resolve()));
  const welcomed = deferred<void>();
  const { socket } = openLane<ToServer, ToClient>(
    dialled,
    {
      heard: (message) => {
        if (message.kind === 'welcome') welcomed.resolve();
        if (message.kind === 'refused') welcomed.reject(new Error(message.fault.message));
      },
      broken: (error) => welcomed.reject(error),
    },
    decodeToClient,
  );
  const gone = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const say = (message: ToServer): void => {
    for (const piece of encodeMessage(message)) socket.write(piece);
  };
  say({
    kind: 'hello',
    protocol: LANE_PROTOCOL,
    client: String(client).padStart(32, '0'),
    heard: 0,
    heartbeatMs: 60_000,
  });
  await welcomed.promise;
  return {
    say,
    leave: () => {
      socket.end();
      return gone;
    },
  };
}

test('of more clients that are away than are remembered, the work of the oldest is cancelled', async (t) => {
  await using system = createSystem({ log: silentLog });
  const entered = deferred<void>();
  const cancelled = deferred<void>();
  const held = defineActor({
    predict: async (batch: readonly unknown[], { signal }: { signal: AbortSignal }) => {
      signal.addEventListener('abort', () => cancelled.resolve());
      entered.resolve();
      await cancelled.promise;
      return batch;
    },
  });
  await system.spawn('held', { actor: held });
  const socket = path.join(folder(t), 'l');
  const clock = new VirtualClock(); // Stands still: nobody is forgotten for having been away long.
  clock.advanceTo(systemClock.now());
  const server = new LaneServer({
    system,
    clock,
    options: { maxBodyBytes: 1_000_000, capacityBytes: 1_000_000, maxRecords: 1024, maxConnections: 4 },
    admits: () => true,
    pools: () => [],
    bind: (made) =>
      new Promise((resolve) => {
        made.listen(socket, () => resolve({ path: socket, close: () => made.close() }));
      }),
  });
  await server.open();
  t.teardown(() => server.close(0));
  let isCancelled = false;
  void cancelled.promise.then(() => (isCancelled = true));
  const first = await visit(socket, 1);
  first.say({ kind: 'open', channel: 0, pool: 'held' });
  const terms = { priority: 0, callTimeoutMs: undefined, key: undefined, model: undefined, traceparent: undefined };
  const rest = { channel: 0, ids: 1, asked: true, remainingMs: Infinity, heard: 0, flush: true } as const;
  first.say({ kind: 'records', ...rest, ...terms, payload: { kind: 'rows', values: [1] } });
  await entered.promise;
  await first.leave();
  // Twice as many as may be here at once.
  for (let client = 2; client <= 8; client++) await (await visit(socket, client)).leave();
  t.false(isCancelled);
  await (await visit(socket, 9)).leave();
  await cancelled.promise;
  t.pass();
});

test('a pool that takes the place of another is given a sender of its own, and the one at the other is closed', async (t) => {
  const { system, connect } = await laneStand(t);
  const echo = defineActor({ predict: (batch: readonly number[]) => batch });
  const first = await system.spawn<number, number>('p', { actor: echo });
  const senders: string[] = [];
  const watch = (pool: typeof first, name: string): void => {
    const openSender = pool.openSender.bind(pool);
    const closeSender = pool.closeSender.bind(pool);
    pool.openSender = (of) => {
      const sender = openSender(of);
      if (of === 'lane') senders.push(`${name} opens ${sender}`);
      return sender;
    };
    pool.closeSender = (sender) => {
      senders.push(`${name} closes ${sender}`);
      closeSender(sender);
    };
  };
  watch(first, 'first');
  const connection = connect();
  const pool = connection.pool<number, number>('p');
  t.is(await pool.ask(1), 1);
  const opened = senders[0] as string;
  t.deepEqual(senders, [opened]);
  t.regex(opened, /^first opens \d+$/);
  await first.stop();
  const second = await system.spawn<number, number>('p', { actor: echo });
  watch(second, 'second');
  t.is(await pool.ask(2), 2);
  t.is(senders[1], opened.replace('opens', 'closes'));
  t.regex(String(senders[2]), /^second opens \d+$/);
  t.is(senders.length, 3);
});
