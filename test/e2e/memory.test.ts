import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';

/** In children of their own, since the memory of this process is not only ours. */
const RECORDS = 100_000;
const MiB = 2 ** 20;

for (const way of ['stream', 'askMany']) {
  test.serial(`memory does not grow with the number of records that went through a pool by ${way}`, async (t) => {
    t.timeout(60_000);
    const file = fileURLToPath(new URL('./memory.js', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', file, way, String(RECORDS)]);
    const { samples, seen } = JSON.parse(stdout) as { samples: number[]; seen: number };
    t.log(samples.map((bytes) => (bytes / MiB).toFixed(1)).join(' '), 'MiB');
    t.is(seen, RECORDS);
    t.is(samples.length, 10);
    const warm = Math.max(...samples.slice(2, 5));
    const late = Math.min(...samples.slice(-3));
    // A leak of 40 bytes per record would show as 2 MiB.
    t.true(late - warm < 2 * MiB, `${warm} bytes after warm-up, ${late} at the end`);
  });
}
