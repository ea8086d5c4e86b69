import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { configJsonSchema, type JsonSchema } from '../../src/config/schema.js';
import { parseConfig } from '../../src/config/load.js';
import { isTroupeError } from '../../src/kernel/errors.js';
import { beginRow } from '../e2e/row-report.js';
import { fuzzOf, sizes } from '../e2e/sizes.js';

/** Valid text that uses most of the grammar; no module paths, so that nothing depends on files. */
const VALID = `name: &n demo
pools:
  types: { actor: onnx, model: ./m, replicas: 2, mailbox: &box { capacity: 64, overflow: wait } }
  other:
    actor: "mock"
    mailbox: *box
    version: \${V:-1}
    options: { deep: [1, { x: ~ }], text: "\${HOME}" }
pipelines:
  walk:
    source: { file: in.csv, format: csv }
    steps:
      - infer: { pool: types, order: unordered }
    sink: { stdout: ndjson }
`;

const env = { HOME: '/root' };

/** The law: text gives a config or CONFIG_INVALID with a position; nothing else is ever thrown, no prototype changes. */
function isConfig(text: string): boolean {
  try {
    parseConfig(text, { file: 'f.yaml', env });
  } catch (error) {
    if (!isTroupeError(error) || error.code !== 'CONFIG_INVALID') throw error;
    if (!/(?:^|\n {2})f\.yaml:[1-9]\d*:[1-9]\d* \S/.test(error.message))
      throw new Error(`no position: ${error.message}`);
    return false;
  }
  return true;
}

/** The law over as many texts as the size says: a third of row H4. */
function holdTheLaw(t: ExecutionContext, texts: fc.Arbitrary<string>): void {
  const row = beginRow(t, 'H4');
  const runs = fuzzOf(sizes.h4Runs);
  let refused = 0;
  const law = (text: string): boolean => {
    if (!isConfig(text)) refused++;
    return Object.keys(Object.prototype).length === 0;
  };
  fc.assert(fc.property(texts, law), runs);
  t.true(refused > 0);
  row({ faults: runs.numRuns, runs: runs.numRuns, lost: 0, dup: 0, reorder: 0, more: { refused } });
}

const piece = fc.oneof(
  fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ':',
    ': ',
    '- ',
    '\n',
    '  ',
    '*',
    '&',
    '*n',
    '&n ',
    '!',
    '!!',
    '|',
    '>',
    '%',
    '---',
    '...',
    '"',
    "'",
    '#',
    '? ',
    '<<: ',
    '~',
    ',',
    '\t',
    '\0',
    '\ufeff',
    '${',
    '${A',
    '}',
    '$${',
    '${HOME}',
    '__proto__: ',
    'constructor: ',
    '.nan',
    '1e999',
    '0x1',
    '!!binary ',
    '!!set ',
  ),
  fc.string({ unit: 'binary', maxLength: 12 }),
);

test('H4 no garbage gets anything but a config or CONFIG_INVALID with a position', (t) => {
  holdTheLaw(
    t,
    fc.array(piece, { maxLength: 40 }).map((parts) => parts.join('')),
  );
});

test('H4 no cut, insertion or swap of text in a valid config gets anything but a config or CONFIG_INVALID', (t) => {
  t.notThrows(() => parseConfig(VALID, { file: 'f.yaml', env }));
  const mutated = fc
    .array(fc.record({ at: fc.nat(VALID.length), remove: fc.nat(20), insert: piece }), { minLength: 1, maxLength: 4 })
    .map((edits) =>
      edits.reduce((text, { at, remove, insert }) => text.slice(0, at) + insert + text.slice(at + remove), VALID),
    );
  holdTheLaw(t, mutated);
});

/** Every path of the schema, with names filled in. */
function pathsOf(schema: JsonSchema, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  const below = [
    ...Object.entries(schema.properties ?? {}).map(([key, child]) => pathsOf(child, [...path, key])),
    ...(typeof schema.additionalProperties === 'object'
      ? [pathsOf(schema.additionalProperties, [...path, 'types'])]
      : []),
    ...(schema.items === undefined ? [] : [pathsOf(schema.items, [...path, 0])]),
  ];
  return [path, ...below.flat()];
}

test('H4 any value in any place of the schema gets a config or CONFIG_INVALID with a position', (t) => {
  const paths = pathsOf(configJsonSchema());
  t.true(paths.length > 50);
  const placed = fc.tuple(fc.constantFrom(...paths), fc.jsonValue()).map(([path, value]) => {
    return JSON.stringify(path.reduceRight<unknown>((inner, key) => (key === 0 ? [inner] : { [key]: inner }), value));
  });
  holdTheLaw(t, placed);
});
