import { fileURLToPath } from 'node:url';
import path from 'node:path';
import test from 'ava';
import { createSystem, isTroupeError, type Pool, type PoolEvents, silentLog, type TensorRecord } from 'troupe';
import { mlpModel } from '../fixtures/onnx-writer.js';
import { makeTree } from '../models/model-tree.js';

/** Many models in one pool, with real replicas of every kind. */

const adapters = new URL('../fixtures/actors/adapters.js', import.meta.url).href;
const isolations = ['inline', 'thread', 'process'] as const;
const plainOf = (answer: string): string => answer.replace(/, pid \d+$/, '');

for (const isolation of isolations) {
  test.serial(`${isolation}: models come and go while several callers ask for all of them`, async (t) => {
    t.timeout(240_000);
    await using system = createSystem({ log: silentLog });
    const list = ['a', 'b', 'c', 'd', 'e', 'throws'];
    const pool: Pool<string, string> = await system.spawn('p', {
      actor: adapters,
      isolation,
      replicas: 2,
      models: { list, maxBytes: 20, pin: ['a'] },
    });
    const records = Array.from({ length: 300 }, (_, n) => ({
      text: String(n),
      model: list[n % list.length] as string,
    }));
    const callers = await Promise.all(
      [0, 1, 2].map(() =>
        pool.askMany(
          records.map(({ text }) => text),
          { model: (_, at) => records[at]?.model ?? '' },
        ),
      ),
    );
    for (const outcomes of callers) {
      for (const [at, outcome] of outcomes.entries()) {
        const { text, model } = records[at] as (typeof records)[number];
        if (model === 'throws') t.is(outcome.ok ? 'ok' : outcome.error.code, 'MODEL_LOAD_FAILED');
        else t.is(outcome.ok ? plainOf(outcome.value) : outcome.error.message, `${text} by ${model}`);
      }
    }
    const { models, deaths } = pool.stats();
    t.true((models?.known.find(({ model }) => model === 'b')?.evictions ?? 0) > 0, 'there was no room for all');
    t.is(deaths.crash + deaths.hang + deaths.oom, 0);
  });
}

test.serial(
  'a model that ends its process while it loads costs its own records, and nobody else a result',
  async (t) => {
    t.timeout(240_000);
    await using system = createSystem({ log: silentLog });
    const pool: Pool<string, string> = await system.spawn('p', {
      actor: adapters,
      isolation: 'process',
      models: { list: ['good', 'aborts', 'exits'], maxBytes: 100 },
      restart: { max: 0 },
    });
    const good = pool.askMany(Array.from({ length: 200 }, String), { model: 'good' });
    for (const model of ['aborts', 'exits']) {
      const error = await t.throwsAsync(pool.ask('x', { model }));
      t.true(isTroupeError(error) && error.code === 'MODEL_LOAD_FAILED', String(error));
      t.regex(String(error?.message), new RegExp(`ended while it loaded model "${model}"`));
    }
    const outcomes = await good;
    t.true(outcomes.every((outcome) => outcome.ok));
    t.is(plainOf(await pool.ask('y', { model: 'good' })), 'y by good');
    t.is(pool.stats().state, 'running', 'its restarts are not used up');
  },
);

test.serial('a load that hangs is ended after loadTimeoutMs, and the other models are there again', async (t) => {
  t.timeout(240_000);
  await using system = createSystem({ log: silentLog });
  const pool: Pool<string, string> = await system.spawn('p', {
    actor: adapters,
    isolation: 'thread',
    models: { list: ['good', 'hangs'], maxBytes: 100 },
    loadTimeoutMs: 4000,
  });
  const error = await t.throwsAsync(pool.ask('x', { model: 'hangs' }));
  t.true(isTroupeError(error) && error.code === 'MODEL_LOAD_FAILED', String(error));
  t.is(plainOf(await pool.ask('y', { model: 'good' })), 'y by good');
});

test.serial('a replica killed from outside loads again what is asked for, and what is pinned', async (t) => {
  t.timeout(240_000);
  await using system = createSystem({ log: silentLog });
  const pool: Pool<string, string> = await system.spawn('p', {
    actor: adapters,
    isolation: 'process',
    models: { list: ['a', 'b'], maxBytes: 100, pin: ['a'] },
  });
  const pid = Number(/pid (\d+)/.exec(await pool.ask('x', { model: 'b' }))?.[1]);
  const loaded = new Promise<PoolEvents['model-loaded'][0]>((resolve) => pool.once('model-loaded', resolve));
  process.kill(pid, 'SIGKILL');
  t.is((await loaded).model, 'a');
  t.is(plainOf(await pool.ask('y', { model: 'b' })), 'y by b');
});

test.serial('the memory of what was evicted is given back: twelve ONNX models through the room of two', async (t) => {
  t.timeout(240_000);
  const width = 1600; // 10 MB of weights
  const weights = new Float32Array(width * width).fill(1 / width);
  const model = mlpModel([{ weights, bias: new Float32Array(width) }]);
  const names = Array.from({ length: 12 }, (_, n) => `net-${n}`);
  const root = makeTree(t, Object.fromEntries(names.map((name) => [path.join(name, '1', 'model.onnx'), model])));
  await using system = createSystem({ log: silentLog });
  const pool: Pool<TensorRecord, TensorRecord> = await system.spawn('p', {
    actor: 'onnx',
    models: { root, maxBytes: Math.ceil(2.5 * model.byteLength) },
    batching: { maxSize: 1 },
  });
  const resident = (): number => pool.meters().residentBytes.reduce((sum, { bytes }) => sum + bytes, 0);
  const before: number[] = [];
  for (let round = 0; round < 3; round++) {
    for (const name of names) {
      const answer = await pool.ask({ x: new Float32Array(width).fill(1) }, { model: name });
      t.true(Math.abs((answer['scores'] as Float32Array)[0] as number) > 0);
      before.push(resident());
      t.true((pool.stats().models?.resident.length ?? 99) <= 2);
    }
  }
  // Collected now and then, and the allocator keeps the room of some; what is not given back would be ten models more.
  const early = Math.max(...before.slice(6, 18));
  const late = Math.min(...before.slice(-8));
  t.log(`resident: ${before.map((bytes) => Math.round(bytes / 1e6)).join(' ')} MB`);
  t.true(late < early + 4 * model.byteLength, `${early} then ${late} bytes`);
});

test.serial('two versions of a trained model answer side by side in one pool', async (t) => {
  t.timeout(240_000);
  const root = fileURLToPath(new URL('../../../models', import.meta.url));
  await using system = createSystem({ log: silentLog });
  const pool: Pool<TensorRecord, TensorRecord> = await system.spawn('p', {
    actor: 'onnx',
    models: { root, list: ['filetype'], maxBytes: 50_000_000 },
  });
  await pool.preload('filetype@1');
  const input = pool.signatureOf('filetype@1')?.inputs[0];
  const shape = input?.shape ?? [];
  const record = { [input?.name ?? '']: new Uint8Array(shape.reduce((size, dim) => size * dim, 1)) };
  const outcomes = await pool.askMany([record, record], { model: (_, at) => `filetype@${at + 1}` });
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? [outcome.model, outcome.version] : outcome.error.message)),
    [
      ['filetype', '1'],
      ['filetype', '2'],
    ],
  );
});
