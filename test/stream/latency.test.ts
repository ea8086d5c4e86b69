import test from 'ava';
import fc from 'fast-check';
import { LatencyHistogram } from '../../src/stream/latency.js';

test('a percentile is never below the truth and at most 4.5 % above it', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.001, max: 1e8, noNaN: true }), { minLength: 1, maxLength: 200 }),
      fc.constantFrom(0.5, 0.9, 0.99, 1),
      (values, quantile) => {
        const histogram = new LatencyHistogram();
        for (const value of values) histogram.add(value);
        const truth = values.toSorted((a, b) => a - b)[Math.ceil(quantile * values.length) - 1] as number;
        const told = histogram.quantile(quantile);
        t.true(told >= truth * 0.999_999 && told <= truth * 1.045, `${told} for ${truth}`);
      },
    ),
  );
});

test('without a value every percentile is 0, and a value beyond the range stays in the last bucket', (t) => {
  const histogram = new LatencyHistogram();
  t.is(histogram.quantile(0.99), 0);
  histogram.add(1e300);
  t.true(histogram.quantile(0.5) < Infinity);
});
