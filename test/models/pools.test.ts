import { renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import {
  createSystem,
  defineActor,
  isTroupeError,
  type LoadContext,
  type LogEntry,
  type ModelConfig,
  silentLog,
} from 'troupe';
import { explainConfig, originText } from '../../src/config/explain.js';
import { parseConfig } from '../../src/config/load.js';
import { deferred } from '../../src/kernel/deferred.js';
import { addTree, makeTree } from './model-tree.js';

/** Answers with the directory it was given at load. */
const where = defineActor<string, string, string>({
  load: ({ modelDir }) => modelDir ?? 'none',
  predict: (batch: string[], { state }) => batch.map(() => state),
});

test('a pool takes a model by name, in the version an alias stands for, and swaps by alias', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/2/m': '', 'net/3/m': '' });
  const models = { roots: [root], aliases: { net: { stable: 1, next: 3 } } };
  await using system = createSystem({ models, log: silentLog });
  const pool = await system.spawn('p', { actor: where, model: 'net', version: 'stable' });
  t.is(pool.version, '1', 'the number, not the alias');
  t.is(await pool.ask('x'), path.join(root, 'net/1'));
  await pool.swap('next');
  t.is(await pool.ask('x'), path.join(root, 'net/3'));
  await pool.swap(2);
  t.is(pool.version, '2');
  t.deepEqual(
    system.models.list().map(({ name }) => name),
    ['net'],
  );
});

test('a swap to what is not there or not on offer changes nothing and lists what is', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/2/m': '' });
  await using system = createSystem({ models: { roots: [root] }, log: silentLog });
  const pool = await system.spawn('p', { actor: where, model: 'net', version: 1 });
  for (const [version, code, message] of [
    ['7', 'VERSION_NOT_FOUND', /Pool "p": Model "net" has no version 7; it offers 1, 2/],
    ['stable', 'VERSION_NOT_FOUND', /no version or alias "stable"/],
    ['../2', 'NAME_INVALID', /Pool "p": The version must be 1 to 128/],
  ] as const) {
    const error = await t.throwsAsync(pool.swap(version), { message });
    t.true(isTroupeError(error) && isTroupeError(error.cause) && error.cause.code === code, String(error));
    t.is(pool.version, '1');
  }
  renameSync(path.join(root, 'net/2'), path.join(root, 'net/4'));
  await pool.swap('latest');
  t.is(pool.version, '4');
});

test('batches, delay and replicas come from config.pbtxt where spawn says nothing, and load gets the config', async (t) => {
  const text =
    'max_batch_size: 6 dynamic_batching { max_queue_delay_microseconds: 2500 } instance_group { count: 2 } parameters { key: "k" value { string_value: "v" } }';
  const root = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': text });
  const batches: number[] = [];
  const seen: LoadContext[] = [];
  const actor = defineActor<number, number, void>({
    load: (context) => void seen.push(context),
    predict: (batch: number[]) => {
      batches.push(batch.length);
      return batch;
    },
  });
  await using system = createSystem({ log: silentLog });
  const model = path.join(root, 'net');
  const pool = await system.spawn('p', { actor, model, batching: { adaptive: false } });
  t.is(pool.stats().replicas.length, 2);
  t.is(seen[0]?.maxBatchSize, 6);
  const config: ModelConfig = seen[0]?.modelConfig ?? {};
  t.deepEqual(config.parameters?.['k'], { string_value: 'v' });
  await pool.askMany([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
  t.is(Math.max(...batches), 6);
  const said = await system.spawn('q', { actor, model, replicas: 1, batching: { maxSize: 3 } });
  t.is(said.stats().replicas.length, 1);
  t.is(seen.at(-1)?.maxBatchSize, 3);
});

test('response_cache of config.pbtxt makes a pool keep its answers, unless the pool says otherwise', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': 'response_cache { enable: true }' });
  const entries: LogEntry[] = [];
  await using system = createSystem({ log: (entry) => void entries.push(entry) });
  const model = path.join(root, 'net');
  const pool = await system.spawn('p', { actor: where, model });
  t.like(pool.stats().cache, { maxBytes: 64_000_000 });
  const off = await system.spawn('off', { actor: where, model, cache: false });
  t.is(off.stats().cache, undefined);
  const own = await system.spawn('own', { actor: where, model, cache: { maxBytes: 1000 } });
  t.like(own.stats().cache, { maxBytes: 1000 });
  t.deepEqual(entries, []);
});

test('a config.pbtxt that is wrong starts no pool; one without effect is told once for each field', async (t) => {
  const root = makeTree(t, { 'bad/1/m': '', 'bad/config.pbtxt': '\n max_batch_size: "8"', 'net/1/m': '' });
  writeFileSync(
    path.join(root, 'net/config.pbtxt'),
    'max_batch_size: 2\nsequence_batching { direct {} }\noptimization {}',
  );
  const entries: LogEntry[] = [];
  await using system = createSystem({ models: { roots: [root] }, log: (entry) => void entries.push(entry) });
  const error = await t.throwsAsync(system.spawn('p', { actor: where, model: 'bad' }));
  t.true(isTroupeError(error) && error.code === 'MODEL_CONFIG_INVALID');
  t.regex(
    error?.message ?? '',
    /^Pool "p": .*bad\/config.pbtxt:2:18: max_batch_size: expected a whole number, found text in quotes$/,
  );
  await system.spawn('p', { actor: where, model: 'net' });
  await system.spawn('q', { actor: where, model: 'net' });
  const told = entries
    .filter(({ message }) => message.includes('no effect'))
    .map(({ level, message }) => `${level} ${message.slice(root.length)}`);
  t.deepEqual(told, [
    'warn /net/config.pbtxt:2:1: sequence_batching is read and has no effect here',
    'info /net/config.pbtxt:3:1: optimization is read and has no effect here',
  ]);
});

test('explain shows what came from config.pbtxt, with its place, and the file goes before it', (t) => {
  const text =
    'max_batch_size: 16\ninstance_group { count: 3 }\ndynamic_batching { max_queue_delay_microseconds: 4000 }\nresponse_cache { enable: true }';
  const dir = makeTree(t, { 'models/net/1/m': '', 'models/net/config.pbtxt': text });
  const file = path.join(dir, 'troupe.yaml');
  const yaml = `models:
  roots: [./models]
  aliases: { net: { stable: 1 } }
pools:
  a: { actor: mock, model: net, version: stable }
  b: { actor: mock, model: ./models/net, replicas: 1, batching: { maxSize: 4 }, cache: { ttlMs: 1000 } }
`;
  const values = new Map(
    explainConfig(parseConfig(yaml, { file, env: {} })).map((value) => [
      value.path,
      `${JSON.stringify(value.value)} ${originText(file, value)}`,
    ]),
  );
  const pbtxt = path.join(dir, 'models/net/config.pbtxt');
  t.is(values.get('pools.a.model'), `"net" ${file}:5:28`);
  t.is(values.get('pools.a.batching.maxSize'), `16 ${pbtxt}:1:1`);
  t.is(values.get('pools.a.batching.maxDelayMs'), `4 ${pbtxt}:3:20`);
  t.is(values.get('pools.a.replicas'), `3 ${pbtxt}:2:1`);
  t.is(values.get('pools.a.cache'), `true ${pbtxt}:4:18`);
  t.is(values.get('pools.b.cache.maxBytes'), '64000000 default');
  t.is(values.get('pools.b.cache.ttlMs'), `1000 ${file}:6:97`);
  t.is(values.get('pools.b.model'), `"${dir}/models/net" ${file}:6:28`);
  t.is(values.get('pools.b.replicas'), `1 ${file}:6:52`);
  t.is(values.get('pools.b.batching.maxSize'), `4 ${file}:6:76`);
  t.is(values.get('pools.b.batching.maxDelayMs'), `4 ${pbtxt}:3:20`);
  t.is(values.get('models.roots[0]'), `"${dir}/models" ${file}:2:11`);
  t.is(values.get('models.aliases.net.stable'), `"1" ${file}:3:29`);
});

test('a queue policy and levels of priority are options of the mailbox, seen in explain, and the file goes before them', (t) => {
  const text = `dynamic_batching {
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy { max_queue_size: 64 default_timeout_microseconds: 20000 }
}`;
  const dir = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': text });
  const file = path.join(dir, 'troupe.yaml');
  const yaml = `pools:
  a: { actor: mock, model: ./net }
  b: { actor: mock, model: ./net, mailbox: { capacity: 8, maxWaitMs: 5 } }
`;
  const said = (pool: string): string[] =>
    explainConfig(parseConfig(yaml, { file, env: {} }))
      .filter((value) => value.path.startsWith(`pools.${pool}.mailbox.`))
      .map(
        (value) =>
          `${value.path.split('.').at(-1)} ${String(value.value)} ${originText(file, value).slice(dir.length)}`,
      );
  t.deepEqual(
    said('a')
      .filter((line) => line.includes('config.pbtxt'))
      .sort(),
    [
      'capacity 64 /net/config.pbtxt:4:26',
      'defaultPriorityLevel 2 /net/config.pbtxt:3:3',
      'maxWaitMs 20 /net/config.pbtxt:4:45',
      'priorityLevels 3 /net/config.pbtxt:2:3',
    ],
  );
  t.true(said('b').includes('capacity 8 /troupe.yaml:3:56'));
  t.true(said('b').includes('maxWaitMs 5 /troupe.yaml:3:70'));
});

test('max_queue_size refuses what finds the queue full', async (t) => {
  const text = 'dynamic_batching { default_queue_policy { max_queue_size: 2 } }';
  const root = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': text });
  const [began, goes] = [deferred<void>(), deferred<void>()];
  const actor = defineActor<number, number, void>({
    predict: async (batch: number[]) => {
      began.resolve();
      await goes.promise;
      return batch;
    },
  });
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('p', { actor, model: path.join(root, 'net'), batching: { maxSize: 1 } });
  const first = pool.ask(1);
  await began.promise;
  const waiting = [pool.ask(2), pool.ask(3)];
  await t.throwsAsync(pool.ask(4), { code: 'MAILBOX_FULL', message: /2 of 2 records/ });
  goes.resolve();
  t.deepEqual(await Promise.all([first, ...waiting]), [1, 2, 3]);
});

test('check tells a broken config.pbtxt at the model of the pool', (t) => {
  const dir = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': 'max_batch_size: -3' });
  const file = path.join(dir, 'troupe.yaml');
  const error = t.throws(() => parseConfig('pools:\n  a: { actor: mock, model: ./net }\n', { file, env: {} }));
  t.true(isTroupeError(error) && error.code === 'CONFIG_INVALID');
  t.is(
    error?.message,
    `${file}:2:28 pools.a.model: ${dir}/net/config.pbtxt:1:1: max_batch_size: expected a number of at least 0, found -3`,
  );
});

test('a system from a file looks for models in the roots of the file', async (t) => {
  const dir = makeTree(t, { 'models/net/2/m': '' });
  addTree(dir, { 'troupe.yaml': 'models: { roots: [models] }\npools: { a: { actor: mock, model: net } }\n' });
  await using system = await createSystem({ config: path.join(dir, 'troupe.yaml'), log: silentLog });
  t.is(system.get('a')?.version, '2');
});
