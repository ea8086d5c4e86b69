import test from 'ava';
import fc from 'fast-check';
import { type RetryError, type RetryLimits, RetryPolicy } from '../../src/core/retry-policy.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { seededRandom } from '../../src/kernel/random.js';

const LIMITS: RetryLimits = {
  attempts: 4,
  backoffMs: 50,
  maxBackoffMs: 150,
  multiplier: 2,
  jitter: 0,
  rules: {},
};
const CRASHED: RetryError = new TroupeError('ACTOR_CRASHED', 'x');
const FAILED: RetryError = new TroupeError('PREDICT_FAILED', 'x');
const noChance = (): number => 0;

function wait(
  limits: Partial<RetryLimits>,
  error: RetryError,
  attemptsSoFar = 1,
  deadlineAt = Infinity,
): number | string {
  const decision = new RetryPolicy({ ...LIMITS, ...limits }).decide(error, attemptsSoFar, 1000, deadlineAt, noChance);
  return decision.kind === 'retry' ? decision.at - 1000 : decision.why;
}

test('the wait grows with the tries of the record, up to its bound, and attempts is the number of all tries', (t) => {
  t.deepEqual(
    [1, 2, 3, 4].map((attempts) => wait({}, CRASHED, attempts)),
    [50, 100, 150, 'attempts'],
  );
  t.deepEqual(
    [1, 2, 3].map((attempts) => wait({ multiplier: 1 }, CRASHED, attempts)),
    [50, 50, 50],
  );
  t.is(wait({ attempts: 1 }, CRASHED), 'attempts');
});

test('records do not share a wait: the first retry of one is not made later by those of others', (t) => {
  const policy = new RetryPolicy(LIMITS);
  for (let n = 1; n < 4; n++) policy.decide(CRASHED, n, 0, Infinity, noChance);
  t.deepEqual(policy.decide(CRASHED, 1, 0, Infinity, noChance), { kind: 'retry', at: 50 });
});

test('by default what did not start or was interrupted is retried, what predict refused is not', (t) => {
  t.is(wait({}, CRASHED), 50);
  t.is(wait({}, new TroupeError('BREAKER_OPEN', 'x')), 50);
  t.is(wait({}, FAILED), 'rule');
  t.is(wait({}, new TroupeError('INPUT_INVALID', 'x')), 'rule');
  t.is(wait({}, { code: 'DEADLINE_PASSED', ran: 'failed', retryable: true }), 'rule');
});

test('a rule for a code outweighs the default both ways and may have a wait of its own', (t) => {
  t.is(wait({ rules: { ACTOR_CRASHED: 'never' } }, CRASHED), 'rule');
  t.is(wait({ rules: { PREDICT_FAILED: {} } }, FAILED), 50);
  t.is(wait({ rules: { PREDICT_FAILED: { backoffMs: 7 } } }, FAILED), 7);
  t.is(wait({ rules: { PREDICT_FAILED: { attempts: 2 } } }, FAILED, 2), 'attempts');
  t.is(wait({ rules: { PREDICT_FAILED: { attempts: 9 } } }, FAILED, 5), 150);
});

test('retryIf decides where no rule stands for the code; undefined leaves it to the default', (t) => {
  t.is(wait({ retryIf: () => true }, FAILED), 50);
  t.is(wait({ retryIf: () => false }, CRASHED), 'rule');
  t.is(wait({ retryIf: () => undefined }, CRASHED), 50);
  t.is(wait({ retryIf: () => undefined }, FAILED), 'rule');
  t.is(wait({ retryIf: () => true, rules: { PREDICT_FAILED: 'never' } }, FAILED), 'rule');
});

test('a retryIf that throws makes the record final and its error is handed on', (t) => {
  const thrown = new Error('in retryIf');
  const policy = new RetryPolicy({
    ...LIMITS,
    retryIf: () => {
      throw thrown;
    },
  });
  t.deepEqual(policy.decide(CRASHED, 1, 0, Infinity, noChance), { kind: 'final', why: 'rule', thrown });
});

test('what its caller gave up is never tried again', (t) => {
  t.is(wait({ retryIf: () => true, rules: { CANCELLED: {} } }, new TroupeError('CANCELLED', 'x')), 'rule');
});

test('a retry that could not begin before the deadline is none', (t) => {
  t.is(wait({}, CRASHED, 1, 1050), 'deadline');
  t.is(wait({}, CRASHED, 1, 1051), 50);
});

test('retryAfterMs is the least wait, and nonsense in it is passed over', (t) => {
  const asking = (retryAfterMs: number): RetryError => ({
    code: 'ACTOR_CRASHED',
    ran: 'interrupted',
    retryable: true,
    retryAfterMs,
  });
  t.is(wait({}, asking(700)), 700);
  t.is(wait({}, asking(10)), 50);
  t.is(wait({}, asking(700), 1, 1600), 'deadline');
  for (const nonsense of [Number.NaN, -5, Infinity]) t.is(wait({}, asking(nonsense)), 50);
});

test('jitter takes at most its share from the wait, whatever the chance', (t) => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: 1, max: 3 }),
      (seed, jitter, tries) => {
        const policy = new RetryPolicy({ ...LIMITS, jitter });
        const decision = policy.decide(CRASHED, tries, 0, Infinity, seededRandom(seed));
        const fullMs = Math.min(150, 50 * 2 ** (tries - 1));
        return decision.kind === 'retry' && decision.at >= fullMs * (1 - jitter) - 1e-9 && decision.at <= fullMs;
      },
    ),
  );
  t.pass();
});
