import test from 'ava';
import { Trial, TRIAL_DEFAULTS } from '../../src/core/trial.js';

const trial = (limits: Partial<typeof TRIAL_DEFAULTS> = {}): Trial => new Trial({ ...TRIAL_DEFAULTS, ...limits });

/** Single records, answered in `ms`; every `failsEvery`th fails. Stops at a verdict, and says after how many failures. */
function feed(one: Trial, isNew: boolean, count: number, { ms = 10, failsEvery = Infinity } = {}): number {
  let failed = 0;
  for (let n = 1; n <= count; n++) {
    const fails = n % failsEvery === 0 ? 1 : 0;
    failed += fails;
    one.observe(isNew, 1, fails, ms);
    if (isNew && one.verdict() !== undefined) return failed;
  }
  return failed;
}

test('a version whose records all fail is found within 50 of them, whenever it begins', (t) => {
  for (const goodBefore of [0, 10, 249, 499, 5000]) {
    const one = trial();
    feed(one, false, 1000);
    feed(one, true, goodBefore);
    const failed = feed(one, true, 1000, { failsEvery: 1 });
    t.is(one.verdict()?.reason, 'errors');
    t.true(failed <= 50, `${failed} failed after ${goodBefore} good ones`);
  }
});

test('fewer records than minRecords prove nothing', (t) => {
  const one = trial({ minRecords: 20 });
  feed(one, true, 19, { failsEvery: 1 });
  t.is(one.verdict(), undefined);
  one.observe(true, 1, 1, 10);
  t.regex(one.verdict()?.what ?? '', /20 of its latest 20 records failed, 0 % of the old version's did/);
});

test('a version that fails as often as the old one is not blamed for it', (t) => {
  const one = trial();
  feed(one, false, 1000, { failsEvery: 4 });
  feed(one, true, 5000, { failsEvery: 4 });
  t.is(one.verdict(), undefined);
});

test('a version that fails much more often than the old one is found', (t) => {
  const one = trial();
  feed(one, false, 1000, { failsEvery: 20 });
  feed(one, true, 5000, { failsEvery: 3 });
  t.is(one.verdict()?.reason, 'errors');
});

test('a version that takes three times as long is found by its batches, one that is a little slower is not', (t) => {
  const slow = trial();
  feed(slow, false, 100);
  feed(slow, true, 40, { ms: 30 });
  t.is(slow.verdict()?.reason, 'latency');
  const fine = trial();
  feed(fine, false, 100);
  feed(fine, true, 400, { ms: 15 });
  t.is(fine.verdict(), undefined);
});

test('a version is not blamed for its first batches, which run cold, unless they take seconds', (t) => {
  const cold = trial();
  for (let n = 0; n < 100; n++) cold.observe(false, 4, 0, 10);
  for (let n = 0; n < 15; n++) {
    cold.observe(true, 4, 0, n < 8 ? 80 : 10);
    t.is(cold.verdict(), undefined, `after ${n + 1}`);
  }
  const heavy = trial();
  for (let n = 0; n < 100; n++) heavy.observe(false, 4, 0, 200);
  for (let n = 0; n < 4; n++) {
    heavy.observe(true, 4, 0, 600);
    t.is(heavy.verdict(), undefined);
  }
  heavy.observe(true, 4, 0, 600);
  t.is(heavy.verdict()?.reason, 'latency', 'within 5 s');
});

test('a few pauses of the host among quick batches blame nobody', (t) => {
  const one = trial();
  feed(one, false, 100, { ms: 1 });
  for (let n = 0; n < 200; n++) {
    one.observe(true, 1, 0, n % 4 === 0 ? 500 : 1);
    t.is(one.verdict(), undefined);
  }
});

test('batches are compared with those of their size', (t) => {
  const one = trial();
  // 1 ms a record: a batch of 32 of the new version is not slow for taking 32 times as long as one of 1.
  for (let n = 0; n < 50; n++) one.observe(false, 1, 0, 1);
  for (let n = 0; n < 50; n++) one.observe(true, 32, 0, 32);
  t.is(one.verdict(), undefined);
  t.is(one.overdueMs(32), 500);
  t.is(one.overdueMs(128), 1280);
});

test('beside an old version that shows nothing, no batch is slow and none is overdue', (t) => {
  const one = trial();
  feed(one, true, 100, { ms: 10_000 });
  t.is(one.verdict(), undefined);
  t.is(one.overdueMs(1), Infinity);
});
