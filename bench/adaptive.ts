import type { BatchLimits } from '../src/core/batcher.js';
import { Chance } from '../src/testing/seeds.js';
import { runDoubling, runVirtualLoad } from '../src/testing/virtual-load.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * The adaptive batcher against fixed rules and against what can be computed, on a model of known cost (5 ms and 0.05 ms
 * per record) in virtual time: the pool core as it is, the same arrivals for every rule, nothing of the machine in the
 * figures. Load is a share of what the pool can do in batches of its largest size.
 */
const A_MS = 5;
const B_MS = 0.05;
const costMs = (n: number): number => A_MS + B_MS * n;
const LOADS = [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95];
const RECORDS = 60_000;
const TARGET_MS = 50;

export interface AdaptiveOptions {
  /** Traces of arrivals for each row. */
  readonly seeds: number;
  readonly progress: (line: string) => void;
}

export function benchAdaptive({ seeds, progress }: AdaptiveOptions): Row[] {
  const rows = [optimum(), closedLoop()];
  for (const kind of ['poisson', 'bursty'] as const)
    for (const maxSize of [32, 1024]) {
      progress(`adaptive: ${kind} arrivals, batches up to ${maxSize}`);
      for (const load of LOADS) rows.push(againstRules(kind, maxSize, load, seeds));
    }
  rows.push(...lightLoad());
  progress('adaptive: overload with deadlines');
  for (const factor of [2, 10]) rows.push(deadlines(factor));
  progress('adaptive: bursts over four replicas');
  rows.push(...sharing(seeds));
  return rows;
}

interface Served {
  readonly p99: number;
  readonly perMs: number;
}

/**
 * More than the pool can do, each record with a deadline that is the target. A record that comes just after a batch has
 * begun waits for it and for its own: so no batch may take more than half of the target.
 */
function optimum(): Row {
  const best = Math.floor((TARGET_MS / 2 - A_MS) / B_MS);
  const most = best / costMs(best);
  const load = { costMs, capacity: 4096, timeoutMs: TARGET_MS };
  const batching = { maxSize: 1024, targetLatencyMs: TARGET_MS };
  const ratios: number[] = [];
  for (let seed = 1; seed <= 5; seed++) {
    const { answered, endMs } = runVirtualLoad({ ...load, arrivals: poisson(1.2 * most, 400_000, seed), batching });
    ratios.push(answered / endMs / most);
  }
  return {
    part: 'adaptive',
    id: 'adaptive/optimum',
    what: `records per ms within ${TARGET_MS} ms, saturated`,
    against: `computed optimum, batches of ${best}`,
    ours: rounded(median(ratios) * most, 2),
    theirs: most,
    ratio: rounded(median(ratios), 3),
    spread: rounds(ratios, 3),
    target: 0.97,
    met: median(ratios) >= 0.97,
  };
}

/** As many callers as fill two batches, each asking again at once: without a target the largest batch is best. */
function closedLoop(): Row {
  const maxSize = 256;
  const most = maxSize / costMs(maxSize);
  // Arrivals ahead of all service: the mailbox is never short of a full batch.
  const { answered, endMs } = runVirtualLoad({ arrivals: new Float64Array(200_000), costMs, batching: { maxSize } });
  const ratio = answered / endMs / most;
  return {
    part: 'adaptive',
    id: 'adaptive/largest',
    what: 'records per ms, saturated, no target',
    against: `computed optimum, batches of ${maxSize}`,
    ours: rounded(answered / endMs, 2),
    theirs: rounded(most, 2),
    ratio: rounded(ratio, 3),
    spread: [rounded(ratio, 3), rounded(ratio, 3)],
    target: 0.97,
    met: ratio >= 0.97,
  };
}

const FIXED: Readonly<Record<string, Partial<BatchLimits>>> = {
  '(32, 0 ms)': { maxSize: 32 },
  '(10, 10 ms)': { maxSize: 10, maxDelayMs: 10 },
  '(32, 100 ms)': { maxSize: 32, maxDelayMs: 100 },
};

/** The lowest p99 of the fixed rules that serve at least as much. */
function againstRules(kind: 'poisson' | 'bursty', maxSize: number, load: number, seeds: number): Row {
  const ratios: number[] = [];
  const ours: number[] = [];
  const theirs: number[] = [];
  const winners = new Map<string, number>();
  for (let seed = 1; seed <= seeds; seed++) {
    const rate = (load * maxSize) / costMs(maxSize);
    const arrivals = kind === 'poisson' ? poisson(rate, RECORDS, seed) : bursty(rate, RECORDS, seed);
    const own = served(runVirtualLoad({ arrivals, costMs, batching: { maxSize } }).latencies, arrivals);
    const rules = Object.entries(FIXED).map(([name, batching]): [string, Served] => [
      name,
      served(runVirtualLoad({ arrivals, costMs, batching: { adaptive: false, ...batching } }).latencies, arrivals),
    ]);
    rules.push([
      'doubling',
      served(runDoubling(arrivals, costMs, Math.min(32, maxSize), Math.max(32, maxSize)), arrivals),
    ]);
    const [winner, best] = rules.reduce((one, other) => (other[1].p99 < one[1].p99 ? other : one));
    winners.set(winner, (winners.get(winner) ?? 0) + 1);
    ratios.push(own.perMs >= 0.995 * best.perMs ? own.p99 / best.p99 : Infinity);
    ours.push(own.p99);
    theirs.push(best.p99);
  }
  const [winner] = [...winners].sort((one, other) => other[1] - one[1])[0] as [string, number];
  const ratio = median(ratios);
  return {
    part: 'adaptive',
    id: `adaptive/${kind}-${maxSize}-${load * 100}`,
    what: `p99 in ms, ${kind}, batches up to ${maxSize}, load ${load * 100} %`,
    against: `best fixed rule: ${winner}`,
    ours: rounded(median(ours), 2),
    theirs: rounded(median(theirs), 2),
    ratio: rounded(ratio, 3),
    spread: rounds(ratios, 3),
    target: 1.05,
    atMost: true,
    met: ratio <= 1.05,
  };
}

/** A tenth of what a replica does one by one: batching must not cost a record anything. */
function lightLoad(): Row[] {
  const arrivals = poisson(0.1 / costMs(1), 20_000, 1);
  const own = runVirtualLoad({ arrivals, costMs, batching: { maxSize: 32 } }).latencies;
  const single = runVirtualLoad({ arrivals, costMs, batching: { adaptive: false, maxSize: 1 } }).latencies;
  return [0.5, 0.99].map((share) => {
    const [ours, theirs] = [quantile(own, share), quantile(single, share)];
    return {
      part: 'adaptive',
      id: `adaptive/light-p${share * 100}`,
      what: `ms more than unbatched at 10 % load, p${share * 100}`,
      ours: rounded(ours - theirs, 2),
      spread: [rounded(theirs, 2), rounded(ours, 2)] as const,
      target: 1,
      atMost: true,
      met: ours - theirs <= 1,
    };
  });
}

/** Records in time, of many more than can be; the fixed rules are given the size that is best for them. */
function deadlines(factor: number): Row {
  const best = Math.floor((TARGET_MS / 2 - A_MS) / B_MS);
  const arrivals = poisson((factor * best) / costMs(best), 200_000 * factor, 7);
  const load = { arrivals, costMs, capacity: 4096, timeoutMs: TARGET_MS };
  const own = runVirtualLoad({ ...load, batching: { maxSize: 1024 } });
  const fixed = [32, 128, best, 1024].map((maxSize) => {
    const { answered, endMs } = runVirtualLoad({ ...load, batching: { adaptive: false, maxSize } });
    return answered / endMs;
  });
  const [ours, theirs] = [own.answered / own.endMs, Math.max(...fixed)];
  return {
    part: 'adaptive',
    id: `adaptive/deadlines-${factor}`,
    what: `records per ms answered within ${TARGET_MS} ms, ${factor} times the load`,
    against: 'the best of fixed sizes 32, 128, 400, 1024',
    ours: rounded(ours, 2),
    theirs: rounded(theirs, 2),
    ratio: rounded(ours / theirs, 2),
    spread: [rounded(Math.min(...fixed), 2), rounded(theirs, 2)],
  };
}

/** A model whose records cost much beside the fixed part, on four replicas: what a burst brings is divided. */
function sharing(seeds: number): Row[] {
  const heavy = (n: number): number => 2 + n;
  return [0.3, 0.6, 0.9].map((load) => {
    const ratios: number[] = [];
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let seed = 1; seed <= seeds; seed++) {
      const arrivals = bursty((4 * load * 256) / heavy(256), 20_000, seed);
      const run = (adaptive: boolean): number =>
        quantile(
          runVirtualLoad({ arrivals, costMs: heavy, replicas: 4, batching: { adaptive, maxSize: 256 } }).latencies,
          0.99,
        );
      ours.push(run(true));
      theirs.push(run(false));
      ratios.push((ours.at(-1) as number) / (theirs.at(-1) as number));
    }
    return {
      part: 'adaptive',
      id: `adaptive/sharing-${load * 100}`,
      what: `p99 in ms, 2 + n ms, bursts over 4 replicas, load ${load * 100} %`,
      against: 'every free replica takes all that waits',
      ours: rounded(median(ours), 1),
      theirs: rounded(median(theirs), 1),
      ratio: rounded(median(ratios), 3),
      spread: rounds(ratios, 3),
    };
  });
}

/** Throughput counts what was answered while records still came: what is left then says nothing of the rate. */
function served(latencies: Float64Array, arrivals: Float64Array): Served {
  const endAt = arrivals.at(-1) as number;
  let answered = 0;
  for (let at = 0; at < latencies.length; at++)
    if ((arrivals[at] as number) + (latencies[at] as number) <= endAt) answered++;
  return { p99: quantile(latencies, 0.99), perMs: answered / endAt };
}

function quantile(latencies: Float64Array, share: number): number {
  const sorted = latencies.filter((ms) => !Number.isNaN(ms)).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number;
}

function rounds(ratios: readonly number[], digits: number): readonly [number, number] {
  const [low, high] = spread(ratios);
  return [rounded(low, digits), rounded(high, digits)];
}

function poisson(perMs: number, count: number, seed: number): Float64Array {
  const chance = new Chance(seed, 31);
  const arrivals = new Float64Array(count);
  let at = 0;
  for (let n = 0; n < count; n++) arrivals[n] = at += -Math.log(1 - chance.next()) / perMs;
  return arrivals;
}

/** Bursts of 64 on average at four times the rate, and silence between them. */
function bursty(perMs: number, count: number, seed: number): Float64Array {
  const chance = new Chance(seed, 32);
  const arrivals = new Float64Array(count);
  let at = 0;
  for (let n = 0; n < count; ) {
    const size = Math.min(count - n, 1 + Math.floor(-Math.log(1 - chance.next()) * 64));
    for (let k = 0; k < size; k++) arrivals[n++] = at += -Math.log(1 - chance.next()) / (4 * perMs);
    at += (-Math.log(1 - chance.next()) * 0.75 * size) / perMs;
  }
  return arrivals;
}
