import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { mlpModel } from '../test/fixtures/onnx-writer.js';
import { workerUrl } from './peers/lane.js';
import {
  type ModelName,
  type ModelServer,
  otherServers,
  ourServer,
  type RunningServer,
  versionsOf,
} from './peers/servers.js';
import type { Row } from './report.js';
import { type MeasuredModel, rowsOf, type ServerLap } from './server-rows.js';
import type { JsonOrder, JsonOutcome } from './workers/json-client.js';

/**
 * `troupe serve` beside other servers of models, all of them as commands: the same ONNX model, or none at all, in one
 * process; the same records in JSON over HTTP; the same clients. All are up at once, and all but the one that is measured
 * are stopped by SIGSTOP, so that each has the machine for itself.
 */
const CONNECTIONS = 32;
const VALUES = 64;
const RECORDS = 16;
const READY_MS = 120_000;
/** Before the first round that counts, of each server and model: engines compile what they run often. */
const WARM_ANSWERS = 3000;
const WARM_MS_MAX = 10_000;
const MODELS: readonly MeasuredModel[] = [
  { name: 'noop', what: `no-op, ${VALUES} floats` },
  { name: 'mlp', what: `MLP ${VALUES}-256-10` },
];

export interface ServersBenchOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

interface Up {
  readonly server: ModelServer;
  readonly running: RunningServer;
}

type Cases = Readonly<Record<ModelName, { readonly x: number[][]; readonly y: number[][] }>>;

export async function benchServers({ rounds, laneMs, progress }: ServersBenchOptions): Promise<Row[]> {
  const others: ModelServer[] = [];
  for (const server of otherServers) {
    const why = await server.prepare();
    if (why === undefined) others.push(server);
    else progress(`servers: ${server.name} is not measured: ${why}`);
  }
  if (others.length === 0) return [];
  const dir = mkdtempSync(join(tmpdir(), 'troupe-bench-'));
  const client = fork(workerUrl('json-client'));
  const ups: Up[] = [];
  /** Without one of the others there is still something to compare with. */
  const orWithout = async (up: Up, task: () => Promise<void>): Promise<void> => {
    try {
      await task();
    } catch (error) {
      if (up.server === ourServer) throw error;
      progress(`servers: ${up.server.name} is not measured: ${(error as Error).message}`);
      up.running.kill();
      ups.splice(ups.indexOf(up), 1);
    }
  };
  const killAll = (): void => ups.forEach(({ running }) => running.kill());
  const ended = (signal: NodeJS.Signals): void => {
    killAll();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.on('exit', killAll).once('SIGINT', ended).once('SIGTERM', ended);
  try {
    const file = join(dir, 'model.onnx');
    writeFileSync(file, mlp());
    const cases = await casesOf(file);
    // One after another: what one needs to come up would be taken from the others.
    for (const server of [ourServer, ...others]) {
      mkdirSync(join(dir, server.id));
      const up = { server, running: await server.start(join(dir, server.id), file) };
      ups.push(up);
      progress(`servers: ${server.name}: ${server.setup}; ${versionsOf(server.id)}`);
      await orWithout(up, () => ready(client, up, cases));
      up.running.stop();
    }
    for (const up of [...ups]) await orWithout(up, () => warm(client, up, cases));
    const laps = await measure(client, ups, cases, { rounds, laneMs, progress });
    const [, ...measured] = ups;
    return measured.flatMap(({ server }) =>
      MODELS.flatMap((model) =>
        rowsOf(named(server), model, laps[model.name].get(ourServer.id) ?? [], laps[model.name].get(server.id) ?? []),
      ),
    );
  } finally {
    killAll();
    process.off('exit', killAll).off('SIGINT', ended).off('SIGTERM', ended);
    client.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** With its version. */
function named(server: ModelServer): ModelServer {
  return { ...server, name: `${server.name} ${versionsOf(server.id).split(' ').at(-1)}` };
}

async function measure(
  client: ChildProcess,
  ups: readonly Up[],
  cases: Cases,
  { rounds, laneMs, progress }: ServersBenchOptions,
): Promise<Record<ModelName, Map<string, ServerLap[]>>> {
  const empty = (): Map<string, ServerLap[]> => new Map(ups.map(({ server }) => [server.id, []]));
  const laps = { noop: empty(), mlp: empty() };
  for (let round = 1; round <= rounds; round++) {
    // Each begins in turn.
    const order = ups.map((_, index) => ups[(index + round) % ups.length] as Up);
    for (const { name } of MODELS) {
      const said: string[] = [];
      for (const { server, running } of order) {
        running.go();
        const lap = await lapOf(client, { server, running }, name, cases, laneMs);
        running.stop();
        laps[name].get(server.id)?.push(lap);
        said.push(`${server.id} ${Math.round(lap.rate)}/s ${lap.p50Ms} ${lap.p99Ms} ms`);
      }
      progress(`servers: ${name}, round ${round} of ${rounds}: ${said.join(', ')}`);
    }
  }
  return laps;
}

/** Its connections are made anew, and some time passes before anything counts: it was standing still. */
async function lapOf(client: ChildProcess, up: Up, name: ModelName, cases: Cases, laneMs: number): Promise<ServerLap> {
  const cpuFrom = up.running.cpuMicros();
  const { answers, all, ms, p50Ms, p99Ms } = await order(client, up, name, cases, { warmMs: laneMs / 4, ms: laneMs });
  const cpuMicros = (up.running.cpuMicros() - cpuFrom) / all;
  return { rate: (answers * 1000) / ms, p50Ms, p99Ms, cpuMicros };
}

async function warm(client: ChildProcess, up: Up, cases: Cases): Promise<void> {
  up.running.go();
  for (const { name } of MODELS) {
    const until = performance.now() + WARM_MS_MAX;
    for (let answers = 0; answers < WARM_ANSWERS && performance.now() < until; )
      answers += (await order(client, up, name, cases, { warmMs: 0, ms: 500 })).all;
  }
  up.running.stop();
}

/** Until both models answer what they should. */
async function ready(client: ChildProcess, up: Up, cases: Cases): Promise<void> {
  const until = performance.now() + READY_MS;
  for (const { name } of MODELS) {
    for (;;) {
      try {
        // A client that is slow itself has asked nothing in so short a time.
        if ((await order(client, up, name, cases, { warmMs: 0, ms: 1 })).all > 0) break;
      } catch (cause) {
        const { running, server } = up;
        if (running.isRunning() && performance.now() < until) await wait(100);
        else throw new Error(`${server.name} did not come up; it said:\n${running.said()}`, { cause });
      }
    }
  }
}

async function order(
  client: ChildProcess,
  { server, running }: Up,
  name: ModelName,
  cases: Cases,
  time: Pick<JsonOrder, 'warmMs' | 'ms'>,
): Promise<JsonOutcome> {
  const { x, y } = cases[name];
  const order: JsonOrder = {
    port: running.port,
    path: server.pathOf(name),
    bodies: x.map((record) => server.bodyOf(record)),
    expected: y,
    at: server.at,
    connections: CONNECTIONS,
    ...time,
  };
  const outcome = await new Promise<JsonOutcome | { readonly why: string }>((resolve, reject) => {
    const ended = (code: number | null): void => reject(new Error(`The client ended with ${code}`));
    client.once('exit', ended);
    client.once('message', (said: JsonOutcome | { why: string }) => {
      client.off('exit', ended);
      resolve(said);
    });
    client.send(order);
  });
  if ('why' in outcome) throw new Error(`${server.name}: ${outcome.why}`);
  return outcome;
}

/** Records that differ, and what the models make of them; those of the mlp are computed by the engine alone. */
async function casesOf(file: string): Promise<Cases> {
  const x = Array.from({ length: RECORDS }, (_, record) =>
    Array.from({ length: VALUES }, (_, index) => ((record * VALUES + index) % 97) / 97),
  );
  const session = await InferenceSession.create(file);
  try {
    const y: number[][] = [];
    for (const record of x) {
      const out = await session.run({ x: new Tensor('float32', Float32Array.from(record), [1, VALUES]) });
      y.push(Array.from(out['scores']?.data as Float32Array));
    }
    return { noop: { x, y: x }, mlp: { x, y } };
  } finally {
    await session.release();
  }
}

function mlp(): Buffer {
  const layer = (inputs: number, outputs: number): { weights: Float32Array; bias: Float32Array } => ({
    weights: Float32Array.from(
      { length: inputs * outputs },
      (_, n) => (((n * 2654435761) % 1000) / 1000 - 0.5) / Math.sqrt(inputs),
    ),
    bias: new Float32Array(outputs),
  });
  return mlpModel([layer(64, 256), layer(256, 10)]);
}
