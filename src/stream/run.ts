/**
 * One run of a pipeline: drives the last stage from beginning to end, and gives the report. Opening and letting go of
 * the ends: run-ends.ts.
 *
 * R3 the run gives way to the event loop every few milliseconds, so timers and signals get through a pipeline that is
 *    synchronous from end to end, also where nothing comes out of it.
 * R4 `stop` ends the reading and nothing else; `signal` ends every wait.
 */
import { systemClock } from '../kernel/clock.js';
import { TroupeError, isTroupeError } from '../kernel/errors.js';
import type { Exposition } from '../telemetry/exposition.js';
import type { MetricsRegistry, RunCounts } from '../telemetry/registry.js';
import { Coordinator, type Storage } from './checkpoint/coordinator.js';
import { realDisk } from './checkpoint/disk.js';
import { loadHeld, saveHeld, type PipelineIdentity, type Snapshot } from './checkpoint/format.js';
import { errorOf } from './checkpoint/items.js';
import { realProcesses } from './checkpoint/lock.js';
import type { LoadedCheckpoint } from './checkpoint/store.js';
import { Delivery } from './delivery.js';
import { operatorFailed } from './envelope.js';
import { FairTurn } from './fair-turn.js';
import { isA, wordsOf } from './foreign.js';
import { deliveryOf } from './guarantee.js';
import { Interrupt, isThenable } from './interrupt.js';
import { Counts, StreamError, type Report, type RunFacts } from './report.js';
import { RunEnds, type EndsPlan, type RunWorld } from './run-ends.js';
import { collectRun, type StepMeters } from './run-metrics.js';
import { SinkClosed } from './sink.js';
import type { SourceReader } from './source.js';
import { SourceStage, sourceFailed, type HeldState, type RunContext, type Stage } from './stage.js';
import { Tracking, resumedState, type SourceState } from './tracking.js';
import { endWithin } from './within.js';

/** Adds one operator to the stages built so far. */
export type StageBuilder = (upstream: Stage, run: RunContext, index: number) => Stage | Promise<Stage>;

export interface RunPlan extends EndsPlan {
  readonly name: string;
  readonly chunkSize: number;
  readonly steps: readonly StageBuilder[];
  /** Those of the pools it uses: who looks at them sees what the run counts. */
  readonly registries: readonly MetricsRegistry[];
  readonly onFailed: ((record: unknown, error: TroupeError) => unknown) | undefined;
  readonly onProgress: ((report: Report) => unknown) | undefined;
  readonly progressMs: number;
  readonly signal: AbortSignal | undefined;
  readonly stop: AbortSignal | undefined;
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
  readonly #ends: RunEnds;
  #coordinator: Coordinator | undefined;
  #delivery: Delivery | undefined;
  /** What the source shows itself to be worth is known better with every record. */
  #delivers: () => Report['delivery'] = () => undefined;
  #facts: RunFacts = { cancelled: false, metrics: [] };
  #steps: readonly StepMeters[] = [];
  #isRunning = true;
  readonly #turn: FairTurn;
  #progressAt: number;

  constructor(plan: RunPlan, world: RunWorld) {
    this.#plan = plan;
    this.#world = world;
    this.#ends = new RunEnds(plan, world);
    const now = world.clock.now();
    this.#counts = new Counts(now);
    this.#turn = new FairTurn(world.clock);
    this.#progressAt = now;
  }

  async run(): Promise<Report> {
    const { signal, stop, registries } = this.#plan;
    const collect = (into: Exposition): void => this.#collect(into);
    const runCounts = (): RunCounts => this.#runCounts();
    const leave = registries.map((registry) => registry.add({ collect, run: runCounts }));
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
      if (this.#delivery?.writingTo === undefined) await this.#ends.closeSinks();
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
    this.#isRunning = false;
    for (const end of leave) end();
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
    const delivery = this.#delivers();
    if (delivery !== undefined) this.#facts = { ...this.#facts, delivery };
    const checkpoints = this.#coordinator?.report;
    if (checkpoints !== undefined) this.#facts = { ...this.#facts, checkpoints };
    const steps = this.#stages.flatMap((stage) => stage.meters?.() ?? []);
    if (steps.length === 0) return;
    this.#steps = steps;
    this.#facts = { ...this.#facts, metrics: steps.map(({ metrics }) => metrics) };
  }

  #collect(into: Exposition): void {
    const { held, latency } = this.#counts;
    const report = this.#report();
    collectRun(into, {
      name: this.#plan.name,
      report,
      held,
      isRunning: this.#isRunning,
      latencyMs: latency,
      steps: this.#steps,
    });
  }

  #runCounts(): RunCounts {
    const { results, failed, deadLetters, held } = this.#counts;
    return { name: this.#plan.name, records: results + failed + deadLetters, results, failed, deadLetters, held };
  }

  async #open(): Promise<Stage> {
    const { name, source, steps, chunkSize } = this.#plan;
    const loaded = await this.#ends.openStore(this.#identity);
    if (!(await this.#ends.openSinks(loaded, this.#interrupt))) return ENDED;
    const resumed = loaded === undefined ? undefined : resumedState(loaded.snapshot.source);
    const reader = await this.#ends.openSource(resumed, this.#reading);
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

  /** Undefined where nobody needs to know what became of a record. */
  #track(reader: SourceReader<unknown>, resumed: SourceState | undefined): Tracking | undefined {
    const hasStore = this.#ends.store !== undefined;
    if (!hasStore && reader.acknowledge === undefined) return undefined;
    try {
      return new Tracking(reader, hasStore, resumed);
    } catch (cause) {
      throw sourceFailed(this.#plan.source.name, cause);
    }
  }

  #coordinate(tracking: Tracking, reader: SourceReader<unknown>, loaded: LoadedCheckpoint | undefined): void {
    const { checkpoint, source } = this.#plan;
    const { store, sinks } = this.#ends;
    const storage: Storage | undefined =
      store === undefined || checkpoint === undefined
        ? undefined
        : {
            store,
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
      sinks,
      held: () => this.#held(tracking),
      storage,
    });
    const putAside = storage?.putAside;
    this.#delivers = () =>
      deliveryOf({ kind: tracking.kind, isAmbiguous: tracking.isAmbiguous, reader, sinks, putAside });
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
      await this.#interrupt.guard(Promise.resolve(reader.acknowledge?.(told)));
    } catch (cause) {
      throw sourceFailed(this.#plan.source.name, cause);
    }
  }

  /** R2. Gives the first failure: a second one while letting go says less than the one that caused it. */
  async #release(failure: unknown): Promise<unknown> {
    let first = failure;
    const attempt = async (end: () => unknown, asFailure: (cause: unknown) => unknown): Promise<void> => {
      try {
        await end();
      } catch (cause) {
        first ??= asFailure(cause);
      }
    };
    const { closeTimeoutMs } = this.#plan;
    const { clock } = this.#world;
    const asIs = (cause: unknown): unknown => cause;
    this.#reading.set();
    this.#interrupt.set();
    this.#noteFacts();
    await attempt(() => this.#coordinator?.close(closeTimeoutMs), asIs);
    await attempt(() => this.#ends.releaseSinks(this.#delivery?.writingTo), asIs);
    for (const [index, stage] of [...this.#stages.splice(0).entries()].reverse()) {
      await attempt(
        () => endWithin(clock, closeTimeoutMs, 'close()', () => stage.close()),
        (cause) => operatorFailed(`step ${index - 1}`, cause),
      );
    }
    await attempt(() => this.#ends.releaseSource(), asIs);
    await attempt(() => this.#ends.store?.close(), asIs);
    return first;
  }
}

/** Everything that may go wrong has its own error, made where it is known what went wrong. */
function unexpected(cause: unknown): TroupeError {
  return new TroupeError('INTERNAL', `The run broke off: ${wordsOf(cause)}`, { cause });
}

/** Of a run that was stopped before its source was open. */
const ENDED: Stage = { pull: async () => undefined, close: () => undefined };
