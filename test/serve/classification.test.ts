import test from 'ava';
import fc from 'fast-check';
import type { DType, NumericArray } from 'troupe';
import { classified, refuseClasses } from '../../src/serve/classification.js';
import { datatypeOf, OIP_DATATYPES } from '../../src/serve/oip-datatype.js';
import type { OipTensor } from '../../src/serve/oip-tensor.js';
import { sizes } from '../e2e/sizes.js';
import { anyTensor } from './oip-bodies.js';

const tensor = (dtype: DType, shape: readonly number[], data: NumericArray): OipTensor => ({
  name: 'y',
  datatype: datatypeOf(dtype),
  shape,
  data,
});
const floats = (...values: readonly number[]): OipTensor =>
  tensor('float64', [1, values.length], Float64Array.from(values));
const of = (one: OipTensor, count: number, labels?: readonly string[]): readonly [readonly number[], unknown] => {
  const { datatype, shape, data } = classified(one, count, labels);
  return [shape, datatype.name === 'BYTES' ? data : datatype.name];
};

test('of each record the highest values are told, highest first, with their indices and labels', (t) => {
  const two = tensor('float32', [2, 2, 2], Float32Array.of(1, 5, 10, 4, 0.25, -1, 0.5, -2));
  t.deepEqual(of(two, 2), [
    [2, 2],
    ['10.000000:2', '5.000000:1', '0.500000:2', '0.250000:0'],
  ]);
  // An empty label is none, and so is one that is not there.
  t.deepEqual(of(two, 3, ['zero', '', 'two: x']), [
    [2, 3],
    ['10.000000:2:two: x', '5.000000:1', '4.000000:3', '0.500000:2:two: x', '0.250000:0:zero', '-1.000000:1'],
  ]);
  t.deepEqual(of(tensor('int64', [1, 3], BigInt64Array.of(-1n, 2n ** 63n - 1n, 7n)), 2), [
    [1, 2],
    ['9223372036854775807:1', '7:2'],
  ]);
  t.deepEqual(of(tensor('uint8', [2], Uint8Array.of(255, 0)), 4), [
    [2, 1],
    ['255:0', '0:0'],
  ]);
  t.deepEqual(of(tensor('int8', [2, 0], Int8Array.of()), 4), [[2, 0], []]);
  t.deepEqual(of(floats(1, Number.NaN, 1, -Infinity, Infinity, Number.NaN, -0, 0), 2 ** 60)[1], [
    'inf:4',
    '1.000000:0',
    '1.000000:2',
    '-0.000000:6',
    '0.000000:7',
    '-inf:3',
    'nan:1',
    'nan:5',
  ]);
});

test('floats have six decimals, as printf of C writes them', (t) => {
  // Written by '%f' % x of Python, which is printf of C.
  const known: readonly (readonly [number, string])[] = [
    [0.0078125, '0.007812'],
    [-0.0078125, '-0.007812'],
    [3 / 128, '0.023438'],
    [123456789.125, '123456789.125000'],
    [2.5e-7, '0.000000'],
    [5.0000001e-7, '0.000001'],
    [5e-324, '0.000000'],
    [0.9999995, '1.000000'],
    [1e20, '100000000000000000000.000000'],
    [1e21, '1000000000000000000000.000000'],
    [1e30, '1000000000000000019884624838656.000000'],
    [Math.fround(0.1), '0.100000'],
    [Math.fround(3.4028234663852886e38), '340282346638528859811704183484516925440.000000'],
  ];
  for (const [value, text] of known) t.deepEqual(of(floats(value), 1)[1], [`${text}:0`], String(value));
});

/** Exactly, by whole numbers: a double is `mantissa * 2 ** exponent`. */
function sixDecimals(value: number): string {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, value);
  const raw = bits.getBigUint64(0);
  const exponent = (raw >> 52n) & 0x7ffn;
  const mantissa = (raw & (2n ** 52n - 1n)) + (exponent === 0n ? 0n : 2n ** 52n);
  const shift = (exponent === 0n ? 1n : exponent) - 1075n;
  const [top, bottom] = shift >= 0n ? [(mantissa * 10n ** 6n) << shift, 1n] : [mantissa * 10n ** 6n, 1n << -shift];
  const [whole, rest] = [top / bottom, 2n * (top % bottom)];
  const isUp = rest > bottom || (rest === bottom && whole % 2n === 1n);
  const digits = (isUp ? whole + 1n : whole).toString().padStart(7, '0');
  return `${raw >> 63n === 1n ? '-' : ''}${digits.slice(0, -6)}.${digits.slice(-6)}`;
}

test('every finite double is rounded exactly, to even where it lies just between', (t) => {
  const between = fc.tuple(fc.maxSafeInteger(), fc.integer({ min: 0, max: 12 })).map(([n, bits]) => n / 2 ** bits);
  const any = fc.double({ noNaN: true, noDefaultInfinity: true });
  const runs = { numRuns: 20 * sizes.oipRuns };
  fc.assert(
    fc.property(fc.oneof(any, between), (value) => {
      t.deepEqual(of(floats(value), 1)[1], [`${sixDecimals(value)}:0`], String(value));
    }),
    runs,
  );
});

test('no choice of values and count finds others than sorting all of them does', (t) => {
  const numbers = anyTensor.filter(({ datatype }) => ['integer', 'bigint', 'float'].includes(datatype.json));
  fc.assert(
    fc.property(numbers, fc.integer({ min: 1, max: 40 }), (one, count) => {
      const [records = 0, ...own] = one.shape;
      const size = own.reduce((product, dim) => product * dim, 1);
      const rank = (value: number | bigint): number | bigint => (Number.isNaN(value) ? -Infinity : value);
      const isNaN = (value: number | bigint): number => Number(Number.isNaN(value));
      const expected = Array.from({ length: records }, (_, record) =>
        Array.from(one.data.slice(record * size, (record + 1) * size) as Float64Array)
          .map((value, index) => ({ value, index }))
          .sort((a, b) => {
            const [x, y] = [rank(a.value), rank(b.value)];
            return x === y ? isNaN(a.value) - isNaN(b.value) || a.index - b.index : x > y ? -1 : 1;
          })
          .slice(0, count)
          .map(({ index }) => index),
      ).flat();
      const texts = of(one, count)[1] as readonly string[];
      t.deepEqual(
        texts.map((text) => Number(text.split(':')[1])),
        expected,
      );
    }),
    { numRuns: sizes.oipRuns },
  );
});

test('numbers have classes, FP16 and what is no number have none, as for Triton', (t) => {
  const refused = [...OIP_DATATYPES.values()].filter(({ dtype }) => {
    if (dtype === undefined) return false;
    try {
      refuseClasses({ name: 'y', dtype, shape: [2] });
      return false;
    } catch (error) {
      t.like(error, { code: 'INPUT_INVALID' });
      return true;
    }
  });
  t.deepEqual(
    refused.map(({ name }) => name),
    ['BOOL', 'FP16', 'BYTES'],
  );
});

test('an answer of more classes than can be told is refused, however few bytes it has', (t) => {
  const many = tensor('uint8', [2, 2 ** 17], new Uint8Array(2 ** 18));
  t.throws(() => classified(many, 2 ** 13 + 1), { code: 'INPUT_INVALID', message: /has 16386, more than 16384; ask/ });
  t.is(classified(many, 2 ** 13).data.length, 2 ** 14);
  t.is(classified(many, 3).data.length, 6);
});
