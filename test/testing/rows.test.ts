import test from 'ava';
import { runRows } from '../../src/testing/index.js';

const EXPECTED =
  'A1 A2 A3 A4 A5 A6 A7 A8 A9 B1 B2 B3 B4 B5 C1 C2 C3 C4 C5 C6 C7 D1 D2 D3 D4 D5 D6 D7 D8 E5 E6 K1 K2 K4 K5 L1 L2 L3 L4 L5 L6 L7'.split(
    ' ',
  );

Error.stackTraceLimit = 0;
const results = runRows();

for (const { id, title, runs, fired, problem } of results) {
  test(`${id}: ${title}`, (t) => {
    t.is(problem, undefined);
    t.true(runs > 0);
    t.true(fired > 0);
    t.log(`${runs} runs, ${fired} faults`);
  });
}

test('every row of the scorecard with a subject in the cores has a scenario', (t) => {
  t.deepEqual([...new Set(results.map(({ id }) => id))], EXPECTED);
});
