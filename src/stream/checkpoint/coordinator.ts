/**
 * Makes the checkpoints of one run, and acknowledges records to the source. The run's driver calls it between two
 * deliveries and nowhere else, so a cut needs no barrier: everything delivered is in it, nothing else is, and no slow or
 * dead actor can hold it up.
 *
 * One round: cut and `prepare` of the sinks (the driver waits) -> save (records flow on) -> `commit` of the sinks (the
 * driver waits) -> `acknowledge` of the source (records flow on). Without a store the same round without saving.
 *
 * K1 at most one round is under way.
 * K2 no two calls to a sink overlap: the driver makes them, and writes.
 * K3 nothing is committed or acknowledged before it is durable. What could not be acknowledged is told again next time.
 * K4 a request is answered by a round that began after it came.
 * K5 an idle source delays nothing: a timer wakes the driver, which waits here for its pull.
 */
import type { Clock, Timer } from '../../kernel/clock.js';
import { TroupeError, isTroupeError } from '../../kernel/errors.js';
import { isA, wordsOf } from '../foreign.js';
import { INTERRUPTED, type Interrupt } from '../interrupt.js';
import { SinkClosed, type Sink } from '../sink.js';
import { sourceFailed } from '../stage.js';
import { endWithin } from '../within.js';
import type { Acknowledgement, SourceReader } from '../source.js';
import type { Tracking } from '../tracking.js';
import { encodeSnapshot, type PipelineIdentity, type SavedHeld } from './format.js';
import type { CheckpointRequest, CheckpointTrigger } from './options.js';
import { Participants, type Prepared } from './participants.js';
import type { CheckpointStore } from './store.js';

/** Without checkpoints: a sink that has to be made safe first is asked to at most this often; its fsync takes about 2 ms. */
const ACKNOWLEDGE_EVERY_MS = 10;

export interface CheckpointReport {
  /** Made durable in this run. */
  readonly written: number;
  readonly failed: number;
  readonly lastError?: { readonly code: string; readonly message: string };
  /** Number of the checkpoint that the run went on from; absent where it began anew. */
  readonly resumedFrom?: number;
  /** The run that made that checkpoint had come to the end of its source. */
  readonly hadEnded: boolean;
  /** Damaged files of newer checkpoints, by the names they were given. */
  readonly putAside: readonly string[];
}

export interface Storage {
  readonly store: CheckpointStore;
  readonly identity: PipelineIdentity;
  readonly intervalMs: number;
  readonly onFailure: 'stop' | 'continue';
  readonly trigger: CheckpointTrigger | undefined;
  readonly resumedFrom: number | undefined;
  readonly hadEnded: boolean;
  readonly putAside: readonly string[];
}

export interface CoordinatorOptions {
  readonly clock: Clock;
  readonly interrupt: Interrupt;
  readonly tracking: Tracking;
  readonly sourceName: string;
  readonly reader: SourceReader<unknown>;
  readonly sinks: readonly Sink<never>[];
  /** What the steps hold, encoded in the moment of the call. */
  readonly held: () => (readonly SavedHeld[])[];
  /** Undefined: only acknowledgements. */
  readonly storage: Storage | undefined;
}

interface Round {
  readonly outcomes: readonly Acknowledgement[];
  readonly prepared: Prepared;
  readonly requests: readonly CheckpointRequest[];
  readonly version: number;
  readonly held: string;
}

type Phase =
  | { readonly kind: 'idle' }
  | { readonly kind: 'saving' | 'acknowledging' }
  | { readonly kind: 'saved'; readonly round: Round; readonly number: number };

const IDLE: Phase = { kind: 'idle' };
const WOKEN = Symbol('woken');

export class Coordinator {
  readonly #options: CoordinatorOptions;
  readonly #participants: Participants;
  #phase: Phase = IDLE;
  /** Saving or acknowledging; never rejects. */
  #work: Promise<void> = Promise.resolve();
  #requests: CheckpointRequest[] = [];
  #timer: Timer | undefined;
  #isDue = false;
  /** The driver has something to do here before it delivers more. */
  #wants = false;
  #wake: (() => void) | undefined;
  #failure: Error | undefined;
  /** What the last durable checkpoint shows: of the tracking, and of the steps as JSON. */
  #savedVersion: number | undefined;
  #savedHeld = '';
  #savedNumber = 0;
  #acknowledgeAt = 0;
  #written = 0;
  #failedCount = 0;
  #lastError: TroupeError | undefined;

  constructor(options: CoordinatorOptions) {
    this.#options = options;
    const { storage, tracking } = options;
    this.#participants = new Participants({ ...options, hasStore: storage !== undefined });
    if (storage === undefined) {
      tracking.onOutcome = () => this.#acknowledgeSoon();
      return;
    }
    if (storage.resumedFrom !== undefined) {
      this.#savedVersion = tracking.version;
      this.#savedNumber = storage.resumedFrom;
    }
    storage.trigger?.attach((request) => {
      this.#requests.push(request);
      this.#due();
    });
  }

  /** True: the driver calls `step` before it delivers more. */
  get wants(): boolean {
    return this.#wants;
  }

  get report(): CheckpointReport | undefined {
    const { storage } = this.#options;
    if (storage === undefined) return undefined;
    const { resumedFrom, hadEnded, putAside } = storage;
    const error = this.#lastError;
    return {
      written: this.#written,
      failed: this.#failedCount,
      ...(error === undefined ? {} : { lastError: { code: error.code, message: error.message } }),
      ...(resumedFrom === undefined ? {} : { resumedFrom }),
      hadEnded,
      putAside,
    };
  }

  /** The first checkpoint, before anything is delivered: from then on a crash can be undone in every sink. */
  async begin(): Promise<void> {
    if (this.#options.storage === undefined) return;
    if (this.#savedVersion === undefined) await this.#round();
    this.#arm();
  }

  /** The outcome of `pull`; rounds that become due meanwhile are made meanwhile (K5). */
  async during<T>(pull: Promise<T>): Promise<T> {
    for (;;) {
      if (this.#wants) await this.step();
      const result = await new Promise<T | typeof WOKEN>((resolve, reject) => {
        this.#wake = () => resolve(WOKEN);
        pull.then(resolve, reject);
      });
      this.#wake = undefined;
      if (result !== WOKEN) return result;
    }
  }

  /** Between two deliveries. Rejects when a round failed and that ends the run. */
  async step(): Promise<void> {
    this.#wants = false;
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#phase.kind === 'saved') await this.#commit(this.#phase.round, this.#phase.number);
    if (this.#phase.kind === 'idle' && this.#isDue) await this.#cut();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Everything is delivered: the last round. */
  async finish(): Promise<void> {
    await this.#quiet();
    const { storage, tracking } = this.#options;
    const isNew = storage === undefined ? tracking.settledCount > 0 : this.#savedVersion !== tracking.version;
    if (isNew || this.#requests.length > 0) await this.#round();
    this.#throwFailure();
  }

  /**
   * However the run ended. What is being written is waited for, as long as the disk may take; an acknowledgement for
   * `timeoutMs`: rejects when it takes longer.
   */
  async close(timeoutMs: number): Promise<void> {
    const { clock, storage, sourceName } = this.#options;
    this.#timer?.cancel();
    storage?.trigger?.detach();
    try {
      if (this.#phase.kind !== 'acknowledging') await this.#work;
      else await endWithin(clock, timeoutMs, 'acknowledge()', () => this.#work);
    } catch (cause) {
      throw sourceFailed(sourceName, cause);
    } finally {
      this.#rejectRequests();
    }
  }

  #rejectRequests(): void {
    const error = new TroupeError('CHECKPOINT_FAILED', 'The run ended before the checkpoint was made');
    for (const request of this.#requests.splice(0)) request.reject(error);
    if (this.#phase.kind === 'saved') for (const { reject } of this.#phase.round.requests) reject(error);
  }

  /** A round from its beginning to its end. */
  async #round(): Promise<void> {
    this.#isDue = true;
    await this.step();
    await this.#quiet();
  }

  async #quiet(): Promise<void> {
    const { interrupt } = this.#options;
    while (this.#phase.kind !== 'idle' && !interrupt.isSet) {
      await interrupt.guard(this.#work);
      if (this.#phase.kind === 'saved') await this.step();
    }
    this.#throwFailure();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #due(): void {
    this.#isDue = true;
    if (this.#phase.kind === 'idle') this.#attention();
  }

  #attention(): void {
    this.#wants = true;
    this.#wake?.();
  }

  #arm(): void {
    const { clock, storage } = this.#options;
    if (storage === undefined) return;
    this.#timer?.cancel();
    this.#timer = clock.at(clock.now() + storage.intervalMs, () => this.#due());
  }

  /** Without a store: at once, or as soon as the sinks may be asked again. */
  #acknowledgeSoon(): void {
    const { clock } = this.#options;
    if (this.#participants.areAlwaysSafe || clock.now() >= this.#acknowledgeAt) this.#due();
    else this.#timer ??= clock.at(this.#acknowledgeAt, () => this.#due());
  }

  async #cut(): Promise<void> {
    const { clock, tracking, storage } = this.#options;
    this.#isDue = false;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#acknowledgeAt = clock.now() + ACKNOWLEDGE_EVERY_MS;
    const { version } = tracking;
    const requests = this.#requests.splice(0); // K4
    let outcomes: readonly Acknowledgement[] = [];
    try {
      const steps = storage === undefined ? [] : this.#options.held();
      const held = JSON.stringify(steps);
      if (storage !== undefined && version === this.#savedVersion && held === this.#savedHeld) {
        for (const { resolve } of requests) resolve(this.#savedNumber);
        this.#arm();
        return;
      }
      const cut = tracking.cut();
      outcomes = cut.outcomes;
      const prepared = await this.#participants.prepare();
      if (prepared === INTERRUPTED) {
        tracking.giveBack(outcomes);
        this.#requests.unshift(...requests);
        return;
      }
      const round = { outcomes, prepared, requests, version, held };
      if (storage === undefined) {
        this.#phase = { kind: 'saved', round, number: 0 };
        await this.#commit(round, 0);
        return;
      }
      const data = encodeSnapshot({
        pipeline: storage.identity,
        source: cut.state,
        held: steps,
        sinks: this.#participants.statesOf(prepared),
      });
      const at = new Date(clock.wallNow()).toISOString();
      this.#phase = { kind: 'saving' };
      this.#work = this.#save(storage.store, data, at, round);
    } catch (cause) {
      this.#failed({ outcomes, requests }, cause);
    }
  }

  async #save(store: CheckpointStore, data: Uint8Array, at: string, round: Round): Promise<void> {
    try {
      const number = await store.save(data, at);
      this.#savedVersion = round.version;
      this.#savedHeld = round.held;
      this.#savedNumber = number;
      this.#phase = { kind: 'saved', round, number };
      this.#attention();
    } catch (cause) {
      this.#failed(round, cause);
    }
  }

  async #commit(round: Round, number: number): Promise<void> {
    try {
      if ((await this.#participants.commit(round.prepared)) === INTERRUPTED) return;
    } catch (cause) {
      this.#failed(round, cause);
      return;
    }
    this.#phase = { kind: 'acknowledging' };
    this.#work = this.#acknowledge(round, number);
  }

  async #acknowledge(round: Round, number: number): Promise<void> {
    const { storage, tracking } = this.#options;
    try {
      await this.#participants.acknowledge(round.outcomes);
    } catch (cause) {
      this.#failed(round, cause);
      return;
    }
    tracking.acknowledged(round.outcomes);
    this.#phase = IDLE;
    if (storage === undefined) {
      if (tracking.settledCount > 0) this.#acknowledgeSoon();
      return;
    }
    this.#written += 1;
    for (const { resolve } of round.requests) resolve(number);
    this.#next();
  }

  /** K3. */
  #failed(round: Pick<Round, 'outcomes' | 'requests'>, cause: unknown): void {
    const { storage, tracking } = this.#options;
    tracking.giveBack(round.outcomes);
    this.#phase = IDLE;
    if (storage === undefined || isA(cause, SinkClosed)) {
      this.#failure = cause instanceof Error ? cause : new Error(String(cause));
      this.#attention();
      return;
    }
    const error =
      isTroupeError(cause) && cause.code === 'CHECKPOINT_FAILED'
        ? cause
        : new TroupeError('CHECKPOINT_FAILED', `A checkpoint could not be made: ${wordsOf(cause)}`, { cause });
    this.#failedCount += 1;
    this.#lastError = error;
    // The next round must not take this one's state for saved.
    this.#savedVersion = undefined;
    for (const { reject } of round.requests) reject(error);
    if (storage.onFailure === 'stop') {
      this.#failure = error;
      this.#attention();
    } else this.#next();
  }

  /** A request that came meanwhile begins a round at once; otherwise the next one is due after the interval. */
  #next(): void {
    this.#arm();
    if (this.#isDue || this.#requests.length > 0) this.#due();
  }
}
