import test from 'ava';
import { classOf, SizeTrials } from '../../src/core/size-trials.js';
import { Chance } from '../../src/testing/seeds.js';

const unknown = (): number => 0;
const gains = (n: number): number => 5 + 0.05 * n;
const suffers = (n: number): number => 4.5 * n * (1 + 0.06 * Math.log2(n));

/** Batches of a replica that always has enough waiting; the size is the best known or `max`. */
function run(trials: SizeTrials, batches: number, cost: (n: number, at: number) => number, max = 32): number[] {
  return Array.from({ length: batches }, (_, at) => {
    const size = trials.bestClass < 0 ? max : 2 ** trials.bestClass;
    const n = trials.propose(1000, size, max, unknown) || size;
    trials.observe(n, cost(n, at));
    return n;
  });
}

test('sizes are counted by powers of two, rounded in the logarithm', (t) => {
  for (let size = 1; size <= 70_000; size++) if (classOf(size) !== Math.round(Math.log2(size))) t.fail(`${size}`);
  t.deepEqual([1, 2, 3, 5, 6, 11, 12, 64].map(classOf), [0, 1, 2, 2, 3, 3, 4, 6]);
});

test('the first batches are no trials, and there is one at a time', (t) => {
  const trials = new SizeTrials();
  t.deepEqual(new Set(run(trials, 12, suffers)), new Set([32]));
  t.is(trials.propose(1000, 32, 32, unknown), 8);
  t.is(trials.propose(1000, 32, 32, unknown), 0, 'its batch is not back yet');
  trials.observe(8, suffers(8));
  t.is(trials.propose(1000, 32, 32, unknown), 0, 'it ends with the next of the usual size');
  trials.observe(32, suffers(32));
  t.is(trials.propose(1000, 32, 32, unknown), 2, 'what nobody has tried comes first');
});

test('a step needs three trials at least', (t) => {
  const trials = new SizeTrials();
  const sizes: number[] = [];
  while (trials.bestClass < 0 && sizes.length < 50) sizes.push(...run(trials, 1, suffers));
  const best = 2 ** trials.bestClass;
  t.true(best < 32, sizes.join(' '));
  t.is(sizes.filter((n) => n === best).length, 3, sizes.join(' '));
});

test('noise of a tenth, and one batch of twenty ten times as long, do not keep the best size from being found', (t) => {
  for (let seed = 1; seed <= 200; seed++) {
    const chance = new Chance(seed, 5);
    const noise = (): number => (0.9 + 0.2 * chance.next()) * (chance.next() < 0.05 ? 10 : 1);
    const small = new SizeTrials();
    run(small, 60, (n) => suffers(n) * noise());
    t.true(small.bestClass >= 0 && small.bestClass <= 2, `seed ${seed}: ${small.bestClass}`);
    const large = new SizeTrials();
    run(large, 60, (n) => gains(n) * noise());
    t.is(large.bestClass, -1, `seed ${seed}`);
  }
});

test('a size whose odd batches cost more than it gains is left in the long run', (t) => {
  const chance = new Chance(4, 9);
  const trials = new SizeTrials();
  run(trials, 20_000, (n) => (20 + n) * (0.9 + 0.2 * chance.next()) * (n > 16 && chance.next() < 0.1 ? 20 : 1));
  t.is(trials.bestClass, 4);
});

test('after a trial that lost time there is none for a while, unless a backlog waits', (t) => {
  const trials = new SizeTrials();
  run(trials, 12, gains);
  t.is(trials.propose(40, 32, 32, unknown), 8);
  trials.observe(8, gains(8));
  trials.observe(32, gains(32));
  t.is(trials.propose(40, 32, 32, unknown), 0);
  t.not(trials.propose(1000, 32, 32, unknown), 0);
});

test('a wrong step towards small batches is found out and taken back', (t) => {
  const trials = new SizeTrials();
  run(trials, 100, suffers);
  t.true(trials.bestClass >= 0 && trials.bestClass <= 1);
  run(trials, 1200, gains);
  t.true(trials.bestClass < 0 || trials.bestClass >= 4, `${2 ** trials.bestClass}`);
});

test('where few records wait nothing is tried, nor where batches are short', (t) => {
  const trials = new SizeTrials();
  for (let n = 0; n < 50; n++) {
    t.is(trials.propose(3, 3, 32, unknown), 0);
    trials.observe(3, 100);
  }
  const short = run(new SizeTrials(), 200, (n) => 0.01 * n);
  t.deepEqual(new Set(short), new Set([32]));
});

test('what looks hopeless by what is known already is not tried soon', (t) => {
  const trials = new SizeTrials();
  for (let at = 0; at < 60; at++) {
    t.is(trials.propose(1000, 32, 32, gains), 0);
    trials.observe(32, gains(32));
  }
});

test('when the machine is slow for a while, large batches are not blamed for it', (t) => {
  // Ten batches in a hundred take ten times as long, whatever their size: the queue is long just then.
  const trials = new SizeTrials();
  const sizes = run(trials, 2000, (n, at) => gains(n) * (at % 100 < 10 ? 10 : 1));
  t.is(trials.bestClass, -1);
  t.true(sizes.filter((n) => n < 32).length < 60);
});
