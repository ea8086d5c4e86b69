import { createSystem } from '../../src/actor/system.js';
import { silentLog } from '../../src/telemetry/log.js';
import type { Isolation } from '../../src/wire/definition.js';
import { DIE_ONCE } from '../fixtures/actors/faulty.js';

/** sent-again.js <thread|process> <file>: a batch of tensors ends its replica once; prints what the second attempt saw. */
const VALUES = 4096;
const [isolation, diedFile] = process.argv.slice(2);

await using system = createSystem({ log: silentLog });
const pool = await system.spawn<Float32Array, number>('sums', {
  actor: new URL('../fixtures/actors/faulty.js', import.meta.url).href,
  isolation: isolation as Isolation,
  options: { diedFile },
});
// The last of the batch ends it, so the others were there before.
const records = Array.from({ length: 8 }, (_, n) => new Float32Array(VALUES).fill(n === 7 ? DIE_ONCE : n));
const outcomes = await pool.askMany(records);
process.stdout.write(
  JSON.stringify({
    version: process.version,
    sums: outcomes.map((outcome) => (outcome.ok ? outcome.value : outcome.error.message)),
    expected: records.map((record) => (record[0] as number) * VALUES),
    kept: records.every((record) => record.length === VALUES && record.byteLength === 4 * VALUES),
    restarts: pool.stats().restarts,
  }),
);
