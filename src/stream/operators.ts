import { Envelope, operatorFailed, type Chunk, type RecordInfo } from './envelope.js';
import { INTERRUPTED, NOT_YET, isThenable, soon } from './interrupt.js';
import type { RunContext, Stage } from './stage.js';

/** Applies a user's function to one envelope; false drops it. A promise is given only where the function gave one. */
export type Operation = (envelope: Envelope) => boolean | PromiseLike<boolean>;

type UserFunction = (value: unknown, info: RecordInfo) => unknown;

export function mapOperation(fn: (value: never, info: RecordInfo) => unknown): Operation {
  const call = fn as UserFunction;
  return (envelope) => {
    const value = call(envelope.value, envelope);
    if (!isThenable(value)) {
      envelope.value = value;
      return true;
    }
    return value.then((settled) => {
      envelope.value = settled;
      return true;
    });
  };
}

export function filterOperation(fn: (value: never, info: RecordInfo) => unknown): Operation {
  const call = fn as UserFunction;
  return (envelope) => {
    const verdict = call(envelope.value, envelope);
    return isThenable(verdict) ? verdict.then(Boolean) : Boolean(verdict);
  };
}

/**
 * map and filter. Sync functions run through a whole chunk without a promise. Async functions run one after the other,
 * in order; what is ready goes on while the next one is waited for.
 */
export class OperationStage implements Stage {
  #rest: Chunk = [];
  #next = 0;
  /** An async call that was not done when its predecessors left. Settles with the envelope's fate, never rejects. */
  #open: { readonly envelope: Envelope; readonly kept: Promise<boolean> } | undefined;

  constructor(
    private readonly label: string,
    private readonly operation: Operation,
    private readonly upstream: Stage,
    private readonly run: RunContext,
    private readonly index: number,
  ) {}

  async pull(max: number): Promise<Chunk | undefined> {
    for (;;) {
      const out: Chunk = [];
      if (this.#open !== undefined) {
        const { envelope, kept } = this.#open;
        this.#open = undefined;
        const verdict = await this.run.interrupt.guard(kept);
        if (verdict === INTERRUPTED) return undefined;
        this.#keep(out, envelope, verdict);
      } else if (this.#next >= this.#rest.length) {
        const chunk = await this.upstream.pull(max);
        if (chunk === undefined) return undefined;
        this.#rest = chunk;
        this.#next = 0;
      }
      while (this.#next < this.#rest.length && out.length < max) {
        const envelope = this.#rest[this.#next] as Envelope;
        this.#next += 1;
        const kept = this.#apply(envelope);
        if (typeof kept === 'boolean') {
          this.#keep(out, envelope, kept);
          continue;
        }
        const verdict = await soon(kept);
        if (verdict === NOT_YET) {
          this.#open = { envelope, kept };
          break;
        }
        this.#keep(out, envelope, verdict);
      }
      if (this.run.interrupt.isSet) return undefined;
      if (out.length > 0) return out;
      const turn = this.run.turn.give();
      if (turn !== undefined) await turn;
    }
  }

  close(): void {
    this.#rest = [];
    this.#open = undefined;
  }

  #apply(envelope: Envelope): boolean | Promise<boolean> {
    if (envelope.passes) return true;
    try {
      const kept = this.operation(envelope);
      if (typeof kept === 'boolean') return kept;
      return Promise.resolve(kept).catch((cause: unknown) => this.#failed(envelope, cause));
    } catch (cause) {
      return this.#failed(envelope, cause);
    }
  }

  #failed(envelope: Envelope, cause: unknown): true {
    envelope.fail(operatorFailed(this.label, cause), { step: this.index, at: this.run.clock.now() });
    return true;
  }

  #keep(out: Chunk, envelope: Envelope, kept: boolean): void {
    if (kept) {
      out.push(envelope);
      return;
    }
    this.run.counts.filtered += 1;
    this.run.tracker?.filtered(envelope);
  }
}

type Children = Iterator<unknown> | AsyncIterator<unknown>;

/** What a user's function or iterator answered. */
type Answer =
  | { readonly kind: 'children'; readonly given: unknown }
  | { readonly kind: 'step'; readonly result: IteratorResult<unknown> }
  | Threw;

interface Threw {
  readonly kind: 'threw';
  readonly cause: unknown;
}

/** What the answer means. */
type Seen =
  | { readonly kind: 'children'; readonly children: Children }
  | { readonly kind: 'child'; readonly value: unknown }
  | { readonly kind: 'end' }
  | Threw;

/** flatMap: children stand in the place of their parent, in order, and are taken from it only as fast as there is room. */
export class FlatMapStage implements Stage {
  readonly #fn: UserFunction;
  #rest: Chunk = [];
  #next = 0;
  #parent: Envelope | undefined;
  #children: Children | undefined;
  #childCount = 0;
  /** An answer that was not there when earlier children left; never rejects. */
  #open: Promise<Answer> | undefined;

  constructor(
    private readonly label: string,
    fn: (value: never, info: RecordInfo) => unknown,
    private readonly upstream: Stage,
    private readonly run: RunContext,
    private readonly index: number,
  ) {
    this.#fn = fn as UserFunction;
  }

  async pull(max: number): Promise<Chunk | undefined> {
    const out: Chunk = [];
    while (out.length < max && !this.run.interrupt.isSet) {
      if (this.#open !== undefined) {
        const answer = await (out.length > 0 ? soon(this.#open) : this.run.interrupt.guard(this.#open));
        if (answer === NOT_YET || answer === INTERRUPTED) break;
        this.#open = undefined;
        this.#take(out, answer);
      } else if (this.#parent !== undefined) {
        this.#ask(out, this.#parent);
      } else if (this.#next < this.#rest.length) {
        const envelope = this.#rest[this.#next] as Envelope;
        this.#next += 1;
        if (envelope.passes) out.push(envelope);
        else this.#parent = envelope;
      } else {
        if (out.length > 0) break;
        const turn = this.run.turn.give();
        if (turn !== undefined) await turn;
        const chunk = await this.upstream.pull(max);
        if (chunk === undefined) return undefined;
        this.#rest = chunk;
        this.#next = 0;
      }
    }
    return this.run.interrupt.isSet || out.length === 0 ? undefined : out;
  }

  close(): void {
    const children = this.#children;
    this.#rest = [];
    this.#children = undefined;
    if (children === undefined) return;
    // The end of an async generator that hangs inside would hang here too: it is asked for, not waited for.
    void new Promise((resolve) => resolve(children.return?.())).catch(() => undefined);
  }

  /** One call into the user's code. */
  #ask(out: Chunk, parent: Envelope): void {
    try {
      if (this.#children === undefined) {
        const given = this.#fn(parent.value, parent);
        if (isThenable(given)) this.#open = answerOf(given, (value) => ({ kind: 'children', given: value }));
        else this.#take(out, { kind: 'children', given });
        return;
      }
      const result = this.#children.next();
      if (isThenable(result)) this.#open = answerOf(result, (value) => ({ kind: 'step', result: value }));
      else this.#take(out, { kind: 'step', result });
    } catch (cause) {
      this.#take(out, { kind: 'threw', cause });
    }
  }

  #take(out: Chunk, answer: Answer): void {
    const parent = this.#parent as Envelope;
    const seen = seenIn(answer);
    switch (seen.kind) {
      case 'children':
        this.#childCount = 0;
        this.#children = seen.children;
        return;
      case 'child':
        this.#add(out, parent, seen.value);
        return;
      case 'end':
        if (this.#childCount === 0) this.run.counts.filtered += 1;
        this.#finish(parent);
        return;
      case 'threw':
        this.#fail(out, parent, seen.cause);
        return;
      default:
        seen satisfies never;
    }
  }

  #add(out: Chunk, parent: Envelope, value: unknown): Envelope {
    // The first child is the parent's successor; every further one is a record more.
    if (this.#childCount > 0) this.run.counts.entered += 1;
    const path = `${parent.path}.${this.#childCount}`;
    this.#childCount += 1;
    const child = new Envelope(parent.seq, value, parent.pulledAt, parent.timestamp, parent.metadata, path);
    child.kind = parent.kind;
    child.error = parent.error;
    child.failure = parent.failure;
    out.push(child);
    return child;
  }

  /** Children given before the failure stay; the failure is one record more, with the parent as its input. */
  #fail(out: Chunk, parent: Envelope, cause: unknown): void {
    const error = operatorFailed(this.label, cause);
    this.#add(out, parent, parent.value).fail(error, { step: this.index, at: this.run.clock.now() });
    this.#finish(parent);
  }

  /** The parent itself leaves here, whether it had children or not. */
  #finish(parent: Envelope): void {
    this.run.tracker?.expanded(parent, this.#childCount);
    this.#parent = undefined;
    this.#children = undefined;
    this.#childCount = 0;
  }
}

function answerOf<T>(promise: PromiseLike<T>, toAnswer: (value: T) => Answer): Promise<Answer> {
  return Promise.resolve(promise).then(toAnswer, (cause: unknown) => ({ kind: 'threw', cause }));
}

/** Looks at what foreign code gave, which may throw when it is looked at. */
function seenIn(answer: Answer): Seen {
  if (answer.kind === 'threw') return answer;
  try {
    if (answer.kind === 'children') return { kind: 'children', children: childrenOf(answer.given) };
    const { result } = answer;
    // As for...of has it; without the check an iterator that gives numbers would never end.
    if (typeof result !== 'object' || result === null) {
      throw new TypeError(`the iterator gave a ${typeof result}, not { done, value }`);
    }
    return result.done === true ? { kind: 'end' } : { kind: 'child', value: result.value };
  } catch (cause) {
    return { kind: 'threw', cause };
  }
}

/** A string is taken for a mistake, not for its characters. */
function childrenOf(given: unknown): Children {
  if (typeof given === 'object' && given !== null) {
    if (Symbol.iterator in given) return (given as Iterable<unknown>)[Symbol.iterator]();
    if (Symbol.asyncIterator in given) return (given as AsyncIterable<unknown>)[Symbol.asyncIterator]();
  }
  const kind = given === null ? 'null' : typeof given;
  throw new TypeError(`flatMap expects an array, an iterable or an async iterable, got ${kind}`);
}
