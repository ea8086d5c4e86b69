import test from 'ava';
import type { TroupeError } from 'troupe';
import { virtualPool } from './virtual-pool.js';

test('asks of one key run in the order of asking, one after another, on whichever replica; other keys do not wait', async (t) => {
  const { pool, next } = await virtualPool({ replicas: 2, batching: { maxSize: 1 } });
  const asks = [pool.ask('a1', { key: 'a' }), pool.ask('a2', { key: 'a' }), pool.ask('b1', { key: 'b' })];
  const first = await next();
  const second = await next();
  t.deepEqual([first.records, second.records], [['a1'], ['b1']]);
  first.fail(new Error('no'));
  const third = await next();
  t.deepEqual(third.records, ['a2']);
  third.answer(['A2']);
  second.answer(['B1']);
  const settled = await Promise.allSettled(asks);
  t.deepEqual(
    settled.map(({ status }) => status),
    ['rejected', 'fulfilled', 'fulfilled'],
  );
  await pool.stop();
});

test('askMany takes one key for all its records, or a function that gives the key of each', async (t) => {
  const { pool, next } = await virtualPool({ batching: { maxSize: 4 } });
  const one = pool.askMany(['a', 'b'], { key: 'k' });
  for (const text of ['a', 'b']) {
    const batch = await next();
    t.deepEqual(batch.records, [text]);
    batch.answer([text]);
  }
  t.true((await one).every(({ ok }) => ok));
  const keyed = pool.askMany(['a1', 'a2', 'b1', '-'], {
    key: (record) => (record === '-' ? undefined : record.slice(0, 1)),
  });
  const batch = await next();
  t.deepEqual(batch.records, ['a1', 'b1', '-']);
  batch.answer(['A1', 'B1', '-']);
  (await next()).answer(['A2']);
  t.deepEqual(
    (await keyed).map((outcome) => outcome.ok && outcome.value),
    ['A1', 'A2', 'B1', '-'],
  );
  await pool.stop();
});

test('a key function that throws, or gives no string, costs its record alone', async (t) => {
  const { pool, next } = await virtualPool();
  const key = (record: string): string => {
    if (record === 'throws') throw new Error('no key');
    return record === 'number' ? (7 as never) : record;
  };
  const outcomes = pool.askMany(['throws', 'number', 'a'], { key });
  (await next()).answer(['A']);
  const [thrown, number, a] = await outcomes;
  t.like(!thrown?.ok && thrown?.error, { code: 'INPUT_INVALID', ran: 'not-started' });
  t.regex((thrown as { error: TroupeError }).error.message, /record 0: no key/);
  t.regex((number as { error: TroupeError }).error.message, /expected a string, got number/);
  t.true(a?.ok);
  await pool.stop();
});

test('a key that is no string is a TypeError at once', async (t) => {
  const { pool } = await virtualPool();
  t.throws(() => void pool.ask('a', { key: 7 as never }), {
    instanceOf: TypeError,
    message: 'ask: key must be a string, got number',
  });
  await t.throwsAsync(pool.askMany(['a'], { key: 7 as never }), { instanceOf: TypeError });
  await pool.stop();
});
