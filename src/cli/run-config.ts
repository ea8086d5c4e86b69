import type { InferTarget } from '../actor/infer-target.js';
import type { System } from '../actor/system.js';
import { type OtherEnds, buildPipeline, serveOptions, withoutUndefined } from '../config/build-pipeline.js';
import type { LoadedConfig } from '../config/load.js';
import { openTelemetry } from '../config/open-telemetry.js';
import { withAsked } from '../config/ensembles.js';
import { stepOf } from '../config/schema.js';
import { importStepFunctions } from '../config/step-functions.js';
import { FailureBoard } from '../control/failure-board.js';
import { System as ControlledSystem } from '../control/system.js';
import { systemClock } from '../kernel/clock.js';
import { deferred } from '../kernel/deferred.js';
import type { TroupeError } from '../kernel/errors.js';
import { serveMetrics } from '../dashboard/serve-metrics.js';
import { type Report, StreamError } from '../stream/report.js';
import type { Log } from '../telemetry/log.js';
import { type RunReport, summarizeRun } from './report.js';

export interface RunOptions {
  /** Names of the pipelines to run; all of them without it. They must exist. */
  readonly pipelines?: readonly string[];
  /** Aborted: nothing more is read, what is under way is finished. */
  readonly stop: AbortSignal;
  /** Aborted: everything ends now. */
  readonly kill: AbortSignal;
  readonly log: Log;
  /** Serves all pools, also where the file does not say so, with no pipeline run. */
  readonly servesOnly?: boolean;
  /** Goes on from the last checkpoint of each pipeline that has checkpoints. */
  readonly resume?: boolean;
  /** Other ends for the one pipeline that is run: a replay of its dead letters. */
  readonly instead?: OtherEnds;
  /** Told once, where there are pools and no pipelines: they are up, and how they are reached. */
  readonly onOperated?: (words: string) => void;
  /** Told as pipelines go on: how many records have an outcome, all pipelines together. */
  readonly onProgress?: (done: number) => void;
  /** Told once, if every source can say how many records it will give: how many there will be. */
  readonly onTotal?: (total: number) => void;
}

/** What became of a pool or a pipeline that did not do its work. */
export interface Failure {
  readonly what: 'pool' | 'pipeline';
  readonly name: string;
  readonly code: string;
  readonly message: string;
}

export interface ConfigRun extends RunReport {
  readonly name: string;
  readonly pipelines: Readonly<Record<string, Report>>;
  /** Pools that did not start or did not last, and pipelines that could not run for want of one or broke off. */
  readonly failures: readonly Failure[];
}

/**
 * Starts the pools that the pipelines use, or with `control` or `serve` all of the file, runs the pipelines side by side, and stops the
 * pools. A file without pipelines has all of its pools run until `stop`. A pool that does not start fails the pipelines that
 * use it and no others. Rejects before anything starts: with CONFIG_INVALID where a module
 * of a step is not what the config says, with CONTROL_PATH_REFUSED or CONTROL_IN_USE where its control cannot be had, with
 * LISTEN_FAILED where its metrics or its pools cannot be served.
 */
export async function runConfig(loaded: LoadedConfig, options: RunOptions): Promise<ConfigRun> {
  const { config } = loaded;
  const names = options.pipelines ?? Object.keys(config.pipelines);
  const functions = await importStepFunctions(loaded, names);
  const board = new FailureBoard();
  await using system = new ControlledSystem(
    {
      name: config.name,
      models: config.models,
      ...(config.startsAtOnce === undefined ? {} : { startsAtOnce: config.startsAtOnce }),
      log: options.log,
      ...(config.tracing ? { tracing: await openTelemetry() } : {}),
    },
    { loaded, board },
  );
  // Before anything else: who asks for control and cannot have it should not find out an hour later.
  if (config.control !== undefined && options.instead === undefined) await system.openControl(config.control);
  const killed = (): void => void system.stop({ timeoutMs: 0 });
  options.kill.addEventListener('abort', killed);
  try {
    const failures: Failure[] = [];
    // Who is let in may ask any pool of the file, and compare it with what runs.
    const isWhole =
      options.instead === undefined && Object.keys(config.pipelines).every((name) => names.includes(name));
    const isOpen =
      options.servesOnly === true ||
      (isWhole && (config.control !== undefined || config.serve !== undefined || names.length === 0));
    const used = isOpen ? Object.keys(config.pools) : names.flatMap((name) => poolsOf(config, name));
    const wanted = withAsked(config, used);
    // Before the pools, which take their time: until they are there it says that it is not ready. Not for a replay of dead
    // letters, which runs beside the system that made them.
    if (config.metrics !== undefined && options.instead === undefined) {
      const pools = (): string[] => system.configuredPools().filter((name) => wanted.has(name));
      const { address } = await serveMetrics(system, { ...withoutUndefined(config.metrics), pools });
      options.log({ level: 'info', message: `metrics are served at ${address.url}` });
      if (config.metrics.page)
        options.log({ level: 'info', message: `the page is served at ${new URL('/', address.url).href}` });
    }
    let servedAt: readonly string[] = [];
    if ((options.servesOnly === true || (config.serve !== undefined && isOpen)) && options.instead === undefined) {
      const { addresses } = await system.serve(serveOptions(config.serve ?? {}));
      servedAt = addresses.map(({ url }) => url);
      options.log({ level: 'info', message: `pools are served at ${servedAt.join(' and ')}` });
    }
    const pools = await startPools(system, config, wanted, failures);
    if (names.length === 0 && pools.size > 0) await operated(system, [...pools.keys()], servedAt, failures, options);
    const progress = new Map<string, number>();
    const reports: Record<string, Report> = {};
    const counts: Promise<number | undefined>[] = [];
    const running = Promise.all(
      names.map(async (name) => {
        const missing = poolsOf(config, name).filter((pool) => !pools.has(pool));
        if (missing.length > 0) {
          failures.push({
            what: 'pipeline',
            name,
            code: 'NO_REPLICA',
            message: `not run: its pool ${missing.join(', ')} did not start`,
          });
          return;
        }
        const definition = config.pipelines[name];
        if (definition === undefined) throw new TypeError(`pipelines: expected names of the config; got ${name}`);
        const { pipeline, sink, deadLetters, checkpoint, closeTimeoutMs, count } = buildPipeline(name, definition, {
          functions,
          pools,
          instead: options.instead,
          resume: options.resume,
        });
        counts.push(count().catch(() => undefined));
        board.opened(name, definition.deadLetters?.file);
        try {
          reports[name] = await pipeline.to(sink, {
            signal: options.kill,
            stop: options.stop,
            closeTimeoutMs,
            ...(deadLetters === undefined ? {} : { deadLetters }),
            ...(checkpoint === undefined ? {} : { checkpoint }),
            onFailed: (_record, error) => board.failed(name, error),
            onProgress: (report) => {
              progress.set(name, report.records);
              options.onProgress?.(sum([...progress.values()]));
            },
          });
        } catch (error) {
          if (error instanceof StreamError) reports[name] = error.report;
          failures.push({ what: 'pipeline', name, ...wordsOf(error) });
        }
      }),
    );
    void Promise.all(counts).then((known) => {
      if (known.length > 0 && known.every((count) => count !== undefined)) options.onTotal?.(sum(known));
    });
    await running;
    const stats = Object.values(system.stats());
    for (const pool of stats) {
      if (pool.state !== 'failed') continue;
      failures.push({ what: 'pool', name: pool.name, code: 'NO_REPLICA', message: 'its restarts were used up' });
    }
    return { name: config.name, ...summarizeRun(Object.values(reports), stats), pipelines: reports, failures };
  } finally {
    options.kill.removeEventListener('abort', killed);
  }
}

/** There is nothing to wait for but those who come over its control or its metrics, and the signal to stop. */
async function operated(
  system: ControlledSystem,
  pools: readonly string[],
  servedAt: readonly string[],
  failures: readonly Failure[],
  { stop, kill, log, onOperated }: RunOptions,
): Promise<void> {
  for (const { name, code, message } of failures)
    log({ level: 'error', message: `did not start, and is left out: ${message}`, pool: name, code });
  const way = system.control === undefined ? '' : `; troupe repl --socket ${system.control.socket} operates them`;
  const served = servedAt.length === 0 ? '' : `, served at ${servedAt.join(' and ')}`;
  onOperated?.(`${pools.join(', ')} run until they are stopped${served}${way}`);
  const ended = deferred<void>();
  const end = (): void => ended.resolve();
  // A control socket alone keeps no process alive.
  const holdsProcess = systemClock.at(Infinity, end);
  const forget = system.atEnd(end);
  for (const signal of [stop, kill]) signal.addEventListener('abort', end);
  if (!stop.aborted && !kill.aborted) await ended.promise;
  for (const signal of [stop, kill]) signal.removeEventListener('abort', end);
  forget();
  holdsProcess.cancel();
}

type Config = LoadedConfig['config'];

async function startPools(
  system: System,
  config: Config,
  wanted: ReadonlySet<string>,
  failures: Failure[],
): Promise<ReadonlyMap<string, InferTarget<unknown, unknown>>> {
  const pools = new Map<string, InferTarget<unknown, unknown>>();
  await Promise.all(
    [...wanted].map(async (name) => {
      const pool = config.pools[name];
      if (pool === undefined) throw new TypeError(`pools: expected names of the config; got ${name}`);
      try {
        pools.set(name, await system.spawn(name, pool));
      } catch (error) {
        failures.push({ what: 'pool', name, ...wordsOf(error) });
      }
    }),
  );
  return pools;
}

function poolsOf(config: Config, pipeline: string): readonly string[] {
  const names = config.pipelines[pipeline]?.steps.flatMap((entry) => {
    const step = stepOf(entry);
    if (step.kind !== 'infer') return [];
    const { pool, fallback } = step.options;
    return fallback?.pool === undefined ? [pool] : [pool, fallback.pool];
  });
  return [...new Set(names)];
}

function wordsOf(error: unknown): { code: string; message: string } {
  const { code, message } = error as Partial<TroupeError>;
  return { code: code ?? 'INTERNAL', message: message ?? String(error) };
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
