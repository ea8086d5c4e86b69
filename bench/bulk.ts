import { performance } from 'node:perf_hooks';
import { Piscina } from 'piscina';
import { createSystem, type Pool, silentLog } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { settle } from './settle.js';
import { median, rounded, spread } from './statistics.js';

/**
 * The same thousand records, again and again: one askMany of ours, a run per record of piscina, all started at once and
 * awaited together. Both get arrays that were made before, and every answer is checked.
 */
const RECORDS = 1000;
const VALUES = 64;
/** Four batches in a call: small enough that the callers' side and the actor's are at work together. */
const BATCH_SIZE = 250;
const TIMES_MIN = 25;

export interface BulkBenchOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

type Side = 'own' | 'views' | 'theirs';

type Ask = (records: readonly Float32Array[]) => Promise<readonly Float32Array[]>;

interface Lap {
  /** Records per second. */
  readonly rate: number;
  /** CPU time of this process per record in microseconds. */
  readonly cpuMicros: number;
}

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
      batching: { maxSize: BATCH_SIZE },
    });
    const ours =
      (views: boolean): Ask =>
      async (records) =>
        (await pool.askMany(records, { views })).map((outcome) => {
          if (!outcome.ok) throw outcome.error;
          return outcome.value;
        });
    const asks: Record<Side, Ask> = {
      own: ours(false),
      views: ours(true),
      theirs: (records) => Promise.all(records.map((record) => piscina.run(record))),
    };
    const laps: Record<Side, Lap[]> = { own: [], views: [], theirs: [] };
    for (let round = 0; round <= rounds; round++) {
      for (const side of ['own', 'views', 'theirs'] as const) {
        const lap = await measure(asks[side], laneMs);
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
    what: `records per second, thread, Float32[${VALUES}] echo, askMany of ${RECORDS}, ${how}`,
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

async function measure(ask: Ask, laneMs: number): Promise<Lap> {
  await settle();
  const records = Array.from({ length: RECORDS }, (_, index) => new Float32Array(VALUES).fill(index));
  const cpuFrom = process.cpuUsage();
  const startedAt = performance.now();
  const endAt = startedAt + laneMs;
  let count = 0;
  while (performance.now() < endAt) {
    const outputs = await ask(records);
    for (let index = 0; index < RECORDS; index++) {
      const output = outputs[index];
      if (output?.length !== VALUES || output[0] !== index) throw new Error(`Record ${index} came back as another`);
    }
    count += RECORDS;
  }
  const { user, system } = process.cpuUsage(cpuFrom);
  return { rate: (count * 1000) / (performance.now() - startedAt), cpuMicros: (user + system) / count };
}
