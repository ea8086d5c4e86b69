/**
 * What the adaptive batcher is to learn, each case in virtual time on the pool core as it is: it settles within 50 batches
 * at a size that serves nearly as much as the best, whatever costs do, and breaks no promise while it learns.
 */
import type { RowResult } from './rows.js';
import { Chance } from './seeds.js';
import { runVirtualLoad, type VirtualBatch, type VirtualLoad } from './virtual-load.js';

type Cost = (n: number) => number;

/** Gains from batching: the fixed part is a hundred records' worth. */
const gains: Cost = (n) => 5 + 0.05 * n;
/** Gets slower per record with size, as a network of convolutions whose images leave the caches. */
const suffers: Cost = (n) => 4.5 * n * (1 + 0.06 * Math.log2(n));
/** Best at 16. */
const bent: Cost = (n) => 20 + n + (n > 16 ? 6 * (n - 16) : 0);

const SETTLED_AFTER = 50;
/** Of the throughput of the best size. */
const NEARLY = 0.95;
const RUNS = 12;

interface Case {
  readonly id: string;
  readonly title: string;
  /** What is wrong with one run, if anything. */
  readonly run: (seed: number) => string | undefined;
}

const CASES: readonly Case[] = [
  {
    id: 'L1',
    title: 'a size that serves nearly as much as the best is found within 50 batches, whether large, small or between',
    run: (seed) => {
      const maxSize = 32 * (1 + (seed % 3));
      for (const cost of [gains, suffers, bent]) {
        const problem = settles(saturated({ costMs: cost, batching: { maxSize } }, 400), cost, maxSize);
        if (problem !== undefined) return problem;
      }
      return undefined;
    },
  },
  {
    id: 'L2',
    title: 'costs that jump are learned anew within 50 batches',
    run: (seed) => {
      const at = 80 + 7 * seed;
      for (const [before, after] of [
        [gains, suffers],
        [suffers, gains],
        [gains, (n: number) => 3 * gains(n)],
      ] as const) {
        const costMs = (n: number, index: number): number => (index < at ? before : after)(n);
        const batches = saturated({ costMs, batching: { maxSize: 32 } }, at + 400);
        const problem = settles(batches.slice(at), after, 32);
        if (problem !== undefined) return `after batch ${at}: ${problem}`;
      }
      return undefined;
    },
  },
  {
    id: 'L3',
    title: 'noise, and one batch of twenty that takes ten times as long, mislead neither the one model nor the other',
    run: (seed) => {
      for (const cost of [gains, suffers]) {
        const chance = new Chance(seed, 41);
        const costMs = (n: number): number => cost(n) * (0.9 + 0.2 * chance.next()) * (chance.next() < 0.05 ? 10 : 1);
        const batches = saturated({ costMs, batching: { maxSize: 32 } }, 600);
        const problem = settles(batches, cost, 32, 0.9);
        if (problem !== undefined) return problem;
      }
      return undefined;
    },
  },
  {
    id: 'L4',
    title: 'every shape of records gets the size that is best for it',
    run: (seed) => {
      const costMs = (n: number, _index: number, bucket: string): number => (bucket === 'a' ? gains : suffers)(n);
      const batches = saturated(
        { costMs, batching: { maxSize: 32 }, bucketOf: (n) => 'ab'[(n * seed) % 2] ?? 'a' },
        600,
      );
      const of = (bucket: string): VirtualBatch[] => batches.filter((batch) => batch.bucket === bucket);
      return settles(of('a'), gains, 32) ?? (seed % 2 === 0 ? undefined : settles(of('b'), suffers, 32));
    },
  },
  {
    id: 'L5',
    title: 'a version of another cost is learned from its own batches, within 50',
    run: (seed) => {
      const swapAtBatch = 100 + seed;
      for (const [before, after] of [
        [gains, suffers],
        [suffers, gains],
      ] as const) {
        const costMs = (n: number, _index: number, _bucket: string, version: string): number =>
          (version === '1' ? before : after)(n);
        const batches = saturated({ costMs, batching: { maxSize: 32 }, swapAtBatch }, swapAtBatch + 400);
        const problem = settles(
          batches.filter(({ version }) => version === '2'),
          after,
          32,
        );
        if (problem !== undefined) return problem;
      }
      return undefined;
    },
  },
  {
    id: 'L6',
    title: 'under a latency target no batch takes so long that a record which waits for one before its own misses it',
    run: (seed) => {
      const targetLatencyMs = 20 + 5 * seed;
      const best = Math.min(2048, Math.floor((targetLatencyMs / 2 - 5) / 0.05));
      const batches: VirtualBatch[] = [];
      runVirtualLoad({
        arrivals: steady((0.9 * best) / gains(best), 40_000, seed),
        costMs: gains,
        batching: { maxSize: 2048, targetLatencyMs },
        onBatch: (batch) => void batches.push(batch),
      });
      const longest = Math.max(...batches.map(({ costMs }) => costMs));
      return 2 * longest > targetLatencyMs
        ? `a batch of ${longest} ms under a target of ${targetLatencyMs} ms`
        : undefined;
    },
  },
  {
    id: 'L7',
    title: 'of three times as many records as can be in time nearly as many are as can be, and few begin in vain',
    run: (seed) => {
      const timeoutMs = 50;
      const best = 400;
      const arrivals = steady((3 * best) / gains(best), 300_000, seed);
      const { answered, expired, endMs } = runVirtualLoad({
        arrivals,
        costMs: gains,
        timeoutMs,
        capacity: 2048,
        batching: { maxSize: 1024 },
      });
      const goodput = answered / endMs / (best / gains(best));
      if (goodput < 0.9) return `goodput ${goodput.toFixed(2)} of what can be in time`;
      return expired > 0.1 * arrivals.length ? `${expired} of ${arrivals.length} expired` : undefined;
    },
  },
];

export function runLearningRows(): RowResult[] {
  return CASES.map(({ id, title, run }) => {
    for (let seed = 1; seed <= RUNS; seed++) {
      const problem = run(seed);
      if (problem !== undefined) return { id, title, runs: seed, fired: seed, problem: `seed ${seed}: ${problem}` };
    }
    return { id, title, runs: RUNS, fired: RUNS, problem: undefined };
  });
}

/** The batches of one replica that always has more records than it can take. */
function saturated(load: Omit<VirtualLoad, 'arrivals'>, count: number): VirtualBatch[] {
  const batches: VirtualBatch[] = [];
  runVirtualLoad({
    ...load,
    arrivals: new Float64Array(32 * count),
    onBatch: (batch) => void batches.push(batch),
  });
  return batches.slice(0, count);
}

/** What is wrong from the 50th batch on: a throughput that falls behind, or a size out of bounds. */
function settles(batches: readonly VirtualBatch[], cost: Cost, maxSize: number, nearly = NEARLY): string | undefined {
  for (const { size } of batches) if (size < 1 || size > maxSize) return `a batch of ${size}, ${maxSize} are allowed`;
  let best = 0;
  for (let n = 1; n <= maxSize; n++) best = Math.max(best, n / cost(n));
  let records = 0;
  let ms = 0;
  for (const { size } of batches.slice(SETTLED_AFTER)) {
    records += size;
    ms += cost(size);
  }
  if (records === 0) return undefined;
  const share = records / ms / best;
  if (share >= nearly) return undefined;
  const sizes = batches.slice(SETTLED_AFTER, SETTLED_AFTER + 20).map(({ size }) => size);
  return `${share.toFixed(3)} of the best throughput after ${SETTLED_AFTER} batches, sizes ${sizes.join(' ')}`;
}

function steady(perMs: number, count: number, seed: number): Float64Array {
  const chance = new Chance(seed, 42);
  const arrivals = new Float64Array(count);
  let at = 0;
  for (let n = 0; n < count; n++) arrivals[n] = at += -Math.log(1 - chance.next()) / perMs;
  return arrivals;
}
