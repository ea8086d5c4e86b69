import fc from 'fast-check';
import test from 'ava';
import { FrameError, LineReader, parseFrame } from '../../src/control/frames.js';

test('lines come out whole however their bytes were cut', (t) => {
  const word = fc.string({ unit: 'grapheme', maxLength: 20 });
  fc.assert(
    fc.property(fc.array(word, { maxLength: 10 }), fc.infiniteStream(fc.integer({ min: 1, max: 7 })), (words, cuts) => {
      const bytes = Buffer.from(words.map((text) => `${JSON.stringify(text)}\n`).join(''));
      const reader = new LineReader(1000);
      const read: unknown[] = [];
      for (let from = 0; from < bytes.length; ) {
        const to = from + (cuts.next().value as number);
        for (const line of reader.push(bytes.subarray(from, to))) read.push(parseFrame(line));
        from = to;
      }
      t.deepEqual(read, words);
    }),
    { numRuns: 300 },
  );
});

test('a line beyond its limit is refused before it has an end', (t) => {
  const reader = new LineReader(10);
  t.deepEqual([...reader.push(Buffer.from('123456\n12345'))].map(String), ['123456']);
  t.throws(() => [...reader.push(Buffer.from('678901'))], { instanceOf: FrameError, message: /more than 10 bytes/ });
});

test('what is not UTF-8, not JSON, too deep or reaches for a prototype is no frame', (t) => {
  const cases: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.from([0x22, 0xff, 0x22]), /not UTF-8/],
    [Buffer.from('{"id":1'), /not JSON/],
    [Buffer.from('['.repeat(101) + ']'.repeat(101)), /deeper than 100/],
    [Buffer.from(`${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`), /deeper than 100/],
    [Buffer.from('{"id":1,"verb":"ps","params":{"__proto__":{"access":"write"}}}'), /__proto__/],
    [Buffer.from('{"a":[{"\\u005f_proto__":1}]}'), /__proto__/],
  ];
  for (const [bytes, message] of cases) t.throws(() => parseFrame(bytes), { instanceOf: FrameError, message });
  t.deepEqual(parseFrame(Buffer.from('{"a":"[[[[{{{{\\"]]"}')), { a: '[[[[{{{{"]]' });
});

test('no bytes make the parser throw anything but a FrameError, or change a prototype', (t) => {
  const before = Object.getOwnPropertyNames(Object.prototype).sort();
  const tokens = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    '"',
    '"__proto__"',
    '"id"',
    '1',
    '-',
    'null',
    '\\',
    '\u0000',
    'é',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
        fc.array(tokens).map((list) => Buffer.from(list.join(''))),
      ),
      (bytes) => {
        try {
          parseFrame(bytes);
        } catch (error) {
          t.true(error instanceof FrameError);
        }
      },
    ),
    { numRuns: 3000 },
  );
  t.deepEqual(Object.getOwnPropertyNames(Object.prototype).sort(), before);
});
