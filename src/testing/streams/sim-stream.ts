/**
 * The whole of a simulated stream: what stands outside the process, one run after the other, planned ends and
 * disturbances, and the final reckoning.
 */
import { forkRandom } from '../seeds.js';
import { STREAM_FAULT } from './faults.js';
import { Ledger, promiseOf } from './ledger.js';
import type { StreamShape } from './scenario.js';
import type { SimCoordinator } from './sim-coordinator.js';
import { type Outside, SimCall, SimJob } from './sim-job.js';
import type { CoreEvent } from './sim-core-pool.js';
import type { SimInfer } from './sim-infer.js';
import { SimSink } from './sim-sink.js';
import { SimSource } from './sim-source.js';
import { SimStore } from './sim-store.js';
import { type SimTarget, targetOf, type Told } from './sim-target.js';
import { UserFunctions } from './values.js';
import { STREAM_EVENT, type StreamActor, type StreamWorld } from './world.js';

/** Seen over all runs of a stream; rows of the scorecard read it. */
export interface StreamTotals {
  runs: number;
  kills: number;
  resumed: number;
  checkpoints: number;
  failedRounds: number;
  longestRoundMs: number;
  largestBytes: number;
  firstTries: number;
  retries: number;
  opened: number;
  probes: number;
  expired: number;
  full: number;
  /** Records that went on with the tries of an earlier run. */
  goneOn: number;
  finishedAt: number;
}

export class SimStream implements StreamActor {
  readonly totals: StreamTotals = {
    runs: 0,
    kills: 0,
    resumed: 0,
    checkpoints: 0,
    failedRounds: 0,
    longestRoundMs: 0,
    largestBytes: 0,
    firstTries: 0,
    retries: 0,
    opened: 0,
    probes: 0,
    expired: 0,
    full: 0,
    goneOn: 0,
    finishedAt: 0,
  };
  readonly main: SimSink;
  readonly letters: SimSink;
  readonly #world: StreamWorld;
  readonly #source: SimSource;
  readonly #store: SimStore | undefined;
  readonly #outside: Outside;
  readonly #functions: UserFunctions;
  /** Read by a run that ended before a checkpoint saw it, of a source that cannot give it again. */
  readonly #excused: (readonly [from: number, end: number])[] = [];
  #job: SimJob | undefined;
  /** Events until the run is killed; -1: it is not to be. */
  #killIn = -1;
  #isDone = false;

  constructor(world: StreamWorld) {
    this.#world = world;
    const { scenario } = world;
    this.#functions = new UserFunctions(scenario);
    this.main = new SimSink(world, 'main');
    this.letters = new SimSink(world, 'letters');
    this.#source = new SimSource(scenario, this.#functions);
    this.#store = scenario.hasCheckpoints ? new SimStore(world) : undefined;
    this.#outside = {
      source: this.#source,
      main: this.main,
      letters: this.letters,
      store: this.#store,
      functions: this.#functions,
      random: forkRandom(scenario.seed, 14),
      resumed: (cursor) => this.#resumed(cursor),
      over: (job, how) => this.#over(job, how),
    };
    world.at(0, STREAM_EVENT.start, 0, undefined);
    world.at(scenario.safetyMs, STREAM_EVENT.liveness, 0, undefined);
    for (let i = 0; i < scenario.ends; i++) this.#plan(STREAM_EVENT.end);
    for (let i = 0; i < scenario.disturbances; i++) this.#plan(STREAM_EVENT.disturb);
    for (let i = 0; i < scenario.requests; i++) this.#plan(STREAM_EVENT.request);
  }

  #plan(kind: number): void {
    this.#world.after(this.#world.chance.next() * this.#world.scenario.safetyMs, kind, 0, undefined);
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  handle(kind: number, a: number, ref: unknown): void {
    if (this.#isDone) {
      this.#world.eventCount--;
      return;
    }
    if (this.#killIn >= 0 && this.#killIn-- === 0) this.#kill();
    this.#handle(kind, a, ref);
    const job = this.#job;
    if (job !== undefined && !job.isOver) job.turn();
  }

  #handle(kind: number, a: number, ref: unknown): void {
    switch (kind) {
      case STREAM_EVENT.start:
        this.#start();
        break;
      case STREAM_EVENT.done:
        (ref as SimCall).job.answered(ref as SimCall);
        break;
      case STREAM_EVENT.answer:
        if (!targetOf(ref).isClosed) targetOf(ref).answered(ref, a);
        break;
      case STREAM_EVENT.expire: {
        const { target, slot } = ref as Told;
        if (!target.isClosed) target.expired(slot, a);
        break;
      }
      case STREAM_EVENT.drop: {
        const { target, slot } = ref as Told;
        if (!target.isClosed) target.dropped(slot, a);
        break;
      }
      case STREAM_EVENT.pool:
        if (!(ref as CoreEvent).pool.isClosed) (ref as CoreEvent).happen();
        else this.#world.eventCount--;
        break;
      case STREAM_EVENT.replica:
        if (!(ref as SimTarget).isClosed) (ref as SimTarget).replicaBack();
        break;
      case STREAM_EVENT.delay:
        if (!(ref as SimTarget).isClosed) (ref as SimTarget).delayed();
        break;
      case STREAM_EVENT.wake:
        if (!(ref as SimInfer).isClosed) (ref as SimInfer).wake();
        break;
      case STREAM_EVENT.idle:
        if (!(ref as SimInfer).isClosed) (ref as SimInfer).idle(a);
        break;
      case STREAM_EVENT.due:
        if (!(ref as SimJob).isOver) (ref as SimJob).coordinator?.due(a);
        break;
      case STREAM_EVENT.request:
        if (this.#job?.isOver === false) this.#job.coordinator?.request();
        break;
      case STREAM_EVENT.end:
        this.#plannedEnd();
        break;
      case STREAM_EVENT.disturb:
        this.#disturb();
        break;
      default:
        this.#world.isSafe = false;
    }
  }

  #start(): void {
    const { shapes } = this.#world.scenario;
    const run = this.totals.runs++;
    const job = new SimJob(this.#world, this.#outside, run, shapes[Math.min(run, shapes.length - 1)] as StreamShape);
    this.#job = job;
    job.begin();
  }

  #plannedEnd(): void {
    const world = this.#world;
    if (this.#job === undefined || this.#job.isOver) return;
    if (world.strikes(STREAM_FAULT.kill)) this.#killIn = Math.floor(world.chance.next() * 12);
    else if (world.strikes(STREAM_FAULT.stop)) this.#job.stop();
  }

  #kill(): void {
    const job = this.#job;
    if (job === undefined || job.isOver) return;
    this.totals.kills++;
    job.kill();
    this.#count(job);
    this.#again();
  }

  #disturb(): void {
    const world = this.#world;
    if (world.strikes(STREAM_FAULT['wall-jump'])) world.wallOffsetMs += (world.chance.next() - 0.5) * 7_200_000;
    if (world.strikes(STREAM_FAULT.stall)) world.stall(world.chance.next() * 20 * world.scenario.costMs);
  }

  #over(job: SimJob, how: 'done' | 'failed'): void {
    this.#count(job);
    if (how === 'done' && job.isComplete) {
      this.#isDone = true;
      this.totals.finishedAt = this.#world.now;
    } else this.#again();
  }

  #again(): void {
    // Never at once: a run that fails as it begins would begin for ever at the same instant.
    this.#world.after(this.#world.scenario.restartMs + 0.5, STREAM_EVENT.start, 0, undefined);
  }

  #resumed(cursor: number | undefined): void {
    if (cursor !== undefined) this.totals.resumed++;
    const { source, hasCheckpoints } = this.#world.scenario;
    if (source !== 'neither' || !hasCheckpoints) return;
    const from = cursor ?? 0;
    if (from < this.#source.cursor) this.#excused.push([from, this.#source.cursor]);
  }

  #count(job: SimJob): void {
    const { totals } = this;
    for (const { oracle } of job.infers) {
      totals.firstTries += oracle.firstTryCount;
      totals.retries += oracle.retryCount;
      totals.opened += oracle.openedCount;
      totals.probes += oracle.probeCount;
      totals.expired += oracle.expiredCount;
      totals.full += oracle.fullCount;
      totals.goneOn += oracle.resumedCount;
    }
    const coordinator: SimCoordinator | undefined = job.coordinator;
    if (coordinator === undefined) return;
    totals.checkpoints += coordinator.roundCount;
    totals.failedRounds += coordinator.failedCount;
    totals.longestRoundMs = Math.max(totals.longestRoundMs, coordinator.longestRoundMs);
  }

  /** After the last event. */
  finished(): void {
    const world = this.#world;
    const { scenario } = world;
    if (!this.#isDone) world.violate('progress', 'nothing is left to happen, and the stream has not come to its end');
    this.totals.largestBytes = this.#store?.largestBytes ?? 0;
    const promise = promiseOf(scenario, this.#store?.putAsideCount ?? 0);
    const ledger = new Ledger(world, this.#functions, this.main, this.letters);
    ledger.check(this.#source, promise, (n) => this.#excused.some(([from, end]) => n >= from && n < end));
    const goesBack = scenario.sink === 'file' || scenario.sink === 'staged';
    if (promise === 'exact' && goesBack && scenario.source !== 'acknowledging')
      ledger.checkOrder(this.main, this.letters);
  }
}
