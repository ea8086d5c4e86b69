import test from 'ava';
import fc from 'fast-check';
import { CostModel } from '../../src/core/cost-model.js';
import { classOf } from '../../src/core/size-trials.js';

const linear = (n: number): number => 5 + 0.05 * n;

function taught(cost: (n: number) => number, sizes: readonly number[], times = 3): CostModel {
  const model = new CostModel();
  for (let round = 0; round < times; round++) for (const size of sizes) model.observe(size, cost(size));
  return model;
}

test('sizes are told apart by powers of two, rounded in the logarithm', (t) => {
  t.deepEqual([1, 2, 3, 5, 6, 8, 11, 12, 64].map(classOf), [0, 1, 2, 2, 3, 3, 3, 4, 6]);
});

test('before the first batch nothing is expected', (t) => {
  const model = new CostModel();
  t.true(model.isEmpty);
  t.is(model.predict(8), 0);
});

test('two sizes tell the fixed part of a batch and what each record adds', (t) => {
  const model = taught(linear, [4, 64]);
  t.true(Math.abs(model.fixedMs - 5) < 1e-9);
  t.true(Math.abs(model.perItemMs - 0.05) < 1e-9);
  for (const n of [1, 4, 30, 64, 500]) t.true(Math.abs(model.predict(n) - linear(n)) < 1e-6, `${n}`);
});

test('of one size alone larger batches are expected to cost in proportion, smaller ones as much', (t) => {
  const model = taught(linear, [16]);
  t.is(model.predict(16), linear(16));
  t.is(model.predict(32), 2 * linear(16));
  t.is(model.predict(1), linear(16));
});

test('a cost that no line fits is known at the sizes that were used', (t) => {
  const bent = (n: number): number => n * (n <= 8 ? 1 : 1.4);
  const model = taught(bent, [1, 8, 32]);
  for (const n of [1, 8, 32]) t.true(Math.abs(model.predict(n) - bent(n)) < 1e-9);
  t.true(model.predict(20) > bent(8) && model.predict(20) < bent(32));
});

test('very first batches that were slow because they were cold do not count', (t) => {
  const model = new CostModel();
  model.observe(8, 40);
  model.observe(8, 5);
  t.is(model.predict(8), 5);
});

test('one odd batch moves what is believed by a bounded share of it', (t) => {
  const model = taught(linear, [16], 40);
  const before = model.predict(16);
  model.observe(16, 100 * before);
  t.true(model.predict(16) < 1.02 * before, `${model.predict(16)} after ${before}`);
  t.is(model.jumpCount, 0);
});

test('costs that jump and stay are learned within five batches, for the other sizes too', (t) => {
  const model = taught(linear, [4, 16, 64], 20);
  for (let n = 0; n < 5; n++) model.observe(16, 3 * linear(16));
  t.is(model.jumpCount, 1);
  for (const n of [4, 16, 64]) t.true(Math.abs(model.predict(n) / (3 * linear(n)) - 1) < 0.05, `${n}`);
});

test('a warm-up run is believed until batches have shown better', (t) => {
  const model = new CostModel();
  model.seed(1, 5);
  model.seed(32, 7);
  t.is(model.batchCount, 0);
  t.is(model.predict(32), 7);
  for (let n = 0; n < 40; n++) model.observe(32, 9);
  t.true(Math.abs(model.predict(32) - 9) < 0.1);
});

test('whatever batches cost, beliefs stay finite and never negative', (t) => {
  const batch = fc.tuple(fc.integer({ min: 1, max: 5000 }), fc.double({ min: 0, max: 1e6, noNaN: true }));
  fc.assert(
    fc.property(fc.array(batch, { maxLength: 80 }), fc.integer({ min: 1, max: 70_000 }), (batches, n) => {
      const model = new CostModel();
      for (const [size, ms] of batches) model.observe(size, ms);
      for (const value of [model.predict(n), model.fixedMs, model.perItemMs, model.spread])
        if (!(value >= 0 && value < Infinity)) throw new Error(`${value}`);
    }),
  );
  t.pass();
});

test('what was seen of a size before the last jump is forgotten with the next, not scaled again and again', (t) => {
  const model = taught(linear, [1, 64]);
  // One size alone goes on: its costs jump up, and come back little by little, which is no jump.
  for (let jump = 0; jump < 40; jump++) {
    for (let n = 0; n < 20; n++) model.observe(64, 80);
    for (let ms = 80; ms > 8; ms *= 0.97) for (let n = 0; n < 4; n++) model.observe(64, ms);
  }
  t.true(model.jumpCount > 20);
  for (const n of [1, 16, 64, 128]) t.true(model.predict(n) <= 4 * 96, `${n}: ${model.predict(n)} ms`);
});

test('two classes of nearly one size say nothing of much larger batches', (t) => {
  const model = new CostModel();
  for (let n = 0; n < 5; n++) {
    model.observe(11, 1);
    model.observe(12, 2);
  }
  t.true(model.predict(128) <= 2 + 2 * (2 / 12) * 116 + 1e-9, `${model.predict(128)} ms`);
});
