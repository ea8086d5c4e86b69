import { performance } from 'node:perf_hooks';
import type { Lane, OpenLane } from './peers/lane.js';
import { ourLanes } from './peers/ours.js';
import { threadPeers } from './peers/threads.js';
import type { Row } from './report.js';
import { settle } from './settle.js';
import { median, rounded, spread } from './statistics.js';

/** One caller that asks again when it has its answer, over a thread: what an ask adds to the round trip of a message. */
const VALUES = 64;
/** Most times the round trip of a bare message that an ask may take. */
const TIMES_MAX = 1.3;

export interface OneBenchOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

export async function benchOne({ rounds, laneMs, progress }: OneBenchOptions): Promise<Row[]> {
  const ours = ourLanes.find(({ kind }) => kind === 'thread') as Lane;
  const bare = threadPeers.find(({ id }) => id === 'postMessage') as Lane;
  const ourLane = await ours.open();
  const bareLane = await bare.open();
  const micros: Record<'ours' | 'theirs', number[]> = { ours: [], theirs: [] };
  try {
    for (let round = 0; round <= rounds; round++) {
      // The one that begins has the coldest caches: each begins in turn.
      const order = round % 2 === 0 ? (['ours', 'theirs'] as const) : (['theirs', 'ours'] as const);
      for (const side of order) {
        const lap = await measure(side === 'ours' ? ourLane : bareLane, laneMs);
        if (round > 0) micros[side].push(lap); // The first warms up.
      }
    }
  } finally {
    await ourLane.close();
    await bareLane.close();
  }
  progress(`one: ${rounds} rounds, us per ask: ${micros.ours.map((value) => value.toFixed(1)).join(' ')}`);
  const ratios = micros.ours.map((value, round) => value / (micros.theirs[round] as number));
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  return [
    {
      part: 'one',
      id: 'one/postMessage',
      what: `us per ask, one at a time, thread, Float32[${VALUES}] echo`,
      against: bare.setup,
      ours: rounded(median(micros.ours), 1),
      theirs: rounded(median(micros.theirs), 1),
      ratio: rounded(ratio, 2),
      spread: [rounded(least, 2), rounded(most, 2)],
      target: TIMES_MAX,
      atMost: true,
      met: ratio <= TIMES_MAX,
    },
  ];
}

/** Median time of an ask in microseconds; a mean would count the times another process had the core. */
async function measure(lane: OpenLane, laneMs: number): Promise<number> {
  await settle();
  const endAt = performance.now() + laneMs;
  const times: number[] = [];
  const input = new Float32Array(VALUES);
  for (let n = 0, from = performance.now(); from < endAt; n++) {
    input[0] = n & 0xffff;
    const output = await lane.ask(input);
    if (output.length !== VALUES || output[0] !== input[0]) throw new Error(`expected ${input[0]}, got ${output[0]}`);
    const to = performance.now();
    times.push((to - from) * 1000);
    from = to;
  }
  return median(times);
}
