import { performance } from 'node:perf_hooks';
import { createSystem, type Isolation, type Pool, silentLog, type System } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * Row B1: swaps under full load, one after another. Callers ask without a pause, a third of them with a key each; every
 * answer must be there, be of the version that its outcome names, and of one key never of an older version than the one
 * before. And what a swap costs those who ask meanwhile: the p99 of answers that came while one was under way, beside the
 * p99 of as much time without; and what a hundred of them leave behind in memory.
 */
const CALLERS = 96;
const BATCH = 32;
const REPLICAS = 2;
/** Of a batch of the model, as callers see it in a quiet time. */
const BATCH_TIMES_MAX = 1;
const MEMORY_MAX = 1.02;
/** After this many code is compiled and the heap has its size. */
const WARM = 100;
const MEMORY_FROM = 5;
const MEMORY_AFTER = 100;
/** Laps with a swap and laps without take turns; a median of so many laps is what counts. */
const LAPS = 10;

export interface SwapBenchOptions {
  readonly swaps: number;
  /** In children; they take some hundred times as long to start. */
  readonly childSwaps: number;
  readonly progress: (line: string) => void;
}

type Versions = Pool<number, string>;

/** What callers saw, for as long as it runs. */
class Load {
  answered = 0;
  failed = 0;
  /** Answers of another version than their outcome names, and keys that went back. */
  mixed = 0;
  /** Made once: what the measuring itself allocates would look like a leak. */
  readonly #latencies = new Float64Array(2 ** 20);
  #count = 0;
  #isOver = false;
  #goal = 0;
  #reached: () => void = () => undefined;
  readonly #callers: Promise<void>[];

  constructor(pool: Versions) {
    this.#callers = Array.from({ length: CALLERS }, (_, caller) => this.#ask(pool, caller));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#callers);
  }

  /** Of the answers since the last time. */
  p99(): number {
    const sorted = this.#latencies.subarray(0, this.#count).sort();
    this.#count = 0;
    return sorted[Math.floor(sorted.length * 0.99)] ?? NaN;
  }

  /** Until so many answers more have come. */
  more(count: number): Promise<void> {
    if (count <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#goal = this.answered + count;
      this.#reached = resolve;
    });
  }

  async #ask(pool: Versions, caller: number): Promise<void> {
    const isKeyed = caller % 3 === 0;
    let newest = 0;
    for (let n = caller; !this.#isOver; n += CALLERS) {
      const from = performance.now();
      const options = isKeyed ? { key: `caller ${caller}` } : {};
      const [outcome] = await pool.askMany([n], options);
      if (outcome?.ok !== true) {
        this.failed++;
        continue;
      }
      if (this.#count < this.#latencies.length) this.#latencies[this.#count++] = performance.now() - from;
      if (++this.answered === this.#goal) this.#reached();
      if (outcome.value !== outcome.version) this.mixed++;
      if (!isKeyed) continue;
      if (Number(outcome.value) < newest) this.mixed++;
      newest = Number(outcome.value);
    }
  }
}

export async function benchSwap({ swaps, childSwaps, progress }: SwapBenchOptions): Promise<Row[]> {
  return [...(await many('inline', swaps, progress)), ...(await many('process', childSwaps, progress))];
}

async function many(isolation: Isolation, swaps: number, progress: (line: string) => void): Promise<Row[]> {
  const system = createSystem({ log: silentLog });
  try {
    const pool = await system.spawn<number, string>('model', {
      actor: workerUrl('version-actor').href,
      isolation,
      version: 1,
      replicas: REPLICAS,
      batching: { maxSize: BATCH },
      mailbox: { capacity: 4 * CALLERS },
    });
    const load = new Load(pool);
    await load.more(2000);
    const quiet: number[] = [];
    const during: number[] = [];
    const took: number[] = [];
    let usedAt = 0;
    let used = 0;
    const perLap = Math.max(1, Math.floor(swaps / LAPS));
    for (let done = 0; done < swaps; ) {
      await load.more(isolation === 'inline' ? 5000 : 2000);
      quiet.push(load.p99());
      for (let n = 0; n < perLap && done < swaps; n++) {
        const from = performance.now();
        const answered = load.answered;
        await pool.swap(done + 2);
        took.push(performance.now() - from);
        done++;
        // A thousand swaps are to see a million answers, whatever little time they take.
        if (isolation === 'inline') await load.more(1000 - (load.answered - answered));
        if (done === WARM + MEMORY_FROM) usedAt = await usedBytes(system);
        if (done === WARM + MEMORY_AFTER) used = await usedBytes(system);
      }
      during.push(load.p99());
      progress(
        `swap/${isolation}: ${done} of ${swaps}, ${load.answered} answers, p99 ${rounded(during.at(-1) as number, 2)} ms, without ${rounded(quiet.at(-1) as number, 2)}`,
      );
    }
    await load.stop();
    const batchMs = pool.stats().expectedBatchMs;
    return rows(isolation, { load, quiet, during, took, usedAt, used, batchMs });
  } finally {
    await system.stop();
  }
}

interface Measured {
  readonly load: Load;
  readonly quiet: readonly number[];
  readonly during: readonly number[];
  readonly took: readonly number[];
  readonly usedAt: number;
  readonly used: number;
  readonly batchMs: number;
}

function rows(isolation: Isolation, { load, quiet, during, took, usedAt, used, batchMs }: Measured): Row[] {
  const swaps = took.length;
  const where = `${swaps} swaps, ${isolation}`;
  const row = (id: string, what: string, ours: number, range: readonly [number, number], target: number): Row => ({
    part: 'swap',
    id: `swap/${isolation}-${id}`,
    what,
    ours: rounded(ours, 3),
    spread: [rounded(range[0], 3), rounded(range[1], 3)],
    target,
    atMost: true,
    met: ours <= target,
  });
  const added = during.map((ms, lap) => ms - (quiet[lap] as number));
  const bad = load.failed + load.mixed;
  const grown = used / usedAt;
  const memory = `memory after ${MEMORY_AFTER} swaps, by that after ${MEMORY_FROM}, ${WARM} before to warm up, ${isolation}`;
  return [
    row('bad', `failed and mixed of ${load.answered} answers, ${where}`, bad, [bad, bad], 0),
    row(
      'p99',
      `ms of p99 added while swaps run (without: ${rounded(median(quiet), 2)} ms), ${where}`,
      median(added),
      spread(added),
      rounded(BATCH_TIMES_MAX * batchMs, 2),
    ),
    ...(swaps >= WARM + MEMORY_AFTER ? [row('memory', memory, grown, [grown, grown], MEMORY_MAX)] : []),
    {
      part: 'swap',
      id: `swap/${isolation}-ms`,
      what: `ms of a swap of ${REPLICAS} replicas, from the call until the old version is freed, ${isolation}`,
      ours: rounded(median(took), 2),
      spread: spread(took.map((ms) => rounded(ms, 2))) as [number, number],
    },
  ];
}

/** What this process uses, without its garbage, and what its children hold. */
async function usedBytes(system: System): Promise<number> {
  (globalThis as { gc?: () => void }).gc?.();
  await new Promise((resolve) => setImmediate(resolve));
  const { heapUsed, external } = process.memoryUsage();
  let bytes = heapUsed + external;
  for (const [, child] of system.metrics().matchAll(/^troupe_replica_resident_bytes\{[^}]*\} (\d+)/gm))
    bytes += Number(child);
  return bytes;
}
