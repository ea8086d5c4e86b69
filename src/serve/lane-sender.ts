import type { Clock } from '../kernel/clock.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { folded, foldedIds, isName, type RecordsMessage, type ToServer } from '../wire/lane-messages.js';
import { encodeMessage } from '../wire/process-codec.js';
import { packRows } from '../wire/rows.js';
import { payloadBytes } from '../wire/unix-lane.js';
import type { LaneBook, LaneCall, LaneChannel } from './lane-book.js';
import type { AnySubmission } from './remote-pool.js';

type Call = LaneCall<AnySubmission>;
type Channel = LaneChannel<AnySubmission>;

export interface SenderParts {
  readonly address: string;
  readonly clock: Clock;
  readonly book: LaneBook<AnySubmission>;
  readonly write: (pieces: readonly Buffer[]) => void;
  readonly say: (message: ToServer) => void;
  /** Up to which message outcomes have been heard; the server is told so. */
  readonly heard: () => number;
  /** The record did not go out, and will not. */
  readonly refuse: (call: Call, error: TroupeError) => void;
}

/** Records on their way to the server: a chunk becomes one message, and what cannot be sent fails alone. */
export class LaneSender {
  /** Longest message that the server takes. */
  frameBytes = Infinity;
  readonly #parts: SenderParts;
  /** Nothing more comes for now behind what they hold. */
  readonly #flushed = new Set<Channel>();

  constructor(parts: SenderParts) {
    this.#parts = parts;
  }

  flush(channel: Channel): void {
    this.#flushed.add(channel);
  }

  /**
   * What may go now, and then that nothing more comes. Where some has to wait for room it is said of what went, which may
   * make the room, and again behind the rest.
   */
  sendAll(channel: Channel): void {
    const { book, say } = this.#parts;
    let hasSent = false;
    for (let chunk = book.take(channel); chunk.length > 0; chunk = book.take(channel)) {
      this.#send(channel, chunk);
      hasSent = true;
    }
    if (!channel.isOpen || !this.#flushed.has(channel)) return;
    const isAll = isEmpty(channel);
    if (isAll) this.#flushed.delete(channel);
    if (isAll || hasSent) say({ kind: 'flush', channel: channel.index });
  }

  /** The connection is gone. Of what goes out again nobody knows whether more was to come, and it must not wait for that. */
  cut(): void {
    for (const channel of this.#parts.book.channels) if (!isEmpty(channel)) this.#flushed.add(channel);
  }

  /** A chunk that cannot be sent as it is goes out in parts, so that only the record that is at fault fails. */
  #send(channel: Channel, calls: readonly Call[]): void {
    // The last of them says so itself.
    const flush = isEmpty(channel) && this.#flushed.has(channel);
    let pieces: Buffer[];
    let bytes = 0;
    try {
      pieces = encodeMessage(this.#messageOf(channel, calls, flush));
      bytes = payloadBytes(pieces);
    } catch (cause) {
      if (calls.length > 1) this.#sendHalf(channel, calls);
      else this.#unsendable(calls[0] as Call, cause);
      return;
    }
    if (bytes > this.frameBytes) {
      if (calls.length > 1) this.#sendHalf(channel, calls);
      else this.#tooLarge(calls[0] as Call, bytes);
      return;
    }
    this.#parts.write(pieces);
    if (flush) this.#flushed.delete(channel);
    if (!(calls[0] as Call).asked) this.#parts.book.charge(channel, bytes);
  }

  /** The second half waits for its turn again, and for what is allowed by then. */
  #sendHalf(channel: Channel, calls: readonly Call[]): void {
    const middle = calls.length >> 1;
    this.#parts.book.putBack(channel, calls.slice(middle));
    this.#send(channel, calls.slice(0, middle));
  }

  #unsendable(call: Call, cause: unknown): void {
    this.#parts.book.unsent(call);
    const words = cause instanceof Error ? cause.message : String(cause);
    const message = `The record cannot be copied to another process: ${words}`;
    this.#parts.refuse(call, isTroupeError(cause) ? cause : new TroupeError('INPUT_INVALID', message, { cause }));
  }

  #tooLarge(call: Call, bytes: number): void {
    this.#parts.book.unsent(call);
    const message = `The record has ${bytes} bytes, more than the ${this.frameBytes} that ${this.#parts.address} takes`;
    this.#parts.refuse(call, new TroupeError('RECORD_TOO_LARGE', message));
  }

  #messageOf(channel: Channel, calls: readonly Call[], flush: boolean): RecordsMessage {
    const now = this.#parts.clock.now();
    const count = calls.length;
    const ids = new Array<number>(count);
    const inputs = new Array<unknown>(count);
    const remainingMs = new Array<number>(count);
    const priority = new Array<number>(count);
    const callTimeoutMs = new Array<number | undefined>(count);
    const key = new Array<string | undefined>(count);
    const model = new Array<string | undefined>(count);
    const traceparent = new Array<string | undefined>(count);
    for (let index = 0; index < count; index++) {
      const { id, item, deadlineAt } = calls[index] as Call;
      ids[index] = id;
      inputs[index] = item.input;
      remainingMs[index] = Math.max(0, deadlineAt - now);
      priority[index] = item.priority;
      callTimeoutMs[index] = item.callTimeoutMs;
      key[index] = item.key;
      model[index] = item.model;
      traceparent[index] = isName(item.traceparent) ? item.traceparent : undefined; // A stranger may have written it.
    }
    return {
      kind: 'records',
      channel: channel.index,
      ids: foldedIds(ids),
      asked: (calls[0] as Call).asked,
      remainingMs: folded(remainingMs),
      priority: folded(priority),
      callTimeoutMs: folded(callTimeoutMs),
      key: folded(key),
      model: folded(model),
      traceparent: folded(traceparent),
      heard: this.#parts.heard(),
      flush,
      payload: packRows(inputs),
    };
  }
}

function isEmpty({ asked, bulk }: Channel): boolean {
  return asked.count + bulk.count === 0;
}
