/**
 * The logic of one infer step: which record is offered when, what a failure leads to, what may leave and in which
 * order. Synchronous and told the time; it waits for nothing and calls nobody but `retryIf` of the rules.
 *
 * Owns the slots from entry to take, attempts, backoff, the retry budget, the breaker of the step, deadlines of what
 * waits here. Does not own batches, replicas, and what happens inside a try (the pool's), nor user functions, timers,
 * the records themselves (the edge's, stream/infer.ts; the simulator is another edge).
 *
 * The edge: `accept` or `pass` each record; offer `next` to the pool until it is undefined or the pool has no room, and
 * say `submitted`; say `ended` once for each; call `tick` at `nextWakeAt`; `take` what is ready. For a second pool the
 * same with `nextSecond`.
 *
 * O1 held <= capacity. O2 every slot that entered is settled once and taken once, in the order of emission.ts.
 * O3 a slot keeps its place in the order while it is tried again. O4 what has expired is never offered.
 * O5 all that a retry needs stands on the slot. O6 a lease of the breaker comes back on every ending of a try.
 * O7 a slot that waits for an instant is in the heap, and leaves it with its state: nothing settled is tried again.
 */
import { TroupeError, invariant } from '../kernel/errors.js';
import type { Random } from '../kernel/random.js';
import { toFault } from '../wire/fault.js';
import { Breaker, type BreakerLimits, verdictOf } from './breaker.js';
import { Deadlines } from './deadlines.js';
import { emissionOf, type Emission, type Order } from './emission.js';
import type { OperatorSlot, RecordOutcome } from './operator-slot.js';
import { reworded } from './reworded.js';
import { RetryBudget, type RetryBudgetLimits } from './retry-budget.js';
import { RetryPolicy, type RetryLimits } from './retry-policy.js';
import { SlotQueue } from './slot-queue.js';

export interface OperatorRules {
  /** Of the pool, for messages. */
  readonly name: string;
  readonly order: Order;
  /** Most slots held. */
  readonly capacity: number;
  /** Undefined: one try. */
  readonly retry: RetryLimits | undefined;
  readonly retryBudget: RetryBudgetLimits;
  /** Undefined: none. */
  readonly breaker: BreakerLimits | undefined;
  /** What fails for good is asked of a second pool. */
  readonly hasSecond: boolean;
}

/** What is remembered of a slot between two runs. */
export interface SavedSlot {
  readonly attempts: number;
  readonly leftMs: number | undefined;
  readonly outcome: RecordOutcome | undefined;
  /** The second pool gave the outcome. */
  readonly isFallback?: boolean;
}

/** What happened in a step so far; counted when it happened. */
export interface OperatorCounts {
  /** Tries beyond the first. */
  retries: number;
  /** Retries that the budget refused. */
  budgetRefusals: number;
  /** Records refused by the breaker of the step. */
  breakerRefusals: number;
  /** Tries that ran out of time, and records that expired while they waited. */
  timeouts: number;
}

export class OperatorCore<Slot extends OperatorSlot = OperatorSlot> {
  readonly rules: OperatorRules;
  readonly breaker: Breaker | undefined;
  readonly counts: OperatorCounts = { retries: 0, budgetRefusals: 0, breakerRefusals: 0, timeouts: 0 };
  readonly #random: Random;
  readonly #emission: Emission<Slot>;
  readonly #policy: RetryPolicy | undefined;
  readonly #budget: RetryBudget | undefined;
  readonly #fresh = new SlotQueue();
  /** Goes before fresh ones: it has waited longer. */
  readonly #again = new SlotQueue();
  readonly #second = new SlotQueue();
  readonly #wakes = new Deadlines<OperatorSlot>();
  #isAbandoned = false;

  constructor(rules: OperatorRules, random: Random) {
    this.rules = rules;
    this.#random = random;
    this.#emission = emissionOf(rules.order);
    this.breaker = rules.breaker === undefined ? undefined : new Breaker(rules.breaker);
    this.#policy = rules.retry === undefined ? undefined : new RetryPolicy(rules.retry);
    this.#budget = rules.retry === undefined ? undefined : new RetryBudget(rules.retryBudget);
  }

  /** Slots between entry and take. */
  get heldCount(): number {
    return this.#emission.size;
  }

  get hasRoom(): boolean {
    return this.#emission.size < this.rules.capacity;
  }

  /** Something may wait to be offered to the pool; `next` knows. */
  get hasUnsent(): boolean {
    return this.#fresh.size > 0 || this.#again.size > 0;
  }

  /** Something waits to be offered to the second pool. It does not hold back what is for the first. */
  get hasUnsentSecond(): boolean {
    return this.#second.size > 0;
  }

  /** When `tick` has something to do; Infinity for never. */
  get nextWakeAt(): number {
    return this.#wakes.nextAt;
  }

  /** Every held slot, in the order of entry. */
  held(): IterableIterator<Slot> {
    return this.#emission.held();
  }

  /** A record for the pool. `key` counts where the order is keyed. */
  accept(slot: Slot, key: string): void {
    this.#enter(slot, key);
    slot.state = 'queued';
    this.#fresh.push(slot);
  }

  /** A record that an earlier run held: it goes on with its tries, or has its outcome already. */
  restore(slot: Slot, key: string, saved: SavedSlot): void {
    slot.attempts = saved.attempts;
    if (saved.leftMs !== undefined && slot.leftMs !== undefined) slot.leftMs = Math.min(slot.leftMs, saved.leftMs);
    if (saved.outcome === undefined) {
      this.accept(slot, key);
      return;
    }
    slot.isSecond = saved.isFallback === true;
    this.#enter(slot, key);
    this.#settle(slot, saved.outcome);
  }

  /** What needs no actor, and holds its place all the same: controls, failed records, known results. */
  pass(slot: Slot, key: string): void {
    this.#enter(slot, key);
    slot.state = 'settled';
    slot.isSettled = true;
    this.#emission.settled(slot);
  }

  /**
   * The slot to offer to the pool now, undefined for none; it stays the next one until `submitted` or `refused`. Its
   * deadline is set: it runs from the first acceptance, so back-pressure slows a stream down and does not time it out.
   */
  next(now: number): Slot | undefined {
    for (;;) {
      const queue = this.#again.size > 0 ? this.#again : this.#fresh;
      const slot = queue.peek();
      if (slot === undefined) return undefined;
      if (slot.state !== 'queued') {
        queue.shift();
        continue;
      }
      if (!slot.hasStarted && slot.leftMs !== undefined) slot.deadlineAt = now + slot.leftMs;
      if (slot.deadlineAt <= now) {
        queue.shift();
        this.#expire(slot, now);
      } else if (this.breaker !== undefined && slot.lease === undefined && !this.#lease(slot, this.breaker, now)) {
        queue.shift();
      } else return slot as Slot;
    }
  }

  /** The pool has accepted the slot that `next` gave. */
  submitted(slot: Slot): void {
    (this.#again.size > 0 ? this.#again : this.#fresh).shift();
    this.#wakes.remove(slot);
    if (slot.attempts === 0) this.#budget?.earn();
    slot.hasStarted = true;
    slot.state = 'sent';
  }

  /** The pool did not take the slot that `next` gave, and never will. */
  refused(slot: Slot, error: TroupeError, now: number): void {
    (this.#again.size > 0 ? this.#again : this.#fresh).shift();
    this.#wakes.remove(slot);
    this.#tried(slot, { ok: false, error }, now);
  }

  /** The slot to offer to the second pool now. */
  nextSecond(now: number): Slot | undefined {
    const slot = this.#second.peek();
    if (slot?.leftMs !== undefined) slot.deadlineAt = now + slot.leftMs;
    return slot as Slot | undefined;
  }

  submittedSecond(slot: Slot): void {
    this.#second.shift();
    slot.state = 'second-sent';
  }

  /** The second pool did not take it, or it could not be made fit for it. */
  refusedSecond(slot: Slot, error: TroupeError): void {
    this.#second.shift();
    this.#secondFailed(slot, error);
  }

  /** A submission has ended: once for each `submitted` and `submittedSecond`. */
  ended(slot: Slot, outcome: RecordOutcome, now: number): void {
    switch (slot.state) {
      case 'sent':
        this.#tried(slot, outcome, now);
        return;
      case 'second-sent':
        if (!outcome.ok) {
          this.#secondFailed(slot, outcome.error);
          return;
        }
        slot.isSecond = true;
        if (slot.outcome?.ok === false) slot.firstError = slot.outcome.error;
        this.#settle(slot, outcome);
        return;
      default:
        invariant(false, `O2: a submission ends once; a slot is ${slot.state}`);
    }
  }

  /** Queues what has waited long enough and fails what has waited too long. */
  tick(now: number): void {
    for (let slot = this.#wakes.takeDue(now); slot !== undefined; slot = this.#wakes.takeDue(now)) {
      if (slot.state === 'backoff') this.#queueAgain(slot);
      else this.#expire(slot, now); // O7: it waited for room in the pool.
    }
  }

  hasReady(): boolean {
    return this.#emission.hasReady();
  }

  /** The next slot to leave; undefined where none is ready. */
  take(): Slot | undefined {
    return this.#emission.tryTake();
  }

  /** Gives the step up: nothing is offered or tried again, leases go back. Outcomes may still come, for what was sent. */
  abandon(now: number): void {
    this.#isAbandoned = true;
    for (const slot of this.#emission.held()) {
      this.#wakes.remove(slot);
      this.#release(slot, undefined, now);
    }
    this.#fresh.clear();
    this.#again.clear();
    this.#second.clear();
  }

  #enter(slot: Slot, key: string): void {
    invariant(this.hasRoom, `O1: an infer step holds ${this.#emission.size} of ${this.rules.capacity} records`);
    this.#emission.add(slot, key);
  }

  /** False: the breaker refuses the try, which counts as one, so that a record does not wait for ever. */
  #lease(slot: OperatorSlot, breaker: Breaker, now: number): boolean {
    slot.lease = breaker.acquire(now);
    if (slot.lease !== undefined) return true;
    this.counts.breakerRefusals += 1;
    const message = `The breaker of infer("${this.rules.name}") is ${breaker.state}: too many records failed lately`;
    const retryAfterMs = Math.ceil(breaker.retryAfterMs(now));
    const error = new TroupeError('BREAKER_OPEN', message, { actor: this.rules.name, retryAfterMs });
    this.#wakes.remove(slot);
    this.#tried(slot, { ok: false, error }, now);
    return false;
  }

  #expire(slot: OperatorSlot, now: number): void {
    const message = `The record expired while it waited for room in pool "${this.rules.name}"`;
    const error = new TroupeError('DEADLINE_PASSED', message, { ran: 'not-started', actor: this.rules.name });
    this.#wakes.remove(slot);
    this.#tried(slot, { ok: false, error }, now);
  }

  #tried(slot: OperatorSlot, outcome: RecordOutcome, now: number): void {
    slot.attempts += 1;
    if (slot.lease !== undefined) this.#release(slot, outcome, now);
    if (outcome.ok) {
      this.#settle(slot, outcome);
      return;
    }
    if (outcome.error.code === 'DEADLINE_PASSED') this.counts.timeouts += 1;
    this.#failed(slot, outcome, now);
  }

  #release(slot: OperatorSlot, outcome: RecordOutcome | undefined, now: number): void {
    const { lease } = slot;
    if (lease === undefined) return;
    slot.lease = undefined;
    const verdict = outcome === undefined ? 'none' : verdictOf(outcome.ok ? undefined : outcome.error);
    this.breaker?.release(lease, verdict, now);
  }

  #failed(slot: OperatorSlot, outcome: RecordOutcome & { readonly ok: false }, now: number): void {
    if (this.#isAbandoned) {
      this.#settle(slot, outcome);
      return;
    }
    const { error } = outcome;
    const decision = this.#policy?.decide(error, slot.attempts, now, slot.deadlineAt, this.#random);
    if (decision?.kind === 'retry') {
      if (this.#budget?.tryTake(now) === true) {
        this.counts.retries += 1;
        slot.state = 'backoff';
        slot.dueAt = decision.at;
        this.#wakes.add(slot);
        return;
      }
      this.counts.budgetRefusals += 1;
    }
    const final = decision?.kind === 'final' && 'thrown' in decision ? judged(outcome, decision.thrown) : outcome;
    if (this.rules.hasSecond && error.code !== 'CANCELLED') {
      slot.outcome = final;
      slot.state = 'second-queued';
      this.#second.push(slot);
      return;
    }
    this.#settle(slot, final);
  }

  #queueAgain(slot: OperatorSlot): void {
    slot.state = 'queued';
    if (slot.hasStarted) {
      slot.dueAt = slot.deadlineAt;
      this.#wakes.add(slot);
    }
    this.#again.push(slot);
  }

  /** The first pool's error stays the record's error; that of the second says why nothing mended it. */
  #secondFailed(slot: OperatorSlot, error: TroupeError): void {
    const first = slot.outcome;
    invariant(first?.ok === false, 'a second pool is asked after a failure');
    const message = `${first.error.message}; the fallback failed too: ${error.message}`;
    this.#settle(slot, { ok: false, error: reworded(first.error, message, first.error.cause ?? error) });
  }

  #settle(slot: OperatorSlot, outcome: RecordOutcome): void {
    slot.outcome = outcome;
    slot.state = 'settled';
    slot.input = undefined;
    slot.isSettled = true;
    this.#emission.settled(slot as Slot);
  }
}

function judged(
  outcome: RecordOutcome & { readonly ok: false },
  thrown: unknown,
): RecordOutcome & { readonly ok: false } {
  const { error } = outcome;
  const message = `${error.message}; not tried again: retryIf threw: ${toFault(thrown).message}`;
  return { ...outcome, error: reworded(error, message) };
}
