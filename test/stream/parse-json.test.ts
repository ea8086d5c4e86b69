import test from 'ava';
import fc from 'fast-check';
import { MAX_JSON_DEPTH, MAX_REQUEST_NAMES, parseJson } from '../../src/stream/parse-json.js';

function namesIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const own = Array.isArray(value) ? 0 : Object.keys(value).length;
  return Object.values(value).reduce<number>((sum, one) => sum + namesIn(one), own);
}

test('a text is refused from one name more than it may have, and colons in its strings are none', (t) => {
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: fc.constantFrom(':', '"', '\\', 'a') }), (value) => {
      // Texts that are shorter than twice the depth are not counted.
      const text = JSON.stringify(value).padEnd(2 * MAX_JSON_DEPTH + 1);
      const names = namesIn(JSON.parse(text));
      t.deepEqual(parseJson(text, MAX_JSON_DEPTH, Infinity, names), JSON.parse(text));
      if (names > 0)
        t.throws(() => parseJson(text, MAX_JSON_DEPTH, Infinity, names - 1), {
          instanceOf: SyntaxError,
          message: `it has more than ${names - 1} names`,
        });
    }),
  );
});

test('names that come again are counted again, and without a bound any number is read', (t) => {
  const text = `{${'"a":1,'.repeat(MAX_REQUEST_NAMES)}"a":2}`;
  t.deepEqual(parseJson(text), { a: 2 });
  t.throws(() => parseJson(text, MAX_JSON_DEPTH, Infinity, MAX_REQUEST_NAMES), { message: /more than 100000 names/ });
});
