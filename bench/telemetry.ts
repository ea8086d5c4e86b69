import { performance } from 'node:perf_hooks';
import { createSystem, type Pool, silentLog } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * What it costs to be looked at: the same asks of the same pool, with a listener on every event and `stats()` read as JSON
 * every 100 ms, and without. Counters and latency quantiles are always kept, so they are in both.
 */
const CALLERS = 256;
const VALUES = 64;
const COST_MAX = 0.03;
const READ_MS = 100;
const EVENTS = ['ready', 'died', 'restarting', 'restarted', 'failed', 'swapped', 'breaker', 'dead-letter'] as const;

type EchoPool = Pool<Float32Array, Float32Array>;

export interface TelemetryOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

export async function benchTelemetry({ rounds, laneMs, progress }: TelemetryOptions): Promise<Row[]> {
  const system = createSystem({ log: silentLog });
  try {
    const pool = await system.spawn<Float32Array, Float32Array>('echo', {
      actor: workerUrl('echo-actor').href,
      isolation: 'thread',
      batching: { maxSize: CALLERS / 2 },
    });
    // Two reads at least in every lap.
    const lapMs = Math.max(laneMs, 3 * READ_MS);
    await lap(pool, lapMs);
    await watched(pool, lapMs);
    const on: number[] = [];
    const off: number[] = [];
    for (let round = 1; round <= rounds; round++) {
      const isFirst = round % 2 === 0;
      if (isFirst) on.push(await watched(pool, lapMs));
      off.push(await lap(pool, lapMs));
      if (!isFirst) on.push(await watched(pool, lapMs));
      progress(
        `telemetry: round ${round} of ${rounds}: on ${rounded(on.at(-1) as number, 2)}, off ${rounded(off.at(-1) as number, 2)} us`,
      );
    }
    const ratios = on.map((cost, round) => (off[round] as number) / cost);
    const ratio = median(ratios);
    const [least, most] = spread(ratios);
    const target = rounded(1 - COST_MAX, 2);
    return [
      {
        part: 'telemetry',
        id: 'telemetry/on',
        what: `CPU us per ask, listeners on all events and stats() as JSON every ${READ_MS} ms`,
        against: 'nobody looks',
        ours: rounded(median(on), 2),
        theirs: rounded(median(off), 2),
        ratio: rounded(ratio, 3),
        spread: [rounded(least, 2), rounded(most, 2)],
        target,
        met: ratio >= target,
      },
    ];
  } finally {
    await system.stop();
  }
}

async function watched(pool: EchoPool, lapMs: number): Promise<number> {
  let seen = 0;
  const listener = (): void => void seen++;
  for (const event of EVENTS) pool.on(event, listener);
  const timer = setInterval(() => void (seen += JSON.stringify(pool.stats()).length), READ_MS);
  try {
    const cost = await lap(pool, lapMs);
    if (seen === 0) throw new Error('Nothing was read: the lap was too short');
    return cost;
  } finally {
    clearInterval(timer);
    for (const event of EVENTS) pool.off(event, listener);
  }
}

/** Microseconds of CPU time per ask. */
async function lap(pool: EchoPool, lapMs: number): Promise<number> {
  const before = process.cpuUsage();
  const endsAt = performance.now() + lapMs;
  let count = 0;
  const caller = async (id: number): Promise<void> => {
    while (performance.now() < endsAt) {
      const output = await pool.ask(new Float32Array(VALUES).fill(id));
      if (output[0] !== id) throw new Error(`Caller ${id} got the answer of ${output[0]}`);
      count++;
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, (_, id) => caller(id)));
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}
