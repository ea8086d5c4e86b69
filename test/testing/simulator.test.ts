import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { FAULT_KINDS, NAMED_SCENARIOS, runScenario, shrinkScenario, swarmScenario } from '../../src/testing/index.js';

const COMMAND = fileURLToPath(new URL('../../src/testing/simulate.js', import.meta.url));

test.before(() => {
  Error.stackTraceLimit = 0;
});

test('no seed of the swarm breaks a promise, and every kind of fault strikes', (t) => {
  const fired = new Int32Array(FAULT_KINDS.length);
  for (let seed = 1; seed <= 1000; seed++) {
    const { violation, firedCounts } = runScenario(swarmScenario(seed));
    t.is(violation, undefined, `seed ${seed}`);
    for (let kind = 0; kind < fired.length; kind++) fired[kind] = (fired[kind] ?? 0) + (firedCounts[kind] ?? 0);
  }
  for (const [index, kind] of FAULT_KINDS.entries()) t.true((fired[index] ?? 0) > 0, kind);
});

// 21: a batch that hung a replica which was draining cost its records no attempt. 479, 816: a pool that shrank to slots
// that had failed stayed running for ever. 446: a pool failed while a roll-out that could save it was under way.
// 10821: a stall that struck in mid-turn kept a batch back past its deadline.
test('seeds that once broke a promise keep it', (t) => {
  for (const seed of [21, 287, 446, 479, 645, 808, 816, 10_821])
    t.is(runScenario(swarmScenario(seed)).violation, undefined, `seed ${seed}`);
});

test('the same seed gives the same trace, here and in another process', (t) => {
  const first = runScenario(swarmScenario(7));
  const second = runScenario(swarmScenario(7));
  t.is(first.traceHash, second.traceHash);
  t.not(first.traceHash, runScenario(swarmScenario(8)).traceHash);
  const elsewhere = JSON.parse(
    execFileSync(process.execPath, [COMMAND, '--seed', '7', '--json'], { encoding: 'utf8' }),
  );
  t.is(Number.parseInt(elsewhere.traceHash, 16), first.traceHash);
});

test('the canary, a replica that answers its neighbours, is caught and shrinks to two records', (t) => {
  const { scenario, lies } = NAMED_SCENARIOS['canary'] as (typeof NAMED_SCENARIOS)[string];
  const caught = [1, 2, 3, 4, 5]
    .map(scenario)
    .filter((one) => runScenario(one, { lies }).violation?.checker === 'pairing');
  t.true(caught.length >= 4);
  const smallest = shrinkScenario(caught[0] as (typeof caught)[number], 'pairing', { lies });
  t.true(smallest.records <= 4);
  t.is(runScenario(smallest, { lies }).violation?.checker, 'pairing');
});

test('a link that transfers what the host still needs is caught', (t) => {
  const { scenario, lies } = NAMED_SCENARIOS['careless-transfer'] as (typeof NAMED_SCENARIOS)[string];
  const caught = [1, 2, 3, 4, 5].map((seed) => runScenario(scenario(seed), { lies }).violation?.checker);
  t.true(caught.includes('whole-input'));
});

test('without lies and faults the same scenarios are clean', (t) => {
  const { scenario } = NAMED_SCENARIOS['healthy'] as (typeof NAMED_SCENARIOS)[string];
  for (let seed = 1; seed <= 100; seed++) t.is(runScenario(scenario(seed)).violation, undefined, `seed ${seed}`);
});

test('a run with a violation ends with exit code 1 and one command that replays it', (t) => {
  const error = t.throws(() =>
    execFileSync(process.execPath, [COMMAND, '--scenario', 'canary', '--seeds', '3'], {
      encoding: 'utf8',
      stdio: 'pipe',
    }),
  ) as Error & { status: number; stdout: string };
  t.is(error.status, 1);
  t.regex(error.stdout, /replay: npm run simulate -- --scenario canary --seed \d+ --verbose/);
});

test('wrong arguments end with exit code 2 and the usage', (t) => {
  const error = t.throws(() =>
    execFileSync(process.execPath, [COMMAND, '--scenario', 'nonsense'], { encoding: 'utf8', stdio: 'pipe' }),
  ) as Error & { status: number; stderr: string };
  t.is(error.status, 2);
  t.regex(error.stderr, /--scenario must be one of .*swarm/);
});
