import { performance } from 'node:perf_hooks';
import { type Lap, lapOf } from './laps.js';
import type { OpenLane } from './peers/lane.js';
import { settle } from './settle.js';

export const CALLERS = 256;
export const VALUES = 64;

/**
 * CALLERS callers ask for `laneMs`, each awaiting its own answer before it asks again, and check every answer. A caller
 * fills the same array for each of its asks: to make one costs more than an ask may, it would be the same for every lane,
 * and so hide what differs.
 */
export async function callersLap(lane: OpenLane, laneMs: number): Promise<Lap> {
  await settle();
  const cpuFrom = process.cpuUsage();
  const startedAt = performance.now();
  const endAt = startedAt + laneMs;
  let count = 0;
  const caller = async (first: number): Promise<void> => {
    const input = new Float32Array(VALUES);
    for (let n = first; performance.now() < endAt; n += CALLERS) {
      input[0] = n & 0xffff;
      input[VALUES - 1] = first;
      const output = await lane.ask(input);
      if (output.length !== VALUES || output[0] !== input[0] || output[VALUES - 1] !== first)
        throw new Error(
          `expected ${VALUES} values from ${input[0]} to ${first}, got ${JSON.stringify(output)?.slice(0, 80)}`,
        );
      count++;
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, (_, index) => caller(index)));
  return lapOf(count, startedAt, cpuFrom);
}
