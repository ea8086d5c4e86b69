import path from 'node:path';
import test from 'ava';
import { createSystem, defineActor, isTroupeError, type Signature, silentLog } from 'troupe';
import type { Columns } from 'troupe/actor';
import { explainConfig, originText } from '../../src/config/explain.js';
import { parseConfig } from '../../src/config/load.js';
import { deferred } from '../../src/kernel/deferred.js';
import { makeTree } from './model-tree.js';

const signature: Signature = {
  inputs: [{ name: 'x', dtype: 'float32', shape: [2] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: [] }],
};
const answer = (count: number): Columns => {
  return { count, columns: { y: { dtype: 'float32', shape: [], data: new Float32Array(count) } } };
};
const record = { x: new Float32Array(2) };
const config = `max_batch_size: 8
model_warmup [
  { name: "one" batch_size: 1 count: 2 inputs { key: "x" value { data_type: TYPE_FP32 dims: 2 zero_data: true } } },
  { name: "all" batch_size: 8 count: 3 inputs { key: "x" value { data_type: TYPE_FP32 dims: 2 random_data: true } } }
]`;

test('every replica runs the warm-ups of its model before it is ready, at the start and when it starts again', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': config });
  const runs: string[] = [];
  let isReady = false;
  const actor = defineActor({
    signature,
    predict(batch: Columns, { version }) {
      runs.push(`${version} ${batch.count}${isReady ? '' : ' before'}`);
      return answer(batch.count);
    },
  });
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('p', { actor, model: path.join(root, 'net'), replicas: 2 });
  isReady = true;
  const once = ['1 1 before', '1 1 before', '1 8 before', '1 8 before', '1 8 before'];
  t.deepEqual(runs.splice(0).sort(), [...once, ...once].sort());
  await pool.ask(record);
  t.deepEqual(runs.splice(0), ['1 1']);
  await pool.restart();
  t.is(runs.length, 10, 'restarted replicas warm up again');
});

test('a warm-up that fails starts no pool and swaps no version, and the state that was loaded is freed', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/2/m': '', 'net/config.pbtxt': config });
  const freed: string[] = [];
  const actor = defineActor({
    signature,
    load: ({ version = '' }) => version,
    unload: (version: string) => void freed.push(version),
    predict(batch: Columns, { state }) {
      if (state === '2' && batch.count === 8) throw new Error('no kernel for this size');
      return answer(batch.count);
    },
  });
  const model = path.join(root, 'net');
  const said = `model_warmup "all" (${model}/config.pbtxt:4:3): run 1 of 3 with 8 records failed: no kernel for this size`;
  await using system = createSystem({ log: silentLog });
  const error = await t.throwsAsync(system.spawn('q', { actor, model, restart: { max: 0 } }));
  t.true(isTroupeError(error) && error.code === 'ACTOR_LOAD_FAILED', String(error));
  t.true(error?.message.includes(said), error?.message);
  t.deepEqual(freed.splice(0), ['2']);
  const pool = await system.spawn('p', { actor, model, version: 1 });
  const rolledBack = await t.throwsAsync(pool.swap(2));
  t.true(isTroupeError(rolledBack) && rolledBack.code === 'SWAP_ROLLED_BACK', String(rolledBack));
  t.true(rolledBack?.message.includes(said), rolledBack?.message);
  t.deepEqual(freed, ['2']);
  await pool.ask(record);
  t.is(pool.version, '1');
});

test('an actor without a signature has records of its own, and no warm-up is made of them', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': config });
  await using system = createSystem({ log: silentLog });
  let runs = 0;
  const actor = defineActor<string, string, void>({
    predict(batch: string[]) {
      runs++;
      return batch;
    },
  });
  await system.spawn('p', { actor, model: path.join(root, 'net') });
  t.is(runs, 0);
});

test('a model among many warms up when it is loaded, and never while a batch of another runs', async (t) => {
  const root = makeTree(t, { 'a/1/m': '', 'b/1/m': '', 'b/config.pbtxt': config });
  const [began, goes] = [deferred<void>(), deferred<void>()];
  let under = 0;
  const seen: string[] = [];
  const actor = defineActor({
    signature,
    async predict(batch: Columns, { model }) {
      t.is(++under, 1, 'one predict at a time');
      seen.push(`${model} ${batch.count}`);
      if (model === 'a') {
        began.resolve();
        await goes.promise;
      }
      under--;
      return answer(batch.count);
    },
  });
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('p', { actor, models: { root, maxBytes: 1000 } });
  const first = pool.ask(record, { model: 'a' });
  await began.promise;
  const second = pool.ask(record, { model: 'b' });
  // As long as the batch of a runs, b can only wait; however many turns it is given.
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  t.deepEqual(seen, ['a 1']);
  goes.resolve();
  await Promise.all([first, second]);
  t.deepEqual(seen, ['a 1', 'b 1', 'b 1', 'b 8', 'b 8', 'b 8', 'b 1']);
});

test('a replica that is stopped while it warms up ends, and what it loaded is freed', async (t) => {
  const endless = config.replace('count: 3', 'count: 4000000000');
  const root = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': endless });
  const [warming, freed] = [deferred<void>(), deferred<void>()];
  const actor = defineActor({
    signature,
    unload: () => freed.resolve(),
    predict(batch: Columns) {
      if (batch.count === 8) warming.resolve();
      return answer(batch.count);
    },
  });
  const system = createSystem({ log: silentLog });
  const spawned = t.throwsAsync(system.spawn('p', { actor, model: path.join(root, 'net') }));
  await warming.promise;
  await system.stop();
  await freed.promise;
  await spawned;
});

test('explain shows the warm-ups of a model and what of its config.pbtxt has no effect', (t) => {
  const dir = makeTree(t, {
    'models/net/1/m': '',
    'models/net/config.pbtxt': `${config}\nsequence_batching { direct {} }`,
  });
  const file = path.join(dir, 'troupe.yaml');
  const loaded = parseConfig('pools:\n  a: { actor: onnx, model: ./models/net }\n  b: { actor: mock }\n', {
    file,
    env: {},
  });
  const pbtxt = path.join(dir, 'models/net/config.pbtxt');
  t.deepEqual(
    explainConfig(loaded)
      .filter(({ path: key }) => /model_warmup|sequence/.test(key))
      .map((value) => `${value.path} ${String(value.value)} ${originText(file, value)}`),
    [
      `pools.a.model_warmup[0] "one": 2 runs of 1 record ${pbtxt}:3:3`,
      `pools.a.model_warmup[1] "all": 3 runs of 8 records ${pbtxt}:4:3`,
      `pools.a.sequence_batching no effect ${pbtxt}:6:1`,
    ],
  );
});
