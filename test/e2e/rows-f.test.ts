import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Connection, connect, createSystem, defineActor, type PoolClient, silentLog, type System } from 'troupe';
import { seededRandom } from '../../src/kernel/random.js';
import { decodeToServer, LANE_PROTOCOL, type ToServer } from '../../src/wire/lane-messages.js';
import { encodeMessage } from '../../src/wire/process-codec.js';
import { openLane } from '../../src/wire/socket-lane.js';
import { folder, laneStand } from '../serve/lane-stand.js';
import { laneProxy } from './lane-proxy.js';
import { beginRow } from './row-report.js';
import { seed, sizes } from './sizes.js';

/** Rows F1 to F4: connections between a client and its server that break in every way a connection can. */

/** Doubles, and counts how often each record ran. */
function counting() {
  const runs = new Map<number, number>();
  const actor = defineActor({
    predict: (batch: readonly number[]) => {
      for (const n of batch) runs.set(n, (runs.get(n) ?? 0) + 1);
      return batch.map((n) => 2 * n);
    },
  });
  return { actor, runs };
}

function dial(t: ExecutionContext, address: string, heartbeatMs = 5000): Connection {
  const connection = connect(address, { heartbeatMs, timeoutMs: 120_000 });
  t.teardown(() => connection.close());
  return connection;
}

test('F1 a link cut at any byte of an exchange, either way, costs nothing: one outcome, one run', async (t) => {
  t.timeout(600_000);
  const row = beginRow(t, 'F1');
  const { system, socket } = await laneStand(t);
  const { actor, runs } = counting();
  await system.spawn('double', { actor });
  const [upBytes, downBytes] = await exchangeBytes(t, socket);
  t.true(upBytes > 200 && downBytes > 200, `${upBytes} and ${downBytes} bytes`);
  const cuts = [
    ...Array.from({ length: upBytes }, (_, at) => ['up', at] as const),
    ...Array.from({ length: downBytes }, (_, at) => ['down', at] as const),
  ].filter((_, at) => at % sizes.f1Stride === 0);
  let lost = 0;
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = next++; at < cuts.length; at = next++) {
      const [way, offset] = cuts[at] as readonly ['up' | 'down', number];
      let passed = 0;
      const cutting = (chunk: Buffer, pair: { index: number; cut: () => void }): Buffer | undefined => {
        if (pair.index > 0) return chunk;
        const part = chunk.subarray(0, Math.max(0, offset - passed));
        passed += chunk.length;
        if (passed >= offset) setImmediate(pair.cut);
        return part;
      };
      const proxy = await laneProxy(
        t,
        socket,
        way === 'up' ? cutting : undefined,
        way === 'down' ? cutting : undefined,
      );
      const connection = dial(t, proxy.address);
      const record = 1000 + at;
      const answer = await connection.pool<number, number>('double').ask(record);
      if (answer !== 2 * record || runs.get(record) !== 1) {
        lost++;
        t.log(`cut ${way} at ${offset}: ${answer}, ${runs.get(record)} runs`);
      }
      await connection.close();
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  t.is(lost, 0);
  row({
    faults: cuts.length,
    runs: cuts.length,
    lost,
    dup: [...runs.values()].filter((count) => count > 1).length,
    reorder: 0,
  });
});

/** How many bytes each way an ask takes, from the first to its answer. */
async function exchangeBytes(t: ExecutionContext, socket: string): Promise<readonly [number, number]> {
  let [up, down] = [0, 0];
  const proxy = await laneProxy(
    t,
    socket,
    (chunk) => {
      up += chunk.length;
      return chunk;
    },
    (chunk) => {
      down += chunk.length;
      return chunk;
    },
  );
  const connection = dial(t, proxy.address);
  await connection.pool<number, number>('double').ask(1);
  const counts = [up, down] as const;
  await connection.close();
  return counts;
}

for (const share of [0.25, 0.5]) {
  test(`F2 requests lost, replies lost and slow ones, ${100 * share} % of them, never run a record twice`, async (t) => {
    t.timeout(600_000);
    const row = beginRow(t, 'F2');
    const { system, socket } = await laneStand(t);
    const { actor, runs } = counting();
    await system.spawn('double', { actor, batching: { maxSize: 8 } });
    const random = seededRandom(seed * 100 + share * 8);
    let faults = 0;
    const proxy = await laneProxy(t, socket, (chunk, pair) => {
      if (random() >= share) return chunk;
      faults++;
      const kind = Math.floor(random() * 3);
      if (kind === 0) {
        pair.cut(); // The request is lost.
        return undefined;
      }
      if (kind === 1) {
        pair.server.once('data', pair.cut); // It arrives, and its reply is lost.
        return chunk;
      }
      pair.client.pause();
      setTimeout(() => pair.client.resume(), 20 * random());
      return chunk;
    });
    const pool = dial(t, proxy.address, 1000).pool<number, number>('double');
    const inputs = Array.from({ length: sizes.f2Records }, (_, n) => n);
    const values: unknown[] = [];
    for (let at = 0; at < inputs.length; at += 10) {
      const many = pool.askMany(inputs.slice(at, at + 5), { timeoutMs: 500_000 });
      const asked = Promise.all(inputs.slice(at + 5, at + 10).map((n) => pool.ask(n, { timeoutMs: 500_000 })));
      values.push(
        ...(await many).map((outcome) => (outcome.ok ? outcome.value : outcome.error.code)),
        ...(await asked),
      );
    }
    t.deepEqual(
      values,
      inputs.map((n) => 2 * n),
    );
    const dup = [...runs.values()].filter((count) => count !== 1).length;
    t.is(dup, 0);
    t.is(runs.size, inputs.length);
    t.true(faults > 0);
    row({ faults, runs: inputs.length, lost: inputs.length - runs.size, dup, reorder: 0 });
  });
}

/** What a server may do to the first connection instead of being one. */
const DEAF: Readonly<Record<string, { up?: (chunk: Buffer) => Buffer | undefined; down?: Dribble }>> = {
  'takes bytes and says nothing': { up: () => undefined },
  'says nothing, though it works': { down: () => undefined },
  'dribbles a byte at a time': { down: (chunk, write) => dribble(chunk, write) },
};
type Dribble = (chunk: Buffer, write: (part: Buffer) => void) => undefined;

function dribble(chunk: Buffer, write: (part: Buffer) => void): undefined {
  let at = 0;
  const timer = setInterval(() => {
    write(chunk.subarray(at, ++at));
    if (at >= Math.min(chunk.length, 200)) clearInterval(timer);
  }, 50);
  timer.unref();
}

for (const [what, { up, down }] of Object.entries(DEAF)) {
  for (const when of ['before its welcome', 'after it']) {
    test(`F3 a server that ${what} ${when} is taken for gone, and another is found`, async (t) => {
      t.timeout(240_000);
      const row = beginRow(t, 'F3');
      const { system, socket } = await laneStand(t);
      const { actor, runs } = counting();
      await system.spawn('double', { actor });
      let isDeaf = when !== 'after it';
      const heartbeatMs = 300;
      const proxy = await laneProxy(
        t,
        socket,
        (chunk, { index }) => (isDeaf && index === 0 && up !== undefined ? up(chunk) : chunk),
        (chunk, { index, client }) => {
          if (!isDeaf || index > 0 || down === undefined) return chunk;
          return down(chunk, (part) => !client.destroyed && client.write(part));
        },
      );
      const pool = dial(t, proxy.address, heartbeatMs).pool<number, number>('double');
      if (!isDeaf) t.is(await pool.ask(1), 2);
      isDeaf = true;
      const startedAt = performance.now();
      t.is(await pool.ask(2), 4);
      t.true(proxy.connectionCount > 1);
      t.is(runs.get(2), 1);
      const recoveryMs = Math.round(performance.now() - startedAt);
      row({ faults: 1, runs: 2, lost: 0, dup: 0, reorder: 0, more: { recoveryMs, intervalMs: heartbeatMs } });
    });
  }
}

test('F3 a client that falls silent is cut off by its server, and one that says nothing at all too', async (t) => {
  t.timeout(240_000);
  const { system, socket } = await laneStand(t);
  const { actor } = counting();
  await system.spawn('double', { actor });
  const raw = createConnection(socket);
  const closed = once(raw, 'close');
  raw.on('error', () => undefined);
  raw.resume();
  for (const piece of encodeMessage({
    kind: 'hello',
    protocol: LANE_PROTOCOL,
    client: 'ab'.repeat(16),
    heard: 0,
    heartbeatMs: 50,
  } as ToServer))
    raw.write(piece);
  await closed;
  t.regex(system.metrics(), /listener="lane",reason="silent"\} 1/);
  const mute = createConnection(socket);
  mute.on('error', () => undefined);
  mute.resume();
  await once(mute, 'close');
  t.regex(system.metrics(), /listener="lane",reason="silent"\} 2/);
});

test('F3 a socket file without a server, and a directory that is missing, are waited out; a server takes over the file', async (t) => {
  t.timeout(240_000);
  const dir = path.join(folder(t), 'run');
  const socket = path.join(dir, 'l');
  const pool = dial(t, `unix://${socket}`).pool<number, number>('double');
  const answer = pool.ask(1);
  await t.throwsAsync(pool.ask(0, { timeoutMs: 100 }), { code: 'DEADLINE_PASSED' });
  mkdirSync(dir, { mode: 0o700 });
  await leaveStale(socket);
  const error = await t.throwsAsync(pool.ask(0, { timeoutMs: 6000 }), { code: 'DEADLINE_PASSED' });
  t.regex(String((error.cause as Error).message), /nobody listens/);
  await using system = createSystem({ log: silentLog });
  const { actor } = counting();
  await system.spawn('double', { actor });
  await system.serve({ lane: socket });
  t.is(await answer, 2);
});

/** A socket whose process has died. */
async function leaveStale(socket: string): Promise<void> {
  const { spawn } = await import('node:child_process');
  const code = `require('node:net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', code]), 'exit');
}

test('F4 a hundred clients of a server that is gone dial one at a time each, ever further apart, and all come back', async (t) => {
  t.timeout(240_000);
  const row = beginRow(t, 'F4');
  const dir = path.join(folder(t), 'run');
  mkdirSync(dir, { mode: 0o700 });
  const socket = path.join(dir, 'l');
  const seen = new Map<string, { endedAt: number; count: number }>();
  let tooSoon = 0;
  let dials = 0;
  const open = new Set<Socket>();
  const broken = createServer((client) => {
    const at = performance.now();
    open.add(client);
    dials++;
    client.on('error', () => undefined);
    const lane = openLane<ToServer, ToServer>(
      client,
      {
        heard: (message) => {
          if (message.kind !== 'hello') return;
          const last = seen.get(message.client) ?? { endedAt: -Infinity, count: 0 };
          // Half of the wait is by chance, so the other half passes at least.
          if (at - last.endedAt < 0.5 * Math.min(5000, 50 * 2 ** (last.count - 1))) tooSoon++;
          lane.socket.destroy();
          seen.set(message.client, { endedAt: performance.now(), count: last.count + 1 });
        },
        broken: () => undefined,
      },
      decodeToServer,
    );
  });
  await new Promise<void>((resolve) => broken.listen(socket, resolve));
  const pools: PoolClient<number, number>[] = Array.from({ length: 100 }, () =>
    dial(t, `unix://${socket}`).pool('double'),
  );
  const answers = pools.map((pool, n) => pool.ask(n));
  while (seen.size < 100 || [...seen.values()].some(({ count }) => count < 4))
    await new Promise((resolve) => setTimeout(resolve, 20));
  t.is(tooSoon, 0);
  broken.close();
  const system: System = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const { actor, runs } = counting();
  await system.spawn('double', { actor });
  await system.serve({ lane: socket });
  t.deepEqual(
    await Promise.all(answers),
    pools.map((_, n) => 2 * n),
  );
  t.is(runs.size, 100);
  row({ faults: dials, runs: 100, lost: 0, dup: 0, reorder: 0, more: { tooSoon } });
});
