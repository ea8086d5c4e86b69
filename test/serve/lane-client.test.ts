import net from 'node:net';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { isTroupeError, type Outcome, type PoolClient } from 'troupe';
import { type Deferred, deferred } from '../../src/kernel/deferred.js';
import { seededRandom } from '../../src/kernel/random.js';
import { LaneBook } from '../../src/serve/lane-book.js';
import { LaneConnection } from '../../src/serve/lane-connection.js';
import { LaneLink } from '../../src/serve/lane-link.js';
import { LaneQuestions } from '../../src/serve/lane-questions.js';
import type { AnySubmission } from '../../src/serve/remote-pool.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { decodeToServer, LANE_PROTOCOL, type ToClient, type ToServer } from '../../src/wire/lane-messages.js';
import { encodeMessage } from '../../src/wire/process-codec.js';
import { openLane } from '../../src/wire/socket-lane.js';
import { folder } from './lane-stand.js';

/** What a client of the lane says, to a server by hand, while its time stands still. */

/** So long that no beat comes where a test does not let time pass. */
const HEARTBEAT_MS = 60_000;

interface HandPeer {
  /** 0 for the first connection. */
  readonly index: number;
  say(message: ToClient): void;
  end(): void;
}

/** A server by hand: greets, opens and answers whoever asks for health, but for what `hear` says it has done itself. */
class HandServer {
  readonly path: string;
  readonly heard: ToServer[] = [];
  readonly peers: HandPeer[] = [];
  #news: Deferred<void> = deferred();
  readonly #server: net.Server;
  readonly #sockets: net.Socket[] = [];

  constructor(t: ExecutionContext, hear: (message: ToServer, peer: HandPeer) => boolean = () => false) {
    this.path = path.join(folder(t), 'l');
    this.#server = net.createServer((dialled) => {
      const { socket } = openLane<ToClient, ToServer>(
        dialled,
        {
          heard: (message) => {
            if (!hear(message, peer)) this.#answer(message, peer);
            this.heard.push(message);
            this.#news.resolve();
          },
          broken: (error) => t.fail(String(error)),
        },
        decodeToServer,
      );
      const peer: HandPeer = {
        index: this.peers.length,
        say: (message) => {
          for (const piece of encodeMessage(message)) socket.write(piece);
        },
        end: () => socket.destroy(),
      };
      this.peers.push(peer);
      this.#sockets.push(socket);
      socket.on('error', () => undefined);
    });
    t.teardown(() => {
      for (const socket of this.#sockets) socket.destroy();
      this.#server.close();
    });
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(this.path, () => resolve()));
    return this;
  }

  get last(): HandPeer {
    return this.peers.at(-1) as HandPeer;
  }

  of<Kind extends ToServer['kind']>(kind: Kind): Extract<ToServer, { kind: Kind }>[] {
    return this.heard.filter((message): message is Extract<ToServer, { kind: Kind }> => message.kind === kind);
  }

  /** Until so many messages of a kind have come. */
  async until(kind: ToServer['kind'], count = 1): Promise<void> {
    while (this.of(kind).length < count) {
      await this.#news.promise;
      this.#news = deferred();
    }
  }

  #answer(message: ToServer, peer: HandPeer): void {
    if (message.kind === 'hello') peer.say(welcome());
    if (message.kind === 'open')
      peer.say({ kind: 'opened', channel: message.channel, repeatable: true, attempts: 5, ...ALLOWED });
    if (message.kind === 'health') peer.say({ kind: 'answer', id: message.id, value: { ready: true } });
  }
}

const ALLOWED = { records: 100, bytes: 1_000_000 };

function welcome(known?: readonly number[]): ToClient {
  const sizes = { frameBytes: 80_000, records: 100, asked: 100 };
  return { kind: 'welcome', protocol: LANE_PROTOCOL, resumed: known !== undefined, known: known ?? [], ...sizes };
}

function outcome(seq: number, id: number, value: unknown, streams?: readonly number[]): ToClient {
  const rest = { versions: undefined, models: undefined, faults: undefined, ...(streams && { streams }) };
  return { kind: 'outcomes', seq, ids: id, ...rest, payload: { kind: 'rows', values: [value] } };
}

interface ClientStand {
  readonly clock: VirtualClock;
  readonly pool: PoolClient<number, unknown>;
  /** Both sides have heard what the other has said so far. */
  settle(): Promise<void>;
}

async function clientStand(t: ExecutionContext, server: HandServer): Promise<ClientStand> {
  const clock = new VirtualClock();
  const connection = new LaneConnection({
    address: `unix://${server.path}`,
    path: server.path,
    token: undefined,
    timeoutMs: 30_000,
    heartbeatMs: HEARTBEAT_MS,
    clock,
    random: seededRandom(1),
  });
  t.teardown(() => connection.close());
  const pool = connection.pool<number, unknown>('p');
  const settle = async (): Promise<void> => {
    for (let round = 0; round < 3; round++) t.deepEqual(await pool.health(), { ready: true });
  };
  clock.advance(1);
  await settle();
  return { clock, pool, settle };
}

test('a stream that tell was answered with is given up by the client', async (t) => {
  const server = await new HandServer(t).listen();
  const { pool, settle } = await clientStand(t, server);
  pool.tell(1);
  await server.until('records');
  server.last.say(outcome(1, 1, undefined, [0]));
  await settle();
  t.deepEqual(server.of('quit'), [{ kind: 'quit', id: 1 }]);
});

test('a client that comes back gives up what it does not want any more, and nothing else', async (t) => {
  const backAgain = deferred<void>();
  const server = await new HandServer(t, (message, { index, end }) => {
    if (index === 0 && message.kind === 'records') end();
    if (index !== 1 || message.kind !== 'hello') return false;
    backAgain.resolve(); // Welcomed when the test says so.
    return true;
  }).listen();
  const { clock, pool, settle } = await clientStand(t, server);
  const gone = new AbortController();
  const unwanted = pool.ask(1, { signal: gone.signal });
  const wanted = pool.ask(2);
  await server.until('records');
  while (server.peers.length < 2) {
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(1);
  }
  await backAgain.promise;
  gone.abort();
  await t.throwsAsync(unwanted, { code: 'CANCELLED', message: /cancelled by its caller/ });
  server.last.say(welcome([1, 2]));
  await settle();
  t.deepEqual(server.of('cancel').at(-1), { kind: 'cancel', ids: [1] });
  server.last.say(outcome(1, 2, 'two'));
  t.is(await wanted, 'two');
});

test('a record that is cancelled in the turn that sends it is given up at the server', async (t) => {
  const server = await new HandServer(t).listen();
  const { pool, settle } = await clientStand(t, server);
  const settled = deferred<Outcome<unknown>>();
  const terms = { sender: pool.openSender('test'), priority: 0, deadlineAt: Infinity };
  pool.offer({ input: 1, ...terms, settled: settled.resolve })?.cancel();
  t.like(await settled.promise, { ok: false, error: { code: 'CANCELLED' } });
  await settle();
  const said = server.heard.filter(({ kind }) => kind === 'records' || kind === 'cancel');
  t.deepEqual(
    said.map(({ kind }) => kind),
    ['records', 'cancel'],
  );
  t.deepEqual(server.of('cancel')[0]?.ids, [1]);
});

test('a record whose deadline passes at the server is given up there', async (t) => {
  const server = await new HandServer(t).listen();
  const { clock, pool, settle } = await clientStand(t, server);
  const late = pool.ask(1, { timeoutMs: 1000 });
  await server.until('records');
  clock.advance(999);
  await settle();
  t.deepEqual(server.of('cancel'), []);
  clock.advance(10_000); // The server has the first word.
  await t.throwsAsync(late, { code: 'DEADLINE_PASSED' });
  await settle();
  t.deepEqual(
    server.of('cancel').map(({ ids }) => ids),
    [[1]],
  );
});

test('the server is told what was heard when large outcomes come, and after many, without a beat', async (t) => {
  const server = await new HandServer(t).listen();
  const { pool, settle } = await clientStand(t, server);
  const asks = Array.from({ length: 40 }, (_, at) => pool.ask(at));
  await server.until('records');
  const told = (): number[] => server.of('ping').map(({ heard }) => heard);
  let seq = 0;
  const answer = async (bytes: number): Promise<void> => {
    seq++;
    server.last.say(outcome(seq, seq, new Uint8Array(bytes)));
    await asks[seq - 1];
  };
  // An eighth of the 80,000 bytes of a frame.
  await answer(9000);
  await settle();
  t.deepEqual(told(), []);
  await answer(9000);
  await settle();
  t.deepEqual(told(), [2], 'the bytes of both');
  await answer(9000);
  await settle();
  t.deepEqual(told(), [2], 'they are counted anew');
  await answer(70_000);
  await settle();
  t.deepEqual(told(), [2, 4]);
  while (seq < 4 + 15) await answer(1);
  await settle();
  t.deepEqual(told(), [2, 4]);
  await answer(1);
  await settle();
  t.deepEqual(told(), [2, 4, 20]);
  while (seq < asks.length) await answer(1);
});

interface LinkStand {
  readonly link: LaneLink;
  /** The next of them is what chance gives. */
  readonly chances: number[];
  /** The n-th failure has come, from 1 on. */
  failed(count: number): Promise<void>;
  up(): Promise<void>;
  /** It is dialled after so many milliseconds, and not before. */
  dialsAfter(ms: number): void;
}

function linkStand(t: ExecutionContext, server: HandServer): LinkStand {
  const clock = new VirtualClock();
  const chances: number[] = [];
  let downCount = 0;
  let news: Deferred<void> = deferred();
  let isWelcome = deferred<void>();
  const link = new LaneLink({
    path: server.path,
    heartbeatMs: HEARTBEAT_MS,
    clock,
    random: () => chances.shift() ?? 0,
    hello: () => ({ client: '0'.repeat(32), heard: 0 }),
    heard: () => 0,
    welcomed: () => isWelcome.resolve(),
    hear: () => news.resolve(),
    down: () => {
      downCount++;
      news.resolve();
    },
  });
  t.teardown(() => link.close());
  clock.advance(0); // The first is dialled at once.
  return {
    link,
    chances,
    failed: async (count) => {
      while (downCount < count) {
        await news.promise;
        news = deferred();
      }
    },
    up: async () => {
      await isWelcome.promise;
      isWelcome = deferred();
    },
    dialsAfter: (ms) => {
      const before = link.dialCount;
      clock.advance(ms - 1);
      t.is(link.dialCount, before, `not before ${ms} ms`);
      clock.advance(1);
      t.is(link.dialCount, before + 1, `after ${ms} ms`);
    },
  };
}

test('a client waits twice as long after each failure, half of it by chance', async (t) => {
  const { link, chances, failed, dialsAfter } = linkStand(t, new HandServer(t)); // It does not listen.
  chances.push(0, 0.5, 0.5, 0, 0.5, 0, 0.5, 0, 0.5);
  for (const [at, ms] of [25, 75, 150, 200, 600, 800, 2400, 2500, 3750].entries()) {
    await failed(at + 1);
    dialsAfter(ms);
  }
  t.is(link.dialCount, 10);
  await failed(10);
});

test('the wait grows while a server lets in and dies, and begins anew when it has answered something', async (t) => {
  const server = new HandServer(t);
  const { failed, up, dialsAfter } = linkStand(t, server);
  await failed(1);
  dialsAfter(25);
  await failed(2);
  await server.listen();
  dialsAfter(50);
  await up();
  server.last.end();
  await failed(3);
  dialsAfter(100);
  await up();
  server.last.say({ kind: 'pong' });
  server.last.end();
  await failed(4);
  dialsAfter(25);
  await up();
});

test('a question that was answered is not counted any more, nor one that could not be asked', async (t) => {
  const said: number[] = [];
  let changes = 0;
  const questions = new LaneQuestions({
    address: 'unix:///l',
    clock: new VirtualClock(),
    say: (message) => {
      if (message.kind === 'call') throw new Error('no copy');
      said.push(message.id);
    },
    trouble: () => undefined,
    changed: () => void changes++,
  });
  const book = new LaneBook<AnySubmission>();
  const channel = book.add('p');
  book.open(channel, { repeatable: true, attempts: 5, ...ALLOWED });
  const asked = questions.ask(channel, 1000, (id) => ({ kind: 'health', id, channel: 0 }));
  t.is(questions.count, 1);
  questions.answered(said[0] as number, undefined, 'fine');
  t.is(questions.count, 0);
  t.is(await asked, 'fine');
  const uncopied = questions.ask(channel, 1000, (id) => ({ kind: 'call', id, channel: 0, method: 'm', args: [] }));
  t.is(questions.count, 0);
  t.true(isTroupeError(await t.throwsAsync(uncopied, { code: 'INPUT_INVALID' })));
  t.is(changes, 2);
});

test('F3 a server that falls silent is taken for gone within two beats, and one that speaks is not', async (t) => {
  let isMute = false;
  const server = await new HandServer(t, (_, { index }) => isMute && index === 0).listen();
  const { clock, pool } = await clientStand(t, server);
  const beat = async (): Promise<void> => {
    clock.advance(HEARTBEAT_MS);
    // What came meanwhile is read before it is judged.
    for (let round = 0; round < 2; round++) await new Promise((resolve) => setImmediate(resolve));
  };
  for (let count = 0; count < 3; count++) {
    await beat();
    t.deepEqual(await pool.health(), { ready: true });
  }
  t.is(server.peers.length, 1);
  isMute = true;
  await beat();
  await beat();
  clock.advance(1000); // Longer than it waits before its first try, and less than a beat.
  while (server.peers.length < 2) await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual(await pool.health(), { ready: true });
});
