import type { Clock } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { type Fault, fromFault } from '../wire/fault.js';
import type { ToServer } from '../wire/lane-messages.js';
import type { LaneChannel } from './lane-book.js';

/**
 * What a client of the lane asks beside its records: calls of methods, questions about health and figures. They have no way
 * but the connection that is there now, and none is asked twice.
 *
 * Q1 one is asked as soon as its channel is open, and not before.
 * Q2 one that was asked settles once: by its answer, its time, or the end of its connection.
 */
export type QuestionMessage = Extract<ToServer, { kind: 'call' | 'health' | 'stats' }>;

export interface QuestionParts {
  readonly address: string;
  readonly clock: Clock;
  /** Throws, before anything is written, where a value cannot be copied. */
  readonly say: (message: QuestionMessage) => void;
  /** Why there is no connection now. */
  readonly trouble: () => TroupeError | undefined;
  /** One has settled. */
  readonly changed: () => void;
}

type Channel = LaneChannel<unknown>;

interface Unasked {
  readonly channel: Channel;
  readonly ask: () => void;
  readonly fail: (error: TroupeError) => void;
}

export class LaneQuestions {
  readonly #parts: QuestionParts;
  readonly #asked = new Map<number, Deferred<unknown>>();
  /** Q1. */
  #unasked: Unasked[] = [];
  #lastId = 0;

  constructor(parts: QuestionParts) {
    this.#parts = parts;
  }

  /** Of those that have not settled. */
  get count(): number {
    return this.#asked.size + this.#unasked.length;
  }

  /** One waits until this channel is open. */
  waitsFor(channel: Channel): boolean {
    return this.#unasked.some((one) => one.channel === channel);
  }

  /** Rejects with SERVER_UNREACHABLE after `waitMs`; a call only where it could not be asked until then. */
  ask(channel: Channel, waitMs: number, question: (id: number) => QuestionMessage): Promise<unknown> {
    const { address, clock, say, trouble, changed } = this.#parts;
    const id = ++this.#lastId;
    const answer = deferred<unknown>();
    const timer = clock.at(clock.now() + waitMs, () => {
      this.#asked.delete(id);
      this.#unasked = this.#unasked.filter((one) => one.ask !== ask);
      const why = trouble()?.message ?? `no answer from ${address} within ${waitMs} ms`;
      answer.reject(new TroupeError('SERVER_UNREACHABLE', why, { cause: trouble() }));
    });
    const ask = (): void => {
      const message = question(id);
      if (message.kind === 'call') timer.cancel(); // It takes as long as it takes; a server that is gone is noticed.
      this.#asked.set(id, answer);
      try {
        say(message);
      } catch (cause) {
        this.#asked.delete(id);
        answer.reject(new TroupeError('INPUT_INVALID', 'The arguments cannot be copied to another process', { cause }));
      }
    };
    if (channel.isOpen) ask();
    else this.#unasked.push({ channel, ask, fail: (error) => answer.reject(error) });
    const over = (): void => {
      timer.cancel();
      changed();
    };
    answer.promise.then(over, over);
    return answer.promise;
  }

  answered(id: number, fault: Fault | undefined, value: unknown): void {
    const answer = this.#asked.get(id);
    if (answer === undefined) return;
    this.#asked.delete(id);
    if (fault === undefined) answer.resolve(value);
    else answer.reject(fromFault(fault));
  }

  /** Q1. */
  opened(channel: Channel): void {
    for (const { ask } of this.#takeUnasked(channel)) ask();
  }

  /** The channel does not open. */
  refused(channel: Channel, error: TroupeError): void {
    for (const { fail } of this.#takeUnasked(channel)) fail(error);
  }

  /** The connection is gone, and with it whoever was to answer. */
  cut(error: TroupeError): void {
    const message = `${error.message}; the call was under way`;
    for (const answer of this.#asked.values()) answer.reject(new TroupeError('INTERRUPTED', message, { cause: error }));
    this.#asked.clear();
  }

  /** There will be no other connection. */
  fail(error: TroupeError): void {
    for (const answer of this.#asked.values()) answer.reject(error);
    this.#asked.clear();
    for (const { fail } of this.#unasked) fail(error);
    this.#unasked = [];
  }

  #takeUnasked(channel: Channel): readonly Unasked[] {
    const taken = this.#unasked.filter((one) => one.channel === channel);
    this.#unasked = this.#unasked.filter((one) => one.channel !== channel);
    return taken;
  }
}
