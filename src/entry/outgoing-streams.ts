/**
 * The token streams of one replica, on the actor's side: outputs that are async iterables, from the answer of their batch to
 * their end.
 *
 * O1 no piece without credit, and one at a time in the order they are made. O2 each stream ends once, by `stream-ended`, when
 * no code of the actor runs for it any more. O3 a stream that is given up says so to the actor at once, by return() of its
 * iterator and, where nothing else of its batch runs, by the signal of that batch.
 */
import { TroupeError } from '../kernel/errors.js';
import { type Fault, toFault } from '../wire/fault.js';
import type { PullMessage, ToHost } from '../wire/messages.js';
import type { BatchContext } from './batch-context.js';

/** What streams need of their shell. */
export interface StreamOwner {
  /** Throws when a value cannot cross. */
  post(message: ToHost): Promise<void> | undefined;
  /** What is told of an error of the actor's code. */
  faultOf(error: unknown): Fault;
  /** Code of the actor begins and ends to run for a stream. */
  enter(): void;
  leave(): void;
}

export class OutgoingStreams {
  readonly #owner: StreamOwner;
  /** By batch. */
  readonly #batches = new Map<number, OfBatch>();
  #waiters: Waiter[] = [];

  constructor(owner: StreamOwner) {
    this.#owner = owner;
  }

  /** An answer goes out that has these outputs, which may use `holder`. They wait for credit. */
  begin(
    id: number,
    incarnation: number,
    outputs: readonly (readonly [number, Output])[],
    context: BatchContext,
    holder: object,
  ): void {
    const ofBatch = new Map<number, OutgoingStream>();
    this.#batches.set(id, { holder, streams: ofBatch });
    const quit = (): void => {
      if ([...ofBatch.values()].every(({ isGivenUp }) => isGivenUp)) context.abort(); // O3
    };
    for (const [index, output] of outputs) {
      this.#owner.enter();
      const ended = (): void => {
        this.#ended(id, index);
        if (ofBatch.size > 0) quit();
      };
      ofBatch.set(index, new OutgoingStream(output, { incarnation, id, index }, this.#owner, { quit, ended }));
    }
  }

  pull({ id, index, count }: PullMessage): void {
    this.#batches.get(id)?.streams.get(index)?.pull(count);
  }

  giveUp(id: number, index: number): void {
    this.#batches.get(id)?.streams.get(index)?.giveUp('Nobody reads this stream any more');
  }

  /** The replica ends now. */
  giveUpAll(): void {
    for (const { streams } of this.#batches.values())
      for (const stream of streams.values()) stream.giveUp('The replica ends before this stream does');
  }

  /** Resolves when no stream is left; with `holder`, none of those that may use it. */
  async ended(holder?: object): Promise<void> {
    if (this.#uses(holder)) await new Promise<void>((resolve) => this.#waiters.push({ holder, resolve }));
  }

  #uses(holder: object | undefined): boolean {
    if (holder === undefined) return this.#batches.size > 0;
    for (const ofBatch of this.#batches.values()) if (ofBatch.holder === holder) return true;
    return false;
  }

  #ended(id: number, index: number): void {
    const streams = this.#batches.get(id)?.streams;
    streams?.delete(index);
    this.#owner.leave();
    if (streams?.size !== 0) return;
    this.#batches.delete(id);
    const waiters = this.#waiters;
    this.#waiters = waiters.filter(({ holder }) => this.#uses(holder));
    for (const { holder, resolve } of waiters) if (!this.#uses(holder)) resolve();
  }
}

type Output = AsyncIterable<unknown>;

interface OfBatch {
  readonly holder: object;
  /** By place. */
  readonly streams: Map<number, OutgoingStream>;
}

interface Waiter {
  readonly holder: object | undefined;
  readonly resolve: () => void;
}

interface Place {
  readonly incarnation: number;
  readonly id: number;
  readonly index: number;
}

interface Hears {
  quit(): void;
  ended(): void;
}

class OutgoingStream {
  isGivenUp = false;
  readonly #output: Output;
  readonly #place: Place;
  readonly #owner: StreamOwner;
  readonly #hears: Hears;
  #iterator: AsyncIterator<unknown> | undefined;
  #credit = 0;
  #isPumping = false;
  #isOver = false;

  constructor(output: Output, place: Place, owner: StreamOwner, hears: Hears) {
    this.#output = output;
    this.#place = place;
    this.#owner = owner;
    this.#hears = hears;
  }

  pull(count: number): void {
    this.#credit += count;
    if (!this.#isPumping && !this.isGivenUp) void this.#pump();
  }

  giveUp(why: string): void {
    if (this.#isOver || this.isGivenUp) return;
    this.isGivenUp = true;
    this.#hears.quit();
    // Not as a whole end: who has what came so far must not take it for all there is.
    void this.#close(toFault(new TroupeError('CANCELLED', why)));
  }

  async #pump(): Promise<void> {
    this.#isPumping = true;
    try {
      const iterator = this.#begun();
      while (this.#credit > 0) {
        const { done, value } = await iterator.next();
        if (this.isGivenUp) return;
        if (done === true) {
          this.#end(undefined);
          return;
        }
        this.#credit--; // O1
        await this.#send(value);
        if (this.isGivenUp) return;
      }
    } catch (error) {
      // One whose next() threw has ended by itself.
      if (!this.isGivenUp) this.#end(this.#owner.faultOf(error));
    } finally {
      this.#isPumping = false;
    }
  }

  async #send(value: unknown): Promise<void> {
    try {
      await this.#owner.post({ kind: 'piece', ...this.#place, value });
    } catch (cause) {
      const message = `A piece of this stream cannot be sent to the host: ${toFault(cause).message.slice(0, 1024)}`;
      this.isGivenUp = true;
      await this.#close(this.#owner.faultOf(new TroupeError('PREDICT_FAILED', message, { cause })));
    }
  }

  /** O2: a generator that waits gets to its end only after what it waits for. */
  async #close(fault: Fault): Promise<void> {
    try {
      await this.#begun().return?.();
    } catch {
      // It was given up, and the reason for that is told.
    }
    this.#end(fault);
  }

  #begun(): AsyncIterator<unknown> {
    this.#iterator ??= this.#output[Symbol.asyncIterator]();
    return this.#iterator;
  }

  #end(fault: Fault | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    void this.#owner.post({ kind: 'stream-ended', ...this.#place, ...(fault === undefined ? {} : { fault }) });
    this.#hears.ended();
  }
}
