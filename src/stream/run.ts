/**
 * One run of a pipeline: opens the ends, drives the last stage, and lets go of everything, however it ends.
 *
 * R1 sinks are opened before anything is read, and after it was decided from which checkpoint the run goes on: a sink
 *    may destroy what is there only when the run begins anew.
 * R2 whatever was opened is closed once, from the sink back to the source, also when opening fails half-way.
 * R3 the run gives way to the event loop every few milliseconds, so timers and signals get through a pipeline that is
 *    synchronous from end to end, also where nothing comes out of it.
 * R4 `stop` ends the reading and nothing else; `signal` ends every wait.
 */
import { systemClock, type Clock } from '../kernel/clock.js';
import { TroupeError, isTroupeError } from '../kernel/errors.js';
import { Coordinator, type Storage } from './checkpoint/coordinator.js';
import { realDisk, type Disk } from './checkpoint/disk.js';
import { checkIdentity, loadHeld, saveHeld, type PipelineIdentity, type Snapshot } from './checkpoint/format.js';
import { errorOf } from './checkpoint/items.js';
import { realProcesses, type Processes } from './checkpoint/lock.js';
import type { CheckpointPlan } from './checkpoint/options.js';
import { CheckpointStore, type LoadedCheckpoint } from './checkpoint/store.js';
import { Delivery, sinkFailed } from './delivery.js';
import { operatorFailed, type DeadLetter } from './envelope.js';
import { FairTurn } from './fair-turn.js';
import { isA, wordsOf } from './foreign.js';
import { INTERRUPTED, Interrupt, isThenable } from './interrupt.js';
import { Counts, StreamError, type Report, type RunFacts } from './report.js';
import { SinkClosed, type Sink } from './sink.js';
import type { Source, SourceReader } from './source.js';
import { SourceStage, sourceFailed, type HeldState, type RunContext, type Stage } from './stage.js';
import { Tracking, kindOf, resumedState, type SourceKind, type SourceState } from './tracking.js';

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
  readonly onFailed: ((record: unknown, error: TroupeError) => unknown) | undefined;
  readonly onProgress: ((report: Report) => unknown) | undefined;
  readonly progressMs: number;
  readonly signal: AbortSignal | undefined;
  readonly stop: AbortSignal | undefined;
  readonly checkpoint: CheckpointPlan | undefined;
}

/** The world of a run; tests give others. */
export interface RunWorld {
  readonly clock: Clock;
  readonly disk: Disk;
  readonly processes: Processes;
}

const REAL_WORLD: RunWorld = { clock: systemClock, disk: realDisk, processes: realProcesses };

export function runPipeline(plan: RunPlan, world: Partial<RunWorld> = {}): Promise<Report> {
  return new PipelineRun(plan, { ...REAL_WORLD, ...world }).run();
}

class PipelineRun {
  readonly #plan: RunPlan;
  readonly #world: RunWorld;
  readonly #counts: Counts;
  /** Ends every wait. */
  readonly #interrupt = new Interrupt();
  /** Ends the reading. */
  readonly #reading = new Interrupt();
  readonly #stages: Stage[] = [];
  readonly #sinks: readonly Sink<never>[];
  readonly #openSinks: Sink<never>[] = [];
  #store: CheckpointStore | undefined;
  #coordinator: Coordinator | undefined;
  #delivery: Delivery | undefined;
  #facts: RunFacts = { cancelled: false, metrics: [] };
  readonly #turn: FairTurn;
  #progressAt: number;

  constructor(plan: RunPlan, world: RunWorld) {
    this.#plan = plan;
    this.#world = world;
    const { sink, stepDeadLetters, deadLetters } = plan;
    this.#sinks = [...new Set<Sink<never>>([sink, ...stepDeadLetters, ...(deadLetters ? [deadLetters] : [])])];
    const now = world.clock.now();
    this.#counts = new Counts(now);
    this.#turn = new FairTurn(world.clock);
    this.#progressAt = now;
  }

  async run(): Promise<Report> {
    const { signal, stop } = this.#plan;
    const onAbort = (): void => this.#cancel();
    const onStop = (): void => this.#reading.set();
    if (signal?.aborted === true) this.#cancel();
    else signal?.addEventListener('abort', onAbort, { once: true });
    if (stop?.aborted === true) onStop();
    else stop?.addEventListener('abort', onStop, { once: true });
    let failure: unknown;
    try {
      if (!this.#interrupt.isSet) {
        const last = await this.#open();
        await this.#coordinator?.begin();
        await this.#drive(last);
        if (!this.#interrupt.isSet) await this.#coordinator?.finish();
      }
      if (this.#delivery?.writingTo === undefined) await this.#closeSinks();
    } catch (reason) {
      if (isA(reason, SinkClosed)) this.#facts = { ...this.#facts, cancelled: true };
      else failure = reason;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      stop?.removeEventListener('abort', onStop);
    }
    failure = await this.#release(failure);
    this.#counts.giveUpHeld();
    const report = this.#report();
    if (failure === undefined) return report;
    throw new StreamError(isTroupeError(failure) ? failure : unexpected(failure), report);
  }

  #cancel(): void {
    this.#facts = { ...this.#facts, cancelled: true };
    this.#reading.set();
    this.#interrupt.set();
  }

  #report(): Report {
    this.#noteFacts();
    return this.#counts.report(this.#world.clock.now(), this.#facts);
  }

  /** At the end the stages are gone, and what they said last stands. */
  #noteFacts(): void {
    const checkpoints = this.#coordinator?.report;
    if (checkpoints !== undefined) this.#facts = { ...this.#facts, checkpoints };
    const metrics = this.#stages.flatMap((stage) => stage.metrics?.() ?? []);
    if (metrics.length > 0) this.#facts = { ...this.#facts, metrics };
  }

  /** R1. */
  async #open(): Promise<Stage> {
    const { name, source, steps, chunkSize } = this.#plan;
    const loaded = await this.#openStore();
    await this.#openSinksAt(loaded);
    const resumed = loaded === undefined ? undefined : resumedState(loaded.snapshot.source);
    const reader = await this.#openSource(resumed);
    if (reader === undefined) return ENDED;
    const held = loaded?.snapshot.held.map((step) => new Map(step.map((saved) => [saved.id, loadHeld(saved)])));
    const tracking = this.#track(reader, resumed);
    const run: RunContext = {
      name,
      clock: this.#world.clock,
      counts: this.#counts,
      interrupt: this.#interrupt,
      chunkSize,
      turn: this.#turn,
      tracker: tracking,
      takeHeld:
        held === undefined
          ? undefined
          : (index, id) => {
              const state = held[index]?.get(id);
              held[index]?.delete(id);
              return state;
            },
    };
    let last: Stage = new SourceStage(
      { name: source.name, reader, reading: this.#reading, tracking, restored: resumed?.items ?? [] },
      run,
    );
    this.#stages.push(last);
    if (tracking !== undefined) this.#coordinate(tracking, reader, loaded);
    const outcomes = resumed?.outcomes ?? [];
    if (outcomes.length > 0) await this.#acknowledgeAgain(reader, outcomes);
    const { sink, deadLetters, onFailed } = this.#plan;
    const { counts, clock, interrupt } = run;
    this.#delivery = new Delivery({ pipeline: name, sink, deadLetters, onFailed, clock, counts, interrupt, tracking });
    for (const [index, build] of steps.entries()) {
      last = await build(last, run, index);
      this.#stages.push(last);
    }
    return last;
  }

  get #identity(): PipelineIdentity {
    const { name, source, steps } = this.#plan;
    return { name, source: source.name, stepCount: steps.length };
  }

  /** The checkpoint to go on from, if there is one. */
  async #openStore(): Promise<LoadedCheckpoint | undefined> {
    const { checkpoint } = this.#plan;
    if (checkpoint === undefined) return undefined;
    const { disk, processes } = this.#world;
    const { dir: directory, keep, resume } = checkpoint;
    this.#store = await CheckpointStore.open({ directory, keep, disk, processes });
    if (!resume) {
      await this.#store.clear();
      return undefined;
    }
    const loaded = await this.#store.latest();
    if (loaded !== undefined) {
      checkIdentity(`Checkpoint ${loaded.number} in ${directory}`, loaded.snapshot.pipeline, this.#identity);
    }
    return loaded;
  }

  async #openSinksAt(loaded: LoadedCheckpoint | undefined): Promise<void> {
    const states = [...(loaded?.snapshot.sinks ?? [])];
    const resumes = this.#sinks.map((sink) => {
      const index = states.findIndex(({ name }) => name === sink.name);
      return index < 0 ? undefined : states.splice(index, 1)[0];
    });
    const [missing] = states;
    if (missing !== undefined) {
      throw new TroupeError(
        'CHECKPOINT_INVALID',
        `Checkpoint ${loaded?.number} in ${this.#plan.checkpoint?.dir} has the state of a sink ${missing.name}, which ` +
          'this pipeline has not. Give the pipeline that sink again, or begin anew without resume',
      );
    }
    for (const [index, sink] of this.#sinks.entries()) {
      const resume = resumes[index];
      try {
        await (resume === undefined ? sink.open?.() : sink.open?.({ state: resume.state }));
      } catch (cause) {
        throw sinkFailed(sink.name, cause);
      }
      this.#openSinks.push(sink);
    }
  }

  /** Undefined where there is nothing to read, or the run was interrupted meanwhile. */
  async #openSource(resumed: SourceState | undefined): Promise<SourceReader<unknown> | undefined> {
    const { source } = this.#plan;
    if (resumed !== undefined && resumed.kind === 'neither' && resumed.hasEnded) {
      // It would begin anew. What was under way when it ended is in the checkpoint.
      return { read: () => undefined, close: () => undefined };
    }
    try {
      const opened = resumed?.place === undefined ? source.open() : source.open({ position: resumed.place.position });
      // A FIFO opens when somebody writes to it, which may be never.
      const reader = isThenable(opened) ? await this.#reading.guard(opened) : opened;
      if (reader === INTERRUPTED) {
        void Promise.resolve(opened).then(
          (late) => late.close(),
          () => undefined,
        );
        return undefined;
      }
      if (typeof reader?.read !== 'function' || typeof reader.close !== 'function') {
        throw new TypeError('open() must give a reader with read and close');
      }
      if (resumed !== undefined && resumed.kind !== kindOf(reader)) {
        await reader.close();
        throw new TroupeError(
          'CHECKPOINT_INVALID',
          `Source ${source.name} is ${kindOf(reader)} now and was ${resumed.kind} when the checkpoint in ` +
            `${this.#plan.checkpoint?.dir} was made. Begin anew without resume`,
        );
      }
      return reader;
    } catch (cause) {
      if (isTroupeError(cause) && cause.code === 'CHECKPOINT_INVALID') throw cause;
      throw sourceFailed(source.name, cause);
    }
  }

  /** Undefined where nobody needs to know what became of a record. */
  #track(reader: SourceReader<unknown>, resumed: SourceState | undefined): Tracking | undefined {
    if (this.#store === undefined && reader.acknowledge === undefined) return undefined;
    try {
      return new Tracking(reader, this.#store !== undefined, resumed);
    } catch (cause) {
      throw sourceFailed(this.#plan.source.name, cause);
    }
  }

  #coordinate(tracking: Tracking, reader: SourceReader<unknown>, loaded: LoadedCheckpoint | undefined): void {
    const { checkpoint, source } = this.#plan;
    const storage: Storage | undefined =
      this.#store === undefined || checkpoint === undefined
        ? undefined
        : {
            store: this.#store,
            identity: this.#identity,
            intervalMs: checkpoint.intervalMs,
            onFailure: checkpoint.onFailure,
            trigger: checkpoint.trigger,
            resumedFrom: loaded?.number,
            hadEnded: loaded?.snapshot.source.hasEnded === true,
            putAside: loaded?.putAside ?? [],
          };
    this.#coordinator = new Coordinator({
      clock: this.#world.clock,
      interrupt: this.#interrupt,
      tracking,
      sourceName: source.name,
      reader,
      sinks: this.#sinks,
      held: () => this.#held(tracking),
      storage,
    });
    const delivery = deliveryOf(tracking.kind, reader, this.#sinks, storage);
    if (delivery !== undefined) this.#facts = { ...this.#facts, delivery };
  }

  /** What the steps hold and would do again for nothing: finished results only where the records are saved, too. */
  #held(tracking: Tracking): Snapshot['held'][number][] {
    const withOutcomes = tracking.kind === 'neither';
    const isWorthIt = ({ attempts, leftMs, outcome }: HeldState): boolean =>
      attempts > 0 || (withOutcomes && (leftMs !== undefined || outcome !== undefined));
    return this.#stages.slice(1).map((stage) => (stage.held?.(withOutcomes) ?? []).filter(isWorthIt).map(saveHeld));
  }

  async #drive(last: Stage): Promise<void> {
    const delivery = this.#delivery;
    const coordinator = this.#coordinator;
    if (delivery === undefined) return;
    while (!this.#interrupt.isSet) {
      const pull = last.pull(this.#plan.chunkSize);
      const chunk = await (coordinator === undefined ? pull : coordinator.during(pull));
      if (chunk === undefined) return;
      await delivery.deliver(chunk);
      if (coordinator?.wants === true && !this.#interrupt.isSet) await coordinator.step();
      const now = this.#world.clock.now();
      if (now - this.#progressAt >= this.#plan.progressMs) {
        this.#progressAt = now;
        await this.#tellProgress();
      }
      const turn = this.#turn.give();
      if (turn !== undefined) await turn;
    }
  }

  async #tellProgress(): Promise<void> {
    const { onProgress } = this.#plan;
    if (onProgress === undefined) return;
    const report = this.#report();
    try {
      const told: unknown = onProgress(report);
      if (isThenable(told)) await this.#interrupt.guard(told);
    } catch (cause) {
      throw operatorFailed('onProgress', cause);
    }
  }

  async #acknowledgeAgain(reader: SourceReader<unknown>, outcomes: SourceState['outcomes']): Promise<void> {
    try {
      const told = outcomes.map(({ token, fault }) =>
        fault === undefined ? { token } : { token, error: errorOf(fault) },
      );
      await reader.acknowledge?.(told);
    } catch (cause) {
      throw sourceFailed(this.#plan.source.name, cause);
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

  /** R2. Gives the first failure: a second one while letting go says less than the one that caused it. */
  async #release(failure: unknown): Promise<unknown> {
    let first = failure;
    this.#reading.set();
    this.#interrupt.set();
    this.#noteFacts();
    await this.#coordinator?.close();
    const writingTo = this.#delivery?.writingTo;
    for (const sink of this.#openSinks.splice(0).reverse()) {
      try {
        await (sink === writingTo && sink.abort !== undefined ? sink.abort() : sink.close());
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
    try {
      await this.#store?.close();
    } catch (cause) {
      first ??= cause;
    }
    return first;
  }
}

/** Everything that may go wrong has its own error, made where it is known what went wrong. */
function unexpected(cause: unknown): TroupeError {
  return new TroupeError('INTERNAL', `The run broke off: ${wordsOf(cause)}`, { cause });
}

/** Of a run that was stopped before its source was open. */
const ENDED: Stage = { pull: async () => undefined, close: () => undefined };

function deliveryOf(
  kind: SourceKind,
  reader: SourceReader<unknown>,
  sinks: readonly Sink<never>[],
  storage: Storage | undefined,
): Report['delivery'] {
  if (kind === 'neither') return undefined;
  if (storage === undefined) return kind === 'acknowledging' ? 'at-least-once' : undefined;
  // What was acknowledged after the checkpoint that is left does not come again, and the sinks have gone back behind it.
  if (kind === 'acknowledging' && storage.putAside.length > 0) return undefined;
  // A record that a queue gives again has another number: an idempotent sink knows it only by a name of its own.
  const isKnown = kind === 'replayable' || reader.namesRecords === true;
  const isExact = sinks.every((sink) => (sink.isIdempotent === true ? isKnown : sink.prepare !== undefined));
  return isExact ? 'exactly-once' : 'at-least-once';
}
