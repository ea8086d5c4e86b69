import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { createSystem, defineActor, fromIterable, serveMetrics, silentLog, stream, toArray } from 'troupe';
import { Exposition, tagText } from '../../src/telemetry/exposition.js';
import { FAMILY_TABLE, type FamilyName, isAlias } from '../../src/telemetry/families.js';
import { lint, startPrometheus } from './prometheus.js';
import { findServer, notRun } from './servers.js';

test('promtool has nothing against our families, and against the names of others only that they are theirs', async (t) => {
  if (lint('') === undefined) return notRun(t, 'prometheus');
  await using system = createSystem({ log: silentLog });
  await serveMetrics(system, { port: 0 });
  const pool = await system.spawn<string, string>('echo', {
    actor: 'mock',
    isolation: 'process',
    replicas: { min: 1, max: 2 },
    breaker: {},
    cache: true,
    options: { faults: [{ do: 'error-in-place', record: 'bad' }] },
  });
  const many = await system.spawn<string, string>('many', {
    actor: 'mock',
    isolation: 'inline',
    models: { list: ['fr'], maxBytes: 1e6 },
  });
  await many.ask('bonjour', { model: 'fr' });
  const { addresses } = await system.serve({ port: 0 });
  t.is((await fetch(`${addresses[0]?.url}v2/models/echo/infer`, { method: 'POST', body: '{}' })).status, 400);
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-metrics-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  let text = '';
  await stream(fromIterable(['bad', 'good', 'good']), { chunkSize: 1 })
    .infer(pool, { breaker: {} })
    .map((value) => {
      text = system.metrics();
      return value;
    })
    .to(toArray(), { checkpoint: { dir } });
  const told = new Set([...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name as string));
  t.deepEqual(
    Object.keys(FAMILY_TABLE).filter((name) => !told.has(name)),
    process.platform === 'linux' ? [] : ['troupe_replica_resident_bytes'],
    'every family is in the scrape',
  );
  const ours = familiesOf(text, (name) => !isAlias(name));
  t.deepEqual(lint(ours), { status: 0, complaints: [] });
  const all = lint(text);
  t.true(all !== undefined && all.complaints.length > 0);
  t.deepEqual(
    all?.complaints.filter((line) => !isAlias(line)),
    [],
  );
});

test('promtool reads a scrape of hostile names, and sees when a scrape is wrong', (t) => {
  if (lint('') === undefined) return notRun(t, 'prometheus');
  const scrape = new Exposition();
  for (const pipeline of ['a"b\\c\nd', '\u0000\u001b[31m', '🎭'.repeat(100), '{}=,', '\ud800', 'é'])
    scrape.add('troupe_pipelines_running', { pipeline }, 1);
  t.deepEqual(lint(scrape.text()), { status: 0, complaints: [] });
  const scrapeOf = (...tagged: Record<string, string>[]): string => {
    const one = new Exposition();
    for (const [model, tags] of tagged.entries())
      one.addTagged('nv_inference_count', { model: String(model), version: '' }, tagText(tags), 1);
    return one.text();
  };
  const tagged = [{ team: 'a"b\\c\nd' }, { cost: '{}=,\ud800', tier: '🎭'.repeat(128) }];
  t.deepEqual(lint(scrapeOf({}, ...tagged)), lint(scrapeOf({})), 'tags add no complaint to that of the name');
  t.not(lint('troupe_x{a="b} 1\n')?.status, 0);
});

test('a real Prometheus scrapes it with the token, and its counters are those of the report', async (t) => {
  if (findServer('prometheus') === undefined) return notRun(t, 'prometheus');
  const token = 'a-token-of-a-test-0123456789';
  const root = mkdtempSync(path.join(tmpdir(), 'troupe-metrics-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  await using system = createSystem({ log: silentLog, models: { roots: [root] } });
  for (const [model, tags] of [
    ['one', '{ key: "team" value: "a \\"b\\"" }'],
    ['other', '[ { key: "team" value: "c" }, { key: "cost" value: "1" } ]'],
  ] as const) {
    mkdirSync(path.join(root, model, '1'), { recursive: true });
    writeFileSync(path.join(root, model, 'config.pbtxt'), `metric_tags ${tags}`);
    const tagged = await system.spawn<string, string>(model, {
      actor: defineActor({ predict: (batch: string[]) => batch }),
      model,
    });
    await tagged.ask('a');
  }
  const { address } = await serveMetrics(system, { port: 0, token });
  const target = `127.0.0.1:${address.port}`;
  const prometheus = await startPrometheus(t, [{ address: target, token }, { address: target }]);
  await prometheus.until('up{job="troupe0"}', ([up]) => up?.value === 1);
  await prometheus.until('up{job="troupe1"}', ([up]) => up?.value === 0);
  await prometheus.until('troupe_refused_requests_total{reason="token"}', ([refused]) => (refused?.value ?? 0) > 0);
  const pool = await system.spawn<string, string>('echo', {
    actor: 'mock',
    isolation: 'thread',
    batching: { maxSize: 8 },
    options: { a: 2, faults: [{ do: 'error-in-place', record: 'bad' }] },
  });
  // Long enough for a rate: two scrapes at least while it runs.
  const records = Array.from({ length: 3000 }, (_, index) => (index % 100 === 0 ? `bad ${index}` : `good ${index}`));
  const report = await stream(fromIterable(records), { name: 'loud' })
    .infer(pool, { capacity: 32 })
    .to(toArray(), { deadLetters: toArray() });
  t.like(report, { records: 3000, results: 2970, deadLetters: 30 });
  const settled = 'sum(troupe_pipeline_records_total{pipeline="loud"})';
  await prometheus.until(settled, ([sum]) => sum?.value === report.records);
  for (const [promql, value] of [
    ['troupe_pipeline_records_total{pipeline="loud",outcome="result"}', report.results],
    ['troupe_pipeline_records_total{pipeline="loud",outcome="dead-letter"}', report.deadLetters],
    ['troupe_pipeline_errors_total{code="PREDICT_FAILED"}', report.errors.PREDICT_FAILED],
    ['troupe_results_total{pool="echo"}', report.results],
    ['sum(troupe_batches_total{pool="echo"})', report.metrics[0]?.totalBatchesProcessed],
    ['async_batch_totalBatchesProcessed{pipeline="loud"}', report.metrics[0]?.totalBatchesProcessed],
    ['troupe_latency_seconds_count{pool="echo"}', report.results],
    ['nv_inference_request_success{model="echo"}', report.results],
    ['nv_inference_request_success{model="one",_team="a \\"b\\"",_cost=""}', 1],
    ['nv_inference_request_success{model="other",_team="c",_cost="1"}', 1],
    ['count(nv_inference_request_success{_team!=""})', 2],
    ['count({__name__!~"nv_(inference|cache)_.*",_team!=""}) or vector(0)', 0],
  ] as const) {
    const [sample] = await prometheus.query(promql);
    t.is(sample?.value, value, promql);
  }
  const [p99] = await prometheus.until(
    'histogram_quantile(0.99, sum by (le) (rate(troupe_call_seconds_bucket{pool="echo"}[1m])))',
    (samples) => samples.length > 0,
  );
  // A batch costs 2 ms; its bucket ends at most at twice what it took.
  t.true((p99?.value ?? 0) >= 0.002 && (p99?.value ?? 0) < 1, `p99 ${p99?.value} s`);
});

/** The parts of a scrape that are of some families. */
function familiesOf(text: string, isWanted: (name: string) => boolean): string {
  const parts = text.split(/^(?=# HELP )/m);
  return parts.filter((part) => isWanted(part.split(' ')[2] as FamilyName)).join('');
}
