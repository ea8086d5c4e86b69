import test from 'ava';
import fc from 'fast-check';
import { type DeathKind, type RestartLimits, RestartWindow } from '../../src/core/restart-window.js';
import { seededRandom } from '../../src/kernel/random.js';

const LIMITS: RestartLimits = {
  max: 3,
  withinMs: 1000,
  backoffMs: 100,
  maxBackoffMs: 1000,
  jitter: 0,
  quarantineMax: 2,
};
const KINDS: DeathKind[] = ['init', 'crash', 'hang', 'oom'];
const noChance = (): number => 0;

/** What a death at `now` leads to: the wait in ms, or give-up. */
function die(window: RestartWindow, now: number, kind: DeathKind = 'crash', random = noChance): number | 'give-up' {
  const decision = window.died(kind, random, now);
  return decision.kind === 'restart' ? decision.at - now : 'give-up';
}

test('max deaths within the window are forgiven, one more is not', (t) => {
  const window = new RestartWindow(LIMITS);
  const outcomes = [0, 1, 2, 3].map((now) => die(window, now));
  t.is(outcomes.indexOf('give-up'), 3);
});

test('with max 0 the first death ends the replica', (t) => {
  t.is(die(new RestartWindow({ ...LIMITS, max: 0 }), 0), 'give-up');
});

test('a death as old as the window still counts, an older one is forgotten', (t) => {
  for (const [last, outcome] of [
    [1000, 'give-up'],
    [1000.5, 400],
  ] as const) {
    const window = new RestartWindow(LIMITS);
    for (const now of [0, 500, 600]) die(window, now);
    t.is(die(window, last), outcome);
  }
});

test('the first restart is immediate, each further one without a finished batch waits twice as long', (t) => {
  const window = new RestartWindow({ ...LIMITS, max: 100 });
  t.deepEqual(
    [0, 1, 2, 3, 4, 5, 6].map((now) => die(window, now)),
    [0, 100, 200, 400, 800, 1000, 1000],
  );
});

test('a replica that could not even load waits before its first restart already', (t) => {
  const window = new RestartWindow({ ...LIMITS, max: 100 });
  t.deepEqual(
    [0, 1, 2].map((now) => die(window, now, 'init')),
    [100, 200, 400],
  );
});

test('a finished batch resets the backoff, but not the count of deaths', (t) => {
  const window = new RestartWindow(LIMITS);
  for (const now of [0, 1, 2]) {
    t.is(die(window, now), 0);
    window.progressed();
  }
  t.is(die(window, 3), 'give-up');
});

test('causes of death are told apart in the counts', (t) => {
  const window = new RestartWindow({ ...LIMITS, max: 100 });
  for (const kind of ['init', 'crash', 'crash', 'hang', 'oom'] as const) die(window, 0, kind);
  window.diedInQuarantine(0);
  t.deepEqual(window.counts, { init: 1, crash: 2, hang: 1, oom: 1, quarantine: 1 });
});

test('deaths in quarantine have a budget of their own and cost the replica nothing', (t) => {
  const window = new RestartWindow(LIMITS);
  for (let n = 0; n < 50; n += 1) window.diedInQuarantine(n);
  t.is(die(window, 60), 0, 'as if nothing had happened');
});

test('the quarantine has room until more than quarantineMax deaths lie within the window', (t) => {
  const window = new RestartWindow(LIMITS);
  t.true(window.quarantineHasRoom(0));
  for (const [now, room] of [
    [0, true],
    [1, true],
    [2, false],
  ] as const) {
    window.diedInQuarantine(now);
    t.is(window.quarantineHasRoom(now), room);
  }
  t.false(window.quarantineHasRoom(1000));
  t.true(window.quarantineHasRoom(1000.5));
});

test('jitter shortens a wait by at most its share and never lengthens it', (t) => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: 1, max: 60 }),
      (seed, jitter, deaths) => {
        const random = seededRandom(seed);
        const window = new RestartWindow({ ...LIMITS, max: 1000, jitter });
        for (let n = 0; n < deaths; n += 1) {
          const wait = die(window, n, 'crash', random);
          const full = n === 0 ? 0 : Math.min(1000, 100 * 2 ** (n - 1));
          // A hair of room for the rounding of (now + wait) - now.
          if (wait === 'give-up' || wait > full + 1e-6 || wait < full * (1 - jitter) - 1e-6)
            throw new Error(`${wait} of ${full}`);
        }
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});

test('whatever the deaths, a replica is given up exactly with the first one beyond max in the window', (t) => {
  const life = fc.record({
    gap: fc.nat(6).map((n) => n * 100),
    kind: fc.constantFrom(...KINDS),
    progress: fc.boolean(),
    quarantine: fc.boolean(),
  });
  let givenUp = 0;
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4 }), fc.array(life, { maxLength: 30, size: 'max' }), (max, lives) => {
      const window = new RestartWindow({ ...LIMITS, max });
      const deaths: number[] = [];
      let now = 0;
      for (const { gap, kind, progress, quarantine } of lives) {
        now += gap;
        if (progress) window.progressed();
        if (quarantine) window.diedInQuarantine(now);
        else {
          deaths.push(now);
          const tooMany = deaths.filter((at) => now - at <= LIMITS.withinMs).length > max;
          const outcome = die(window, now, kind);
          if ((outcome === 'give-up') !== tooMany) throw new Error(`death at ${now}: ${outcome}`);
          if (tooMany) {
            givenUp += 1;
            return;
          }
        }
      }
    }),
    { numRuns: 500 },
  );
  t.true(givenUp > 50);
});
