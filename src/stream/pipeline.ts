import type { InferTarget } from '../actor/infer-target.js';
import type { TroupeError } from '../kernel/errors.js';
import type { DeadLetter, RecordInfo } from './envelope.js';
import { InferStage, type InferPlan } from './infer.js';
import { FlatMapStage, OperationStage, filterOperation, mapOperation } from './operators.js';
import {
  checkCount,
  checkFunction,
  checkKeys,
  checkOneOf,
  checkOptionalFunction,
  checkSink,
  refuse,
} from './options.js';
import { parallelPlan, startParallel, type ParallelOptions } from './parallel.js';
import type { Report } from './report.js';
import { runPipeline, type StageBuilder } from './run.js';
import type { Sink } from './sink.js';
import type { Source } from './source.js';

export interface StreamOptions {
  /** Names the pipeline towards pools and in messages. Default: the name of the source. */
  name?: string;
  /** Most records that move from step to step at once. Default 128. */
  chunkSize?: number;
}

/** `Record` comes in, `In` goes to the actor, `Out` comes back, `Next` goes on. */
export interface InferOptions<Record, In, Out, Next, Substitute> {
  /** What of the record goes to the actor. Default: the record itself. */
  input?: (record: Record) => In;
  /** What goes on. `version` is the model version that made the result. Default: the result. */
  output?: (record: Record, result: Out, version: string | undefined) => Next;
  /**
   * A value given here goes on in the place of the record, which counts as a result, and the actor is not asked.
   * Undefined asks it. Default: every record is asked.
   */
  bypass?: (record: Record) => Next | undefined;
  /**
   * Turns a failure into a value that goes on; the record counts as failed. It sees every failed record that reaches
   * the step, those of earlier steps and of the source included; `record` is what the failing step was given.
   */
  failed?: (record: unknown, error: TroupeError) => Substitute;
  /** ordered: as the source gave them. unordered: as they settle. Default ordered. */
  order?: 'ordered' | 'unordered';
  /** Most records between the step's entry and its exit. Default 512. */
  capacity?: number;
  /** Each record fails with DEADLINE_PASSED this long after the pool took it. Default: none. */
  timeout?: { ms: number };
  /** Higher goes first in the pool. Default 0. */
  priority?: number | ((record: Record) => number);
  /** Where records that fail in this step go; it takes precedence over the one of `to`. Not together with `failed`. */
  deadLetters?: Sink<DeadLetter>;
}

export interface ToOptions {
  /** Ends the run: the promise resolves to a report with `cancelled: true`. */
  signal?: AbortSignal;
  /** Where failed records go; without it they count as failed and leave only their code in the report. */
  deadLetters?: Sink<DeadLetter>;
  /** Sees every failed record as it leaves, dead letters included. Throwing ends the run. */
  onFailed?: (record: unknown, error: TroupeError) => void;
  /** Called with the report so far, after progress, at most every `progressMs`. Throwing ends the run. */
  onProgress?: (report: Report) => void;
  /** Default 200. */
  progressMs?: number;
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
  return new Pipeline<T>({ source, name, chunkSize, steps: [], stepDeadLetters: [] });
}

interface Definition {
  readonly source: Source<unknown>;
  readonly name: string;
  readonly chunkSize: number;
  readonly steps: readonly StageBuilder[];
  readonly stepDeadLetters: readonly Sink<DeadLetter>[];
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
    options: InferOptions<T, In, Out, Next, Substitute> & { readonly input: (record: T) => In },
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
    return this.#with((upstream, run, index) => new InferStage(plan, upstream, run, index), plan.deadLetters);
  }

  /**
   * Runs the pipeline into a sink. Rejects with SOURCE_FAILED or SINK_FAILED (a StreamError with the `report` so far)
   * when an end fails as a whole; resolves when the source has ended, or when `signal` ended the run.
   */
  to(sink: Sink<T>, options: ToOptions = {}): Promise<Report> {
    checkSink('sink', sink);
    checkKeys('to', options, ['signal', 'deadLetters', 'onFailed', 'onProgress', 'progressMs']);
    const { signal, deadLetters, onFailed, onProgress, progressMs = 200 } = options;
    if (signal !== undefined && !(signal instanceof AbortSignal)) refuse('signal', 'an AbortSignal', signal);
    if (deadLetters !== undefined) checkSink('deadLetters', deadLetters);
    checkOptionalFunction('onFailed', onFailed);
    checkOptionalFunction('onProgress', onProgress);
    checkCount('progressMs', progressMs, 0);
    return runPipeline({
      ...this.#definition,
      sink: sink as Sink,
      deadLetters,
      onFailed,
      onProgress,
      progressMs,
      signal,
    });
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

  #with<Next>(step: StageBuilder, deadLetters?: Sink<DeadLetter>): Pipeline<Next> {
    const { steps, stepDeadLetters } = this.#definition;
    return new Pipeline<Next>({
      ...this.#definition,
      steps: [...steps, step],
      stepDeadLetters: deadLetters === undefined ? stepDeadLetters : [...stepDeadLetters, deadLetters],
    });
  }
}

function inferPlan(target: unknown, options: InferOptions<unknown, unknown, unknown, unknown, unknown>): InferPlan {
  if (typeof target !== 'object' || target === null || !('offer' in target) || typeof target.offer !== 'function') {
    refuse('infer', 'given a pool, such as the one from system.spawn()', target);
  }
  checkKeys('infer', options, [
    'input',
    'output',
    'bypass',
    'failed',
    'order',
    'capacity',
    'timeout',
    'priority',
    'deadLetters',
  ]);
  const { input, output, bypass, failed, order = 'ordered', capacity = 512 } = options;
  const { timeout, priority = 0, deadLetters } = options;
  checkOptionalFunction('infer.input', input);
  checkOptionalFunction('infer.output', output);
  checkOptionalFunction('infer.bypass', bypass);
  checkOptionalFunction('infer.failed', failed);
  checkOneOf('infer.order', order, ['ordered', 'unordered']);
  checkCount('infer.capacity', capacity);
  if (typeof priority !== 'number') checkFunction('infer.priority', priority);
  if (timeout !== undefined) {
    checkKeys('infer.timeout', timeout, ['ms']);
    if (!(timeout.ms > 0)) refuse('infer.timeout.ms', 'a number of milliseconds above 0', timeout.ms);
  }
  if (deadLetters !== undefined) checkSink('infer.deadLetters', deadLetters);
  if (failed !== undefined && deadLetters !== undefined) {
    throw new TypeError(
      'infer: a failed record becomes either a value (failed) or a dead letter (deadLetters), not both',
    );
  }
  return {
    target: target as InferTarget<unknown, unknown>,
    input,
    output,
    bypass,
    failed,
    order,
    capacity,
    timeoutMs: timeout?.ms ?? Infinity,
    priority,
    deadLetters,
  };
}
