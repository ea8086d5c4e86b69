import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import {
  NAMED_STREAMS,
  noStreamFaults,
  runStream,
  shrinkStream,
  STREAM_FAULT_KINDS,
  streamScenario,
} from '../../src/testing/index.js';

const COMMAND = fileURLToPath(new URL('../../src/testing/simulate.js', import.meta.url));

test.before(() => {
  Error.stackTraceLimit = 0;
});

test('no seed of the swarm of streams breaks a promise, and every kind of fault strikes', (t) => {
  const fired = new Int32Array(STREAM_FAULT_KINDS.length);
  let kills = 0;
  let resumed = 0;
  for (let seed = 1; seed <= 1000; seed++) {
    const { violation, firedCounts, totals } = runStream(streamScenario(seed));
    t.is(violation, undefined, `seed ${seed}`);
    for (let kind = 0; kind < fired.length; kind++) fired[kind] = (fired[kind] ?? 0) + (firedCounts[kind] ?? 0);
    kills += totals?.kills ?? 0;
    resumed += totals?.resumed ?? 0;
  }
  for (const [index, kind] of STREAM_FAULT_KINDS.entries()) t.true((fired[index] ?? 0) > 0, kind);
  t.true(kills > 100 && resumed > 100);
});

// 165, 201, 485: a record refused twice at one instant waited for ever. 3093, 3864: a child that had been delivered was
// delivered again after its parent had settled. 6181, 6306, 6904: a run that ended while it read again forgot what had
// settled. 254, 434: a record that was given again knew nothing of its children.
test('seeds of streams that once broke a promise keep it', (t) => {
  for (const seed of [165, 201, 254, 434, 485, 3093, 3864, 6181, 6306, 6904])
    t.is(runStream(streamScenario(seed)).violation, undefined, `seed ${seed}`);
});

test('a stream that waits 14 s for its breaker while checkpoints fall due every millisecond is slow, not spinning', (t) => {
  const { violation, eventCount } = runStream(NAMED_STREAMS['D6']!.scenario(6_630_281));
  t.is(violation, undefined);
  t.true(eventCount > 16_400);
});

test('the same seed of streams gives the same trace, here and in another process', (t) => {
  const first = runStream(streamScenario(7));
  t.is(first.traceHash, runStream(streamScenario(7)).traceHash);
  t.not(first.traceHash, runStream(streamScenario(8)).traceHash);
  const args = [COMMAND, '--streams', '--seed', '7', '--json'];
  const elsewhere = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
  t.is(Number.parseInt(elsewhere.traceHash, 16), first.traceHash);
});

test('the canary of streams, a disk that only says that it has synced, is caught and shrinks', (t) => {
  const { scenario, lies } = NAMED_STREAMS['canary'] as (typeof NAMED_STREAMS)[string];
  const caught = Array.from({ length: 20 }, (_, seed) => scenario(seed + 1)).filter(
    (one) => runStream(one, { lies }).violation?.checker === 'durable',
  );
  t.true(caught.length >= 5);
  const [first] = caught as [(typeof caught)[number]];
  const smallest = shrinkStream(first, 'durable', { lies });
  t.true(smallest.records < first.records);
  t.is(smallest.steps.length, 1);
  t.is(runStream(smallest, { lies }).violation?.checker, 'durable');
  t.is(runStream(smallest).violation, undefined);
});

test('a stream without faults is one run, whose sinks hold every record once', (t) => {
  for (let seed = 1; seed <= 100; seed++) {
    const { violation, totals } = runStream({ ...streamScenario(seed), faults: noStreamFaults() });
    t.is(violation, undefined, `seed ${seed}`);
    t.is(totals?.runs, 1);
  }
});

test('a violation in a stream comes with the command that replays it', (t) => {
  const args = [COMMAND, '--streams', '--scenario', 'canary', '--seeds', '20'];
  const error = t.throws(() => execFileSync(process.execPath, args, { encoding: 'utf8', stdio: 'pipe' })) as Error & {
    status: number;
    stdout: string;
  };
  t.is(error.status, 1);
  t.regex(error.stdout, /replay: npm run simulate -- --streams --scenario canary --seed \d+ --verbose/);
});
