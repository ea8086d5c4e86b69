import { createSystem } from '../../src/actor/system.js';
import { stream } from '../../src/stream/pipeline.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import { silentLog } from '../../src/telemetry/log.js';

/** Its own process, so that its memory is its own: a source ten times as fast as the sink. Prints one JSON object. */

const RECORD_BYTES = 50_000;
const CAPACITY = 512;
const CAPACITY_BYTES = 32e6;
const SINK_MS = 40;
const CHUNK = 16;
const RECORDS = 2000;

const system = createSystem({ log: silentLog });
const pool = await system.spawn<Uint8Array, number>('size', {
  actor: new URL('../fixtures/actors/sizes.js', import.meta.url).href,
  isolation: 'process',
  mailbox: { capacity: CAPACITY, capacityBytes: CAPACITY_BYTES },
});

function* records(count: number): Generator<Uint8Array> {
  for (let n = 0; n < count; n++) yield new Uint8Array(RECORD_BYTES).fill(n & 0xff);
}

let peakBytes = 0;
const run = async (count: number) =>
  stream(fromIterable(records(count)), { chunkSize: CHUNK })
    .infer(pool, { capacity: CAPACITY, output: (record, size) => ({ record, size }) })
    .to({
      name: 'slow',
      write: async () => {
        peakBytes = Math.max(peakBytes, process.memoryUsage.rss());
        await new Promise((resolve) => setTimeout(resolve, SINK_MS));
      },
      close: () => undefined,
    });

let sourcePerSecond = 0;
// The best of five: the rate of the source, not of the machine's other work.
for (let n = 0; n < 5; n++) {
  const startedAt = performance.now();
  for (const _ of records(500));
  sourcePerSecond = Math.max(sourcePerSecond, 500_000 / (performance.now() - startedAt));
}
const sinkPerSecond = (CHUNK * 1000) / SINK_MS;
await run(256);
globalThis.gc?.();
const baseBytes = process.memoryUsage.rss();
peakBytes = 0;
const { results } = await run(RECORDS);
await system.stop();
const overload = sourcePerSecond / sinkPerSecond;
process.stdout.write(
  `${JSON.stringify({ results, overload, baseBytes, peakBytes, configuredBytes: CAPACITY_BYTES })}\n`,
);
