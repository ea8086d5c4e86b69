import test from 'ava';
import fc from 'fast-check';
import { packColumns, unpackColumns } from '../../src/wire/columns.js';
import { Recycler } from '../../src/wire/recycler.js';
import { packRows, type Payload, unpackRows } from '../../src/wire/rows.js';

test('a buffer is taken again only for exactly its length, and by one taker', (t) => {
  const recycler = new Recycler();
  const buffer = recycler.take(8192);
  recycler.give(buffer);
  recycler.give(buffer);
  t.not(recycler.take(8191), buffer);
  t.is(recycler.take(8192), buffer);
  t.not(recycler.take(8192), buffer);
});

test('parts of a buffer, shared, small and transferred ones are not taken again', (t) => {
  const recycler = new Recycler();
  const whole = new ArrayBuffer(8192);
  recycler.giveWhole(new Uint8Array(whole, 0, 4096));
  recycler.giveWhole(new Uint8Array(whole, 8));
  t.not(recycler.take(8192), whole);
  const shared = new SharedArrayBuffer(8192);
  recycler.give(shared);
  t.true(recycler.take(8192) instanceof ArrayBuffer);
  const small = new ArrayBuffer(16);
  recycler.give(small);
  t.not(recycler.take(16), small);
  const gone = new ArrayBuffer(8192);
  structuredClone(gone, { transfer: [gone] });
  recycler.give(gone);
  t.is(recycler.take(8192).byteLength, 8192);
});

test('what is held is bounded in number and in bytes', (t) => {
  const recycler = new Recycler();
  const many = Array.from({ length: 20 }, () => new ArrayBuffer(4096));
  for (const buffer of many) recycler.give(buffer);
  const held = many.filter(() => many.includes(recycler.take(4096)));
  t.is(held.length, 6);
  const large = [0, 1, 2].map(() => new ArrayBuffer(7 * 2 ** 20));
  for (const buffer of large) recycler.give(buffer);
  t.is<unknown, unknown>(recycler.take(7 * 2 ** 20), large[2]);
  t.is<unknown, unknown>(recycler.take(7 * 2 ** 20), large[1]);
  t.false(large.includes(recycler.take(7 * 2 ** 20)));
});

/** Memory in which an earlier batch has left its values. */
const dirty = (bytes: number): ArrayBuffer => new Uint8Array(bytes).fill(0xaa).buffer;

test('nothing of an earlier batch is seen in packed rows, whatever the arrays say of themselves', (t) => {
  class Liar extends Float64Array {
    override get length(): number {
      return 4;
    }
  }
  const records = fc.array(
    fc.oneof(
      fc.float64Array({ maxLength: 5 }),
      fc.float64Array({ maxLength: 5 }).map((values) => new Liar(values)),
      fc.float64Array({ minLength: 2, maxLength: 5 }).map((values) => values.subarray(1)),
    ),
    { minLength: 1, maxLength: 8 },
  );
  fc.assert(
    fc.property(records, (values) => {
      const payload = packRows(values, dirty);
      if (payload.kind !== 'packed') return t.fail();
      const back = unpackRows(payload as Exclude<Payload, { kind: 'columns' }>) as Float64Array[];
      const real = (array: Float64Array): number[] =>
        Array.from(new Float64Array(array.buffer, array.byteOffset, array.byteLength / 8));
      t.deepEqual(back.map(real), values.map(real));
      t.is(
        payload.data.byteLength,
        values.reduce((sum, array) => sum + array.byteLength, 0),
      );
    }),
    { numRuns: 300 },
  );
});

test('nothing of an earlier batch is seen in columns, also where records are refused or shrink while they are read', (t) => {
  const resizable = new (ArrayBuffer as unknown as new (bytes: number, options: object) => ArrayBuffer)(16, {
    maxByteLength: 32,
  });
  const shrinking = {
    x: new Float32Array(resizable),
    get y() {
      (resizable as unknown as { resize(bytes: number): void }).resize(8);
      return 1;
    },
  };
  const specs = [
    { name: 'x', dtype: 'float32', shape: [4] },
    { name: 'y', dtype: 'int64', shape: [] },
  ] as const;
  const { columns, faults } = packColumns(
    [{ x: new Float32Array([1, 2, 3, 4]), y: 5 }, { x: new Float32Array(3), y: 6 }, shrinking],
    specs,
    dirty,
  );
  t.deepEqual(
    faults.map(([index]) => index),
    [1],
  );
  t.deepEqual(unpackColumns(columns), [
    { x: new Float32Array([1, 2, 3, 4]), y: 5n },
    { x: new Float32Array(4), y: 1n },
  ]);
});

test('memory is told as copied only when no view of it was given out', (t) => {
  const told: unknown[] = [];
  const tell = (data: unknown): void => void told.push(data);
  const two = packRows([new Float32Array(2000), new Float32Array(2000)]) as Extract<Payload, { kind: 'packed' }>;
  const one = packRows([new Float32Array(2000)]) as Extract<Payload, { kind: 'packed' }>;
  unpackRows(two, tell);
  t.deepEqual(told, [two.data]);
  t.is(unpackRows(one, tell)[0], one.data);
  t.is(told.length, 1);
  const specs = [
    { name: 'x', dtype: 'float32', shape: [3] },
    { name: 's', dtype: 'uint8', shape: [] },
  ] as const;
  for (const count of [1, 2]) {
    told.length = 0;
    const { columns } = packColumns(
      Array.from({ length: count }, () => ({ x: new Float32Array(3), s: 1 })),
      specs,
    );
    const records = unpackColumns(columns, tell);
    const { x, s } = columns.columns;
    t.deepEqual(told, count === 1 ? [s?.data] : [x?.data, s?.data]);
    t.is(records[0]?.['x'] === x?.data, count === 1);
  }
});
