import test from 'ava';
import { PoolDriver, type PoolSettings } from './pool-driver.js';

/** A pool that has served enough batches of ten to know that one takes 10 ms. */
function busyPool(settings: PoolSettings = {}): PoolDriver {
  const p = new PoolDriver({ maxSize: 10, ...settings });
  for (let batch = 0; batch < 12; batch++) {
    p.offerMany(10);
    p.now += 10;
    while (p.sent.length > 0) p.reply();
  }
  return p;
}

test('a record that cannot be answered before its deadline is refused at once', (t) => {
  const p = busyPool();
  p.offerMany(10);
  p.now += 2;
  t.is(p.offer({ deadlineAt: p.now + 30 }), 'accepted');
  t.is(p.offer({ deadlineAt: p.now + 9 }), 'overloaded', '8 ms for what runs, 10 for its own batch');
  t.true(p.core.admission.lastLateMs > 5);
  t.is(p.core.counts.overloaded, 1);
  t.is(p.core.counts.refused, 1);
});

test('what waits before it counts, batch by batch', (t) => {
  const p = busyPool();
  p.offerMany(10);
  p.offerMany(40);
  t.is(p.offer({ deadlineAt: p.now + 45 }), 'overloaded', 'five batches come first');
  t.is(p.offer({ deadlineAt: p.now + 61 }), 'accepted');
});

test('beside a free replica with nothing waiting everything is let in', (t) => {
  const p = busyPool();
  t.is(p.offer({ deadlineAt: p.now + 1 }), 'accepted');
});

test('while little is known everything is let in', (t) => {
  const p = new PoolDriver({ maxSize: 10 });
  p.offerMany(10);
  p.now += 10;
  p.reply();
  p.offerMany(10);
  t.is(p.offer({ deadlineAt: p.now + 1 }), 'accepted');
});

test('with fixed sizes nothing is learned, so nothing is refused as too late', (t) => {
  const p = busyPool({ adaptive: false });
  p.offerMany(50);
  t.is(p.offer({ deadlineAt: p.now + 1 }), 'accepted');
});

test('records of stream operators, and those that drop others, are never refused as too late', (t) => {
  for (const overflow of ['try', 'drop-oldest', 'drop-newest'] as const) {
    const p = busyPool();
    p.offerMany(50);
    t.is(p.offer({ deadlineAt: p.now + 1 }, overflow), 'accepted', overflow);
  }
});

test('what others send, and what is less urgent, is not counted against a record', (t) => {
  const p = busyPool();
  p.offerMany(10);
  p.offerMany(40, { sender: 7 });
  const deadlineAt = p.now + 25;
  t.is(p.offer({ deadlineAt, sender: 7 }), 'overloaded');
  t.is(p.offer({ deadlineAt, sender: 7, priority: 1 }), 'accepted');
  t.is(p.offer({ deadlineAt, sender: 8 }), 'accepted');
});

test('a new version is judged by its own batches alone', (t) => {
  const p = busyPool({ version: '1' });
  p.core.rollOut('2', 1, p.now);
  p.pump();
  p.offerMany(50);
  t.is(p.offer({ deadlineAt: p.now + 1 }), 'accepted');
});

test('nobody is refused for a cost that no batch has had', (t) => {
  const p = new PoolDriver({ maxSize: 128 });
  // Small batches only, and dear ones: what a large one would cost is a guess.
  for (let batch = 0; batch < 12; batch++) {
    p.offerMany(1 + (batch % 2));
    p.now += 10 * (1 + (batch % 2));
    while (p.sent.length > 0) p.reply();
  }
  p.offerMany(1);
  p.offerMany(100);
  t.true((p.core.batcher.sizeOf('')?.model.predict(100) ?? 0) > 100);
  t.is(p.offer({ deadlineAt: p.now + 45 }), 'accepted', 'the longest batch took 20 ms');
});
