import { runInNewContext } from 'node:vm';
import test from 'ava';
import { VERB_NAMES, VERBS } from '../../src/control/grammar.js';
import { checkCall } from '../../src/control/operations.js';
import { paramsOf, usageOf, wordsOf } from '../../src/control/words.js';

test('words become parameters by their places, flags by their names', (t) => {
  t.deepEqual(paramsOf('swap', ['filetype', '2', '--canary', '0.1', '--bake-ms=500']), {
    pool: 'filetype',
    version: '2',
    canary: 0.1,
    bakeMs: 500,
  });
  t.deepEqual(paramsOf('stats', []), {});
  t.deepEqual(paramsOf('ask', ['p', '{"a":[1]}']), { pool: 'p', record: { a: [1] } });
  t.deepEqual(paramsOf('versions', ['--', '--odd']), { pool: '--odd' });
});

test('words that do not fit are refused with how the verb is used', (t) => {
  const cases: readonly (readonly ['swap' | 'scale' | 'ask' | 'ps', readonly string[], RegExp])[] = [
    ['swap', [], /^swap: it takes a pool; usage: swap POOL VERSION \[--canary N\]/],
    ['swap', ['p'], /it takes a version/],
    ['swap', ['p', '2', '3'], /"3" is too much/],
    ['swap', ['p', '2', '--bake'], /it has no option --bake, its options are --canary/],
    ['swap', ['p', '2', '--bake-ms'], /--bake-ms takes a value/],
    [
      'swap',
      ['p', '2', '--bake', '5'],
      /no option --bake, its options are --canary, --bake-ms, --shadow, .*--rollback-on; usage/,
    ],
    ['scale', ['p', 'many'], /replicas must be a number, got "many"/],
    ['scale', ['p', ''], /replicas must be a number, got ""/],
    ['ask', ['p', '{a:1}'], /record must be JSON, such as/],
    ['ps', ['x'], /"x" is too much; usage: ps$/],
  ];
  for (const [verb, words, message] of cases) t.throws(() => paramsOf(verb, words), { instanceOf: TypeError, message });
});

test('a line is split as a shell does, and JSON at its end stays whole', (t) => {
  t.deepEqual(wordsOf('swap  filetype\t2 --canary=0.1'), ['swap', 'filetype', '2', '--canary=0.1']);
  t.deepEqual(wordsOf(`ask p {"a": "b c", "d": [1, 2]}`), ['ask', 'p', '{"a": "b c", "d": [1, 2]}']);
  t.deepEqual(wordsOf(`ask p "two words"`), ['ask', 'p', '"two words"']);
  t.deepEqual(wordsOf(`ask p '{"a": 1}' --timeout-ms 5`), ['ask', 'p', '{"a": 1}', '--timeout-ms', '5']);
  t.deepEqual(wordsOf(`'`), [`'`]);
  t.deepEqual(wordsOf(''), []);
});

test('the example of every verb fits its own schema, and help names every option that the schema has', (t) => {
  for (const name of VERB_NAMES) {
    const { example, places, options, params } = VERBS[name];
    const call = /^(\w+)\((.*)\)$/.exec(example);
    t.is(call?.[1], name);
    const values = runInNewContext(`[${call?.[2] ?? ''}]`) as unknown[];
    const given = Object.fromEntries(values.map((value, index) => [places[index]?.name, value]));
    t.notThrows(() => checkCall(name, given), name);
    t.deepEqual([...places, ...options].map((one) => one.name).sort(), Object.keys(params.shape).sort(), name);
    t.true(usageOf(name).length < 100);
  }
});
