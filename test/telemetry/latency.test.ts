import test from 'ava';
import fc from 'fast-check';
import { Histogram } from '../../src/telemetry/histogram.js';
import { LatencyWindow } from '../../src/telemetry/latency.js';

const durations = fc.array(fc.double({ min: 0.001, max: 1e8, noNaN: true }), { minLength: 1, maxLength: 200 });

for (const [steps, most] of [
  [8, 1.091],
  [16, 1.045],
] as const) {
  test(`with ${steps} steps a quantile is never below the truth and at most ${most} times it`, (t) => {
    fc.assert(
      fc.property(durations, (values) => {
        const window = new LatencyWindow(steps);
        for (const value of values) window.record(value);
        const sorted = values.toSorted((a, b) => a - b);
        const { p50, p99, max } = window.summary();
        for (const [told, share] of [
          [p50, 0.5],
          [p99, 0.99],
        ] as const) {
          const truth = sorted[Math.ceil(share * values.length) - 1] as number;
          t.true(told >= truth * 0.999_999 && told <= truth * most, `${told} for ${truth}`);
        }
        t.is(max, sorted.at(-1) as number);
      }),
    );
  });
}

test('the counts up to each bound are exact, on the bound too', (t) => {
  const bounds = Array.from({ length: 20 }, (_, index) => 2 ** (index - 3));
  const values = fc.array(fc.oneof(fc.constantFrom(...bounds), fc.double({ min: 0, max: 1e6, noNaN: true })));
  fc.assert(
    fc.property(values, fc.constantFrom(8, 16), (all, steps) => {
      const window = new LatencyWindow(steps as 8 | 16);
      for (const value of all) window.record(value);
      const { cumulative, count, sum } = window.distribution(bounds);
      t.deepEqual(
        cumulative,
        bounds.map((bound) => all.filter((value) => value <= bound).length),
      );
      t.is(count, all.length);
      t.is(
        sum,
        all.reduce((total, value) => total + value, 0),
      );
    }),
  );
});

test('sizes of batches are counted exactly at every power of two', (t) => {
  const histogram = new Histogram();
  for (let size = 1; size <= 64; size++) histogram.record(size);
  const bounds = [1, 2, 4, 8, 16, 32, 64];
  t.deepEqual(histogram.distribution(bounds).cumulative, bounds);
  t.like(histogram.summary(), { count: 64, mean: 32.5, max: 64 });
});

test('without a value everything is 0, and a value beyond the range stays in the last bucket', (t) => {
  const window = new LatencyWindow();
  t.deepEqual(window.summary(), { p50: 0, p99: 0, max: 0 });
  window.record(1e300);
  t.true(window.summary().p50 < Infinity);
  t.deepEqual(window.distribution([1, 65_536]), { bounds: [1, 65_536], cumulative: [0, 0], count: 1, sum: 1e300 });
});
