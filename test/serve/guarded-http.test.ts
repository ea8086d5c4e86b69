import { performance } from 'node:perf_hooks';
import test, { type ExecutionContext } from 'ava';
import { AddressGuard, endpointUrl } from '../../src/serve/address-guard.js';
import { GuardedHttp, NoReply } from '../../src/serve/guarded-http.js';
import { begun, rawServer } from './raw-server.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The time of this process, to be moved on by hand. Timers of less than a second are left alone. */
function heldTime(t: ExecutionContext): { timers(): number; pass(ms: number): void } {
  const { now } = performance;
  const { setTimeout: later, clearTimeout: never } = globalThis;
  let passed = 0;
  const held = new Map<object, { at: number; fn: () => void }>();
  performance.now = () => now.call(performance) + passed;
  globalThis.setTimeout = ((fn: () => void, ms: number) => {
    if (!(ms >= 1000)) return later(fn, ms);
    const timer = { ref: () => timer, unref: () => timer };
    held.set(timer, { at: performance.now() + ms, fn });
    return timer;
  }) as never;
  globalThis.clearTimeout = ((timer: object) => void (held.delete(timer) || never(timer as never))) as never;
  t.teardown(() => Object.assign(globalThis, { setTimeout: later, clearTimeout: never }));
  t.teardown(() => void (performance.now = now));
  return {
    timers: () => held.size,
    pass(ms) {
      passed += ms;
      for (const [timer, { at, fn }] of held) if (at <= performance.now() && held.delete(timer)) fn();
    },
  };
}

test('an answer may pause as long as the request may take, and no longer', async (t) => {
  const server = await rawServer(t, () => `${begun('content-length: 4')}ab`);
  const url = endpointUrl('url', server.url);
  const http = new GuardedHttp(url, new AddressGuard('allow', url, []));
  t.teardown(() => http.close());
  const time = heldTime(t);
  const { signal } = new AbortController();
  const rest = { method: 'GET', path: '/', headers: {}, body: [], maxReplyBytes: 100, signal };
  const paused = http.send({ ...rest, timeoutMs: 60_000 });
  while (time.timers() < 2) await turn(); // One for the whole, one for pauses once the answer has begun.
  time.pass(45_000);
  server.requests[0]?.socket.write('cd');
  t.is((await paused).body.toString(), 'abcd');
  const endless = http.send({ ...rest, timeoutMs: 60_000 });
  while (time.timers() < 2) await turn();
  time.pass(61_000);
  const error = await t.throwsAsync<NoReply>(endless, { instanceOf: NoReply });
  t.is(error?.kind, 'late');
});
