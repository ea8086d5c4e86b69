import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { beginRow } from './row-report.js';
import { isFull, sizes } from './sizes.js';

/**
 * What swaps leave behind, in a process of their own. At full size: after a hundred of them at most 2 % more than after five,
 * as twenty before them have compiled what they run. With every commit a few of them, of which no two may leave behind what they hold.
 */
const FULL_GROWTH_MAX = 1.02;
/** Of the host's heap and buffers alone, where code goes on to be compiled. */
const FULL_USED_MAX = 1.05;

interface Sample {
  readonly swaps: number;
  readonly used: number;
  readonly family: number;
}

function leastOf(samples: readonly Sample[]): { readonly used: number; readonly family: number } {
  const least = (what: 'used' | 'family'): number => Math.min(...samples.map((sample) => sample[what]));
  return { used: least('used'), family: least('family') };
}

for (const isolation of ['thread', 'process'] as const) {
  test.serial(`B1-memory swaps of a pool of isolation ${isolation} leave no memory behind`, async (t) => {
    t.timeout(30 * 60_000);
    const row = beginRow(t, 'B1-memory');
    const { warm, counted: swaps } = sizes.memorySwaps;
    const file = fileURLToPath(new URL('./swap-memory.js', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [file, isolation, String(warm), String(swaps)]);
    const { samples, failed, weight } = JSON.parse(stdout) as { samples: Sample[]; failed: number; weight: number };
    t.deepEqual([samples[0]?.swaps, samples.at(-1)?.swaps], [5, swaps]);
    t.is(failed, 0);
    // What is resident at one moment is also what has not been given back just then: the least of three.
    const first = leastOf(isFull ? samples.slice(0, 3) : samples.slice(0, 1));
    const last = leastOf(isFull ? samples.slice(-3) : samples.slice(-1));
    const growth = last.family / first.family;
    const used = last.used / first.used;
    t.log(
      samples
        .map((one) => `${one.swaps}: ${(one.family / 2 ** 20).toFixed(1)}, ${(one.used / 2 ** 20).toFixed(2)}`)
        .join('; '),
      'MiB',
    );
    row({
      faults: 0,
      runs: warm + swaps,
      lost: failed,
      dup: 0,
      reorder: 0,
      more: {
        isThread: Number(isolation === 'thread'),
        residentBytes: first.family,
        residentGrowth: Math.round(growth * 1000) / 1000,
        usedBytes: first.used,
        usedGrowth: Math.round(used * 1000) / 1000,
      },
    });
    t.true(
      last.family - first.family < 2 * weight,
      `${first.family} bytes after 5 swaps, ${last.family} after ${swaps}`,
    );
    if (!isFull) return;
    t.true(growth <= FULL_GROWTH_MAX, `resident: ${growth} of what it was after 5`);
    t.true(used <= FULL_USED_MAX, `heap and buffers of the host: ${used} of what they were after 5`);
  });
}
