import test from 'ava';
import { type PoolEvents, type PoolOptions, type TroupeError, createSystem, defineActor, silentLog } from 'troupe';
import { type HandBatch, virtualPool } from './virtual-pool.js';

const REPLICAS = { min: 0, max: 4, upAfterMs: 800, downAfterMs: 4000, idleAfterMs: 10_000 } as const;

type Virtual = Awaited<ReturnType<typeof virtualPool>>;

async function watched(options: Omit<PoolOptions, 'actor'> = {}) {
  const virtual = await virtualPool({ replicas: REPLICAS, batching: { maxSize: 1 }, batchTimeoutMs: 1e6, ...options });
  const scaled: PoolEvents['scaled'][0][] = [];
  virtual.pool.on('scaled', (event) => scaled.push(event));
  return { ...virtual, scaled };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Time passes in small steps, so that what happens in one can be seen in the next. */
async function pass({ clock }: Virtual, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 100) {
    clock.advance(Math.min(100, left));
    await turn();
  }
}

const answer = ({ records, answer: give }: HandBatch): void => give(records.map((record) => record.toUpperCase()));

test('a queue that stands makes a pool grow, its end makes it shrink, and idleness ends the last replica', async (t) => {
  const virtual = await watched();
  const { pool, next, scaled } = virtual;
  const asks = Promise.all(Array.from({ length: 12 }, (_, n) => pool.ask(`r${n}`, { timeoutMs: 1e6 })));
  await pass(virtual, 2500);
  t.deepEqual(scaled, [
    { from: 1, replicas: 2, reason: 'queue-age' },
    { from: 2, replicas: 4, reason: 'queue-age' },
  ]);
  t.is(pool.stats().wanted, 4);
  for (let n = 0; n < 12; n++) answer(await next());
  t.deepEqual(
    await asks,
    Array.from({ length: 12 }, (_, n) => `R${n}`),
  );
  await pass(virtual, 6000);
  t.deepEqual(scaled.slice(2), [{ from: 4, replicas: 1, reason: 'calm' }]);
  await pass(virtual, 10_000);
  t.deepEqual(scaled.at(-1), { from: 1, replicas: 0, reason: 'idle' });
  t.like(pool.stats(), { wanted: 0, replicas: [], state: 'running', scaling: { min: 0, max: 4, asleep: true } });
  t.like(pool.stats().scaling?.changes, { 'queue-age': 2, busy: 0, calm: 1, idle: 1, demand: 0, operator: 0 });
  await pool.stop();
});

async function asleep(options: Omit<PoolOptions, 'actor'> = {}) {
  const virtual = await watched(options);
  await pass(virtual, 10_100);
  return virtual;
}

test('a pool that sleeps says that it is ready and asleep, and is not woken by being asked', async (t) => {
  const { pool, scaled } = await asleep();
  t.deepEqual(await pool.health(), { ready: true, asleep: true });
  t.deepEqual(await pool.health(), { ready: true, asleep: true });
  t.is(scaled.length, 1);
  await pool.stop();
  t.deepEqual(await pool.health(), { ready: false, why: 'it has stopped' });
});

test('a record, a call and a swap wake a pool that sleeps', async (t) => {
  const virtual = await asleep();
  const { pool, next, scaled } = virtual;
  const asked = pool.ask('a');
  answer(await next());
  t.is(await asked, 'A');
  t.deepEqual(await pool.health(), { ready: true });
  await pass(virtual, 12_000);
  t.is(pool.stats().wanted, 0);
  await t.throwsAsync(pool.call('labels'), { message: /labels/ });
  t.is(pool.stats().wanted, 1);
  await pass(virtual, 12_000);
  t.is(pool.stats().wanted, 0);
  t.is((await pool.planSwap('2')).replicas, 1);
  await pool.swap('2');
  t.like(pool.stats(), { wanted: 1, version: '2' });
  t.deepEqual(
    scaled.map(({ reason }) => reason),
    ['idle', 'demand', 'idle', 'demand', 'idle', 'demand'],
  );
  await pool.stop();
});

test('scale takes a number between the bounds, and says which they are', async (t) => {
  const virtual = await watched();
  const { pool, scaled } = virtual;
  await pool.scale(3);
  t.is(pool.stats().wanted, 3);
  await pool.scale(0);
  t.deepEqual(await pool.health(), { ready: true, asleep: true });
  await t.throwsAsync(async () => pool.scale(5), {
    instanceOf: TypeError,
    message: 'scale: expected a whole number from 0 to 4, the bounds between which "p" scales by itself; got 5',
  });
  t.deepEqual(
    scaled.map(({ reason }) => reason),
    ['operator', 'operator'],
  );
  await pool.restart();
  t.is(pool.stats().wanted, 0);
  await pool.drain();
  await pool.stop();
});

test('looking after the number of replicas keeps no process alive', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<number, number>('echo', {
    actor: defineActor<number, number, void>({ predict: (batch: number[]) => batch }),
    replicas: { min: 0, max: 2 },
  });
  const held = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = held();
  t.is(await pool.ask(1), 1);
  await turn();
  await turn();
  t.is(held(), before);
});

test('a pool whose load fails while it wakes is not ready, and tells those who wait', async (t) => {
  let mayLoad = true;
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<number, number>('brittle', {
    actor: defineActor<number, number, void>({
      load: () => {
        if (!mayLoad) throw new Error('the file has gone');
      },
      predict: (batch: number[]) => batch,
    }),
    replicas: { min: 0, max: 1 },
    restart: { max: 0 },
  });
  await pool.scale(0);
  mayLoad = false;
  await t.throwsAsync<TroupeError>(pool.ask(1), { code: 'NO_REPLICA', message: /the file has gone/ });
  t.false((await pool.health()).ready);
});

test('a swap of a sleeping pool that comes to nothing leaves it on its version', async (t) => {
  const loads: string[] = [];
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<number, number>('versions', {
    actor: defineActor<number, number, void>({
      load: ({ version }) => {
        loads.push(version ?? 'none');
        if (version === '2') throw new Error('no good');
      },
      predict: (batch: number[]) => batch,
    }),
    version: '1',
    replicas: { min: 0, max: 1 },
  });
  await pool.scale(0);
  await t.throwsAsync<TroupeError>(pool.swap('2'), { code: 'SWAP_ROLLED_BACK' });
  t.deepEqual(loads, ['1', '1', '2']);
  t.is(await pool.ask(7), 7);
  t.is(pool.version, '1');
});
