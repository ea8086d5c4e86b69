import test from 'ava';
import fc from 'fast-check';
import { recordBytes } from '../../src/wire/record-bytes.js';

test('the estimate follows what a record holds', (t) => {
  t.is(recordBytes('four'), 8);
  t.true(recordBytes(new Float32Array(1000)) >= 4000 && recordBytes(new Float32Array(1000)) < 4100);
  t.true(recordBytes({ text: 'x'.repeat(500), image: new Uint8Array(3000) }) >= 4000);
  t.true(recordBytes(new Float32Array(1000).subarray(0, 10)) < 100, 'a view counts what it shows');
});

test('long arrays are estimated from their beginning', (t) => {
  const long = recordBytes(Array.from({ length: 10_000 }, () => 'abcd'));
  t.true(long > 70_000 && long < 120_000);
  const many = recordBytes(Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`k${index}`, 1])));
  t.true(many > 10_000 && many < 30_000);
});

test('the estimate is a finite number of at least one byte per value, for anything', (t) => {
  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  const trap = (): never => {
    throw new Error('no looking');
  };
  const hostile = new Proxy({}, { ownKeys: trap, get: trap, getPrototypeOf: trap });
  for (const value of [cyclic, hostile, null, undefined, () => 1, Symbol('s')]) t.true(recordBytes(value) > 0);
  fc.assert(
    fc.property(fc.anything({ withMap: true, withSet: true, withTypedArray: true }), (value) => {
      t.true(Number.isFinite(recordBytes(value)) && recordBytes(value) >= 0);
    }),
    { numRuns: 300 },
  );
});
