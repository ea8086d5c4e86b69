import test from 'ava';
import { packRows, type Payload, shareRows, unpackRows, viewRows } from '../../src/wire/rows.js';

type Rows = Exclude<Payload, { kind: 'columns' }>;

const packed = (...records: unknown[]): Rows => packRows(records) as Rows;

test('a caller gets arrays of its own, whatever else was in the batch', (t) => {
  for (const lengths of [
    [64, 64],
    [64, 3],
  ]) {
    const records = lengths.map((length, index) => new Float32Array(length).fill(index));
    const back = unpackRows(packed(...records)) as Float32Array[];
    t.deepEqual(back, records);
    for (const { buffer, byteLength } of back) t.is(buffer.byteLength, byteLength);
  }
});

test('an actor gets views over the buffer of its batch, of even and of uneven records', (t) => {
  for (const lengths of [
    [64, 64, 64],
    [64, 0, 3],
  ]) {
    const records = lengths.map((length, index) => new Float64Array(length).fill(index));
    const payload = packed(...records);
    const views = viewRows(payload) as Float64Array[];
    t.deepEqual(views, records);
    t.true(payload.kind === 'packed' && views.every(({ buffer }) => buffer === payload.data.buffer));
  }
});

test('records too small to gain from a view have memory of their own', (t) => {
  const records = [new Float32Array([1, 2]), new Float32Array([3, 4])];
  const views = viewRows(packed(...records)) as Float32Array[];
  t.deepEqual(views, records);
  t.deepEqual(
    views.map(({ buffer }) => buffer.byteLength),
    [8, 8],
  );
});

test('an actor that answers with its own inputs, or writes into them, reaches nobody else', (t) => {
  const sent = [new Float32Array(64).fill(1), new Float32Array(64).fill(2)];
  const views = viewRows(packed(...sent)) as Float32Array[];
  const answer = packed(...views);
  views[0]?.fill(9);
  t.deepEqual(unpackRows(answer), sent);
  t.is(sent[0]?.[0], 1);
});

test('records that are no typed arrays of one class come as they are', (t) => {
  const records = [new Float32Array([1]), 'two', { three: 3 }];
  t.deepEqual(viewRows(packed(...records)), records);
});

test('shared rows are views over a copy, so that the memory they came in may be used again', (t) => {
  const sent = [new Uint8Array(100).fill(1), new Uint8Array(70).fill(2)];
  const payload = packed(...sent);
  const given: unknown[] = [];
  const shared = shareRows(payload, (data) => given.push(data)) as Uint8Array[];
  if (payload.kind !== 'packed') return t.fail();
  t.deepEqual(given, [payload.data]);
  (payload.data as Uint8Array).fill(9);
  t.deepEqual(shared, sent);
  t.is(shared[0]?.buffer, shared[1]?.buffer);
});
