import test from 'ava';
import fc from 'fast-check';
import { parseTextProto, type ProtoField, type ProtoValue, TextProtoError } from '../../src/models/text-proto.js';

/** Without positions: what was said. */
function plain(fields: readonly ProtoField[]): unknown {
  return fields.map(({ name, value }) => [name, valueOf(value)]);
}

function valueOf(value: ProtoValue): unknown {
  switch (value.kind) {
    case 'list':
      return value.items.map(valueOf);
    case 'message':
      return { of: plain(value.fields) };
    case 'string':
      return { text: value.bytes.toString('latin1') };
    default:
      return value.text;
  }
}

test('every way to write a field is read', (t) => {
  const text = `
    # a comment
    a: 1  b: -2, c: word; d: "x" 'y'   # another
    e { f: 1.5f }  e: { f: 0x1F }  e < f: .5 >  e: < >
    g: [1, 2, 3] h: [] i [ { a: 1 }, < a: 2 > ] j: [ "p" "q", 'r' ]
    k:-inf l: 1e-3 m: 017`;
  t.deepEqual(plain(parseTextProto(text)), [
    ['a', '1'],
    ['b', '-2'],
    ['c', 'word'],
    ['d', { text: 'xy' }],
    ['e', { of: [['f', '1.5f']] }],
    ['e', { of: [['f', '0x1F']] }],
    ['e', { of: [['f', '.5']] }],
    ['e', { of: [] }],
    ['g', ['1', '2', '3']],
    ['h', []],
    ['i', [{ of: [['a', '1']] }, { of: [['a', '2']] }]],
    ['j', [{ text: 'pq' }, { text: 'r' }]],
    ['k', '-inf'],
    ['l', '1e-3'],
    ['m', '017'],
  ]);
});

test('escapes of strings give the bytes they stand for', (t) => {
  const [field] = parseTextProto(String.raw`s: "\a\b\t\n\v\f\r\?\\\'\" \101\0 \x41\xf \u00e9 \U0001F3AD"`);
  const bytes = field?.value.kind === 'string' ? field.value.bytes : Buffer.alloc(0);
  const expected = Buffer.concat([
    Buffer.from([7, 8, 9, 10, 11, 12, 13, 63, 92, 39, 34, 32, 65, 0, 32, 65, 15, 32]),
    Buffer.from('é 🎭'),
  ]);
  t.deepEqual(bytes, expected);
});

const wrong: readonly (readonly [string, number, number, RegExp])[] = [
  ['a', 1, 2, /expected a value, found the end/],
  ['a 1', 1, 3, /expected ":" between a and its value/],
  ['a: {', 1, 5, /expected }, the text ends/],
  ['a {\n b: 1\n>', 3, 1, /expected the name of a field, found ">"/],
  ['a: [1 2]', 1, 7, /expected "," or "]"/],
  ['a: [1,]', 1, 7, /expected a value/],
  ['a: [[1]]', 1, 5, /a list cannot hold a list/],
  ['x: 1\n  s: "ab\ncd"', 2, 6, /does not end on its line/],
  ['s: "a\\q"', 1, 6, /no escape \\q/],
  ['s: "\\777"', 1, 5, /octal/],
  ['s: "\\ud800"', 1, 5, /no character/],
  ['n: 12ab', 1, 4, /letters in it/],
  ['n: -word', 1, 4, /expected a number after "-"/],
  ['[a.b/c] { }', 1, 1, /extensions/],
  ['}', 1, 1, /expected the name/],
  ['a: \u0000', 1, 4, /found "\\u0000"/],
  ['näme: 1', 1, 2, /found "ä"/],
  [`${'a{'.repeat(200)}`, 1, 202, /deeper than 100/],
];
for (const [text, line, col, message] of wrong) {
  test(`${JSON.stringify(text.slice(0, 20))} is refused at ${line}:${col}`, (t) => {
    const error = t.throws(() => parseTextProto(text), { instanceOf: TextProtoError, message });
    t.deepEqual(error?.at, { line, col });
  });
}

const name = fc.stringMatching(/^[A-Za-z_]\w{0,8}$/);
const scalar = fc.oneof(
  fc.integer().map(String),
  fc.string({ unit: 'binary' }).map((text) => ({ text: Buffer.from(text).toString('latin1') })),
  fc.stringMatching(/^[A-Za-z_]\w{0,8}$/),
);
interface Node {
  readonly of: (readonly [string, unknown])[];
}
const { node } = fc.letrec<{ node: Node; value: unknown }>((tie) => ({
  node: fc.record({ of: fc.array(fc.tuple(name, tie('value')), { maxLength: 4 }) }),
  value: fc.oneof(
    { depthSize: 'small' },
    scalar,
    tie('node'),
    fc.array(scalar, { maxLength: 3 }),
    fc.array(tie('node'), { maxLength: 3 }),
  ),
}));

/** Writes a tree back, with the freedoms of the format chosen by `dice`. */
function write(tree: Node, dice: () => number): string {
  const pick = <T>(...from: readonly T[]): T => from[dice() % from.length] as T;
  const blank = (): string => pick(' ', '\n', '\t# c\n', ' \r\n ');
  const writeValue = (value: unknown): string => {
    if (Array.isArray(value)) return `[${blank()}${value.map(writeValue).join(`${blank()},`)}${blank()}]`;
    if (typeof value !== 'object' || value === null) return String(value);
    if ('text' in value) {
      const bytes = Buffer.from(String(value.text), 'latin1');
      return `${pick('"', "''\n\"")}${[...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')}"`;
    }
    const [open, close] = pick(['{', '}'], ['<', '>']) as [string, string];
    return `${open}${writeFields(value as Node)}${close}`;
  };
  const writeFields = ({ of }: Node): string =>
    of.map(([key, value]) => `${blank()}${key}:${blank()}${writeValue(value)}${pick(' ', ',', ';', '\n')}`).join('') +
    blank();
  return writeFields(tree);
}

test('what is written in any of the ways of the format is read back as it was', (t) => {
  fc.assert(
    fc.property(node, fc.infiniteStream(fc.nat(1000)), (tree, dice) => {
      const text = write(tree, () => dice.next().value);
      const [read] = [plain(parseTextProto(text))];
      t.deepEqual(read, (JSON.parse(JSON.stringify(tree)) as { of: unknown }).of);
    }),
    { numRuns: 300 },
  );
});

test('any text is read or refused at a place inside of it, and nothing else happens', (t) => {
  const token = fc.constantFrom(
    'a',
    ':',
    '{',
    '}',
    '<',
    '>',
    '[',
    ']',
    ',',
    ';',
    '"',
    "'",
    '\\',
    '\n',
    '#',
    '-',
    '1',
    '0x',
    '.',
    'e',
    ' ',
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(token, { maxLength: 60 }).map((parts) => parts.join('')),
  );
  let refusals = 0;
  fc.assert(
    fc.property(text, (given) => {
      try {
        parseTextProto(given);
      } catch (error) {
        refusals++;
        t.true(error instanceof TextProtoError, String(error));
        const { line, col } = (error as TextProtoError).at;
        const lines = given.split('\n');
        t.true(line >= 1 && line <= lines.length && col >= 1 && col <= (lines[line - 1] as string).length + 1);
      }
    }),
    { numRuns: 3000 },
  );
  t.true(refusals > 500);
});

test('a megabyte of open strings, comments or brackets is refused in time that grows with the text', (t) => {
  for (const part of ['"', '#\n', 'a:[', 'a{', '\\', '-', "a:'x' "]) {
    const text = part.repeat(Math.floor(1_000_000 / part.length));
    const startedAt = performance.now();
    try {
      parseTextProto(text);
    } catch (error) {
      t.true(error instanceof TextProtoError, `${part}: ${String(error)}`);
    }
    t.true(performance.now() - startedAt < 5000, part);
  }
});
