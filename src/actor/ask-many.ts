import type { Clock } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import type { AskRules } from './ask.js';
import type { InferTarget, Submission, Ticket } from './infer-target.js';
import type { Outcome } from './outcome.js';

/** One call of askMany: feeds the pool as it has room and collects the outcomes under one promise. */
export class AskMany<In, Out> {
  readonly outcomes: Promise<Outcome<Out>[]>;
  readonly #pool: InferTarget<In, Out>;
  readonly #records: readonly In[];
  readonly #rules: AskRules;
  readonly #clock: Clock;
  readonly #sender: number;
  readonly #results: Outcome<Out>[];
  readonly #tickets = new Set<Ticket>();
  readonly #done: Deferred<Outcome<Out>[]>;
  #next = 0;
  #left: number;

  constructor(pool: InferTarget<In, Out>, records: readonly In[], rules: AskRules, clock: Clock) {
    this.#pool = pool;
    this.#records = records;
    this.#rules = rules;
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
    while (this.#next < records.length) {
      const index = this.#next;
      const submission = new ManySubmission<In, Out>(
        this,
        index,
        records[index] as In,
        this.#sender,
        this.#rules.priority,
        this.#clock.now() + this.#rules.timeoutMs,
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
      this.#results[index] = {
        ok: false,
        error: new TroupeError('CANCELLED', 'The record was cancelled by its caller before it was sent', {
          ran: 'not-started',
          cause: reason,
        }),
      };
      this.#left--;
    }
    if (this.#left === 0) this.#finish();
  }

  #finish(): void {
    this.#rules.signal?.removeEventListener('abort', this.#onAbort);
    this.#pool.closeSender(this.#sender);
    this.#done.resolve(this.#results);
  }
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
  ) {}

  settled(outcome: Outcome<Out>): void {
    this.owner.take(this, outcome);
  }
}
