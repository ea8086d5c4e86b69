import type { InferTarget } from '../actor/infer-target.js';
import type { TroupeError } from '../kernel/errors.js';
import { MetricsRegistry } from '../telemetry/registry.js';
import { checkpointPlan, type CheckpointOptions } from './checkpoint/options.js';
import type { DeadLetter, RecordInfo } from './envelope.js';
import { inferPlan, type InferOptions } from './infer-options.js';
import { InferStage } from './infer.js';
import { FlatMapStage, OperationStage, filterOperation, mapOperation } from './operators.js';
import {
  checkCount,
  checkFunction,
  checkKeys,
  checkOptionalFunction,
  checkSink,
  checkSpan,
  refuse,
} from './options.js';
import { parallelPlan, startParallel, type ParallelOptions } from './parallel.js';
import type { Report } from './report.js';
import { runPipeline, type RunPlan, type StageBuilder } from './run.js';
import type { RunWorld } from './run-ends.js';
import type { Sink } from './sink.js';
import type { Source } from './source.js';

export interface StreamOptions {
  /** Names the pipeline towards pools and in messages. Default: the name of the source. */
  name?: string;
  /** Most records that move from step to step at once. Default 128. */
  chunkSize?: number;
}

export interface ToOptions {
  /** Ends the run: the promise resolves to a report with `cancelled: true`. */
  signal?: AbortSignal;
  /**
   * Ends the reading: no further record is read, those inside finish, and the run ends as if the source had ended. So
   * the same pipeline runs bounded, to the end of its source, and unbounded, until this.
   */
  stop?: AbortSignal;
  /** Lets a run that died be resumed; what the output is worth then says the report's `delivery`. Default: none. */
  checkpoint?: CheckpointOptions;
  /** Where failed records go; without it they count as failed and leave only their code in the report. */
  deadLetters?: Sink<DeadLetter>;
  /**
   * Sees every failed record as it leaves, dead letters included. Throwing ends the run with OPERATOR_FAILED; a promise
   * is waited for.
   */
  onFailed?: (record: unknown, error: TroupeError) => unknown;
  /** Called with the report so far, at most every `progressMs`. Throwing ends the run with OPERATOR_FAILED; a promise is waited for. */
  onProgress?: (report: Report) => unknown;
  /** Default 200. */
  progressMs?: number;
  /**
   * How long the run waits, at its end, for each of its parts: `close` or `abort` of a sink, `close` of the source and
   * of a step, an acknowledgement that is under way. One that takes longer is left to itself, and the run ends with
   * SINK_FAILED or SOURCE_FAILED, which names it. Infinity for no limit. Default 60,000.
   */
  closeTimeoutMs?: number;
}

/** Begins a pipeline. Nothing is opened or read before `to`. */
export function stream<T>(source: Source<T>, options: StreamOptions = {}): Pipeline<T> {
  if (typeof source !== 'object' || source === null || typeof source.open !== 'function') {
    refuse('source', 'a source, such as fromIterable(array) or fromFile(path)', source);
  }
  checkKeys('stream', options, ['name', 'chunkSize']);
  const { name = source.name, chunkSize = 128 } = options;
  if (typeof name !== 'string' || name === '') refuse('name', 'a string that is not empty', name);
  checkCount('chunkSize', chunkSize);
  return new Pipeline<T>({ source, name, chunkSize, steps: [], stepDeadLetters: [], registries: [] });
}

interface Definition {
  readonly source: Source<unknown>;
  readonly name: string;
  readonly chunkSize: number;
  readonly steps: readonly StageBuilder[];
  readonly stepDeadLetters: readonly Sink<DeadLetter>[];
  readonly registries: readonly MetricsRegistry[];
}

let planOf: <T>(pipeline: Pipeline<T>, sink: Sink<T>, options: ToOptions) => RunPlan;

/** `pipeline.to(sink, options)` in another world: tests and the simulator give its clock and its disk. */
export function runIn<T>(
  world: Partial<RunWorld>,
  pipeline: Pipeline<T>,
  sink: Sink<T>,
  options: ToOptions = {},
): Promise<Report> {
  return runPipeline(planOf(pipeline, sink, options), world);
}

/**
 * A pipeline as a value: every method gives a new one and leaves the old one as it is, and one definition may run many
 * times as far as its source can be read again.
 *
 * A failure takes the place of its record, passes the later steps untouched, and leaves as a dead letter or a failed
 * count; it never ends the run. Bound: records pulled and not yet written are at most the sum of the infer capacities
 * and mapParallel windows, plus `chunkSize` for every other operator, the sink and the source's read-ahead.
 */
export class Pipeline<T> {
  readonly #definition: Definition;

  static {
    planOf = (pipeline, sink, options) => pipeline.#plan(sink, options);
  }

  constructor(definition: Definition) {
    this.#definition = definition;
  }

  /** One value for each record. An async `fn` is called for one record at a time. */
  map<Next>(fn: (record: T, info: RecordInfo) => Next | PromiseLike<Next>): Pipeline<Next> {
    checkFunction('map', fn);
    return this.#with((upstream, run, index) => new OperationStage('map', mapOperation(fn), upstream, run, index));
  }

  /** Keeps the records for which `fn` gives a truthy value. */
  filter<Next extends T>(fn: (record: T, info: RecordInfo) => record is Next): Pipeline<Next>;
  filter(fn: (record: T, info: RecordInfo) => unknown): Pipeline<T>;
  filter(fn: (record: T, info: RecordInfo) => unknown): Pipeline<T> {
    checkFunction('filter', fn);
    return this.#with(
      (upstream, run, index) => new OperationStage('filter', filterOperation(fn), upstream, run, index),
    );
  }

  /** Any number of values for each record, in its place. */
  flatMap<Next>(
    fn: (
      record: T,
      info: RecordInfo,
    ) => Iterable<Next> | AsyncIterable<Next> | PromiseLike<Iterable<Next> | AsyncIterable<Next>>,
  ): Pipeline<Next> {
    checkFunction('flatMap', fn);
    return this.#with((upstream, run, index) => new FlatMapStage('flatMap', fn, upstream, run, index));
  }

  /**
   * Like `map`, for stateless CPU work: the function is exported by a module and runs in threads, in the order of the
   * records. Records and results are copied. When a thread dies, the records it held are tried once more, one by one.
   */
  mapParallel<Next = unknown>(module: string | URL | ParallelOptions): Pipeline<Next> {
    const plan = parallelPlan(module);
    return this.#with((upstream, run, index) => startParallel(plan, upstream, run, index));
  }

  /** Sends each record to a pool and goes on with its results. Without `input` the records are what the pool takes. */
  infer<In, Out, Next = Out, Substitute = never>(
    target: InferTarget<In, Out>,
    options: InferOptions<T, In, Out, Next, Substitute> & { readonly input: (record: T, info: RecordInfo) => In },
  ): Pipeline<Next | Substitute>;
  infer<Out, Next = Out, Substitute = never>(
    target: InferTarget<T, Out>,
    options?: InferOptions<T, T, Out, Next, Substitute>,
  ): Pipeline<Next | Substitute>;
  infer<In, Out, Next, Substitute>(
    target: InferTarget<In, Out>,
    options: InferOptions<T, In, Out, Next, Substitute> = {},
  ): Pipeline<Next | Substitute> {
    const plan = inferPlan(target, options as InferOptions<unknown, unknown, unknown, unknown, unknown>);
    return this.#with((upstream, run, index) => new InferStage(plan, upstream, run, index), plan.deadLetters, [
      plan.target,
      ...(plan.fallback?.kind === 'pool' ? [plan.fallback.pool] : []),
    ]);
  }

  /**
   * Runs the pipeline into a sink. Rejects with SOURCE_FAILED or SINK_FAILED (a StreamError with the `report` so far)
   * when an end fails as a whole, with CHECKPOINT_FAILED or CHECKPOINT_INVALID when it cannot be made safe or resumed,
   * with OPERATOR_FAILED when `onFailed` or `onProgress` throws or a module of `mapParallel` cannot be used; resolves
   * when the source has ended, or when `signal` or `stop` ended the run.
   */
  to(sink: Sink<T>, options: ToOptions = {}): Promise<Report> {
    return runPipeline(this.#plan(sink, options));
  }

  /** Runs the pipeline and resolves to its values. Failed records are left out; use `to` to learn of them. */
  async toArray(): Promise<T[]> {
    const values: T[] = [];
    await this.to({
      name: 'array',
      write: (chunk) => {
        for (const value of chunk) values.push(value);
      },
      close: () => undefined,
    });
    return values;
  }

  #plan(sink: Sink<T>, options: ToOptions): RunPlan {
    checkSink('sink', sink);
    checkKeys('to', options, [
      'signal',
      'stop',
      'checkpoint',
      'deadLetters',
      'onFailed',
      'onProgress',
      'progressMs',
      'closeTimeoutMs',
    ]);
    const { signal, stop, checkpoint, deadLetters, onFailed, onProgress } = options;
    const { progressMs = 200, closeTimeoutMs = 60_000 } = options;
    if (signal !== undefined && !(signal instanceof AbortSignal)) refuse('signal', 'an AbortSignal', signal);
    if (stop !== undefined && !(stop instanceof AbortSignal)) refuse('stop', 'an AbortSignal', stop);
    if (deadLetters !== undefined) checkSink('deadLetters', deadLetters);
    checkOptionalFunction('onFailed', onFailed);
    checkOptionalFunction('onProgress', onProgress);
    checkCount('progressMs', progressMs, 0);
    checkSpan('closeTimeoutMs', closeTimeoutMs);
    return {
      ...this.#definition,
      sink: sink as Sink,
      deadLetters,
      onFailed,
      onProgress,
      progressMs,
      closeTimeoutMs,
      signal,
      stop,
      checkpoint: checkpoint === undefined ? undefined : checkpointPlan(checkpoint),
    };
  }

  #with<Next>(
    step: StageBuilder,
    deadLetters?: Sink<DeadLetter>,
    targets: readonly InferTarget<unknown, unknown>[] = [],
  ): Pipeline<Next> {
    const { steps, stepDeadLetters, registries } = this.#definition;
    // A target of the user's own may have anything under this name.
    const theirs = targets.flatMap(({ metrics }) => (metrics instanceof MetricsRegistry ? [metrics] : []));
    return new Pipeline<Next>({
      ...this.#definition,
      steps: [...steps, step],
      stepDeadLetters: deadLetters === undefined ? stepDeadLetters : [...stepDeadLetters, deadLetters],
      registries: [...new Set([...registries, ...theirs])],
    });
  }
}
