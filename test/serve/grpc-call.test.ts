import { once } from 'node:events';
import {
  type ClientHttp2Stream,
  connect,
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
  type Settings,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { systemClock } from '../../src/kernel/clock.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { GrpcCall } from '../../src/serve/grpc-call.js';
import { ByteBudget, Refusal } from '../../src/stream/http-body.js';
import { ANSWER_MS, RECEIVE_MS } from '../../src/stream/http-listener.js';

/** One stream of gRPC, of which both ends are ours. */

interface Ends {
  readonly call: GrpcCall;
  readonly client: ClientHttp2Stream;
  readonly stream: ServerHttp2Stream;
  readonly budget: ByteBudget;
  /** Resolves when the server has seen so many bytes of messages that it holds. */
  held(bytes: number): Promise<void>;
}

async function ends(t: ExecutionContext, settings: Settings = {}): Promise<Ends> {
  const budget = new ByteBudget(1_000_000);
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { settings });
  t.teardown(() => {
    session.destroy();
    server.close();
  });
  session.on('error', () => undefined);
  const client = session.request({ ':path': '/', ':method': 'POST' });
  client.on('error', () => undefined);
  const [stream, headers] = (await once(server, 'stream')) as [ServerHttp2Stream, IncomingHttpHeaders];
  const call = new GrpcCall(stream, headers, { maxBodyBytes: 100_000, budget, isStream: true });
  const held = async (bytes: number): Promise<void> => {
    while (budget.held < bytes) await new Promise((resolve) => setImmediate(resolve));
  };
  return { call, client, stream, budget, held };
}

const prefix = (length: number, flag = 0): Buffer => Buffer.from([flag, 0, 0, 0, length]);

test('a message that waits for its reader is not late', async (t) => {
  const { call, client, held } = await ends(t);
  client.write(Buffer.concat([prefix(3), Buffer.from('one'), prefix(3), Buffer.from('tw')]));
  await held(5);
  call.expire(systemClock.now() + 2 * RECEIVE_MS);
  t.false((await call.next()) instanceof Refusal);
  const second = call.next();
  client.write('o');
  t.is(String(((await second) as { bytes: Buffer }).bytes), 'two');
  t.false(call.signal.aborted);
});

test('the time of a message counts from its begin, however often a byte of it comes', async (t) => {
  const { call, client, held } = await ends(t);
  const next = call.next();
  client.write(Buffer.concat([prefix(3), Buffer.from('t')]));
  await held(1);
  const begun = systemClock.now();
  while (systemClock.now() < begun + 20) await new Promise((resolve) => setImmediate(resolve));
  client.write('w');
  await held(2);
  call.expire(begun + RECEIVE_MS + 10);
  t.true(call.signal.aborted);
  t.regex((call.signal.reason as Refusal).message, /did not come within 60 s/);
  await next.catch((refusal: unknown) => t.true(refusal instanceof Refusal));
});

test('what of a message comes while it is read late has its time from then on', async (t) => {
  const { call, client, held } = await ends(t);
  client.write(Buffer.concat([prefix(3), Buffer.from('one'), prefix(3), Buffer.from('tw')]));
  await held(5);
  await call.next();
  const second = call.next();
  call.expire(systemClock.now() + RECEIVE_MS - 1000);
  t.false(call.signal.aborted);
  call.expire(systemClock.now() + RECEIVE_MS + 1000);
  t.true(call.signal.aborted);
  await second.catch((refusal: unknown) => t.true(refusal instanceof Refusal));
});

test('a message that cannot be unpacked is one refusal, and the next one comes', async (t) => {
  const { call, client, budget } = await ends(t);
  client.write(Buffer.concat([prefix(3, 1), Buffer.from('odd'), prefix(3), Buffer.from('two')]));
  t.true((await call.next()) instanceof Refusal);
  t.is(String(((await call.next()) as { bytes: Buffer }).bytes), 'two');
  t.is(budget.held, 3);
});

test('a call that fails behind an answer says why in its trailers, and one without in its head', async (t) => {
  const why = new TroupeError('MAILBOX_FULL', 'no room: 100 %');
  for (const isBegun of [true, false]) {
    const { call, client } = await ends(t);
    if (isBegun) {
      const begun = once(client, 'response');
      await call.send([Buffer.from('one')]);
      t.is((await begun)[0]['grpc-status'], undefined);
    }
    const said = once(client, isBegun ? 'trailers' : 'response') as Promise<[IncomingHttpHeaders]>;
    client.resume();
    call.fail(why);
    t.like((await said)[0], { 'grpc-status': '14', 'grpc-message': 'no room: 100 %25', 'retry-after': '1' });
  }
});

/** How a call ends in the middle of a message. */
const ENDS: readonly (readonly [string, (ends: Ends) => Promise<unknown>])[] = [
  ['whose client goes away', ({ client, stream }) => closed(stream, () => client.close(8))],
  ['that fails', async ({ call }) => call.fail(new Error('no'))],
  [
    'that ends well',
    ({ call, client, stream }) =>
      closed(stream, () => {
        call.end();
        client.close(8);
      }),
  ],
];

for (const [what, end] of ENDS)
  test(`a call ${what} in the middle of a message gives back what was held of it`, async (t) => {
    const made = await ends(t);
    made.client.write(Buffer.concat([prefix(3), Buffer.from('one'), prefix(9), Buffer.from('half')]));
    await made.held(7);
    await end(made);
    t.is(made.budget.held, 0);
  });

async function closed(stream: ServerHttp2Stream, end: () => void): Promise<void> {
  const isClosed = new Promise<void>((resolve) => stream.once('close', () => resolve()));
  end();
  await isClosed;
}

test('an answer that nobody takes ends an open stream, however small it is, and one that was taken does not', async (t) => {
  const { call, client, stream, budget } = await ends(t);
  budget.take(4);
  await call.send([Buffer.alloc(4)], 4);
  client.resume();
  while (budget.held > 0) await new Promise((resolve) => setImmediate(resolve));
  call.expire(systemClock.now() + 2 * ANSWER_MS);
  t.false(stream.destroyed);

  const unread = await ends(t, { initialWindowSize: 0 });
  unread.budget.take(4);
  await unread.call.send([Buffer.alloc(4)], 4);
  unread.call.expire(systemClock.now() + ANSWER_MS - 1000);
  t.is(unread.budget.held, 4);
  unread.call.expire(systemClock.now() + ANSWER_MS + 1000);
  while (unread.budget.held > 0) await new Promise((resolve) => setImmediate(resolve));
  t.true(unread.stream.destroyed);
});
