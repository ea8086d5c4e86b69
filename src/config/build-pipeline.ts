import type { InferTarget } from '../actor/infer-target.js';
import { checkpointPlan, type CheckpointOptions } from '../stream/checkpoint/options.js';
import type { DeadLetter } from '../stream/envelope.js';
import { resolveServe, type ServeOptions } from '../serve/serve-options.js';
import { checkListen } from '../stream/http-listener.js';
import { inferPlan, type InferOptions } from '../stream/infer-options.js';
import { type Pipeline, stream } from '../stream/pipeline.js';
import type { Sink } from '../stream/sink.js';
import { toFile } from '../stream/sinks/file.js';
import { toHttp } from '../stream/sinks/http.js';
import { toPostgres } from '../stream/sinks/postgres.js';
import { toRedis } from '../stream/sinks/redis.js';
import { toSse } from '../stream/sinks/sse.js';
import { toStdout } from '../stream/sinks/stdout.js';
import type { Source } from '../stream/source.js';
import { fromFile } from '../stream/sources/file.js';
import { fromFiles } from '../stream/sources/files.js';
import { fromHttp } from '../stream/sources/http.js';
import { fromPostgres } from '../stream/sources/postgres.js';
import { fromRedis } from '../stream/sources/redis.js';
import { fromSse } from '../stream/sources/sse.js';
import { fromStdin } from '../stream/sources/stdin.js';
import { type Config, type InferConfig, isReference, type PipelineConfig, stepOf } from './schema.js';
import type { StepFunction, StepFunctions } from './step-functions.js';

export interface PipelineParts {
  /** From `importStepFunctions` for the same config. */
  readonly functions: StepFunctions;
  /** The pools of the config that have started, by name. */
  readonly pools: ReadonlyMap<string, InferTarget<unknown, unknown>>;
  readonly instead?: OtherEnds | undefined;
  /** Goes on from the last checkpoint. */
  readonly resume?: boolean | undefined;
}

/** Records from elsewhere go through the later steps of a pipeline, and results are added to its sink. */
export interface OtherEnds {
  readonly source: Source<unknown>;
  readonly fromStep: number;
  readonly deadLetters: Sink<DeadLetter>;
}

export interface BuiltPipeline {
  readonly pipeline: Pipeline<unknown>;
  readonly sink: Sink;
  readonly deadLetters: Sink<DeadLetter> | undefined;
  readonly checkpoint: CheckpointOptions | undefined;
  readonly closeTimeoutMs: number;
  /** How many records the source will give; undefined where it cannot say. */
  readonly count: () => Promise<number | undefined>;
}

/** One pipeline of a config as a stream, ready for `to`. Opens and reads nothing. */
export function buildPipeline(name: string, config: PipelineConfig, parts: PipelineParts): BuiltPipeline {
  const find = (reference: string): StepFunction => {
    const found = parts.functions.get(reference);
    if (found === undefined) throw new TypeError(`functions: expected one for ${reference}; got none`);
    return found;
  };
  const poolOf = (wanted: string): InferTarget<unknown, unknown> => {
    const pool = parts.pools.get(wanted);
    if (pool === undefined) throw new TypeError(`pools: expected one named ${wanted}; got none`);
    return pool;
  };
  const { instead } = parts;
  const source = instead?.source ?? sourceOf(config.source);
  let pipeline: Pipeline<unknown> = stream(source, { name });
  for (const entry of config.steps.slice(instead?.fromStep ?? 0)) {
    const step = stepOf(entry);
    switch (step.kind) {
      case 'map':
        pipeline = pipeline.map(find(step.reference));
        break;
      case 'filter':
        pipeline = pipeline.filter(find(step.reference));
        break;
      case 'flatMap':
        pipeline = pipeline.flatMap(find(step.reference) as (record: unknown) => Iterable<unknown>);
        break;
      case 'mapParallel': {
        const hash = step.reference.lastIndexOf('#');
        pipeline = pipeline.mapParallel({
          module: step.reference.slice(0, hash),
          exportName: step.reference.slice(hash + 1),
        });
        break;
      }
      case 'infer': {
        pipeline = pipeline.infer(poolOf(step.options.pool), inferOptions(step.options, find, poolOf));
        break;
      }
    }
  }
  const { sink, deadLetters, checkpoint, closeTimeoutMs } = config;
  return {
    // What cannot be counted cannot be read either, and the run says so.
    count: async () => source.count?.(),
    pipeline,
    closeTimeoutMs,
    // What is replayed is not what the checkpoints speak of.
    checkpoint:
      instead === undefined && checkpoint !== undefined ? { ...checkpoint, resume: parts.resume === true } : undefined,
    sink: sinkOf(instead === undefined || sink.file === undefined ? sink : { ...sink, append: true }),
    deadLetters:
      instead?.deadLetters ?? (deadLetters === undefined ? undefined : (toFile(deadLetters.file) as Sink<DeadLetter>)),
  };
}

/** A part of a pipeline, by its keys below the pipeline, and what it has against its options. */
export interface Objection {
  readonly part: readonly PropertyKey[];
  readonly words: string;
}

/**
 * What the schema cannot know: options that do not go together, and what only the parts themselves can check. They are
 * made for that, and nothing is opened.
 */
export function objectionsTo({ source, steps, sink, checkpoint }: PipelineConfig): readonly Objection[] {
  const objections: Objection[] = [];
  const attempt = (part: readonly PropertyKey[], make: () => unknown): void => {
    try {
      make();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      objections.push({ part, words: error.message });
    }
  };
  attempt(['source'], () => sourceOf(source));
  for (const [index, entry] of steps.entries()) {
    const step = stepOf(entry);
    if (step.kind !== 'infer') continue;
    const make = (): StepFunction => () => undefined;
    attempt(['steps', index, 'infer'], () =>
      inferPlan(
        NO_POOL,
        inferOptions(step.options, make, () => NO_POOL),
      ),
    );
  }
  attempt(['sink'], () => sinkOf(sink));
  if (checkpoint !== undefined) attempt(['checkpoint'], () => checkpointPlan(checkpoint));
  return objections;
}

/** What the listener for metrics has against its options. */
export function objectionsToListener(metrics: Config['metrics']): readonly string[] {
  return metrics === undefined ? [] : objectionsOf(() => checkListen('metrics', withoutUndefined(metrics)));
}

/** What the server of pools has against its options. */
export function objectionsToServing(serve: Config['serve']): readonly string[] {
  return serve === undefined ? [] : objectionsOf(() => resolveServe(serveOptions(serve)));
}

/** Those that the file does not say are the server's to fill in. */
export function serveOptions({ tls, tokens, grpc, ...rest }: NonNullable<Config['serve']>): ServeOptions {
  return withoutUndefined({
    ...rest,
    grpc: grpc === undefined ? undefined : withoutUndefined(grpc),
    tls: tls === undefined ? undefined : withoutUndefined(tls),
    tokens: tokens === undefined ? undefined : withoutUndefined(tokens),
  });
}

function objectionsOf(check: () => unknown): readonly string[] {
  try {
    check();
    return [];
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return [error.message];
  }
}

const NO_POOL = { offer: () => undefined } as unknown as InferTarget<unknown, unknown>;

type AnyInferOptions = InferOptions<unknown, unknown, unknown, unknown, unknown>;

function inferOptions(
  config: InferConfig,
  find: (reference: string) => StepFunction,
  poolOf: (name: string) => InferTarget<unknown, unknown>,
): AnyInferOptions {
  const { order, capacity, priority, timeout, retry, breaker, fallback } = config;
  const options: AnyInferOptions = { order, capacity, priority, ...withoutUndefined({ timeout, breaker }) };
  if (retry !== undefined) {
    const { rules, ...backoff } = retry;
    options.retry = withoutUndefined(backoff);
    if (rules !== undefined) {
      options.retry.rules = mapValues(rules, (rule) => (typeof rule === 'object' ? withoutUndefined(rule) : rule));
    }
  }
  if (config.bypass !== undefined) options.bypass = find(config.bypass);
  if (config.input !== undefined) options.input = find(config.input);
  if (config.output !== undefined) options.output = find(config.output);
  if (config.failed !== undefined) options.failed = find(config.failed);
  if (config.key !== undefined) options.key = find(config.key) as (record: unknown) => string;
  if (config.model !== undefined)
    options.model = isReference(config.model) ? (find(config.model) as (record: unknown) => string) : config.model;
  if (fallback?.function !== undefined) options.fallback = find(fallback.function);
  else if (fallback?.pool !== undefined) options.fallback = poolOf(fallback.pool);
  else if (fallback !== undefined) options.fallback = { value: fallback.value };
  return options;
}

function sourceOf(config: PipelineConfig['source']): Source<unknown> {
  const { file, format, maxLineBytes, files, stdin, http, sse, redis, postgres, ...sampling } = config;
  if (files !== undefined) return fromFiles(files, withoutUndefined(sampling));
  if (file !== undefined) return fromFile(file, withoutUndefined({ format, maxLineBytes }));
  if (stdin !== undefined) return fromStdin({ format: stdin });
  if (http !== undefined) return fromHttp(given(http));
  if (sse !== undefined) {
    const { url, ...options } = sse;
    return fromSse(url, given(options));
  }
  if (redis !== undefined) return fromRedis(given(redis));
  if (postgres !== undefined) return fromPostgres(given(postgres));
  throw new TypeError('source: expected one of the kinds of sources; got none');
}

function sinkOf({ file, format, append, stdout, http, sse, redis, postgres }: PipelineConfig['sink']): Sink {
  if (file !== undefined) return toFile(file, withoutUndefined({ format, append }));
  if (http !== undefined) {
    const { url, ...options } = http;
    return toHttp(url, given(options));
  }
  if (sse !== undefined) return toSse(given(sse));
  if (redis !== undefined) return toRedis(given(redis));
  if (postgres !== undefined) return toPostgres(given(postgres));
  return toStdout(withoutUndefined({ format: stdout }));
}

type Given<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [Key in keyof T]: Given<Exclude<T[Key], undefined>> }
    : T;

/** As withoutUndefined, in inner objects too. */
function given<T extends object>(value: T): Given<T> {
  const entries = Object.entries(value).filter(([, entry]) => entry !== undefined);
  return Object.fromEntries(entries.map(([key, entry]) => [key, isPlain(entry) ? given(entry) : entry])) as Given<T>;
}

function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function mapValues<A, B>(record: Readonly<Record<string, A>>, change: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}

/** The options of the stream room tell "not given" from "undefined". */
export function withoutUndefined<T extends object>(value: T): { [Key in keyof T]: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as never;
}
