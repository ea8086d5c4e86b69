import test from 'ava';
import fc from 'fast-check';
import { bytesText, durationText, numberText, roundTop } from '../../src/dashboard/browser/figures.js';
import { History, WINDOW_MS } from '../../src/dashboard/browser/history.js';
import { SseReader } from '../../src/dashboard/browser/sse-reader.js';
import { sharesOf, VersionColours } from '../../src/dashboard/browser/versions.js';
import { modelsWords, scalingWords, shadowWords, shelfWords } from '../../src/dashboard/browser/words.js';
import type { PoolState, ShadowState } from '../../src/dashboard/state.js';

/** The parts of the page that need no browser. */

const idle: PoolState = {
  name: 'p',
  state: 'running',
  version: '1',
  previous: null,
  rollout: null,
  replicas: [],
  replicaCount: 0,
  readyCount: 0,
  mailbox: { held: 0, capacity: 10, bytes: 0 },
  accepted: 0,
  refused: 0,
  results: 0,
  errors: 0,
  batches: 0,
  batchedRecords: 0,
  batchMax: 32,
  restarts: 0,
  latency: { p50Ms: 0, p99Ms: 0, sumMs: 0, count: 0 },
  breaker: null,
  scaling: null,
  models: null,
};

const unseen: ShadowState = {
  share: 0.1,
  shown: 0,
  compared: 0,
  agreed: 0,
  failed: 0,
  dropped: 0,
  oldMs: 0,
  newMs: 0,
};

test('messages come out whole however the feed was cut', (t) => {
  const messages = fc.array(fc.record({ type: fc.constantFrom('state', 'events'), data: fc.json() }), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (all, sizes) => {
      const text = all.map(({ type, data }) => `event: ${type}\ndata: ${data}\n\n`).join('');
      const reader = new SseReader();
      const heard: unknown[] = [];
      for (let at = 0, turn = 0; at < text.length; turn++) {
        const size = sizes[turn % sizes.length] as number;
        heard.push(...reader.push(text.slice(at, at + size)));
        at += size;
      }
      t.deepEqual(heard, all);
    }),
  );
});

test('a message without an end is not held for ever', (t) => {
  const reader = new SseReader();
  const part = 'x'.repeat(1024 * 1024);
  t.throws(
    () => {
      for (let n = 0; n < 20; n++) reader.push(part);
    },
    { instanceOf: RangeError },
  );
});

test('rates are made from counters, and a canary has the part of them that it was sent', (t) => {
  const history = new History();
  history.add(idle, 1000);
  t.is(history.latest, undefined);
  const later = {
    ...idle,
    results: 100,
    errors: 4,
    batches: 10,
    batchedRecords: 104,
    latency: { p50Ms: 0, p99Ms: 0, sumMs: 500, count: 100 },
    rollout: { to: '2', step: 'baking', share: 0.1, sent: { old: 45, new: 5 }, shadow: null },
  };
  history.add(later, 3000);
  t.like(history.latest, { errorsPerSecond: 2, batchSize: 10.4, latencyMs: 5 });
  t.deepEqual(
    history.latest?.byVersion,
    new Map([
      ['1', 45],
      ['2', 5],
    ]),
  );
  history.add({ ...later, results: 200, rollout: { ...later.rollout, sent: { old: 85, new: 15 } } }, 4000);
  t.deepEqual(
    history.latest?.byVersion,
    new Map([
      ['1', 80],
      ['2', 20],
    ]),
  );
  t.is(history.latest?.batchSize, undefined, 'no batch, no size');
  history.add({ ...idle, version: '2', results: 210 }, 5000);
  t.deepEqual(history.latest?.byVersion, new Map([['2', 10]]));
  const shadow = { ...unseen, shown: 4, compared: 4, agreed: 3 };
  const shown = { to: '3', step: 'baking', share: 0, sent: null, shadow };
  history.add({ ...idle, version: '2', results: 230, rollout: shown }, 5500);
  t.deepEqual(history.latest?.byVersion, new Map([['2', 40]]), 'a shadow makes no results');
  // Spawned again under its name.
  history.add({ ...idle, results: 3 }, 6000);
  t.is(history.latest?.at, 5500);
});

test('the past of a pool is bounded in time and number, whatever comes', (t) => {
  const history = new History();
  for (let n = 0; n < 5000; n++) {
    history.add({ ...idle, results: n }, 1000 * n);
    for (let mark = 0; mark < 3; mark++) history.mark({ at: 1000 * n, kind: 'plain' });
  }
  t.is(history.points.length, WINDOW_MS / 1000);
  t.true(history.marks.length <= 100);
  const fast = new History();
  for (let n = 0; n < 50_000; n++) fast.add({ ...idle, results: n }, n);
  t.true(fast.points.length <= 400);
});

test('shares are those that were asked for until records say what they are', (t) => {
  const rollout = { to: '2', step: 'baking', share: 0.1, sent: { old: 0, new: 0 }, shadow: null };
  const shares = (state: PoolState): unknown => sharesOf(state).map(({ version, share }) => [version, share]);
  t.deepEqual(shares(idle), [['1', 1]]);
  t.deepEqual(shares({ ...idle, rollout }), [
    ['1', 0.9],
    ['2', 0.1],
  ]);
  t.deepEqual(shares({ ...idle, rollout: { ...rollout, sent: { old: 3, new: 1 } } }), [
    ['1', 0.75],
    ['2', 0.25],
  ]);
  t.deepEqual(shares({ ...idle, rollout: { ...rollout, step: 'loading' } }), [['1', 1]]);
  t.deepEqual(shares({ ...idle, version: null }), [['none', 1]]);
});

test('a version keeps its colour, and versions without end cost no memory without end', (t) => {
  const colours = new VersionColours();
  t.is(colours.of('1'), 'version-0');
  t.is(colours.of('2'), 'version-1');
  t.is(colours.of('1'), 'version-0');
  t.is(colours.of('none'), 'version-5');
  for (let n = 0; n < 100_000; n++) t.regex(colours.of(`v${n}`), /^version-[0-4]$/);
});

test('figures are short and tops of charts are round', (t) => {
  t.deepEqual([0, 0.4213, 7.123, 1234.5, Infinity].map(numberText), ['0', '0.42', '7.12', '1,235', '–']);
  t.deepEqual([0, 1, 3, 12, 50, 51, 1001].map(roundTop), [1, 1, 3, 20, 50, 60, 2000]);
  t.deepEqual([1000, 61_000, 3_723_000].map(durationText), ['1 s', '1:01 min', '1:02:03 h']);
});

test('of a shadow the page says how much it is shown, how much was compared and how much of that differs', (t) => {
  t.is(shadowWords(unseen), 'It is shown 10 % of the records and answers nobody: nothing was compared yet; 0 shown.');
  const seen = { ...unseen, shown: 1210, compared: 1200, agreed: 1194, failed: 7, dropped: 30, oldMs: 2, newMs: 3.21 };
  t.is(
    shadowWords(seen),
    'It is shown 10 % of the records and answers nobody: 6 of 1,200 compared answers differ (99.5 % agree); ' +
      '1,210 shown; 7 failed; 30 left out for want of room; 3.21 ms a batch, the old version 2.00 ms.',
  );
});

test('of a pool that scales the page says both bounds, what is wanted and why it was changed', (t) => {
  const none = { 'queue-age': 0, busy: 0, calm: 0, idle: 0, demand: 0, operator: 0 };
  const scaling = { min: 0, max: 4, wanted: 1, asleep: false, changes: none };
  t.is(scalingWords(null), '');
  t.is(scalingWords(scaling), 'Scales by itself between 0 and 4: 1 replica wanted; not changed yet');
  t.is(
    scalingWords({ ...scaling, wanted: 0, asleep: true, changes: { ...none, 'queue-age': 2, idle: 1 } }),
    'Scales by itself between 0 and 4: asleep until there is work; changed 3 times (2 queue-age, 1 idle)',
  );
});

test('of a pool of many models the page says how full each replica is, and what was loaded and evicted', (t) => {
  const shelf = { replica: 1, bytes: 812_000_000, held: [], heldCount: 2 };
  const models = { maxBytes: 1e9, replicas: [shelf], loads: 12, loadFailures: 0, evictions: 1 };
  t.is(modelsWords(models), 'Models: 12 loads, 1 eviction');
  t.is(modelsWords({ ...models, loadFailures: 3 }), 'Models: 12 loads, 3 failed, 1 eviction');
  t.is(shelfWords(shelf, models), 'replica 1 holds 2 models, 812 MB of 1 GB');
  t.deepEqual([0, 999, 1000, 1.5e6, 4e9, 5e15].map(bytesText), ['0 B', '999 B', '1 kB', '1.5 MB', '4 GB', '5,000 TB']);
});
