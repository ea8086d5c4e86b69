/**
 * The records of one inference request on their way through a pool. All of them are offered to its one mailbox, so that
 * they share batches with those of other requests and of pipelines.
 *
 * I1 a request whose first record finds the mailbox full is refused whole; one that has begun feeds itself as there is room.
 * I2 the first record that fails, or the end of the client, gives up all the others, token streams that have begun too.
 */
import type { InferTarget, Submission, Ticket } from '../actor/infer-target.js';
import type { Outcome } from '../actor/outcome.js';
import { systemClock } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { giveUp } from '../wire/token-stream.js';
import type { Gone } from './gone.js';

export interface InferTerms {
  readonly deadlineAt: number;
  readonly priority: number;
  readonly model: string | undefined;
  readonly traceparent: string | undefined;
  readonly signal: Gone;
}

export interface InferResults<Out> {
  readonly values: readonly Out[];
  /** Of those that answered, each once. */
  readonly versions: readonly (string | undefined)[];
}

/** Resolves to one result per record, in order. Rejects with the TroupeError of the first that failed. */
export function inferAll<In, Out>(
  pool: InferTarget<In, Out>,
  records: readonly In[],
  terms: InferTerms,
): Promise<InferResults<Out>> {
  return new InferCall(pool, records, terms).done.promise;
}

class InferCall<In, Out> {
  readonly done: Deferred<InferResults<Out>> = deferred();
  readonly #pool: InferTarget<In, Out>;
  readonly #records: readonly In[];
  readonly #terms: InferTerms;
  readonly #sender: number;
  readonly #tickets = new Set<Ticket>();
  readonly #values: Out[];
  readonly #versions = new Set<string | undefined>();
  #next = 0;
  #left: number;
  #isOver = false;

  constructor(pool: InferTarget<In, Out>, records: readonly In[], terms: InferTerms) {
    this.#pool = pool;
    this.#records = records;
    this.#terms = terms;
    this.#left = records.length;
    this.#values = new Array<Out>(records.length);
    this.#sender = pool.openSender('serve');
    terms.signal.addEventListener('abort', this.#onAbort);
    if (terms.signal.aborted) this.#onAbort();
    this.#feed();
  }

  readonly #onAbort = (): void => {
    this.#fail(new TroupeError('CANCELLED', 'The client has gone', { cause: this.#terms.signal.reason }));
  };

  readonly #feed = (): void => {
    while (!this.#isOver && this.#next < this.#records.length) {
      const index = this.#next;
      const ticket = this.#offer(index);
      if (ticket === undefined) {
        if (this.#isOver) return;
        if (index > 0) this.#pool.onRoom(this.#sender, this.#feed);
        else this.#fail(new TroupeError('MAILBOX_FULL', `The mailbox of "${this.#pool.name}" is full`)); // I1
        return;
      }
      this.#next++;
    }
  };

  #offer(index: number): Ticket | undefined {
    const { deadlineAt, priority, model, traceparent } = this.#terms;
    if (index > 0 && systemClock.now() >= deadlineAt) {
      this.#fail(
        new TroupeError('DEADLINE_PASSED', 'The deadline passed before all records were sent', { ran: 'not-started' }),
      );
      return undefined;
    }
    let ticket: Ticket | undefined;
    const submission: Submission<In, Out> = {
      input: this.#records[index] as In,
      sender: this.#sender,
      priority,
      deadlineAt,
      model,
      traceparent,
      settled: (outcome) => {
        if (ticket !== undefined) this.#tickets.delete(ticket);
        this.#take(index, outcome);
      },
    };
    ticket = this.#pool.offer(submission);
    if (ticket !== undefined) this.#tickets.add(ticket);
    return ticket;
  }

  #take(index: number, outcome: Outcome<Out>): void {
    if (this.#isOver) {
      if (outcome.ok) giveUp(outcome.value); // I2
      return;
    }
    if (!outcome.ok) {
      this.#fail(outcome.error);
      return;
    }
    this.#values[index] = outcome.value;
    this.#versions.add(outcome.version);
    if (--this.#left > 0) return;
    this.#end();
    this.done.resolve({ values: this.#values, versions: [...this.#versions] });
  }

  #fail(error: TroupeError): void {
    if (this.#isOver) return;
    this.#end();
    for (const ticket of [...this.#tickets]) ticket.cancel(error);
    for (const value of this.#values) giveUp(value); // I2
    this.done.reject(error);
  }

  #end(): void {
    this.#isOver = true;
    this.#terms.signal.removeEventListener('abort', this.#onAbort);
    this.#pool.closeSender(this.#sender);
  }
}
