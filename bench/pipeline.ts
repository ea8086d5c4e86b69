import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { Worker } from 'node:worker_threads';
import { createSystem, forEach, fromIterable, type Pool, silentLog, stream, type System } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { settle } from './settle.js';
import { median, rounded, spread } from './statistics.js';
import { dense, WIDTH } from './workers/dense.js';
import type { LoopTask } from './workers/dense-loop.js';

/**
 * A whole pipeline, source to sink, through one thread actor, against the least that could compute the same: a loop in a
 * thread of its own that calls the same function on batches that lie ready. The loop neither moves a record nor keeps an
 * order, so the ratio says what share of the model's speed a pipeline leaves.
 */
const BATCH_SIZE = 128;
/** Of records under way, so that while one batch is computed others are on their way there and back. */
const CAPACITY = 1024;
const SHARE_MIN = 0.5;

export interface PipelineBenchOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

type Model = Pool<Float32Array, Float32Array>;

interface Lap {
  /** Records per second. */
  readonly rate: number;
  /** CPU time of this process per record in microseconds, both threads. */
  readonly cpuMicros: number;
}

export async function benchPipeline({ rounds, laneMs, progress }: PipelineBenchOptions): Promise<Row[]> {
  const system = createSystem({ log: silentLog });
  const loop = new Worker(workerUrl('dense-loop'));
  try {
    await once(loop, 'online');
    const model = await spawn(system, 'dense-actor');
    const echo = await spawn(system, 'echo-actor');
    const expected = (dense([new Float32Array(WIDTH).fill(1)])[0] as Float32Array)[1] as number;
    const laps: Record<'model' | 'echo' | 'loop', Lap[]> = { model: [], echo: [], loop: [] };
    // As many records as the loop computes in one lap.
    let records = 10_000;
    for (let round = -1; round <= rounds; round++) {
      const bare = await runLoop(loop, records);
      const lap = await run(model, records, ([, second]) => second === Math.fround(expected));
      const plain = await run(echo, records, ([, second]) => second === 1);
      if (round < 1) {
        records = Math.max(BATCH_SIZE, Math.ceil((bare.rate * laneMs) / 1000 / BATCH_SIZE) * BATCH_SIZE);
        continue; // To warm up, and to know how many.
      }
      laps.loop.push(bare);
      laps.model.push(lap);
      laps.echo.push(plain);
    }
    progress(`pipeline: ${rounds} rounds of ${records} records`);
    return rowsOf(laps);
  } finally {
    await system.stop();
    await loop.terminate();
  }
}

function rowsOf({ model, echo, loop }: Record<'model' | 'echo' | 'loop', readonly Lap[]>): Row[] {
  const rates = (laps: readonly Lap[]): number[] => laps.map(({ rate }) => rate);
  const cpu = (laps: readonly Lap[]): number => rounded(median(laps.map(({ cpuMicros }) => cpuMicros)), 2);
  const ratios = model.map(({ rate }, round) => rate / (loop[round] as Lap).rate);
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  const [slowest, fastest] = spread(rates(echo));
  return [
    {
      part: 'pipeline',
      id: 'pipeline/dense',
      what: `records per second, source to sink, thread, one ${WIDTH} x ${WIDTH} matrix product per record`,
      against: `plain loop over ready batches of ${BATCH_SIZE} in a thread`,
      ours: rounded(median(rates(model)), 0),
      theirs: rounded(median(rates(loop)), 0),
      ratio: rounded(ratio, 2),
      spread: [rounded(least, 2), rounded(most, 2)],
      cpuMicros: { ours: cpu(model), theirs: cpu(loop) },
      target: SHARE_MIN,
      met: ratio >= SHARE_MIN,
    },
    {
      part: 'pipeline',
      id: 'pipeline/echo',
      what: `records per second, source to sink, thread, echo (${cpu(echo)} us of CPU per record)`,
      ours: rounded(median(rates(echo)), 0),
      spread: [rounded(slowest, 0), rounded(fastest, 0)],
    },
  ];
}

function spawn(system: System, actor: string): Promise<Model> {
  return system.spawn(actor, {
    actor: workerUrl(actor).href,
    isolation: 'thread',
    batching: { maxSize: BATCH_SIZE },
  });
}

async function run(pool: Model, records: number, isRight: (values: Float32Array) => boolean): Promise<Lap> {
  await settle();
  let seen = 0;
  const cpuFrom = process.cpuUsage();
  const startedAt = performance.now();
  const ones = Array.from({ length: CAPACITY }, () => new Float32Array(WIDTH).fill(1));
  const source = function* (): Generator<Float32Array> {
    for (let n = 0; n < records; n++) yield ones[n % CAPACITY] as Float32Array;
  };
  await stream(fromIterable(source()), { name: 'bench' })
    .infer(pool, { capacity: CAPACITY })
    .to(
      forEach((values) => {
        if (!isRight(values)) throw new Error(`Record ${seen} came back as another`);
        seen++;
      }),
    );
  if (seen !== records) throw new Error(`Expected ${records} records, got ${seen}`);
  const { user, system } = process.cpuUsage(cpuFrom);
  return { rate: (records * 1000) / (performance.now() - startedAt), cpuMicros: (user + system) / records };
}

async function runLoop(loop: Worker, records: number): Promise<Lap> {
  const cpuFrom = process.cpuUsage();
  loop.postMessage({ records, batchSize: BATCH_SIZE } satisfies LoopTask);
  const [elapsedMs] = (await once(loop, 'message')) as [number];
  const { user, system } = process.cpuUsage(cpuFrom);
  return { rate: (records * 1000) / elapsedMs, cpuMicros: (user + system) / records };
}
