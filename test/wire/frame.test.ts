import test from 'ava';
import fc from 'fast-check';
import { isTroupeError } from '../../src/kernel/errors.js';
import { encodeFrame, FRAME_HEADER_BYTES, FrameDecoder } from '../../src/wire/frame.js';

function decode(
  chunks: readonly Uint8Array[],
  bytesMax?: number,
): { frames: Buffer[]; error: unknown; decoder: FrameDecoder } {
  const decoder = new FrameDecoder(bytesMax === undefined ? {} : { bytesMax });
  const frames: Buffer[] = [];
  try {
    for (const chunk of chunks) decoder.push(chunk, (payload) => frames.push(payload));
    return { frames, error: undefined, decoder };
  } catch (error) {
    return { frames, error, decoder };
  }
}

const isViolation = (error: unknown): boolean => isTroupeError(error) && error.code === 'PROTOCOL_VIOLATION';

test('frames come out whole however their bytes are split', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 50 }),
      (payloads, sizes) => {
        const stream = Buffer.concat(payloads.map((payload) => encodeFrame(payload)));
        const chunks: Buffer[] = [];
        for (let at = 0, i = 0; at < stream.length; i++) {
          const size = sizes[i % sizes.length] as number;
          chunks.push(stream.subarray(at, at + size));
          at += size;
        }
        const { frames, error, decoder } = decode(chunks);
        t.is(error, undefined);
        t.deepEqual(
          frames.map((frame) => [...frame]),
          payloads.map((payload) => [...payload]),
        );
        t.is(decoder.heldBytes, 0);
        t.notThrows(() => decoder.end());
      },
    ),
    { numRuns: 200 },
  );
});

test('a stream cut at any byte is noticed at its end, and gives only whole frames', (t) => {
  const stream = Buffer.concat([encodeFrame(Buffer.from('one')), encodeFrame(Buffer.from('two'))]);
  const firstEnd = FRAME_HEADER_BYTES + 3;
  for (let cut = 0; cut < stream.length; cut++) {
    const { frames, error, decoder } = decode([stream.subarray(0, cut)]);
    t.is(error, undefined);
    t.is(frames.length, cut < firstEnd ? 0 : 1);
    if (cut === 0 || cut === firstEnd) t.notThrows(() => decoder.end());
    else t.true(isViolation(t.throws(() => decoder.end())));
  }
});

test('every flipped bit of a header is refused or waits for bytes that never come', (t) => {
  const frame = encodeFrame(Buffer.from('payload'));
  for (let bit = 0; bit < FRAME_HEADER_BYTES * 8; bit++) {
    const broken = Buffer.from(frame);
    broken[bit >> 3] = (broken[bit >> 3] as number) ^ (1 << (bit & 7));
    const { frames, error, decoder } = decode([broken], 1024);
    const isNoticed = isViolation(error) || (frames.length === 0 && decoder.heldBytes > 0);
    // A shorter length leaves bytes behind that are no frame: refused as soon as there is one.
    t.true(isNoticed || decoder.heldBytes > 0, `bit ${bit}`);
  }
});

test('garbage, a wrong version and an oversized frame are refused, and nothing is accepted afterwards', (t) => {
  const frame = encodeFrame(Buffer.alloc(100));
  const version = Buffer.from(frame);
  version[2] = 99;
  for (const [bytes, message] of [
    [Buffer.from('GET / HTTP/1.1\r\n'), /wrong magic/],
    [version, /protocol version 99, expected 2/],
    [frame, /a frame of 100 bytes, more than 64/],
  ] as const) {
    const { error, decoder } = decode([bytes], 64);
    t.true(isViolation(error));
    t.regex((error as Error).message, message);
    t.true(isViolation(t.throws(() => decoder.push(frame, () => undefined))));
  }
});

test('no bytes make the decoder throw anything untyped or hold more than one frame', (t) => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 8 }), fc.boolean(), (chunks, startsWell) => {
      const start = startsWell ? [encodeFrame(Buffer.alloc(8)).subarray(0, 5)] : [];
      const { error, decoder } = decode([...start, ...chunks], 256);
      t.true(error === undefined || isViolation(error));
      t.true(decoder.heldBytes <= FRAME_HEADER_BYTES + 256);
    }),
    { numRuns: 2000 },
  );
});
