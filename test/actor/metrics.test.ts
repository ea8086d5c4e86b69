import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { createSystem, defineActor, fromIterable, isTroupeError, silentLog, stream, toArray } from 'troupe';
import { FAMILY_TABLE } from '../../src/telemetry/families.js';
import { virtualPool } from './virtual-pool.js';

const shout = defineActor<string, string, void>({
  predict: (batch) =>
    batch.map((text) => (text.includes('bad') ? new Error(`cannot shout ${text}`) : text.toUpperCase())),
});

/** Samples by their name and labels. */
function samplesOf(text: string): ReadonlyMap<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

test('the counters of a scrape are those of stats and of the report, also when the pipeline has ended', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, string>('shout', { actor: shout, batching: { maxSize: 8 } });
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-metrics-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const records = Array.from({ length: 100 }, (_, index) => (index % 10 === 0 ? `bad ${index}` : `good ${index}`));
  const dead = toArray();
  const report = await stream(fromIterable(records), { name: 'loud' })
    .filter((text) => !text.endsWith('5'))
    .infer(pool, { retry: { rules: { PREDICT_FAILED: { attempts: 2, backoffMs: 0 } } }, breaker: { failureRate: 1 } })
    .to(toArray(), { deadLetters: dead, checkpoint: { dir } });
  t.like(report, { records: 90, results: 80, deadLetters: 10, filtered: 10 });
  const samples = samplesOf(system.metrics());
  const is = (name: string, value: number): void => void t.is(samples.get(name), value, name);
  t.is(samples.get('troupe_pipelines_running{pipeline="loud"}'), undefined);
  is('troupe_pipeline_records_total{pipeline="loud",outcome="result"}', report.results);
  is('troupe_pipeline_records_total{pipeline="loud",outcome="dead-letter"}', report.deadLetters);
  is('troupe_pipeline_records_total{pipeline="loud",outcome="failed"}', report.failed);
  is('troupe_pipeline_records_total{pipeline="loud",outcome="filtered"}', report.filtered);
  is('troupe_pipeline_errors_total{pipeline="loud",code="PREDICT_FAILED"}', report.errors.PREDICT_FAILED ?? 0);
  is('troupe_pipeline_latency_seconds_count{pipeline="loud"}', 90);
  is('troupe_checkpoints_total{pipeline="loud",outcome="written"}', report.checkpoints?.written ?? 0);
  const step = 'pipeline="loud",step="1",pool="shout"';
  const [metrics] = report.metrics;
  is(`troupe_step_retries_total{${step}}`, metrics?.retries ?? 0);
  is(`async_batch_totalBatchesProcessed{${step}}`, metrics?.totalBatchesProcessed ?? 0);
  is(`async_batch_totalRecordsProcessed{${step}}`, metrics?.totalRecordsProcessed ?? 0);
  is(`async_batch_batchSize_count{${step}}`, metrics?.batchSize.count ?? 0);
  const stats = pool.stats();
  is('troupe_accepted_records_total{pool="shout"}', stats.accepted);
  is('troupe_results_total{pool="shout"}', stats.results);
  is('troupe_errors_total{pool="shout",code="PREDICT_FAILED"}', stats.errors.PREDICT_FAILED ?? 0);
  is('troupe_latency_seconds_count{pool="shout"}', stats.results);
  is('troupe_batch_size_records_count{pool="shout"}', stats.batches);
  is('troupe_batch_size_records_bucket{pool="shout",le="8"}', stats.batches);
  is('troupe_replicas{pool="shout",state="ready"}', 1);
  is('troupe_version_share_ratio{pool="shout"}', 1);
  is('nv_inference_request_success{model="shout"}', stats.results);
  is('nv_inference_request_failure{model="shout",reason="BACKEND"}', stats.errors.PREDICT_FAILED ?? 0);
  t.is(stats.results, 80);
  t.true((metrics?.retries ?? 0) > 0, 'there was something to count');
});

test('the tags of a model are labels of its nv_ families and of no others, until the pool is spawned anew', async (t) => {
  const root = mkdtempSync(path.join(tmpdir(), 'troupe-metrics-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const write = (model: string, tags: string): void => {
    mkdirSync(path.join(root, model, '1'), { recursive: true });
    writeFileSync(path.join(root, model, 'config.pbtxt'), tags);
  };
  write('one', 'metric_tags { key: "team" value: "search" } metric_tags { key: "tier" value: "\\"1\\"" }');
  write('other', 'metric_tags { key: "cost" value: "42" }');
  const told: string[] = [];
  await using system = createSystem({ models: { roots: [root] }, log: ({ message }) => void told.push(message) });
  const one = await system.spawn<string, string>('one', { actor: shout, model: 'one', cache: true });
  const other = await system.spawn<string, string>('other', { actor: shout, model: 'other' });
  await system.spawn<string, string>('none', { actor: shout });
  t.deepEqual(told, [], 'nothing of the files is without effect');
  await Promise.all([one.ask('a'), other.ask('bad').catch(() => undefined)]);
  const samples = samplesOf(system.metrics());
  const tags = '_team="search",_tier="\\"1\\""';
  t.is(samples.get(`nv_inference_request_success{model="one",version="1",${tags}}`), 1);
  t.is(samples.get(`nv_cache_num_misses_per_model{model="one",version="1",${tags}}`), 1);
  t.is(samples.get('nv_inference_request_failure{model="other",version="1",reason="BACKEND",_cost="42"}'), 1);
  t.is(samples.get('nv_inference_request_success{model="none"}'), 0);
  for (const name of samples.keys()) {
    const model = /^nv_.*model="(one|other)"/.exec(name)?.[1];
    t.is(name.includes('_team="search",_tier='), model === 'one', name);
    t.is(name.includes('_cost="42"'), model === 'other', name);
  }
  write('other', 'metric_tags { key: "cost" value: "43" }');
  await other.restart();
  t.true(system.metrics().includes('nv_inference_count{model="other",version="1",_cost="42"} 0'));
  await system.stopPool('other');
  const again = await system.spawn<string, string>('other', { actor: shout, model: 'other' });
  await again.ask('a');
  const after = samplesOf(system.metrics());
  t.is(after.get('nv_inference_count{model="other",version="1",_cost="43"}'), 1);
  t.is(after.get('nv_inference_request_failure{model="other",version="1",reason="BACKEND",_cost="42"}'), 1);
});

test('a scrape amid a run shows what is held, what waits and what is with replicas', async (t) => {
  const { pool, next } = await virtualPool({ batching: { maxSize: 4, adaptive: false }, mailbox: { capacity: 16 } });
  const asks = Array.from({ length: 7 }, (_, index) => pool.ask(`r${index}`));
  const batch = await next();
  const { stats, maxBatchSize } = pool.meters();
  t.is(maxBatchSize, 4);
  t.like(stats, { held: 7, mailbox: { held: 3, capacity: 16 }, asyncBatch: { inflightBatches: 1 } });
  batch.answer(batch.records.map(String));
  const rest = await next();
  rest.answer(rest.records.map(String));
  await Promise.all(asks);
  await pool.stop();
});

test('counters stay when a pool is stopped, and go on when one of its name comes again', async (t) => {
  await using system = createSystem({ log: silentLog });
  for (const total of [3, 6]) {
    const pool = await system.spawn<string, string>('shout', { actor: shout });
    await pool.askMany(['a', 'b', 'c']);
    t.is(samplesOf(system.metrics()).get('troupe_results_total{pool="shout"}'), total);
    await system.stopPool('shout');
    const samples = samplesOf(system.metrics());
    t.is(samples.get('troupe_results_total{pool="shout"}'), total);
    t.is(samples.get('troupe_held_records{pool="shout"}'), undefined);
  }
});

test('swaps and dead letters are counted whether or not somebody listens', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, string>('shout', { actor: shout, version: '1' });
  await pool.swap(2);
  pool.tell('bad');
  await pool.drain();
  const samples = samplesOf(system.metrics());
  t.is(samples.get('troupe_swaps_total{pool="shout",outcome="done"}'), 1);
  t.is(samples.get('troupe_swaps_total{pool="shout",outcome="failed"}'), 0);
  t.is(samples.get('troupe_dead_letters_total{pool="shout"}'), 1);
  t.is(samples.get('troupe_version_share_ratio{pool="shout",version="2"}'), 1);
  t.is(samples.get('troupe_rollout_steps_total{pool="shout",step="promoted"}'), 1);
  t.is(samples.get('troupe_rollbacks_total{pool="shout",reason="errors"}'), 0);
  t.is(samples.get('troupe_replicas{pool="shout",state="ready",version="2"}'), 1);
});

test('two systems in one process do not see each other, and a pipeline is seen by the system of its pools', async (t) => {
  await using one = createSystem({ log: silentLog });
  await using other = createSystem({ log: silentLog });
  const pool = await one.spawn<string, string>('shout', { actor: shout });
  await other.spawn<string, string>('silent', { actor: shout });
  await stream(fromIterable(['a']), { name: 'loud' })
    .infer(pool)
    .toArray();
  t.true(one.metrics().includes('pipeline="loud"'));
  t.false(other.metrics().includes('loud'));
  t.false(one.metrics().includes('silent'));
});

test('nothing that records, options, errors, keys or sources carry is in a scrape', async (t) => {
  const canary = 'CANARY-5f2c';
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, string>('shout', {
    actor: defineActor<string, string, void>({
      predict: (batch) => {
        throw Object.assign(new Error(`${canary} in ${batch[0]}`), { code: canary });
      },
    }),
    options: { apiKey: canary },
  });
  await stream(fromIterable([canary, canary]), { name: 'p' })
    .infer(pool, { order: 'keyed', key: () => canary })
    .to(toArray());
  const error: unknown = await pool.ask(canary, { key: canary }).catch((reason: unknown) => reason);
  t.true(isTroupeError(error) && error.message.includes(canary), 'the canary was there to be leaked');
  const text = system.metrics();
  t.true(text.includes('troupe_errors_total{pool="shout",code="PREDICT_FAILED"} 3'));
  t.false(text.includes(canary));
});

test('every family that a pool and a pipeline have is in a scrape of them', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, string>('shout', {
    actor: shout,
    replicas: { max: 2 },
    breaker: { failureRate: 1 },
    cache: true,
  });
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-metrics-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  await stream(fromIterable(['good', 'bad']))
    .infer(pool, { breaker: { failureRate: 1 } })
    .to(toArray(), { checkpoint: { dir } });
  const many = await system.spawn<string, string>('many', { actor: shout, models: { list: ['fr'], maxBytes: 1 } });
  await many.ask('good', { model: 'fr' });
  const told = new Set([...system.metrics().matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name));
  const missing = Object.keys(FAMILY_TABLE).filter((name) => !told.has(name));
  // Of gauges of a run that has ended nothing is left, and the machine is not told on every system; those of child processes
  // need one, those of a listener too.
  const gauges = missing.filter((name) => /^troupe_(pipeline|step)|^async_batch|^nv_cpu_/.test(name));
  t.true(gauges.every((name) => FAMILY_TABLE[name as keyof typeof FAMILY_TABLE].type === 'gauge'));
  t.deepEqual(
    missing.filter((name) => !gauges.includes(name)),
    ['troupe_replica_resident_bytes', 'troupe_served_requests_total', 'troupe_refused_requests_total'],
  );
});

test('while a canary bakes each version has its share, and a roll-back is counted with its reason', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, string>('shout', { actor: shout, version: '1' });
  const baking = new Promise<void>((resolve) => {
    pool.on('rollout', ({ step }) => {
      if (step === 'baking') resolve();
    });
  });
  const swapped = pool.swap(2, { canary: 0.25, bakeMs: 60_000 });
  await baking;
  const during = samplesOf(system.metrics());
  t.is(during.get('troupe_version_share_ratio{pool="shout",version="1"}'), 0.75);
  t.is(during.get('troupe_version_share_ratio{pool="shout",version="2"}'), 0.25);
  t.is(during.get('troupe_replicas{pool="shout",state="ready",version="2"}'), 1);
  t.deepEqual(await pool.health(), { ready: true });
  await Promise.all([t.throwsAsync(swapped, { code: 'SWAP_ROLLED_BACK' }), pool.rollback()]);
  const after = samplesOf(system.metrics());
  t.is(after.get('troupe_version_share_ratio{pool="shout",version="1"}'), 1);
  t.is(after.get('troupe_version_share_ratio{pool="shout",version="2"}'), undefined);
  t.is(after.get('troupe_rollbacks_total{pool="shout",reason="operator"}'), 1);
  t.is(after.get('troupe_swaps_total{pool="shout",outcome="failed"}'), 1);
});
