import { execFile, spawn as spawnChild } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import type { Pool } from '../../src/actor/pool.js';
import { mlpModel } from '../fixtures/onnx-writer.js';
import {
  assertSettled,
  directory,
  errorOf,
  FAULTY_URL,
  type FaultyPool,
  isRunning,
  linesOf,
  stage,
  timed,
  until,
} from './faulty-pool.js';
import { beginRow } from './row-report.js';
import { sizes } from './sizes.js';

/** Rows K1, K2, K4 and K6 of the reliability scorecard: cycles, slow loads, stop with work at hand, native engines. */

test.serial('K1 asks in a cycle end by the deadline, each once, and the pools go on', async (t) => {
  const { system } = stage(t);
  const ask = (name: string, hops: number): Promise<unknown> =>
    (system.get(name) as Pool<number, string>).ask(hops - 1, { timeoutMs: 300 });
  const actor = (other: string) => ({
    async predict(batch: number[]) {
      return Promise.all(batch.map(async (hops) => (hops === 0 ? 'end' : ask(other, hops))));
    },
  });
  // A waits for B, which waits for A, whose one replica is waiting: only a deadline can end that.
  await system.spawn('a', { actor: actor('b') });
  await system.spawn('b', { actor: actor('a') });
  const a = system.get<number, string>('a') as Pool<number, string>;
  t.is(await a.ask(1), 'end', 'a chain that is no cycle is fine');
  const [error, ms] = await timed(() => errorOf(t, a.ask(2, { timeoutMs: 2000 })));
  t.log(`settled after ${ms.toFixed(0)} ms: ${error.message}`);
  t.true(error.code === 'PREDICT_FAILED' || error.code === 'DEADLINE_PASSED');
  t.true(ms < 2000 + 1000);
  t.is(await a.ask(1), 'end');
  for (const name of ['a', 'b']) assertSettled(t, system.get(name) as unknown as FaultyPool);
});

test.serial('K1 an ask to a pool that stops is refused at once, inside unload too', async (t) => {
  const { system } = stage(t);
  const told: unknown[] = [];
  const pool = await system.spawn<number, number>('self', {
    actor: {
      predict: (batch: number[]) => batch,
      async unload() {
        told.push(
          await pool.ask(1).then(
            () => 'answered',
            (error: { code: string }) => error.code,
          ),
        );
      },
    },
  });
  t.is(await pool.ask(7), 7);
  const stopping = system.stop();
  t.is((await errorOf(t, pool.ask(2))).code, 'POOL_STOPPED');
  await stopping;
  t.deepEqual(told, ['POOL_STOPPED']);
});

test.serial('K2 asks of a pool that loads slowly keep their own deadline and burn no attempt', async (t) => {
  t.timeout(60_000);
  const { system, spawn } = stage(t);
  const spawning = spawn('slow', { attempts: 1, options: { load: 'slow', loadMs: 900 } });
  const pool = system.get('slow') as FaultyPool;
  const patient = pool.ask({ id: 1 }, { timeoutMs: 30_000 });
  const [error, ms] = await timed(() => errorOf(t, pool.ask({ id: 2 }, { timeoutMs: 200 })));
  t.is(error.code, 'DEADLINE_PASSED');
  t.is(error.ran, 'not-started');
  t.is(error.attempt, 0);
  t.true(ms < 900, `told after ${ms.toFixed(0)} ms, before the load was over`);
  await spawning;
  t.is((await patient).id, 1);
  t.like(pool.stats(), { results: 1, batches: 1, restarts: 0 });
  assertSettled(t, pool);
});

test.serial('K2 a load that outlives its own deadline settles who waited', async (t) => {
  t.timeout(60_000);
  const { system, spawn } = stage(t);
  const spawning = errorOf(t, spawn('slow', { loadTimeoutMs: 500, options: { load: 'slow', loadMs: 60_000 } }));
  const waiting = errorOf(t, (system.get('slow') as FaultyPool).ask({ id: 1 }));
  t.is((await spawning).code, 'ACTOR_LOAD_FAILED');
  const error = await waiting;
  t.is(error.code, 'NO_REPLICA');
  t.is(error.ran, 'not-started');
});

for (const isolation of ['thread', 'process'] as const) {
  test.serial(`K4 stop with a full queue drains within its budget and rejects the rest (${isolation})`, async (t) => {
    t.timeout(60_000);
    const { spawn } = stage(t);
    const capacity = 32;
    const pool = await spawn('faulty', { isolation, mailbox: { capacity }, batching: { maxSize: 1 } });
    const first = pool.ask({ id: 0, do: 'slow', ms: 100 });
    const asks = [first];
    await new Promise((resolve) => setImmediate(resolve));
    for (let id = 1; id <= capacity; id++) asks.push(pool.ask({ id, do: 'slow', ms: 100 }));
    t.is((await errorOf(t, pool.ask({ id: 99 }))).code, 'MAILBOX_FULL');
    const settledWith = asks.map((ask) =>
      ask.then(
        () => 'ok',
        (error: { code: string }) => error.code,
      ),
    );
    const [report, ms] = await timed(() => pool.stop({ timeoutMs: 500 }));
    const codes = await Promise.all(settledWith);
    const done = codes.filter((code) => code === 'ok').length;
    t.log(`stopped after ${ms.toFixed(0)} ms: ${JSON.stringify(report)}`);
    t.true(done >= 1 && done < capacity);
    t.deepEqual(report, { drained: done, rejected: asks.length - done });
    t.is(codes.filter((code) => code === 'POOL_STOPPED').length, asks.length - done);
    t.is((await errorOf(t, pool.ask({ id: 100 }))).code, 'POOL_STOPPED');
    assertSettled(t, pool);
  });
}

test.serial('K4 a second interrupt ends the command at once, and the exit code says so', async (t) => {
  t.timeout(60_000);
  const dir = directory(t);
  const journal = join(dir, 'journal');
  writeFileSync(join(dir, 'in.txt'), Array.from({ length: 200 }, (_, id) => `${id}\n`).join(''));
  writeFileSync(
    join(dir, 'steps.js'),
    `export const order = (line) => ({ id: Number(line), do: 'slow', ms: 60000 });\n`,
  );
  writeFileSync(
    join(dir, 'troupe.yaml'),
    `pools:
  faulty: { actor: ${JSON.stringify(fileURLToPath(FAULTY_URL))}, isolation: process, batching: { maxSize: 1 }, options: { journal: ${JSON.stringify(journal)} } }
pipelines:
  orders:
    source: { file: in.txt }
    steps:
      - map: ./steps.js#order
      - infer: { pool: faulty }
    sink: { file: out.ndjson }
`,
  );
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }');
  const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
  const child = spawnChild(process.execPath, [main, 'run', join(dir, 'troupe.yaml')], { stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  await until('the first record runs', () => linesOf(journal).some((line) => line.startsWith('run')));
  const actorPid = Number(linesOf(journal)[0]?.split(' ')[2]);
  child.kill('SIGINT');
  const early = await Promise.race([exited, new Promise((resolve) => setTimeout(() => resolve('going on'), 300))]);
  t.is(early, 'going on', 'the first interrupt finishes what is under way');
  const [[code], ms] = await timed(async () => {
    child.kill('SIGINT');
    return exited;
  });
  t.log(`ended ${ms.toFixed(0)} ms after the second interrupt`);
  t.is(code, 130);
  t.true(ms < 5000);
  await until('the actor is gone', () => !isRunning(actorPid));
});

/** Large enough for a batch of it to run for some time. */
function modelIn(dir: string): string {
  const width = 768;
  const layer = {
    weights: new Float32Array(width * width).fill(1e-3),
    bias: new Float32Array(width),
  };
  mkdirSync(join(dir, 'model', '1'), { recursive: true });
  writeFileSync(join(dir, 'model', '1', 'model.onnx'), mlpModel([layer, layer, layer, layer]));
  return join(dir, 'model');
}

test.serial('K6 child processes stopped while onnxruntime runs in them end in good order', async (t) => {
  t.timeout(110_000);
  const model = modelIn(directory(t));
  const report = beginRow(t, 'K6 process');
  const expected = 5 * sizes.k6ProcessRounds;
  let stopped = 0;
  let settled = 0;
  for (let round = 0; round < sizes.k6ProcessRounds; round++) {
    const { system } = stage(t);
    const replicas = 5;
    const pool = await system.spawn<{ x: Float32Array }, unknown>('net', {
      actor: 'onnx',
      model,
      replicas,
      batching: { maxSize: 64 },
      mailbox: { capacity: 4096 },
      options: { warmUp: false, intraOpThreads: 1 },
    });
    const causes: unknown[] = [];
    pool.on('died', ({ death }) => causes.push([death.cause, death.signal]));
    const running = pool.askMany(Array.from({ length: 1024 }, () => ({ x: new Float32Array(768).fill(1) })));
    await until('every replica runs', () => pool.stats().replicas.every(({ inFlightBatches }) => inFlightBatches > 0));
    await pool.stop({ timeoutMs: 0 });
    const outcomes = await running;
    t.true(outcomes.every((outcome) => outcome.ok || outcome.error.code === 'POOL_STOPPED'));
    t.true(
      causes.every((cause) => Array.isArray(cause) && cause[0] === 'stopped'),
      JSON.stringify(causes),
    );
    stopped += causes.length;
    settled += outcomes.length;
  }
  const runs = 1024 * sizes.k6ProcessRounds;
  report({ faults: stopped, runs, lost: runs - settled, dup: 0, reorder: 0 });
  t.is(stopped, expected);
});

test.serial('K6 a host stops every thread while onnxruntime runs in it, and ends without an abort', async (t) => {
  t.timeout(110_000);
  const report = beginRow(t, 'K6 thread');
  const model = modelIn(directory(t));
  const rounds = sizes.k6ThreadRounds;
  const file = fileURLToPath(new URL('./native-exit.js', import.meta.url));
  // An abort would end it with signal SIGABRT or exit code 134, and reject here.
  const { stdout } = await promisify(execFile)(process.execPath, [file, model, String(rounds)]);
  const { stopped, inFlight, outcomes } = JSON.parse(stdout) as {
    stopped: number;
    inFlight: number;
    outcomes: Record<string, number>;
  };
  const settled = Object.values(outcomes).reduce((sum, count) => sum + count, 0);
  const runs = rounds * 1024;
  t.log(`${inFlight} runs in flight when stopped; ${JSON.stringify(outcomes)}`);
  report({ faults: stopped, runs, lost: runs - settled, dup: 0, reorder: 0, more: { inFlight } });
  t.is(stopped, 5 * rounds, 'each ended because it was asked to');
  t.true(inFlight >= 5 * rounds, 'a run was in flight in each');
  t.is(settled, runs);
});
