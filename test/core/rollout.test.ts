import test from 'ava';
import fc from 'fast-check';
import type { PoolNews } from '../../src/core/effects.js';
import { AT_ONCE, type RolloutRules, type RolloutStep } from '../../src/core/rollout.js';
import { SIDE, TrafficSplit } from '../../src/core/traffic-split.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { PoolDriver, type PoolSettings, type Sent } from './pool-driver.js';

type Step = Extract<PoolNews, { name: 'rollout' }>;

const BAD = { ok: false, error: new TroupeError('PREDICT_FAILED', 'broken model') } as const;

/** A pool that serves version 1 and is given version 2. */
function rolling(rules: Partial<RolloutRules>, settings: PoolSettings = {}): PoolDriver {
  const p = new PoolDriver({ version: '1', maxSize: 1, ...settings });
  p.core.rollOut('2', p.core.fleet.replicas, p.now, { ...AT_ONCE, ...rules });
  p.pump();
  return p;
}

const canary = (share: number, settings: PoolSettings = {}): PoolDriver => rolling({ share, bakeMs: 30_000 }, settings);

const steps = (p: PoolDriver): RolloutStep[] => p.newsOf('rollout').map(({ step }) => step);
const last = (p: PoolDriver): Step | undefined => p.newsOf('rollout').at(-1);
const versionOf = (p: PoolDriver, { cell }: Sent): string | undefined => p.core.fleet.cells.get(cell)?.version;

/** Answers what is in flight, `good` says whether for a batch; until nothing is. */
function answerAll(p: PoolDriver, good: (batch: Sent) => boolean = () => true): void {
  for (let batch = p.sent[0]; batch !== undefined; batch = p.sent[0]) {
    if (good(batch)) p.reply(batch);
    else
      p.reply(
        batch,
        batch.ids.map(() => BAD),
      );
  }
}

test('without a bake the new version gets everything as soon as it is up, and the old one goes', (t) => {
  const p = rolling({});
  t.deepEqual(steps(p), ['loading', 'shifting', 'promoted', 'draining', 'freed']);
  t.is(p.core.fleet.version, '2');
  t.is(p.core.fleet.generationCount, 1);
});

test('a canary of a fifth gets every fifth record, and batches of either version come back as theirs', (t) => {
  const p = canary(0.2);
  t.is(p.core.fleet.version, '1');
  const seen: (string | undefined)[] = [];
  for (let n = 0; n < 50; n++) {
    p.offerMany(1);
    seen.push(versionOf(p, p.batch()));
    p.reply();
    t.is(p.requests.at(-1)?.version, seen.at(-1));
  }
  t.is(seen.filter((version) => version === '2').length, 10);
  t.deepEqual(steps(p), ['loading', 'shifting', 'baking']);
  t.is(last(p)?.share, 0.2);
});

test('a canary stays idle beyond its share however much waits, and the old version does not wait for it', (t) => {
  const p = canary(0.25);
  p.offerMany(100);
  t.deepEqual(
    p.sent.map((batch) => versionOf(p, batch)),
    ['1', '2'],
  );
  const [old] = p.sent;
  p.reply(old);
  p.reply(p.sent.find((batch) => versionOf(p, batch) === '1'));
  t.is(p.sent.filter((batch) => versionOf(p, batch) === '1').length, 1, 'the canary still runs its first');
  answerAll(p);
  const byNew = p.requests.filter(({ version }) => version === '2').length;
  t.true(byNew >= 24 && byNew <= 26, `${byNew} of 100`);
});

test('a bake that ends promotes and frees the old version', (t) => {
  const p = rolling({ share: 0.5, bakeMs: 1000 }, { batchTimeoutMs: 60_000 });
  p.offerMany(1);
  p.advanceTo(1000);
  t.deepEqual(steps(p), ['loading', 'shifting', 'baking', 'promoted', 'draining']);
  t.is(p.core.fleet.version, '2');
  p.reply();
  t.is(p.outcome(1), 'y1', 'the old version gave its last answer');
  t.is(steps(p).at(-1), 'freed');
  p.offerMany(3);
  for (const batch of p.sent) t.is(versionOf(p, batch), '2');
});

test('promote ends the bake at once; with nothing on trial it does nothing', (t) => {
  const p = canary(0.1);
  t.true(p.core.promote(p.now));
  p.pump();
  t.is(p.core.fleet.version, '2');
  t.is(steps(p).at(-1), 'freed');
  t.false(p.core.promote(p.now));
  t.false(p.core.rollBack('operator', 'asked for', p.now));
});

test('an atomic shift with a bake gives everything to the new version and keeps the old one warm', (t) => {
  const p = rolling({ bakeMs: 1000 });
  t.is(p.core.fleet.version, '2');
  p.offerMany(4);
  for (const batch of p.sent) t.is(versionOf(p, batch), '2');
  t.true(p.core.rollBack('operator', 'asked for', p.now));
  p.pump();
  t.is(p.core.fleet.version, '1');
  t.deepEqual(steps(p).slice(-1), ['rolled-back']);
  t.deepEqual(
    p.sent.map((batch) => versionOf(p, batch)),
    ['2', '1'],
    'what the new one runs it finishes, the rest goes to the old one at once',
  );
  answerAll(p);
  t.deepEqual(p.tally(), { ok: 4 });
  t.is(p.core.fleet.generationCount, 1);
});

test('a version that is kept has no work, and serves again at once when it is called back', (t) => {
  const p = rolling({ keepMs: 1000 }, { replicas: 2 });
  t.deepEqual(steps(p), ['loading', 'shifting', 'promoted', 'kept']);
  t.is(p.core.fleet.generationCount, 2);
  t.true(p.core.fleet.isSettled);
  p.offerMany(4);
  for (const batch of p.sent) t.is(versionOf(p, batch), '2');
  const started = p.log.filter((line) => line.startsWith('start')).length;
  t.true(p.core.restore(p.now));
  p.pump();
  t.is(p.core.fleet.version, '1');
  t.deepEqual(
    p.sent.map((batch) => versionOf(p, batch)),
    ['2', '2', '1', '1'],
    'what waits goes to it without a pause',
  );
  t.is(p.log.filter((line) => line.startsWith('start')).length, started, 'nothing is loaded');
  answerAll(p);
  t.deepEqual(p.tally(), { ok: 4 });
  t.deepEqual(steps(p).slice(4), ['shifting', 'promoted', 'draining', 'freed']);
  t.is(last(p)?.from, '2');
  t.is(p.core.fleet.generationCount, 1);
});

test('a version that is kept goes when its time is over, and then there is nothing to call back', (t) => {
  const p = rolling({ keepMs: 1000 });
  p.advanceTo(999);
  t.is(p.core.fleet.generationCount, 2);
  p.advanceTo(1000);
  t.deepEqual(steps(p).slice(3), ['kept', 'draining', 'freed']);
  t.is(p.core.fleet.generationCount, 1);
  t.false(p.core.restore(p.now));
});

test('a version that is called back has as many replicas as the pool was scaled to meanwhile', (t) => {
  for (const replicas of [1, 3]) {
    const p = rolling({ keepMs: 1000 }, { replicas: 2 });
    p.core.scale(replicas, p.now);
    p.pump();
    p.core.restore(p.now);
    p.pump();
    t.deepEqual(
      p.core.fleet.list.map(({ version }) => version),
      new Array<string>(replicas).fill('1'),
    );
  }
});

test('a kept version of which nothing is ready is not called back, and a pool that fails or stops lets it go', (t) => {
  const dead = rolling({ keepMs: 1000 }, { restart: { backoffMs: 500 } });
  const kept = dead.core.fleet.list.find(({ version }) => version === '1');
  dead.crash(kept?.id ?? 0);
  dead.crash(kept?.id ?? 0);
  t.false(dead.core.restore(dead.now));
  t.is(dead.core.fleet.version, '2');

  const failed = rolling({ keepMs: 1000 }, { restart: { max: 0 } });
  failed.crash(failed.core.fleet.list.find(({ version }) => version === '2')?.id ?? 0);
  t.is(failed.core.state, 'failed');
  t.deepEqual([...failed.alive.keys()], []);

  const stopped = rolling({ keepMs: 1000 });
  stopped.core.stop(false);
  stopped.pump();
  t.is(stopped.core.state, 'stopped');
});

test('B3: a canary whose records fail is rolled back within 50 of them, and the old version answers each', (t) => {
  const p = canary(0.5);
  let failed = 0;
  for (let n = 0; n < 200 && last(p)?.step === 'baking'; n++) {
    p.offerMany(1);
    answerAll(p, (batch) => {
      const isBad = versionOf(p, batch) === '2';
      if (isBad) failed++;
      return !isBad;
    });
  }
  const told = p.newsOf('rollout').find(({ step }) => step === 'rolled-back');
  t.is(told?.reason, 'errors');
  t.is(told?.error?.code, 'SWAP_ROLLED_BACK');
  t.is(told?.error?.step, 'baking');
  t.true(failed <= 50, `${failed} failed`);
  t.deepEqual(Object.keys(p.tally()), ['ok'], 'no caller saw a failure');
  t.is(p.core.fleet.version, '1');
});

test('where predict must not be repeated, what fails on a canary fails', (t) => {
  const p = canary(0.5);
  p.core.setRepeatable(false);
  for (let n = 0; n < 4; n++) {
    p.offerMany(1);
    answerAll(p, (batch) => versionOf(p, batch) === '1');
  }
  t.deepEqual(p.tally(), { ok: 2, PREDICT_FAILED: 2 });
});

test('a record with a key that fails on a canary is not asked of the old version: its key has moved on', (t) => {
  const p = canary(0.5);
  const key = keyFor(SIDE.new, 0.5);
  p.offerMany(1, { key });
  t.is(versionOf(p, p.batch()), '2');
  p.reply(p.batch(), [BAD]);
  t.deepEqual(p.tally(), { PREDICT_FAILED: 1 });
});

test('a record that throws on both versions fails once, and its batch is halved where it threw', (t) => {
  const p = canary(0.5, { maxSize: 4 });
  p.offerMany(1);
  p.offerMany(4);
  p.reply(p.sent.find((batch) => versionOf(p, batch) === '1'));
  const before = p.sent.find((batch) => versionOf(p, batch) === '2');
  t.truthy(before);
  const seen: string[] = [];
  p.serve((batchIds) => {
    seen.push(`${versionOf(p, p.batch())}: ${batchIds.join(' ')}`);
    return batchIds.includes(3) ? 'throw' : 'ok';
  });
  t.is(p.outcome(3), 'PREDICT_FAILED');
  t.deepEqual(p.tally(), { ok: 4, PREDICT_FAILED: 1 });
  t.is(seen.filter((line) => line.startsWith('1: 3')).length, 1, seen.join(', '));
});

test('B3: a canary that answers much later than the old version is rolled back', (t) => {
  const p = canary(0.5);
  const answer = (ms: Record<string, number>): void => {
    p.offerMany(1);
    p.advanceTo(p.now + (ms[versionOf(p, p.batch()) as string] ?? 0));
    p.reply();
  };
  for (let n = 0; n < 60 && last(p)?.step === 'baking'; n++) answer({ 1: 10, 2: 100 });
  t.is(p.newsOf('rollout').find(({ step }) => step === 'rolled-back')?.reason, 'latency');
  t.true(p.now < 5000, `after ${p.now} ms`);
});

test('B3: one batch of a canary that does not come back at all is not waited for', (t) => {
  const p = canary(0.5, { batchTimeoutMs: 60_000 });
  p.offerMany(1);
  p.advanceTo(20);
  p.reply();
  p.offerMany(1);
  t.is(versionOf(p, p.batch()), '2');
  p.advanceTo(p.now + 5000);
  t.is(last(p)?.step, 'rolled-back');
  t.is(last(p)?.reason, 'latency');
  p.reply();
  t.deepEqual(p.tally(), { ok: 2 });
});

test('a pause of the host is not held against a canary', (t) => {
  const p = canary(0.5, { batchTimeoutMs: 60_000 });
  p.offerMany(1);
  p.advanceTo(20);
  p.reply();
  p.offerMany(1);
  p.now = 10_000; // nobody was told the time
  p.core.tick(p.now);
  p.pump();
  t.is(last(p)?.step, 'baking');
  p.advanceTo(p.now + 900);
  t.is(last(p)?.step, 'baking');
  p.advanceTo(p.now + 200);
  t.is(last(p)?.step, 'rolled-back', 'but the next second is');
});

test('the death of the last replica of a canary rolls it back, and what it held goes to the old version', (t) => {
  const p = canary(0.5);
  p.offerMany(1);
  p.reply();
  p.offerMany(1);
  t.is(versionOf(p, p.batch()), '2');
  p.crash(p.batch().cell);
  t.is(p.newsOf('rollout').find(({ step }) => step === 'rolled-back')?.reason, 'replicas-died');
  answerAll(p);
  t.deepEqual(p.tally(), { ok: 2 });
  t.is(p.core.fleet.version, '1');
});

test('one of two canary replicas may crash; as many crashes as replicas roll back', (t) => {
  const p = canary(0.5, { replicas: 2, restart: { backoffMs: 0 } });
  const cells = [...p.core.fleet.cells.values()].filter(({ version }) => version === '2').map(({ id }) => id);
  p.crash(cells[0] as number);
  t.is(last(p)?.step, 'baking');
  p.crash(cells[0] as number);
  t.is(last(p)?.step, 'freed');
  t.is(p.newsOf('rollout').find(({ step }) => step === 'rolled-back')?.reason, 'replicas-died');
});

test('what kills a canary is replayed on the old version, alone; there it is the culprit or answered', (t) => {
  for (const isPoison of [false, true]) {
    const p = canary(0.5, { replicas: 3, maxSize: 4, restart: { backoffMs: 0 } });
    p.offerMany(24);
    const ofNew = p.sent.find((batch) => versionOf(p, batch) === '2');
    const [suspect, ...others] = ofNew?.ids ?? [];
    p.crash((ofNew as Sent).cell);
    for (let batch = p.sent[0]; batch !== undefined; batch = p.sent[0]) {
      if (!batch.ids.includes(suspect as number) || !isPoison) p.reply(batch);
      else {
        t.deepEqual([versionOf(p, batch), batch.ids], ['1', [suspect]]);
        p.crash(batch.cell);
      }
    }
    t.is(p.outcome(suspect as number), isPoison ? 'ACTOR_CRASHED' : `y${suspect}`);
    for (const id of others) t.deepEqual([p.outcome(id), p.requests[id]?.version], [`y${id}`, '1']);
    t.is(last(p)?.step, 'baking', 'one crash of three replicas is none of the version');
  }
});

test('a record with a key that kills one canary replica after the other takes the canary back, and is answered', (t) => {
  const p = canary(0.5, { replicas: 2, restart: { backoffMs: 0 } });
  for (let n = 0; n < 20; n++) p.offer({ key: `k${n}` });
  p.pump();
  for (let batch = p.sent[0]; batch !== undefined; batch = p.sent[0]) {
    if (versionOf(p, batch) === '2') p.crash(batch.cell);
    else p.reply(batch);
  }
  t.true(steps(p).includes('rolled-back'));
  t.deepEqual(p.tally(), { ok: 20 });
});

test('a canary that is killed from outside is started again, and goes on', (t) => {
  const p = canary(0.5);
  const cell = [...p.core.fleet.cells.values()].find(({ version }) => version === '2')?.id as number;
  p.crash(cell, { cause: 'killed', signal: 'SIGKILL' });
  t.is(last(p)?.step, 'baking');
  t.is(p.core.fleet.cells.get(cell)?.state, 'ready');
});

test('when the old version is given up while a new one bakes, the new one serves', (t) => {
  for (const share of [0.5, 1]) {
    const p = rolling({ share, bakeMs: 30_000 }, { restart: { max: 0 } });
    const old = [...p.core.fleet.cells.values()].find(({ version }) => version === '1')?.id as number;
    p.crash(old);
    t.is(p.core.fleet.version, '2', `share ${share}`);
    t.is(p.core.state, 'running');
    t.deepEqual(steps(p).slice(-3), ['promoted', 'draining', 'freed']);
  }
});

test('a version that is to be verified has no work before it is', (t) => {
  const p = rolling({ verifies: true });
  t.deepEqual(steps(p), ['loading', 'verifying']);
  p.offerMany(2);
  for (const batch of p.sent) t.is(versionOf(p, batch), '1');
  p.core.verified(p.now);
  p.pump();
  t.is(p.core.fleet.version, '2');
  answerAll(p);
  t.deepEqual(p.tally(), { ok: 2 });
});

test('what is verified while one of its replicas is being replaced waits until that is back', (t) => {
  const p = new PoolDriver({ version: '1', slowLoads: true });
  p.ready(1);
  p.core.rollOut('2', 1, p.now, { ...AT_ONCE, verifies: true });
  p.pump();
  p.ready(2);
  t.is(last(p)?.step, 'verifying');
  p.crash(2, { cause: 'killed', signal: 'SIGKILL' });
  p.core.verified(p.now);
  p.pump();
  t.is(p.core.fleet.version, '1');
  p.ready(2);
  t.is(p.core.fleet.version, '2');
});

test('keys of the canary wait for it and those of the old version never go to it, whatever has room', (t) => {
  const p = canary(0.3, { maxSize: 4 });
  const onNew = keyFor(SIDE.new, 0.3);
  const onOld = keyFor(SIDE.old, 0.3);
  for (let n = 0; n < 20; n++) {
    p.offer({ key: n % 2 === 0 ? onNew : onOld });
    p.offer();
  }
  p.pump();
  for (let batch = p.sent[0]; batch !== undefined; batch = p.sent[0]) {
    for (const { key } of batch.requests) if (key !== undefined) t.is(versionOf(p, batch), key === onNew ? '2' : '1');
    p.reply(batch);
  }
  t.deepEqual(p.tally(), { ok: 40 });
});

test('what a killed replica held with a key goes again to the version of the key, and not where there is room', (t) => {
  const p = canary(0.5, { restart: { backoffMs: 100 }, slowLoads: false });
  const onOld = keyFor(SIDE.old, 0.5);
  p.offerMany(2, { key: onOld });
  t.is(versionOf(p, p.batch()), '1');
  const { cell } = p.batch();
  p.crash(cell, { cause: 'killed', signal: 'SIGKILL' });
  t.is(versionOf(p, p.batch()), '1', 'the same replica, started again');
  p.crash(cell, { cause: 'killed', signal: 'SIGKILL' });
  t.is(p.sent.length, 0, 'the new version is idle, and not for this key');
  p.advanceTo(p.now + 1000);
  answerAll(p);
  t.deepEqual(
    p.requests.map(({ version }) => version),
    ['1', '1'],
  );
});

test('what a version fails on after it was taken back is asked of the old one, with a key or without', (t) => {
  const p = canary(0.5);
  p.offerMany(1, { key: keyFor(SIDE.new, 0.5) });
  const late = p.batch();
  p.core.rollBack('operator', 'asked for', p.now);
  p.pump();
  p.reply(late, [BAD]);
  answerAll(p);
  t.deepEqual(p.tally(), { ok: 1 });
});

test('what waits with a key when a canary begins is sorted like what comes later', (t) => {
  const p = new PoolDriver({ version: '1', maxSize: 4, slowLoads: true });
  p.ready(1);
  const onNew = keyFor(SIDE.new, 0.3);
  p.offerMany(1);
  for (let n = 0; n < 6; n++) p.offer({ key: onNew });
  p.pump();
  p.core.rollOut('2', 1, p.now, { ...AT_ONCE, share: 0.3, bakeMs: 1000 });
  p.pump();
  p.ready(2);
  t.deepEqual(
    p.sent.map((batch) => `${versionOf(p, batch)}: ${batch.ids.join(' ')}`),
    ['1: 1', '2: 2'],
  );
  t.true(p.core.rollBack('operator', 'asked for', p.now));
  p.pump();
  p.reply(p.sent.find(({ ids }) => ids[0] === 1));
  t.is(p.sent.length, 1, 'the next of the key waits for the one that the canary still runs');
  answerAll(p);
  t.deepEqual(p.tally(), { ok: 7 });
  t.deepEqual(
    p.requests.filter(({ version }) => version === '1').map(({ id }) => id),
    [1, 3, 4, 5, 6, 7],
  );
});

test('held batches are sent when they are due, also those that only one version may take', (t) => {
  const p = canary(0.3, { maxSize: 4, maxDelayMs: 50 });
  p.offer({ key: keyFor(SIDE.new, 0.3) });
  p.offer({ key: keyFor(SIDE.old, 0.3) });
  p.offer();
  p.pump();
  t.is(p.sent.length, 0);
  p.advanceTo(50);
  answerAll(p);
  p.advanceTo(200);
  answerAll(p);
  t.deepEqual(p.tally(), { ok: 3 });
});

test('a pool that stops in a roll-out says that it ended with the pool', (t) => {
  const p = canary(0.5);
  p.core.stop(true);
  p.pump();
  t.is(p.newsOf('rollout').find(({ step }) => step === 'rolled-back')?.reason, 'stopped');
  t.is(p.core.state, 'stopped');
});

test('the first version of a pool is no roll-out: nothing is told, nothing is watched', (t) => {
  const p = new PoolDriver({ version: '1' });
  t.deepEqual(steps(p), []);
  t.is(p.core.fleet.rollout, undefined);
});

test('B5: whatever happens at whichever step, exactly one version is left, and no record is lost or changes back', (t) => {
  const command = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('offer' as const), key: fc.integer({ min: 0, max: 6 }) }) },
    { weight: 8, arbitrary: fc.record({ kind: fc.constant('reply' as const), at: fc.nat(3), good: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('throw' as const), at: fc.nat(3) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('crash' as const), at: fc.nat(5) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('kill' as const), at: fc.nat(5) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('ready' as const), at: fc.nat(5) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 400 }) }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'verified' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'promote' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'rollBack' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'restore' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'swap' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'hold' as const }) },
  );
  const setup = fc.record({
    replicas: fc.integer({ min: 1, max: 3 }),
    maxSize: fc.constantFrom(1, 2, 4),
    maxInFlight: fc.integer({ min: 1, max: 2 }),
    maxDelayMs: fc.constantFrom(0, 0, 20),
    share: fc.constantFrom(0.1, 0.5, 0.9, 1),
    strategy: fc.constantFrom('beside' as const, 'beside' as const, 'rolling' as const, 'recreate' as const),
    bakeMs: fc.constantFrom(0, 200, 1000),
    keepMs: fc.constantFrom(0, 0, 300),
    verifies: fc.boolean(),
    repeatable: fc.boolean(),
    commands: fc.array(command, { maxLength: 60 }),
  });
  fc.assert(
    fc.property(setup, ({ strategy, share, bakeMs, keepMs, verifies, repeatable, commands, ...settings }) => {
      const p = new PoolDriver({
        version: '1',
        slowLoads: true,
        restart: { max: 3, backoffMs: 10 },
        attempts: 3,
        ...settings,
      });
      p.core.setRepeatable(repeatable);
      for (let cell = 1; cell <= settings.replicas; cell++) p.ready(cell);
      const isBeside = strategy === 'beside';
      const both = { share: bakeMs === 0 ? 1 : share, keepMs };
      const rules = { ...AT_ONCE, strategy, ...(isBeside ? both : {}), bakeMs, verifies };
      let version = 1;
      const calledBack = new Set<string | undefined>();
      const swap = (): void => {
        if (p.core.fleet.rollout !== undefined || p.core.state !== 'running') return;
        p.core.freeKept();
        p.core.rollOut(String(++version), p.core.fleet.replicas, p.now, rules);
        p.pump();
      };
      const readyOne = (at: number): void => {
        const starting = p.core.fleet.list.filter(({ state, id }) => state === 'starting' && p.alive.has(id));
        const cell = starting[at % Math.max(1, starting.length)];
        if (cell !== undefined) p.ready(cell.id);
      };
      const checkVersions = (): void => {
        const { fleet, state } = p.core;
        const serving = new Set(fleet.list.filter((cell) => fleet.isMain(cell)).map((cell) => cell.version));
        t.true(serving.size <= 1, 'two versions serve');
        for (const one of serving) t.is(one, fleet.version);
        if (!isBeside) {
          const places = fleet.list.filter(({ id }) => p.alive.has(id)).map(({ replica }) => replica);
          t.is(new Set(places).size, places.length, 'F7: two replicas of one place live');
        }
        if (state === 'running' && fleet.rollout === undefined)
          for (const cell of fleet.list)
            if (cell.version !== fleet.version && last(p)?.step !== 'kept')
              t.true(['draining', 'stopping'].includes(cell.state), cell.state);
      };
      swap();
      for (const c of commands) {
        if (p.core.state === 'failed') break;
        const batch = 'at' in c ? p.sent[c.at % Math.max(1, p.sent.length)] : undefined;
        const alive = [...p.alive.keys()];
        const victim = 'at' in c ? alive[c.at % Math.max(1, alive.length)] : undefined;
        switch (c.kind) {
          case 'offer':
            p.offerMany(1, c.key < 4 ? { key: `k${c.key}` } : {});
            break;
          case 'reply':
            if (batch !== undefined) p.reply(batch, c.good ? undefined : batch.ids.map(() => BAD));
            break;
          case 'throw':
            if (batch !== undefined) p.fail(batch);
            break;
          case 'crash':
            if (victim !== undefined) p.crash(victim);
            break;
          case 'kill':
            if (victim !== undefined) p.crash(victim, { cause: 'killed', signal: 'SIGKILL' });
            break;
          case 'ready':
            readyOne(c.at);
            break;
          case 'time':
            p.advanceTo(p.now + c.ms);
            break;
          case 'verified':
            p.core.verified(p.now);
            p.pump();
            break;
          case 'promote':
            p.core.promote(p.now);
            p.pump();
            break;
          case 'rollBack':
            p.core.rollBack('operator', 'asked for', p.now);
            p.pump();
            break;
          case 'restore': {
            const from = p.core.fleet.version;
            if (p.core.restore(p.now)) calledBack.add(from);
            p.pump();
            break;
          }
          case 'swap':
            swap();
            break;
          case 'hold':
            p.core.hold();
            p.pump();
            p.core.release(p.now);
            p.pump();
            break;
        }
        checkVersions();
      }
      // Then all goes well: everything comes out, and one version is left.
      for (let step = 0; step < 2000 && p.core.state === 'running'; step++) {
        p.core.verified(p.now);
        p.pump();
        readyOne(0);
        answerAll(p);
        if (p.core.heldCount === 0 && p.core.fleet.rollout === undefined && p.core.fleet.generationCount === 1) break;
        p.advanceTo(Math.min(p.core.nextWakeAt(), p.now + 500));
      }
      t.is(p.outcomes.size, p.requests.length, 'every record has one outcome');
      if (p.core.state !== 'running') return;
      t.is(p.core.fleet.rollout, undefined);
      t.is(p.core.fleet.generationCount, 1);
      for (const cell of p.core.fleet.list) t.is(cell.version, p.core.fleet.version);
      checkVersions();
      const ends = p.newsOf('rollout').filter(({ step }) => step === 'promoted' || step === 'rolled-back');
      const begins = p.newsOf('rollout').filter(({ step }) => step === 'loading');
      t.is(ends.length, begins.length + calledBack.size, 'O1: each ends once');
      keysNeverGoBack(p, calledBack);
    }),
    { numRuns: 300 },
  );

  /** Of one key nothing of the old version comes after the first of the new one, unless that was rolled back. */
  function keysNeverGoBack(p: PoolDriver, calledBack: ReadonlySet<string | undefined>): void {
    const failed = new Set([...calledBack, ...p.newsOf('rollout-failed').map(({ version }) => version)]);
    const newest = new Map<string, number>();
    for (const { key, version } of p.requests) {
      if (key === undefined || version === undefined || failed.has(version)) continue;
      t.true(Number(version) >= (newest.get(key) ?? 0), `key ${key}: ${version} after ${newest.get(key)}`);
      newest.set(key, Number(version));
    }
  }
});

function keyFor(side: number, share: number): string {
  const split = new TrafficSplit(share, 1);
  for (let n = 0; ; n++) if (split.sideOf(`key-${n}`) === side) return `key-${n}`;
}
