import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { connectControl, createSystem, silentLog } from 'troupe';
import { shownAnswer } from '../../src/control/shown.js';
import { privateFolder } from '../control/stand.js';
import type { Weighed } from '../e2e/weighty-actor.js';

const actor = new URL('../e2e/weighty-actor.js', import.meta.url).href;

test('with one start at a time a pool comes up, is swapped in every way, scaled and restarted', async (t) => {
  t.timeout(240_000);
  await using system = createSystem({ log: silentLog, startsAtOnce: 1 });
  const pool = await system.spawn<number, Weighed>('p', { actor, isolation: 'thread', replicas: 3, version: 1 });
  const many = await system.spawn<number, Weighed>('many', {
    actor,
    isolation: 'thread',
    replicas: 2,
    models: { list: ['a', 'b'], pin: ['a'], maxBytes: 10 },
  });
  let version = 1;
  for (const strategy of ['beside', 'rolling', 'recreate'] as const) {
    await pool.swap(++version, { strategy });
    t.is((await pool.ask(0)).version, String(version));
  }
  await Promise.all([pool.scale(4), many.scale(3), many.ask(0, { model: 'b' })]);
  await Promise.all([pool.restart(), many.restart()]);
  t.is((await pool.ask(0)).version, '4');
  t.is(pool.stats().replicas.filter(({ state }) => state === 'ready').length, 4);
  t.false(pool.stats().replicas.some(({ isWaiting }) => isWaiting));
});

test('what waits for its turn is seen in stats, ps and metrics, and a stop does not wait for it', async (t) => {
  t.timeout(240_000);
  const system = createSystem({ log: silentLog, startsAtOnce: 1 });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const pool = await system.spawn('slow', { actor, isolation: 'thread', version: 1, options: { loadMs: 1500 } });
  const { socket } = await system.openControl({ socket: join(privateFolder(t), 'c.sock') });
  await using control = await connectControl(socket);
  const grown = pool.scale(6);
  const failed = t.throwsAsync(grown, { code: 'POOL_STOPPED' });
  while (!pool.stats().replicas.some(({ isWaiting }) => isWaiting)) await turn();
  const { replicas } = pool.stats();
  const waiting = replicas.filter(({ isWaiting }) => isWaiting);
  const starting = replicas.filter(({ state, isWaiting }) => state === 'starting' && !isWaiting);
  t.true(waiting.every(({ state }) => state === 'starting'));
  t.true(waiting.length >= 1 && starting.length >= 1, `${waiting.length} wait, ${starting.length} start`);
  const seen = system.metrics();
  t.true(seen.includes(`troupe_replicas{pool="slow",state="waiting",version="1"} ${waiting.length}\n`));
  t.true(seen.includes(`troupe_replicas{pool="slow",state="starting",version="1"} ${starting.length}\n`));
  const ps = await control.ps();
  t.is(ps.pools[0]?.replicas, 6);
  t.true((ps.pools[0]?.waiting ?? 0) >= 1);
  t.regex(shownAnswer('ps', ps), / \d\/6, \d wait /);
  await system.stop({ timeoutMs: 0 });
  await failed;
  t.throws(() => createSystem({ startsAtOnce: 0 }), { instanceOf: TypeError, message: /startsAtOnce/ });
});
