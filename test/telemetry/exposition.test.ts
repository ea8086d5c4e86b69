import test from 'ava';
import { Exposition, OTHER, SERIES_MAX, tagText } from '../../src/telemetry/exposition.js';
import { FAMILIES, FAMILY_TABLE, type FamilyName } from '../../src/telemetry/families.js';
import { LatencyWindow } from '../../src/telemetry/latency.js';

const samplesOf = (text: string): string[] => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

test('a scrape has help, type and samples of each family it counts, and nothing of the others', (t) => {
  const scrape = new Exposition();
  scrape.add('troupe_results_total', { pool: 'a' }, 3);
  scrape.add('troupe_results_total', { pool: 'b' }, 0.5);
  t.deepEqual(scrape.text().split('\n'), [
    '# HELP troupe_results_total Records that got a result.',
    '# TYPE troupe_results_total counter',
    'troupe_results_total{pool="a"} 3',
    'troupe_results_total{pool="b"} 0.5',
    `# HELP troupe_series_overflow ${FAMILY_TABLE.troupe_series_overflow.help}`,
    '# TYPE troupe_series_overflow gauge',
    'troupe_series_overflow 0',
    '',
  ]);
});

test('times counted in milliseconds are shown in seconds, in rising buckets that end with all', (t) => {
  const window = new LatencyWindow();
  for (const ms of [0.125, 1, 3, 100_000]) window.record(ms);
  const scrape = new Exposition();
  scrape.addDistribution('troupe_latency_seconds', { pool: 'a' }, window.distribution([0.125, 1, 2, 4]));
  t.deepEqual(samplesOf(scrape.text()).slice(0, 7), [
    'troupe_latency_seconds_bucket{pool="a",le="0.000125"} 1',
    'troupe_latency_seconds_bucket{pool="a",le="0.001"} 2',
    'troupe_latency_seconds_bucket{pool="a",le="0.002"} 2',
    'troupe_latency_seconds_bucket{pool="a",le="0.004"} 3',
    'troupe_latency_seconds_bucket{pool="a",le="+Inf"} 4',
    'troupe_latency_seconds_sum{pool="a"} 100.004125',
    'troupe_latency_seconds_count{pool="a"} 4',
  ]);
});

test('what is added twice under the same labels adds up, histograms too', (t) => {
  const scrape = new Exposition();
  scrape.add('troupe_results_total', { pool: 'a' }, 3);
  scrape.add('troupe_results_total', { pool: 'a' }, 4);
  for (const ms of [1, 4]) {
    const window = new LatencyWindow();
    window.record(ms);
    scrape.addDistribution('troupe_call_seconds', { pool: 'a' }, window.distribution([1, 2]));
  }
  t.deepEqual(samplesOf(scrape.text()).slice(0, 6), [
    'troupe_results_total{pool="a"} 7',
    'troupe_call_seconds_bucket{pool="a",le="0.001"} 1',
    'troupe_call_seconds_bucket{pool="a",le="0.002"} 1',
    'troupe_call_seconds_bucket{pool="a",le="+Inf"} 2',
    'troupe_call_seconds_sum{pool="a"} 0.005',
    'troupe_call_seconds_count{pool="a"} 2',
  ]);
});

test('label values cannot leave their quotes or their line, and long ones are cut', (t) => {
  const scrape = new Exposition();
  const hostile = 'a"} 1\ntroupe_results_total{pool="b\\\u0007\ud800';
  scrape.add('troupe_pipelines_running', { pipeline: hostile }, 1);
  scrape.add('troupe_pipelines_running', { pipeline: 'x'.repeat(5000) }, 2);
  t.deepEqual(samplesOf(scrape.text()).slice(0, 2), [
    'troupe_pipelines_running{pipeline="a\\"} 1 troupe_results_total{pool=\\"b\\\\  "} 1',
    `troupe_pipelines_running{pipeline="${'x'.repeat(127)}…"} 2`,
  ]);
});

test('tags are labels behind those of their family, each model its own, and what cannot stand in quotes is escaped', (t) => {
  const scrape = new Exposition();
  const long = 'v'.repeat(256);
  const hostile = 'a"} 1\nnv_inference_count{model="b\\';
  scrape.addTagged('nv_inference_count', { model: 'a', version: '2' }, tagText({ team: 'search', Tier: '1' }), 3);
  scrape.addTagged('nv_inference_count', { model: 'b', version: '' }, tagText({ cost: hostile, long, none: '' }), 4);
  scrape.addTagged('nv_inference_count', { model: 'c', version: '' }, tagText({}), 5);
  scrape.addTagged('nv_inference_count', { model: 'a', version: '2' }, tagText({ team: 'search', Tier: '1' }), 6);
  t.deepEqual(samplesOf(scrape.text()).slice(1), [
    'nv_inference_count{model="a",version="2",_team="search",_Tier="1"} 9',
    `nv_inference_count{model="b",_cost="a\\"} 1 nv_inference_count{model=\\"b\\\\",_long="${long}"} 4`,
    'nv_inference_count{model="c"} 5',
  ]);
});

test('100,000 names and error texts make no more series than the cap, and the rest is in _other', (t) => {
  const window = new LatencyWindow();
  window.record(1);
  const scrape = new Exposition();
  const count = 100_000;
  const { bounds } = FAMILIES.troupe_pipeline_latency_seconds;
  for (let index = 0; index < count; index++) {
    scrape.add('troupe_pipeline_errors_total', { pipeline: `p${index}`, code: `text ${index}` }, 1);
    scrape.addDistribution('troupe_pipeline_latency_seconds', { pipeline: `p${index}` }, window.distribution(bounds));
  }
  const samples = samplesOf(scrape.text());
  t.true(samples.length <= SERIES_MAX, `${samples.length} series`);
  t.true(samples.length > SERIES_MAX / 2);
  const errors = samples.filter((line) => line.startsWith('troupe_pipeline_errors_total'));
  const total = errors.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  t.is(total, count, 'nothing is lost');
  t.true(errors.some((line) => line.startsWith(`troupe_pipeline_errors_total{pipeline="${OTHER}",code="${OTHER}"}`)));
  t.true(samples.some((line) => line.startsWith(`troupe_pipeline_latency_seconds_count{pipeline="${OTHER}"}`)));
  const told = Number(samples.find((line) => line.startsWith('troupe_series_overflow'))?.split(' ')[1]);
  t.true(told > count && told < 2 * count, `${told} told`);
});

test('every family keeps the naming rules for its type', (t) => {
  for (const name of Object.keys(FAMILY_TABLE) as FamilyName[]) {
    const { type, bounds, labels, help } = FAMILY_TABLE[name];
    t.regex(name, /^(troupe|async_batch|nv)_[A-Za-z_]+$/);
    t.is(type === 'histogram', bounds !== undefined, name);
    if (name.startsWith('troupe_')) t.is(type === 'counter', name.endsWith('_total'), name);
    t.is(new Set(labels).size, labels.length, name);
    t.regex(help, /\.$/, name);
  }
});
