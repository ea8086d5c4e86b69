import { createSystem } from '../../src/actor/system.js';
import { silentLog } from '../../src/telemetry/log.js';
import { isTroupeError } from '../../src/kernel/errors.js';

/** Sends 100 records of 20 MB, a new one only when the last was taken, and prints how much memory that took. */
const RECORDS = 100;
const BYTES = 20_000_000;

await using system = createSystem({ log: silentLog });
const pool = await system.spawn<Uint8Array, number>('sizes', {
  actor: new URL('../fixtures/actors/sizes.js', import.meta.url).href,
  isolation: 'process',
  mailbox: { capacity: 1_000_000, capacityBytes: 64_000_000 },
});
t(await pool.ask(new Uint8Array(BYTES).fill(1)), BYTES);
globalThis.gc?.();
const baseBytes = process.memoryUsage.rss();
let peakBytes = baseBytes;
let highestBytes = 0;
let refused = 0;
let answers = 0;
const open = new Set<Promise<unknown>>();
for (let n = 0; n < RECORDS; n++) {
  const record = new Uint8Array(BYTES).fill(n);
  let asked: Promise<void> | undefined;
  while (asked === undefined) {
    const attempt = pool.ask(record, { timeoutMs: 100_000 });
    // A refusal is told at once; everything else is told later.
    const early = await Promise.race([
      attempt.then(
        () => undefined,
        (error: unknown) => error,
      ),
      new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined))),
    ]);
    if (isTroupeError(early) && early.code === 'MAILBOX_FULL') {
      refused++;
      await Promise.race(open);
      continue;
    }
    asked = attempt.then((bytes) => {
      t(bytes, BYTES);
      answers++;
    });
    const settled: Promise<unknown> = asked.finally(() => open.delete(settled));
    open.add(settled);
  }
  globalThis.gc?.();
  highestBytes = Math.max(highestBytes, pool.stats().mailbox.heldBytes);
  peakBytes = Math.max(peakBytes, process.memoryUsage.rss());
}
await Promise.all(open);
process.stdout.write(JSON.stringify({ answers, refused, highestBytes, baseBytes, peakBytes }));

function t(actual: number, expected: number): void {
  if (actual !== expected) throw new Error(`expected ${expected}, got ${actual}`);
}
