import { performance } from 'node:perf_hooks';
import { createSystem, forEach, fromIterable, type Pool, silentLog, stream } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * What a record costs when there is more of everything: pipelines on one pool, pools, room in the mailbox, replicas. The
 * same number of records in every lane; CPU time of the process, its threads included, since more workers than cores
 * only wait for each other. Ratio: what a record costs at the smallest over what it costs here, so below 1 is dearer.
 */
const VALUES = 64;
const CHUNK = 128;
const COST_MAX = 1.15;
const UNDER_WAY = 1024;

type EchoPool = Pool<Float32Array, Float32Array>;

interface Lane {
  readonly what: string;
  readonly count: number;
  readonly smallest: number;
  readonly run: () => Promise<void>;
}

export interface GrowthOptions {
  readonly rounds: number;
  /** Records per lane and round. */
  readonly records: number;
  readonly progress: (line: string) => void;
}

export async function benchGrowth({ rounds, records, progress }: GrowthOptions): Promise<Row[]> {
  const system = createSystem({ log: silentLog });
  const spawn = (name: string, options: { capacity?: number; replicas?: number } = {}): Promise<EchoPool> =>
    system.spawn<Float32Array, Float32Array>(name, {
      actor: workerUrl('echo-actor').href,
      isolation: 'thread',
      batching: { maxSize: CHUNK },
      replicas: options.replicas ?? 1,
      mailbox: { capacity: options.capacity ?? 1024, capacityBytes: 256_000_000 },
    });
  try {
    const inputs = Array.from({ length: records }, (_, index) => new Float32Array(VALUES).fill(index & 0xffff));
    const shared = await spawn('shared');
    const many = await Promise.all(Array.from({ length: 16 }, (_, n) => spawn(`pool-${n}`)));
    const capacities = [100, 10_000, 100_000];
    const mailboxes = await Promise.all(capacities.map((capacity) => spawn(`mailbox-${capacity}`, { capacity })));
    const counts = [1, 2, 4, 8];
    const replicated = await Promise.all(counts.map((replicas) => spawn(`replicas-${replicas}`, { replicas })));
    const lanes: Lane[] = [
      // Once with as many records under way in all, and once with the default of each, which is more work for the caches.
      ...[1, 8, 64].map((count) => ({
        what: `pipelines on one pool, ${UNDER_WAY} records under way in all`,
        count,
        smallest: 1,
        run: () => pipelines(shared, inputs, count, UNDER_WAY / count),
      })),
      ...[1, 8, 64].map((count) => ({
        what: 'pipelines on one pool, 512 records under way in each',
        count,
        smallest: 1,
        run: () => pipelines(shared, inputs, count, 512),
      })),
      ...[1, 4, 16].map((count) => ({
        what: 'pools',
        count,
        smallest: 1,
        run: () => askAll(many.slice(0, count), inputs, 4),
      })),
      ...capacities.map((count, n) => ({
        what: 'room in the mailbox',
        count,
        smallest: 100,
        // As many records under way as there is room for: a long queue is the subject.
        run: () => askAll([mailboxes[n] as EchoPool], inputs, Math.ceil(count / CHUNK)),
      })),
      ...counts.map((count, n) => ({
        what: 'replicas',
        count,
        smallest: 1,
        run: () => askAll([replicated[n] as EchoPool], inputs, 16),
      })),
    ];
    const costs = await measure(lanes, rounds, records, progress);
    return lanes
      .filter(({ count, smallest }) => count !== smallest)
      .map((lane) => {
        const base = lanes.findIndex((other) => other.what === lane.what && other.count === lane.smallest);
        return rowOf(lane, costs[lanes.indexOf(lane)] as number[], costs[base] as number[]);
      });
  } finally {
    await system.stop();
  }
}

/** Microseconds of CPU time per record, by lane and round. */
async function measure(
  lanes: readonly Lane[],
  rounds: number,
  records: number,
  progress: (line: string) => void,
): Promise<number[][]> {
  const costs: number[][] = lanes.map(() => []);
  for (const lane of lanes) await lane.run();
  for (let round = 1; round <= rounds; round++) {
    const startedAt = performance.now();
    // The one that begins has the coldest caches: each begins in turn.
    for (let n = 0; n < lanes.length; n++) {
      const at = (n + round) % lanes.length;
      const before = process.cpuUsage();
      await (lanes[at] as Lane).run();
      const { user, system } = process.cpuUsage(before);
      (costs[at] as number[]).push((user + system) / records);
    }
    progress(`growth: round ${round} of ${rounds}, ${Math.round(performance.now() - startedAt)} ms`);
  }
  return costs;
}

function rowOf({ what, count, smallest }: Lane, ours: readonly number[], theirs: readonly number[]): Row {
  const ratios = ours.map((cost, round) => (theirs[round] as number) / cost);
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  const target = rounded(1 / COST_MAX, 2);
  return {
    part: 'growth',
    id: `growth/${what.replaceAll(/\W+/g, '-')}/${count}`,
    what: `CPU us per record, ${count.toLocaleString('en-US')} ${what}`,
    against: smallest.toLocaleString('en-US'),
    ours: rounded(median(ours), 2),
    theirs: rounded(median(theirs), 2),
    ratio: rounded(ratio, 2),
    spread: [rounded(least, 2), rounded(most, 2)],
    target,
    met: ratio >= target,
  };
}

async function pipelines(
  pool: EchoPool,
  inputs: readonly Float32Array[],
  count: number,
  capacity: number,
): Promise<void> {
  let sum = 0;
  const share = inputs.length / count;
  const reports = await Promise.all(
    Array.from({ length: count }, (_, n) =>
      stream(fromIterable(inputs.slice(n * share, (n + 1) * share)), { chunkSize: CHUNK })
        .infer(pool, { order: 'unordered', capacity })
        .to(forEach((output) => void (sum += output[0] as number))),
    ),
  );
  check(
    inputs,
    reports.reduce((results, report) => results + report.results, 0),
    sum,
  );
}

/** Chunks of one pool after the other, `underWay` chunks at once in each. */
async function askAll(pools: readonly EchoPool[], inputs: readonly Float32Array[], underWay: number): Promise<void> {
  let sum = 0;
  let count = 0;
  let next = 0;
  const caller = async (pool: EchoPool): Promise<void> => {
    while (next < inputs.length) {
      const chunk = inputs.slice(next, next + CHUNK);
      next += CHUNK;
      for (const outcome of await pool.askMany(chunk)) {
        if (!outcome.ok) throw outcome.error;
        sum += outcome.value[0] as number;
        count++;
      }
    }
  };
  await Promise.all(pools.flatMap((pool) => Array.from({ length: underWay }, () => caller(pool))));
  check(inputs, count, sum);
}

function check(inputs: readonly Float32Array[], count: number, sum: number): void {
  let expected = 0;
  for (const input of inputs) expected += input[0] as number;
  if (count !== inputs.length || sum !== expected)
    throw new Error(`Expected ${inputs.length} answers with the sum ${expected}, got ${count} with ${sum}`);
}
