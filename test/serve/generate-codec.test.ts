import test from 'ava';
import fc from 'fast-check';
import { isTroupeError } from '../../src/kernel/errors.js';
import { readGenerate, tensorRequest } from '../../src/serve/generate-request.js';
import { recordsFrom } from '../../src/serve/oip-records.js';
import { askOfText } from '../../src/serve/many-answers.js';
import { Refusal } from '../../src/stream/http-body.js';
import type { Signature } from '../../src/wire/tensor.js';
import { sizes } from '../e2e/sizes.js';

const runs = { numRuns: sizes.oipRuns };

const signature: Signature = {
  inputs: [
    { name: 'x', dtype: 'float32', shape: [2, -1] },
    { name: 'id', dtype: 'string', shape: [] },
    { name: '__proto__', dtype: 'uint64', shape: [-1, -1] },
  ],
  outputs: [{ name: 'y', dtype: 'float32', shape: [] }],
};

const name = fc.constantFrom(
  'x',
  'id',
  '__proto__',
  'text_input',
  'stream',
  'sampling_parameters',
  'stop',
  'timeout',
  'p',
);
const leaf = fc.oneof(
  fc.constantFrom<unknown>(null, true, 0, -1, 2 ** 53, 1e300, '', '1', '{"max_tokens":"1"}', '{"__proto__":1}', 'NaN'),
  fc.string(),
  fc.double({ noDefaultInfinity: true, noNaN: true }),
);
const value = fc.oneof(
  leaf,
  fc.array(leaf, { maxLength: 5 }),
  fc.array(fc.array(leaf, { maxLength: 3 }), { maxLength: 3 }),
);
const fields = fc.array(fc.tuple(name, value), { maxLength: 8 });
const textOf = (all: readonly (readonly [string, unknown])[]): string[] =>
  all.map(([key, one]) => `${JSON.stringify(key)}:${JSON.stringify(one)}`);
const body = fc.oneof(
  fc
    .tuple(fields, fields)
    .map(([outer, inner]) => `{${[...textOf(outer), `"parameters":{${textOf(inner).join()}}`].join()}}`),
  fc.json(),
  fc.constantFrom('{"text_input":"a","parameters":{"p":"v"}}', '{"x":[[1,2],[3,4]],"id":"a","__proto__":[1]}'),
  fc.string(),
);

/** Whether it is what clients are told of their own mistakes. */
function isTold(error: unknown): boolean {
  if (error instanceof Refusal) return error.status === 400;
  return isTroupeError(error) && ['INPUT_INVALID', 'PARSE_FAILED'].includes(error.code);
}

test('whatever a body holds, it is a request, or a mistake that is told as one', (t) => {
  let [tensors, texts, refused] = [0, 0, 0];
  const attempt = (run: () => unknown): boolean => {
    try {
      run();
      return true;
    } catch (error) {
      if (!isTold(error)) throw error;
      refused++;
      return false;
    }
  };
  fc.assert(
    fc.property(body, fc.boolean(), (text, mayStream) => {
      attempt(() => {
        const asked = readGenerate(Buffer.from(text));
        const served = { pool: { kinds: ['completions'] } } as unknown as Parameters<typeof askOfText>[0];
        if (attempt(() => askOfText(served, asked.fields, mayStream))) texts++;
        if (attempt(() => recordsFrom(tensorRequest(asked, signature.inputs, 'bare').inputs, signature, 100)))
          tensors++;
      });
    }),
    runs,
  );
  t.true(texts > 0 && tensors > 0 && refused > 0, `${texts} texts, ${tensors} of tensors, ${refused} refused`);
  t.is(({} as { max_tokens?: number }).max_tokens, undefined);
});

test('a request of too many names is refused before they are looked at, wherever they are', (t) => {
  const wide = Object.fromEntries(Array.from({ length: 257 }, (_, n) => [`triton_${n}`, n]));
  for (const request of [wide, { parameters: wide }])
    t.throws(() => readGenerate(Buffer.from(JSON.stringify(request))), {
      code: 'INPUT_INVALID',
      message: /^the request: more than 256 parameters/,
    });
  const names = Array.from({ length: 100_001 }, (_, n) => `"n${n}":1`).join();
  t.throws(() => readGenerate(Buffer.from(`{"x":{${names}}}`)), {
    code: 'PARSE_FAILED',
    message: /it has more than 100000 names/,
  });
});

test('the shape of an input holds exactly the values that were given, the innermost unknown dimension all that is left', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(-1, 1, 2, 3), { maxLength: 4 }),
      fc.integer({ min: 1, max: 60 }),
      (shape, count) => {
        const asked = readGenerate(Buffer.from(JSON.stringify({ a: Array.from({ length: count }, (_, n) => n) })));
        const known = shape.reduce<number>((product, dim) => (dim === -1 ? product : product * dim), 1);
        const specs = [{ name: 'a', dtype: 'int32', shape }] as const;
        if (count % known !== 0) {
          t.throws(() => tensorRequest(asked, specs, 'bare'), { message: /cannot be made of/ });
          return;
        }
        const [input] = tensorRequest(asked, specs, 'bare').inputs;
        const dims = [-1, ...shape];
        const innermost = dims.lastIndexOf(-1);
        const expected = dims.map((dim, at) => (dim !== -1 ? dim : at === innermost ? count / known : 1));
        t.deepEqual(input?.shape, expected);
        t.is(input?.data.length, count);
      },
    ),
    runs,
  );
});
