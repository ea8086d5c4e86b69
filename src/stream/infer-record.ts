import type { OperatorSlot } from '../core/operator-slot.js';
import { reworded } from '../core/reworded.js';
import { invariant, type TroupeError } from '../kernel/errors.js';
import { failureOf, operatorFailed, type Envelope, type FailurePlace } from './envelope.js';
import { wordsOf } from './foreign.js';
import { isPriority, type InferPlan } from './infer-options.js';
import { isThenable } from './interrupt.js';

/** What is made of a record on its way in: it goes to the actor, or holds its place without one. */
export type Entry = 'ask' | 'pass';

/**
 * The user's functions of an infer step, and what their answers make of a record. Never throws: what they throw fails
 * the record that they were given.
 */
export class InferRecords {
  readonly #plan: InferPlan;
  /** Of the step in the pipeline. */
  readonly #step: number;

  constructor(plan: InferPlan, step: number) {
    this.#plan = plan;
    this.#step = step;
  }

  /** The key of a record; undefined where nobody knows it, because it failed before or fails now. */
  key(envelope: Envelope, now: number): string | undefined {
    const { key } = this.#plan;
    if (key === undefined || envelope.passes) return undefined;
    try {
      const given = key(envelope.value, envelope);
      if (typeof given === 'string') return given;
      throw new TypeError(`expected a string, got ${given === null ? 'null' : typeof given}`);
    } catch (cause) {
      this.#failFunction('key', envelope, cause, now);
      return undefined;
    }
  }

  /** Fills the slot with what the pool gets, unless the record needs no actor. */
  prepare(slot: OperatorSlot, envelope: Envelope, now: number): Entry {
    if (envelope.passes) return 'pass';
    const { bypass, input, priority, model } = this.#plan;
    let at = 'bypass';
    try {
      const known = bypass?.(envelope.value, envelope);
      if (known !== undefined) {
        if (isThenable(known)) throw new TypeError('it returned a promise; use an async map before infer');
        envelope.value = known;
        return 'pass';
      }
      at = 'input';
      slot.input = input === undefined ? envelope.value : input(envelope.value, envelope);
      if (input !== undefined && isThenable(slot.input)) {
        throw new TypeError('it returned a promise; use an async map before infer');
      }
      if (model !== undefined) {
        at = 'model';
        slot.model = typeof model === 'string' ? model : checkedModel(model(envelope.value, envelope));
      }
      at = 'priority';
      slot.priority = typeof priority === 'number' ? priority : checkedPriority(priority(envelope.value, envelope));
      return 'ask';
    } catch (cause) {
      slot.input = undefined;
      this.#failFunction(at, envelope, cause, now);
      return 'pass';
    }
  }

  /** What the second pool gets; the error where that cannot be made. */
  secondInput(envelope: Envelope): { readonly input: unknown } | TroupeError {
    const { fallback } = this.#plan;
    invariant(fallback?.kind === 'pool', 'only a fallback pool is asked');
    try {
      const input = fallback.input === undefined ? envelope.value : fallback.input(envelope.value, envelope);
      if (fallback.input !== undefined && isThenable(input)) throw new TypeError('it returned a promise');
      return { input };
    } catch (cause) {
      return operatorFailed(`${this.#where('input of the fallback')} for record ${envelope.id}`, cause);
    }
  }

  /** Turns the outcome of a slot into what goes downstream, in place. */
  finish(slot: OperatorSlot, envelope: Envelope, now: number): void {
    const { outcome } = slot;
    if (outcome === undefined) this.#substitute(envelope, now);
    else if (outcome.ok) this.#result(slot, envelope, outcome.value, outcome.version, now);
    else this.#failure(slot, envelope, outcome.error, now);
  }

  #failure(slot: OperatorSlot, envelope: Envelope, error: TroupeError, now: number): void {
    // The pool knows only the record's place in its batch.
    let final = error.code === 'INPUT_INVALID' ? reworded(error, `Record ${envelope.id}: ${error.message}`) : error;
    try {
      if (this.#answerHere(envelope, final)) return;
    } catch (cause) {
      final = reworded(final, `${final.message}; the fallback failed too: it threw: ${wordsOf(cause)}`);
    }
    envelope.fail(final, this.#place(now, slot.attempts, error.modelVersion));
    this.#substitute(envelope, now);
  }

  #result(slot: OperatorSlot, envelope: Envelope, result: unknown, version: string | undefined, now: number): void {
    const { fallback } = this.#plan;
    const isSecond = slot.isSecond && fallback?.kind === 'pool';
    const output = isSecond ? fallback.output : this.#plan.output;
    try {
      const value = output === undefined ? result : output(envelope.value, result, version, envelope);
      if (output !== undefined && isThenable(value)) {
        throw new TypeError('it returned a promise; use an async map after infer');
      }
      envelope.value = value;
      if (isSecond) markFallback(envelope, slot.firstError);
    } catch (cause) {
      this.#failFunction(isSecond ? 'output of the fallback' : 'output', envelope, cause, now, slot.attempts, version);
      this.#substitute(envelope, now);
    }
  }

  /** A fallback that needs no pool answers as the record leaves. False where there is none. */
  #answerHere(envelope: Envelope, error: TroupeError): boolean {
    const { fallback } = this.#plan;
    if (fallback === undefined || fallback.kind === 'pool' || error.code === 'CANCELLED') return false;
    if (fallback.kind === 'value') envelope.value = fallback.value;
    else {
      const value = fallback.fn(envelope.value, error, envelope);
      if (isThenable(value)) throw new TypeError('it returned a promise; use a pool as the fallback');
      envelope.value = value;
    }
    markFallback(envelope, error);
    return true;
  }

  #substitute(envelope: Envelope, now: number): void {
    const { failed } = this.#plan;
    if (failed === undefined || envelope.kind !== 'failed') return;
    try {
      const value = failed(envelope.value, failureOf(envelope), envelope);
      if (isThenable(value)) throw new TypeError('it returned a promise; use an async map after infer');
      envelope.value = value;
      envelope.kind = 'substitute';
    } catch (cause) {
      this.#failFunction('failed', envelope, cause, now, envelope.failure?.attempts);
    }
  }

  #failFunction(
    name: string,
    envelope: Envelope,
    cause: unknown,
    now: number,
    attempts?: number,
    version?: string,
  ): void {
    const error = operatorFailed(`${this.#where(name)} for record ${envelope.id}`, cause);
    envelope.fail(error, this.#place(now, attempts ?? 0, version));
  }

  #where(name: string): string {
    return `${name} of infer("${this.#plan.target.name}")`;
  }

  #place(at: number, attempts: number, version: string | undefined): FailurePlace {
    const { target, deadLetters } = this.#plan;
    return { step: this.#step, at, actor: target.name, version, attempts, deadLetters };
  }
}

/** The pool sorts by it; what is no number would break the order of others. */
function checkedPriority(priority: unknown): number {
  if (isPriority(priority)) return priority;
  throw new TypeError(`expected a whole number from -100 to 100, got ${wordsOf(priority)}`);
}

/** Whether there is such a model is the pool's to say. */
function checkedModel(model: unknown): string {
  if (typeof model === 'string') return model;
  throw new TypeError(`expected the name of a model, got ${wordsOf(model)}`);
}

/** A record that failed before stays counted as failed. */
function markFallback(envelope: Envelope, error: TroupeError | undefined): void {
  if (envelope.kind !== 'value') return;
  envelope.kind = 'fallback';
  envelope.error = error;
}
