import test from 'ava';
import fc from 'fast-check';
import { RetryBudget } from '../../src/core/retry-budget.js';

const LIMITS = { share: 0.1, floor: 3, windowMs: 1000 };

function take(budget: RetryBudget, count: number, now: number): number {
  let taken = 0;
  for (let n = 0; n < count; n++) if (budget.tryTake(now)) taken++;
  return taken;
}

test('ten first tries earn one retry', (t) => {
  const budget = new RetryBudget({ ...LIMITS, floor: 0 });
  budget.earn(9);
  t.false(budget.tryTake(0));
  budget.earn();
  t.true(budget.tryTake(0));
  t.false(budget.tryTake(0));
  t.is(budget.refusedCount, 2);
});

test('tiny traffic may retry: the floor is free, and comes back with time', (t) => {
  const budget = new RetryBudget(LIMITS);
  t.is(take(budget, 10, 0), 3);
  t.is(take(budget, 10, 500), 1);
  t.is(take(budget, 10, 1_000_000), 3);
});

test('calm hours do not pay for a storm', (t) => {
  const budget = new RetryBudget({ ...LIMITS, floor: 0 });
  budget.earn(1_000_000);
  t.is(take(budget, 10_000, 0), 100);
});

test('an infinite share refuses nothing', (t) => {
  const budget = new RetryBudget({ ...LIMITS, share: Infinity });
  t.is(take(budget, 10_000, 0), 10_000);
});

test('no order of tries and waits gets more retries than share and floor allow', (t) => {
  const step = fc.record({ earn: fc.nat(50), take: fc.nat(20), ms: fc.nat(300) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (script) => {
      const budget = new RetryBudget(LIMITS);
      let now = 0;
      let tries = 0;
      let retries = 0;
      for (const { earn, take: wanted, ms } of script) {
        now += ms;
        budget.earn(earn);
        tries += earn;
        retries += take(budget, wanted, now);
        if (retries > 0.1 * tries + 3 * (1 + now / 1000) + 1e-6) return false;
      }
      return true;
    }),
  );
  t.pass();
});
