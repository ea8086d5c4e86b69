import { appendFileSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  createSystem,
  defineActor,
  type LogEntry,
  type ModelsOptions,
  type Pool,
  silentLog,
  type System,
} from 'troupe';
import { ModelFollower } from '../../src/control/model-follower.js';
import { Convergence } from '../../src/control/convergence.js';
import { controlParts } from '../../src/control/system.js';
import { ModelWatch } from '../../src/models/watch.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { addTree, makeTree, type Tree } from '../models/model-tree.js';

const version = defineActor<unknown, string, string>({
  load: ({ version: loaded = '', modelDir = '' }) => {
    if (modelDir.includes('bad')) throw new Error('weights are missing');
    return loaded;
  },
  predict: (batch: unknown[], { state }) => batch.map(() => state),
});

interface Stage {
  readonly root: string;
  readonly system: System;
  readonly log: LogEntry[];
  /** Lets so much time pass that what lies there has settled. */
  settle(): Promise<void>;
}

/** A system that follows its root, where the time of the watch is moved by hand. */
async function stage(t: ExecutionContext, tree: Tree, models: ModelsOptions = {}): Promise<Stage> {
  const root = makeTree(t, tree);
  const log: LogEntry[] = [];
  const note = (entry: LogEntry): void => void log.push(entry);
  const system = createSystem({ models: { ...models, roots: [root] }, log: note });
  const clock = new VirtualClock();
  const watch = new ModelWatch(system.models, { intervalMs: 100, settleMs: 250 }, clock);
  const { operations } = controlParts(system);
  const convergence = new Convergence(system, undefined);
  const follower = new ModelFollower({ system, watch, operations, convergence, log: note });
  t.teardown(async () => {
    await follower.close();
    await system.stop({ timeoutMs: 0 });
  });
  await watch.look();
  const settle = async (): Promise<void> => {
    for (let look = 0; look < 5; look += 1) {
      clock.advance(100);
      await watch.look();
    }
  };
  return { root, system, log, settle };
}

const swapped = (pool: Pool): Promise<unknown> => new Promise((resolve) => pool.once('swapped', resolve));
const swaps = (log: readonly LogEntry[]): string[] =>
  log.filter(({ level }) => level === 'audit').map(({ message }) => message.replace(/ after \d+ ms/, ''));

test('a pool whose version is latest takes up what comes, and one that names a version stays', async (t) => {
  const { root, system, log, settle } = await stage(t, { 'net/1/m': '' }, { aliases: { net: { stable: 1 } } });
  const pool = await system.spawn('p', { actor: version, model: 'net' });
  const byPath = await system.spawn('path', { actor: version, model: path.join(root, 'net') });
  const fixed = await system.spawn('fixed', { actor: version, model: 'net', version: 1 });
  const alias = await system.spawn('alias', { actor: version, model: 'net', version: 'stable' });
  const both = [swapped(pool), swapped(byPath)];
  addTree(root, { 'net/2/m': 'two', 'other/7/m': '' });
  await settle();
  await Promise.all(both);
  t.deepEqual(
    [pool, byPath, fixed, alias].map(({ version: now }) => now),
    ['2', '2', '1', '1'],
  );
  t.true(swaps(log).includes('begun: swap pool=p version=2 by models.watch'));
});

test('a version that is being copied is not taken up before it is whole', async (t) => {
  const { root, system, log, settle } = await stage(t, { 'net/1/m': '' });
  const pool = await system.spawn('p', { actor: version, model: 'net' });
  mkdirSync(path.join(root, 'net/2'));
  writeFileSync(path.join(root, 'net/2/model.onnx.part'), 'half');
  await settle();
  appendFileSync(path.join(root, 'net/2/model.onnx.part'), 'rest');
  await settle();
  t.deepEqual([pool.version, swaps(log)], ['1', []]);
  const done = swapped(pool);
  renameSync(path.join(root, 'net/2/model.onnx.part'), path.join(root, 'net/2/model.onnx'));
  await settle();
  await done;
  t.is(await pool.ask(0), '2');
});

test('an older version, and one that cannot be loaded, leave what serves; mended, it is taken up', async (t) => {
  const { root, system, log, settle } = await stage(t, { 'bad/5/m': '', 'net/5/m': '' });
  const pool = await system.spawn('p', { actor: version, model: 'net' });
  addTree(root, { 'net/4/m': '' });
  await settle();
  t.deepEqual(swaps(log), []);
  const mended = defineActor<unknown, string, string>({
    load: ({ version: loaded = '', modelConfig }) => {
      if (loaded === '6' && modelConfig === undefined) throw new Error('weights are missing');
      return loaded;
    },
    predict: (batch: unknown[], { state }) => batch.map(() => state),
  });
  const second = await system.spawn('q', { actor: mended, model: 'net' });
  const failed = new Promise((resolve) => second.once('swap-failed', resolve));
  const done = swapped(pool);
  addTree(root, { 'net/6/m': '' });
  await settle();
  await Promise.all([failed, done]);
  t.is(await second.ask(0), '5', 'the old version serves on');
  const better = swapped(second);
  addTree(root, { 'net/6/m': 'whole', 'net/config.pbtxt': 'max_batch_size: 8' });
  await settle();
  await better;
  t.is(await second.ask(0), '6');
});

test('what is on trial is never ended by a file: the newest waits for its end', async (t) => {
  const { root, system, settle } = await stage(t, { 'net/1/m': '', 'net/2/m': '' });
  const pool = await system.spawn('p', { actor: version, model: 'net', version: 'latest' });
  const baking = new Promise<void>((resolve) => {
    pool.on('rollout', ({ step }) => {
      if (step === 'baking') resolve();
    });
  });
  const trial = pool.swap(1, { canary: 0.5, bakeMs: 600_000 });
  await baking;
  for (const next of ['3', '4']) {
    addTree(root, { [`net/${next}/m`]: next });
    await settle();
  }
  t.like(pool.versions(), { current: '2', next: '1', step: 'baking' });
  const seen: (string | undefined)[] = [];
  const last = new Promise<void>((resolve) => {
    pool.on('swapped', ({ to }) => {
      seen.push(to);
      if (to === '4') resolve();
    });
  });
  await pool.promote();
  await trial;
  await last;
  t.deepEqual(seen, ['1', '4']);
});

test('a model of a pool that holds many follows as well', async (t) => {
  const { root, system, settle } = await stage(t, { 'net/1/m': '', 'idle/1/m': '' });
  const pool = await system.spawn('p', { actor: version, models: { maxBytes: 1000 } });
  t.is(await pool.ask(0, { model: 'net' }), '1');
  const done = new Promise((resolve) => pool.once('model-swapped', resolve));
  addTree(root, { 'net/2/m': '', 'idle/2/m': '' });
  await settle();
  t.deepEqual(await done, { model: 'net', from: '1', to: '2' });
  t.is(await pool.ask(0, { model: 'net' }), '2');
  t.is(await pool.ask(0, { model: 'net@1' }), '1');
});

test('what cannot be used, and what was changed under a version that serves, is told', async (t) => {
  const { root, system, log, settle } = await stage(t, { 'net/1/m': 'one' });
  await system.spawn('p', { actor: version, model: 'net' });
  writeFileSync(path.join(root, 'net/1/m'), 'other');
  addTree(root, { 'sick/1/m': '', 'sick/config.pbtxt': 'nonsense: 1' });
  await settle();
  const warnings = log.filter(({ level }) => level === 'warn').map(({ message }) => message);
  t.true(warnings.some((text) => /^models\.watch: model sick cannot be used: .*there is no field nonsense/.test(text)));
  t.true(warnings.includes('models.watch: version 1 of net was changed on disk; what was loaded serves on'));
  t.deepEqual(swaps(log), []);
});

test('models.watch of a system does it by itself, ends with it, and needs roots', async (t) => {
  const root = makeTree(t, { 'net/1/m': '' });
  const models = { roots: [root], watch: { intervalMs: 10, settleMs: 20 } };
  const system = createSystem({ models, log: silentLog });
  const pool = await system.spawn('p', { actor: version, model: 'net' });
  const done = swapped(pool);
  addTree(root, { 'net/2/m': '' });
  await done;
  t.is(await pool.ask(0), '2');
  await system.stop();
  t.throws(() => createSystem({ models: { watch: true } }), { message: /models\.watch: needs roots/ });
  t.throws(() => createSystem({ models: { roots: [root], watch: { everyMs: 5 } as object } }), {
    instanceOf: TypeError,
  });
});
