/**
 * The token streams of one client of the lane, on the server's side, by the number of the record each of them answers.
 *
 * P1 a piece is taken from its pool only when the client has room for it, so that who takes none stops the actor.
 * P2 pieces that are there in one turn go out together, behind the outcomes of that turn.
 * P3 a stream ends once: as its actor ended it, given up by its client, or with the connection it was begun on.
 */
import { TroupeError } from '../kernel/errors.js';
import { type Fault, toFault } from '../wire/fault.js';
import type { ToClient } from '../wire/lane-messages.js';
import { giveUp, PIECE_CREDIT } from '../wire/token-stream.js';

/** Streams of one client that run at a time: each holds a generator and what it keeps. */
export const LANE_STREAMS_MAX = 4096;

interface Write {
  readonly id: number;
  readonly stream: AsyncIterable<unknown>;
  readonly iterator: AsyncIterator<unknown>;
  credit: number;
  isReading: boolean;
  /** Not sent yet. */
  pieces: unknown[];
  /** There is nothing more to come. */
  isOver: boolean;
  fault: Fault | undefined;
}

export class LaneWrites {
  /** Something is to be sent: `flush` is to be called before long. */
  readonly #changed: () => void;
  readonly #writes = new Map<number, Write>();
  readonly #unsent = new Set<Write>();

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  get count(): number {
    return this.#writes.size;
  }

  get isFull(): boolean {
    return this.#writes.size >= LANE_STREAMS_MAX;
  }

  /** One that is there under the number is given up. */
  begin(id: number, stream: AsyncIterable<unknown>): void {
    this.quit(id);
    const iterator = stream[Symbol.asyncIterator]();
    const rest = { credit: 0, isReading: false, pieces: [], isOver: false, fault: undefined };
    this.#writes.set(id, { id, stream, iterator, ...rest });
  }

  /** What is wrong with it, in words; undefined where nothing is. */
  pull(id: number, count: number): string | undefined {
    const write = this.#writes.get(id);
    if (write === undefined) {
      // Its end may be on the way; or it ended with an earlier connection.
      const message = 'The token stream ended with the connection that it was begun on';
      const fault = toFault(new TroupeError('INTERRUPTED', message));
      const rest = { credit: 0, isReading: false, pieces: [], isOver: true, fault };
      this.#unsent.add({ id, stream: NOTHING, iterator: NOTHING[Symbol.asyncIterator](), ...rest });
      this.#changed();
      return undefined;
    }
    write.credit += count;
    if (write.credit > PIECE_CREDIT) return `more than ${PIECE_CREDIT} pieces of a stream were asked for at once`;
    if (!write.isReading && !write.isOver) void this.#read(write);
    return undefined;
  }

  quit(id: number): void {
    const write = this.#writes.get(id);
    if (write === undefined) return;
    this.#writes.delete(id);
    this.#unsent.delete(write);
    write.isOver = true;
    giveUp(write.stream);
  }

  /** P3. */
  cut(): void {
    for (const id of [...this.#writes.keys()]) this.quit(id);
    this.#unsent.clear();
  }

  /** P2. `say` throws where a value cannot be copied. */
  flush(say: (message: ToClient) => void): void {
    if (this.#unsent.size === 0) return;
    const unsent = [...this.#unsent];
    this.#unsent.clear();
    for (const write of unsent) {
      const { id } = write;
      const values = write.pieces;
      write.pieces = [];
      try {
        if (values.length > 0) say({ kind: 'pieces', id, values });
      } catch {
        this.#sayEach(write, values, say);
      }
      if (!write.isOver) continue;
      this.#writes.delete(id);
      say(write.fault === undefined ? { kind: 'ended', id } : { kind: 'ended', id, fault: write.fault });
    }
  }

  /** Up to the one that cannot be copied, with which the stream ends. */
  #sayEach(write: Write, values: readonly unknown[], say: (message: ToClient) => void): void {
    for (const value of values)
      try {
        say({ kind: 'pieces', id: write.id, values: [value] });
      } catch (cause) {
        const words = cause instanceof Error ? cause.message : String(cause);
        const message = `A piece of this stream cannot be sent to another process: ${words}`;
        write.isOver = true;
        write.fault = toFault(new TroupeError('PREDICT_FAILED', message, { cause }));
        giveUp(write.stream);
        return;
      }
  }

  /** P1. */
  async #read(write: Write): Promise<void> {
    write.isReading = true;
    try {
      while (write.credit > 0) {
        const { done, value } = await write.iterator.next();
        if (write.isOver) return;
        if (done === true) return this.#end(write, undefined);
        write.credit--;
        write.pieces.push(value);
        this.#toSend(write);
      }
    } catch (error) {
      if (!write.isOver) this.#end(write, toFault(error));
    } finally {
      write.isReading = false;
    }
  }

  #end(write: Write, fault: Fault | undefined): void {
    write.isOver = true;
    write.fault = fault;
    this.#toSend(write);
  }

  #toSend(write: Write): void {
    this.#unsent.add(write);
    this.#changed();
  }
}

const NOTHING: AsyncIterable<unknown> = {
  [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }) }),
};
