import { createSystem, fromIterable, forEach, type Pool, silentLog, stream } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { rounded, slope, spread } from './statistics.js';

/** Grown by less than this share, or by fewer bytes, over the last half counts as flat. */
const GROWTH_MAX = 0.05;
const GROWTH_BYTES_MAX = 16 * 2 ** 20;
const SAMPLES = 10;
const CHUNK = 10_000;

export interface MemoryOptions {
  readonly records: number;
  readonly progress: (line: string) => void;
}

/** Resident memory of runs over many records: after a warm-up it must not grow with the number of records. */
export async function benchMemory({ records, progress }: MemoryOptions): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [id, run] of [
    ['stream', runStream],
    ['askMany', runAskMany],
  ] as const) {
    const samples = new Samples(records, (line) => progress(`${id}: ${line}`));
    const system = createSystem({ log: silentLog });
    try {
      const pool = await system.spawn<Float32Array, Float32Array>('echo', {
        actor: workerUrl('echo-actor').href,
        isolation: 'thread',
      });
      await run(pool, records, samples);
    } finally {
      await system.stop();
    }
    rows.push(samples.rowOf(id));
  }
  return rows;
}

async function runStream(pool: Pool<Float32Array, Float32Array>, records: number, samples: Samples): Promise<void> {
  let seen = 0;
  const report = await stream(fromIterable(produce(records)))
    .infer(pool)
    .to(forEach(() => samples.at(++seen)));
  if (report.results !== records) throw new Error(`Expected ${records} results, got ${report.results}`);
}

async function runAskMany(pool: Pool<Float32Array, Float32Array>, records: number, samples: Samples): Promise<void> {
  let seen = 0;
  let chunk: Float32Array[] = [];
  for (const record of produce(records)) {
    chunk.push(record);
    if (chunk.length < CHUNK && seen + chunk.length < records) continue;
    const outcomes = await pool.askMany(chunk);
    chunk = [];
    for (const outcome of outcomes) {
      if (!outcome.ok) throw outcome.error;
      samples.at(++seen);
    }
  }
}

function* produce(records: number): Generator<Float32Array> {
  for (let n = 0; n < records; n++) yield new Float32Array(64).fill(n);
}

class Samples {
  readonly #every: number;
  readonly #progress: (line: string) => void;
  readonly #points: (readonly [number, number])[] = [];

  constructor(records: number, progress: (line: string) => void) {
    this.#every = Math.max(1, Math.floor(records / SAMPLES));
    this.#progress = progress;
  }

  at(seen: number): void {
    if (seen % this.#every !== 0) return;
    if (globalThis.gc === undefined) throw new Error('bench memory needs node --expose-gc; npm run bench gives it');
    globalThis.gc();
    const bytes = process.memoryUsage.rss();
    this.#points.push([seen, bytes]);
    this.#progress(`${seen} records, ${rounded(bytes / 2 ** 20, 1)} MiB resident`);
  }

  rowOf(id: string): Row {
    const half = this.#points.slice(Math.floor(this.#points.length / 2));
    const first = (half[0] as readonly [number, number])[1];
    const last = (half.at(-1) as readonly [number, number])[1];
    const bytesPerRecord = slope(half);
    const all = half.map(([, bytes]) => bytes / 2 ** 20);
    const [least, most] = spread(all);
    this.#progress(`slope of the last half: ${rounded(bytesPerRecord, 2)} bytes per record`);
    return {
      part: 'memory',
      id: `memory/${id}`,
      what: `MiB grown over the last half of the run, ${id}, ${this.#points.at(-1)?.[0] ?? 0} records, ${rounded(bytesPerRecord, 2)} B per record; spread: MiB resident`,
      ours: rounded((last - first) / 2 ** 20, 2),
      spread: [rounded(least, 1), rounded(most, 1)],
      target: rounded(Math.max(GROWTH_BYTES_MAX, first * GROWTH_MAX) / 2 ** 20, 1),
      atMost: true,
      met: last - first < Math.max(GROWTH_BYTES_MAX, first * GROWTH_MAX),
    };
  }
}
