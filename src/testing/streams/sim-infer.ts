/**
 * The simulated edge of an infer step: drives the very core that stream/infer.ts drives, over a model pool. Pulls while
 * there is room, offers, keeps the timer, flushes by the same rule, hands on; decides nothing. What it is told it
 * compares with an independent reading of the rules (`InferOracle`).
 */
import { OperatorCore } from '../../core/operator.js';
import type { RecordOutcome } from '../../core/operator-slot.js';
import type { Random } from '../../kernel/random.js';
import type { Envelope } from '../../stream/envelope.js';
import type { HeldState } from '../../stream/stage.js';
import { BY_CODE, SIM_ERRORS } from './errors.js';
import { InferOracle } from './infer-oracle.js';
import type { StreamShape } from './scenario.js';
import { SimCorePool } from './sim-core-pool.js';
import type { SimStage, StageContext } from './sim-stages.js';
import { type PoolPort, SimSlot, SimTarget } from './sim-target.js';
import { STREAM_EVENT } from './world.js';

export interface SimInferOptions {
  readonly context: StageContext;
  readonly upstream: SimStage;
  readonly shape: StreamShape;
  readonly random: Random;
  /** What an earlier run held of a record; gives it once. Undefined where nothing is resumed. */
  readonly takeHeld: ((id: string) => HeldState | undefined) | undefined;
}

export class SimInfer implements SimStage {
  readonly core: OperatorCore<SimSlot>;
  readonly oracle: InferOracle;
  /** The end of the pipeline, or the next infer step, waits with nothing to do. */
  isAwaited = false;
  isClosed = false;
  readonly #context: StageContext;
  readonly #upstream: SimStage;
  readonly #takeHeld: SimInferOptions['takeHeld'];
  readonly #first: PoolPort;
  readonly #second: PoolPort | undefined;
  #entryCount = 0;
  #timerAt = Infinity;
  #isUnflushed = false;
  /** Records that have come; and how many there were when the step was last seen standing still. */
  #idleMark = -1;
  #hasGivenRoom = false;
  #firstIsFull = false;
  #secondIsFull = false;

  constructor({ context, upstream, shape, random, takeHeld }: SimInferOptions) {
    this.#context = context;
    this.#upstream = upstream;
    this.#takeHeld = takeHeld;
    const { world } = context;
    const { order, retry, retryBudget, breaker, fallback } = world.scenario;
    this.core = new OperatorCore<SimSlot>(
      {
        name: 'sim',
        order,
        capacity: shape.operatorCapacity,
        retry,
        retryBudget,
        breaker,
        hasSecond: fallback === 'pool',
      },
      random,
    );
    this.oracle = new InferOracle(world, this.core);
    this.#first = this.#pool(shape, false, () => {
      this.#firstIsFull = false;
    });
    if (fallback === 'pool') {
      this.#second = this.#pool(shape, true, () => {
        this.#secondIsFull = false;
      });
    }
  }

  #pool(shape: StreamShape, isSecond: boolean, onRoom: () => void): PoolPort {
    const { world, functions } = this.#context;
    const options = { isSecond, onEnded: this.#onEnded, onRoom };
    if (world.scenario.pool === 'core') return new SimCorePool(world, functions, shape, options);
    return new SimTarget(world, functions, shape, options);
  }

  get hasEnded(): boolean {
    return this.#upstream.hasEnded && this.core.heldCount === 0;
  }

  take(): Envelope | undefined {
    const { core } = this;
    const slot = core.take();
    if (slot === undefined) {
      this.isAwaited = true;
      return undefined;
    }
    this.isAwaited = false;
    this.#hasGivenRoom = true;
    this.oracle.taken(slot);
    this.#finish(slot);
    return slot.envelope;
  }

  /** A record has left since this was asked last. */
  hasGivenRoom(): boolean {
    const hasGiven = this.#hasGivenRoom;
    this.#hasGivenRoom = false;
    return hasGiven;
  }

  /** Pulls and offers until nothing moves; true where something did. */
  pump(): boolean {
    const { core } = this;
    let hasMoved = this.#submit();
    while (core.hasRoom && !core.hasUnsent) {
      const envelope = this.#upstream.take(core.rules.capacity - core.heldCount);
      if (envelope === undefined) break;
      this.#enter(envelope);
      this.#submit();
      hasMoved = true;
    }
    if (!core.hasRoom || core.hasUnsent || this.#upstream.hasEnded) this.#flush();
    return hasMoved;
  }

  /** All that this turn led to has been done. */
  endTurn(): void {
    const { world } = this.#context;
    this.#arm();
    this.oracle.turnEnded();
    if (!this.isAwaited || !this.#isUnflushed || this.#idleMark === this.#entryCount || this.core.hasReady()) return;
    this.#idleMark = this.#entryCount;
    world.at(world.now, STREAM_EVENT.idle, this.#entryCount, this);
  }

  /** Two turns of the loop later. */
  idle(mark: number): void {
    this.#idleMark = -1;
    if (mark === this.#entryCount && this.isAwaited && !this.core.hasReady()) this.#flush();
  }

  wake(): void {
    const { world } = this.#context;
    if (world.now < this.#timerAt) {
      world.eventCount--; // a timer that was put earlier
      return;
    }
    this.#timerAt = Infinity;
    this.core.tick(world.now);
  }

  held(withOutcomes: boolean): HeldState[] {
    const { now } = this.#context.world;
    const states: HeldState[] = [];
    for (const slot of this.core.held()) {
      const state = heldState(slot, withOutcomes, now);
      if (state !== undefined) states.push(state);
    }
    return states;
  }

  close(): void {
    this.isClosed = true;
    this.core.abandon(this.#context.world.now);
    this.#first.isClosed = true;
    if (this.#second !== undefined) this.#second.isClosed = true;
  }

  #enter(envelope: Envelope): void {
    const { core } = this;
    const { functions, world } = this.#context;
    const { order, timeoutMs, timeoutMode } = world.scenario;
    const slot = new SimSlot(envelope);
    slot.entry = this.#entryCount++;
    const isKnown = !envelope.passes;
    if (order === 'keyed' && isKnown) slot.key = functions.key(envelope.value as number);
    slot.isFence = envelope.kind === 'control' || (order === 'keyed' && !isKnown);
    const saved = isKnown ? this.#takeHeld?.(envelope.id) : undefined;
    if (timeoutMs > 0 && timeoutMode === 'element') slot.leftMs = timeoutMs;
    this.oracle.entered(slot, saved);
    if (saved?.outcome !== undefined) core.restore(slot, slot.key, saved);
    else if (!isKnown) core.pass(slot, slot.key);
    else {
      slot.input = envelope.value;
      if (saved !== undefined) core.restore(slot, slot.key, saved);
      else core.accept(slot, slot.key);
    }
  }

  #submit(): boolean {
    const { core, oracle } = this;
    const { now } = this.#context.world;
    let hasMoved = false;
    const wasReady = core.hasReady();
    while (!this.#firstIsFull) {
      oracle.asking();
      const slot = core.next(now);
      oracle.given(slot);
      if (slot === undefined) break;
      const offered = this.#first.offer(slot);
      if (offered === undefined) {
        this.#firstIsFull = this.#first.wantsRoom;
        continue;
      }
      hasMoved = true;
      if (offered === true) {
        core.submitted(slot);
        oracle.submitted(slot);
        this.#isUnflushed = true;
      } else {
        oracle.ending(slot);
        core.refused(slot, offered, now);
        oracle.ended(slot, offered);
      }
    }
    while (this.#second !== undefined && !this.#secondIsFull) {
      const slot = core.nextSecond(now);
      if (slot === undefined) break;
      slot.input = slot.envelope.value;
      const offered = this.#second.offer(slot);
      if (offered === undefined) {
        this.#secondIsFull = this.#second.wantsRoom;
        continue;
      }
      hasMoved = true;
      if (offered === true) {
        core.submittedSecond(slot);
        this.#isUnflushed = true;
      } else {
        core.refusedSecond(slot, offered);
      }
    }
    if (this.#first.dispatch()) hasMoved = true;
    if (this.#second?.dispatch() === true) hasMoved = true;
    // A breaker settles what it refuses while the next is looked for.
    return hasMoved || (!wasReady && core.hasReady());
  }

  readonly #onEnded = (slot: SimSlot, outcome: RecordOutcome, target: PoolPort): void => {
    if (this.isClosed) return;
    const { now } = this.#context.world;
    if (target === this.#second) {
      this.core.ended(slot, outcome, now);
      this.oracle.endedSecond(slot);
      return;
    }
    this.oracle.ending(slot);
    this.core.ended(slot, outcome, now);
    this.oracle.ended(slot, outcome.ok ? undefined : outcome.error);
  };

  #flush(): void {
    if (!this.#isUnflushed) return;
    this.#isUnflushed = false;
    this.#first.flush();
    this.#second?.flush();
  }

  #arm(): void {
    const at = this.core.nextWakeAt;
    if (at >= this.#timerAt) return;
    this.#timerAt = at;
    this.#context.world.at(at, STREAM_EVENT.wake, 0, this);
  }

  #finish(slot: SimSlot): void {
    const { envelope, outcome } = slot;
    if (outcome === undefined) return;
    if (outcome.ok) {
      envelope.value = outcome.value;
      if (slot.isSecond) envelope.kind = 'fallback';
      return;
    }
    if (this.#context.world.scenario.fallback === 'function') {
      envelope.kind = 'fallback';
      envelope.error = outcome.error;
    } else envelope.fail(outcome.error);
  }
}

/** As JSON holds it: an error is its code. */
export interface SavedHeld {
  readonly id: string;
  readonly attempts: number;
  readonly leftMs?: number;
  readonly outcome?: { readonly value: number; readonly version: string | undefined } | { readonly code: string };
  readonly isFallback?: boolean;
}

export function saveHeld({ id, attempts, leftMs, outcome, isFallback }: HeldState): SavedHeld {
  return {
    id,
    attempts,
    ...(leftMs === undefined ? {} : { leftMs }),
    ...(outcome === undefined
      ? {}
      : {
          outcome: outcome.ok
            ? { value: outcome.value as number, version: outcome.version }
            : { code: outcome.error.code },
        }),
    ...(isFallback === true ? { isFallback } : {}),
  };
}

export function loadHeld({ id, attempts, leftMs, outcome, isFallback }: SavedHeld): HeldState {
  let loaded: HeldState['outcome'];
  if (outcome !== undefined) {
    loaded =
      'code' in outcome
        ? { ok: false, error: BY_CODE.get(outcome.code) ?? SIM_ERRORS.crash }
        : { ok: true, value: outcome.value, version: outcome.version };
  }
  return { id, attempts, leftMs, outcome: loaded, ...(isFallback === true ? { isFallback } : {}) };
}

/** As stream/infer.ts has it. */
function heldState(slot: SimSlot, withOutcomes: boolean, now: number): HeldState | undefined {
  const { attempts, state, isSecond } = slot;
  const outcome = withOutcomes && state === 'settled' ? slot.outcome : undefined;
  let leftMs: number | undefined;
  if (slot.leftMs !== Infinity) leftMs = slot.hasStarted ? Math.max(0, slot.deadlineAt - now) : slot.leftMs;
  if (outcome === undefined && attempts === 0 && !(withOutcomes && slot.hasStarted && leftMs !== undefined)) {
    return undefined;
  }
  return { id: slot.envelope.id, attempts, leftMs, outcome, ...(isSecond ? { isFallback: true } : {}) };
}
