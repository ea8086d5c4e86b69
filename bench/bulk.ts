import { Piscina } from 'piscina';
import { createSystem, type Pool, silentLog } from 'troupe';
import { BULK_BATCH_SIZE, BULK_RECORDS, bulkLap, valueOfOutcome } from './bulk-lap.js';
import { VALUES } from './callers.js';
import type { Lap } from './laps.js';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * The same thousand records, again and again: one askMany of ours, a run per record of piscina, all started at once and
 * awaited together. Both get arrays that were made before, and every answer is checked.
 */
const TIMES_MIN = 25;

export interface BulkBenchOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

type Side = 'own' | 'views' | 'theirs';

type Ask = (records: readonly Float32Array[]) => Promise<readonly Float32Array[]>;

export async function benchBulk({ rounds, laneMs, progress }: BulkBenchOptions): Promise<Row[]> {
  const system = createSystem({ log: silentLog });
  const piscina = new Piscina<Float32Array, Float32Array>({
    filename: workerUrl('echo-task').href,
    minThreads: 1,
    maxThreads: 1,
  });
  try {
    const pool: Pool<Float32Array, Float32Array> = await system.spawn('echo', {
      actor: workerUrl('echo-actor').href,
      isolation: 'thread',
      batching: { maxSize: BULK_BATCH_SIZE },
    });
    const ours =
      (views: boolean): Ask =>
      async (records) =>
        (await pool.askMany(records, { views })).map(valueOfOutcome);
    const asks: Record<Side, Ask> = {
      own: ours(false),
      views: ours(true),
      theirs: (records) => Promise.all(records.map((record) => piscina.run(record))),
    };
    const laps: Record<Side, Lap[]> = { own: [], views: [], theirs: [] };
    for (let round = 0; round <= rounds; round++) {
      for (const side of ['own', 'views', 'theirs'] as const) {
        const lap = await bulkLap(asks[side], (value) => value, laneMs);
        if (round > 0) laps[side].push(lap); // The first warms up.
      }
    }
    progress(`bulk: ${rounds} rounds, records per second: ${laps.views.map(({ rate }) => Math.round(rate)).join(' ')}`);
    return [
      rowOf('piscina', 'results of their own', laps.own, laps.theirs),
      { ...rowOf('piscina-views', 'views: true', laps.views, laps.theirs), target: TIMES_MIN },
    ].map((row) => (row.target === undefined ? row : { ...row, met: (row.ratio as number) >= row.target }));
  } finally {
    await system.stop();
    await piscina.destroy();
  }
}

function rowOf(id: string, how: string, ours: readonly Lap[], theirs: readonly Lap[]): Row {
  const ratios = ours.map(({ rate }, round) => rate / (theirs[round] as Lap).rate);
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  return {
    part: 'bulk',
    id: `bulk/${id}`,
    what: `records per second, thread, Float32[${VALUES}] echo, askMany of ${BULK_RECORDS}, ${how}`,
    against: 'piscina (defaults), one run per record',
    ours: rounded(median(ours.map(({ rate }) => rate)), 0),
    theirs: rounded(median(theirs.map(({ rate }) => rate)), 0),
    ratio: rounded(ratio, 2),
    spread: [rounded(least, 2), rounded(most, 2)],
    cpuMicros: {
      ours: rounded(median(ours.map(({ cpuMicros }) => cpuMicros)), 2),
      theirs: rounded(median(theirs.map(({ cpuMicros }) => cpuMicros)), 1),
    },
  };
}
