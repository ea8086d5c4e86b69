import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { createSystem, type Pool, serveMetrics, silentLog, type System } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * What it costs to be looked at, by the CPU time of the same asks of the same pool: with a listener on every event and
 * `stats()` read as JSON every 100 ms, and with a scrape of the metrics over HTTP every second, each against nobody who
 * looks. Counters and latency quantiles are always kept, so they are in all. And one scrape alone, of ten pools: so much
 * of a core it takes each second.
 */
const CALLERS = 256;
const VALUES = 64;
const COST_MAX = 0.03;
const READ_MS = 100;
const SCRAPE_MS = 1000;
const POOLS = 10;
/** Of a core, with a scrape a second. */
const SCRAPE_SHARE_MAX = 0.01;
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
    const read = await compare('on', rounds, Math.max(laneMs, 3 * READ_MS), pool, watched, progress);
    const lookScraped = (_: EchoPool, lapMs: number): Promise<number> => scraped(system, pool, lapMs);
    const scrapeLapMs = Math.max(laneMs, 2.5 * SCRAPE_MS);
    const scrape = await compare('scrape', Math.ceil(rounds / 3), scrapeLapMs, pool, lookScraped, progress);
    return [
      { ...read, what: `CPU us per ask, listeners on all events and stats() as JSON every ${READ_MS} ms` },
      { ...scrape, what: `CPU us per ask, metrics scraped over HTTP every ${SCRAPE_MS} ms` },
      await scrapeAlone(),
    ];
  } finally {
    await system.stop();
  }
}

/** The laps take turns, and which comes first changes. */
async function compare(
  id: string,
  rounds: number,
  lapMs: number,
  pool: EchoPool,
  look: (pool: EchoPool, lapMs: number) => Promise<number>,
  progress: (line: string) => void,
): Promise<Row> {
  await lap(pool, lapMs);
  await look(pool, lapMs);
  const on: number[] = [];
  const off: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    const isFirst = round % 2 === 0;
    if (isFirst) on.push(await look(pool, lapMs));
    off.push(await lap(pool, lapMs));
    if (!isFirst) on.push(await look(pool, lapMs));
    const [onMicros, offMicros] = [on.at(-1) as number, off.at(-1) as number].map((micros) => rounded(micros, 2));
    progress(`telemetry/${id}: round ${round} of ${rounds}: on ${onMicros}, off ${offMicros} us`);
  }
  const ratios = on.map((cost, round) => (off[round] as number) / cost);
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  const target = rounded(1 - COST_MAX, 2);
  return {
    part: 'telemetry',
    id: `telemetry/${id}`,
    what: '',
    against: 'nobody looks',
    ours: rounded(median(on), 2),
    theirs: rounded(median(off), 2),
    ratio: rounded(ratio, 3),
    spread: [rounded(least, 2), rounded(most, 2)],
    target,
    met: ratio >= target,
  };
}

/** The one who scrapes is a process of its own, so that only what is scraped is measured. */
const SCRAPER = `
const scrape = async () => process.stdout.write((await (await fetch(process.argv[1])).text()).length + '\\n');
setInterval(scrape, ${SCRAPE_MS});
scrape();
`;

async function scraped(system: System, pool: EchoPool, lapMs: number): Promise<number> {
  const { address, close } = await serveMetrics(system, { port: 0 });
  const child = spawn(process.execPath, ['-e', SCRAPER, address.url], { stdio: ['ignore', 'pipe', 'inherit'] });
  let seen = 0;
  child.stdout.on('data', () => void seen++);
  try {
    await once(child.stdout, 'data');
    const cost = await lap(pool, lapMs);
    if (seen < 3) throw new Error(`Only ${seen} scrapes: the lap was too short`);
    return cost;
  } finally {
    child.kill('SIGKILL');
    await once(child, 'close');
    await close();
  }
}

async function scrapeAlone(): Promise<Row> {
  const system = createSystem({ log: silentLog });
  try {
    for (let index = 0; index < POOLS; index++) {
      const pool = await system.spawn<number, number>(`echo${index}`, { actor: { predict: (batch) => batch } });
      await pool.askMany(Array.from({ length: 1000 }, (_, record) => record));
    }
    const took: number[] = [];
    for (let round = 0; round < 200; round++) {
      const before = performance.now();
      system.metrics();
      took.push(performance.now() - before);
    }
    const [least, most] = spread(took);
    const ms = median(took);
    const target = SCRAPE_SHARE_MAX * SCRAPE_MS;
    return {
      part: 'telemetry',
      id: 'telemetry/one-scrape',
      what: `ms of one scrape of ${POOLS} pools; ${target} ms each second are ${SCRAPE_SHARE_MAX * 100} % of a core`,
      ours: rounded(ms, 2),
      spread: [rounded(least, 2), rounded(most, 2)],
      target,
      met: ms <= target,
    };
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
