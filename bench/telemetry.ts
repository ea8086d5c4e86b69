import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { createSystem, type Pool, serveMetrics, silentLog, type System } from 'troupe';
import { workerUrl } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * What it costs to be looked at, by the CPU time of the same asks of the same pool: with a listener on every event and
 * `stats()` read as JSON every 100 ms, and with ten who scrape the metrics over HTTP every second and have the page open, each
 * against nobody who looks. One of them is to cost 1 %, which a shared machine blurs; ten cost ten times as much. Counters and
 * latency quantiles are always kept, so they are in all. And one scraper and one page alone, of ten pools that have nothing to
 * do: so much of a core they take each second.
 */
const CALLERS = 256;
const VALUES = 64;
const READ_COST_MAX = 0.03;
const LOOK_COST_MAX = 0.01;
const LOOKERS = 10;
const READ_MS = 100;
const SCRAPE_MS = 1000;
const POOLS = 10;
const ALONE_SECONDS = 10;
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
    // Some reads in every lap, on a busy machine too.
    const read = await compare({
      id: 'on',
      what: `CPU us per ask, listeners on all events and stats() as JSON every ${READ_MS} ms`,
      costMax: READ_COST_MAX,
      rounds,
      lapMs: Math.max(laneMs, 5 * READ_MS),
      pool,
      look: watched,
      progress,
    });
    const look = await compare({
      id: 'look',
      what: `CPU us per ask, ${LOOKERS} lookers, each scraping over HTTP every ${SCRAPE_MS} ms and with a page open`,
      costMax: LOOKERS * LOOK_COST_MAX,
      rounds,
      lapMs: Math.max(laneMs, 2.5 * SCRAPE_MS),
      pool,
      look: (_, lapMs) => lookedAt(system, LOOKERS, () => lap(pool, lapMs)),
      progress,
    });
    return [read, look, await lookedAtAlone()];
  } finally {
    await system.stop();
  }
}

interface Comparison {
  readonly id: string;
  readonly what: string;
  readonly costMax: number;
  readonly rounds: number;
  readonly lapMs: number;
  readonly pool: EchoPool;
  /** A lap with somebody who looks. */
  look(pool: EchoPool, lapMs: number): Promise<number>;
  readonly progress: (line: string) => void;
}

/** The laps take turns, and which comes first changes. */
async function compare({ id, what, costMax, rounds, lapMs, pool, look, progress }: Comparison): Promise<Row> {
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
  const target = rounded(1 - costMax, 2);
  return {
    part: 'telemetry',
    id: `telemetry/${id}`,
    what,
    against: 'nobody looks',
    ours: rounded(median(on), 2),
    theirs: rounded(median(off), 2),
    ratio: rounded(ratio, 3),
    spread: [rounded(least, 2), rounded(most, 2)],
    target,
    met: ratio >= target,
  };
}

/** Those who look are a process of their own, so that only what is looked at is measured; they do so by turns. */
const LOOKER = `
const look = async (url) => {
  const scrape = async () => process.stdout.write('scraped ' + (await (await fetch(url)).text()).length + '\\n');
  setInterval(scrape, ${SCRAPE_MS});
  scrape();
  const feed = await fetch(new URL('/page/feed', url), { headers: { 'x-troupe-page': '1' } });
  for await (const part of feed.body) process.stdout.write('told ' + part.length + '\\n');
};
const urls = process.argv.slice(1);
for (const [index, url] of urls.entries()) setTimeout(look, (${SCRAPE_MS} / urls.length) * index, url);
`;

/** Each looker has a listener of its own, for what is made for a page is made once for all pages of a listener. */
async function lookedAt<Result>(system: System, lookers: number, work: () => Promise<Result>): Promise<Result> {
  const listeners = await Promise.all(
    Array.from({ length: lookers }, () => serveMetrics(system, { port: 0, page: true })),
  );
  const urls = listeners.map(({ address }) => address.url);
  const child = spawn(process.execPath, ['--input-type=module', '-e', LOOKER, ...urls], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let heard = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (heard += text));
  const counts = (): number[] => ['scraped', 'told'].map((word) => heard.split(word).length - 1);
  try {
    while (counts().some((count) => count < lookers)) await once(child.stdout, 'data');
    const before = counts();
    const result = await work();
    const looks = counts().map((count, index) => count - (before[index] as number));
    if (looks.some((count) => count < lookers)) throw new Error(`Only ${looks.join(' and ')} looks in this lap`);
    return result;
  } finally {
    child.kill('SIGKILL');
    await once(child, 'close');
    await Promise.all(listeners.map((listener) => listener.close()));
  }
}

async function lookedAtAlone(): Promise<Row> {
  const system = createSystem({ log: silentLog });
  try {
    for (let index = 0; index < POOLS; index++) {
      const pool = await system.spawn<number, number>(`echo${index}`, { actor: { predict: (batch) => batch } });
      await pool.askMany(Array.from({ length: 1000 }, (_, record) => record));
    }
    const idle = await cpuMsEachSecond(ALONE_SECONDS);
    const looked = await lookedAt(system, 1, () => cpuMsEachSecond(ALONE_SECONDS));
    const took = looked.map((ms) => ms - median(idle));
    const [least, most] = spread(took);
    const ms = median(took);
    const target = LOOK_COST_MAX * 1000;
    return {
      part: 'telemetry',
      id: 'telemetry/look-alone',
      what: `CPU ms each second of a scrape and an open page, ${POOLS} pools; ${target} are ${LOOK_COST_MAX * 100} % of a core`,
      ours: rounded(ms, 2),
      spread: [rounded(least, 2), rounded(most, 2)],
      target,
      met: ms <= target,
    };
  } finally {
    await system.stop();
  }
}

async function cpuMsEachSecond(seconds: number): Promise<number[]> {
  const took: number[] = [];
  for (let second = 0; second < seconds; second++) {
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, SCRAPE_MS));
    const { user, system } = process.cpuUsage(before);
    took.push((user + system) / 1000);
  }
  return took;
}

async function watched(pool: EchoPool, lapMs: number): Promise<number> {
  let seen = 0;
  const listener = (): void => void seen++;
  for (const event of EVENTS) pool.on(event, listener);
  const timer = setInterval(() => void (seen += JSON.stringify(pool.stats()).length), READ_MS);
  try {
    const cost = await lap(pool, lapMs);
    if (seen === 0) throw new Error(`Nothing was read within ${lapMs} ms: the event loop had no turn`);
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
