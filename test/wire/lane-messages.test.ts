import test from 'ava';
import fc from 'fast-check';
import { isTroupeError } from '../../src/kernel/errors.js';
import { FRAME_HEADER_BYTES, FrameDecoder } from '../../src/wire/frame.js';
import {
  decodeToClient,
  decodeToServer,
  folded,
  foldedIds,
  type ToClient,
  type ToServer,
  unfold,
  unfoldId,
} from '../../src/wire/lane-messages.js';
import { encodeMessage } from '../../src/wire/process-codec.js';
import { packRows } from '../../src/wire/rows.js';
import { payloadBytes } from '../../src/wire/unix-lane.js';
import { beginRow } from '../e2e/row-report.js';
import { fuzzOf, sizes } from '../e2e/sizes.js';

/** G7 for the messages of the framed lane: whatever comes is a message, waits for its rest, or is refused by its code. */

const records: ToServer = {
  kind: 'records',
  channel: 3,
  ids: [4, 5, 9],
  asked: false,
  remainingMs: [10, Infinity, 0],
  priority: 0,
  callTimeoutMs: undefined,
  key: ['a', undefined, 'b'],
  model: undefined,
  traceparent: undefined,
  heard: 7,
  flush: true,
  payload: packRows([1, { a: 'b' }, [null]]),
};
const toServer: readonly ToServer[] = [
  { kind: 'hello', protocol: 1, client: '0123456789abcdef0123456789abcdef', heard: 0, heartbeatMs: 500, token: 'x' },
  { kind: 'open', channel: 0, pool: 'p' },
  records,
  {
    ...records,
    ids: 1,
    payload: packRows([new Float32Array([1, 2]), new Float32Array([3, 4]), new Float32Array([5, 6])]),
  },
  { kind: 'cancel', ids: [1, 2] },
  { kind: 'flush', channel: 1 },
  { kind: 'call', id: 1, channel: 2, method: 'm', args: [1, 'b'] },
  { kind: 'health', id: 2, channel: 1 },
  { kind: 'stats', id: 3, channel: 1 },
  { kind: 'pull', id: 7, count: 16 },
  { kind: 'quit', id: 7 },
  { kind: 'ping', heard: 12 },
  { kind: 'bye' },
];
const toClient: readonly ToClient[] = [
  { kind: 'welcome', protocol: 1, resumed: true, known: [1, 2], frameBytes: 100, records: 5, asked: 6 },
  { kind: 'refused', fault: { name: 'TroupeError', message: 'no' } },
  { kind: 'opened', channel: 1, repeatable: true, attempts: 5, records: 10, bytes: 100 },
  { kind: 'closed', channel: 1, fault: { name: 'TroupeError', message: 'no' } },
  {
    kind: 'outcomes',
    seq: 1,
    ids: [5, 2],
    versions: ['1', undefined],
    models: undefined,
    faults: [[1, { name: 'Error', message: 'x' }]],
    payload: packRows(['a', undefined]),
  },
  { kind: 'grant', channel: 1, records: 10, bytes: 100 },
  { kind: 'answer', id: 1, value: { a: 1 } },
  {
    kind: 'outcomes',
    seq: 2,
    ids: 9,
    versions: '1',
    models: undefined,
    faults: undefined,
    streams: [1],
    payload: packRows([1, undefined]),
  },
  { kind: 'pieces', id: 10, values: ['a', { b: 1 }, new Float32Array([1])] },
  { kind: 'ended', id: 10 },
  { kind: 'ended', id: 10, fault: { name: 'Error', message: 'x' } },
  { kind: 'pong' },
  { kind: 'leaving' },
];

type Decode = (payload: Buffer, far?: readonly Buffer[]) => unknown;

/** Feeds bytes to a decoder as a connection does. A violation, or how many messages came out. */
function feed(bytes: Uint8Array, decode: Decode): number {
  let count = 0;
  try {
    const decoder = new FrameDecoder({ bytesMax: 4096, lends: true });
    decoder.push(bytes, (payload) => {
      decode(payload);
      count++;
    });
  } catch (error) {
    if (isTroupeError(error) && error.code === 'PROTOCOL_VIOLATION') return -1;
    throw error;
  }
  return count;
}

const all: readonly (readonly [ToServer | ToClient, Decode])[] = [
  ...toServer.map((message) => [message, decodeToServer] as const),
  ...toClient.map((message) => [message, decodeToClient] as const),
];

test('every message of the lane comes out as it went in', (t) => {
  for (const [message, decode] of all) {
    const frame = Buffer.concat(encodeMessage(message));
    t.deepEqual(decode(frame.subarray(FRAME_HEADER_BYTES)), message, message.kind);
  }
});

test('every truncation of every message of the lane waits for its rest', (t) => {
  for (const [message, decode] of all) {
    const frame = Buffer.concat(encodeMessage(message));
    for (let cut = 0; cut < frame.length; cut++)
      if (feed(frame.subarray(0, cut), decode) !== 0) t.fail(`${message.kind} cut at ${cut}`);
    t.is(feed(frame, decode), 1);
  }
});

test('every flipped bit of every message of the lane is a message, a wait or a violation', (t) => {
  let refused = 0;
  for (const [message, decode] of all) {
    const frame = Buffer.concat(encodeMessage(message));
    for (let bit = 0; bit < frame.length * 8; bit++) {
      const flipped = Buffer.from(frame);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      if (feed(flipped, decode) === -1) refused++;
    }
  }
  t.true(refused > 1000, `${refused} refused`);
});

test('G7 whatever is put into the fields of a message of the lane, nothing else than a violation comes of it', (t) => {
  const row = beginRow(t, 'G7');
  let written = 0;
  let refused = 0;
  const base = fc.constantFrom(...all);
  const value = fc.oneof(
    fc.anything({ withBigInt: true, withTypedArray: true, withNullPrototype: true }),
    fc.constantFrom(-1, 2 ** 53, 1e300, Number.NaN, 'x'.repeat(3000), [], [0], [1, 1], {
      kind: 'packed',
      count: 2 ** 50,
      lengths: 0,
      total: 0,
    }),
  );
  fc.assert(
    fc.property(base, fc.string(), value, fc.nat(), ([message, decode], name, strange, which) => {
      const keys = Object.keys(message);
      const key = which % 4 === 0 ? name : (keys[which % keys.length] as string);
      const changed = { ...message, [key]: strange } as unknown as ToServer;
      let pieces: Buffer[];
      try {
        pieces = encodeMessage(changed);
      } catch {
        return true; // What cannot be written never comes.
      }
      written++;
      const payload = (pieces.at(-1) as Buffer).subarray(FRAME_HEADER_BYTES);
      try {
        decode(payload);
        return true;
      } catch (error) {
        refused++;
        return isTroupeError(error) && error.code === 'PROTOCOL_VIOLATION';
      }
    }),
    fuzzOf(sizes.g7Runs),
  );
  t.true(refused > written / 100, `${refused} refused of ${written} written`);
  row({ faults: refused, runs: written, lost: 0, dup: 0, reorder: 0 });
});

test('G7 bytes that are no frames are a violation at once', (t) => {
  const row = beginRow(t, 'G7');
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2, maxLength: 200 }), (bytes) => {
      fc.pre(bytes[0] !== 0x54 || bytes[1] !== 0x52);
      return feed(bytes, decodeToServer) === -1;
    }),
    fuzzOf(sizes.g7Runs),
  );
  t.pass();
  row({ faults: sizes.g7Runs, runs: sizes.g7Runs, lost: 0, dup: 0, reorder: 0 });
});

test('both sides count the same bytes of a message, far arrays included', (t) => {
  const far = {
    ...records,
    ids: 1,
    key: undefined,
    remainingMs: 1,
    payload: packRows([new Uint8Array(70_000), new Uint8Array(3)]),
  };
  for (const message of [...toServer, far]) {
    const pieces = encodeMessage(message);
    let counted = 0;
    new FrameDecoder().push(Buffer.concat(pieces), (payload) => (counted += payload.byteLength));
    t.is(payloadBytes(pieces), counted, message.kind);
  }
  t.is(encodeMessage(far).length, 3);
});

test('what is the same for all records of a chunk stands in it once', (t) => {
  t.is(folded(['a', 'a']), 'a');
  t.deepEqual(folded(['a', 'b']), ['a', 'b']);
  t.is(foldedIds([4, 5, 6]), 4);
  t.deepEqual(foldedIds([4, 6]), [4, 6]);
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 50 }), { minLength: 1 }), (ids) => {
      const rising = ids.toSorted((a, b) => a - b);
      t.deepEqual(
        rising.map((_, index) => unfoldId(foldedIds(rising), index)),
        rising,
      );
      t.deepEqual(
        ids.map((_, index) => unfold(folded(ids), index)),
        ids,
      );
    }),
  );
});
