/**
 * The edge of an infer step: the meeting point of a pipeline and a pool. It pulls, calls the user's functions, offers to
 * the pool, keeps the timer, and hands on; what is decided stands in core/operator.ts. Batching, replays of a dying
 * replica's records, call timeouts and restarts are the pool's.
 *
 * A pump, started with the run, pulls from upstream and offers to the pool whether or not downstream pulls.
 * I1 held <= capacity: held counts what the pump has asked for or has, until downstream took it.
 * I2 the pool settles every accepted submission once; nothing else settles what it holds.
 * I3 what needs no actor (controls, failed records, known results) passes through a slot, so it keeps its place.
 * I4 the user's functions run in the pump, in pull or in a turn of their own, never inside the pool's call to
 *    `settled`; only `retryIf` does.
 * I5 one timer, at the core's nextWakeAt or earlier; it ends with the step.
 *
 * When partial batches are flushed: when nothing can come from here (the step is full, the pool has no room, the source
 * has ended), and when downstream waits with nothing ready while upstream has given nothing for a whole turn of the
 * event loop, because then what is waited for may be the very record that waits. While upstream is busy, batches fill.
 *
 * Hot path: one slot object for a record; promises only for a chunk or a wake-up; no closure for a record.
 */
import { AsyncBatchMeter } from '../actor/async-batch.js';
import type { Submission, Ticket } from '../actor/infer-target.js';
import type { Outcome } from '../actor/outcome.js';
import type { BatchCall } from '../core/effects.js';
import { OperatorCore } from '../core/operator.js';
import { OperatorSlot } from '../core/operator-slot.js';
import type { Timer } from '../kernel/clock.js';
import { TroupeError, isTroupeError } from '../kernel/errors.js';
import { systemRandom } from '../kernel/random.js';
import { traceparentOf } from '../telemetry/tracing.js';
import type { Chunk, Envelope } from './envelope.js';
import type { InferPlan } from './infer-options.js';
import { IdleWatch } from './idle-watch.js';
import { InferRecords } from './infer-record.js';
import { Lane } from './lane.js';
import type { StepMeters } from './run-metrics.js';
import type { HeldState, RunContext, Stage } from './stage.js';
import type { StepMetrics } from './step-metrics.js';
import { WakeUp } from './wake-up.js';

/** One held record; what the pool sees of it is the Submission. */
export class InferSlot extends OperatorSlot implements Submission<unknown, unknown> {
  ticket: Ticket | undefined = undefined;
  /** The batch that ended its last try. */
  call: BatchCall | undefined = undefined;

  constructor(
    readonly envelope: Envelope,
    private readonly stage: InferStage,
  ) {
    super();
  }

  get sender(): number {
    return this.stage.senderFor(this);
  }

  get callTimeoutMs(): number {
    return this.stage.callTimeoutMs;
  }

  get traceparent(): string | undefined {
    return traceparentOf(this.envelope.metadata);
  }

  settled(outcome: Outcome<unknown>, call?: BatchCall): void {
    this.call = call;
    this.stage.slotSettled(this, outcome);
  }
}

export class InferStage implements Stage {
  readonly callTimeoutMs: number;
  readonly #plan: InferPlan;
  readonly #upstream: Stage;
  readonly #run: RunContext;
  readonly #index: number;
  readonly #core: OperatorCore<InferSlot>;
  readonly #records: InferRecords;
  readonly #first: Lane;
  readonly #second: Lane | undefined;
  readonly #idle: IdleWatch;
  readonly #meter = new AsyncBatchMeter();
  #lastCall: BatchCall | undefined;
  #recordCount = 0;
  #hasEnded = false;
  #isClosed = false;
  #failure: { readonly reason: unknown } | undefined;
  #timer: Timer | undefined;
  #timerAt = Infinity;
  #hasTurn = false;
  /** The pump waits for upstream; how many chunks it has been given. */
  #isPulling = false;
  #chunkCount = 0;
  /** The pool was given something since it was last flushed. */
  #isUnflushed = false;
  readonly #downstream: WakeUp;
  readonly #pumping: WakeUp;

  constructor(plan: InferPlan, upstream: Stage, run: RunContext, index: number) {
    this.#plan = plan;
    this.#upstream = upstream;
    this.#run = run;
    this.#index = index;
    this.callTimeoutMs = plan.callTimeoutMs;
    this.#records = new InferRecords(plan, index);
    this.#downstream = new WakeUp(run.interrupt);
    this.#pumping = new WakeUp(run.interrupt);
    const { target, order, capacity, retry, retryBudget, breaker, fallback } = plan;
    const hasSecond = fallback?.kind === 'pool';
    this.#core = new OperatorCore(
      { name: target.name, order, capacity, retry, retryBudget, breaker, hasSecond },
      systemRandom,
    );
    this.#first = new Lane(target, run.name, this.#submit);
    this.#second = hasSecond ? new Lane(fallback.pool, run.name, this.#submit) : undefined;
    this.#idle = new IdleWatch(
      () => this.#downstream.isAwaited && this.#isPulling && this.#isUnflushed && !this.#core.hasReady(),
      () => this.#chunkCount,
      () => this.#flush(),
    );
    void this.#pump().catch((reason: unknown) => {
      this.#failure = { reason };
      this.#downstream.wake();
    });
  }

  async pull(max: number): Promise<Chunk | undefined> {
    const core = this.#core;
    while (!core.hasReady()) {
      if (this.#run.interrupt.isSet) return undefined;
      if (this.#failure !== undefined) throw this.#failure.reason;
      if (this.#hasEnded && core.heldCount === 0) return undefined;
      const woken = this.#downstream.wait();
      this.#idle.look();
      await woken;
    }
    const out: Chunk = [];
    const now = this.#run.clock.now();
    while (out.length < max) {
      const slot = core.take();
      if (slot === undefined) break;
      this.#records.finish(slot, slot.envelope, now);
      out.push(slot.envelope);
    }
    this.#pumping.wake();
    return out;
  }

  held(withOutcomes: boolean): readonly HeldState[] {
    const now = this.#run.clock.now();
    const states: HeldState[] = [];
    for (const slot of this.#core.held()) {
      const state = heldState(slot, withOutcomes, now);
      if (state !== undefined) states.push(state);
    }
    return states;
  }

  metrics(): StepMetrics {
    const pending = new Set<BatchCall>();
    let inPool = 0;
    for (const slot of this.#core.held()) {
      if (slot.state === 'sent' || slot.state === 'second-sent') inPool += 1;
      else if (slot.state === 'settled' && slot.call !== undefined) pending.add(slot.call);
    }
    const { retries, budgetRefusals, breakerRefusals, timeouts } = this.#core.counts;
    return {
      ...this.#meter.stats(this.#plan.target.inFlightBatches ?? 0, this.#plan.order === 'ordered' ? pending.size : 0),
      totalRecordsProcessed: this.#recordCount,
      step: this.#index,
      pool: this.#plan.target.name,
      recordsInPool: inPool,
      retries,
      budgetRefusals,
      breakerRefusals,
      timeouts,
      breaker: this.#core.breaker?.state,
    };
  }

  meters(): StepMeters {
    return { metrics: this.metrics(), calls: this.#meter };
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#idle.close();
    this.#core.abandon(this.#run.clock.now());
    const reason = new TroupeError('CANCELLED', `Stream ${this.#run.name} has ended`);
    for (const slot of [...this.#core.held()]) slot.ticket?.cancel(reason);
    this.#first.close();
    this.#second?.close();
  }

  senderFor(slot: InferSlot): number {
    return slot.state === 'second-queued' ? (this.#second as Lane).sender : this.#first.sender;
  }

  /** Called by a slot, from inside the pool: only bookkeeping here (I4). */
  slotSettled(slot: InferSlot, outcome: Outcome<unknown>): void {
    slot.ticket = undefined;
    this.#recordCount += 1;
    const { call } = slot;
    if (call !== undefined && call !== this.#lastCall) {
      this.#lastCall = call;
      this.#meter.count(call);
    }
    // What has gone well needs no time but for the breaker's window, and this runs for every record.
    const isTimeless = outcome.ok && this.#core.breaker === undefined;
    this.#core.ended(slot, outcome, isTimeless ? 0 : this.#run.clock.now());
    if (this.#isClosed) return;
    if (this.#core.hasReady()) this.#downstream.wake();
    if (this.#core.hasUnsent || this.#core.hasUnsentSecond) this.#soon();
    this.#arm();
  }

  async #pump(): Promise<void> {
    const core = this.#core;
    const { interrupt, chunkSize, clock } = this.#run;
    while (!interrupt.isSet) {
      if (!core.hasRoom || core.hasUnsent) {
        // Nothing more can come from here until a record leaves: waiting for a fuller batch would be waiting for ourselves.
        this.#flush();
        await this.#pumping.wait();
        continue;
      }
      const turn = this.#run.turn.give();
      if (turn !== undefined) await turn;
      this.#isPulling = true;
      this.#idle.look();
      const chunk = await this.#upstream.pull(Math.min(this.#plan.capacity - core.heldCount, chunkSize));
      this.#isPulling = false;
      if (chunk === undefined) break;
      this.#chunkCount += 1;
      const now = clock.now();
      for (const envelope of chunk) this.#enter(envelope, now);
      if (interrupt.isSet) return;
      this.#submit();
    }
    if (interrupt.isSet) return;
    this.#hasEnded = true;
    this.#flush();
    this.#downstream.wake();
  }

  #enter(envelope: Envelope, now: number): void {
    const slot = new InferSlot(envelope, this);
    let key: string | undefined = '';
    if (this.#plan.key !== undefined) key = this.#records.key(envelope, now);
    // A record whose key nobody knows could overtake one of the same key.
    slot.isFence = key === undefined || envelope.kind === 'control';
    key ??= '';
    const saved = envelope.passes ? undefined : this.#run.takeHeld?.(this.#index, envelope.id);
    if (this.#plan.timeoutMs !== Infinity) slot.leftMs = this.#plan.timeoutMs;
    if (saved?.outcome !== undefined) this.#core.restore(slot, key, saved);
    else if (this.#records.prepare(slot, envelope, now) === 'pass') this.#core.pass(slot, key);
    else if (saved !== undefined) this.#core.restore(slot, key, saved);
    else this.#core.accept(slot, key);
  }

  /** Offers what may go until there is nothing left or no room, and wakes whom that concerns. */
  readonly #submit = (): void => {
    this.#hasTurn = false;
    if (this.#isClosed) return;
    const now = this.#run.clock.now();
    let isOffered = this.#submitFirst(now);
    if (this.#second !== undefined && this.#submitSecond(this.#second, now)) isOffered = true;
    const { hasRoom, hasUnsent, hasUnsentSecond } = this.#core;
    if (isOffered && (this.#hasEnded || hasUnsent || hasUnsentSecond || !hasRoom)) this.#flush();
    this.#arm();
    if (this.#core.hasReady()) this.#downstream.wake();
    else this.#idle.look();
    if (!this.#core.hasUnsent) this.#pumping.wake();
  };

  #submitFirst(now: number): boolean {
    const core = this.#core;
    const lane = this.#first;
    let isOffered = false;
    if (lane.isFull) return false;
    for (let slot = core.next(now); slot !== undefined; slot = core.next(now)) {
      const offered = lane.offer(slot);
      if (offered === undefined) break;
      if (isTroupeError(offered)) core.refused(slot, offered, now);
      else {
        slot.ticket = offered;
        core.submitted(slot);
        isOffered = true;
      }
    }
    if (isOffered) this.#isUnflushed = true;
    return isOffered;
  }

  #submitSecond(lane: Lane, now: number): boolean {
    const core = this.#core;
    let isOffered = false;
    if (lane.isFull) return false;
    for (let slot = core.nextSecond(now); slot !== undefined; slot = core.nextSecond(now)) {
      const made = this.#records.secondInput(slot.envelope);
      if (isTroupeError(made)) {
        core.refusedSecond(slot, made);
        continue;
      }
      slot.input = made.input;
      if (lane.target.holdsManyModels !== true) slot.model = undefined;
      const offered = lane.offer(slot);
      if (offered === undefined) break;
      if (isTroupeError(offered)) core.refusedSecond(slot, offered);
      else {
        slot.ticket = offered;
        core.submittedSecond(slot);
        isOffered = true;
      }
    }
    if (isOffered) this.#isUnflushed = true;
    return isOffered;
  }

  /** The rest of what an outcome leads to, when the pool is through with telling outcomes (I4). */
  #soon(): void {
    if (this.#hasTurn) return;
    this.#hasTurn = true;
    queueMicrotask(this.#submit);
  }

  #flush(): void {
    if (!this.#isUnflushed) return;
    this.#isUnflushed = false;
    this.#first.target.flush();
    this.#second?.target.flush();
  }

  #arm(): void {
    const at = this.#core.nextWakeAt;
    // A timer that comes too early costs an empty tick, and one that is moved for every record costs more (I5).
    if (at >= this.#timerAt) return;
    this.#timer?.cancel();
    this.#timerAt = at;
    this.#timer = this.#run.clock.at(at, this.#onTimer);
  }

  readonly #onTimer = (): void => {
    this.#timer = undefined;
    this.#timerAt = Infinity;
    if (this.#isClosed) return;
    this.#core.tick(this.#run.clock.now());
    this.#submit();
  };
}

/** Undefined for what the next run would not go on with: it has no tries behind it, no deadline and no outcome. */
function heldState(slot: InferSlot, withOutcomes: boolean, now: number): HeldState | undefined {
  const { attempts, state, isSecond } = slot;
  const outcome = withOutcomes && state === 'settled' ? slot.outcome : undefined;
  let { leftMs } = slot;
  if (leftMs !== undefined && slot.hasStarted) leftMs = Math.max(0, slot.deadlineAt - now);
  if (outcome === undefined && attempts === 0 && !(withOutcomes && slot.hasStarted && leftMs !== undefined)) {
    return undefined;
  }
  return { id: slot.envelope.id, attempts, leftMs, outcome, ...(isSecond ? { isFallback: true } : {}) };
}
