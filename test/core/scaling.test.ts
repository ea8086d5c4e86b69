import test from 'ava';
import fc from 'fast-check';
import type { ScalingLimits } from '../../src/core/autoscaler.js';
import { PoolDriver, type PoolSettings } from './pool-driver.js';

const SCALING: ScalingLimits = {
  min: 0,
  max: 4,
  targetWaitMs: 100,
  targetUtilization: 0.8,
  upAfterMs: 800,
  downAfterMs: 3000,
  idleAfterMs: 10_000,
};

/** A pool that has had nothing to do for so long that it has no replica any more. */
function sleeping(settings: PoolSettings = {}): PoolDriver {
  const p = new PoolDriver({ scaling: SCALING, version: '1', ...settings });
  if (settings.slowLoads) p.ready(1);
  p.advanceTo(10_000);
  p.news.length = 0;
  p.log.length = 0;
  return p;
}

const scalings = (p: PoolDriver): string[] =>
  p.newsOf('scaled').map(({ from, replicas, reason }) => `${from} -> ${replicas} ${reason}`);

test('a pool without work goes to 0, tells nothing as freed, and asks for nothing any more', (t) => {
  const p = new PoolDriver({ scaling: SCALING, version: '1' });
  p.advanceTo(9999);
  t.is(p.core.fleet.replicas, 1);
  p.advanceTo(10_000);
  t.deepEqual(scalings(p), ['1 -> 0 idle']);
  t.is(p.alive.size, 0);
  t.is(p.core.state, 'running');
  t.is(p.core.rest, 'asleep');
  t.is(p.core.nextWakeAt(), Infinity);
  t.deepEqual(p.newsOf('freed'), []);
  t.is(p.core.fleet.version, '1');
});

test('a record wakes a pool at 0 at once, waits for the load, and is answered', (t) => {
  const p = sleeping({ slowLoads: true });
  t.is(p.offer({ deadlineAt: 40_000 }), 'accepted');
  p.pump();
  t.deepEqual(scalings(p), ['0 -> 1 demand']);
  t.is(p.core.rest, 'waking');
  p.advanceTo(30_000);
  t.is(p.outcomes.size, 0);
  p.ready(2);
  t.is(p.core.rest, undefined);
  p.reply();
  t.is(p.outcome(1), 'y1');
});

test('a record whose deadline passes while the pool wakes fails as one that never ran, and the pool wakes all the same', (t) => {
  const p = sleeping({ slowLoads: true });
  p.offer({ deadlineAt: 11_000 });
  p.pump();
  p.advanceTo(11_000);
  t.is(p.outcome(1), 'DEADLINE_PASSED');
  t.is(p.requests[0]?.error?.ran, 'not-started');
  p.ready(2);
  t.is(p.core.fleet.readyCount, 1);
});

test('a pool whose load fails while it wakes is no sleeping pool; its restarts are those of any other', (t) => {
  const p = sleeping({ slowLoads: true, restart: { max: 1, backoffMs: 50 } });
  p.offer();
  p.pump();
  p.crash(2, { cause: 'load-failed' });
  t.is(p.core.rest, undefined);
  p.advanceTo(p.now + 100);
  p.crash(2, { cause: 'load-failed' });
  t.is(p.core.state, 'failed');
  t.is(p.outcome(1), 'NO_REPLICA');
  p.core.release(p.now);
  p.pump();
  p.ready(3);
  t.is(p.core.state, 'running');
});

test('a pool that drains at 0 with a record just accepted wakes to answer it', (t) => {
  const p = sleeping();
  p.offer();
  p.core.drain();
  p.pump();
  p.reply();
  t.is(p.outcome(1), 'y1');
  t.is(p.newsOf('drained').length, 1);
});

test('a pool at 0 is held, let go, stopped and started again like any other', (t) => {
  const p = sleeping();
  p.core.hold();
  p.pump();
  t.is(p.newsOf('held').length, 1);
  p.offer();
  p.pump();
  t.deepEqual(p.log, [], 'nothing starts while it is held');
  p.core.release(p.now);
  p.pump();
  t.is(p.newsOf('up').length, 1);
  p.reply();
  t.is(p.outcome(1), 'y1');
  const q = sleeping();
  q.core.hold();
  q.core.release(q.now);
  q.pump();
  t.is(q.newsOf('up').length, 1);
  t.is(q.core.rest, 'asleep');
  q.core.stop(false);
  q.pump();
  t.is(q.core.state, 'stopped');
});

test('a swap of a pool at 0 wakes the version it has, so that there is one that serves if the new one is no good', (t) => {
  const p = sleeping({ slowLoads: true });
  p.core.rollOut('2', p.core.fleet.replicas, p.now);
  p.pump();
  t.deepEqual(p.log, ['start 2.1', 'start 3.1']);
  p.offer();
  p.ready(2);
  p.reply();
  p.crash(3, { cause: 'load-failed' });
  t.is(p.requests[0]?.version, '1');
  t.is(p.core.state, 'running');
  p.core.rollOut('3', p.core.fleet.replicas, p.now);
  p.pump();
  p.ready(4);
  p.offer();
  p.pump();
  p.reply();
  t.is(p.requests[1]?.version, '3');
  p.advanceTo(p.now + 20_000);
  t.is(p.core.rest, 'asleep');
  t.is(p.core.fleet.version, '3');
});

test('while a version is rolled out nothing is scaled, and the load of that time says nothing afterwards', (t) => {
  const p = new PoolDriver({
    scaling: { ...SCALING, min: 1 },
    version: '1',
    slowLoads: true,
    batchTimeoutMs: 1e9,
    maxSize: 1,
  });
  p.ready(1);
  p.core.rollOut('2', 1, 0);
  p.offerMany(50);
  p.advanceTo(60_000);
  t.deepEqual(scalings(p), []);
  p.ready(2);
  p.reply(p.sent.find(({ cell }) => cell === 1));
  p.advanceTo(60_700);
  t.deepEqual(scalings(p), []);
  p.advanceTo(61_500);
  t.deepEqual(scalings(p), ['1 -> 2 queue-age']);
});

test('a pool whose replicas crash as they start is not given more of them', (t) => {
  const p = new PoolDriver({ scaling: SCALING, slowLoads: true, restart: { max: 1000, backoffMs: 100 }, maxSize: 1 });
  p.ready(1);
  p.offerMany(50);
  for (let n = 0; n < 40; n++) {
    if (p.alive.has(1)) p.crash(1);
    p.advanceTo(p.now + 1000);
  }
  t.deepEqual(scalings(p), []);
});

test('a number asked for is taken within the bounds, and the pool goes on from there', (t) => {
  const p = new PoolDriver({ scaling: { ...SCALING, min: 1 } });
  p.core.scale(4, 0);
  p.pump();
  t.is(p.core.fleet.readyCount, 4);
  p.advanceTo(3000);
  t.deepEqual(scalings(p), ['1 -> 4 operator']);
  p.advanceTo(4500);
  t.deepEqual(scalings(p), ['1 -> 4 operator', '4 -> 1 calm']);
  t.throws(() => p.core.scale(5, p.now), { message: /bounds/ });
  t.throws(() => p.core.scale(0, p.now), { message: /bounds/ });
});

test('replicas are told the most there may be, so that all of them are alike', (t) => {
  const told: number[] = [];
  const p = new PoolDriver({ scaling: SCALING, slowLoads: true });
  p.ready(1);
  p.core.scale(3, 0);
  for (const effect of p.core.takeEffects()) if (effect.kind === 'start') told.push(effect.replicas);
  t.deepEqual(told, [4, 4]);
});

test('no shrinking to 0 and back loses a record, or turns those of one key round', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 15_000 }), fc.boolean()), {
        maxLength: 15,
      }),
      fc.integer({ min: 0, max: 2 }),
      (rounds, min) => {
        const p = new PoolDriver({
          scaling: { ...SCALING, min },
          replicas: Math.max(1, min),
          maxSize: 2,
          batchTimeoutMs: 1e9,
        });
        for (const [records, ms, asks] of rounds) {
          for (let n = 0; n < records; n++) p.offer(n % 2 === 0 ? { key: `k${n % 4}` } : {});
          p.pump();
          if (asks) p.core.scale(Math.min(4, Math.max(min, records % 5)), p.now);
          p.advanceTo(p.now + ms);
          p.serve(() => 'ok');
        }
        p.advanceTo(p.now + 60_000);
        if (p.core.fleet.replicas !== min) throw new Error(`${p.core.fleet.replicas} replicas at rest`);
        return p.requests.every(({ id }) => p.outcome(id) === `y${id}`);
      },
    ),
  );
  t.pass();
});
