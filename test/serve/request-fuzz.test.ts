import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { isTroupeError } from '../../src/kernel/errors.js';
import { OIP_DATATYPES } from '../../src/serve/oip-datatype.js';
import { decodeRequest } from '../../src/serve/oip-request.js';
import { failureOf } from '../../src/serve/oip-status.js';
import { chatRequest, completionRequest, embeddingRequest, fieldsOf } from '../../src/serve/openai-request.js';
import { Refusal } from '../../src/stream/http-body.js';
import { beginRow, inTenths } from '../e2e/row-report.js';
import { fuzzOf, sizes } from '../e2e/sizes.js';
import { LoopBlock } from './loop-block.js';

/** Row G1: whatever comes as a request is one, or is refused as the client's mistake, and holds up nobody else. */

/** Of each of four kinds of garbage. */
const runs = fuzzOf(sizes.oipRuns / 4);

/** Whether it is a request. Throws what is no typed refusal of the client's mistake. */
function isTaken(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (error) {
    if (!isTroupeError(error) && !(error instanceof Refusal)) throw error;
    const { status } = failureOf(error);
    if (status < 400 || status > 499) throw error;
    return false;
  }
}

const oipWords = [
  'inputs',
  'outputs',
  'name',
  'shape',
  'datatype',
  'data',
  'parameters',
  'id',
  '__proto__',
  'FP32',
  'BYTES',
  'x',
  'binary_data_size',
  'binary_data',
  'constructor',
];
const openAiWords = [
  'model',
  'input',
  'prompt',
  'messages',
  'role',
  'content',
  'user',
  'stream',
  'stream_options',
  'include_usage',
  'n',
  'best_of',
  'stop',
  'dimensions',
  'encoding_format',
  'max_tokens',
  '__proto__',
  'constructor',
];

/** Any JSON, with the words of a protocol often among its keys and values. */
function anyTree(words: readonly string[]): fc.Arbitrary<unknown> {
  const word = fc.constantFrom(...words);
  return fc.letrec((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small' },
      fc.oneof(word, fc.jsonValue(), fc.double(), fc.bigInt().map(String), fc.string({ unit: 'binary' })),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(fc.oneof(word, fc.string()), tie('tree'), { maxKeys: 6 }),
    ),
  })).tree;
}

const tree = anyTree(oipWords);
const input = fc.record(
  {
    name: fc.oneof(fc.constantFrom(...oipWords), tree),
    datatype: fc.oneof(fc.constantFrom(...OIP_DATATYPES.keys()), tree),
    shape: fc.oneof(fc.array(fc.oneof(fc.nat({ max: 4 }), fc.double(), fc.maxSafeInteger()), { maxLength: 20 }), tree),
    data: tree,
    parameters: tree,
  },
  { requiredKeys: ['name', 'datatype', 'shape'] },
);
const oipBody = fc.oneof(
  tree,
  fc.record(
    { inputs: fc.array(input, { maxLength: 3 }), outputs: tree, parameters: tree },
    { requiredKeys: ['inputs'] },
  ),
);
const openAiTree = anyTree(openAiWords);
const or = (right: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> => fc.oneof(right, openAiTree);
const message = fc.record({ role: or(fc.constant('user')), content: or(fc.string()) });
const openAiBody = fc.oneof(
  openAiTree,
  fc.record(
    {
      model: or(fc.constant('m')),
      input: or(fc.string()),
      prompt: or(fc.array(fc.string(), { maxLength: 3 })),
      messages: or(fc.array(message, { maxLength: 3 })),
      stream: or(fc.boolean()),
      n: or(fc.constant(1)),
      stop: or(fc.string()),
      seed: or(fc.integer()),
    },
    { requiredKeys: ['model', 'input', 'prompt', 'messages'] },
  ),
);

/** What no writer of JSON makes: keys that stand twice, halves of characters, numbers beyond all types, depth, what is cut off. */
const splinter = fc.oneof(
  fc.constantFrom(
    '"inputs":[],',
    '"inputs":',
    '"data":',
    '"__proto__":{"x":1},',
    '"constructor":',
    '"id":"a","id":"b",',
  ),
  fc.constantFrom(
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '\\u0000',
    '\u0000',
    '\ufeff',
    '\ud800',
    '"',
    '\\',
    ',',
    ':',
    '}',
    ']',
    '{',
    '[',
  ),
  fc.constantFrom(
    '1e400',
    '-1e400',
    '-0',
    '9007199254740993',
    '18446744073709551616',
    '0.1e-999',
    '01',
    '+1',
    '.5',
    '1.',
  ),
  fc.constantFrom('NaN', 'Infinity', '-Infinity', 'nul', 'true', 'undefined', '//', '/*'),
  fc
    .tuple(fc.constantFrom('[', '{"a":', '9', '"x",', '{},'), fc.nat({ max: 3000 }))
    .map(([text, count]) => text.repeat(count)),
);
const edits = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 12 }), splinter), { minLength: 1, maxLength: 4 });
const bent = (body: fc.Arbitrary<unknown>): fc.Arbitrary<string> =>
  fc.tuple(body, edits).map(([value, changes]) =>
    changes.reduce((text, [at, removed, added]) => {
      const place = at % (text.length + 1);
      return text.slice(0, place) + added + text.slice(place + removed);
    }, JSON.stringify(value) ?? ''),
  );

function holds(
  t: ExecutionContext,
  body: fc.Arbitrary<unknown>,
  read: (body: Buffer, length?: string) => unknown,
): void {
  const row = beginRow(t, 'G1');
  const loop = new LoopBlock();
  let taken = 0;
  const judge = (given: string | Buffer, length?: string): void => {
    const bytes = typeof given === 'string' ? Buffer.from(given) : given;
    if (loop.during(`a body of ${bytes.length} bytes`, () => isTaken(() => read(bytes, length)))) taken++;
  };
  const length = fc.option(fc.oneof(fc.nat({ max: 300 }).map(String), fc.string()), { nil: undefined });
  fc.assert(
    fc.property(body, length, (value, said) => judge(JSON.stringify(value) ?? '', said)),
    runs,
  );
  fc.assert(
    fc.property(bent(body), (text) => judge(text)),
    runs,
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => judge(text)),
    runs,
  );
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => judge(Buffer.from(bytes))),
    runs,
  );
  t.true(taken < 2 * runs.numRuns);
  const all = 4 * runs.numRuns;
  row({ faults: all, runs: all, lost: 0, dup: 0, reorder: 0, more: { taken, slowestMs: inTenths(loop.slowestMs) } });
}

test('G1 any JSON, any text and any bytes whatever are a request of inference or a typed refusal, and block nobody', (t) => {
  holds(t, oipBody, (body, length) => decodeRequest(body, length, 'bare'));
});

for (const [kind, read] of [
  ['embeddings', embeddingRequest],
  ['completions', completionRequest],
  ['chat', chatRequest],
] as const)
  test(`G1 any JSON, any text and any bytes whatever are a request of ${kind} or a typed refusal, and block nobody`, (t) => {
    holds(t, openAiBody, (body) => read(fieldsOf(body), 1000));
  });

test('an input that blocks is found, and one that was slow once is not', (t) => {
  const burn = (ms: number): void => {
    const before = process.cpuUsage();
    for (let used = 0; used < 1000 * ms; ) {
      const { user, system } = process.cpuUsage(before);
      used = user + system;
    }
  };
  const loop = new LoopBlock();
  t.throws(() => loop.during('it', () => burn(60)), { message: /^it blocks the loop for \d+(\.\d+)? ms of CPU time$/ });
  let calls = 0;
  t.notThrows(() => loop.during('it', () => (++calls === 1 ? burn(60) : undefined)));
  t.is(calls, 2);
});
