import test from 'ava';
import fc from 'fast-check';
import { SIDE, TrafficSplit } from '../../src/core/traffic-split.js';

/** Sends batches of these sizes, each to the version whose turn it is; the sizes that the new one had. */
function run(split: TrafficSplit, sizes: readonly number[]): number[] {
  const given: number[] = [];
  for (const size of sizes) {
    const isNew = split.newIsNext;
    if (isNew) given.push(size);
    split.sent(isNew, size);
  }
  return given;
}

test('the old version gets the first batch, and the new one every tenth record of ten', (t) => {
  const split = new TrafficSplit(0.1, 8);
  const turns = Array.from({ length: 30 }, () => {
    const isNew = split.newIsNext;
    split.sent(isNew, 1);
    return isNew;
  });
  t.deepEqual(
    turns.flatMap((isNew, at) => (isNew ? [at] : [])),
    [1, 11, 21],
  );
  t.deepEqual(split.seen, { old: 27, new: 3 });
});

test('whatever the batches, the new version never has more than its share and one batch', (t) => {
  const arbitrary = fc.record({
    share: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    sizes: fc.array(fc.integer({ min: 1, max: 32 }), { minLength: 1, maxLength: 400 }),
  });
  fc.assert(
    fc.property(arbitrary, ({ share, sizes }) => {
      const split = new TrafficSplit(share, 32);
      let sent = 0;
      let given = 0;
      for (const size of sizes) {
        const isNew = split.newIsNext;
        split.sent(isNew, size);
        sent += size;
        if (isNew) given += size;
        t.true(given <= share * sent + 32, `${given} of ${sent}`);
        t.true(given >= share * sent - 32 - 1e-6, `${given} of ${sent}`);
      }
    }),
  );
});

test('what the new version could not take is made up for by two full batches at most', (t) => {
  const split = new TrafficSplit(0.5, 8);
  for (let n = 0; n < 1000; n++) split.sent(false, 8);
  t.deepEqual(
    run(
      split,
      Array.from({ length: 6 }, () => 8),
    ).length,
    5,
    'four in a row, then every other',
  );
});

test('keys are spread by the share, and each stays on its side', (t) => {
  const split = new TrafficSplit(0.2, 8);
  const keys = Array.from({ length: 5000 }, (_, n) => `user-${n}`);
  const onNew = keys.filter((key) => split.sideOf(key) === SIDE.new);
  t.true(Math.abs(onNew.length / keys.length - 0.2) < 0.02, `${onNew.length} of ${keys.length}`);
  const wider = new TrafficSplit(0.5, 8);
  for (const key of onNew) t.is(wider.sideOf(key), SIDE.new, 'a larger share takes keys in, and lets none go');
});
