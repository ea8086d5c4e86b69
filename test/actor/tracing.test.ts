import { AsyncLocalStorage } from 'node:async_hooks';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import test from 'ava';
import fc from 'fast-check';
import {
  createSystem,
  defineActor,
  fromIterable,
  type LogEntry,
  silentLog,
  type Source,
  type SpanContext,
  Stamped,
  stream,
  toArray,
} from 'troupe';
import { openTelemetry } from '../../src/config/open-telemetry.js';
import { formatTraceparent, parseTraceparent } from '../../src/telemetry/tracing.js';

const CANARY = 'CANARY-1d9e';

const shout = defineActor<string, string, void>({
  predict: (batch) => {
    if (batch.some((text) => text.includes('throw'))) throw new Error(`${CANARY} in ${batch.join()}`);
    return batch.map((text) => (text.includes('bad') ? new Error(CANARY) : text.toUpperCase()));
  },
});

function rig() {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  return { exporter, tracer: provider.getTracer('test') };
}

const contextOf = (index: number): SpanContext => ({
  traceId: index.toString(16).padStart(32, 'a'),
  spanId: index.toString(16).padStart(16, 'b'),
  traceFlags: 1,
});
const headerOf = (index: number): string => `00-${contextOf(index).traceId}-${contextOf(index).spanId}-01`;

test('a batch is one span with links to the spans of its records, whose traceparent the source let travel along', async (t) => {
  const { exporter, tracer } = rig();
  await using system = createSystem({ log: silentLog, tracing: { tracer } });
  const pool = await system.spawn<string, string>('shout', { actor: shout, version: '7', batching: { maxSize: 8 } });
  const records = Array.from({ length: 20 }, (_, index) => {
    // Two records of one span, some of none, and some with what is no traceparent.
    const metadata = index % 5 === 4 ? { traceparent: 'nonsense' } : { traceparent: headerOf(Math.floor(index / 2)) };
    return new Stamped(index === 3 ? 'bad' : `r${index}`, { metadata });
  });
  const sink = toArray<string>();
  const report = await stream(fromIterable(records) as unknown as Source<string>)
    .infer(pool)
    .to(sink);
  t.is(report.results, 19);
  const spans = exporter.getFinishedSpans();
  t.is(spans.length, pool.stats().batches);
  t.is(
    spans.reduce((sum, { attributes }) => sum + Number(attributes['troupe.batch.size']), 0),
    20,
  );
  const linked = spans.flatMap(({ links }) => links.map(({ context }) => context.spanId));
  const wanted = new Set(
    records.flatMap((_, index) => (index % 5 === 4 ? [] : [contextOf(Math.floor(index / 2)).spanId])),
  );
  t.deepEqual(new Set(linked), wanted);
  for (const { name, attributes, parentSpanContext, links } of spans) {
    t.is(name, 'predict shout');
    t.like(attributes, { 'troupe.pool': 'shout', 'troupe.version': '7', 'troupe.replica': 0 });
    t.is(parentSpanContext, undefined, 'a batch belongs to no single one of its records');
    t.is(new Set(links.map(({ context }) => context.spanId)).size, links.length);
  }
  t.is(
    spans.reduce((sum, { attributes }) => sum + Number(attributes['troupe.batch.failed'] ?? 0), 0),
    1,
  );
  const said = JSON.stringify(spans.map(({ attributes, status, events }) => ({ attributes, status, events })));
  t.false(said.includes(CANARY), 'no text of an error');
});

test('an ask belongs to the span that is active where it is made', async (t) => {
  const { exporter, tracer } = rig();
  const storage = new AsyncLocalStorage<SpanContext>();
  await using system = createSystem({ log: silentLog, tracing: { tracer, active: () => storage.getStore() } });
  const pool = await system.spawn<string, string>('shout', { actor: shout });
  await Promise.all([
    storage.run(contextOf(1), () => pool.ask('a')),
    storage.run(contextOf(2), () => pool.ask('b')),
    pool.ask('c'),
    storage.run(contextOf(3), () => pool.askMany(Array.from({ length: 5000 }, () => 'd'))),
  ]);
  const links = exporter.getFinishedSpans().flatMap((span) => span.links.map(({ context }) => context.spanId));
  t.deepEqual(new Set(links), new Set([contextOf(1).spanId, contextOf(2).spanId, contextOf(3).spanId]));
  const ofMany = links.filter((spanId) => spanId === contextOf(3).spanId);
  t.true(ofMany.length > 1, 'those of askMany that came later too');
});

test('a batch that fails is a span with the code of its error, and each of its parts has its own', async (t) => {
  const { exporter, tracer } = rig();
  await using system = createSystem({ log: silentLog, tracing: { tracer } });
  const pool = await system.spawn<string, string>('shout', { actor: shout });
  const outcomes = await pool.askMany(['a', 'throw', 'b', 'c']);
  t.is(outcomes.filter(({ ok }) => ok).length, 3);
  const spans = exporter.getFinishedSpans();
  t.is(spans.length, pool.stats().batches);
  const failed = spans.filter(({ status }) => status.code === 2);
  t.is(failed.length, pool.stats().asyncBatch.asyncCallFailures);
  t.true(failed.every(({ status }) => status.message === 'PREDICT_FAILED'));
  t.true(spans.some(({ attributes }) => attributes['troupe.batch.trigger'] === 'split'));
});

test('the span of a batch ends with its replica, and a probe of readiness has none', async (t) => {
  const { exporter, tracer } = rig();
  await using system = createSystem({ log: silentLog, tracing: { tracer } });
  const pool = await system.spawn<string, string>('mock', {
    actor: 'mock',
    isolation: 'thread',
    attempts: 1,
    options: { faults: [{ do: 'exit', record: 'die' }] },
  });
  await pool.health();
  t.is(exporter.getFinishedSpans().length, 0);
  await t.throwsAsync(pool.ask('die'), { code: 'ACTOR_CRASHED' });
  const [span] = exporter.getFinishedSpans();
  t.deepEqual(span?.status, { code: 2, message: 'replica ended: exit' });
  t.is(span?.attributes['troupe.incarnation'], 1);
});

test('a span has at most 128 links', async (t) => {
  const { exporter, tracer } = rig();
  let asked = 0;
  await using system = createSystem({ log: silentLog, tracing: { tracer, active: () => contextOf(asked++) } });
  const pool = await system.spawn<string, string>('shout', {
    actor: shout,
    batching: { maxSize: 512, adaptive: false },
  });
  await Promise.all(Array.from({ length: 600 }, (_, index) => pool.ask(`r${index}`)));
  const counts = exporter.getFinishedSpans().map(({ links }) => links.length);
  t.is(Math.max(...counts), 128);
});

test('a tracer that throws costs no record, and is told of once', async (t) => {
  const log: LogEntry[] = [];
  await using system = createSystem({
    log: (entry) => log.push(entry),
    tracing: {
      tracer: {
        startSpan: () => {
          throw new Error('no exporter');
        },
      },
    },
  });
  const pool = await system.spawn<string, string>('shout', { actor: shout });
  for (const text of ['a', 'b', 'c']) t.is(await pool.ask(text), text.toUpperCase());
  t.deepEqual(log, [
    { level: 'error', message: 'the tracer failed and is not used any more: no exporter', pool: 'shout' },
  ]);
});

test('what is no tracer is refused at once', (t) => {
  const wrong = { tracer: {} } as never;
  t.throws(() => createSystem({ tracing: wrong }), { instanceOf: TypeError, message: /tracing\.tracer must be/ });
  const active = { tracer: { startSpan: () => undefined }, active: 3 } as never;
  t.throws(() => createSystem({ tracing: active }), { instanceOf: TypeError, message: /tracing\.active/ });
});

test('the tracer that @opentelemetry/api has registered works too, and without an SDK it makes nothing', async (t) => {
  await using system = createSystem({ log: silentLog, tracing: await openTelemetry() });
  const pool = await system.spawn<string, string>('shout', { actor: shout });
  t.is(await pool.ask('a'), 'A');
});

test('a traceparent is read as W3C Trace Context says, and whatever else there is, is none', (t) => {
  t.is(formatTraceparent(contextOf(5)), headerOf(5));
  t.deepEqual(parseTraceparent(headerOf(5)), { ...contextOf(5), isRemote: true });
  t.deepEqual(parseTraceparent(`01-${'a'.repeat(32)}-${'b'.repeat(16)}-00-more`)?.traceFlags, 0);
  for (const text of [
    '',
    `ff-${'a'.repeat(32)}-${'b'.repeat(16)}-00`,
    `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00-more`,
    `00-${'0'.repeat(32)}-${'b'.repeat(16)}-00`,
    `00-${'a'.repeat(32)}-${'0'.repeat(16)}-00`,
    `00-${'A'.repeat(32)}-${'b'.repeat(16)}-00`,
    `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00\n`,
  ]) {
    t.is(parseTraceparent(text), undefined, text);
  }
  fc.assert(fc.property(fc.string(), (text) => parseTraceparent(text) === undefined));
});
