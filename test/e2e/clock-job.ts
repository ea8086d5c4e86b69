/**
 * A job that works while somebody plays with its clock: asks of a thread and of a process pool, and a stream with
 * checkpoints, until it is told to stop. On standard input `stall MS` blocks its event loop for that long, `stop` ends it
 * with what it saw as one JSON line on standard output; `ready` comes first.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import type { Pool } from '../../src/actor/pool.js';
import { createSystem } from '../../src/create-system.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { stream } from '../../src/stream/pipeline.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import { toFile } from '../../src/stream/sinks/file.js';

/** What a slow ask may take, and the time-out of those that never get an answer. */
const TIMEOUT_MS = 1500;
const NEVER_MS = 300;

export interface ClockReport {
  readonly answered: number;
  readonly errors: Record<string, number>;
  /** How long asks without an answer took until DEADLINE_PASSED, less their time-out: the shortest, and those above 500 ms. */
  readonly earliestMs: number;
  readonly lateMs: readonly number[];
  readonly restarts: number;
  /** Figures below zero, or that are no numbers, in any stats() that was looked at. */
  readonly wrongFigures: readonly string[];
  /** How far the wall clock was seen to go, there and back. */
  readonly wallMs: readonly [number, number];
  readonly stream: { readonly records: number; readonly results: number; readonly failed: number };
  readonly checkpoints: number;
  readonly checkpointsFailed: number;
}

const folder = mkdtempSync(join(tmpdir(), 'troupe-clock-'));
const stopping = new AbortController();
createInterface({ input: process.stdin }).on('line', (line) => {
  const [verb, ms] = line.split(' ');
  if (verb === 'stop') stopping.abort();
  if (verb === 'stall') {
    const until = performance.now() + Number(ms);
    while (performance.now() < until);
  }
});

const errors: Record<string, number> = {};
const wrongFigures = new Set<string>();
let answered = 0;
let earliestMs = Infinity;
const lateMs: number[] = [];
const wall: [number, number] = [Infinity, -Infinity];

{
  await using system = createSystem();
  const mock = { actor: 'mock', batchTimeoutMs: 4000, heartbeatMs: 1000, batching: { maxSize: 8 } } as const;
  const thread = await system.spawn('thread', { ...mock, isolation: 'thread', options: { a: 5 } });
  const child = await system.spawn('child', { ...mock, isolation: 'process', options: { a: 5 } });
  const slow = await system.spawn('slow', { actor: 'mock', options: { a: 60_000 }, batchTimeoutMs: 600_000 });
  const pools: readonly Pool<unknown, unknown>[] = [thread, child, slow];

  const working = [thread, child].map(async (pool) => {
    while (!stopping.signal.aborted) {
      const asks = Array.from({ length: 4 }, (_, n) => pool.ask({ n }, { timeoutMs: TIMEOUT_MS }));
      for (const settled of await Promise.allSettled(asks)) {
        if (settled.status === 'fulfilled') answered += 1;
        else count(settled.reason);
      }
      await pause(2);
    }
  });
  const timing = (async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const startedAt = performance.now();
      const error: unknown = await slow.ask(0, { timeoutMs: NEVER_MS }).then(
        () => new Error('answered'),
        (reason: unknown) => reason,
      );
      const excessMs = performance.now() - startedAt - NEVER_MS;
      if (!(error instanceof TroupeError) || error.code !== 'DEADLINE_PASSED') count(error);
      if (excessMs > 500) lateMs.push(excessMs);
      earliestMs = Math.min(earliestMs, excessMs);
    }
  })();
  const looking = (async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      for (const pool of pools) look(pool.name, pool.stats());
      wall[0] = Math.min(wall[0], Date.now());
      wall[1] = Math.max(wall[1], Date.now());
      await pause(20);
    }
  })();
  async function* numbers(): AsyncGenerator<{ n: number }> {
    for (let n = 0; ; n += 1) {
      yield { n };
      if (n % 8 === 0) await pause(5);
    }
  }
  const streaming = stream(fromIterable(numbers()), { name: 'clock' })
    .infer(thread)
    .to(toFile(join(folder, 'out.ndjson')), {
      checkpoint: { dir: join(folder, 'checkpoints'), intervalMs: 50 },
      stop: stopping.signal,
    });

  process.stdout.write('ready\n');
  await Promise.all([...working, timing, looking]);
  const report = await streaming;
  const result: ClockReport = {
    answered,
    errors,
    earliestMs,
    lateMs,
    restarts: pools.reduce((sum, pool) => sum + pool.stats().restarts, 0),
    wrongFigures: [...wrongFigures],
    wallMs: wall,
    stream: { records: report.records, results: report.results, failed: report.failed },
    checkpoints: report.checkpoints?.written ?? 0,
    checkpointsFailed: report.checkpoints?.failed ?? 0,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
rmSync(folder, { recursive: true, force: true });
process.stdin.destroy();

function count(error: unknown): void {
  const code = error instanceof TroupeError ? error.code : String(error);
  errors[code] = (errors[code] ?? 0) + 1;
}

function look(path: string, value: unknown): void {
  if (typeof value === 'number' && !(value >= 0)) wrongFigures.add(`${path} = ${value}`);
  if (typeof value === 'object' && value !== null)
    for (const [key, inner] of Object.entries(value)) look(`${path}.${key}`, inner);
}
