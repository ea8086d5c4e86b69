import test from 'ava';
import { Scheduler } from '../../src/testing/index.js';
import { Chance } from '../../src/testing/seeds.js';

interface Planned {
  readonly at: number;
  readonly tie: number;
  readonly id: number;
}

/** The ties of a scheduler with this seed, in the order of scheduling. */
function* ties(seed: number): Generator<number, never> {
  let tie = seed | 1;
  for (;;) {
    tie ^= tie << 13;
    tie ^= tie >>> 17;
    tie ^= tie << 5;
    yield tie >>> 0;
  }
}

// A few events wait in a list, many in a list and a heap: runs of both kinds, and of those that go from one to the other.
test('events come by instant, those of one instant in the order of the seed, however many wait', (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const chance = new Chance(seed, 0);
    const scheduler = new Scheduler(seed);
    const next = ties(seed);
    const plan: Planned[] = [];
    const many = seed % 3 === 0 ? 20 : 600;
    const instants = seed % 2 === 0 ? 30 : 1e6;
    const comesBefore = (one: Planned, other: Planned): boolean =>
      one.at < other.at || (one.at === other.at && one.tie < other.tie);
    for (let id = 0, grows = true; id < 3000; id++) {
      if (plan.length > many) grows = false;
      if (plan.length === 0) grows = true;
      if (chance.next() < (grows ? 0.7 : 0.3)) {
        const asked = scheduler.now + Math.floor((chance.next() - 0.1) * instants);
        const at = Math.max(scheduler.now, asked);
        plan.push({ at, tie: next.next().value, id });
        scheduler.schedule(asked, id % 256, id, plan.at(-1));
        continue;
      }
      let first = plan[0];
      for (const one of plan) if (first !== undefined && comesBefore(one, first)) first = one;
      t.is(scheduler.nextAt, first?.at ?? Infinity);
      t.is(scheduler.pop(), first !== undefined);
      t.is(scheduler.size, Math.max(0, plan.length - 1));
      if (first === undefined) continue;
      t.is(scheduler.ref, first);
      t.is(scheduler.a, first.id);
      t.is(scheduler.kind, first.id % 256);
      t.is(scheduler.now, first.at);
      plan.splice(plan.indexOf(first), 1);
    }
  }
});

test('a scheduler that begins anew knows nothing of before, and gives the order of its seed', (t) => {
  const run = (scheduler: Scheduler): unknown[] => {
    for (let id = 0; id < 300; id++) scheduler.schedule(id % 7, 1, id, id);
    return Array.from({ length: 200 }, () => scheduler.pop() && scheduler.ref);
  };
  const used = new Scheduler(1);
  run(used);
  used.reset(2);
  t.is(used.size, 0);
  t.is(used.nextAt, Infinity);
  t.is(used.pop(), false);
  t.deepEqual(run(used), run(new Scheduler(2)));
});
