/**
 * The rounds of checkpoints and acknowledgements of one run, without promises: the rules of
 * stream/checkpoint/coordinator.ts (K1-K5 there), over calls that take time and fail. What a cut shows is the real
 * `Tracking`.
 */
import type { Acknowledgement } from '../../stream/source.js';
import type { SourceState, Tracking } from '../../stream/tracking.js';
import { STREAM_FAULT } from './faults.js';
import type { SimJob } from './sim-job.js';
import type { SavedHeld } from './sim-infer.js';
import type { SinkStateOfSim } from './sim-sink.js';
import type { SimStore } from './sim-store.js';
import { STREAM_EVENT, type StreamWorld } from './world.js';

/** As the coordinator has it: how often sinks are asked to make safe what is to be acknowledged. */
const ACKNOWLEDGE_EVERY_MS = 10;

/** What stands in a checkpoint. */
export interface SimSnapshot {
  readonly source: SourceState;
  readonly held: readonly (readonly SavedHeld[])[];
  readonly sinks: readonly (SinkStateOfSim | undefined)[];
}

interface Round {
  readonly outcomes: readonly Acknowledgement[];
  readonly version: number;
  readonly startedAt: number;
  states: (SinkStateOfSim | undefined)[];
}

export class SimCoordinator {
  wants = false;
  /** Made durable and committed in this run. */
  roundCount = 0;
  failedCount = 0;
  longestRoundMs = 0;
  readonly #world: StreamWorld;
  readonly #job: SimJob;
  readonly #tracking: Tracking;
  readonly #store: SimStore | undefined;
  #phase: 'idle' | 'preparing' | 'saving' | 'saved' | 'committing' | 'acknowledging' = 'idle';
  #mode: 'beginning' | 'running' | 'finishing' = 'beginning';
  #isDue = false;
  #isLastRoundDone = false;
  #dueNumber = 0;
  #savedVersion: number | undefined;
  #saved: Round | undefined;
  #acknowledgeAt = 0;
  #hasTimer = false;
  #hasFailed = false;

  constructor(world: StreamWorld, job: SimJob, tracking: Tracking, store: SimStore | undefined, hasResumed: boolean) {
    this.#world = world;
    this.#job = job;
    this.#tracking = tracking;
    this.#store = store;
    if (hasResumed) this.#savedVersion = tracking.version;
    if (store === undefined) tracking.onOutcome = () => this.#acknowledgeSoon();
  }

  begin(): void {
    if (this.#store === undefined || this.#savedVersion !== undefined) {
      this.#run();
      return;
    }
    this.#isDue = true;
    this.#attention();
  }

  get isBeginning(): boolean {
    return this.#mode === 'beginning';
  }

  /** What the last durable checkpoint shows is all that there is. */
  get isAllSaved(): boolean {
    return this.#store === undefined || this.#savedVersion === this.#tracking.version;
  }

  /** Between two deliveries. */
  step(): void {
    this.wants = false;
    if (this.#hasFailed) this.#job.fail('checkpoint');
    else if (this.#phase === 'saved') this.#commit(this.#saved as Round);
    else if (this.#phase === 'idle' && this.#isDue) this.#cut();
    else this.#advance();
  }

  finish(): void {
    this.#mode = 'finishing';
    this.#advance();
  }

  due(number: number): void {
    if (number !== this.#dueNumber) {
      this.#world.eventCount--;
      return;
    }
    this.#hasTimer = false;
    this.#due();
  }

  request(): void {
    this.#due();
  }

  #run(): void {
    this.#mode = 'running';
    this.#arm();
  }

  #due(): void {
    this.#isDue = true;
    if (this.#phase === 'idle') this.#attention();
  }

  #attention(): void {
    this.wants = true;
  }

  #arm(): void {
    if (this.#store === undefined) return;
    this.#timer(this.#world.now + this.#world.scenario.intervalMs);
  }

  #timer(at: number): void {
    this.#hasTimer = true;
    this.#world.at(at, STREAM_EVENT.due, ++this.#dueNumber, this.#job);
  }

  #acknowledgeSoon(): void {
    const isFree = this.#job.sinks.every((sink) => !sink.isTwoPhase);
    if (isFree || this.#world.now >= this.#acknowledgeAt) this.#due();
    else if (!this.#hasTimer) this.#timer(this.#acknowledgeAt);
  }

  /** Nothing is under way. */
  #advance(): void {
    if (this.#phase !== 'idle') return;
    if (this.#mode === 'beginning') {
      if (this.#hasFailed) this.#attention();
      else this.#run();
    } else if (this.#mode === 'finishing') {
      if (this.#hasFailed) {
        this.#attention();
        return;
      }
      const { settledCount, version } = this.#tracking;
      const isNew = this.#store === undefined ? settledCount > 0 : this.#savedVersion !== version;
      if (this.#isLastRoundDone || !isNew) {
        this.#job.closeSinks();
        return;
      }
      this.#isLastRoundDone = true;
      this.#isDue = true;
      this.#attention();
    }
  }

  #cut(): void {
    const world = this.#world;
    const tracking = this.#tracking;
    this.#isDue = false;
    this.#hasTimer = false;
    this.#dueNumber++;
    this.#acknowledgeAt = world.now + ACKNOWLEDGE_EVERY_MS;
    const { version } = tracking;
    if (this.#store !== undefined && version === this.#savedVersion) {
      this.#arm();
      this.#advance();
      return;
    }
    const { state, outcomes } = tracking.cut();
    const held = this.#store === undefined ? [] : this.#job.held(tracking);
    const cursor = this.#job.sourceCursor;
    const round: Round = { outcomes, version, states: [], startedAt: world.now };
    this.#phase = 'preparing';
    this.#job.isHeldBack = true;
    this.#job.call(
      world.scenario.prepareMs,
      STREAM_FAULT['prepare-fail'],
      () => {
        round.states = this.#job.sinks.map((sink) => sink.prepare());
      },
      (isDone) => {
        if (!isDone) this.#failed(round);
        else if (this.#store === undefined) this.#commit(round);
        else {
          const snapshot: SimSnapshot = { source: state, held, sinks: round.states };
          this.#save(this.#store, round, snapshot, cursor);
        }
      },
    );
  }

  #save(store: SimStore, round: Round, snapshot: SimSnapshot, cursor: number): void {
    const { world } = this.#job;
    this.#phase = 'saving';
    this.#job.isHeldBack = false;
    if (world.log !== undefined) world.say(`saves ${JSON.stringify(snapshot)}`);
    let ms = world.scenario.saveMs;
    if (world.strikes(STREAM_FAULT['save-slow'])) ms = 10 * ms + 5;
    this.#job.call(
      ms,
      STREAM_FAULT['save-fail'],
      () => void store.save(snapshot, cursor),
      (isDone) => {
        if (!isDone) {
          this.#failed(round);
          return;
        }
        this.#savedVersion = round.version;
        this.#phase = 'saved';
        this.#saved = round;
        this.#attention();
      },
    );
  }

  #commit(round: Round): void {
    this.#phase = 'committing';
    this.#job.isHeldBack = true;
    const { sinks } = this.#job;
    this.#job.call(
      this.#world.scenario.commitMs,
      STREAM_FAULT['commit-fail'],
      () => {
        for (let i = 0; i < sinks.length; i++) {
          const state = round.states[i];
          if (state !== undefined) sinks[i]?.commit(state);
        }
      },
      (isDone) => {
        if (isDone) this.#acknowledge(round);
        else this.#failed(round);
      },
    );
  }

  #acknowledge(round: Round): void {
    this.#phase = 'acknowledging';
    this.#job.isHeldBack = false;
    if (round.outcomes.length === 0) {
      this.#ended(round);
      return;
    }
    this.#job.call(
      this.#world.scenario.acknowledgeMs,
      STREAM_FAULT['acknowledge-fail'],
      () => this.#job.source.acknowledge(round.outcomes),
      (isDone) => {
        if (isDone) this.#ended(round);
        else this.#failed(round);
      },
    );
  }

  #ended(round: Round): void {
    this.#tracking.acknowledged(round.outcomes);
    this.#phase = 'idle';
    this.roundCount++;
    this.longestRoundMs = Math.max(this.longestRoundMs, this.#world.now - round.startedAt);
    if (this.#store === undefined) {
      if (this.#tracking.settledCount > 0) this.#acknowledgeSoon();
    } else this.#next();
    this.#advance();
  }

  #failed(round: Round): void {
    this.#tracking.giveBack(round.outcomes);
    this.#phase = 'idle';
    this.#job.isHeldBack = false;
    this.failedCount++;
    if (this.#store !== undefined) this.#savedVersion = undefined;
    if (this.#store === undefined || this.#world.scenario.onFailure === 'stop') {
      this.#hasFailed = true;
      this.#attention();
      return;
    }
    this.#next();
    this.#advance();
  }

  #next(): void {
    this.#arm();
    if (this.#isDue) this.#due();
  }
}
