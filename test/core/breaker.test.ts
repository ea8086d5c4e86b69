import test from 'ava';
import fc from 'fast-check';
import { Breaker, type BreakerLimits, type BreakerState, type Lease, verdictOf } from '../../src/core/breaker.js';

const LIMITS: BreakerLimits = { windowMs: 1000, minCalls: 4, failureRate: 0.5, openMs: 500, probes: 1 };

function taken(breaker: Breaker, now: number): Lease {
  const lease = breaker.acquire(now);
  if (lease === undefined) throw new Error(`refused at ${now} while ${breaker.state}`);
  return lease;
}

function failAll(breaker: Breaker, count: number, now: number): void {
  for (let n = 0; n < count; n++) breaker.release(taken(breaker, now), 'failure', now);
}

test('it opens when enough calls were made and too many of them failed', (t) => {
  const breaker = new Breaker(LIMITS);
  breaker.release(taken(breaker, 0), 'success', 0);
  breaker.release(taken(breaker, 0), 'success', 0);
  failAll(breaker, 1, 1);
  t.is(breaker.state, 'closed');
  failAll(breaker, 1, 2);
  t.is(breaker.state, 'open');
  t.is(breaker.acquire(3), undefined);
  t.is(breaker.refusedCount, 1);
  t.is(breaker.retryAt, 502);
  t.is(breaker.retryAfterMs(102), 400);
});

test('fewer calls than minCalls never open it, whatever share of them failed', (t) => {
  const breaker = new Breaker(LIMITS);
  failAll(breaker, 3, 0);
  t.is(breaker.state, 'closed');
});

test('what is older than the window is forgotten: counts are not for life', (t) => {
  const breaker = new Breaker(LIMITS);
  failAll(breaker, 3, 0);
  failAll(breaker, 3, 1100);
  t.is(breaker.state, 'closed');
  t.deepEqual(breaker.counts(1100), { calls: 3, failures: 3 });
  t.deepEqual(breaker.counts(5000), { calls: 0, failures: 0 });
});

test('a shed, a cancel or an expiry in the queue is no failure', (t) => {
  const breaker = new Breaker(LIMITS);
  for (let n = 0; n < 100; n++) breaker.release(taken(breaker, n), 'none', n);
  t.is(breaker.state, 'closed');
  t.deepEqual(breaker.counts(99), { calls: 0, failures: 0 });
  const none = [
    'MAILBOX_FULL',
    'MAILBOX_DROPPED',
    'CANCELLED',
    'POOL_STOPPED',
    'INPUT_INVALID',
    'BREAKER_OPEN',
  ] as const;
  for (const code of none) t.is(verdictOf({ code, ran: 'interrupted' }), 'none', code);
  t.is(verdictOf({ code: 'DEADLINE_PASSED', ran: 'not-started' }), 'none');
  t.is(verdictOf({ code: 'DEADLINE_PASSED', ran: 'interrupted' }), 'failure');
  t.is(verdictOf({ code: 'PREDICT_FAILED', ran: 'failed' }), 'failure');
  // A server that cannot be asked has run nothing, and is down all the same.
  t.is(verdictOf({ code: 'REMOTE_UNAVAILABLE', ran: 'not-started' }), 'failure');
  t.is(verdictOf(undefined), 'success');
});

test('after openMs one probe goes through, and its success closes it with an empty window', (t) => {
  const breaker = new Breaker(LIMITS);
  failAll(breaker, 4, 0);
  t.is(breaker.acquire(499), undefined);
  const probe = taken(breaker, 500);
  t.is(breaker.state, 'half-open');
  t.is(breaker.acquire(500), undefined);
  breaker.release(probe, 'success', 510);
  t.is(breaker.state, 'closed');
  t.deepEqual(breaker.counts(510), { calls: 0, failures: 0 });
});

test('a probe that fails opens it for another openMs', (t) => {
  const breaker = new Breaker(LIMITS);
  failAll(breaker, 4, 0);
  breaker.release(taken(breaker, 500), 'failure', 700);
  t.is(breaker.state, 'open');
  t.is(breaker.retryAt, 1200);
});

test('a probe that was shed or cancelled gives its place back, as often as it happens', (t) => {
  const breaker = new Breaker(LIMITS);
  failAll(breaker, 4, 0);
  for (let n = 0; n < 10; n++) {
    breaker.release(taken(breaker, 500 + n), 'none', 500 + n);
    t.is(breaker.state, 'half-open');
  }
  breaker.release(taken(breaker, 600), 'success', 600);
  t.is(breaker.state, 'closed');
});

test('a probe that ends twice gives one place back', (t) => {
  const breaker = new Breaker({ ...LIMITS, probes: 2 });
  failAll(breaker, 4, 0);
  const first = taken(breaker, 500);
  breaker.release(first, 'success', 500);
  breaker.release(first, 'success', 500);
  t.is(breaker.state, 'half-open');
  t.truthy(breaker.acquire(500));
  t.truthy(breaker.acquire(500));
  t.is(breaker.acquire(500), undefined);
});

test('with several probes it closes after as many successes', (t) => {
  const breaker = new Breaker({ ...LIMITS, probes: 2 });
  failAll(breaker, 4, 0);
  const probes = [taken(breaker, 500), taken(breaker, 500)];
  t.is(breaker.acquire(500), undefined);
  breaker.release(probes[0] as Lease, 'success', 501);
  t.is(breaker.state, 'half-open');
  breaker.release(probes[1] as Lease, 'success', 502);
  t.is(breaker.state, 'closed');
});

test('a call that began before the breaker opened changes nothing when it ends later', (t) => {
  const breaker = new Breaker(LIMITS);
  const slow = [taken(breaker, 0), taken(breaker, 0)];
  failAll(breaker, 4, 0);
  const probe = taken(breaker, 500);
  breaker.release(slow[0] as Lease, 'failure', 501);
  t.is(breaker.state, 'half-open');
  breaker.release(slow[1] as Lease, 'success', 502);
  t.is(breaker.state, 'half-open');
  t.is(breaker.acquire(502), undefined);
  breaker.release(probe, 'success', 503);
  t.is(breaker.state, 'closed');
});

test('every change of state is told once, with what led to it, when the new state holds', (t) => {
  const told: string[] = [];
  const breaker: Breaker = new Breaker(LIMITS, ({ from, to, at, calls, failures }) => {
    told.push(`${at} ${from}-${to} ${failures}/${calls}`);
    t.is(breaker.state, to);
  });
  failAll(breaker, 4, 0);
  breaker.release(taken(breaker, 500), 'failure', 500);
  breaker.release(taken(breaker, 1000), 'success', 1001);
  t.deepEqual(told, [
    '0 closed-open 4/4',
    '500 open-half-open 4/4',
    '500 half-open-open 4/4',
    '1000 open-half-open 0/0',
    '1001 half-open-closed 0/0',
  ]);
  t.is(breaker.changeCount, told.length);
});

interface Step {
  readonly do: 'acquire' | 'success' | 'failure' | 'none' | 'wait';
  readonly pick: number;
  readonly ms: number;
}

const steps = fc.array(
  fc.record<Step>({
    do: fc.constantFrom('acquire', 'acquire', 'success', 'failure', 'none', 'wait'),
    pick: fc.nat(1000),
    ms: fc.nat(400),
  }),
  { maxLength: 200 },
);

/** Runs the steps; `look` sees the breaker after each. */
function play(
  breaker: Breaker,
  script: readonly Step[],
  look: (out: readonly Lease[], now: number) => void,
): { out: Lease[]; now: number } {
  const out: Lease[] = [];
  let now = 0;
  for (const step of script) {
    if (step.do === 'wait') now += step.ms;
    else if (step.do === 'acquire') {
      const lease = breaker.acquire(now);
      if (lease !== undefined) out.push(lease);
    } else if (out.length > 0) {
      const [lease] = out.splice(step.pick % out.length, 1);
      breaker.release(lease as Lease, step.do, now);
    }
    look(out, now);
  }
  return { out, now };
}

test('no order of calls, endings and waits leaves more than `probes` probes out', (t) => {
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 3 }), (script, probes) => {
      let generation = -1;
      const breaker: Breaker = new Breaker({ ...LIMITS, probes }, ({ to }) => {
        if (to === 'half-open') generation = breaker.changeCount;
      });
      play(breaker, script, (out) => {
        if (breaker.state !== 'half-open') return;
        const probing = out.filter((lease) => lease.generation === generation).length;
        if (probing > probes) throw new Error(`${probing} of ${probes} probes are out`);
      });
    }),
  );
  t.pass();
});

test('no order of calls, endings and waits leaves it stuck: when all has ended, openMs later a call goes through', (t) => {
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 3 }), (script, probes) => {
      const breaker = new Breaker({ ...LIMITS, probes });
      const { out, now } = play(breaker, script, () => undefined);
      for (const lease of out) breaker.release(lease, 'none', now);
      let at = now + LIMITS.openMs;
      while (breaker.state !== 'closed') breaker.release(taken(breaker, at), 'success', at++);
      return breaker.acquire(at) !== undefined;
    }),
  );
  t.pass();
});

test('it agrees with a list of all verdicts about when to open', (t) => {
  fc.assert(
    fc.property(steps, (script) => {
      const changes: BreakerState[] = [];
      const breaker: Breaker = new Breaker(LIMITS, ({ to }) => {
        changes.push(to);
      });
      const verdicts: { at: number; failed: boolean }[] = [];
      let now = 0;
      for (const step of script) {
        if (step.do === 'wait') now += step.ms;
        if (step.do !== 'success' && step.do !== 'failure') continue;
        verdicts.push({ at: Math.floor(now / 100), failed: step.do === 'failure' });
        const recent = verdicts.filter(({ at }) => at > Math.floor(now / 100) - 10);
        const failures = recent.filter(({ failed }) => failed).length;
        breaker.release(taken(breaker, now), step.do, now);
        const opens = recent.length >= 4 && failures * 2 >= recent.length && failures > 0;
        if ((breaker.state === 'open') !== opens) return false;
        if (opens) return true;
      }
      return changes.length === 0;
    }),
  );
  t.pass();
});
