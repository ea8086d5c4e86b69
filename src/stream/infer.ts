/**
 * The infer step: the meeting point of a pipeline and a pool. It owns the records between its upstream and its
 * downstream, their submissions and their tickets; batching, retries, deadlines and restarts are the pool's.
 *
 * A pump, started with the run, pulls from upstream and offers to the pool whether or not downstream pulls.
 * I1 held <= capacity: held counts what the pump asked for or has, until downstream took it.
 * I2 every held record has one slot, and a slot is emitted once, after it settled.
 * I3 a record that failed upstream passes through its slot, so it keeps its place in the order.
 * I4 user functions run in the pump or in pull, never inside the pool's call to `settled`.
 *
 * The pool is flushed when the source has ended and when this step is full. A source that only pauses does not flush:
 * how long a partial batch may wait for company is the pool's batching.maxDelayMs, and others feed the same batch.
 *
 * Hot path: one slot object per record; promises only for a chunk or a wake-up.
 */
import type { InferTarget, Submission, Ticket } from '../actor/infer-target.js';
import type { Outcome } from '../actor/outcome.js';
import { TroupeError, invariant, isTroupeError } from '../kernel/errors.js';
import { EmissionSlot, emissionOf, type Emission } from '../core/emission.js';
import { failureOf, operatorFailed, type Chunk, type DeadLetter, type Envelope } from './envelope.js';
import { wordsOf } from './foreign.js';
import { isThenable } from './interrupt.js';
import type { Sink } from './sink.js';
import type { RunContext, Stage } from './stage.js';

/** The options of an infer step with every default filled in. */
export interface InferPlan {
  readonly target: InferTarget<unknown, unknown>;
  readonly input: ((record: unknown) => unknown) | undefined;
  readonly output: ((record: unknown, result: unknown, version: string | undefined) => unknown) | undefined;
  readonly bypass: ((record: unknown) => unknown) | undefined;
  readonly failed: ((record: unknown, error: TroupeError) => unknown) | undefined;
  readonly order: 'ordered' | 'unordered';
  readonly capacity: number;
  /** Infinity for none. */
  readonly timeoutMs: number;
  readonly priority: number | ((record: unknown) => number);
  readonly deadLetters: Sink<DeadLetter> | undefined;
}

/** One held record; what the pool sees of it is the Submission. */
export class InferSlot extends EmissionSlot implements Submission<unknown, unknown> {
  input: unknown = undefined;
  priority = 0;
  deadlineAt = Infinity;
  ticket: Ticket | undefined = undefined;
  outcome: Outcome<unknown> | undefined = undefined;

  constructor(
    readonly envelope: Envelope,
    readonly sender: number,
    private readonly stage: InferStage,
  ) {
    super();
    this.isFence = envelope.kind === 'control';
  }

  settled(outcome: Outcome<unknown>): void {
    invariant(!this.isSettled, `record ${this.envelope.seq} settles once`);
    this.outcome = outcome;
    this.stage.slotSettled(this);
  }
}

export class InferStage implements Stage {
  readonly #plan: InferPlan;
  readonly #upstream: Stage;
  readonly #run: RunContext;
  readonly #emission: Emission<InferSlot>;
  readonly #sender: number;
  #held = 0;
  #hasEnded = false;
  #failure: { readonly reason: unknown } | undefined;
  #wakeDownstream: (() => void) | undefined;
  #wakePump: (() => void) | undefined;

  constructor(
    plan: InferPlan,
    upstream: Stage,
    run: RunContext,
    private readonly index: number,
  ) {
    this.#plan = plan;
    this.#upstream = upstream;
    this.#run = run;
    this.#emission = emissionOf(plan.order);
    this.#sender = plan.target.openSender(run.name);
    void this.#pump().catch((reason: unknown) => {
      this.#failure = { reason };
      this.#wakeDownstream?.();
    });
  }

  async pull(max: number): Promise<Chunk | undefined> {
    while (!this.#emission.hasReady()) {
      if (this.#run.interrupt.isSet) return undefined;
      if (this.#failure !== undefined) throw this.#failure.reason;
      if (this.#hasEnded && this.#held === 0) return undefined;
      await this.#wait((wake) => {
        this.#wakeDownstream = wake;
      });
      this.#wakeDownstream = undefined;
    }
    const out: Chunk = [];
    while (out.length < max) {
      const slot = this.#emission.tryTake();
      if (slot === undefined) break;
      this.#finish(slot);
      out.push(slot.envelope);
    }
    this.#held -= out.length;
    this.#wakePump?.();
    return out;
  }

  close(): void {
    const reason = new TroupeError('CANCELLED', `Stream ${this.#run.name} has ended`);
    for (const slot of [...this.#emission.held()]) slot.ticket?.cancel(reason);
    this.#plan.target.closeSender(this.#sender);
  }

  /** Called by a slot, from inside the pool: only bookkeeping here (I4). */
  slotSettled(slot: InferSlot): void {
    slot.isSettled = true;
    slot.ticket = undefined;
    if (this.#emission.settled(slot)) this.#wakeDownstream?.();
  }

  async #pump(): Promise<void> {
    const { capacity, target } = this.#plan;
    while (!this.#run.interrupt.isSet) {
      if (this.#held === capacity) {
        // Nothing more can come from here until a record leaves: waiting for a fuller batch would be waiting for ourselves.
        target.flush();
        await this.#wait((wake) => {
          this.#wakePump = wake;
        });
        this.#wakePump = undefined;
        continue;
      }
      const wanted = Math.min(capacity - this.#held, this.#run.chunkSize);
      const chunk = await this.#upstream.pull(wanted);
      if (chunk === undefined) break;
      this.#held += chunk.length;
      invariant(this.#held <= capacity, `infer holds ${this.#held} of ${capacity} records`);
      for (const envelope of chunk) {
        const slot = new InferSlot(envelope, this.#sender, this);
        this.#emission.add(slot, '');
        if (!this.#prepare(slot)) this.slotSettled(slot);
        else if (!this.#offer(slot)) await this.#offerWhenRoom(slot);
        if (this.#run.interrupt.isSet) return;
      }
    }
    if (this.#run.interrupt.isSet) return;
    this.#hasEnded = true;
    target.flush();
    this.#wakeDownstream?.();
  }

  /** False when the record passes through: it has failed already, or needs no actor. */
  #prepare(slot: InferSlot): boolean {
    const { envelope } = slot;
    if (envelope.passes) return false;
    const { bypass, input, priority } = this.#plan;
    try {
      const known = bypass?.(envelope.value);
      if (known !== undefined) {
        if (isThenable(known)) throw new TypeError('bypass returned a promise; use an async map before infer');
        envelope.value = known;
        return false;
      }
      slot.input = input === undefined ? envelope.value : input(envelope.value);
      if (isThenable(slot.input)) throw new TypeError('input returned a promise; use an async map before infer');
      slot.priority = typeof priority === 'number' ? priority : priority(envelope.value);
      return true;
    } catch (cause) {
      this.#fail(envelope, operatorFailed(`bypass, input or priority of infer("${this.#plan.target.name}")`, cause));
      return false;
    }
  }

  /** False while the pool has no room. */
  #offer(slot: InferSlot): boolean {
    // The deadline starts when the pool takes the record: back-pressure slows a stream down, it must not time it out.
    if (this.#plan.timeoutMs !== Infinity) slot.deadlineAt = this.#run.clock.now() + this.#plan.timeoutMs;
    try {
      slot.ticket = this.#plan.target.offer(slot);
      return slot.ticket !== undefined;
    } catch (cause) {
      this.#fail(slot.envelope, offerFailed(this.#plan.target.name, cause));
      this.slotSettled(slot);
      return true;
    }
  }

  async #offerWhenRoom(slot: InferSlot): Promise<void> {
    do {
      await this.#wait((wake) => this.#plan.target.onRoom(this.#sender, wake));
      if (this.#run.interrupt.isSet) return;
    } while (!this.#offer(slot));
  }

  /** Turns the outcome into what goes downstream; here user functions run (I4). */
  #finish(slot: InferSlot): void {
    const { envelope, outcome } = slot;
    if (outcome === undefined) {
      this.#substitute(envelope);
      return;
    }
    if (!outcome.ok) {
      this.#fail(envelope, outcome.error);
      this.#substitute(envelope);
      return;
    }
    const { output, target } = this.#plan;
    if (output === undefined) {
      envelope.value = outcome.value;
      return;
    }
    try {
      const value = output(envelope.value, outcome.value, outcome.version);
      if (isThenable(value)) throw new TypeError('output returned a promise; use an async map after infer');
      envelope.value = value;
    } catch (cause) {
      this.#fail(envelope, operatorFailed(`output of infer("${target.name}")`, cause));
    }
  }

  #fail(envelope: Envelope, error: TroupeError): void {
    envelope.fail(error, {
      step: this.index,
      at: this.#run.clock.now(),
      actor: this.#plan.target.name,
      deadLetters: this.#plan.deadLetters,
    });
  }

  #substitute(envelope: Envelope): void {
    const { failed, target } = this.#plan;
    if (failed === undefined || envelope.kind !== 'failed') return;
    try {
      envelope.value = failed(envelope.value, failureOf(envelope));
      envelope.kind = 'substitute';
    } catch (cause) {
      this.#fail(envelope, operatorFailed(`failed of infer("${target.name}")`, cause));
    }
  }

  /** One promise per wake-up; the interrupt of the run ends it too. */
  async #wait(arm: (wake: () => void) => void): Promise<void> {
    await this.#run.interrupt.guard(new Promise<void>((resolve) => arm(resolve)));
  }
}

function offerFailed(name: string, cause: unknown): TroupeError {
  if (isTroupeError(cause)) return cause;
  return new TroupeError('INPUT_INVALID', `Pool "${name}" refused the record: ${wordsOf(cause)}`, { cause });
}
