import { createSystem } from '../../src/actor/system.js';
import { silentLog } from '../../src/telemetry/log.js';
import { stream } from '../../src/stream/pipeline.js';
import { forEach } from '../../src/stream/sinks/for-each.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';

/** memory.js <stream|askMany> <records>: prints heap and buffers in use, after gc, at each tenth of a run. */
const [way, count] = process.argv.slice(2);
const records = Number(count);
const { gc } = globalThis;
if (gc === undefined) throw new Error('memory.js needs node --expose-gc');

const samples: number[] = [];
let seen = 0;
const sample = (): void => {
  if (++seen % (records / 10) !== 0) return;
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  samples.push(heapUsed + arrayBuffers);
};

await using system = createSystem({ log: silentLog });
const pool = await system.spawn<Uint8Array, number>('sizes', {
  actor: new URL('../fixtures/actors/sizes.js', import.meta.url).href,
  isolation: 'thread',
});
function* source(): Generator<Uint8Array> {
  for (let n = 0; n < records; n++) yield new Uint8Array(64).fill(n);
}
if (way === 'stream') await stream(fromIterable(source())).infer(pool).to(forEach(sample));
else {
  const chunk = 5000;
  for (let from = 0; from < records; from += chunk) {
    const inputs = Array.from({ length: chunk }, (_, n) => new Uint8Array(64).fill(n));
    for (const outcome of await pool.askMany(inputs)) {
      if (!outcome.ok) throw outcome.error;
      sample();
    }
  }
}
process.stdout.write(JSON.stringify({ samples, seen }));
