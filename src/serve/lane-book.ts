/**
 * What a client of the framed lane decides: which records it takes in, which it sends, and which it sends again when the
 * connection was cut. Synchronous and told the time; the edge owns sockets, timers and promises.
 *
 * B1 a record that was taken in leaves once: by its outcome, its deadline, its caller, or as lost.
 * B2 what does not ask is sent only within what the server has allowed on this connection; what asks is bounded by number
 *    and bytes of the unanswered.
 * B3 a server that still knows the client gets a record again only if it says that it does not have it: it has not run.
 * B4 another server gets a record again only if its actor is repeatable and attempts are left; otherwise it is lost.
 * B5 a channel sends in the order of the numbers, what asks and what does not each for itself.
 */
import { Deadlines, type Due } from '../core/deadlines.js';
import type { TroupeError } from '../kernel/errors.js';
import type { Allowance } from '../wire/lane-messages.js';

/** One record on its way; `item` belongs to the edge. */
export class LaneCall<Item> implements Due {
  place: 'held' | 'sent' | 'settled' = 'held';
  /** Servers that have been sent it. */
  serverCount = 0;
  dueAt: number;
  heapIndex = -1;
  dueBefore: Due | undefined = undefined;
  dueAfter: Due | undefined = undefined;

  constructor(
    readonly id: number,
    readonly channel: LaneChannel<Item>,
    readonly item: Item,
    readonly asked: boolean,
    /** An estimate. */
    readonly bytes: number,
    readonly deadlineAt: number,
  ) {
    this.dueAt = deadlineAt;
  }
}

/** The records of one pool. Only the book writes to it. */
export class LaneChannel<Item> {
  isOpen = false;
  /** The server was asked to open it, and has not answered. */
  isOpening = false;
  /** The server has no such pool, or had none when it was asked for. */
  isRefused = false;
  /** A server of this client had it. */
  wasOpen = false;
  /** Since when it is waited for to come back, and in which words it is not there. */
  missingSince: number | undefined = undefined;
  missing: TroupeError | undefined = undefined;
  /** As the server said when it last opened it. */
  repeatable = true;
  attempts = 1;
  allowed: Allowance = NOTHING;
  sentRecords = 0;
  sentBytes = 0;
  readonly asked = new Line<Item>();
  readonly bulk = new Line<Item>();

  constructor(
    readonly index: number,
    readonly name: string,
  ) {}

  /** Whether a record that does not ask would be taken in. */
  get hasRoom(): boolean {
    const { bulk } = this;
    if (!this.isOpen) return bulk.count < HELD_RECORDS_MAX && bulk.bytes < HELD_BYTES_MAX;
    return this.sentRecords + bulk.count < this.allowed.records && this.sentBytes + bulk.bytes < this.allowed.bytes;
  }
}

const NOTHING: Allowance = { records: 0, bytes: 0 };
/** What is taken in for a server that is away. */
const HELD_RECORDS_MAX = 1024;
const HELD_BYTES_MAX = 16 * 2 ** 20;
/** Of records that ask and are unanswered. */
const ASKED_BYTES_MAX = 64 * 2 ** 20;
/** One message holds at most so much, so that others get their turn and the server can begin. */
const CHUNK_RECORDS_MAX = 1024;
const CHUNK_BYTES_MAX = 2 ** 20;
/** A server that has the record says itself that its deadline passed, and whether it ran; it is waited for so long. */
const LAST_WORD_MS = 100;

export interface BookLimits {
  /** Most records in one message. */
  readonly records: number;
  /** Most asked records of all channels that may be unanswered. */
  readonly asked: number;
}

export class LaneBook<Item> {
  /** As the last server said. */
  limits: BookLimits = { records: CHUNK_RECORDS_MAX, asked: CHUNK_RECORDS_MAX };
  readonly channels: LaneChannel<Item>[] = [];
  /** Unsettled, by number, in their order. */
  readonly #calls = new Map<number, LaneCall<Item>>();
  readonly #deadlines = new Deadlines<LaneCall<Item>>();
  #lastId = 0;
  #askedBytes = 0;
  /** Those that ask and are unanswered, and how many of them were sent. */
  askedCount = 0;
  #sentAsked = 0;

  get count(): number {
    return this.#calls.size;
  }

  /** When `expired` has something, Infinity for never. */
  get nextAt(): number {
    return this.#deadlines.nextAt;
  }

  add(name: string): LaneChannel<Item> {
    const channel = new LaneChannel<Item>(this.channels.length, name);
    this.channels.push(channel);
    return channel;
  }

  get(id: number): LaneCall<Item> | undefined {
    return this.#calls.get(id);
  }

  all(): IterableIterator<LaneCall<Item>> {
    return this.#calls.values();
  }

  /** Undefined where there is no room (B2). */
  offer(
    channel: LaneChannel<Item>,
    item: Item,
    asked: boolean,
    bytes: number,
    deadlineAt: number,
  ): LaneCall<Item> | undefined {
    if (asked) {
      if (this.askedCount >= this.limits.asked || this.#askedBytes >= ASKED_BYTES_MAX) return undefined;
      this.askedCount++;
      this.#askedBytes += bytes;
    } else if (!channel.hasRoom) return undefined;
    const call = new LaneCall(++this.#lastId, channel, item, asked, bytes, deadlineAt);
    this.#calls.set(call.id, call);
    this.#deadlines.add(call);
    (asked ? channel.asked : channel.bulk).push(call);
    return call;
  }

  /** What is to be sent now as one message, all of it asking or none; empty where nothing is. */
  take(channel: LaneChannel<Item>): LaneCall<Item>[] {
    const chunk: LaneCall<Item>[] = [];
    if (!channel.isOpen) return chunk;
    const most = Math.min(CHUNK_RECORDS_MAX, this.limits.records);
    let line = channel.asked;
    let room = Math.min(most, this.limits.asked - this.#sentAsked);
    if (line.count === 0 || room <= 0) {
      line = channel.bulk;
      const { allowed, sentRecords, sentBytes } = channel;
      room = sentBytes < allowed.bytes ? Math.min(most, allowed.records - sentRecords) : 0; // B2
    }
    let bytes = 0;
    while (chunk.length < room && bytes < CHUNK_BYTES_MAX) {
      const call = line.shift();
      if (call === undefined) break;
      call.place = 'sent';
      call.serverCount++;
      this.#deadlines.move(call, call.deadlineAt + LAST_WORD_MS);
      bytes += call.bytes;
      chunk.push(call);
    }
    if (chunk[0]?.asked === true) this.#sentAsked += chunk.length;
    else channel.sentRecords += chunk.length;
    return chunk;
  }

  /** One that was taken did not go out, and will not. */
  unsent(call: LaneCall<Item>): void {
    call.serverCount--;
    if (!call.asked) call.channel.sentRecords--;
  }

  /** Those at the end of what was taken did not go out: they are first the next time. */
  putBack(channel: LaneChannel<Item>, calls: readonly LaneCall<Item>[]): void {
    for (const call of calls) {
      this.unsent(call);
      if (call.asked) this.#sentAsked--;
      this.#hold(call);
    }
    (calls[0]?.asked === true ? channel.asked : channel.bulk).unshift(calls);
  }

  /** What a message of records that do not ask had as bytes on the wire. */
  charge(channel: LaneChannel<Item>, bytes: number): void {
    channel.sentBytes += bytes;
  }

  /** B1: the record leaves. Undefined where it has left before. */
  settle(id: number): LaneCall<Item> | undefined {
    const call = this.#calls.get(id);
    if (call === undefined) return undefined;
    const { channel } = call;
    this.#calls.delete(id);
    this.#deadlines.remove(call);
    if (call.asked) {
      this.askedCount--;
      this.#askedBytes -= call.bytes;
      if (call.place === 'sent') this.#sentAsked--;
    }
    if (call.place === 'held') (call.asked ? channel.asked : channel.bulk).leave(call);
    call.place = 'settled';
    return call;
  }

  /** One whose deadline has come; it has not left yet. */
  takeExpired(now: number): LaneCall<Item> | undefined {
    return this.#deadlines.takeDue(now);
  }

  allow(channel: LaneChannel<Item>, { records, bytes }: Allowance): void {
    channel.allowed = { records, bytes };
  }

  open(
    channel: LaneChannel<Item>,
    terms: Allowance & { readonly repeatable: boolean; readonly attempts: number },
  ): void {
    channel.isOpen = true;
    channel.isOpening = false;
    channel.wasOpen = true;
    channel.missingSince = undefined;
    channel.missing = undefined;
    channel.repeatable = terms.repeatable;
    channel.attempts = terms.attempts;
    this.allow(channel, terms);
  }

  /** Nothing can be sent until the channels are opened again. */
  cut(): void {
    for (const channel of this.channels) {
      channel.isOpen = false;
      channel.isOpening = false;
      channel.allowed = NOTHING;
      channel.sentRecords = 0;
      channel.sentBytes = 0;
    }
  }

  /** A server has let the client in. What it cannot be sent again has left as lost (B3, B4). */
  welcomed(resumed: boolean, known: readonly number[]): readonly LaneCall<Item>[] {
    const there = new Set(known);
    const lost: LaneCall<Item>[] = [];
    const lines = new Set<Line<Item>>();
    for (const call of this.#calls.values()) {
      if (call.place !== 'sent') continue;
      if (resumed) {
        if (there.has(call.id)) continue;
        call.serverCount--; // It has not run there.
      } else if (!call.channel.repeatable || call.serverCount >= call.channel.attempts) {
        lost.push(call);
        continue;
      }
      if (call.asked) this.#sentAsked--;
      this.#hold(call);
      lines.add(call.asked ? call.channel.asked : call.channel.bulk);
    }
    for (const { id } of lost) this.settle(id);
    if (lines.size > 0) this.#holdAnew(lines);
    return lost;
  }

  #hold(call: LaneCall<Item>): void {
    call.place = 'held';
    this.#deadlines.move(call, call.deadlineAt);
  }

  /** B5. */
  #holdAnew(lines: ReadonlySet<Line<Item>>): void {
    for (const line of lines) line.clear();
    for (const call of this.#calls.values()) {
      const line = call.asked ? call.channel.asked : call.channel.bulk;
      if (call.place === 'held' && lines.has(line)) line.push(call);
    }
  }
}

/** Held records in their order. What has left it in the middle stands there until it comes to the front. */
class Line<Item> {
  count = 0;
  bytes = 0;
  #calls: LaneCall<Item>[] = [];
  #head = 0;

  push(call: LaneCall<Item>): void {
    this.count++;
    this.bytes += call.bytes;
    this.#calls.push(call);
  }

  unshift(calls: readonly LaneCall<Item>[]): void {
    this.count += calls.length;
    for (const { bytes } of calls) this.bytes += bytes;
    this.#calls = [...calls, ...this.#calls.slice(this.#head)];
    this.#head = 0;
  }

  shift(): LaneCall<Item> | undefined {
    for (;;) {
      const call = this.#calls[this.#head];
      if (call === undefined) return undefined;
      if (++this.#head >= 1024 && this.#head * 2 >= this.#calls.length) {
        this.#calls = this.#calls.slice(this.#head);
        this.#head = 0;
      }
      if (call.place !== 'held') continue;
      this.count--;
      this.bytes -= call.bytes;
      return call;
    }
  }

  leave(call: LaneCall<Item>): void {
    this.count--;
    this.bytes -= call.bytes;
    if (this.count === 0) this.clear();
  }

  clear(): void {
    this.count = 0;
    this.bytes = 0;
    this.#calls = [];
    this.#head = 0;
  }
}
