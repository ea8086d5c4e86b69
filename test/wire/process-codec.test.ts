import test from 'ava';
import fc from 'fast-check';
import { isTroupeError } from '../../src/kernel/errors.js';
import { packColumns } from '../../src/wire/columns.js';
import { FRAME_ARRAY, FRAME_MESSAGE, FRAME_VALUES, FrameDecoder, type FrameKind } from '../../src/wire/frame.js';
import type { ToEntry, ToHost } from '../../src/wire/messages.js';
import { decodeMessage, encodeMessage } from '../../src/wire/process-codec.js';
import { packRows, payloadCount, unpackRows } from '../../src/wire/rows.js';

interface Sent {
  readonly payload: Buffer;
  readonly far: readonly Buffer[];
}

function sent(message: ToEntry | ToHost): Sent {
  const decoder = new FrameDecoder();
  const far: Buffer[] = [];
  const payloads: Buffer[] = [];
  const frame = (payload: Buffer, kind: FrameKind): void => void (kind === FRAME_ARRAY ? far : payloads).push(payload);
  for (const piece of encodeMessage(message)) decoder.push(piece, frame);
  decoder.end();
  return { payload: payloads[0] as Buffer, far };
}

const payloadOf = (message: ToEntry | ToHost): Buffer => sent(message).payload;

function roundTrip(message: ToEntry | ToHost): ToEntry | ToHost {
  const { payload, far } = sent(message);
  return decodeMessage(payload, far);
}

const batch = (values: readonly unknown[]): ToEntry => ({
  kind: 'batch',
  incarnation: 1,
  id: 2,
  payload: packRows(values),
});

test('rows of every kind come back as they were sent', (t) => {
  const kinds: unknown[][] = [
    [1, 'two', null, undefined, { three: [4n] }, new Date(5)],
    [new Float32Array([1, 2]), new Float32Array([3, 4])],
    [new Uint8Array([1]), new Uint8Array([]), new Uint8Array([2, 3])],
    [new BigInt64Array([1n]), new BigInt64Array([-2n])],
    [new Float32Array(20_001).fill(7), new Float32Array(3)],
    [new Float32Array([1]), new Float64Array([1])],
  ];
  for (const values of kinds) {
    const back = roundTrip(batch(values));
    if (back.kind !== 'batch' || back.payload.kind === 'columns') return t.fail();
    t.is(payloadCount(back.payload), values.length);
    t.deepEqual(unpackRows(back.payload), values);
  }
});

test('columns come back with dtype, shape and values', (t) => {
  for (const length of [3, 30_001]) {
    const records = [0, 1].map((index) => ({ x: new Float64Array(length).fill(index), b: index, s: `s${index}` }));
    const { columns } = packColumns(records, [
      { name: 'b', dtype: 'uint8', shape: [] },
      { name: 'x', dtype: 'float64', shape: [-1] },
      { name: 's', dtype: 'string', shape: [] },
    ]);
    const message: ToHost = {
      kind: 'reply',
      incarnation: 1,
      id: 2,
      payload: { kind: 'columns', columns },
      faults: undefined,
    };
    t.deepEqual(roundTrip(message), message);
  }
});

test('a received record does not pin the frame it came in', (t) => {
  const values = [{ small: new Float32Array(4) }, { big: 'x'.repeat(10_000), list: [new Uint8Array(2)] }];
  const back = roundTrip(batch(values));
  if (back.kind !== 'batch' || back.payload.kind !== 'rows') return t.fail();
  const [first, second] = back.payload.values as [{ small: Float32Array }, { list: Uint8Array[] }];
  t.is(first.small.buffer.byteLength, 16);
  t.is(second.list[0]?.buffer.byteLength, 2);
});

test('a small view over a big buffer is sent as what it shows', (t) => {
  const big = new Uint8Array(4 * 2 ** 20);
  t.true(payloadOf(batch([{ view: big.subarray(0, 4) }])).byteLength < 1000);
  const packed = packRows([{ view: big.subarray(0, 4) }]);
  t.true(packed.kind === 'rows' && (packed.values[0] as { view: Uint8Array }).view.buffer.byteLength === 4);
  t.is(big.byteLength, 4 * 2 ** 20);
});

test('what is said of token streams comes back as it was sent, and what is no such thing does not', (t) => {
  const fault = { name: 'Error', message: 'cut' };
  const messages: (ToEntry | ToHost)[] = [
    { kind: 'pull', incarnation: 1, id: 2, index: 0, count: 16 },
    { kind: 'end-stream', incarnation: 1, id: 2, index: 3 },
    { kind: 'piece', incarnation: 1, id: 2, index: 0, value: { text: 'é', usage: { promptTokens: 1 } } },
    { kind: 'piece', incarnation: 1, id: 2, index: 0, value: undefined },
    { kind: 'stream-ended', incarnation: 1, id: 2, index: 0 },
    { kind: 'stream-ended', incarnation: 1, id: 2, index: 0, fault },
    { kind: 'reply', incarnation: 1, id: 2, payload: packRows(['a', undefined]), faults: undefined, streams: [1] },
  ];
  for (const message of messages) t.deepEqual(roundTrip(message), message);
  const wrong: unknown[] = [
    { kind: 'pull', incarnation: 1, id: 2, index: 0, count: -1 },
    { kind: 'pull', incarnation: 1, id: 2, index: 0.5, count: 1 },
    { kind: 'piece', incarnation: 1, id: 2 },
    { kind: 'stream-ended', incarnation: 1, id: 2, index: 0, fault: 'cut' },
    { kind: 'reply', incarnation: 1, id: 2, payload: packRows(['a']), faults: undefined, streams: 'all' },
    { kind: 'spent', incarnation: 1, buffers: [] },
  ];
  for (const message of wrong)
    t.throws(() => roundTrip(message as ToHost), { code: 'PROTOCOL_VIOLATION' }, JSON.stringify(message));
});

test('bytes that are no message give PROTOCOL_VIOLATION and nothing else', (t) => {
  const good = payloadOf(batch([new Float32Array([1, 2]), new Float32Array([3, 4])]));
  for (let cut = 0; cut < good.length; cut++) {
    const error = t.throws(() => decodeMessage(Buffer.from(good.subarray(0, cut))));
    t.true(isTroupeError(error) && error.code === 'PROTOCOL_VIOLATION');
  }
  for (let bit = 0; bit < good.length * 8; bit++) {
    const broken = Buffer.allocUnsafeSlow(good.length);
    broken.set(good);
    broken[bit >> 3] = (broken[bit >> 3] as number) ^ (1 << (bit & 7));
    try {
      t.is(typeof decodeMessage(broken).incarnation, 'number');
    } catch (error) {
      t.true(isTroupeError(error) && error.code === 'PROTOCOL_VIOLATION', `bit ${bit}: ${String(error)}`);
    }
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const error = t.throws(() => decodeMessage(Buffer.from(bytes)));
      t.true(isTroupeError(error));
    }),
    { numRuns: 500 },
  );
});

test('an array among plain values has memory of its own, and its frame is never lent', (t) => {
  const sentPiece: ToHost = { kind: 'piece', incarnation: 1, id: 2, index: 0, value: { deep: new Float32Array(4) } };
  const back = roundTrip(sentPiece);
  const { deep } = (back as { value: { deep: Float32Array } }).value;
  t.deepEqual(deep, new Float32Array(4));
  t.is(deep.buffer.byteLength, deep.byteLength);
  const kindOf = (message: ToEntry | ToHost): number | undefined => encodeMessage(message).at(-1)?.[3];
  t.is(kindOf(sentPiece), FRAME_VALUES);
  t.is(kindOf(batch([1])), FRAME_VALUES);
  t.is(kindOf(batch([new Float32Array(4)])), FRAME_MESSAGE);
});
