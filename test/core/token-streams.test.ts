import test from 'ava';
import type { CoreResult } from '../../src/core/effects.js';
import { AT_ONCE } from '../../src/core/rollout.js';
import { PoolDriver, type PoolSettings, type Sent } from './pool-driver.js';

/** Answers the oldest batch with as many token streams as it has records. */
function beginStreams(pool: PoolDriver): Sent {
  const batch = pool.sent.shift() as Sent;
  pool.core.streamsBegan(batch.cell, batch.incarnation, batch.ids.length);
  const results = batch.ids.map((id): CoreResult => ({ ok: true, value: `stream of ${id}` }));
  pool.core.reply(batch.cell, batch.incarnation, batch.batchId, results, pool.now);
  pool.pump();
  return batch;
}

const endStream = (pool: PoolDriver, { cell, incarnation }: Sent): void => {
  pool.core.streamEnded(cell, incarnation, undefined, pool.now);
  pool.pump();
};

const poolOf = (settings: PoolSettings): PoolDriver => new PoolDriver({ adaptive: false, maxSize: 1, ...settings });

test('a replica with running token streams takes further records until it has maxStreams of them', (t) => {
  const pool = poolOf({ maxStreams: 2 });
  pool.offerMany(4);
  const first = beginStreams(pool);
  t.deepEqual([...pool.outcomes], [[1, 'stream of 1']], 'settled when its stream begins');
  beginStreams(pool);
  t.deepEqual(pool.sent, [], 'the third waits');
  endStream(pool, first);
  t.deepEqual(
    pool.sent.map(({ ids }) => ids),
    [[3]],
  );
});

test('a full replica leaves work to another that has room for streams', (t) => {
  const pool = poolOf({ replicas: 2, maxStreams: 1 });
  pool.offerMany(1);
  const { cell } = beginStreams(pool);
  pool.offerMany(2);
  t.deepEqual(
    pool.sent.map((batch) => batch.cell === cell),
    [false],
  );
});

test('while two versions share the work, streams bound what each replica is given', (t) => {
  const pool = poolOf({ version: '1', maxStreams: 1 });
  pool.core.rollOut('2', 1, pool.now, { ...AT_ONCE, bakeMs: 1000, share: 0.5 });
  pool.pump();
  pool.offerMany(2);
  beginStreams(pool);
  beginStreams(pool);
  pool.offerMany(2);
  t.deepEqual(pool.sent, [], 'both have their stream');
});

test('a pool has drained when its last token stream has ended', (t) => {
  const pool = poolOf({});
  pool.offerMany(1);
  const batch = beginStreams(pool);
  pool.core.drain();
  pool.pump();
  t.false(pool.news.some(({ name }) => name === 'drained'));
  endStream(pool, batch);
  t.true(pool.news.some(({ name }) => name === 'drained'));
});

test('a replaced version goes when its last token stream has ended', (t) => {
  const pool = poolOf({ version: '1' });
  pool.offerMany(1);
  const batch = beginStreams(pool);
  pool.core.rollOut('2', 1, pool.now);
  pool.pump();
  t.is(pool.core.fleet.version, '2');
  t.false(pool.log.includes(`stop ${batch.cell}`));
  endStream(pool, batch);
  t.true(pool.log.includes(`stop ${batch.cell}`));
});

test('the streams of a replica that died are forgotten, and what is told of them later changes nothing', (t) => {
  const pool = poolOf({ maxStreams: 1 });
  pool.offerMany(2);
  const batch = beginStreams(pool);
  t.is(pool.sent.length, 0);
  pool.die(batch.cell, { cause: 'crash' });
  pool.pump();
  t.is(pool.core.fleet.streamCount, 0);
  t.deepEqual(
    pool.sent.map(({ ids }) => ids),
    [[2]],
    'its next life takes the record that waited',
  );
  endStream(pool, batch);
  pool.core.streamsBegan(batch.cell, batch.incarnation, 5);
  t.is(pool.core.fleet.streamCount, 0);
});
