import test from 'ava';
import fc from 'fast-check';
import type { TroupeError } from '../../src/kernel/errors.js';
import { checkColumns, packColumns, shapeKey, unpackColumns } from '../../src/wire/columns.js';
import type { Columns, DType, TensorSpec } from '../../src/wire/tensor.js';

const X: TensorSpec = { name: 'x', dtype: 'float32', shape: [2] };

function problem(record: unknown, spec: TensorSpec): string {
  const { faults, columns } = packColumns([record], [spec]);
  return faults.length === 0 && columns.count === 1 ? 'fits' : `${faults[0]?.[1].code}: ${faults[0]?.[1].message}`;
}

test('records are copied into one contiguous buffer per input', (t) => {
  const records = [
    { x: new Float32Array([1, 2]), kind: 'a' },
    { x: new Float32Array([3, 4]), kind: 'b' },
  ];
  const { columns, faults } = packColumns(records, [X, { name: 'kind', dtype: 'string', shape: [] }]);
  t.deepEqual(faults, []);
  t.is(columns.count, 2);
  t.deepEqual(columns.columns['x'], { dtype: 'float32', shape: [2], data: new Float32Array([1, 2, 3, 4]) });
  t.deepEqual(columns.columns['kind']?.data, ['a', 'b']);
  (columns.columns['x']?.data as Float32Array | undefined)?.fill(0);
  t.deepEqual(records[0]?.x, new Float32Array([1, 2]), 'the caller keeps its arrays');
});

test('a record that does not fit fails alone and leaves no gap', (t) => {
  const records = [{ x: new Float32Array(3) }, { x: new Float32Array([1, 2]) }, null, { x: new Float32Array([3, 4]) }];
  const { columns, faults } = packColumns(records, [X]);
  t.deepEqual(
    faults.map(([index, error]) => [index, error.code]),
    [
      [0, 'INPUT_INVALID'],
      [2, 'INPUT_INVALID'],
    ],
  );
  t.is(columns.count, 2);
  t.deepEqual(columns.columns['x']?.data, new Float32Array([1, 2, 3, 4]));
});

test('a refusal names the input, what was expected and what came', (t) => {
  t.regex(problem({}, X), /INPUT_INVALID: .*input "x" is missing/);
  t.regex(problem({ x: [1, 2] }, X), /input "x" expected Float32Array with 2 values .*got an array of 2/);
  t.regex(problem({ x: new Float64Array(2) }, X), /got Float64Array/);
  t.regex(problem({ x: new Float32Array(3) }, X), /got 3 values/);
  t.regex(problem({ x: 1 }, X), /expected 1 dimensions \[2\], got a number/);
  t.regex(problem({ x: new Float32Array(2), y: 1 }, X), /input "y" is not in the signature \("x"\)/);
  t.regex(problem(new Float32Array(2), X), /expected an object with the inputs "x", got Float32Array/);
  t.regex(problem({ x: ['a', 1] }, { name: 'x', dtype: 'string', shape: [2] }), /expected strings, got a number/);
  const huge: TensorSpec = { name: 'x', dtype: 'float64', shape: [2 ** 30, -1] };
  t.regex(problem({ x: new Float64Array(3) }, huge), /multiple of 1073741824/);
  t.regex(problem({ x: 1 }, { ...X, shape: [-1, -1] }), /2 dimensions of unknown size/);
});

test('a getter that throws or changes its mind costs one record', (t) => {
  let reads = 0;
  const fickle = {
    get x() {
      return new Float32Array(reads++ === 0 ? [1, 2] : [1, 2, 3]);
    },
  };
  t.is(problem(fickle, X), 'fits');
  const hostile = {
    get x(): never {
      throw new Error('no');
    },
  };
  t.regex(problem(hostile, X), /INPUT_INVALID: .*cannot be read: no/);
});

test('scalars are checked against the range of their dtype', (t) => {
  const scalar = (dtype: DType, x: unknown): boolean => problem({ x }, { name: 'x', dtype, shape: [] }) === 'fits';
  t.true(scalar('int8', -128) && scalar('uint8', 255) && scalar('bool', true) && scalar('float32', 1.5));
  t.true(scalar('int64', 5) && scalar('int64', -(2n ** 63n)) && scalar('uint64', 2n ** 64n - 1n));
  t.false(
    scalar('int8', 128) || scalar('uint8', -1) || scalar('int32', 1.5) || scalar('bool', 2) || scalar('float32', '1'),
  );
  t.false(scalar('int64', 2n ** 63n) || scalar('uint64', -1n) || scalar('int64', 1.5) || scalar('float32', 1n));
  const { columns } = packColumns([{ x: 7 }, { x: 8n }], [{ name: 'x', dtype: 'int64', shape: [] }]);
  t.deepEqual(columns.columns['x']?.data, new BigInt64Array([7n, 8n]));
});

test('one unknown dimension is inferred, and the records of a batch must agree on it', (t) => {
  const spec: TensorSpec = { name: 'x', dtype: 'int32', shape: [-1, 2] };
  const { columns, faults } = packColumns(
    [{ x: new Int32Array(6) }, { x: new Int32Array(4) }, { x: new Int32Array(6) }],
    [spec],
  );
  t.deepEqual(columns.columns['x']?.shape, [3, 2]);
  t.deepEqual(
    faults.map(([index]) => index),
    [1],
  );
  t.regex(faults[0]?.[1].message ?? '', /as the other records of the batch have/);
  const zero = packColumns([{ x: new Int32Array(0) }], [{ ...spec, shape: [0, -1] }]);
  t.deepEqual(zero.columns.columns['x']?.shape, [0, 0]);
});

test('packed and unpacked records are equal, and own their memory', (t) => {
  const record = fc.record({
    x: fc.float32Array({ minLength: 2, maxLength: 2, noNaN: true }),
    n: fc.integer({ min: 0, max: 255 }),
  });
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 9 }), (records) => {
      const { columns } = packColumns(records, [X, { name: 'n', dtype: 'uint8', shape: [] }]);
      const back = unpackColumns(columns);
      t.deepEqual(back, records);
      for (const { x } of back) t.is((x as Float32Array).buffer.byteLength, 8);
    }),
    { numRuns: 100 },
  );
});

test('what predict returned is checked, and the message names the output', (t) => {
  const outputs: TensorSpec[] = [{ name: 'y', dtype: 'float32', shape: [-1] }];
  const good = { count: 2, columns: { y: { dtype: 'float32', shape: [3], data: new Float32Array(6) } } };
  t.is(checkColumns(good, outputs, 2).columns['y']?.data, good.columns.y.data);
  const bad: readonly (readonly [value: unknown, message: RegExp])[] = [
    [undefined, /must return \{ count, columns \}/],
    [[1, 2], /must return \{ count, columns \}/],
    [{ ...good, count: 1 }, /given 2 records and returned columns with count 1/],
    [{ count: 2, columns: {} }, /output "y" is missing/],
    [{ count: 2, columns: { y: { ...good.columns.y, dtype: 'float64' } } }, /output "y" must be float32, got float64/],
    [
      { count: 2, columns: { y: { ...good.columns.y, shape: [2, 2] } } },
      /output "y" must have the record shape \[-1\]/,
    ],
    [{ count: 2, columns: { y: { ...good.columns.y, data: [1, 2] } } }, /output "y" must hold Float32Array/],
    [{ count: 2, columns: { y: { ...good.columns.y, shape: [2] } } }, /output "y" must hold 4 values .*got 6/],
    [{ count: 2, columns: { ...good.columns, z: good.columns.y } }, /output "z" is not in the signature/],
  ];
  for (const [value, message] of bad) {
    const error = t.throws(() => checkColumns(value, outputs, 2)) as TroupeError;
    t.is(error.code, 'PROTOCOL_VIOLATION');
    t.regex(error.message, message);
  }
});

test('the shape key tells records apart only where a dimension varies', (t) => {
  const fixed = { inputs: [X], outputs: [X] };
  t.is(shapeKey({ x: new Float32Array(9) }, fixed), '');
  const varying = { inputs: [X, { name: 'ids', dtype: 'int64' as const, shape: [-1] }], outputs: [X] };
  const key = (length: number): string => shapeKey({ x: new Float32Array(2), ids: new BigInt64Array(length) }, varying);
  t.not(key(3), key(4));
  t.is(key(3), key(3));
  t.notThrows(() => [null, 5, {}].map((record) => shapeKey(record, varying)));
});

test('columns named like members of Object.prototype are columns', (t) => {
  const specs: TensorSpec[] = ['__proto__', 'constructor'].map((name) => ({ name, dtype: 'uint8', shape: [] }));
  const { columns, faults } = packColumns([JSON.parse('{"__proto__": 1, "constructor": 2}')], specs);
  t.deepEqual(faults, []);
  const [back] = unpackColumns(columns as Columns);
  t.deepEqual(Object.entries(back ?? {}), [
    ['__proto__', 1],
    ['constructor', 2],
  ]);
});
