import type { Clock } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { toFault } from '../wire/fault.js';
import { type AskManyOptions, type AskRules, checkOptions, resolveAsk } from './ask.js';
import type { InferTarget, Submission, Ticket } from './infer-target.js';
import type { Outcome } from './outcome.js';

/** What askMany was called with, checked. Where a name comes from a function, the rules have none. */
export interface AskManyPlan<In> {
  readonly records: readonly In[];
  readonly rules: AskRules;
  readonly names: { readonly keyOf: NameOf<In> | undefined; readonly modelOf: NameOf<In> | undefined };
  readonly views: boolean;
}

/** Wrong options, and what is no iterable of records, throw a TypeError that names option, expectation and value. */
export function planAskMany<In>(
  inputs: Iterable<In>,
  options: AskManyOptions<In>,
  defaultTimeoutMs: number,
): AskManyPlan<In> {
  checkOptions('askMany', options);
  const { key, model, views = false, ...plain } = options;
  if (typeof views !== 'boolean') throw new TypeError(`askMany: views must be true or false, got ${typeof views}`);
  const same: { key?: string; model?: string } = {};
  if (key !== undefined && typeof key !== 'function') same.key = key;
  if (model !== undefined && typeof model !== 'function') same.model = model;
  const rules = resolveAsk({ ...plain, ...same }, defaultTimeoutMs);
  const given: unknown = inputs;
  // A string is taken for a mistake, not for its characters.
  if (typeof given !== 'object' || given === null || !(Symbol.iterator in given)) {
    const got = given === null ? 'null' : typeof given;
    throw new TypeError(`askMany: expected an array or another iterable of records, got ${got}`);
  }
  const names = {
    keyOf: typeof key === 'function' ? key : undefined,
    modelOf: typeof model === 'function' ? model : undefined,
  };
  return { records: Array.isArray(inputs) ? (inputs as In[]) : [...inputs], rules, names, views };
}

/** One call of askMany: feeds the pool as it has room and collects the outcomes under one promise. */
export class AskMany<In, Out> {
  readonly outcomes: Promise<Outcome<Out>[]>;
  /** Its results may share memory with each other. */
  readonly views: boolean;
  /** Of the span in which it was called, where the pool makes spans. */
  readonly traceparent: string | undefined;
  readonly #pool: InferTarget<In, Out>;
  readonly #records: readonly In[];
  readonly #rules: AskRules;
  readonly #keyOf: NameOf<In> | undefined;
  readonly #modelOf: NameOf<In> | undefined;
  readonly #clock: Clock;
  readonly #sender: number;
  readonly #results: Outcome<Out>[];
  readonly #tickets = new Set<Ticket>();
  readonly #done: Deferred<Outcome<Out>[]>;
  #next = 0;
  #left: number;

  /** Without `keyOf` and `modelOf` the key and the model of the rules are those of every record. */
  constructor(pool: InferTarget<In, Out>, plan: AskManyPlan<In>, clock: Clock, traceparent?: string) {
    const { records, rules, names, views } = plan;
    this.views = views;
    this.traceparent = traceparent;
    this.#pool = pool;
    this.#records = records;
    this.#rules = rules;
    this.#keyOf = names.keyOf;
    this.#modelOf = names.modelOf;
    this.#clock = clock;
    this.#left = records.length;
    this.#results = new Array<Outcome<Out>>(records.length);
    this.#done = deferred<Outcome<Out>[]>();
    this.outcomes = this.#done.promise;
    this.#sender = pool.openSender('askMany');
    const { signal } = rules;
    if (records.length === 0) this.#finish();
    else if (signal?.aborted === true) this.#cancelRest(signal.reason);
    else {
      signal?.addEventListener('abort', this.#onAbort, { once: true });
      this.#feed();
    }
  }

  readonly #feed = (): void => {
    const records = this.#records;
    let now = this.#clock.now();
    while (this.#next < records.length) {
      const index = this.#next;
      const record = records[index] as In;
      let { key, model } = this.#rules;
      if (this.#keyOf !== undefined || this.#modelOf !== undefined) {
        const givenKey = this.#keyOf === undefined ? key : nameFrom('key', this.#keyOf, record, index);
        const givenModel = this.#modelOf === undefined ? model : nameFrom('model', this.#modelOf, record, index);
        if (givenKey instanceof TroupeError || givenModel instanceof TroupeError) {
          this.#next++;
          this.#refuse(index, givenKey instanceof TroupeError ? givenKey : (givenModel as TroupeError));
          continue;
        }
        key = givenKey;
        model = givenModel;
        now = this.#clock.now(); // The functions may have taken their time.
      }
      const submission = new ManySubmission<In, Out>(
        this,
        index,
        record,
        this.#sender,
        this.#rules.priority,
        now + this.#rules.timeoutMs,
        key,
        model,
      );
      const ticket = this.#pool.offer(submission);
      if (ticket === undefined) {
        this.#pool.onRoom(this.#sender, this.#feed);
        return;
      }
      this.#next++;
      if (this.#rules.signal !== undefined) {
        submission.ticket = ticket;
        this.#tickets.add(ticket);
      }
    }
  };

  take(submission: ManySubmission<In, Out>, outcome: Outcome<Out>): void {
    this.#results[submission.index] = outcome;
    if (submission.ticket !== undefined) this.#tickets.delete(submission.ticket);
    if (--this.#left === 0) this.#finish();
  }

  readonly #onAbort = (): void => {
    this.#cancelRest(this.#rules.signal?.reason);
  };

  #cancelRest(reason: unknown): void {
    const from = this.#next;
    this.#next = this.#records.length;
    for (const ticket of [...this.#tickets]) ticket.cancel(reason);
    for (let index = from; index < this.#records.length; index++) {
      const what = 'The record was cancelled by its caller before it was sent';
      this.#refuse(index, new TroupeError('CANCELLED', what, { ran: 'not-started', cause: reason }));
    }
  }

  /** Settles a record that was never sent. */
  #refuse(index: number, error: TroupeError): void {
    this.#results[index] = { ok: false, error };
    if (--this.#left === 0) this.#finish();
  }

  #finish(): void {
    this.#rules.signal?.removeEventListener('abort', this.#onAbort);
    this.#pool.closeSender(this.#sender);
    this.#done.resolve(this.#results);
  }
}

type NameOf<In> = (record: In, index: number) => string | undefined;

/** Foreign code: what it throws or gets wrong costs this record alone. */
function nameFrom<In>(
  what: 'key' | 'model',
  nameOf: NameOf<In>,
  record: In,
  index: number,
): string | undefined | TroupeError {
  let cause: unknown;
  try {
    const name: unknown = nameOf(record, index);
    if (name === undefined || typeof name === 'string') return name;
    cause = new TypeError(`expected a string, got ${name === null ? 'null' : typeof name}`);
  } catch (thrown) {
    cause = thrown;
  }
  const message = `${what} of askMany failed for record ${index}: ${toFault(cause).message}`;
  return new TroupeError('INPUT_INVALID', message, { cause, ran: 'not-started' });
}

/** True where every record is of one call that takes views: nobody else's memory can then be reached through a result. */
export function sharesResults(requests: readonly { readonly owner: unknown }[]): boolean {
  const first = requests[0]?.owner;
  if (!(first instanceof ManySubmission) || !first.owner.views) return false;
  for (let i = 1; i < requests.length; i++) {
    const owner = requests[i]?.owner;
    if (!(owner instanceof ManySubmission) || owner.owner !== first.owner) return false;
  }
  return true;
}

class ManySubmission<In, Out> implements Submission<In, Out> {
  ticket: Ticket | undefined = undefined;
  constructor(
    readonly owner: AskMany<In, Out>,
    readonly index: number,
    readonly input: In,
    readonly sender: number,
    readonly priority: number,
    readonly deadlineAt: number,
    readonly key: string | undefined,
    readonly model: string | undefined,
  ) {}

  get traceparent(): string | undefined {
    return this.owner.traceparent;
  }

  settled(outcome: Outcome<Out>): void {
    this.owner.take(this, outcome);
  }
}
