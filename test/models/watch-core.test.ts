import test from 'ava';
import fc from 'fast-check';
import { type SeenThing, WatchCore } from '../../src/models/watch-core.js';

const SETTLE_MS = 100;
const thing = (version: string, fingerprint: string, more: Partial<SeenThing> = {}): SeenThing => ({
  model: 'net',
  version,
  fingerprint,
  isUnfinished: false,
  ...more,
});
const told = (core: WatchCore<SeenThing>, now: number, ...things: SeenThing[]): string[] =>
  core.look(things, now).map((change) => `${change.kind} ${change.thing.model} ${change.thing.version}`);

test('what lies there at the first look is known; what comes is told when it rests', (t) => {
  const core = new WatchCore<SeenThing>(SETTLE_MS);
  t.deepEqual(told(core, 0, thing('1', 'a')), []);
  t.deepEqual(told(core, 1000, thing('1', 'a'), thing('2', 'b')), []);
  t.deepEqual(told(core, 1099, thing('1', 'a'), thing('2', 'b')), []);
  t.deepEqual(told(core, 1100, thing('1', 'a'), thing('2', 'b')), ['added net 2']);
  t.deepEqual(told(core, 9000, thing('1', 'a'), thing('2', 'b')), []);
});

test('a version that grows is not told until it has stopped growing', (t) => {
  const core = new WatchCore<SeenThing>(SETTLE_MS);
  told(core, 0);
  for (let step = 1; step <= 50; step++) t.deepEqual(told(core, step * 90, thing('2', `${step} bytes`)), []);
  t.deepEqual(told(core, 4590, thing('2', '50 bytes')), []);
  t.deepEqual(told(core, 4600, thing('2', '50 bytes')), ['added net 2']);
});

test('a version with a file that is not finished is not told however long it rests', (t) => {
  const core = new WatchCore<SeenThing>(SETTLE_MS);
  told(core, 0, thing('3', 'x', { isUnfinished: true }));
  for (const now of [100, 1000, 100_000]) t.deepEqual(told(core, now, thing('3', 'x', { isUnfinished: true })), []);
  t.deepEqual(told(core, 100_050, thing('3', 'x')), []);
  t.deepEqual(told(core, 100_150, thing('3', 'x')), ['added net 3'], 'also one that was there at the first look');
});

test('one that changes and changes back, or comes and goes, is nothing to tell', (t) => {
  const core = new WatchCore<SeenThing>(SETTLE_MS);
  told(core, 0, thing('1', 'a'));
  told(core, 50, thing('1', 'b'), thing('2', 'x'));
  told(core, 90, thing('1', 'a'));
  for (const now of [200, 400, 800]) t.deepEqual(told(core, now, thing('1', 'a')), []);
});

test('one that is away for a moment while it is replaced has changed, and was not removed', (t) => {
  const core = new WatchCore<SeenThing>(SETTLE_MS);
  told(core, 0, thing('1', 'a'));
  t.deepEqual(told(core, 1000), []);
  t.deepEqual(told(core, 1050, thing('1', 'b')), []);
  t.deepEqual(told(core, 1150, thing('1', 'b')), ['changed net 1']);
  t.deepEqual(told(core, 2000), []);
  t.deepEqual(told(core, 2100), ['removed net 1']);
  t.deepEqual(told(core, 3000, thing('1', 'b')), []);
  t.deepEqual(told(core, 3100, thing('1', 'b')), ['added net 1'], 'it is new again');
});

test('the versions of a model that cannot be read count as they were', (t) => {
  const core = new WatchCore<SeenThing>(SETTLE_MS);
  const broken: SeenThing = {
    model: 'net',
    version: undefined,
    fingerprint: 'bad',
    isUnfinished: false,
    hidesVersions: true,
  };
  told(core, 0, thing('1', 'a'));
  t.deepEqual(told(core, 10, broken), []);
  t.deepEqual(told(core, 500, broken), ['added net undefined']);
  t.deepEqual(told(core, 900, thing('1', 'a')), []);
  t.deepEqual(told(core, 1000, thing('1', 'a')), ['removed net undefined']);
});

test('changes are told in the order of names and numbers', (t) => {
  const core = new WatchCore<SeenThing>(0);
  told(core, 0);
  const things = [thing('10', 'a'), thing('9', 'a'), thing('1', 'a', { model: 'alpha' })];
  t.deepEqual(told(core, 1, ...things), ['added alpha 1', 'added net 9', 'added net 10']);
});

/** At each look: how much later, and what each of three versions is (undefined: not there). */
const looks = fc.array(
  fc.record({
    afterMs: fc.integer({ min: 1, max: 80 }),
    state: fc.array(fc.option(fc.constantFrom('a', 'b', 'a~'), { nil: undefined }), { minLength: 3, maxLength: 3 }),
    isSame: fc.boolean(),
  }),
  { minLength: 1, maxLength: 60 },
);

test('whatever comes and goes, only what rested is told, once, and what rests in the end is told', (t) => {
  let changes = 0;
  fc.assert(
    fc.property(looks, (steps) => {
      const core = new WatchCore<SeenThing>(SETTLE_MS);
      const history: { now: number; state: readonly (string | undefined)[] }[] = [];
      const known: (string | undefined)[] = [];
      let now = 0;
      let state = steps[0]?.state ?? [];
      const look = (): void => {
        history.push({ now, state });
        const things = state.flatMap((fingerprint, index) =>
          fingerprint === undefined
            ? []
            : [thing(String(index), fingerprint.slice(0, 1), { isUnfinished: fingerprint.endsWith('~') })],
        );
        const isFirst = history.length === 1;
        if (isFirst) for (const [index, one] of state.entries()) known[index] = one?.endsWith('~') ? undefined : one;
        for (const { kind, thing: one } of core.look(things, now)) {
          changes++;
          const index = Number(one.version);
          const current = state[index];
          // It was this, finished, at every look of the last settleMs, and there was a look so long ago.
          const since = history.findLastIndex((past) => past.state[index] !== current) + 1;
          t.true(now - (history[since]?.now ?? now) >= SETTLE_MS);
          t.false(current?.endsWith('~') ?? false);
          t.not(current, known[index]);
          t.is(kind, current === undefined ? 'removed' : known[index] === undefined ? 'added' : 'changed');
          known[index] = current;
        }
      };
      for (const step of steps) {
        if (!step.isSame) state = step.state;
        look();
        now += step.afterMs;
      }
      for (let more = 0; more < 4; more++) {
        look();
        now += 60;
      }
      const rest = state.map((one, index) => (one?.endsWith('~') ? known[index] : one));
      t.deepEqual(known.slice(0, 3), rest);
    }),
    { numRuns: 1000 },
  );
  t.true(changes > 200);
});
