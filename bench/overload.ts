import { performance } from 'node:perf_hooks';
import { createSystem, type Pool, silentLog, type TroupeError } from 'troupe';
import type { Row } from './report.js';
import { rounded } from './statistics.js';

/**
 * Ten times as many asks as the pool can do, for as long as is asked: what it still does, how soon the others hear that
 * there is no room, and what is kept in memory meanwhile. Asks come at their rate whatever becomes of them (open loop).
 */
const BATCH_MS = 8;
const MAX_SIZE = 8;
const PER_SECOND = (MAX_SIZE * 1000) / BATCH_MS;
const FACTOR = 10;
const ALONE_SECONDS = 3;

export interface OverloadOptions {
  readonly seconds: number;
  readonly progress: (line: string) => void;
}

interface Flow {
  asked: number;
  ok: number;
  /** Made before the run, so that the figures themselves do not grow in memory. */
  readonly refusedAfterMs: Float64Array;
  refused: number;
  /** Resident bytes, once a second. */
  readonly resident: number[];
}

export async function benchOverload({ seconds, progress }: OverloadOptions): Promise<Row[]> {
  const system = createSystem({ log: silentLog });
  try {
    const pool = await system.spawn<number, number>('timed', {
      actor: 'mock',
      isolation: 'thread',
      mailbox: { capacity: 64, overflow: 'reject' },
      batching: { maxSize: MAX_SIZE, maxInFlight: 2 },
      options: { a: BATCH_MS, b: 0, time: 'real' },
    });
    await saturate(pool, 1);
    const before = await saturate(pool, ALONE_SECONDS);
    const flow = await openLoop(pool, seconds);
    const after = await saturate(pool, ALONE_SECONDS);
    const capacity = (before + after) / 2;
    progress(
      `overload: alone ${Math.round(before)} and ${Math.round(after)}, asked ${flow.asked}, answered ${flow.ok}`,
    );
    const goodput = flow.ok / seconds;
    const refused = flow.refusedAfterMs.subarray(0, flow.refused).sort();
    const refusedP99 = quantile(refused, 0.99);
    // The first quarter fills heaps and histograms.
    const settled = flow.resident.slice(Math.ceil(flow.resident.length / 4));
    const grown = (Math.max(...settled) - (settled[0] ?? 0)) / 2 ** 20;
    return [
      {
        part: 'overload',
        id: 'overload/goodput',
        what: `results per second, ${FACTOR} times the load for ${seconds} s`,
        against: 'the same pool with as many callers as it likes',
        ours: rounded(goodput, 0),
        theirs: rounded(capacity, 0),
        ratio: rounded(goodput / capacity, 2),
        spread: [rounded(goodput / Math.max(before, after), 2), rounded(goodput / Math.min(before, after), 2)],
        target: 0.9,
        met: goodput / capacity >= 0.9,
      },
      {
        part: 'overload',
        id: 'overload/refused',
        what: 'ms until a refused ask knows, p99',
        ours: rounded(refusedP99, 2),
        spread: [rounded(quantile(refused, 0.5), 2), rounded(refused.at(-1) ?? NaN, 2)],
        target: 5,
        atMost: true,
        met: refusedP99 < 5,
      },
      {
        part: 'overload',
        id: 'overload/memory',
        what: 'MiB grown over the last three quarters',
        ours: rounded(grown, 1),
        spread: [rounded(Math.min(...settled) / 2 ** 20, 0), rounded(Math.max(...settled) / 2 ** 20, 0)],
        target: 16,
        atMost: true,
        met: grown < 16,
      },
    ];
  } finally {
    await system.stop();
  }
}

/** Results per second with the mailbox always full and nothing refused. */
async function saturate(pool: Pool<number, number>, seconds: number): Promise<number> {
  const startedAt = performance.now();
  let count = 0;
  const caller = async (): Promise<void> => {
    while (performance.now() - startedAt < seconds * 1000) {
      await pool.ask(count);
      count++;
    }
  };
  await Promise.all(Array.from({ length: 4 * MAX_SIZE }, caller));
  return (count * 1000) / (performance.now() - startedAt);
}

async function openLoop(pool: Pool<number, number>, seconds: number): Promise<Flow> {
  const most = Math.ceil(seconds * FACTOR * PER_SECOND) + FACTOR * PER_SECOND;
  const flow: Flow = { asked: 0, ok: 0, refusedAfterMs: new Float64Array(most).fill(0), refused: 0, resident: [] };
  let pending = 0;
  const one = async (n: number): Promise<void> => {
    const askedAt = performance.now();
    pending++;
    try {
      await pool.ask(n, { timeoutMs: 10_000 });
      flow.ok++;
    } catch (error) {
      if ((error as TroupeError).code !== 'MAILBOX_FULL') throw error;
      flow.refusedAfterMs[flow.refused++] = performance.now() - askedAt;
    }
    pending--;
  };
  let failure: unknown;
  const startedAt = performance.now();
  for (let elapsed = 0; elapsed < seconds * 1000; elapsed = performance.now() - startedAt) {
    const due = Math.floor((elapsed / 1000) * FACTOR * PER_SECOND);
    while (flow.asked < due) one(flow.asked++).catch((error: unknown) => (failure ??= error));
    if (elapsed >= flow.resident.length * 1000) flow.resident.push(process.memoryUsage.rss());
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  while (pending > 0 && failure === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
  if (failure !== undefined) throw failure;
  return flow;
}

function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}
