import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { trace } from '@opentelemetry/api';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import test from 'ava';
import { createSystem } from 'troupe';

test('with tracing: true a system makes its spans with the tracer that the process has registered', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'troupe-tracing-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const exporter = new InMemorySpanExporter();
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
  for (const [isOn, count] of [
    [false, 0],
    [true, 1],
  ] as const) {
    const config = path.join(folder, `${isOn}.yaml`);
    writeFileSync(config, `tracing: ${isOn}\npools: { echo: { actor: mock, isolation: inline } }\n`);
    await using system = await createSystem({ config });
    await system.get('echo')?.ask('a');
    t.is(exporter.getFinishedSpans().length, count);
  }
});
