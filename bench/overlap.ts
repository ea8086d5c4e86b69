import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { createSystem, type Pool, silentLog, type TensorRecord } from 'troupe';
import { type Layer, mlpModel } from '../test/fixtures/onnx-writer.js';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * What a second batch in flight gives: while one computes, the next is packed, sent and read. The same pool with
 * maxInFlight 2 and 1, in one run, interleaved; enough callers that both always have work.
 */
export interface OverlapOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

interface Case {
  readonly id: string;
  readonly what: string;
  /** Opens the pool and returns what one caller does: one batch's worth of asks. */
  open(system: ReturnType<typeof createSystem>, maxInFlight: number): Promise<() => Promise<unknown>>;
}

const TENSOR_VALUES = 224 * 224 * 3;
const MLP_INPUTS = 3072;
const MLP_BATCH = 64;

export async function benchOverlap({ rounds, laneMs, progress }: OverlapOptions): Promise<Row[]> {
  const folder = mkdtempSync(path.join(tmpdir(), 'troupe-bench-'));
  const system = createSystem({ log: silentLog });
  try {
    mkdirSync(path.join(folder, '1'));
    writeFileSync(path.join(folder, '1', 'model.onnx'), mlpModel([layer(MLP_INPUTS, 128), layer(128, 10)]));
    const rows: Row[] = [];
    for (const one of [...(['thread', 'process'] as const).map(sums), mlp(folder)]) {
      const two = await one.open(system, 2);
      const single = await one.open(system, 1);
      for (const work of [two, single]) await rate(work, laneMs);
      const ours: number[] = [];
      const theirs: number[] = [];
      for (let round = 1; round <= rounds; round++) {
        ours.push(await rate(two, laneMs));
        theirs.push(await rate(single, laneMs));
      }
      const ratios = ours.map((value, round) => value / (theirs[round] as number));
      const [least, most] = spread(ratios);
      progress(`overlap, ${one.id}: ${rounded(median(ratios), 2)}`);
      rows.push({
        part: 'overlap',
        id: `overlap/${one.id}`,
        what: one.what,
        against: 'the same with maxInFlight 1',
        ours: rounded(median(ours), 0),
        theirs: rounded(median(theirs), 0),
        ratio: rounded(median(ratios), 2),
        spread: [rounded(least, 2), rounded(most, 2)],
      });
    }
    return rows;
  } finally {
    await system.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function sums(isolation: 'thread' | 'process'): Case {
  return {
    id: isolation,
    what: `tensors per second, ${isolation}, 602 KB, 1 ms or more of arithmetic each, maxInFlight 2`,
    async open(system, maxInFlight) {
      const pool = await system.spawn<Float32Array, number>(`sum-${isolation}-${maxInFlight}`, {
        actor: workerUrl('sum-actor').href,
        isolation,
        batching: { maxSize: 1, maxInFlight },
      });
      return () => pool.ask(new Float32Array(TENSOR_VALUES).fill(2));
    },
  };
}

function mlp(model: string): Case {
  return {
    id: 'onnx',
    what: `batches of ${MLP_BATCH} per second, onnxruntime in a process, MLP ${MLP_INPUTS}-128-10, maxInFlight 2`,
    async open(system, maxInFlight) {
      const pool: Pool<TensorRecord, TensorRecord> = await system.spawn(`mlp-${maxInFlight}`, {
        actor: 'onnx',
        model,
        isolation: 'process',
        batching: { maxSize: MLP_BATCH, maxInFlight },
      });
      const records = Array.from({ length: MLP_BATCH }, () => ({ x: new Float32Array(MLP_INPUTS).fill(0.5) }));
      return () => Promise.all(records.map((record) => pool.ask(record)));
    },
  };
}

function layer(inputs: number, outputs: number): Layer {
  return { weights: new Float32Array(inputs * outputs).fill(0.01), bias: new Float32Array(outputs) };
}

/** Rounds of work per second, by three callers. */
async function rate(work: () => Promise<unknown>, laneMs: number): Promise<number> {
  const startedAt = performance.now();
  let count = 0;
  const caller = async (): Promise<void> => {
    while (performance.now() - startedAt < laneMs) {
      await work();
      count++;
    }
  };
  await Promise.all([caller(), caller(), caller()]);
  return (count * 1000) / (performance.now() - startedAt);
}
