import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import type { LogEntry } from 'troupe';
import { runConfig } from '../../src/cli/run-config.js';
import { parseConfig } from '../../src/config/load.js';
import { deferred } from '../../src/kernel/deferred.js';

test('troupe run serves metrics and health while it runs, and stops with it', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'troupe-run-metrics-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const text = `
metrics: { port: 0 }
pools: { echo: { actor: mock, isolation: inline } }
pipelines:
  loud:
    source: { http: { port: 0 } }
    steps: [{ infer: { pool: echo } }]
    sink: { file: out.ndjson }
`;
  const loaded = parseConfig(text, { file: path.join(folder, 'troupe.yaml'), env: {} });
  const stop = new AbortController();
  const served = deferred<string>();
  const log = ({ message }: LogEntry): void => {
    const url = /^metrics are served at (\S+)$/.exec(message)?.[1];
    if (url !== undefined) served.resolve(url);
  };
  const running = runConfig(loaded, { stop: stop.signal, kill: new AbortController().signal, log });
  const url = await served.promise;
  t.regex(url, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/);
  let ready = 0;
  while (ready !== 200) ({ status: ready } = await fetch(url.replace('/metrics', '/health/ready')));
  const scrape = await (await fetch(url)).text();
  t.true(scrape.includes('troupe_pipelines_running{pipeline="loud"} 1'));
  t.true(scrape.includes('troupe_replicas{pool="echo",state="ready"} 1'));
  stop.abort();
  const report = await running;
  t.deepEqual(report.failures, []);
  await t.throwsAsync(fetch(url));
});
