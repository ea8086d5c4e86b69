import test from 'ava';
import { type Mutant, MutantRig } from './mutant-rig.js';

// Defects of the adaptive batcher, one at a time in a copy of the compiled code. What breaks a promise is found by the
// swarm; what only makes a pool slow is found by the tests of what is to be learned.

const SEEDS = 1500;

/** Break a promise: a limit, or a refusal that has no reason. */
const FOUND_BY_SWARM: readonly Mutant[] = [
  {
    name: 'a batch is as large as what waits, whatever maxSize says',
    file: 'core/adaptive-size.js',
    from: 'this.#best = bestClass < 0 ? maxSize :',
    to: 'this.#best = bestClass < 0 ? 2 * maxSize :',
  },
  {
    name: 'records are refused as too late beside a free replica',
    file: 'core/admission.js',
    from: 'if (replicas === 0 || (freeMs === 0 && ahead === 0))',
    to: 'if (replicas === 0)',
  },
  {
    name: 'records without room to be late are refused whatever the overflow rule',
    file: 'core/pool-core.js',
    from: "return overflow === 'reject' || overflow === 'wait';",
    to: 'return true;',
  },
];

interface Unlearned extends Mutant {
  readonly tests: string;
}

/** Keep every promise and learn something wrong, late or never. */
const FOUND_BY_TESTS: readonly Unlearned[] = [
  {
    name: 'a trial that shows a loss is taken for a gain',
    file: 'core/size-trials.js',
    from: 'const gain = -(mean',
    to: 'const gain = (mean',
    tests: 'adaptive-size',
  },
  {
    name: 'a step is made without enough trials',
    file: 'core/size-trials.js',
    from: 'if (count < SOME || gain <=',
    to: 'if (gain <=',
    tests: 'size-trials',
  },
  {
    name: 'after a step towards small batches no larger ones are tried',
    file: 'core/size-trials.js',
    from: 'if (this.bestClass === from && this.#fits(',
    to: 'if (false && this.#fits(',
    tests: 'size-trials',
  },
  {
    name: 'one odd trial counts as any other',
    file: 'core/size-contest.js',
    from: 'if (Math.abs(off) > odd)',
    to: 'if (false)',
    tests: 'size-contest',
  },
  {
    name: 'what odd batches cost never counts',
    file: 'core/size-contest.js',
    from: 'this.mean += Math.sign(tail) * sure;',
    to: '{}',
    tests: 'size-contest',
  },
  {
    name: 'trials follow one another whatever time they lose',
    file: 'core/size-trials.js',
    from: 'this.#batchCount < this.#restUntil && ',
    to: 'false && ',
    tests: 'size-trials',
  },
  {
    name: 'a trial is made under a target though what it leaves behind comes too late',
    file: 'core/adaptive-size.js',
    from: 'if (this.targetMs !== Infinity && count > TRIED_UP_TO',
    to: 'if (false && count > TRIED_UP_TO',
    tests: 'adaptive-size',
  },
  {
    name: 'one odd batch counts in full',
    file: 'core/cost-model.js',
    from: 'seen = ratio > 1 ? expected * (1 + odd) : expected / (1 + odd);',
    to: '{}',
    tests: 'cost-model',
  },
  {
    name: 'a jump is not seen',
    file: 'core/cost-model.js',
    from: 'if (length < JUMP_AFTER)',
    to: 'if (length < 1e9)',
    tests: 'cost-model',
  },
  {
    name: 'a latency target is planned without the batch before',
    file: 'core/adaptive-size.js',
    from: 'const shareMs = targetMs / (1 + this.#limits.maxInFlight);',
    to: 'const shareMs = targetMs;',
    tests: 'adaptive-size',
  },
  {
    name: 'the guard takes and never gives back',
    file: 'core/adaptive-size.js',
    from: 'this.#guard + Math.max(1,',
    to: 'this.#guard + 0 * Math.max(1,',
    tests: 'adaptive-size',
  },
  {
    name: 'what the old version cost is believed of the new',
    file: 'core/pool-core.js',
    from: 'this.batcher.forget();',
    to: '',
    tests: 'admission',
  },
];

const rig = new MutantRig();
test.after.always(() => rig.dispose());

for (const mutant of FOUND_BY_SWARM) {
  test.serial(`the swarm catches the mutant: ${mutant.name}`, async (t) => {
    t.timeout(120_000);
    const { violations } = await rig.simulate(t, mutant, ['--seeds', String(SEEDS)]);
    t.is(violations.length, 1, `${SEEDS} seeds found nothing`);
    t.log(`caught by ${violations[0]?.checker} at seed ${violations[0]?.seed}: ${violations[0]?.what}`);
  });
}

for (const { tests, ...mutant } of FOUND_BY_TESTS) {
  test.serial(`the tests of ${tests} catch the mutant: ${mutant.name}`, async (t) => {
    t.timeout(120_000);
    const failed = await rig.test(t, mutant, `dist/test/core/${tests}.test.js`);
    t.true(failed.length > 0);
    t.log(failed[0] ?? '');
  });
}
