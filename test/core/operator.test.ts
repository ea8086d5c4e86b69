import test from 'ava';
import fc from 'fast-check';
import type { Order } from '../../src/core/emission.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { seededRandom } from '../../src/kernel/random.js';
import { codeOf, failure, OperatorDriver, RETRY, success, TestSlot } from './operator-driver.js';

/** Letters and numbers in titles name defects of others in the sheet of operators; here is what each would have shown. */

test('each record has its own backoff, whatever others have waited for (A1, B10)', (t) => {
  const driver = new OperatorDriver({ retry: { ...RETRY, attempts: 5 } });
  const first = driver.enter();
  for (let tries = 0; tries < 3; tries++) {
    driver.end(first, failure());
    driver.advance(1000);
  }
  const at = driver.now;
  const second = driver.enter();
  driver.end(second, failure());
  driver.advance(1000);
  t.deepEqual(
    driver.offers.map(({ at }) => at),
    [0, 100, 1200, 2400, at, at + 100],
    'waits of 100, 200, 400 for the first, and 100 again for the second',
  );
});

test('a failed record keeps its slot until its last try, and later ones wait for it (B12)', (t) => {
  const driver = new OperatorDriver({ retry: RETRY });
  const [a, b] = [driver.enter(), driver.enter()];
  driver.end(b, success());
  driver.end(a, failure());
  t.deepEqual(driver.takeAll(), [], 'the ordered stream waits for the retry');
  driver.advance(100);
  driver.end(a, failure('PREDICT_FAILED'));
  t.deepEqual(driver.takeAll(), [a, b]);
  t.deepEqual([codeOf(a), codeOf(b)], ['PREDICT_FAILED', undefined]);
  t.is(a.attempts, 2);
});

test('a record whose time is up is not tried again, and nothing is left to wake for it (FLINK-30477)', (t) => {
  const driver = new OperatorDriver({ retry: RETRY });
  const slot = driver.enter({ leftMs: 250 });
  driver.end(slot, failure());
  driver.advance(100);
  driver.end(slot, failure());
  t.is(codeOf(slot), 'ACTOR_CRASHED', 'a try at 300 would begin after the deadline at 250');
  t.is(driver.core.nextWakeAt, Infinity);
  driver.advance(10_000);
  t.is(driver.offers.length, 2);
  t.deepEqual(driver.takeAll(), [slot]);
});

test('what expires while it waits for room settles at its deadline, and is never offered (O4)', (t) => {
  const driver = new OperatorDriver({ retry: { ...RETRY, attempts: 9 } });
  const slot = driver.enter({ leftMs: 300 });
  driver.end(slot, failure());
  driver.hasRoom = false;
  driver.advance(299);
  t.is(codeOf(slot), undefined);
  driver.advance(1);
  t.is(codeOf(slot), 'DEADLINE_PASSED');
  t.like(slot.outcome, { error: { ran: 'not-started' } });
  driver.hasRoom = true;
  driver.advance(1000);
  t.is(driver.offers.length, 1);
});

test('retries without a wait are made at once, also several at the same instant', (t) => {
  const driver = new OperatorDriver({ retry: { ...RETRY, attempts: 4, backoffMs: 0 } });
  const slot = driver.enter();
  for (let tries = 1; tries < 4; tries++) {
    driver.end(slot, failure());
    driver.advance(0);
  }
  t.is(driver.offers.length, 4);
  driver.end(slot, success());
  t.deepEqual(driver.takeAll(), [slot]);
});

test('a deadline runs from the first acceptance: waiting for the first room does not use it up', (t) => {
  const driver = new OperatorDriver();
  driver.hasRoom = false;
  const slot = driver.enter({ leftMs: 100 });
  driver.advance(5000);
  driver.hasRoom = true;
  driver.offer();
  t.is(slot.deadlineAt, 5100);
  t.is(slot.state, 'sent');
});

test('the instant to wake belongs to what waits: it goes when that goes, and the next waits its full time (B4)', (t) => {
  const driver = new OperatorDriver({ order: 'unordered', retry: RETRY });
  const first = driver.enter();
  driver.end(first, failure());
  t.is(driver.core.nextWakeAt, 100);
  driver.core.tick(100);
  driver.now = 100;
  driver.offer();
  driver.end(first, success());
  t.is(driver.core.nextWakeAt, Infinity);
  driver.advance(20);
  const second = driver.enter();
  driver.end(second, failure());
  t.is(driver.core.nextWakeAt, 220, 'not earlier, for a timer of the first');
});

test('a rule decides over an error code, retryIf over the rest, and a retryIf that throws ends the tries', (t) => {
  const retryIf = (error: TroupeError): boolean | undefined => {
    if (error.code === 'INTERNAL') throw new Error('never seen');
    return error.code === 'METHOD_FAILED' ? true : undefined;
  };
  const driver = new OperatorDriver({
    retry: {
      ...RETRY,
      rules: { ACTOR_CRASHED: 'never', PREDICT_FAILED: { attempts: 2, backoffMs: 7 } },
      retryIf: retryIf as never,
    },
  });
  const wakes = (['ACTOR_CRASHED', 'PREDICT_FAILED', 'METHOD_FAILED', 'ACTOR_OOM', 'CANCELLED'] as const).map(
    (code) => {
      driver.end(driver.enter(), failure(code));
      const wait = driver.core.nextWakeAt - driver.now;
      driver.advance(200);
      while (driver.sent.length > 0) driver.end(driver.sent[0] as TestSlot, success());
      return wait;
    },
  );
  t.deepEqual(wakes, [Infinity, 7, 100, 100, Infinity]);
  const slot = driver.enter();
  driver.end(slot, failure('INTERNAL'));
  t.like(slot.outcome, { error: { message: 'INTERNAL came; not tried again: retryIf threw: never seen' } });
});

test('Retry-After is waited for, and the budget keeps retries a small share of the load (C1)', (t) => {
  const driver = new OperatorDriver({
    order: 'unordered',
    capacity: 1000,
    retry: { ...RETRY, attempts: 10 },
    retryBudget: { share: 0.1, floor: 2, windowMs: 1e9 },
  });
  const asked = driver.enter();
  driver.end(asked, failure('MAILBOX_FULL', { retryAfterMs: 5000 }));
  t.is(driver.core.nextWakeAt, 5000);
  driver.advance(5000);
  driver.end(asked, success());
  for (let n = 0; n < 300; n++) driver.enter();
  while (driver.sent.length > 0 || driver.core.nextWakeAt < Infinity) {
    while (driver.sent.length > 0) driver.end(driver.sent[0] as TestSlot, failure());
    driver.advance(10_000);
  }
  const { retries, budgetRefusals } = driver.core.counts;
  t.true(retries >= 25 && retries <= 0.1 * 301 + 2, `${retries} retries for 301 records`);
  t.true(budgetRefusals > 200);
  t.is(driver.takeAll().length, 301, 'what the budget refuses fails, and does not vanish (B8)');
});

test('an open breaker refuses records unsent, a probe closes it, and a retry waits until it may be let through', (t) => {
  const breaker = { windowMs: 1000, minCalls: 4, failureRate: 0.5, openMs: 500, probes: 1 };
  const driver = new OperatorDriver({ order: 'unordered', breaker, retry: { ...RETRY, backoffMs: 1 } });
  for (let n = 0; n < 4; n++) driver.end(driver.enter(), failure('PREDICT_FAILED'));
  t.is(driver.core.breaker?.state, 'open');
  const offers = driver.offers.length;
  const refused = driver.enter();
  t.is(driver.offers.length, offers, 'refused without being sent');
  t.is(driver.core.nextWakeAt, 500, 'retryAfterMs of the breaker is the least wait');
  t.is(refused.attempts, 1, 'a refusal is a try, so no record waits for ever');
  driver.advance(500);
  t.is(driver.offers.length, offers + 1, 'the probe');
  driver.end(refused, success());
  t.is(driver.core.breaker?.state, 'closed');
  t.is(driver.core.counts.breakerRefusals, 1);
});

test('a half-open probe that is shed, cancelled or expires gives its lease back (D1)', (t) => {
  const breaker = { windowMs: 1000, minCalls: 1, failureRate: 0.5, openMs: 10, probes: 1 };
  for (const how of ['MAILBOX_FULL', 'CANCELLED', 'POOL_STOPPED', 'expired', 'refused'] as const) {
    const driver = new OperatorDriver({ order: 'unordered', breaker });
    driver.end(driver.enter(), failure('ACTOR_HUNG'));
    t.is(driver.core.breaker?.state, 'open');
    driver.advance(10);
    if (how === 'expired') {
      const probe = driver.enter({ leftMs: 50 });
      driver.end(probe, failure('DEADLINE_PASSED', { ran: 'not-started' }));
    } else if (how === 'refused') {
      driver.hasRoom = false;
      const probe = driver.enter();
      driver.core.refused(driver.core.next(driver.now) as TestSlot, failure('INPUT_INVALID').error, driver.now);
      t.is(codeOf(probe), 'INPUT_INVALID');
      driver.hasRoom = true;
    } else driver.end(driver.enter(), failure(how));
    t.is(driver.core.breaker?.state, 'half-open', how);
    const next = driver.enter();
    t.is(next.state, 'sent', `after ${how} the next probe is let through`);
    driver.end(next, success());
    t.is(driver.core.breaker?.state, 'closed');
  }
});

test('the second pool is asked after the last try, once, with a deadline of its own, and its failure keeps the first', (t) => {
  const driver = new OperatorDriver({ hasSecond: true, retry: { ...RETRY, attempts: 2 } });
  const [good, bad] = [driver.enter({ leftMs: 400 }), driver.enter({ leftMs: 400 })];
  for (const slot of [good, bad]) driver.end(slot, failure());
  driver.advance(300);
  for (const slot of [good, bad]) driver.end(slot, failure());
  t.deepEqual(driver.second, [good, bad]);
  t.is(good.deadlineAt, 700);
  driver.end(good, success('second'));
  driver.end(bad, failure('MAILBOX_FULL'));
  t.like(good, { isSecond: true, outcome: { ok: true, value: 'second' }, attempts: 2 });
  t.is(good.firstError?.code, 'ACTOR_CRASHED');
  t.is(codeOf(bad), 'ACTOR_CRASHED');
  t.like(bad.outcome, { error: { message: 'ACTOR_CRASHED came; the fallback failed too: MAILBOX_FULL came' } });
  driver.advance(10_000);
  t.is(driver.offers.length, 4, 'a failed fallback starts no further tries (FLINK-38082)');
  t.deepEqual(driver.takeAll(), [good, bad]);
});

test('a step restored with a full queue goes on, also where its capacity is smaller than before (FLINK-7949)', (t) => {
  for (const capacity of [4, 9, 20]) {
    const driver = new OperatorDriver({ capacity, retry: RETRY });
    const saved = Array.from({ length: 9 }, (_, seq) => ({ slot: new TestSlot(seq), attempts: seq % 3 }));
    const taken: TestSlot[] = [];
    for (const { slot, attempts } of saved) {
      while (!driver.core.hasRoom) {
        driver.end(driver.sent[0] as TestSlot, success());
        taken.push(...driver.takeAll());
      }
      driver.core.restore(slot, '', { attempts, leftMs: undefined, outcome: undefined });
      driver.offer();
    }
    while (driver.sent.length > 0) driver.end(driver.sent[0] as TestSlot, success());
    taken.push(...driver.takeAll());
    t.deepEqual(
      taken.map(({ seq, attempts }) => [seq, attempts]),
      saved.map(({ slot, attempts }) => [slot.seq, attempts + 1]),
    );
  }
});

test('a restored record goes on with its tries and its time; one with an outcome is not asked again (B1)', (t) => {
  const driver = new OperatorDriver({ retry: RETRY });
  const slots = [0, 1, 2].map((seq) => new TestSlot(seq));
  const [tired, done, late] = slots as [TestSlot, TestSlot, TestSlot];
  for (const slot of slots) slot.leftMs = 1000;
  driver.core.restore(tired, '', { attempts: 2, leftMs: 150, outcome: undefined });
  driver.core.restore(done, '', { attempts: 1, leftMs: 10, outcome: success('saved'), isFallback: true });
  driver.core.restore(late, '', { attempts: 1, leftMs: 0, outcome: undefined });
  driver.offer();
  t.deepEqual(driver.sent, [tired]);
  t.is(tired.deadlineAt, 150);
  t.is(codeOf(late), 'DEADLINE_PASSED');
  driver.end(tired, failure());
  t.is(codeOf(tired), 'ACTOR_CRASHED', 'it was the third of three tries');
  t.deepEqual(driver.takeAll(), slots);
  t.like(done, { isSecond: true, outcome: { value: 'saved' } });
});

test('after the step is given up nothing is offered or tried again', (t) => {
  const driver = new OperatorDriver({ retry: RETRY, hasSecond: true });
  const [sent, waits] = [driver.enter(), driver.enter()];
  driver.end(waits, failure());
  driver.core.abandon(driver.now);
  driver.end(sent, failure('CANCELLED'));
  driver.advance(10_000);
  t.is(driver.offers.length, 2);
  t.deepEqual([driver.core.nextWakeAt, driver.core.hasUnsent, driver.second.length], [Infinity, false, 0]);
});

const commands = fc.array(
  fc.record({
    kind: fc.constantFrom('enter', 'enter', 'control', 'ok', 'ok', 'fail', 'fail', 'take', 'wait', 'room'),
    pick: fc.nat(10_000),
  }),
  { minLength: 40, maxLength: 120 },
);

test('order x failures x retries x fallback: no run loses, doubles, reorders or strands a record, or tries it too often', (t) => {
  const seen = { retries: 0, seconds: 0, expired: 0, refused: 0, fences: 0 };
  fc.assert(
    fc.property(
      fc.constantFrom<Order>('ordered', 'unordered', 'keyed'),
      fc.integer({ min: 1, max: 4 }),
      fc.boolean(),
      fc.boolean(),
      fc.boolean(),
      fc.integer({ min: 1, max: 8 }),
      fc.integer(),
      commands,
      (order, attempts, hasSecond, hasBreaker, hasTimeout, capacity, seed, script) => {
        const random = seededRandom(seed);
        const breaker = { windowMs: 500, minCalls: 3, failureRate: 0.6, openMs: 200, probes: 1 };
        const driver = new OperatorDriver(
          {
            order,
            capacity,
            hasSecond,
            retry: { ...RETRY, attempts, jitter: 1 },
            breaker: hasBreaker ? breaker : undefined,
          },
          random,
        );
        const { core } = driver;
        const entered: TestSlot[] = [];
        const taken: TestSlot[] = [];
        const take = (): void => {
          const slot = core.take();
          if (slot === undefined) return;
          if (slot.state !== 'settled' || taken.includes(slot)) throw new Error(`${slot.seq} left unsettled or twice`);
          taken.push(slot);
          const earlier = entered.slice(0, slot.seq).filter((other) => !taken.includes(other));
          const later = taken.filter((other) => other.seq > slot.seq);
          if (order === 'ordered' && earlier.length > 0) throw new Error(`${slot.seq} overtook`);
          if (slot.isFence && (earlier.length > 0 || later.length > 0)) throw new Error('a fence was crossed');
          if (earlier.some((other) => other.isFence)) throw new Error(`${slot.seq} overtook a fence`);
          if (order === 'keyed' && earlier.some(({ key }) => key === slot.key)) throw new Error(`${slot.key}: order`);
          if (!slot.isFence && slot.attempts > attempts) throw new Error(`${slot.seq}: ${slot.attempts} tries`);
        };
        const act = (kind: string, pick: number): void => {
          const under = [...driver.sent, ...driver.second];
          const slot = under[pick % Math.max(1, under.length)];
          if (kind === 'enter' && core.hasRoom) {
            const leftMs = hasTimeout ? 1 + (pick % 400) : undefined;
            entered.push(driver.enter({ leftMs, key: `k${pick % 3}` }));
          } else if (kind === 'control' && core.hasRoom) {
            entered.push(driver.control());
            seen.fences++;
          } else if (kind === 'ok' && slot !== undefined) driver.end(slot, success());
          else if (kind === 'fail' && slot !== undefined) {
            const codes = ['ACTOR_CRASHED', 'MAILBOX_FULL', 'PREDICT_FAILED', 'DEADLINE_PASSED'] as const;
            driver.end(slot, failure(codes[pick % 4] as 'ACTOR_CRASHED'));
          } else if (kind === 'take') take();
          else if (kind === 'wait') driver.advance(pick % 300);
          else if (kind === 'room') {
            driver.hasRoom = !driver.hasRoom;
            driver.offer();
          }
          if (core.heldCount > capacity) throw new Error('O1');
        };
        for (const { kind, pick } of script) act(kind, pick);
        driver.hasRoom = true;
        driver.offer();
        // Whatever happened, ordinary service drains it: one slow slot never dead-locks capacity.
        for (let round = 0; core.heldCount > 0; round++) {
          if (round > 500)
            throw new Error(`${core.heldCount} stranded, ${[...core.held()].map(({ state }) => state).join()}`);
          act('ok', round);
          driver.advance(50);
          take();
        }
        seen.retries += core.counts.retries;
        seen.expired += core.counts.timeouts;
        seen.refused += core.counts.breakerRefusals;
        seen.seconds += taken.filter(({ isSecond }) => isSecond).length;
        if (core.nextWakeAt !== Infinity) throw new Error('something still wakes (O7)');
        return taken.length === entered.length;
      },
    ),
    { numRuns: 3000, seed: 3 },
  );
  // Anti-vacuity: everything that the law is about did happen.
  for (const [what, count] of Object.entries(seen)) t.true(count > 200, `${what}: ${count}`);
});
