import net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { type Connection, defineActor, fromIterable, isTroupeError, stream, toArray, type TroupeError } from 'troupe';
import { type Deferred, deferred } from '../../src/kernel/deferred.js';
import { systemClock } from '../../src/kernel/clock.js';
import { LANE_PROTOCOL, type ToServer } from '../../src/wire/lane-messages.js';
import { encodeMessage } from '../../src/wire/process-codec.js';
import { laneProxy } from '../e2e/lane-proxy.js';
import { laneStand, type LaneStand } from './lane-stand.js';

/** Token streams of pools of another process. */

type Pieces = AsyncIterable<unknown>;

interface Talker {
  /** Pieces made, by record. */
  readonly made: Map<number, number>;
  /** Generators begun, by record. */
  readonly begun: Map<number, number>;
  readonly ended: (record: number) => Promise<void>;
  readonly talk: (record: number) => AsyncGenerator<unknown>;
  readonly actor: ReturnType<typeof defineActor<number, Pieces, unknown>>;
}

/** Record n is answered with n pieces: 0, 1, ...; with `before` in front of each. */
function talker(before: (record: number, piece: number) => unknown = () => undefined): Talker {
  const made = new Map<number, number>();
  const begun = new Map<number, number>();
  const ends = new Map<number, Deferred<void>>();
  const endOf = (record: number): Deferred<void> => {
    const known = ends.get(record) ?? deferred<void>();
    ends.set(record, known);
    return known;
  };
  async function* talk(record: number): AsyncGenerator<unknown> {
    begun.set(record, (begun.get(record) ?? 0) + 1);
    try {
      for (let piece = 0; piece < record; piece++) {
        const given = await before(record, piece);
        made.set(record, piece + 1);
        yield given ?? piece;
      }
    } finally {
      endOf(record).resolve();
    }
  }
  const actor = defineActor({ predict: (batch: readonly number[]) => batch.map(talk) });
  return { made, begun, ended: (record) => endOf(record).promise, talk, actor };
}

async function all(pieces: Pieces): Promise<unknown[]> {
  const got: unknown[] = [];
  for await (const piece of pieces) got.push(piece);
  return got;
}

/** What came before it ended, and what with. */
async function untilEnd(pieces: Pieces): Promise<readonly [unknown[], TroupeError | undefined]> {
  const got: unknown[] = [];
  try {
    for await (const piece of pieces) got.push(piece);
  } catch (error) {
    if (isTroupeError(error)) return [got, error];
    throw error;
  }
  return [got, undefined];
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at);

/** Everything said so far has come: a question and its answer go behind it, there and back. */
async function settle(connection: Connection): Promise<void> {
  for (let round = 0; round < 5; round++) await connection.pool('talk').health();
}

async function talkStand(t: ExecutionContext, actor: Talker['actor']): Promise<LaneStand> {
  const stand = await laneStand(t);
  await stand.system.spawn('talk', { actor, batching: { maxSize: 4 } });
  return stand;
}

test('a record of a remote pool is answered with a stream of its pieces, as by a local one', async (t) => {
  const words = [{ text: 'ü' }, new Float32Array([1, 2]), null, 'end', 7n];
  const { actor } = talker((record, piece) => (record === 5 ? words[piece] : piece));
  const { system, connect } = await talkStand(t, actor);
  const remote = connect().pool<number, Pieces>('talk');
  const [near, far] = [
    await all((await system.get<number, Pieces>('talk')?.ask(5)) as Pieces),
    await all(await remote.ask(5)),
  ];
  t.deepEqual(far, near);
  t.deepEqual(await all(await remote.ask(1000)), upTo(1000));
  t.deepEqual(await all(await remote.ask(0)), []);
  const outcomes = await remote.askMany([3, 0, 40]);
  const read = await Promise.all(outcomes.map(async (outcome) => outcome.ok && (await all(outcome.value))));
  t.deepEqual(read, [upTo(3), [], upTo(40)]);
});

test('streams of many records run beside each other, and beside records that are answered whole', async (t) => {
  const actor = defineActor({
    predict: (batch: readonly number[]) => batch.map((n) => (n % 2 === 0 ? n : talker().talk(n))),
  });
  const { system, connect } = await laneStand(t);
  await system.spawn('mixed', { actor });
  const pool = connect().pool<number, number | Pieces>('mixed');
  const got = await Promise.all(
    upTo(60).map(async (n) => {
      const answer = await pool.ask(n);
      return typeof answer === 'number' ? answer : (await all(answer)).length;
    }),
  );
  t.deepEqual(got, upTo(60));
});

test('a pipeline reads the streams of a remote pool', async (t) => {
  const { actor } = talker();
  const { connect } = await talkStand(t, actor);
  const sink = toArray<number>();
  const report = await stream(fromIterable(upTo(50)))
    .infer(connect().pool<number, Pieces>('talk'))
    .map(async (pieces) => (await all(pieces)).length)
    .to(sink);
  t.like(report, { results: 50, failed: 0 });
  t.deepEqual(sink.values, upTo(50));
});

test('who takes no pieces stops the actor, and who takes them again gets all of them in order', async (t) => {
  const { actor, made } = talker();
  const { connect } = await talkStand(t, actor);
  const connection = connect();
  const pieces = (await connection.pool<number, Pieces>('talk').ask(500)) as AsyncIterableIterator<unknown>;
  await settle(connection);
  t.is(made.get(500), undefined, 'nothing is made before somebody reads');
  t.deepEqual(await pieces.next(), { done: false, value: 0 });
  await settle(connection);
  const count = made.get(500) as number;
  // Sixteen here, and sixteen at the server.
  t.true(count >= 2 && count <= 33, `${count} pieces were made and one was taken`);
  await settle(connection);
  t.is(made.get(500), count);
  t.deepEqual(await all(pieces), upTo(500).slice(1));
});

test('leaving a stream ends the generator at the server, and others go on', async (t) => {
  const { actor, ended, made } = talker();
  const { connect } = await talkStand(t, actor);
  const pool = connect().pool<number, Pieces>('talk');
  const other = (await pool.ask(300)) as AsyncIterableIterator<unknown>;
  await other.next();
  for await (const piece of await pool.ask(1_000_000)) if (piece === 5) break;
  await ended(1_000_000);
  t.true((made.get(1_000_000) as number) < 100);
  const unread = (await pool.ask(200_000)) as AsyncIterableIterator<unknown>;
  await unread.return?.();
  t.deepEqual(await unread.next(), { done: true, value: undefined });
  t.deepEqual(await all(other), upTo(300).slice(1));
});

test('a stream that ends early says why, after the pieces that came before it', async (t) => {
  const { actor, ended } = talker((record, piece) => {
    if (record === 20 && piece === 10) throw new RangeError('no more');
    return record === 21 && piece === 10 ? () => 1 : undefined;
  });
  const { system, connect } = await talkStand(t, actor);
  const pool = connect().pool<number, Pieces>('talk');
  const [got, error] = await untilEnd(await pool.ask(20));
  const [near, local] = await untilEnd((await system.get<number, Pieces>('talk')?.ask(20)) as Pieces);
  t.deepEqual(got, near);
  t.deepEqual(got, upTo(10));
  t.like(error, { code: 'PREDICT_FAILED', ran: local?.ran, message: local?.message, retryable: local?.retryable });
  const [before, uncopied] = await untilEnd(await pool.ask(21));
  t.deepEqual(before, upTo(10));
  t.like(uncopied, { code: 'PREDICT_FAILED' });
  t.regex(uncopied?.message ?? '', /cannot be sent to another process/);
  await ended(21);
});

test('a cut ends streams that are read, once and typed, and the generator with them; the next ask is answered', async (t) => {
  const { actor, begun, ended } = talker();
  const stand = await talkStand(t, actor);
  const pairs: { cut(): void }[] = [];
  const proxy = await laneProxy(t, stand.socket, (chunk, pair) => {
    if (pairs[pair.index] === undefined) pairs[pair.index] = pair;
    return chunk;
  });
  const connection = stand.connectTo(proxy.address);
  const pool = connection.pool<number, Pieces>('talk');
  const [read, unread] = [(await pool.ask(100_000)) as AsyncIterableIterator<unknown>, await pool.ask(100_001)];
  t.deepEqual(await read.next(), { done: false, value: 0 });
  pairs[0]?.cut();
  const [got, error] = await untilEnd(read);
  t.deepEqual(
    got,
    upTo(got.length).map((at) => at + 1),
  );
  t.like(error, { code: 'INTERRUPTED', ran: 'interrupted', retryable: true });
  t.regex(error?.message ?? '', /token stream was under way/);
  const [none, also] = await untilEnd(unread);
  t.deepEqual([none, also?.code], [[], 'INTERRUPTED']);
  await ended(100_000);
  t.deepEqual(await all(await pool.ask(50)), upTo(50));
  t.deepEqual([begun.get(100_000), begun.get(50)], [1, 1]);
});

test('the end of a client ends its generators, and a server that stops waits for streams that are read', async (t) => {
  const gate = deferred<void>();
  const { actor, ended } = talker((record, piece) => (record === 30 && piece === 20 ? gate.promise : undefined));
  const { system, connect } = await talkStand(t, actor);
  const first = connect();
  const left = (await first.pool<number, Pieces>('talk').ask(1_000_000)) as AsyncIterableIterator<unknown>;
  await left.next();
  await first.close();
  t.like((await untilEnd(left))[1], { code: 'POOL_STOPPED', ran: 'interrupted' });
  await ended(1_000_000);
  const pieces = (await connect().pool<number, Pieces>('talk').ask(30)) as AsyncIterableIterator<unknown>;
  await pieces.next();
  const stopped = system.stop();
  gate.resolve();
  t.deepEqual(await all(pieces), upTo(30).slice(1));
  await stopped;
});

test('an ask that was given up while its stream came about ends the generator', async (t) => {
  const gate = deferred<void>();
  const entered = deferred<void>();
  const { talk, begun } = talker();
  const quit = deferred<void>();
  const actor = defineActor({
    predict: async (batch: readonly number[], { signal }: { signal: AbortSignal }) => {
      entered.resolve();
      signal.addEventListener('abort', () => quit.resolve());
      await gate.promise;
      return batch.map(talk);
    },
  });
  const { system, connect } = await laneStand(t);
  await system.spawn('talk', { actor });
  const connection = connect();
  const gone = new AbortController();
  const asked = connection.pool<number, Pieces>('talk').ask(9, { signal: gone.signal });
  await entered.promise;
  gone.abort();
  await t.throwsAsync(asked, { code: 'CANCELLED' });
  await quit.promise;
  gate.resolve();
  await system.stop();
  t.is(begun.get(9), undefined);
});

test('streams that run stand in the stats of their pool, here and at its server, and in its metrics', async (t) => {
  const { actor, ended } = talker();
  const { system, connect } = await talkStand(t, actor);
  const pool = connect().pool<number, Pieces>('talk');
  const pieces = (await pool.ask(100_000)) as AsyncIterableIterator<unknown>;
  await pieces.next();
  const streams = async (): Promise<number | undefined> => (await pool.stats()).replicas[0]?.tokenStreams;
  t.is(await streams(), 1);
  t.regex(system.metrics(), /troupe_token_streams\{pool="talk"\} 1\n/);
  await pieces.return?.();
  await ended(100_000);
  while ((await streams()) !== 0);
  t.regex(system.metrics(), /troupe_token_streams\{pool="talk"\} 0\n/);
});

test('what tell was answered with is given up', async (t) => {
  const quit = deferred<void>();
  const pieces = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}), return: async () => quit.resolve() }),
  };
  const { system, connect } = await laneStand(t);
  await system.spawn('talk', {
    actor: defineActor({ predict: (batch: readonly number[]) => batch.map(() => pieces) }),
  });
  connect().pool<number, unknown>('talk').tell(1);
  await quit.promise;
  t.pass();
});

test('a client that asks for more pieces at once than it may is cut off', async (t) => {
  const { actor } = talker();
  const { socket, system } = await talkStand(t, actor);
  const client = net.connect(socket);
  t.teardown(() => client.destroy());
  const say = (message: ToServer): void => {
    for (const piece of encodeMessage(message)) client.write(piece);
  };
  const gone = new Promise<void>((resolve) => client.once('close', () => resolve()));
  say({ kind: 'hello', protocol: LANE_PROTOCOL, client: '1'.repeat(32), heard: 0, heartbeatMs: 60_000 });
  say({ kind: 'open', channel: 0, pool: 'talk' });
  const terms = { priority: 0, callTimeoutMs: undefined, key: undefined, model: undefined, traceparent: undefined };
  const payload = { kind: 'rows', values: [1000] } as const;
  say({
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
  // Until the stream is there, a pull of it is answered with its end.
  const until = systemClock.now() + 100_000;
  let isOver = false;
  client.on('data', () => undefined);
  void gone.then(() => (isOver = true));
  while (!isOver && systemClock.now() < until) {
    say({ kind: 'pull', id: 1, count: 16 });
    say({ kind: 'pull', id: 1, count: 16 });
    await new Promise((resolve) => setImmediate(resolve));
  }
  await gone;
  t.regex(system.metrics(), /listener="lane",reason="frame"\} 1/);
});
