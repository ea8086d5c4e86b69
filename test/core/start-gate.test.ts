import fc from 'fast-check';
import test from 'ava';
import { StartGate } from '../../src/core/start-gate.js';

test('so many starts begin at once, and the next when one of them is over', (t) => {
  const gate = new StartGate({ atOnce: 2, slowMs: 1000 });
  const starts = [1, 2, 3, 4].map(() => gate.ask('a'));
  t.deepEqual(gate.take(0), starts.slice(0, 2));
  t.deepEqual(gate.take(0), []);
  t.is(gate.waitingCount, 2);
  t.is(gate.nextWakeAt(), 1000);
  gate.done(starts[1] as number);
  t.deepEqual(gate.take(10), [starts[2]]);
  gate.done(starts[3] as number); // It is wanted no more.
  gate.done(starts[0] as number);
  t.deepEqual(gate.take(20), []);
  t.is(gate.nextWakeAt(), Infinity);
});

test('a start that takes long holds nobody up', (t) => {
  const gate = new StartGate({ atOnce: 1, slowMs: 1000 });
  const [slow, other, third] = ['a', 'a', 'a'].map((pool) => gate.ask(pool));
  t.deepEqual(gate.take(0), [slow]);
  t.deepEqual(gate.take(999), []);
  t.deepEqual(gate.take(1000), [other]);
  t.is(gate.nextWakeAt(), 2000);
  gate.done(slow as number); // It does not count any more, so its end lets nobody begin.
  t.deepEqual(gate.take(1100), []);
  gate.done(other as number);
  t.deepEqual(gate.take(1200), [third]);
});

test('the one replica of a small pool does not wait behind all of a large one', (t) => {
  const gate = new StartGate({ atOnce: 2, slowMs: 1000 });
  const large = Array.from({ length: 64 }, () => gate.ask('large'));
  t.deepEqual(gate.take(0), large.slice(0, 2));
  const small = gate.ask('small');
  gate.done(large[0] as number);
  t.deepEqual(gate.take(1), [small]);
  gate.done(small);
  gate.done(large[1] as number);
  t.deepEqual(gate.take(2), large.slice(2, 4), 'of one pool the first that came');
});

const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('ask' as const), pool: fc.constantFrom('a', 'b', 'c') }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('done' as const), which: fc.nat(40) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(700) }) },
);

test('whatever is asked for and given up: never too many at once, none twice, none for ever', (t) => {
  const atOnce = 3;
  const slowMs = 500;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const gate = new StartGate({ atOnce, slowMs });
      const asked: number[] = [];
      const gone = new Set<number>();
      const begun = new Map<number, number>();
      let now = 0;
      const take = (): void => {
        for (const start of gate.take(now)) {
          if (begun.has(start) || gone.has(start)) throw new Error(`start ${start} began twice, or was given up`);
          begun.set(start, now);
        }
        const counting = [...begun].filter(([start, at]) => !gone.has(start) && at + slowMs > now);
        if (counting.length > atOnce) throw new Error(`${counting.length} at once`);
        const waits = asked.filter((start) => !gone.has(start) && !begun.has(start)).length;
        if (waits !== gate.waitingCount) throw new Error(`${waits} wait, it says ${gate.waitingCount}`);
        if (waits > 0 && counting.length < atOnce) throw new Error('there is room, and one waits');
        if (waits > 0 && !(gate.nextWakeAt() > now && gate.nextWakeAt() <= now + slowMs))
          throw new Error(`at ${now} it asks to be woken at ${gate.nextWakeAt()}`);
      };
      for (const one of steps) {
        if (one.kind === 'ask') asked.push(gate.ask(one.pool));
        else if (one.kind === 'wait') now += one.ms;
        else if (asked.length > 0) {
          const start = asked[one.which % asked.length] as number;
          gone.add(start);
          gate.done(start);
        }
        take();
      }
      // Nobody is done any more: all begin all the same.
      for (let at = gate.nextWakeAt(); at !== Infinity; at = gate.nextWakeAt()) {
        now = at;
        take();
      }
      if (asked.some((start) => !gone.has(start) && !begun.has(start))) throw new Error('one waits for ever');
    }),
  );
  t.pass();
});
