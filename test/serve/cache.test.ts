import test from 'ava';
import { type Columns, defineActor, type TensorRecord } from 'troupe';
import { laneStand } from './lane-stand.js';
import { stand } from './oip-stand.js';

/** Doubles, and counts the records that it has seen. */
function counting() {
  const seen = { records: 0, batches: 0 };
  const actor = defineActor<TensorRecord, TensorRecord, void>({
    signature: {
      inputs: [{ name: 'x', dtype: 'float32', shape: [2] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [2] }],
    },
    predict: ({ count, columns }: Columns): Columns => {
      seen.records += count;
      seen.batches++;
      const xs = columns['x']?.data as Float32Array;
      return { count, columns: { y: { dtype: 'float32', shape: [2], data: xs.map((x) => 2 * x) } } };
    },
  });
  return { actor, seen };
}

const body = (data: number[]) => ({
  inputs: [{ name: 'x', datatype: 'FP32', shape: [data.length / 2, 2], data }],
});

test('requests that equal answered ones hit, as JSON and as bytes, and the statistics tell them apart', async (t) => {
  const { system, get, post } = await stand(t);
  const { actor, seen } = counting();
  await system.spawn('double', { actor, isolation: 'inline', cache: true });
  const path = '/v2/models/double/infer';
  t.deepEqual((await post(path, body([1, 2, 3, 4]))).json.outputs[0].data, [2, 4, 6, 8]);
  // Rows are records: the second row of the one is the first of the other.
  t.deepEqual((await post(path, body([3, 4, 5, 6]))).json.outputs[0].data, [6, 8, 10, 12]);
  const binary = { ...body([1, 2]), outputs: [{ name: 'y', parameters: { binary_data: false } }] };
  const { data: _, ...input } = { ...binary.inputs[0], parameters: { binary_data_size: 8 } };
  const head = Buffer.from(JSON.stringify({ ...binary, inputs: [input] }));
  const bytes = Buffer.concat([head, Buffer.from(Float32Array.of(1, 2).buffer)]);
  const answer = await post(path, bytes, { 'inference-header-content-length': String(head.length) });
  t.deepEqual(answer.json.outputs[0].data, [2, 4]);
  t.deepEqual(seen, { records: 3, batches: 2 });

  const [stats] = (await get('/v2/models/double/stats')).json.model_stats;
  t.like(stats, { inference_count: 3, execution_count: 2 });
  const { success, queue, compute_infer: infer, cache_hit: hit, cache_miss: miss } = stats.inference_stats;
  t.deepEqual([success.count, queue.count, infer.count, hit.count, miss.count], [3, 5, 3, 2, 3]);
  for (const { ns } of [success, queue, infer, hit, miss]) t.true(Number.isSafeInteger(ns) && ns >= 0);
  t.deepEqual((await get('/v2/models/double/config')).json.response_cache, { enable: true });

  await system.spawn('plain', { actor, isolation: 'inline' });
  t.deepEqual((await get('/v2/models/plain/config')).json.response_cache, { enable: false });
  const [plain] = (await get('/v2/models/plain/stats')).json.model_stats;
  t.deepEqual(
    [plain.inference_stats.cache_hit, plain.inference_stats.cache_miss],
    [
      { count: 0, ns: 0 },
      { count: 0, ns: 0 },
    ],
  );
});

test('one of many models has its own hits among its statistics', async (t) => {
  const { system, get, post } = await stand(t);
  const { actor } = counting();
  const models = { list: ['fr', 'de'], maxBytes: 1000 };
  await system.spawn('many', { actor, isolation: 'inline', cache: true, models });
  for (const model of ['fr', 'fr', 'fr', 'de']) await post(`/v2/models/${model}/infer`, body([1, 2]));
  const statsOf = async (model: string) => (await get(`/v2/models/${model}/stats`)).json.model_stats[0];
  t.like(await statsOf('fr'), {
    inference_count: 1,
    inference_stats: { cache_hit: { count: 2 }, cache_miss: { count: 1 } },
  });
  t.like(await statsOf('de'), {
    inference_count: 1,
    inference_stats: { cache_hit: { count: 0 }, cache_miss: { count: 1 } },
  });
});

test('a pool of another process hits where it is, and its client may change what it got', async (t) => {
  const { system, connect } = await laneStand(t);
  let runs = 0;
  const actor = defineActor<string, { text: string; run: number }, void>({
    predict: (batch: string[]) => batch.map((text) => ({ text, run: ++runs })),
  });
  await system.spawn('p', { actor, isolation: 'inline', version: 3, cache: true });
  const pool = connect().pool<string, { text: string; run: number }>('p');
  const first = await pool.ask('x');
  first.text = 'changed';
  t.deepEqual(await pool.ask('x'), { text: 'x', run: 1 });
  const outcomes = await pool.askMany(Array.from({ length: 100 }, () => 'x'));
  t.true(outcomes.every((outcome) => outcome.ok && outcome.value.run === 1 && outcome.version === '3'));
  t.like((await pool.stats()).cache, { hits: 101, misses: 1 });
});
