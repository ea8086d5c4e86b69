import { createSystem } from '../../src/actor/system.js';
import { setImmediate as turn } from 'node:timers/promises';
import { silentLog } from '../../src/telemetry/log.js';
import { familyBytes } from './family.js';

/**
 * swap-memory.js <thread|process> <warm> <swaps>: swaps `warm` times; then prints what is held after each fifth swap.
 * `used`: heap and buffers of this process. `family`: resident memory of it and its children, shared pages counted once.
 * Both after a collection of garbage here.
 */
const [isolation, ...counts] = process.argv.slice(2);
const [warm = NaN, swaps = NaN] = counts.map(Number);
const WEIGHT = 8 * 2 ** 20;
const EVERY = 5;

const samples: { swaps: number; used: number; family: number }[] = [];
await using system = createSystem({ log: silentLog });
const pool = await system.spawn<number, unknown>('weighty', {
  actor: new URL('./weighty-actor.js', import.meta.url).href,
  isolation: isolation === 'thread' ? 'thread' : 'process',
  replicas: 2,
  version: 1,
  options: { bytes: WEIGHT },
  restart: { max: 3 },
});
let failed = 0;
for (let done = 1 - warm; done <= swaps; done++) {
  const asked = pool.askMany(Array.from({ length: 500 }, (_, n) => n));
  await pool.swap(done + warm + 1);
  for (const outcome of await asked) if (!outcome.ok) failed++;
  if (done <= 0 || done % EVERY !== 0) continue;
  familyBytes(); // Collects; what that lets go is let go in the next turns.
  await turn();
  await turn();
  const family = familyBytes();
  const { heapUsed, external } = process.memoryUsage();
  samples.push({ swaps: done, used: heapUsed + external, family });
}
process.stdout.write(JSON.stringify({ samples, failed, weight: 2 * WEIGHT }));
