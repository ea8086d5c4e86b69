import { IncomingStream } from '../host/incoming-stream.js';
import type { Clock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import type { ToServer } from '../wire/lane-messages.js';

/**
 * The token streams that a client of the lane reads, by the number of the record each of them answers. They live as long as
 * the connection they came over: what is left of one whose connection was cut is an error, and never a second time the same
 * pieces.
 */
export class LaneReads {
  readonly #say: (message: ToServer) => void;
  readonly #clock: Clock;
  /** One has begun, or has ended. */
  readonly #changed: () => void;
  readonly #streams = new Map<number, IncomingStream>();

  constructor(say: (message: ToServer) => void, clock: Clock, changed: () => void) {
    this.#say = say;
    this.#clock = clock;
    this.#changed = changed;
  }

  get count(): number {
    return this.#streams.size;
  }

  /** For whoever asked. How long a piece may take is the server's to say. */
  begin(id: number, pool: string): IncomingStream {
    const stream = new IncomingStream(
      pool,
      { pull: (count) => this.#say({ kind: 'pull', id, count }), giveUp: () => this.giveUp(id) },
      this.#clock,
      Infinity,
    );
    this.#streams.set(id, stream);
    this.#changed();
    return stream;
  }

  pieces(id: number, values: readonly unknown[]): void {
    const stream = this.#streams.get(id);
    // Unknown: given up here meanwhile.
    for (const value of values) stream?.piece(value);
  }

  ended(id: number, error: TroupeError | undefined): void {
    this.#streams.get(id)?.ended(error);
    if (this.#streams.delete(id)) this.#changed();
  }

  /** Nobody reads it. Also one that was never begun here. */
  giveUp(id: number): void {
    this.#say({ kind: 'quit', id });
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    this.#streams.delete(id);
    // Of one that is still read the record was answered twice.
    const message = 'The record of a token stream was answered again while the stream was under way';
    stream.ended(new TroupeError('PROTOCOL_VIOLATION', message, { ran: 'interrupted' }));
    this.#changed();
  }

  /** The connection is gone. */
  cut(errorOf: () => TroupeError): void {
    for (const stream of this.#streams.values()) stream.ended(errorOf());
    this.#streams.clear();
    this.#changed();
  }
}
