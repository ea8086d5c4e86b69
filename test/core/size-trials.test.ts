import test from 'ava';
import { SizeTrials } from '../../src/core/size-trials.js';

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

test('the first batches are no trials, and there is one at a time', (t) => {
  const trials = new SizeTrials();
  t.deepEqual(new Set(run(trials, 12, suffers)), new Set([32]));
  t.is(trials.propose(1000, 32, 32, unknown), 8);
  t.is(trials.propose(1000, 32, 32, unknown), 0, 'its batch is not back yet');
  trials.observe(8, suffers(8));
  t.is(trials.propose(1000, 32, 32, unknown), 0, 'it ends with the next of the usual size');
  trials.observe(32, suffers(32));
  t.is(trials.propose(1000, 32, 32, unknown), 8);
});

test('a step needs three trials at least', (t) => {
  const trials = new SizeTrials();
  const sizes = run(trials, 40, suffers);
  const first = sizes.findIndex((n, at) => n === 8 && sizes[at + 1] === 8);
  const before = sizes.slice(0, first < 0 ? sizes.length : first).filter((n) => n === 8).length;
  const step = sizes.findIndex((_, at) => at > 0 && sizes.slice(at, at + 3).filter((n) => n === 32).length === 0);
  t.true(before >= 3, sizes.join(' '));
  t.true(step > 12 + 5, `three trials stand between seven batches: ${sizes.join(' ')}`);
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
