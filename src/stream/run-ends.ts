/**
 * The ends of one run: its checkpoints, its sinks and its source. Opens them, and lets go of what it opened. Does not
 * own what flows between them.
 *
 * R1 sinks are opened before anything is read, and after it was decided from which checkpoint the run goes on: a sink
 *    may destroy what is there only when the run begins anew.
 * R2 whatever was opened is closed once, from the sink back to the source, also when opening fails half-way; each
 *    within `closeTimeoutMs`, so that a run has an end.
 */
import type { Clock } from '../kernel/clock.js';
import { TroupeError, isTroupeError } from '../kernel/errors.js';
import type { Disk } from './checkpoint/disk.js';
import { checkIdentity, type PipelineIdentity } from './checkpoint/format.js';
import type { Processes } from './checkpoint/lock.js';
import type { CheckpointPlan } from './checkpoint/options.js';
import { CheckpointStore, type LoadedCheckpoint } from './checkpoint/store.js';
import { sinkFailed } from './delivery.js';
import type { DeadLetter } from './envelope.js';
import { INTERRUPTED, isThenable, type Interrupt } from './interrupt.js';
import type { Sink } from './sink.js';
import type { Source, SourceReader } from './source.js';
import { sourceFailed } from './stage.js';
import { kindOf, type SourceState } from './tracking.js';
import { endWithin } from './within.js';

export interface EndsPlan {
  readonly source: Source<unknown>;
  readonly sink: Sink;
  readonly deadLetters: Sink<DeadLetter> | undefined;
  /** The dead-letter sinks of single steps. */
  readonly stepDeadLetters: readonly Sink<DeadLetter>[];
  readonly checkpoint: CheckpointPlan | undefined;
  readonly closeTimeoutMs: number;
}

/** The world of a run; tests give others. */
export interface RunWorld {
  readonly clock: Clock;
  readonly disk: Disk;
  readonly processes: Processes;
}

export class RunEnds {
  /** All of the run, each once. */
  readonly sinks: readonly Sink<never>[];
  readonly #plan: EndsPlan;
  readonly #world: RunWorld;
  readonly #openSinks: Sink<never>[] = [];
  #store: CheckpointStore | undefined;
  #reader: SourceReader<unknown> | undefined;

  constructor(plan: EndsPlan, world: RunWorld) {
    this.#plan = plan;
    this.#world = world;
    const { sink, stepDeadLetters, deadLetters } = plan;
    this.sinks = [...new Set<Sink<never>>([sink, ...stepDeadLetters, ...(deadLetters ? [deadLetters] : [])])];
  }

  /** Undefined where no checkpoints are made. */
  get store(): CheckpointStore | undefined {
    return this.#store;
  }

  /** Gives the checkpoint to go on from, if there is one. */
  async openStore(identity: PipelineIdentity): Promise<LoadedCheckpoint | undefined> {
    const { checkpoint } = this.#plan;
    if (checkpoint === undefined) return undefined;
    const { dir: directory, keep, resume, timeoutMs } = checkpoint;
    this.#store = await CheckpointStore.open({ directory, keep, timeoutMs, ...this.#world });
    if (!resume) {
      await this.#store.clear();
      return undefined;
    }
    const loaded = await this.#store.latest();
    if (loaded !== undefined) {
      checkIdentity(`Checkpoint ${loaded.number} in ${directory}`, loaded.snapshot.pipeline, identity);
    }
    return loaded;
  }

  /** R1. False when `interrupt` ended it. */
  async openSinks(loaded: LoadedCheckpoint | undefined, interrupt: Interrupt): Promise<boolean> {
    const states = [...(loaded?.snapshot.sinks ?? [])];
    const resumes = this.sinks.map((sink) => {
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
    for (const [index, sink] of this.sinks.entries()) {
      const resume = resumes[index];
      try {
        const giveUp = new AbortController();
        const opening = sink.open?.(resume === undefined ? undefined : { state: resume.state }, giveUp.signal);
        // A FIFO opens when somebody reads from it, which may be never.
        if (isThenable(opening) && (await interrupt.guard(opening)) === INTERRUPTED) {
          giveUp.abort();
          void Promise.resolve(opening)
            .then(() => sink.close())
            .catch(() => undefined);
          return false;
        }
      } catch (cause) {
        throw sinkFailed(sink.name, cause);
      }
      this.#openSinks.push(sink);
    }
    return true;
  }

  /** Undefined where there is nothing to read, or `reading` ended meanwhile. */
  async openSource(resumed: SourceState | undefined, reading: Interrupt): Promise<SourceReader<unknown> | undefined> {
    const { source } = this.#plan;
    if (resumed !== undefined && resumed.kind === 'neither' && resumed.hasEnded) {
      // It would begin anew. What was under way when it ended is in the checkpoint.
      return { read: () => undefined, close: () => undefined };
    }
    try {
      const giveUp = new AbortController();
      const from = resumed?.place === undefined ? undefined : { position: resumed.place.position };
      const opened = source.open(from, giveUp.signal);
      // A FIFO opens when somebody writes to it, which may be never.
      const reader = isThenable(opened) ? await reading.guard(opened) : opened;
      if (reader === INTERRUPTED) {
        giveUp.abort();
        void Promise.resolve(opened)
          .then((late) => late.close())
          .catch(() => undefined);
        return undefined;
      }
      if (typeof reader?.read !== 'function' || typeof reader.close !== 'function') {
        throw new TypeError('open() must give a reader with read and close');
      }
      if (resumed !== undefined && resumed.kind !== kindOf(reader)) {
        await this.#end('close()', () => reader.close()).catch(() => undefined); // What follows says what is wrong.
        throw new TroupeError(
          'CHECKPOINT_INVALID',
          `Source ${source.name} is ${kindOf(reader)} now and was ${resumed.kind} when the checkpoint in ` +
            `${this.#plan.checkpoint?.dir} was made. Begin anew without resume`,
        );
      }
      this.#reader = reader;
      return reader;
    } catch (cause) {
      if (isTroupeError(cause) && cause.code === 'CHECKPOINT_INVALID') throw cause;
      throw sourceFailed(source.name, cause);
    }
  }

  /** Of a run that went well: the first sink that cannot be closed fails it, and is not closed again. */
  async closeSinks(): Promise<void> {
    for (let sink = this.#openSinks.pop(); sink !== undefined; sink = this.#openSinks.pop()) {
      await this.#letGoOf(sink, undefined);
    }
  }

  /**
   * Lets go of every sink that is still open, and rejects then with the first failure. `writingTo` has a write that is
   * open or has failed.
   */
  async releaseSinks(writingTo: Sink<never> | undefined): Promise<void> {
    const failures: unknown[] = [];
    for (const sink of this.#openSinks.splice(0).reverse()) {
      await this.#letGoOf(sink, writingTo).catch((cause: unknown) => failures.push(cause));
    }
    if (failures.length > 0) throw failures[0];
  }

  async releaseSource(): Promise<void> {
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) return;
    try {
      await this.#end('close()', () => reader.close());
    } catch (cause) {
      throw sourceFailed(this.#plan.source.name, cause);
    }
  }

  async #letGoOf(sink: Sink<never>, writingTo: Sink<never> | undefined): Promise<void> {
    try {
      if (sink === writingTo && sink.abort !== undefined) await this.#end('abort()', () => sink.abort?.());
      else await this.#end('close()', () => sink.close());
    } catch (cause) {
      throw sinkFailed(sink.name, cause);
    }
  }

  #end(what: string, end: () => unknown): Promise<void> {
    return endWithin(this.#world.clock, this.#plan.closeTimeoutMs, what, end);
  }
}
