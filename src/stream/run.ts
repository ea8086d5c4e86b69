/**
 * One run of a pipeline: opens the ends, drives the last stage, gives every record its class, and lets go of
 * everything, however it ends.
 *
 * R1 every record that entered leaves in exactly one class (see report.ts).
 * R2 nothing is pulled while the sink has not taken what it was given.
 * R3 whatever was opened is closed once, from the sink back to the source, also when opening fails half-way.
 * R4 the run yields to the event loop at least every YIELD_MS, so timers and signals get through a pipeline that is
 *    synchronous from end to end.
 */
import { systemClock, type Clock } from '../kernel/clock.js';
import { TroupeError, isTroupeError } from '../kernel/errors.js';
import { deadLetterOf, failureOf, type Chunk, type DeadLetter } from './envelope.js';
import { isA, wordsOf } from './foreign.js';
import { INTERRUPTED, Interrupt, isThenable } from './interrupt.js';
import { Counts, StreamError, type Report } from './report.js';
import { SinkClosed, type Sink } from './sink.js';
import type { Source } from './source.js';
import { SourceStage, sourceFailed, type RunContext, type Stage } from './stage.js';

const YIELD_MS = 10;

/** Adds one operator to the stages built so far. */
export type StageBuilder = (upstream: Stage, run: RunContext, index: number) => Stage | Promise<Stage>;

export interface RunPlan {
  readonly name: string;
  readonly chunkSize: number;
  readonly source: Source<unknown>;
  readonly steps: readonly StageBuilder[];
  readonly sink: Sink;
  readonly deadLetters: Sink<DeadLetter> | undefined;
  /** The dead-letter sinks of single steps. */
  readonly stepDeadLetters: readonly Sink<DeadLetter>[];
  readonly onFailed: ((record: unknown, error: TroupeError) => void) | undefined;
  readonly onProgress: ((report: Report) => void) | undefined;
  readonly progressMs: number;
  readonly signal: AbortSignal | undefined;
}

export function runPipeline(plan: RunPlan, clock: Clock = systemClock): Promise<Report> {
  return new PipelineRun(plan, clock).run();
}

class PipelineRun {
  readonly #plan: RunPlan;
  readonly #clock: Clock;
  readonly #counts: Counts;
  readonly #interrupt = new Interrupt();
  readonly #stages: Stage[] = [];
  readonly #openSinks: Sink<never>[] = [];
  /** The sink with a write that is open or has failed: it is aborted, the others are closed. */
  #writingTo: Sink<never> | undefined;
  #isCancelled = false;
  #yieldedAt: number;
  #progressAt: number;

  constructor(plan: RunPlan, clock: Clock) {
    this.#plan = plan;
    this.#clock = clock;
    const now = clock.now();
    this.#counts = new Counts(now);
    this.#yieldedAt = now;
    this.#progressAt = now;
  }

  async run(): Promise<Report> {
    const { signal } = this.#plan;
    const onAbort = (): void => this.#cancel();
    if (signal?.aborted === true) this.#cancel();
    else signal?.addEventListener('abort', onAbort, { once: true });
    let failure: unknown;
    try {
      if (!this.#interrupt.isSet) {
        const last = await this.#open();
        await this.#drive(last);
      }
      if (this.#writingTo === undefined) await this.#closeSinks();
    } catch (reason) {
      if (isA(reason, SinkClosed)) this.#isCancelled = true;
      else failure = reason;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
    failure = await this.#release(failure);
    this.#counts.giveUpHeld();
    const report = this.#counts.report(this.#clock.now(), this.#isCancelled);
    if (failure === undefined) return report;
    throw isTroupeError(failure) ? new StreamError(failure, report) : failure;
  }

  #cancel(): void {
    this.#isCancelled = true;
    this.#interrupt.set();
  }

  /** Sinks first: nothing is read when the results have nowhere to go. */
  async #open(): Promise<Stage> {
    const { source, sink, deadLetters, stepDeadLetters } = this.#plan;
    const sinks = new Set<Sink<never>>([sink, ...stepDeadLetters]);
    if (deadLetters !== undefined) sinks.add(deadLetters);
    for (const each of sinks) {
      try {
        await each.open?.();
      } catch (cause) {
        throw sinkFailed(each.name, cause);
      }
      this.#openSinks.push(each);
    }
    const run: RunContext = {
      name: this.#plan.name,
      clock: this.#clock,
      counts: this.#counts,
      interrupt: this.#interrupt,
      chunkSize: this.#plan.chunkSize,
      tracker: undefined,
      takeHeld: undefined,
    };
    let last: Stage;
    try {
      const opened = source.open();
      // A FIFO opens when somebody writes to it, which may be never.
      const reader = isThenable(opened) ? await this.#interrupt.guard(opened) : opened;
      if (reader === INTERRUPTED) {
        void Promise.resolve(opened).then(
          (late) => late.close(),
          () => undefined,
        );
        return { pull: async () => undefined, close: () => undefined };
      }
      if (typeof reader?.read !== 'function' || typeof reader.close !== 'function') {
        throw new TypeError('open() must give a reader with read and close');
      }
      last = new SourceStage(source.name, reader, run);
    } catch (cause) {
      throw sourceFailed(source.name, cause);
    }
    this.#stages.push(last);
    for (const [index, build] of this.#plan.steps.entries()) {
      last = await build(last, run, index);
      this.#stages.push(last);
    }
    return last;
  }

  async #drive(last: Stage): Promise<void> {
    while (!this.#interrupt.isSet) {
      const chunk = await last.pull(this.#plan.chunkSize);
      if (chunk === undefined) return;
      await this.#deliver(chunk);
      const now = this.#clock.now();
      if (now - this.#progressAt >= this.#plan.progressMs) {
        this.#progressAt = now;
        this.#plan.onProgress?.(this.#counts.report(now, false));
      }
      if (now - this.#yieldedAt >= YIELD_MS) {
        await new Promise<void>((resolve) => setImmediate(resolve));
        this.#yieldedAt = this.#clock.now();
      }
    }
  }

  /** Writes values in runs between failures only where it must: a chunk costs one write per sink. */
  async #deliver(chunk: Chunk): Promise<void> {
    const values: unknown[] = [];
    const records: Chunk = [];
    let letters: Map<Sink<DeadLetter>, Chunk> | undefined;
    for (const envelope of chunk) {
      if (envelope.kind !== 'failed') {
        values.push(envelope.value);
        records.push(envelope);
        continue;
      }
      const sink = envelope.deadLetters ?? this.#plan.deadLetters;
      if (sink === undefined) continue;
      letters ??= new Map();
      const queue = letters.get(sink);
      if (queue === undefined) letters.set(sink, [envelope]);
      else queue.push(envelope);
    }
    if (values.length > 0 && !(await this.#write(this.#plan.sink, values, records))) return;
    this.#countValues(chunk);
    if (letters === undefined) return;
    const wallOffsetMs = this.#clock.wallNow() - this.#clock.now();
    for (const [sink, envelopes] of letters) {
      const written = await this.#write(
        sink,
        envelopes.map((envelope) => deadLetterOf(envelope, this.#plan.name, wallOffsetMs)),
        envelopes,
      );
      if (!written) return;
      this.#counts.deadLetters += envelopes.length;
      this.#countErrors(envelopes);
    }
  }

  /** False when the run was interrupted before the sink took the values. */
  async #write<T>(sink: Sink<T>, values: readonly T[], records: Chunk): Promise<boolean> {
    this.#writingTo = sink;
    try {
      const written = sink.write(values, records);
      if (isThenable(written) && (await this.#interrupt.guard(written)) === INTERRUPTED) return false;
    } catch (cause) {
      throw sinkFailed(sink.name, cause);
    }
    this.#writingTo = undefined;
    return true;
  }

  /** Everything of a delivered chunk but the dead letters. */
  #countValues(chunk: Chunk): void {
    const now = this.#clock.now();
    const counts = this.#counts;
    for (const envelope of chunk) {
      counts.latency.add(now - envelope.pulledAt);
      if (envelope.kind === 'value') {
        counts.results += 1;
        continue;
      }
      if (envelope.kind === 'substitute') {
        counts.failed += 1;
        counts.error(failureOf(envelope).code);
        continue;
      }
      if ((envelope.deadLetters ?? this.#plan.deadLetters) === undefined) {
        counts.failed += 1;
        this.#countErrors([envelope]);
      }
    }
  }

  #countErrors(envelopes: Chunk): void {
    for (const envelope of envelopes) {
      const error = failureOf(envelope);
      this.#counts.error(error.code);
      this.#plan.onFailed?.(envelope.value, error);
    }
  }

  async #closeSinks(): Promise<void> {
    for (let sink = this.#openSinks.pop(); sink !== undefined; sink = this.#openSinks.pop()) {
      try {
        await sink.close();
      } catch (cause) {
        throw sinkFailed(sink.name, cause);
      }
    }
  }

  /** R3. Gives the first failure: a second one while letting go says less than the one that caused it. */
  async #release(failure: unknown): Promise<unknown> {
    let first = failure;
    this.#interrupt.set();
    for (const sink of this.#openSinks.splice(0).reverse()) {
      try {
        await (sink === this.#writingTo && sink.abort !== undefined ? sink.abort() : sink.close());
      } catch (cause) {
        first ??= sinkFailed(sink.name, cause);
      }
    }
    for (const stage of this.#stages.splice(0).reverse()) {
      try {
        await stage.close();
      } catch (cause) {
        first ??= sourceFailed(this.#plan.source.name, cause);
      }
    }
    return first;
  }
}

function sinkFailed(name: string, cause: unknown): Error {
  if (isA(cause, SinkClosed)) return cause;
  if (isTroupeError(cause) && cause.code === 'SINK_FAILED') return cause;
  return new TroupeError('SINK_FAILED', `Sink ${name} failed: ${wordsOf(cause)}`, { cause });
}
