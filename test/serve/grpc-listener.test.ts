import test, { type ExecutionContext } from 'ava';
import { GrpcListener, type GrpcPlace } from '../../src/serve/grpc-listener.js';
import { resolveServe } from '../../src/serve/serve-options.js';
import { ByteBudget } from '../../src/stream/http-body.js';
import { type Late, late, standStill } from '../stream/late-stand.js';

/** What every client says first: who speaks, and a frame of settings without any. */
const HELLO = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';

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
