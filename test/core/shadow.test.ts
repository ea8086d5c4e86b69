import test from 'ava';
import fc from 'fast-check';
import { AT_ONCE, type RolloutRules, type RolloutStep } from '../../src/core/rollout.js';
import { Shadow } from '../../src/core/shadow.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { PoolDriver, type PoolSettings } from './pool-driver.js';

/** A pool that serves version 1, beside which version 2 is shown a share of the records. */
function shadowing(share: number, rules: Partial<RolloutRules> = {}, settings: PoolSettings = {}): PoolDriver {
  const p = new PoolDriver({ version: '1', maxSize: 1, ...settings });
  const shadow = { share, minAgreement: 0.9 };
  p.core.rollOut('2', p.core.fleet.replicas, p.now, { ...AT_ONCE, bakeMs: 1000, shadow, ...rules });
  p.pump();
  return p;
}

const steps = (p: PoolDriver): RolloutStep[] => p.newsOf('rollout').map(({ step }) => step);
const end = (p: PoolDriver) => p.newsOf('rollout').find(({ step }) => step === 'rolled-back');

/** The old version answers all it has, and the new one what it was shown, as far as it is told to. */
function answer(p: PoolDriver, outcome: 'agreed' | 'differed' | 'failed' | 'nothing'): void {
  while (p.sent.length > 0) p.reply();
  if (outcome === 'nothing') return;
  for (const { cell, batchId, ids } of p.shown.splice(0)) {
    p.core.shown(cell, batchId, p.now);
    for (const _ of ids) p.core.compared({ agreed: 0, differed: 0, failed: 0, [outcome]: 1 }, p.now);
    p.pump();
  }
}

test('a shadow is shown its share of the records and given none, and the old version answers them all', (t) => {
  const p = shadowing(0.25);
  for (let n = 0; n < 40; n++) {
    p.offerMany(1);
    answer(p, 'agreed');
  }
  t.deepEqual(p.tally(), { ok: 40 });
  t.true(p.requests.every(({ version }) => version === '1'));
  t.is(p.core.fleet.rollout?.shadow?.shownCount, 10);
  t.deepEqual(steps(p), ['loading', 'shifting', 'baking']);
  t.is(p.newsOf('rollout').at(-1)?.share, 0);
});

test('a shadow that does not answer costs no record anything: what it has no room for is left out and counted', (t) => {
  const p = shadowing(1);
  for (let n = 0; n < 10; n++) {
    p.offerMany(1);
    answer(p, 'nothing');
  }
  t.deepEqual(p.tally(), { ok: 10 });
  t.is(p.shown.length, 2, 'one that it runs, one that waits');
  t.is(p.core.fleet.rollout?.shadow?.droppedCount, 8);
  t.is(p.core.counts.shadowDropped, 8);
});

test('a batch of a shadow that does not come back at all takes the version back', (t) => {
  const p = shadowing(1, { bakeMs: 60_000 });
  p.offerMany(1);
  answer(p, 'nothing');
  p.advanceTo(499);
  t.is(steps(p).at(-1), 'baking');
  p.advanceTo(500);
  t.is(end(p)?.reason, 'latency');
  t.is(steps(p).at(-1), 'freed');

  const unknown = shadowing(1, { bakeMs: 60_000 }, { batchTimeoutMs: 3000 });
  unknown.offerMany(1);
  unknown.advanceTo(2999);
  t.is(steps(unknown).at(-1), 'baking', 'the old version has shown nothing to compare with');
  unknown.advanceTo(3000);
  t.is(end(unknown)?.reason, 'latency');
});

test('when its time is over, a shadow that agrees is promoted, one that differs or has proved nothing is rolled back', (t) => {
  const run = (count: number, outcome: 'agreed' | 'differed'): PoolDriver => {
    const p = shadowing(1);
    for (let n = 0; n < count; n++) {
      p.offerMany(1);
      answer(p, n % 10 === 0 ? outcome : 'agreed');
    }
    p.advanceTo(1000);
    return p;
  };
  t.is(run(40, 'agreed').core.fleet.version, '2');
  t.is(run(41, 'differed').core.fleet.version, '1');
  t.is(end(run(41, 'differed'))?.reason, 'disagreement');
  t.regex(end(run(41, 'differed'))?.error?.message ?? '', /36 of its 41 answers agreed .* minAgreement is 0.9/);
  t.is(run(40, 'differed').core.fleet.version, '2', 'nine of ten are enough');
  t.is(end(run(19, 'agreed'))?.reason, 'unproven');
});

test('a shadow that fails on what the old version answers is rolled back by errors, and no caller hears of it', (t) => {
  const p = shadowing(1);
  for (let n = 0; n < 30; n++) {
    p.offerMany(1);
    answer(p, 'failed');
  }
  t.is(end(p)?.reason, 'errors');
  t.deepEqual(p.tally(), { ok: 30 });
});

test('a shadow that takes much longer than the old version is rolled back by latency', (t) => {
  const p = shadowing(1, { bakeMs: 60_000 });
  for (let n = 0; n < 40 && steps(p).at(-1) === 'baking'; n++) {
    p.offerMany(1);
    p.advanceTo(p.now + 10);
    p.reply();
    p.advanceTo(p.now + 40);
    answer(p, 'agreed');
  }
  t.is(end(p)?.reason, 'latency');
});

test('what waits with a shadow when it is promoted need not run, and records go to it at once', (t) => {
  const p = shadowing(1);
  p.offerMany(1);
  answer(p, 'nothing');
  p.offerMany(1);
  answer(p, 'nothing');
  const waiting = p.shown[1];
  t.true(p.core.promote(p.now));
  p.offerMany(1);
  t.true(p.log.includes(`abandon ${waiting?.cell}`));
  t.is(p.core.fleet.cells.get(p.batch().cell)?.version, '2');
  t.is(p.core.shown(waiting?.cell ?? 0, waiting?.batchId ?? 0, p.now), undefined, 'nobody waits for its answer');
  p.reply();
  t.deepEqual(p.tally(), { ok: 3 });
});

test('a shadow that is rolled back ends now, whatever it runs', (t) => {
  const p = shadowing(1);
  p.offerMany(1);
  p.core.rollBack('operator', 'asked for', p.now);
  const stops = p.core.takeEffects().filter((effect) => effect.kind === 'stop');
  t.deepEqual(stops, [{ kind: 'stop', cell: 2, now: true }]);
});

test('a shadow whose last replica dies is rolled back, and its answers are waited for no longer', (t) => {
  const p = shadowing(1, {}, { replicas: 2 });
  p.offerMany(2);
  const [first, second] = p.shown;
  p.crash(first?.cell ?? 0);
  t.is(steps(p).at(-1), 'baking');
  t.is(p.core.shown(first?.cell ?? 0, first?.batchId ?? 0, p.now), undefined);
  p.crash(second?.cell ?? 0);
  t.is(end(p)?.reason, 'replicas-died');
  answer(p, 'nothing');
  t.deepEqual(p.tally(), { ok: 2 });
});

test('only what is sent for the first time is shown: retries, halves and suspects are not', (t) => {
  const p = shadowing(1, {}, { maxSize: 4, replicas: 1 });
  p.offerMany(4);
  t.is(p.shown.length, 1);
  p.fail(p.batch(), new TroupeError('PREDICT_FAILED', 'predict threw'));
  t.is(p.calls.length, 2, 'a half was sent');
  t.is(p.shown.length, 1);
});

test('whatever the batches, no more than the share of the records is shown, and ids are never used twice', (t) => {
  const cells = [1, 2].map((id) => ({ id, generation: 2, state: 'ready' as const }));
  fc.assert(
    fc.property(
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      fc.array(fc.record({ size: fc.integer({ min: 1, max: 8 }), closes: fc.boolean() }), { maxLength: 200 }),
      (share, batches) => {
        const shadow = new Shadow({ share, minAgreement: 1 }, 8, 2);
        const open: { cell: number; batchId: number }[] = [];
        const seen = new Set<number>();
        let sent = 0;
        for (const { size, closes } of batches) {
          sent += size;
          if (shadow.isDue(size)) {
            const batch = shadow.open(cells, 2, size, sent);
            if (batch !== undefined) {
              t.false(seen.has(batch.batchId));
              seen.add(batch.batchId);
              open.push(batch);
            }
          }
          t.true(open.length <= 4);
          t.true(shadow.shownCount + shadow.droppedCount <= share * sent + 1e-9);
          const first = closes ? open.shift() : undefined;
          if (first !== undefined) t.truthy(shadow.close(first.cell, first.batchId, sent));
        }
      },
    ),
  );
});
