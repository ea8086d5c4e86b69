import test from 'ava';
import { createSystem, defineActor, type LogEntry, silentLog, type TroupeError } from 'troupe';

/** Dies of the record `die`, told from outside; inline actors cannot, so these run in threads. */
const fragile = new URL('../fixtures/actors/fragile.js', import.meta.url).href;

const options = { actor: fragile, isolation: 'thread', restart: { max: 0 }, attempts: 1 } as const;

test('a failed pool stays failed by default, says so at once to everyone who asks, and the others go on', async (t) => {
  await using system = createSystem({ log: silentLog });
  const a = await system.spawn<string, string>('a', options);
  const b = await system.spawn<string, string>('b', options);
  const failed = new Promise<{ name: string; error: TroupeError }>((resolve) => system.on('pool-failed', resolve));
  await t.throwsAsync(a.ask('die'), { code: 'ACTOR_CRASHED' });
  t.is((await failed).name, 'a');
  await t.throwsAsync(a.ask('hello'), { code: 'NO_REPLICA' });
  t.is(a.stats().state, 'failed');
  t.is(await b.ask('hello'), 'hello');
});

test('one-for-all starts every pool again, in the order of spawning, and keeps what waits in the others', async (t) => {
  await using system = createSystem({ log: silentLog, supervision: { strategy: 'one-for-all', max: 3 } });
  const a = await system.spawn<string, string>('a', options);
  const b = await system.spawn<string, string>('b', options);
  const order: string[] = [];
  const both = new Promise<void>((resolve) =>
    system.on('pool-restarted', ({ name }) => {
      order.push(name);
      if (order.length === 2) resolve();
    }),
  );
  await t.throwsAsync(a.ask('die'), { code: 'ACTOR_CRASHED' });
  const waiting = b.ask('kept');
  await both;
  t.deepEqual(order, ['a', 'b']);
  t.is(await a.ask('again'), 'again');
  t.is(await waiting, 'kept');
  t.is(b.stats().replicas[0]?.incarnation, 2);
});

test('rest-for-one starts again the failed pool and those spawned after it, and leaves the earlier ones alone', async (t) => {
  await using system = createSystem({ log: silentLog, supervision: { strategy: 'rest-for-one', max: 3 } });
  const a = await system.spawn<string, string>('a', options);
  const b = await system.spawn<string, string>('b', options);
  const c = await system.spawn<string, string>('c', options);
  const order: string[] = [];
  const done = new Promise<void>((resolve) =>
    system.on('pool-restarted', ({ name }) => {
      order.push(name);
      if (name === 'c') resolve();
    }),
  );
  await t.throwsAsync(b.ask('die'), { code: 'ACTOR_CRASHED' });
  await done;
  t.deepEqual(order, ['b', 'c']);
  t.is(a.stats().replicas[0]?.incarnation, 1);
  t.is(await c.ask('x'), 'x');
});

test('more failures than the intensity forgives escalate: every pool is stopped', async (t) => {
  await using system = createSystem({ log: silentLog, supervision: { strategy: 'one-for-one', max: 1 } });
  const a = await system.spawn<string, string>('a', options);
  const b = await system.spawn<string, string>('b', options);
  const escalated = new Promise<{ name: string }>((resolve) => system.on('escalated', resolve));
  const restarted = new Promise<{ name: string }>((resolve) => system.on('pool-restarted', resolve));
  await t.throwsAsync(a.ask('die'), { code: 'ACTOR_CRASHED' });
  await restarted;
  await t.throwsAsync(a.ask('die'), { code: 'ACTOR_CRASHED' });
  t.is((await escalated).name, 'a');
  await system.stop();
  await t.throwsAsync(b.ask('x'), { code: 'POOL_STOPPED' });
});

test('pools stop in reverse order of their spawning, and a stopped system spawns nothing', async (t) => {
  const system = createSystem({ log: silentLog });
  const order: string[] = [];
  for (const name of ['a', 'b', 'c']) {
    const pool = await system.spawn(name, {
      actor: defineActor<number, number, void>({ predict: (batch: number[]) => batch }),
    });
    pool.on('stopped', () => order.push(name));
  }
  const report = await system.stop();
  t.deepEqual(order, ['c', 'b', 'a']);
  t.deepEqual(Object.keys(report.pools).sort(), ['a', 'b', 'c']);
  await t.throwsAsync(system.spawn('d', options), { code: 'POOL_STOPPED' });
});

test('the log has one line for a death and names the pool, the replica and what ended it', async (t) => {
  const lines: LogEntry[] = [];
  await using system = createSystem({ log: (entry) => lines.push(entry) });
  const pool = await system.spawn<string, string>('a', { ...options, restart: { max: 5 } });
  const restarted = new Promise<unknown>((resolve) => pool.once('restarted', resolve));
  await t.throwsAsync(pool.ask('die'), { code: 'ACTOR_CRASHED' });
  await restarted;
  const deaths = lines.filter((line) => line.message.startsWith('replica ended'));
  t.is(deaths.length, 1);
  t.like(deaths[0], { level: 'warn', pool: 'a', replica: 0, incarnation: 1 });
  t.regex(deaths[0]?.message ?? '', /it held 1 record; .*code 3/);
});
