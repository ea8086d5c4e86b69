import { writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createSystem, defineActor, isTroupeError, type ModelsOptions, silentLog, TroupeError } from 'troupe';
import { parseConfig } from '../../src/config/load.js';
import { ModelRepository } from '../../src/models/repository.js';
import { makeTree } from './model-tree.js';

const version = defineActor<unknown, string, string>({
  load: ({ version: loaded = '' }) => loaded,
  predict: (batch: unknown[], { state }) => batch.map(() => state),
});

async function pinned(root: string, ...versions: readonly string[]): Promise<NonNullable<ModelsOptions>> {
  const models = new ModelRepository({ roots: [root] });
  const hashes: Record<string, string> = {};
  for (const one of versions) hashes[one] = await models.hash('net', one);
  return { roots: [root], hashes: { net: hashes } };
}

const hashMismatch = (error: unknown): boolean => isTroupeError(error) && error.code === 'HASH_MISMATCH';

async function refusedBy(t: ExecutionContext, promise: Promise<unknown>): Promise<TroupeError> {
  const error = await t.throwsAsync(promise, { instanceOf: TroupeError });
  return error.code === 'SWAP_ROLLED_BACK' ? (error.cause as TroupeError) : error;
}

test('a model that is pinned is loaded as long as its files are what they were', async (t) => {
  const root = makeTree(t, { 'net/1/m': 'one', 'net/2/m': 'two' });
  await using system = createSystem({ models: await pinned(root, '1', '2'), log: silentLog });
  const pool = await system.spawn('p', { actor: version, model: 'net', version: 1 });
  await pool.swap(2);
  t.is(await pool.ask(0), '2');
  writeFileSync(path.join(root, 'net/1/m'), 'six');
  const error = await refusedBy(t, pool.swap(1));
  t.true(hashMismatch(error), String(error));
  t.regex(
    error.message,
    /^The files of .*\/net\/1 are not those that models\.hashes pins: expected sha256:[0-9a-f]{64}, found sha256:[0-9a-f]{64}$/,
  );
  t.is(await pool.ask(0), '2', 'the old version serves on');
  const again = await refusedBy(t, system.spawn('q', { actor: version, model: 'net', version: 1 }));
  t.true(hashMismatch(again), String(again));
  t.deepEqual(system.names(), ['p']);
});

test('a restart onto files that have changed is refused before anything has ended', async (t) => {
  const root = makeTree(t, { 'net/1/m': 'one' });
  await using system = createSystem({ models: await pinned(root, '1'), log: silentLog });
  const pool = await system.spawn('p', { actor: version, model: 'net', replicas: 2 });
  await pool.restart();
  writeFileSync(path.join(root, 'net/1/extra'), '');
  t.true(hashMismatch(await refusedBy(t, pool.restart())));
  t.is(await pool.ask(0), '1');
  t.is(pool.stats().replicas.filter(({ state }) => state === 'ready').length, 2);
});

test('a replica that dies does not come back with other files, and the others go on', async (t) => {
  const root = makeTree(t, { 'net/1/m': 'one' });
  await using system = createSystem({ models: await pinned(root, '1'), log: silentLog });
  const restart = { max: 1, backoffMs: 1, maxBackoffMs: 1 };
  const mortal = path.join(root, 'mortal.mjs');
  writeFileSync(
    mortal,
    `export default { predict: (batch) => batch.map((what) => (what === 'die' ? process.exit(3) : process.pid)) };`,
  );
  const options = { actor: mortal, isolation: 'thread', model: 'net', replicas: 2, attempts: 1, restart } as const;
  const pool = await system.spawn('p', options);
  writeFileSync(path.join(root, 'net/1/m'), 'other');
  const given = new Promise<unknown>((resolve) => pool.once('replica-failed', ({ death }) => resolve(death.error)));
  await t.throwsAsync(pool.ask('die'));
  t.true(hashMismatch(await given));
  t.is(await pool.ask('pid'), process.pid);
});

test('a model that is pinned has the versions that are pinned and no others', async (t) => {
  const root = makeTree(t, { 'net/1/m': 'one', 'net/2/m': 'two', 'net/3/m': 'three', 'free/9/m': '' });
  const models = new ModelRepository(await pinned(root, '1', '2'));
  t.is((await models.locate('net', 'latest')).version, '2');
  t.deepEqual(models.model('net').withheld, ['3']);
  const message =
    /has a version 3, but models\.hashes pins the versions of this model and has no hash for it; it offers 1, 2/;
  const error = await t.throwsAsync(models.locate('net', '3'), { message });
  t.true(isTroupeError(error) && error.code === 'VERSION_NOT_FOUND');
  t.regex(await models.hash('net', '3'), /^sha256:/, 'what one needs to pin it');
  t.is((await models.locate('free', 'latest')).hash, undefined);
});

test('in a pool of many models those that are pinned are looked at before each load', async (t) => {
  const root = makeTree(t, { 'net/1/m': 'one', 'free/1/m': 'x' });
  const { hashes = {} } = await pinned(root, '1');
  await using system = createSystem({ models: { hashes }, log: silentLog });
  const pool = await system.spawn('p', { actor: version, models: { root, maxBytes: 100 } });
  writeFileSync(path.join(root, 'net/1/m'), 'two');
  const error = await t.throwsAsync(pool.ask(0, { model: 'net' }), { instanceOf: TroupeError });
  t.true(hashMismatch(error.cause), String(error));
  t.is(await pool.ask(0, { model: 'free' }), '1');
});

test('a hash that is none, and one of no version, are refused where they stand', (t) => {
  const file = '/nowhere/troupe.yaml';
  const problem = (hashes: string): string =>
    t.throws(() => parseConfig(`models: { hashes: ${hashes} }\n`, { file, env: {} }))?.message ?? '';
  t.regex(problem('{ net: { 1: sha1:00 } }'), /models\.hashes\.net\["1"\]: .*sha256: and 64 hexadecimal digits/);
  t.regex(problem(`{ net: { latest: sha256:${'0'.repeat(64)} } }`), /models\.hashes\.net.*must be a version/s);
  t.notThrows(() => parseConfig(`models: { hashes: { net: { 1: sha256:${'0'.repeat(64)} } } }\n`, { file, env: {} }));
});
