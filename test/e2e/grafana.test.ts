import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { createSystem, forEach, fromIterable, serveMetrics, silentLog, stream } from 'troupe';
import { FAMILY_TABLE } from '../../src/telemetry/families.js';
import { startPrometheus } from './prometheus.js';
import { findServer, notRun } from './servers.js';

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string }[];
}

const file = fileURLToPath(new URL('../../../docs/grafana.json', import.meta.url));
const { panels } = JSON.parse(readFileSync(file, 'utf8')) as { panels: readonly Panel[] };
const queries = panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));

test('the dashboard asks for families that there are, as the types of those allow', (t) => {
  t.true(queries.length > 30);
  const known = FAMILY_TABLE as Readonly<Record<string, { readonly type: string }>>;
  for (const { title, expr } of queries) {
    const names = expr.match(/\btroupe_\w+/g) ?? [];
    t.true(names.length > 0, expr);
    for (const name of names) {
      const family = known[name] ?? known[name.replace(/_(bucket|sum|count)$/, '')];
      t.truthy(family, `${title}: ${name}`);
      const isCumulative = family?.type !== 'gauge';
      t.is(new RegExp(`(rate|increase)\\(${name}\\b`).test(expr), isCumulative, `${title}: ${expr}`);
    }
  }
});

test('every query of the dashboard returns data from a real Prometheus', async (t) => {
  if (findServer('prometheus') === undefined) return notRun(t, 'prometheus');
  const folder = mkdtempSync(path.join(tmpdir(), 'troupe-grafana-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  await using system = createSystem({ log: silentLog });
  const { address } = await serveMetrics(system, { port: 0 });
  const prometheus = await startPrometheus(t, [{ address: `127.0.0.1:${address.port}` }]);
  const pool = await system.spawn<string, string>('echo', {
    actor: 'mock',
    isolation: 'process',
    version: '1',
    breaker: { failureRate: 1 },
    options: { a: 2, faults: [{ do: 'error-in-place', record: 'bad' }] },
  });
  const stop = new AbortController();
  async function* records(): AsyncGenerator<string> {
    for (let index = 0; ; index++) {
      if (index % 16 === 0) await wait(10);
      yield index % 50 === 0 ? 'bad' : 'good';
    }
  }
  const running = stream(fromIterable(records()), { name: 'loud' })
    .infer(pool, { capacity: 64, breaker: { failureRate: 1 } })
    .to(
      forEach(() => undefined),
      { stop: stop.signal, checkpoint: { dir: path.join(folder, 'checkpoints'), intervalMs: 200 } },
    );
  // On a busy machine a batch of 2 ms can take any time: no verdict on the canary while it is looked at.
  const rollbackOn = { errorRate: 1, latencyFactor: 1e6 };
  const swapped = t.throwsAsync(pool.swap(2, { canary: 0.2, bakeMs: 600_000, rollbackOn }), {
    message: /rolled back|rollback/i,
  });
  for (const { title, expr } of queries) {
    const promql = expr.replaceAll('$__rate_interval', '1m').replaceAll('$pool', '.*').replaceAll('$pipeline', '.*');
    const samples = await prometheus.until(promql, (found) => found.some(({ value }) => Number.isFinite(value)));
    t.true(samples.length > 0, title);
  }
  const shares = await prometheus.query('sum(troupe_version_share_ratio) by (version)');
  t.deepEqual(Object.fromEntries(shares.map(({ labels, value }) => [labels['version'], value])), { 1: 0.8, 2: 0.2 });
  await pool.rollback();
  await swapped;
  stop.abort();
  t.true((await running).results > 100);
});
