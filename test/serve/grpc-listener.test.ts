import { once } from 'node:events';
import { type ClientHttp2Stream, connect } from 'node:http2';
import test, { type ExecutionContext } from 'ava';
import { deferred } from '../../src/kernel/deferred.js';
import type { GrpcCall } from '../../src/serve/grpc-call.js';
import { GrpcListener, type GrpcPlace } from '../../src/serve/grpc-listener.js';
import { resolveServe } from '../../src/serve/serve-options.js';
import { ByteBudget } from '../../src/stream/http-body.js';
import { type Late, late, standStill } from '../stream/late-stand.js';

/** What every client says first: who speaks, and a frame of settings without any. */
const HELLO = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';

const CALLS = 5000;

async function stand(t: ExecutionContext, place: Partial<GrpcPlace>): Promise<Late> {
  const made = await late(t);
  const options = resolveServe({ grpc: { port: 0 } });
  const all = { methods: new Map(), budget: new ByteBudget(1e6), keepAliveMs: 60_000, port: 0, ...place };
  const listener = new GrpcListener(options, { ...all, bind: made.bind });
  await listener.open();
  t.teardown(() => listener.close(0));
  return made;
}

test('a connection of gRPC whose first words came while the process stood still is kept', async (t) => {
  const made = await stand(t, { helloMs: 100 });
  await new Promise((resolve) => made.client.write(HELLO, 'latin1', resolve));
  made.enter();
  standStill(2000);
  // The answer to the settings.
  t.regex(await made.said(/\0\0\0\x04\x01\0\0\0\0/), /\0\0\0\x04\x01\0\0\0\0/);
});

test('a connection of gRPC that says nothing is ended', async (t) => {
  const made = await stand(t, { helloMs: 100 });
  made.enter();
  await made.said(/never/);
  t.pass();
});

test('a client that begins calls and gives them up without end loses its connection', async (t) => {
  let taken = 0;
  const take = async (call: GrpcCall): Promise<void> => {
    taken++;
    await call.next();
  };
  const made = await stand(t, {
    methods: new Map([['/m', { admits: () => true, isStream: false, take }]]),
    keepAliveMs: 500,
  });
  made.enter();
  const head = Buffer.concat(
    [
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', '/m'],
      [':authority', 'localhost'],
      ['content-type', 'application/grpc'],
    ].map(([name = '', value = '']) =>
      Buffer.concat([Buffer.of(0, name.length), Buffer.from(name), Buffer.of(value.length), Buffer.from(value)]),
    ),
  );
  made.client.write(HELLO, 'latin1');
  const [HEADERS, RESET, ALL_HEADERS, CANCEL] = [1, 3, 4, 8];
  for (let id = 1; id < 2 * CALLS; id += 2) {
    made.client.write(frame(HEADERS, ALL_HEADERS, id, head));
    made.client.write(frame(RESET, 0, id, Buffer.of(0, 0, 0, CANCEL)));
  }
  // GOAWAY, and then the end: `said` resolves with that.
  t.regex(await made.said(/never/), /\0\0.\x07\0\0\0\0\0/s);
  // A thousand at once and 33 a second: so Node's own engine has it.
  t.true(taken >= 1000 && taken < CALLS, `${taken} were taken`);
});

test('a connection of gRPC rests once its last call is done, and is ended then', async (t) => {
  t.timeout(60_000);
  let keepAliveMs = Infinity;
  const swept = deferred<void>();
  const gate = deferred<void>();
  const take = async (call: GrpcCall): Promise<void> => {
    await call.next();
    if (call.headers['x-held'] === '1') await gate.promise;
    call.end();
  };
  const listener = new GrpcListener(resolveServe({ grpc: { port: 0 } }), {
    methods: new Map([['/m', { admits: () => true, isStream: false, take }]]),
    budget: new ByteBudget(1e6),
    /** It is looked at once in a sweep. */
    get keepAliveMs() {
      if (keepAliveMs < 0) swept.resolve();
      return keepAliveMs;
    },
    port: 0,
  });
  const { port } = await listener.open();
  t.teardown(() => listener.close(0));
  const session = connect(`http://127.0.0.1:${port}`);
  t.teardown(() => session.destroy());
  const ended = once(session, 'close');
  const call = (headers = {}): ClientHttp2Stream => {
    const head = { ':path': '/m', ':method': 'POST', 'content-type': 'application/grpc', ...headers };
    return session.request(head).end(Buffer.alloc(5)).resume();
  };
  const held = call({ 'x-held': '1' });
  const heldEnded = once(held, 'close');
  await once(call(), 'close');
  // That one is done, the other is not: the connection does not rest when it is looked at.
  keepAliveMs = -1;
  await swept.promise;
  const [trailers] = await once(call(), 'trailers');
  t.is(trailers['grpc-status'], '0');
  t.false(session.closed);
  gate.resolve();
  await heldEnded;
  await ended;
});

function frame(type: number, flags: number, id: number, bytes: Buffer): Buffer {
  const made = Buffer.alloc(9 + bytes.length);
  made.writeUIntBE(bytes.length, 0, 3);
  made.writeUInt8(type, 3);
  made.writeUInt8(flags, 4);
  made.writeUInt32BE(id, 5);
  bytes.copy(made, 9);
  return made;
}
