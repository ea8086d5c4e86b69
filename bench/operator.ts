import { performance } from 'node:perf_hooks';
import { createSystem, forEach, fromIterable, type Pool, silentLog, stream } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * What the infer step costs above calling the pool by hand: the same records through the same pool, once in a pipeline
 * and once by a loop that calls askMany in chunks with as many records under way. Both check every answer.
 */
const CHUNK = 128;
const CAPACITY = 512;
const VALUES = 64;

/** Most time per record above the hand-made loop. */
const OVERHEAD_MAX = { unordered: 0.15, ordered: 0.25 } as const;

type Order = keyof typeof OVERHEAD_MAX;

export interface OperatorOptions {
  readonly rounds: number;
  /** Records per lane and round. */
  readonly records: number;
  readonly progress: (line: string) => void;
}

export async function benchOperator({ rounds, records, progress }: OperatorOptions): Promise<Row[]> {
  const system = createSystem({ log: silentLog });
  try {
    const pool = await system.spawn<Float32Array, Float32Array>('echo', {
      actor: workerUrl('echo-actor').href,
      isolation: 'thread',
      batching: { maxSize: CHUNK },
    });
    const inputs = Array.from({ length: records }, (_, index) => new Float32Array(VALUES).fill(index & 0xffff));
    const lanes: Record<Order | 'hand', () => Promise<void>> = {
      hand: () => byHand(pool, inputs),
      unordered: () => inPipeline(pool, inputs, 'unordered'),
      ordered: () => inPipeline(pool, inputs, 'ordered'),
    };
    const names = Object.keys(lanes) as (keyof typeof lanes)[];
    const laps: Record<keyof typeof lanes, number[]> = { hand: [], unordered: [], ordered: [] };
    for (const name of [...names, ...names]) await lanes[name]();
    for (let round = 1; round <= rounds; round++) {
      // The one that begins has the coldest caches: each begins in turn.
      for (let at = 0; at < names.length; at++) {
        const name = names[(at + round) % names.length] as keyof typeof lanes;
        const startedAt = performance.now();
        await lanes[name]();
        laps[name].push((records * 1000) / (performance.now() - startedAt));
      }
      progress(
        `round ${round} of ${rounds}: ${names.map((n) => `${n} ${Math.round(laps[n].at(-1) as number)}`).join(', ')}`,
      );
    }
    return (['unordered', 'ordered'] as const).map((order) => rowOf(order, laps[order], laps.hand));
  } finally {
    await system.stop();
  }
}

function rowOf(order: Order, ours: readonly number[], theirs: readonly number[]): Row {
  const ratios = ours.map((rate, round) => rate / (theirs[round] as number));
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  const target = rounded(1 / (1 + OVERHEAD_MAX[order]), 2);
  return {
    part: 'operator',
    id: `operator/${order}`,
    what: `records per second through infer, ${order}, Float32[${VALUES}] echo in a thread`,
    against: `askMany by hand in chunks of ${CHUNK}, ${CAPACITY / CHUNK} at once`,
    ours: rounded(median(ours), 0),
    theirs: rounded(median(theirs), 0),
    ratio: rounded(ratio, 2),
    spread: [rounded(least, 2), rounded(most, 2)],
    target,
    met: ratio >= target,
  };
}

type EchoPool = Pool<Float32Array, Float32Array>;

async function inPipeline(pool: EchoPool, inputs: readonly Float32Array[], order: Order): Promise<void> {
  let sum = 0;
  const report = await stream(fromIterable(inputs), { chunkSize: CHUNK })
    .infer(pool, { order, capacity: CAPACITY })
    .to(forEach((output) => void (sum += output[0] as number)));
  check(inputs, report.results, sum);
}

async function byHand(pool: EchoPool, inputs: readonly Float32Array[]): Promise<void> {
  let sum = 0;
  let count = 0;
  let next = 0;
  const caller = async (): Promise<void> => {
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
  await Promise.all(Array.from({ length: CAPACITY / CHUNK }, caller));
  check(inputs, count, sum);
}

function check(inputs: readonly Float32Array[], count: number, sum: number): void {
  let expected = 0;
  for (const input of inputs) expected += input[0] as number;
  if (count !== inputs.length || sum !== expected) {
    throw new Error(`Expected ${inputs.length} answers with the sum ${expected}, got ${count} with ${sum}`);
  }
}
