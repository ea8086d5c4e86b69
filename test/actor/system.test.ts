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

const echo = defineActor({ predict: (batch: readonly unknown[]) => batch });

test('a pool stopped by its own stop leaves the system, and its name is free again', async (t) => {
  await using system = createSystem({ log: silentLog });
  for (let round = 1; round <= 3; round++) {
    const pool = await system.spawn('once', { actor: echo });
    t.is(await pool.ask(round), round);
    await pool.stop();
    t.is(system.get('once'), undefined);
  }
});

test('wrong options throw a TypeError at once that names what was expected', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<unknown, unknown>('typed', { actor: echo });
  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  const wrong: readonly (readonly [use: () => unknown, message: RegExp])[] = [
    [() => createSystem(null as never), /createSystem: expected an object of options, got null/],
    [() => createSystem({ log: 5 } as never), /createSystem: log must be a function, got number/],
    [() => createSystem({ config: 5 } as never), /createSystem: config must be the path of a troupe\.yaml, got number/],
    [() => createSystem({ supervision: 1n } as never), /createSystem: supervision: .*got 1n/],
    [() => system.spawn('s', null as never), /spawn "s": expected an object of options, got null/],
    [() => system.spawn('s', { actor: echo, attempts: cyclic } as never), /spawn "s": attempts: .*got object/],
    [() => system.stop({ timeoutMs: '5' } as never), /stop: timeoutMs must be a number of at least 0, got 5/],
    [() => pool.stop({ timeout: 5 } as never), /stop: unknown option "timeout"; expected timeoutMs/],
    [() => pool.stop(null as never), /stop: expected an object of options, got null/],
    [() => pool.ask(1, null as never), /ask: expected an object of options, got null/],
    [() => pool.ask(1, 5 as never), /ask: expected an object of options, got number/],
    [() => pool.tell(1, [] as never), /ask: expected an object of options, got an array/],
    [() => pool.askMany('abc'), /askMany: expected an array or another iterable of records, got string/],
    [() => pool.askMany(5 as never), /askMany: expected an array or another iterable of records, got number/],
    [() => pool.call(Symbol('x') as never), /call: expected the name of a method, got a value of type symbol/],
    [() => pool.swap({} as never), /swap: expected a version, such as 2 or 'latest', got a value of type object/],
  ];
  for (const [use, message] of wrong) {
    await t.throwsAsync(async () => await use(), { instanceOf: TypeError, message });
  }
  t.is(await pool.ask('still here'), 'still here');
});

test('a weigh that throws or gives no number costs its record alone', async (t) => {
  await using system = createSystem({ log: silentLog });
  const weigh = (record: unknown): number => {
    if (record === 'throw') throw new Error('no scales');
    return record === 'none' ? Number.NaN : 1;
  };
  const mailbox = { capacity: 2, overflow: 'wait' } as const;
  const pool = await system.spawn<unknown, unknown>('weighed', { actor: echo, weigh, mailbox });
  const outcomes = await pool.askMany(['a', 'b', 'c', 'throw', 'd', 'none', 'e']);
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? outcome.value : outcome.error.code)),
    ['a', 'b', 'c', 'INPUT_INVALID', 'd', 'INPUT_INVALID', 'e'],
  );
});

test('a record that throws when it is looked at is refused alone, also while the pool still loads', async (t) => {
  await using system = createSystem({ log: silentLog });
  const trap = (): never => {
    throw new Error('trap');
  };
  const hostile = new Proxy({}, { get: trap, has: trap, ownKeys: trap, getPrototypeOf: trap });
  const sizes = defineActor({
    signature: {
      inputs: [{ name: 'x', dtype: 'float32', shape: [-1] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [] }],
    },
    predict: ({ count }) => ({
      count,
      columns: { y: { dtype: 'float32', shape: [], data: new Float32Array(count) } },
    }),
  });
  const spawning = system.spawn<unknown, unknown>('sizes', { actor: sizes as never });
  const early = system.get('sizes')?.ask(hostile);
  await t.throwsAsync(early as Promise<unknown>, { code: 'INPUT_INVALID' });
  const pool = await spawning;
  const outcomes = await pool.askMany([{ x: new Float32Array(1) }, hostile, { x: new Float32Array(1) }]);
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? 'ok' : outcome.error.code)),
    ['ok', 'INPUT_INVALID', 'ok'],
  );
});
