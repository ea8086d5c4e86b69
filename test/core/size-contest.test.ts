import test from 'ava';
import { SizeContest } from '../../src/core/size-contest.js';

/** Trials of 16 against 32: milliseconds per record of the one, of the other as many times as said. */
function contest(values: readonly number[], usual = 1): SizeContest {
  const contest = new SizeContest(5, 4, { share: 0.01 });
  for (const value of values) contest.add(value, usual, usual, 0);
  return contest;
}

test('one odd trial is no evidence, whether it is the first or the last', (t) => {
  for (const values of [
    [10, 0.9, 0.9, 0.9],
    [0.9, 0.9, 0.9, 10],
  ]) {
    const { mean, count } = contest(values);
    t.is(count, 3);
    t.true(Math.abs(mean - Math.log(0.9)) < 1e-9, `${mean}`);
  }
});

test('a trial between two batches that are unlike is no evidence', (t) => {
  const between = contest([0.9, 0.9]);
  between.add(0.9, 1, 10, Math.log(10));
  t.is(between.count, 2);
  t.true(Math.abs(between.mean - Math.log(0.9)) < 1e-9);
});

test('two odd ones in a row where there were none are a change, and what was known is forgotten', (t) => {
  const changed = contest([0.9, 0.9, 0.9, 0.9, 0.9, 2]);
  t.true(changed.isDoubted);
  t.true(changed.mean < 0);
  changed.add(2, 1, 1, 0);
  t.false(changed.isDoubted);
  t.is(changed.count, 2);
  t.true(Math.abs(changed.mean - Math.log(2)) < 1e-9, `${changed.mean}`);
});

test('what odd batches cost counts once enough of them are known, and not before', (t) => {
  // Every eighth batch of 32 takes fifty times as long.
  const seen = (trials: number): SizeContest => {
    const contest = new SizeContest(5, 4, { share: 0.01 });
    for (let n = 1; n <= trials; n++) contest.add(1.3, 1, n % 8 === 0 ? 50 : 1, n % 8 === 0 ? Math.log(50) : 0);
    return contest;
  };
  t.true(Math.abs(seen(15).mean - Math.log(1.3)) < 1e-9);
  t.true(seen(15).hope < 0, 'but it may be so');
  t.true(seen(200).mean < -0.5, `${seen(200).mean}`);
});

test('where both sizes have odd batches the usual ones decide', (t) => {
  const contest = new SizeContest(5, 4, { share: 0.01 });
  for (let n = 1; n <= 200; n++) {
    const after = n % 8 === 0 ? 50 : 1;
    contest.add(n % 8 === 3 ? 65 : 1.3, 1, after, Math.log(after));
  }
  t.true(Math.abs(contest.mean - Math.log(1.3)) < 1e-9, `${contest.mean}`);
});

test('seen from the other side a loss is the gain, for a few trials, and odd batches are on the other side', (t) => {
  const turned = contest([0.9, 0.9, 0.9, 0.9, 10]).turned(3);
  t.is(turned.from, 4);
  t.is(turned.to, 5);
  t.is(turned.count, 3);
  t.true(Math.abs(turned.mean + Math.log(0.9)) < 1e-9);
});
