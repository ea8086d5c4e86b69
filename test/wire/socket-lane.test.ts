import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { isTroupeError } from '../../src/kernel/errors.js';
import { encodeFrame, FRAME_ARRAY } from '../../src/wire/frame.js';
import type { ToEntry, ToHost } from '../../src/wire/messages.js';
import { FAR_BYTES_MIN } from '../../src/wire/process-codec.js';
import { Recycler } from '../../src/wire/recycler.js';
import { packRows, unpackRows } from '../../src/wire/rows.js';
import { openSocketLane, type SocketLane } from '../../src/wire/socket-lane.js';

/** Both ends of a connected Unix socket that nobody has read from. */
async function socketPair(t: ExecutionContext): Promise<[Socket, Socket]> {
  const folder = mkdtempSync(path.join(tmpdir(), 'lane-'));
  const server = createServer({ pauseOnConnect: false });
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const address = path.join(folder, 's');
  await new Promise<void>((resolve) => server.listen(address, resolve));
  const far = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const near = createConnection(address);
  await once(near, 'connect');
  const pair: [Socket, Socket] = [near, await far];
  server.close();
  return pair;
}

interface Ends {
  readonly near: SocketLane;
  readonly far: SocketLane;
  next(): Promise<ToEntry | ToHost>;
  readonly trouble: Promise<unknown>;
}

/** `near` writes, `far` hears. Messages are copied by `keep` while they are valid. */
async function ends(
  t: ExecutionContext,
  lends: boolean,
  keep: (message: ToEntry | ToHost) => ToEntry | ToHost,
): Promise<Ends> {
  const [nearSocket, farSocket] = await socketPair(t);
  const heard: (ToEntry | ToHost)[] = [];
  let wake: () => void = () => undefined;
  let broken: (error: unknown) => void = () => undefined;
  const trouble = new Promise<unknown>((resolve) => {
    broken = resolve;
  });
  const near = openSocketLane(nearSocket, { heard: () => undefined, broken: () => undefined });
  const far = openSocketLane(farSocket, {
    heard: (message) => {
      heard.push(keep(message));
      wake();
    },
    broken: (error) => broken(error),
    lends,
  });
  t.teardown(() => {
    near.socket.destroy();
    far.socket.destroy();
  });
  const next = async (): Promise<ToEntry | ToHost> => {
    while (heard.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    return heard.shift() as ToEntry | ToHost;
  };
  return { near, far, next, trouble };
}

/** The same with rows of their own, as a link makes results of a reply. */
const own = (message: ToEntry | ToHost): ToEntry | ToHost => {
  if (message.kind !== 'batch' || message.payload.kind === 'columns') return message;
  return { ...message, payload: { kind: 'rows', values: unpackRows(message.payload) } };
};

const batch = (id: number, values: readonly unknown[]): ToEntry => ({
  kind: 'batch',
  incarnation: 1,
  id,
  payload: packRows(values),
});

for (const lends of [false, true]) {
  test(`messages of any size come out of a socket as they went in, in order${lends ? ', also lent ones' : ''}`, async (t) => {
    const { near, next } = await ends(t, lends, own);
    const edge = FAR_BYTES_MIN / 8;
    const record = fc.oneof(
      fc.float64Array({ maxLength: 40 }),
      fc.integer({ min: edge - 2, max: edge + 2 }).map((length) => new Float64Array(length).fill(length)),
      fc.integer({ min: 1, max: 300_000 }).map((length) => new Uint8Array(length).map((_, index) => index + length)),
      fc.bigInt64Array({ maxLength: 4 }),
      fc.record({ text: fc.string(), list: fc.tuple(fc.float64Array({ maxLength: 4 })) }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(record, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 6 }),
        async (batches) => {
          // All at once: frames share reads, and reads end anywhere inside of frames.
          for (const [id, values] of batches.entries()) void near.write(batch(id, values));
          for (const [id, values] of batches.entries()) {
            const message = await next();
            if (message.kind !== 'batch' || message.payload.kind !== 'rows') return t.fail();
            t.is(message.id, id);
            t.deepEqual(message.payload.values, values);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
}

test('values with arrays deep inside are never lent, so the next message cannot overwrite them', async (t) => {
  const { near, next } = await ends(t, true, (message) => message);
  const deep = (value: number): unknown => ({
    a: { b: { c: { d: new Map([['x', new Float64Array(8).fill(value)]]) } } },
  });
  void near.write(batch(1, [deep(1)]));
  const first = await next();
  for (let id = 2; id < 6; id++) {
    void near.write(batch(id, [deep(id)]));
    await next();
  }
  t.deepEqual(first.kind === 'batch' && first.payload.kind === 'rows' ? first.payload.values : [], [deep(1)]);
});

test("a far array is the caller's again when the write has ended, and arrives in exactly its own memory", async (t) => {
  const { near, next } = await ends(t, false, (message) => message);
  const recycler = new Recycler();
  for (let round = 0; round < 4; round++) {
    const payload = packRows([new Float32Array(400_000).fill(round)], recycler.take);
    if (payload.kind !== 'packed') return t.fail();
    const flushed = near.write({ kind: 'batch', incarnation: 1, id: round, payload });
    const message = await next();
    await flushed;
    (payload.data as Float32Array).fill(-1);
    recycler.giveWhole(payload.data);
    if (message.kind !== 'batch' || message.payload.kind !== 'packed') return t.fail();
    const { data } = message.payload;
    t.is(data.byteLength, data.buffer.byteLength);
    t.true((data as Float32Array).every((value) => value === round));
  }
});

test('a socket that was made elsewhere and cannot be taken over is read all the same', async (t) => {
  const [near, far] = await socketPair(t);
  const heard = new Promise((resolve) => {
    (far as unknown as { _handle: { useUserBuffer?: unknown } })._handle.useUserBuffer = undefined;
    const lane = openSocketLane(far, { heard: resolve, broken: (error) => t.fail(String(error)) });
    t.is(lane.socket, far);
  });
  const values = [new Float32Array(50_000).fill(3)];
  void openSocketLane(near, { heard: () => undefined, broken: () => undefined }).write(batch(1, values));
  const message = (await heard) as ToEntry;
  t.deepEqual(
    message.kind === 'batch' && message.payload.kind === 'packed' ? message.payload.data : undefined,
    values[0],
  );
  near.destroy();
  far.destroy();
});

test('arrays that belong to no message, and bytes after a broken frame, are refused once', async (t) => {
  const { near, trouble } = await ends(t, false, (message) => message);
  const stray = encodeFrame(new Uint8Array(16), FRAME_ARRAY);
  near.socket.write(stray);
  void near.write({ kind: 'abandon', incarnation: 1, id: 1 });
  near.socket.write(Buffer.alloc(200_000, 7));
  const error = await trouble;
  t.true(isTroupeError(error) && error.code === 'PROTOCOL_VIOLATION');
});
