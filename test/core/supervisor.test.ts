import test from 'ava';
import fc from 'fast-check';
import {
  affected,
  type RestartType,
  type Ending,
  SUPERVISOR_LIFECYCLE,
  SupervisorCore,
  type SupervisorEffect,
  type Strategy,
} from '../../src/core/supervisor.js';

const STRATEGIES: Strategy[] = ['one-for-one', 'rest-for-one', 'one-for-all'];
const TYPES: RestartType[] = ['permanent', 'transient', 'temporary'];
const ENDINGS: Ending[] = ['normal', 'shutdown', 'crash'];

/** A supervisor whose children obey: every start and stop effect is carried out at once, and what happened is written down. */
function obedient(strategy: Strategy, max = 10, withinMs = 1000) {
  const core = new SupervisorCore({ strategy, intensity: { max, withinMs } });
  const log: string[] = [];
  const failing = new Set<string>();
  let now = 0;
  const run = (effects: SupervisorEffect[]): void => {
    for (const effect of effects) {
      log.push(`${effect.kind} ${effect.id}`);
      if (effect.kind === 'stop') run(core.stopped(effect.id));
      if (effect.kind === 'start') {
        // A name in `failing` fails to start once.
        if (failing.delete(effect.id)) run(core.startFailed(effect.id, now));
        else run(core.started(effect.id));
      }
    }
  };
  return {
    core,
    failing,
    run,
    at(instant: number) {
      now = instant;
    },
    add(id: string, type: RestartType = 'permanent') {
      run(core.add(id, type));
    },
    end(id: string, ending: Ending = 'crash') {
      run(core.ended(id, ending, now));
    },
    /** What happened since the last look. */
    seen: () => log.splice(0),
    phases: () => core.children.map((child) => `${child.id} ${child.phase}`),
  };
}

const kinds = (effects: SupervisorEffect[]): string[] => effects.map((effect) => `${effect.kind} ${effect.id}`);

// OTP's restart matrix. Three children a, b, c; b has the type of the row and ends; a and c are permanent.
const RESTART_OF: Record<Strategy, string[]> = {
  'one-for-one': ['start b'],
  'rest-for-one': ['stop c', 'start b', 'start c'],
  'one-for-all': ['stop c', 'stop a', 'start a', 'start b', 'start c'],
};
const comesBack = (type: RestartType, ending: Ending): boolean =>
  type === 'permanent' || (type === 'transient' && ending === 'crash');

for (const strategy of STRATEGIES) {
  for (const type of TYPES) {
    for (const ending of ENDINGS) {
      const restarts = comesBack(type, ending);
      const then = restarts ? 'is restarted' : type === 'temporary' ? 'is removed' : 'stays down';
      test(`under ${strategy} a ${type} child that ends by ${ending} ${then}`, (t) => {
        const s = obedient(strategy);
        s.add('a');
        s.add('b', type);
        s.add('c');
        s.seen();
        s.end('b', ending);
        if (restarts) t.deepEqual(s.seen(), RESTART_OF[strategy]);
        else t.deepEqual(s.seen(), type === 'temporary' ? ['removed b'] : []);
        const ofB = restarts ? ['b up'] : type === 'temporary' ? [] : ['b down'];
        t.deepEqual(s.phases(), ['a up', ...ofB, 'c up']);
        t.is(s.core.state, 'running');
      });
    }
  }
}

test('affected names the child alone, the child and those after it, or everyone', (t) => {
  t.deepEqual(affected('one-for-one', 1, 4), [1]);
  t.deepEqual(affected('rest-for-one', 1, 4), [1, 2, 3]);
  t.deepEqual(affected('rest-for-one', 3, 4), [3]);
  t.deepEqual(affected('one-for-all', 1, 4), [0, 1, 2, 3]);
});

test('a temporary sibling is stopped and removed, not restarted, when its group restarts', (t) => {
  for (const strategy of ['rest-for-one', 'one-for-all'] as const) {
    const s = obedient(strategy);
    s.add('a');
    s.add('b', 'temporary');
    s.add('c');
    s.seen();
    s.end('a');
    t.deepEqual(s.seen(), ['stop c', 'stop b', 'removed b', 'start a', 'start c'], strategy);
    t.deepEqual(s.phases(), ['a up', 'c up']);
  }
});

test('a transient child that ended well starts again with its group', (t) => {
  const s = obedient('one-for-all');
  s.add('a');
  s.add('b', 'transient');
  s.end('b', 'normal');
  s.seen();
  s.end('a');
  t.deepEqual(s.seen(), ['start a', 'start b']);
});

test('stops are asked for one at a time in reverse order, and starts one at a time in order', (t) => {
  const core = new SupervisorCore({ strategy: 'one-for-all', intensity: { max: 1, withinMs: 1000 } });
  t.deepEqual(kinds(core.add('a', 'permanent')), ['start a']);
  t.deepEqual(kinds(core.add('b', 'permanent')), [], 'b waits until a is up');
  t.deepEqual(kinds(core.add('c', 'permanent')), []);
  t.deepEqual(kinds(core.started('a')), ['start b']);
  t.deepEqual(kinds(core.started('b')), ['start c']);
  t.deepEqual(kinds(core.started('c')), []);

  t.deepEqual(kinds(core.ended('b', 'crash', 5)), ['stop c']);
  t.is(core.state, 'restarting');
  t.deepEqual(kinds(core.stopped('c')), ['stop a']);
  t.deepEqual(kinds(core.stopped('a')), ['start a']);
  t.deepEqual(kinds(core.started('a')), ['start b']);
  t.deepEqual(kinds(core.started('b')), ['start c']);
  t.is(core.state, 'restarting');
  t.deepEqual(kinds(core.started('c')), []);
  t.is(core.state, 'running');
});

test('under one-for-one children start side by side, at the beginning and after crashes', (t) => {
  const core = new SupervisorCore({ strategy: 'one-for-one', intensity: { max: 5, withinMs: 1000 } });
  t.deepEqual(kinds(core.add('a', 'permanent')), ['start a']);
  t.deepEqual(kinds(core.add('b', 'permanent')), ['start b']);
  core.started('a');
  core.started('b');
  t.deepEqual(kinds(core.ended('a', 'crash', 1)), ['start a']);
  t.deepEqual(kinds(core.ended('b', 'crash', 2)), ['start b']);
  core.started('b');
  t.is(core.state, 'restarting');
  core.started('a');
  t.is(core.state, 'running');
});

test('a child that ends while it is to be stopped counts as stopped and costs no restart', (t) => {
  const core = new SupervisorCore({ strategy: 'one-for-all', intensity: { max: 1, withinMs: 1000 } });
  for (const id of ['a', 'b', 'c']) {
    core.add(id, 'permanent');
    core.started(id);
  }
  t.deepEqual(kinds(core.ended('a', 'crash', 0)), ['stop c']);
  t.deepEqual(kinds(core.ended('b', 'crash', 1)), [], 'b was waiting for its turn');
  t.deepEqual(kinds(core.ended('c', 'crash', 2)), ['start a'], 'c was being stopped');
  t.is(core.state, 'restarting');
});

test('under rest-for-one a sibling that fails to start again restarts those from itself on, and counts', (t) => {
  const s = obedient('rest-for-one', 2);
  for (const id of ['a', 'b', 'c', 'd']) s.add(id);
  s.seen();
  s.failing.add('c');
  s.end('b');
  t.deepEqual(s.seen(), ['stop d', 'stop c', 'start b', 'start c', 'start c', 'start d']);
  t.is(s.core.state, 'running');
  s.end('d');
  t.is(s.core.state, 'failed', 'crash, failed start and crash are three restarts');
});

test('under one-for-all a sibling that fails to start again restarts the whole procedure, and counts', (t) => {
  const s = obedient('one-for-all', 2);
  for (const id of ['a', 'b', 'c']) s.add(id);
  s.seen();
  s.failing.add('b');
  s.end('a');
  t.deepEqual(s.seen(), ['stop c', 'stop b', 'start a', 'start b', 'stop a', 'start a', 'start b', 'start c']);
  t.is(s.core.state, 'running');
  s.end('a');
  t.is(s.core.state, 'failed');
});

test('a child further up that crashes during a restart widens it', (t) => {
  const core = new SupervisorCore({ strategy: 'rest-for-one', intensity: { max: 5, withinMs: 1000 } });
  for (const id of ['a', 'b', 'c']) {
    core.add(id, 'permanent');
    core.started(id);
  }
  t.deepEqual(kinds(core.ended('c', 'crash', 0)), ['start c']);
  t.deepEqual(kinds(core.ended('a', 'crash', 1)), ['stop c'], 'c was starting and must end first');
  t.deepEqual(kinds(core.started('c')), [], 'the start crossed the stop');
  t.deepEqual(kinds(core.stopped('c')), ['stop b']);
  t.deepEqual(kinds(core.stopped('b')), ['start a']);
});

test('one restart more than max within the window escalates: everyone is stopped in reverse order, then failed', (t) => {
  const s = obedient('one-for-one', 2, 1000);
  for (const id of ['a', 'b', 'c']) s.add(id);
  s.seen();
  s.at(0);
  s.end('b');
  s.at(500);
  s.end('c');
  t.is(s.core.state, 'running');
  s.at(1000);
  const effects = s.core.ended('b', 'crash', 1000);
  t.deepEqual(effects[0], {
    kind: 'escalate',
    id: 'b',
    why: 'child "b" ended (crash); more than 2 restarts within 1000 ms',
  });
  t.is(s.core.state, 'escalating');
  s.seen();
  s.run(effects);
  t.deepEqual(s.seen(), ['escalate b', 'stop c', 'stop a']);
  t.is(s.core.state, 'failed');
  t.deepEqual(s.phases(), ['a down', 'b failed', 'c down']);
});

test('a restart as old as the window still counts, one older does not', (t) => {
  for (const [third, state] of [
    [1000, 'failed'],
    [1000.5, 'running'],
  ] as const) {
    const s = obedient('one-for-one', 2, 1000);
    s.add('a');
    for (const instant of [0, 500, third]) {
      s.at(instant);
      s.end('a');
    }
    t.is(s.core.state, state);
  }
});

test('with max 0 under one-for-one a child that fails stays failed and the others go on', (t) => {
  const s = obedient('one-for-one', 0);
  for (const id of ['a', 'b']) s.add(id);
  s.seen();
  const effects = s.core.ended('a', 'crash', 7);
  t.deepEqual(effects, [{ kind: 'failed', id: 'a', why: 'child "a" ended (crash); intensity.max is 0: no restarts' }]);
  t.deepEqual(s.phases(), ['a failed', 'b up']);
  t.is(s.core.state, 'running');
  s.run(s.core.remove('a'));
  s.add('a');
  t.deepEqual(s.phases(), ['b up', 'a up'], 'its name is free again after remove');
});

test('with max 0 and children that depend on each other the first failure escalates', (t) => {
  for (const strategy of ['rest-for-one', 'one-for-all'] as const) {
    const s = obedient(strategy, 0);
    for (const id of ['a', 'b']) s.add(id);
    s.seen();
    s.end('b');
    t.deepEqual(s.seen(), ['escalate b', 'stop a']);
    t.is(s.core.state, 'failed');
  }
});

test('a new child that fails to start is removed and costs no restart', (t) => {
  const s = obedient('one-for-all', 0);
  s.add('a');
  s.failing.add('b');
  s.seen();
  s.add('b');
  t.deepEqual(s.seen(), ['start b', 'removed b']);
  t.deepEqual(s.phases(), ['a up']);
  t.is(s.core.state, 'running');
});

test('a new child that ends before it is up, in whatever way, failed to start', (t) => {
  for (const ending of ENDINGS) {
    const core = new SupervisorCore({ strategy: 'one-for-one', intensity: { max: 3, withinMs: 1000 } });
    core.add('a', 'permanent');
    t.deepEqual(kinds(core.ended('a', ending, 0)), ['removed a'], ending);
  }
});

test('a child added during a restart starts after the restart, last', (t) => {
  const core = new SupervisorCore({ strategy: 'one-for-all', intensity: { max: 3, withinMs: 1000 } });
  core.add('a', 'permanent');
  core.started('a');
  t.deepEqual(kinds(core.ended('a', 'crash', 0)), ['start a']);
  t.deepEqual(kinds(core.add('b', 'permanent')), []);
  t.is(core.state, 'restarting');
  t.deepEqual(kinds(core.started('a')), ['start b']);
  t.is(core.state, 'running', 'the restart is over; that b is new and still starts is no part of it');
});

test('removing a child stops it and leaves its siblings alone', (t) => {
  const s = obedient('one-for-all');
  for (const id of ['a', 'b', 'c']) s.add(id);
  s.seen();
  s.run(s.core.remove('b'));
  t.deepEqual(s.seen(), ['stop b', 'removed b']);
  t.deepEqual(s.phases(), ['a up', 'c up']);
  t.deepEqual(s.core.remove('nobody'), []);
});

test('stopAll stops everyone in reverse order, one at a time, and may be called again', (t) => {
  const core = new SupervisorCore({ strategy: 'one-for-one', intensity: { max: 3, withinMs: 1000 } });
  for (const id of ['a', 'b', 'c']) {
    core.add(id, 'permanent');
    if (id !== 'c') core.started(id);
  }
  t.deepEqual(kinds(core.stopAll()), ['stop c'], 'a child that is still starting is stopped too');
  t.deepEqual(kinds(core.stopAll()), []);
  t.deepEqual(kinds(core.startFailed('c', 1)), ['stop b']);
  t.deepEqual(kinds(core.ended('a', 'crash', 2)), [], 'nothing is restarted any more');
  t.is(core.state, 'stopping');
  core.stopped('b');
  t.is(core.state, 'stopped');
  t.deepEqual(core.stopAll(), []);
  t.is(core.state, 'stopped');
});

test('stopAll goes by the order that the children were given last', (t) => {
  const core = new SupervisorCore({ strategy: 'one-for-all', intensity: { max: 3, withinMs: 1000 } });
  for (const id of ['a', 'b', 'c']) {
    core.add(id, 'permanent');
    core.started(id);
  }
  core.arrange(['c', 'a']);
  t.deepEqual(kinds(core.stopAll()), ['stop a']);
  t.deepEqual(kinds(core.stopped('a')), ['stop c']);
  t.deepEqual(kinds(core.stopped('c')), ['stop b'], 'one that was not named is first in the order');
});

test('stopAll of a supervisor without children is stopped at once', (t) => {
  const core = new SupervisorCore({ strategy: 'one-for-all', intensity: { max: 3, withinMs: 1000 } });
  core.stopAll();
  t.is(core.state, 'stopped');
});

test('no child can be added to a supervisor that ends or has ended', (t) => {
  const core = new SupervisorCore({ strategy: 'one-for-one', intensity: { max: 3, withinMs: 1000 } });
  core.add('a', 'permanent');
  core.stopAll();
  t.throws(() => core.add('b', 'permanent'), { code: 'INTERNAL' });
  core.stopped('a');
  t.throws(() => core.add('b', 'permanent'), { code: 'INTERNAL' });
});

test('late reports about a life that is over change nothing', (t) => {
  const core = new SupervisorCore({ strategy: 'one-for-one', intensity: { max: 3, withinMs: 1000 } });
  core.add('a', 'temporary');
  core.started('a');
  core.ended('a', 'crash', 0);
  for (const effects of [core.ended('a', 'crash', 1), core.stopped('a'), core.started('a'), core.startFailed('a', 1)]) {
    t.deepEqual(effects, []);
  }
  t.is(core.state, 'running');
});

test('wrong options and wrong children are refused by exact errors', (t) => {
  const good = { strategy: 'one-for-one', intensity: { max: 1, withinMs: 1000 } } as const;
  const refusals: [unknown, string][] = [
    [
      { ...good, strategy: 'one_for_one' },
      'strategy must be one of one-for-one, rest-for-one, one-for-all; got "one_for_one"',
    ],
    [{ ...good, intensity: { max: -1, withinMs: 1 } }, 'intensity.max must be an integer of at least 0; got -1'],
    [
      { ...good, intensity: { max: Number.NaN, withinMs: 1 } },
      'intensity.max must be an integer of at least 0; got NaN',
    ],
    [{ ...good, intensity: { max: 1.5, withinMs: 1 } }, 'intensity.max must be an integer of at least 0; got 1.5'],
    [
      { ...good, intensity: { max: 1, withinMs: -1 } },
      'intensity.withinMs must be a finite number of milliseconds, at least 0; got -1',
    ],
    [
      { ...good, intensity: { max: 1, withinMs: Number.NaN } },
      'intensity.withinMs must be a finite number of milliseconds, at least 0; got NaN',
    ],
    [{ ...good, intensity: null }, 'intensity must be an object with max and withinMs; got null'],
    [{ ...good, extra: 1 }, 'supervisor must be an object with only strategy and intensity; got "extra"'],
  ];
  for (const [options, message] of refusals) {
    // The types refuse these already; plain JavaScript and config files do not know types.
    t.throws(() => new SupervisorCore(options as never), { instanceOf: TypeError, message });
  }
  const core = new SupervisorCore(good);
  core.add('a', 'permanent');
  t.throws(() => core.add('a', 'permanent'), {
    instanceOf: TypeError,
    message: 'child id "a" is already taken; every child has its own',
  });
  t.throws(() => core.add('b', 'eternal' as never), {
    instanceOf: TypeError,
    message: 'type of child "b" must be one of permanent, transient, temporary; got "eternal"',
  });
  t.throws(() => core.add('', 'permanent'), { message: 'child id must be a non-empty string; got ""' });
  t.deepEqual(
    core.children.map((child) => child.id),
    ['a'],
    'a refused child leaves nothing behind',
  );
});

test('every state of the lifecycle table can be reached and leads only to states of the table', (t) => {
  const states = new Set(Object.keys(SUPERVISOR_LIFECYCLE));
  const reached = new Set<string>(['running']);
  for (const row of Object.values(SUPERVISOR_LIFECYCLE)) for (const next of Object.values(row)) reached.add(next);
  t.deepEqual([...reached].sort(), [...states].sort());
});

// Model: the outside world, which carries effects out when a random command says so.
interface Life {
  phase: 'starting' | 'up' | 'stopping';
}
type Command =
  | { kind: 'add'; type: RestartType }
  | { kind: 'end'; pick: number; ending: Ending }
  | { kind: 'finish'; pick: number; well: boolean }
  | { kind: 'remove'; pick: number }
  | { kind: 'wait'; ms: number }
  | { kind: 'stopAll' };
const pick = fc.nat(20);
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('add' as const), type: fc.constantFrom(...TYPES) }) },
  {
    weight: 15,
    arbitrary: fc.record({ kind: fc.constant('end' as const), pick, ending: fc.constantFrom(...ENDINGS) }),
  },
  { weight: 27, arbitrary: fc.record({ kind: fc.constant('finish' as const), pick, well: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), pick }) },
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(150) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('stopAll' as const) }) },
);
const scenario = {
  strategy: fc.constantFrom(...STRATEGIES),
  max: fc.nat(3),
  commands: fc.array(command, { maxLength: 80, size: 'max' }),
};

test('no order of events starts a live child, stops a dead one, or works on two dependent children at once', (t) => {
  let escalations = 0;
  let restarts = 0;
  fc.assert(
    fc.property(scenario.strategy, scenario.max, scenario.commands, (strategy, max, commands) => {
      const withinMs = 100;
      const core = new SupervisorCore({ strategy, intensity: { max, withinMs } });
      const world = new Map<string, Life>();
      const names = new Set<string>();
      let now = 0;
      let added = 0;
      const dependent = strategy !== 'one-for-one';
      const removes = commands.some((c) => c.kind === 'remove');
      const place = (id: string): number => core.children.findIndex((child) => child.id === id);
      const before = (id: string) => core.children.slice(0, place(id));
      const after = (id: string) => core.children.slice(place(id) + 1);
      const run = (effects: SupervisorEffect[]): void => {
        for (const { kind, id } of effects) {
          const life = world.get(id);
          if (kind === 'start') {
            if (life !== undefined) throw new Error(`start of "${id}", which is ${life.phase}`);
            if (dependent && before(id).some((child) => child.phase !== 'up' && child.phase !== 'down')) {
              throw new Error(`start of "${id}" before its turn`);
            }
            world.set(id, { phase: 'starting' });
          } else if (kind === 'stop') {
            if (life === undefined || life.phase === 'stopping') throw new Error(`stop of "${id}" out of turn`);
            if (dependent && !removes && after(id).some((child) => world.has(child.id))) {
              throw new Error(`stop of "${id}" before one that started later`);
            }
            life.phase = 'stopping';
          } else if (kind === 'removed') {
            if (life !== undefined) throw new Error(`removed "${id}", which is ${life.phase}`);
            names.delete(id);
          } else if (kind === 'escalate') {
            escalations += 1;
          }
        }
        if (dependent) {
          const phases = [...world.values()].map((life) => life.phase);
          if (phases.filter((phase) => phase === 'stopping').length > 1) throw new Error('two stops at once');
          if (phases.filter((phase) => phase === 'starting').length > 1) throw new Error('two starts at once');
        }
        for (const child of core.children) {
          const live = child.phase === 'starting' || child.phase === 'up' || child.phase === 'stopping';
          if (child.phase !== 'doomed' && live !== world.has(child.id)) {
            throw new Error(`"${child.id}" is ${child.phase}, the world says ${world.has(child.id)}`);
          }
        }
        if (core.children.length !== names.size) throw new Error('a child vanished without being removed');
      };
      const nth = (index: number, want: (life: Life) => boolean): string | undefined => {
        const found = [...world].filter(([, life]) => want(life)).map(([id]) => id);
        return found[index % Math.max(1, found.length)];
      };
      const finish = (id: string, well: boolean): void => {
        const life = world.get(id);
        if (life?.phase === 'stopping') {
          world.delete(id);
          run(well ? core.stopped(id) : core.ended(id, 'crash', now));
        } else if (life?.phase === 'starting' && well) {
          life.phase = 'up';
          run(core.started(id));
        } else if (life?.phase === 'starting') {
          world.delete(id);
          run(core.startFailed(id, now));
        }
      };
      for (const c of commands) {
        if (c.kind === 'wait') now += c.ms;
        if (c.kind === 'add' && (core.state === 'running' || core.state === 'restarting')) {
          const id = `child-${added}`;
          added += 1;
          names.add(id);
          run(core.add(id, c.type));
        }
        if (c.kind === 'end') {
          const id = nth(c.pick, () => true);
          if (id === undefined) continue;
          world.delete(id);
          run(core.ended(id, c.ending, now));
          if (core.state === 'restarting') restarts += 1;
        }
        if (c.kind === 'finish') {
          const id = nth(c.pick, (life) => life.phase !== 'up');
          if (id !== undefined) finish(id, c.well);
        }
        if (c.kind === 'remove') {
          const id = [...names][c.pick % Math.max(1, names.size)];
          if (id !== undefined) run(core.remove(id));
        }
        if (c.kind === 'stopAll') run(core.stopAll());
      }
      // From here on everything obeys: the supervisor must come to rest, with everyone up or everyone gone.
      for (let rounds = 0; rounds < 500; rounds += 1) {
        const id = nth(0, (life) => life.phase !== 'up');
        if (id === undefined) break;
        finish(id, true);
      }
      if (core.state === 'running') {
        const resting = core.children.every((child) => ['up', 'down', 'failed'].includes(child.phase));
        if (!resting) throw new Error('a child waits for ever');
        if (core.children.some((child) => child.type === 'permanent' && child.phase === 'down')) {
          throw new Error('a permanent child stayed down');
        }
      } else {
        if (core.state !== 'failed' && core.state !== 'stopped') throw new Error(`came to rest in ${core.state}`);
        if (world.size > 0) throw new Error('somebody outlived the supervisor');
      }
    }),
    { numRuns: 1000 },
  );
  t.true(escalations > 20 && restarts > 50, `too few interesting runs: ${escalations}, ${restarts}`);
});

test('whatever the crashes, escalation comes exactly with the first one beyond max in the window', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), fc.array(fc.nat(60), { maxLength: 40, size: 'max' }), (max, gaps) => {
      const withinMs = 100;
      const s = obedient('one-for-one', max, withinMs);
      s.add('a');
      const counted: number[] = [];
      let now = 0;
      for (const gap of gaps) {
        now += gap;
        s.at(now);
        s.end('a');
        const tooMany = counted.filter((at) => now - at <= withinMs).length >= max;
        counted.push(now);
        if ((s.core.state === 'failed') !== tooMany) throw new Error(`at ${now}: ${s.core.state}`);
        if (tooMany) return;
      }
    }),
    { numRuns: 1000 },
  );
  t.pass();
});
