import test from 'ava';
import fc from 'fast-check';
import { type Config, configSchema } from '../../src/config/schema.js';
import { changedKeys, followedAfter, type Plan, planOf, type RunningPool } from '../../src/control/desired-state.js';
import { ensembleDir, ensembleText } from '../actor/ensemble-graph.js';

type Entry = Readonly<{
  actor?: string;
  model?: string;
  version?: string | number;
  replicas?: number | { min?: number; max?: number };
  isolation?: 'thread' | 'process';
}>;

const config = (pools: Readonly<Record<string, Entry>>, more: object = {}): Config =>
  configSchema.parse({
    pools: Object.fromEntries(Object.entries(pools).map(([name, entry]) => [name, { actor: './a.js', ...entry }])),
    ...more,
  });
const running = (pools: Readonly<Record<string, Partial<RunningPool>>>): Map<string, RunningPool> =>
  new Map(
    Object.entries(pools).map(([name, pool]) => [
      name,
      { state: 'running', version: '1', replicas: 1, meant: '1', ...pool },
    ]),
  );
const texts = ({ steps }: Plan): string[] =>
  steps.map(({ action, pool, from, to, drift }) =>
    [action, pool, from, to, drift && 'drift'].filter(Boolean).join(' '),
  );

test('an edited version is a swap, edited replicas a scale, a new pool a spawn and one that is gone a stop', (t) => {
  const before = config({ a: { version: 1 }, b: { version: 1 }, gone: {} });
  const after = config({ a: { version: 2 }, b: { version: 1, replicas: 3 }, fresh: {} });
  const plan = planOf(before, after, running({ a: { meant: '2' }, b: {}, gone: {}, code: {} }));
  t.deepEqual(texts(plan), ['spawn fresh', 'scale b 1 3', 'swap a 1 2', 'stop gone']);
  t.deepEqual(plan.nextStart, []);
});

test('an ensemble is spawned after the pools that it may ask, and stopped before them', (t) => {
  const file = config({ e: { actor: 'ensemble', model: 'm' }, a: {}, z: {} });
  t.deepEqual(texts(planOf(config({}), file, running({}))), ['spawn a', 'spawn z', 'spawn e']);
  const all = running({ a: {}, e: {}, z: {} });
  const turned = config({ a: {}, e: { actor: 'ensemble', model: 'm' }, z: {} });
  t.deepEqual(texts(planOf(turned, config({}), all)), ['stop e', 'stop a', 'stop z']);
});

test('an ensemble of ensembles is spawned after those that it asks, and stopped before them', (t) => {
  const one = (model: string): string =>
    ensembleDir(t, ensembleText(['in'], ['out'], [{ model, takes: { in: 'in' }, gives: { out: 'out' } }]));
  const ensemble = (model: string): Entry => ({ actor: 'ensemble', model: one(model) });
  const pools = { top: ensemble('outer'), outer: ensemble('inner'), inner: ensemble('leaf'), leaf: {} };
  const outerFirst = config(pools);
  const innerFirst = config(Object.fromEntries(Object.entries(pools).reverse()));
  const spawns = ['spawn leaf', 'spawn inner', 'spawn outer', 'spawn top'];
  const stops = ['stop top', 'stop outer', 'stop inner', 'stop leaf'];
  const all = running({ leaf: {}, inner: {}, outer: {}, top: {} });
  for (const file of [outerFirst, innerFirst]) {
    t.deepEqual(texts(planOf(config({}), file, running({}))), spawns);
    t.deepEqual(texts(planOf(file, config({}), all)), stops);
  }
});

test('what was changed by hand, has moved with an alias, failed or went away is drift, and the file is right', (t) => {
  const file = config({ a: { version: 'latest' }, b: { replicas: 2 }, c: {}, d: {} });
  const plan = planOf(
    file,
    file,
    running({ a: { version: '1', meant: '2' }, b: { replicas: 5 }, c: { state: 'failed' } }),
  );
  t.deepEqual(texts(plan), ['spawn d drift', 'restart c drift', 'scale b 5 2 drift', 'swap a 1 2 drift']);
});

test('what cannot change while records flow is named by its key, without values', (t) => {
  const before = config({ a: { isolation: 'thread' } });
  const after = config({ a: { isolation: 'process', version: 2 }, b: {} }, { tracing: true });
  const plan = planOf(before, after, running({ a: { meant: '2' }, b: {} }));
  t.deepEqual(plan.nextStart, ['pools.a.isolation', 'pools.b', 'tracing']);
  t.deepEqual(texts(plan), ['swap a 1 2'], 'b was spawned by code and is left alone');
  t.deepEqual(planOf(before, before, running({ a: { state: 'ended' } })).nextStart, ['pools.a']);
});

test('within bounds the number of replicas is no drift; other bounds are for the next start', (t) => {
  const file = config({ a: { replicas: { max: 4 } } });
  t.deepEqual(planOf(file, file, running({ a: { replicas: 3 } })), { steps: [], nextStart: [] });
  const wider = config({ a: { replicas: { max: 5 } } });
  t.deepEqual(planOf(file, wider, running({ a: { replicas: 3 } })), { steps: [], nextStart: ['pools.a.replicas.max'] });
  const fixed = config({ a: { replicas: 2 } });
  t.deepEqual(planOf(file, fixed, running({ a: { replicas: 3 } })), { steps: [], nextStart: ['pools.a.replicas'] });
  t.deepEqual(planOf(fixed, file, running({ a: { replicas: 3 } })), { steps: [], nextStart: ['pools.a.replicas'] });
});

test('a system that was made by code follows a file from its first apply on', (t) => {
  const file = config({ a: {} });
  t.deepEqual(texts(planOf(undefined, file, running({ code: {} }))), ['spawn a']);
  const followed = followedAfter(undefined, file, planOf(undefined, file, new Map()).steps);
  t.deepEqual(Object.keys(followed.pools), ['a']);
});

const entry = fc.record({ version: fc.integer({ min: 1, max: 3 }), replicas: fc.integer({ min: 1, max: 3 }) });
const pools = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd'), entry);

test('property: when every step of a plan was taken, the next plan is empty, from any state to any file', (t) => {
  fc.assert(
    fc.property(pools, pools, pools, fc.nat(), (old, wanted, alive, cut) => {
      const [before, after] = [config(old), config(wanted)];
      const state = new Map<string, RunningPool>();
      for (const [name, { version, replicas }] of Object.entries(alive)) {
        if (old[name] === undefined) continue;
        state.set(name, { state: 'running', version: String(version), replicas, meant: undefined });
      }
      const look = (): Map<string, RunningPool> =>
        new Map([...state].map(([name, pool]) => [name, { ...pool, meant: after.pools[name]?.version }]));
      let followed = before;
      // Broken off anywhere, and gone on with from there.
      for (const last of [cut % 6, Infinity]) {
        const done = planOf(followed, after, look()).steps.slice(0, last);
        for (const { action, pool, to } of done) {
          const now = state.get(pool);
          if (action === 'stop') state.delete(pool);
          else if (action === 'spawn') {
            const { version, replicas } = after.pools[pool] as Config['pools'][string];
            state.set(pool, { state: 'running', version, replicas: Number(replicas), meant: undefined });
          } else if (now !== undefined && action === 'scale') state.set(pool, { ...now, replicas: Number(to) });
          else if (now !== undefined && action === 'swap') state.set(pool, { ...now, version: String(to) });
        }
        followed = followedAfter(followed, after, done);
      }
      const plan = planOf(followed, after, look());
      return plan.steps.length === 0 && plan.nextStart.length === 0 && state.size === Object.keys(wanted).length;
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('keys that differ are told once, deep ones and those of lists too', (t) => {
  const keys = changedKeys({ a: { b: 1, c: [1, { d: 2 }] }, e: undefined }, { a: { b: 2, c: [1, { d: 3 }] } }, '');
  t.deepEqual(keys, ['a.b', 'a.c.1.d']);
  t.deepEqual(changedKeys({ a: [1] }, { a: [1, 2] }, ''), ['a']);
});
