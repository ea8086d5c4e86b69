import test from 'ava';
import { AT_ONCE, type RolloutRules, type RolloutStep, type SwapStrategy } from '../../src/core/rollout.js';
import { SIDE, TrafficSplit } from '../../src/core/traffic-split.js';
import { PoolDriver, type PoolSettings, type Sent } from './pool-driver.js';

const LOAD_FAILED = { cause: 'load-failed', error: new Error('broken') } as const;

/** A pool of version 1 to which version 2 is brought; replicas are ready when the test says so. */
function bringing(strategy: SwapStrategy, rules: Partial<RolloutRules> = {}, settings: PoolSettings = {}): PoolDriver {
  const p = new PoolDriver({ version: '1', maxSize: 1, replicas: 3, slowLoads: true, ...settings });
  for (const cell of p.core.fleet.list) p.ready(cell.id);
  p.news.length = 0;
  p.core.rollOut('2', p.core.fleet.replicas, p.now, { ...AT_ONCE, strategy, ...rules });
  p.pump();
  return p;
}

const steps = (p: PoolDriver): RolloutStep[] => p.newsOf('rollout').map(({ step }) => step);
const shares = (p: PoolDriver): (number | undefined)[] =>
  p
    .newsOf('rollout')
    .filter(({ step }) => step === 'shifting')
    .map(({ share }) => share);
const versionOf = (p: PoolDriver, { cell }: Sent): string | undefined => p.core.fleet.cells.get(cell)?.version;
/** Versions of what runs, in the order of the places. */
const running = (p: PoolDriver): string[] =>
  p.core.fleet.list
    .filter(({ id }) => p.alive.has(id))
    .sort((one, other) => one.replica - other.replica)
    .map(({ version, state }) => `${version} ${state}`);
const starting = (p: PoolDriver): number =>
  p.core.fleet.list.find(({ state, id }) => state === 'starting' && p.alive.has(id))?.id ?? 0;

test('rolling brings in one replica after the other, each in the place of an old one', (t) => {
  const p = bringing('rolling');
  t.deepEqual(running(p), ['2 starting', '1 ready', '1 ready']);
  p.ready(starting(p));
  t.deepEqual(running(p), ['2 ready', '2 starting', '1 ready']);
  p.ready(starting(p));
  t.deepEqual(running(p), ['2 ready', '2 ready', '2 starting']);
  p.ready(starting(p));
  t.deepEqual(running(p), ['2 ready', '2 ready', '2 ready']);
  t.deepEqual(steps(p), ['loading', 'shifting', 'shifting', 'shifting', 'promoted', 'freed']);
  t.deepEqual(shares(p), [1 / 3, 2 / 3, 1]);
  t.is(p.core.fleet.generationCount, 1);
});

test('while it rolls whoever is idle takes what waits, and no batch mixes versions', (t) => {
  const p = bringing('rolling', {}, { maxSize: 2 });
  p.ready(starting(p));
  p.offerMany(4);
  t.deepEqual(
    p.sent.map((batch) => versionOf(p, batch) ?? '').sort((one, other) => one.localeCompare(other)),
    ['1', '2'],
    'both that serve have a batch, the one that loads has none',
  );
  while (p.sent.length > 0) p.reply();
  t.deepEqual(p.tally(), { ok: 4 });
});

test('a replica finishes what it has before its place is taken', (t) => {
  const p = new PoolDriver({ version: '1', maxSize: 1, replicas: 2, slowLoads: true });
  for (const cell of p.core.fleet.list) p.ready(cell.id);
  p.offerMany(2);
  p.core.rollOut('2', 2, p.now, { ...AT_ONCE, strategy: 'rolling' });
  p.pump();
  t.deepEqual(running(p), ['1 draining', '1 ready']);
  p.reply();
  t.deepEqual(running(p), ['2 starting', '1 ready']);
  t.is(p.outcome(1), 'y1');
});

test('of a key nothing of the old version comes after the first of the new one, while it rolls', (t) => {
  const p = bringing('rolling', {}, { replicas: 4 });
  const newest = new Map<string, number>();
  for (let round = 0; round < 6; round++) {
    for (let key = 0; key < 40; key++) p.offerMany(1, { key: `k${key}` });
    for (let batch = p.sent[0]; batch !== undefined; batch = p.sent[0]) {
      for (const { key = '' } of batch.requests) {
        const version = Number(versionOf(p, batch));
        t.true(version >= (newest.get(key) ?? 0), `${key}: ${version} after ${newest.get(key)}`);
        newest.set(key, version);
      }
      p.reply(batch);
    }
    t.is(p.core.heldCount, 0, 'no key waits for a replica that does not come');
    if (starting(p) !== 0) p.ready(starting(p));
  }
  t.is(p.core.fleet.version, '2');
});

test('a version of which one replica does not load is taken back, and the old one has its places again', (t) => {
  const p = bringing('rolling');
  p.ready(starting(p));
  p.crash(starting(p), LOAD_FAILED);
  t.deepEqual(running(p), ['1 starting', '1 starting', '1 ready']);
  t.is(p.core.fleet.version, '1');
  p.offerMany(1);
  p.reply();
  for (let cell = starting(p); cell !== 0; cell = starting(p)) p.ready(cell);
  t.deepEqual(running(p), ['1 ready', '1 ready', '1 ready']);
  t.deepEqual(steps(p).slice(-3), ['rolled-back', 'freed', 'restored']);
  t.is(p.newsOf('rollout').find(({ step }) => step === 'rolled-back')?.error?.code, 'SWAP_ROLLED_BACK');
  t.deepEqual(p.tally(), { ok: 1 });
});

test('every replica is proved before it has work, while it rolls too', (t) => {
  const p = bringing('rolling', { verifies: true });
  for (let place = 0; place < 3; place++) {
    p.ready(starting(p));
    t.is(steps(p).at(-1), 'verifying');
    t.deepEqual(
      p.core.fleet.list.filter((cell) => cell.version === '2' && p.core.fleet.serves(cell)).length,
      place,
      'the one that is asked serves nobody',
    );
    p.core.verified(p.now);
    p.pump();
  }
  t.is(p.core.fleet.version, '2');
  t.is(p.core.fleet.readyCount, 3);
});

test('recreate ends the old version first, what comes waits, and nothing is lost', (t) => {
  const p = bringing('recreate', {}, { replicas: 2 });
  t.deepEqual(steps(p), ['draining', 'loading']);
  t.deepEqual(running(p), ['2 starting', '2 starting']);
  p.offerMany(3);
  t.is(p.sent.length, 0);
  p.ready(starting(p));
  t.is(p.sent.length, 0, 'all of them or none');
  p.ready(starting(p));
  while (p.sent.length > 0) p.reply();
  t.deepEqual(p.tally(), { ok: 3 });
  t.true(p.requests.every(({ version }) => version === '2'));
  t.deepEqual(steps(p), ['draining', 'loading', 'shifting', 'promoted', 'freed']);
});

test('recreate loads nothing before the last replica of the old version has ended', (t) => {
  const p = new PoolDriver({ version: '1', maxSize: 1, replicas: 2, slowLoads: true });
  for (const cell of p.core.fleet.list) p.ready(cell.id);
  p.offerMany(1);
  p.core.rollOut('2', 2, p.now, { ...AT_ONCE, strategy: 'recreate' });
  p.pump();
  t.deepEqual(running(p), ['1 draining']);
  p.reply();
  t.deepEqual(running(p), ['2 starting', '2 starting']);
});

test('recreate with a version that does not load brings the old one back, and what waits is answered by it', (t) => {
  const p = bringing('recreate', {}, { replicas: 2 });
  p.offerMany(3);
  p.crash(starting(p), LOAD_FAILED);
  t.deepEqual(running(p), ['1 starting', '1 starting']);
  t.true(p.core.fleet.isRestoring);
  while (starting(p) !== 0) p.ready(starting(p));
  t.false(p.core.fleet.isRestoring);
  while (p.sent.length > 0) p.reply();
  t.deepEqual(p.tally(), { ok: 3 });
  t.true(p.requests.every(({ version }) => version === '1'));
  t.deepEqual(steps(p), ['draining', 'loading', 'rolled-back', 'freed', 'restored']);
});

test('a pool of one replica that rolls is as one that is made anew', (t) => {
  const p = bringing('rolling', {}, { replicas: 1 });
  t.deepEqual(running(p), ['2 starting']);
  p.offerMany(1);
  p.ready(starting(p));
  p.reply();
  t.is(p.requests[0]?.version, '2');
  t.is(steps(p).at(-1), 'freed');
});

test('a version that took every place is watched, and goes back by loading the old one again', (t) => {
  for (const strategy of ['rolling', 'recreate'] as const) {
    const p = bringing(strategy, { bakeMs: 1000 }, { replicas: 2 });
    while (starting(p) !== 0) p.ready(starting(p));
    t.is(steps(p).at(-1), 'baking');
    t.is(p.core.fleet.version, '2');
    p.core.rollBack('operator', 'asked for', p.now);
    p.pump();
    p.offerMany(1);
    while (starting(p) !== 0) p.ready(starting(p));
    p.reply();
    t.is(p.requests[0]?.version, '1');
    t.deepEqual(running(p), ['1 ready', '1 ready']);
    t.is(steps(p).at(-1), 'restored');
  }
});

test('promote while it rolls takes the rest of the places at once', (t) => {
  const p = bringing('rolling');
  p.ready(starting(p));
  t.true(p.core.promote(p.now));
  p.pump();
  t.deepEqual(running(p), ['2 ready', '2 starting', '2 starting']);
  t.is(p.core.fleet.version, '2');
  while (starting(p) !== 0) p.ready(starting(p));
  t.is(p.core.fleet.readyCount, 3);
  t.is(steps(p).at(-1), 'freed');
});

test('when the old version is given up while a new one takes its places, the new one has them all', (t) => {
  const p = bringing('rolling', {}, { restart: { max: 0 } });
  p.ready(starting(p));
  p.crash(p.core.fleet.list.find(({ version, state }) => version === '1' && state === 'ready')?.id ?? 0);
  t.is(p.core.fleet.version, '2');
  while (starting(p) !== 0) p.ready(starting(p));
  t.deepEqual(running(p), ['2 ready', '2 ready', '2 ready']);
});

test('a replica that is killed while it loads in its place is loaded again there', (t) => {
  const p = bringing('rolling');
  p.crash(starting(p), { cause: 'killed', signal: 'SIGKILL' });
  t.deepEqual(running(p), ['2 starting', '1 ready', '1 ready']);
  t.deepEqual(steps(p), ['loading']);
});

test('as the share of an open split grows, keys only go to the new version', (t) => {
  const split = new TrafficSplit(0.25, 8, true);
  t.true(split.newTakesAny);
  const keys = Array.from({ length: 500 }, (_, n) => `key ${n}`);
  let before = new Set<string>();
  for (const share of [0.25, 1 / 3, 0.5, 2 / 3, 0.75]) {
    split.share = share;
    const now = new Set(keys.filter((key) => split.sideOf(key) === SIDE.new));
    for (const key of before) t.true(now.has(key));
    before = now;
  }
});
