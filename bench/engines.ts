import { fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createSystem, type Pool, silentLog } from 'troupe';
import { encodeModel, mlpModel } from '../test/fixtures/onnx-writer.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * Two models on onnxruntime, one that gains from batching and one that does not: a pool that is told neither, against a
 * bare loop at its own best batch size. One process each, one thread per operator.
 */
const SIZES = [1, 2, 4, 8, 16, 32, 64, 128];

export interface EnginesOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

interface Model {
  readonly name: string;
  readonly bytes: Buffer;
  /** Of the pool and of the loop. */
  readonly maxSize: number;
  /** Of one record. */
  readonly shape: readonly number[];
}

export async function benchEngines({ rounds, laneMs, progress }: EnginesOptions): Promise<Row[]> {
  const rows: Row[] = [];
  for (const model of [mlp(), cnn()]) rows.push(await benchModel(model, rounds, laneMs, progress));
  return rows;
}

async function benchModel(
  model: Model,
  rounds: number,
  laneMs: number,
  progress: (line: string) => void,
): Promise<Row> {
  const dir = mkdtempSync(join(tmpdir(), 'troupe-bench-'));
  const file = join(dir, '1', 'model.onnx');
  mkdirSync(join(dir, '1'));
  writeFileSync(file, model.bytes);
  const sizes = SIZES.filter((size) => size <= model.maxSize);
  const bare = await openBare(file, model.shape);
  const system = createSystem({ log: silentLog });
  try {
    const pool = await system.spawn<{ x: Float32Array }, unknown>(model.name, {
      actor: 'onnx',
      model: dir,
      isolation: 'process',
      mailbox: { capacity: 4096, overflow: 'wait' },
      batching: { maxSize: model.maxSize, maxInFlight: 2 },
      options: { intraOpThreads: 1 },
    });
    const length = model.shape.reduce((product, dim) => product * dim, 1);
    const callers = new Callers(pool, 4 * model.maxSize, new Float32Array(length).fill(0.5));
    // What is learned is learned here: every size of the loop has its turns beside a turn of the pool.
    const best = new Map(sizes.map((size) => [size, [] as number[]]));
    for (let round = 0; round < 3; round++)
      for (const size of sizes) {
        best.get(size)?.push(await bare.run(size, laneMs));
        await callers.run(laneMs);
      }
    const [size] = [...best].map(([of, rates]) => [of, median(rates)] as const).reduce((a, b) => (b[1] > a[1] ? b : a));
    const batchesBefore = pool.stats();
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      theirs.push(await bare.run(size, laneMs));
      ours.push(await callers.run(laneMs));
    }
    await callers.stop();
    const { batches, accepted, batcher } = pool.stats();
    const mean = (accepted - batchesBefore.accepted) / (batches - batchesBefore.batches);
    const scaling = [...best].map(([of, rates]) => `${of}: ${Math.round(median(rates))}`).join(', ');
    progress(`engines: ${model.name}, loop by size ${scaling}; pool's batches ${mean.toFixed(1)}`);
    progress(`engines: ${JSON.stringify(batcher[0])}`);
    const ratios = ours.map((rate, round) => rate / (theirs[round] as number));
    const ratio = median(ratios);
    const [low, high] = spread(ratios);
    return {
      part: 'engines',
      id: `engines/${model.name}`,
      what: `${model.name}, records per second, batches of ${mean.toFixed(1)} found by the pool`,
      against: `bare loop, batches of ${size}`,
      ours: rounded(median(ours), 0),
      theirs: rounded(median(theirs), 0),
      ratio: rounded(ratio, 3),
      spread: [rounded(low, 3), rounded(high, 3)],
      target: 0.95,
      met: ratio >= 0.95,
    };
  } finally {
    bare.close();
    await system.stop({ timeoutMs: 0 });
    rmSync(dir, { recursive: true, force: true });
  }
}

/** So many callers, each with one ask under way; they rest between two runs. */
class Callers {
  #isOn = false;
  #done = 0;
  #doneAt = 0;
  #under: Promise<unknown>[] = [];
  constructor(
    readonly pool: Pool<{ x: Float32Array }, unknown>,
    readonly count: number,
    readonly record: Float32Array,
  ) {}

  /** Records per second, from the answer of one batch to that of another: before the first the pool is not yet full. */
  async run(ms: number): Promise<number> {
    this.#isOn = true;
    const before = this.#done;
    for (let n = 0; n < this.count; n++) this.#under.push(this.#call());
    while (this.#done === before) await new Promise((resolve) => setTimeout(resolve, 1));
    const [first, startedAt] = [this.#done, this.#doneAt];
    await new Promise((resolve) => setTimeout(resolve, ms));
    while (this.#done === first) await new Promise((resolve) => setTimeout(resolve, 1));
    const rate = ((this.#done - first) * 1000) / (this.#doneAt - startedAt);
    await this.stop();
    return rate;
  }

  async stop(): Promise<void> {
    this.#isOn = false;
    await Promise.all(this.#under);
    this.#under = [];
  }

  async #call(): Promise<void> {
    while (this.#isOn) {
      await this.pool.ask({ x: this.record });
      this.#done++;
      this.#doneAt = performance.now();
    }
  }
}

interface Bare {
  run(size: number, ms: number): Promise<number>;
  close(): void;
}

async function openBare(model: string, shape: readonly number[]): Promise<Bare> {
  const child = fork(fileURLToPath(new URL('./workers/bare-onnx.js', import.meta.url)));
  const ask = (message: object): Promise<{ readonly records: number; readonly ms: number }> =>
    new Promise((resolve, reject) => {
      const failed = (code: unknown): void => reject(new Error(`the bare loop ended with ${String(code)}`));
      child.once('exit', failed);
      child.once('message', (answer) => {
        child.off('exit', failed);
        resolve(answer as { readonly records: number; readonly ms: number });
      });
      child.send(message);
    });
  await ask({ model, shape });
  return {
    run: async (size, ms) => {
      const done = await ask({ size, ms });
      return (done.records * 1000) / done.ms;
    },
    close: () => void child.kill(),
  };
}

/** 512-2048-2048-512, 25 MB: a batch reads the weights once, so it costs little more than one record. */
function mlp(): Model {
  const layer = (inputs: number, outputs: number): { weights: Float32Array; bias: Float32Array } => ({
    weights: weights(inputs * outputs, inputs),
    bias: new Float32Array(outputs),
  });
  return {
    name: 'mlp',
    bytes: mlpModel([layer(512, 2048), layer(2048, 2048), layer(2048, 512)]),
    maxSize: 128,
    shape: [512],
  };
}

/** Three convolutions over 3 x 128 x 128: what a batch saves is nothing, and its images leave the caches. */
function cnn(): Model {
  const channels = [3, 16, 16, 32];
  const nodes = [];
  const initializers = [];
  for (let n = 0; n + 1 < channels.length; n++) {
    const [from, to] = [channels[n] as number, channels[n + 1] as number];
    initializers.push({ name: `w${n}`, dims: [to, from, 3, 3], values: weights(to * from * 9, from * 9) });
    const attributes = { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] };
    nodes.push({ op: 'Conv', inputs: [n === 0 ? 'x' : `r${n - 1}`, `w${n}`], outputs: [`c${n}`], attributes });
    nodes.push({ op: 'Relu', inputs: [`c${n}`], outputs: [`r${n}`] });
  }
  nodes.push({ op: 'GlobalAveragePool', inputs: [`r${channels.length - 2}`], outputs: ['y'] });
  const bytes = encodeModel({
    inputs: [{ name: 'x', type: 'float32', shape: ['n', 3, 128, 128] }],
    outputs: [{ name: 'y', type: 'float32', shape: ['n', 32, 1, 1] }],
    nodes,
    initializers,
  });
  return { name: 'cnn', bytes, maxSize: 32, shape: [3, 128, 128] };
}

/** Small numbers without chance; their values cost the same as any. */
function weights(count: number, inputs: number): Float32Array {
  return Float32Array.from({ length: count }, (_, n) => (((n * 2654435761) % 1000) / 1000 - 0.5) / Math.sqrt(inputs));
}
