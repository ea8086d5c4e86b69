import type { InferTarget } from '../actor/infer-target.js';
import type { DeadLetter } from '../stream/envelope.js';
import type { InferOptions } from '../stream/infer-options.js';
import { type Pipeline, stream } from '../stream/pipeline.js';
import type { Sink } from '../stream/sink.js';
import { toFile } from '../stream/sinks/file.js';
import { toStdout } from '../stream/sinks/stdout.js';
import type { Source } from '../stream/source.js';
import { fromFile } from '../stream/sources/file.js';
import { fromFiles } from '../stream/sources/files.js';
import { type InferConfig, type PipelineConfig, stepOf } from './schema.js';
import type { StepFunction, StepFunctions } from './step-functions.js';

export interface PipelineParts {
  /** From `importStepFunctions` for the same config. */
  readonly functions: StepFunctions;
  /** The pools of the config that have started, by name. */
  readonly pools: ReadonlyMap<string, InferTarget<unknown, unknown>>;
  readonly instead?: OtherEnds | undefined;
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
        const pool = parts.pools.get(step.options.pool);
        if (pool === undefined) throw new TypeError(`pools: expected one named ${step.options.pool}; got none`);
        pipeline = pipeline.infer(pool, inferOptions(step.options, find));
        break;
      }
    }
  }
  const { sink, deadLetters } = config;
  return {
    // What cannot be counted cannot be read either, and the run says so.
    count: async () => source.count?.(),
    pipeline,
    sink: sinkOf(instead === undefined || sink.file === undefined ? sink : { ...sink, append: true }),
    deadLetters:
      instead?.deadLetters ?? (deadLetters === undefined ? undefined : (toFile(deadLetters.file) as Sink<DeadLetter>)),
  };
}

type AnyInferOptions = InferOptions<unknown, unknown, unknown, unknown, unknown>;

function inferOptions(config: InferConfig, find: (reference: string) => StepFunction): AnyInferOptions {
  const { order, capacity, priority, timeout } = config;
  const options: AnyInferOptions = { order, capacity, priority, ...(timeout === undefined ? {} : { timeout }) };
  if (config.bypass !== undefined) options.bypass = find(config.bypass);
  if (config.input !== undefined) options.input = find(config.input);
  if (config.output !== undefined) options.output = find(config.output);
  if (config.failed !== undefined) options.failed = find(config.failed);
  return options;
}

function sourceOf({ file, format, maxLineBytes, files, ...sampling }: PipelineConfig['source']): Source<unknown> {
  if (files !== undefined) return fromFiles(files, withoutUndefined(sampling));
  if (file !== undefined) return fromFile(file, withoutUndefined({ format, maxLineBytes }));
  throw new TypeError('source: expected file or files; got neither');
}

function sinkOf({ file, format, append, stdout }: PipelineConfig['sink']): Sink {
  if (file !== undefined) return toFile(file, withoutUndefined({ format, append }));
  return toStdout(withoutUndefined({ format: stdout }));
}

/** The options of the stream room tell "not given" from "undefined". */
function withoutUndefined<T extends object>(value: T): { [Key in keyof T]: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as never;
}
