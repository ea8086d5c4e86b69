import { once } from 'node:events';
import { createWriteStream, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { createSystem, fromFile, type Pool, silentLog, stream, toFile } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * What a checkpoint every second costs: the same file through the same pool into a file, with and without, in turn. And
 * how large a checkpoint is when records are: the source can go back, so no record may be in it.
 */
const VALUES = 64;
/** Of one run, so that there are some checkpoints in it. */
const RUN_MS = 3000;
const INTERVAL_MS = 1000;
/** Least share of the throughput without checkpoints. */
const SHARE_MIN = 0.95;
const PAYLOADS = [100, 100_000] as const;

export interface CheckpointBenchOptions {
  readonly rounds: number;
  readonly progress: (line: string) => void;
}

type Echo = Pool<Float32Array, Float32Array>;

interface Line {
  readonly n: number;
  readonly text: string;
}

export async function benchCheckpoint({ rounds, progress }: CheckpointBenchOptions): Promise<Row[]> {
  const folder = mkdtempSync(path.join(tmpdir(), 'troupe-bench-'));
  const system = createSystem({ log: silentLog });
  try {
    const pool: Echo = await system.spawn('echo', {
      actor: workerUrl('echo-actor').href,
      isolation: 'thread',
      batching: { maxSize: 128 },
    });
    return [await throughput(folder, pool, rounds, progress), await size(folder, pool)];
  } finally {
    await system.stop();
    rmSync(folder, { recursive: true });
  }
}

async function throughput(folder: string, pool: Echo, rounds: number, progress: (line: string) => void): Promise<Row> {
  const input = path.join(folder, 'in.ndjson');
  await fill(input, 20_000, 40);
  await run(folder, pool, input, undefined);
  const trial = await run(folder, pool, input, undefined);
  await fill(input, Math.ceil((trial.rate * RUN_MS) / 1000), 40);
  const laps: Record<'with' | 'without', number[]> = { with: [], without: [] };
  const cpu: Record<'with' | 'without', number[]> = { with: [], without: [] };
  let written = 0;
  for (let round = 1; round <= rounds; round++) {
    // The one that begins has the coldest caches: each begins in turn.
    const order = round % 2 === 0 ? (['with', 'without'] as const) : (['without', 'with'] as const);
    for (const side of order) {
      const { rate, cpuMicros, checkpoints } = await run(
        folder,
        pool,
        input,
        side === 'with' ? INTERVAL_MS : undefined,
      );
      laps[side].push(rate);
      cpu[side].push(cpuMicros);
      written += checkpoints;
    }
    const last = (side: 'with' | 'without'): number => Math.round(laps[side].at(-1) as number);
    progress(`round ${round} of ${rounds}: with ${last('with')}, without ${last('without')}`);
  }
  if (written < rounds * 3) throw new Error(`Expected a checkpoint every second, got ${written} in ${rounds} runs`);
  const ratios = laps.with.map((rate, round) => rate / (laps.without[round] as number));
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  return {
    part: 'checkpoint',
    id: 'checkpoint/throughput',
    what: 'records per second from file to file, a checkpoint every second',
    against: 'the same without checkpoints',
    ours: rounded(median(laps.with), 0),
    theirs: rounded(median(laps.without), 0),
    ratio: rounded(ratio, 3),
    cpuMicros: { ours: rounded(median(cpu.with), 2), theirs: rounded(median(cpu.without), 2) },
    spread: [rounded(least, 2), rounded(most, 2)],
    target: SHARE_MIN,
    met: ratio >= SHARE_MIN,
  };
}

/** Bytes of the largest checkpoint of runs over large records, per byte of one over small ones. */
async function size(folder: string, pool: Echo): Promise<Row> {
  const [small, large] = await Promise.all(
    PAYLOADS.map(async (bytes) => {
      const own = path.join(folder, `payload-${bytes}`);
      const input = `${own}.ndjson`;
      mkdirSync(own);
      await fill(input, 1000, bytes);
      await run(own, pool, input, 20);
      const files = readdirSync(path.join(own, 'checkpoints')).filter((name) => name.endsWith('.data'));
      return Math.max(...files.map((name) => statSync(path.join(own, 'checkpoints', name)).size));
    }),
  );
  const growth = (large as number) / (small as number);
  return {
    part: 'checkpoint',
    id: 'checkpoint/size',
    what: `bytes of a checkpoint when records have ${PAYLOADS[1]} bytes`,
    against: `records of ${PAYLOADS[0]} bytes`,
    ours: large as number,
    theirs: small as number,
    ratio: rounded(growth, 2),
    spread: [rounded(growth, 2), rounded(growth, 2)],
  };
}

async function run(
  folder: string,
  pool: Echo,
  input: string,
  intervalMs: number | undefined,
): Promise<{ readonly rate: number; readonly cpuMicros: number; readonly checkpoints: number }> {
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  const report = await stream(fromFile<Line>(input), { name: 'bench' })
    .infer(pool, {
      input: ({ n }) => new Float32Array(VALUES).fill(n & 0xffff),
      output: ({ n }, values) => {
        if (values[VALUES - 1] !== (n & 0xffff)) throw new Error(`Record ${n} came back as another`);
        return n;
      },
    })
    .to(
      toFile(path.join(folder, 'out.ndjson')),
      intervalMs === undefined ? {} : { checkpoint: { dir: path.join(folder, 'checkpoints'), intervalMs } },
    );
  if (report.failed > 0) throw new Error(`Expected no failed record, got ${report.failed}`);
  const { user, system } = process.cpuUsage(cpuBefore);
  return {
    cpuMicros: (user + system) / report.results,
    rate: (report.results * 1000) / (performance.now() - startedAt),
    checkpoints: report.checkpoints?.written ?? 0,
  };
}

async function fill(file: string, records: number, bytes: number): Promise<void> {
  const out = createWriteStream(file);
  const text = 'x'.repeat(bytes);
  for (let n = 0; n < records; n++) {
    if (!out.write(`${JSON.stringify({ n, text })}\n`)) await once(out, 'drain');
  }
  out.end();
  await once(out, 'finish');
}
