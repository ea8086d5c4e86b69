/**
 * What the server of a framed lane remembers of one client: the records it has, what became of them, and what the client
 * may send. It outlives the connection for a while, so that a client that comes back finds its outcomes and nothing runs
 * twice. Synchronous and told the time; the edge owns sockets, pools and timers.
 *
 * W1 a record of a number that is here already is not taken a second time, however often it is sent.
 * W2 a record stays until the client has heard its outcome, or was cut off and the window has passed.
 * W3 no more records and bytes wait for a pool than were allowed, no more bytes for all pools together than `waitingBytes` and
 *    a message, and no more of those that ask are unanswered.
 * W4 when the connection is cut, what no replica has had is forgotten: it has not run, and may be sent again.
 * W5 outcomes that nobody fetches are kept up to `keptBytes`; beyond that the oldest are dropped, which the client is told.
 */
import type { Allowance } from '../wire/lane-messages.js';

export interface WindowLimits {
  /** Of one channel, waiting for room in the mailbox. */
  readonly inboxRecords: number;
  readonly inboxBytes: number;
  /** Bytes of all channels that wait for room in mailboxes: what comes beyond is refused. */
  readonly waitingBytes: number;
  /** Asked records that are unanswered. */
  readonly asked: number;
  /** Of outcomes that were not heard yet: beyond, nothing more is allowed; in the absence of the client the oldest go. */
  readonly keptBytes: number;
  /** How long a client that was cut off is remembered. */
  readonly windowMs: number;
}

const KEPT_OVER = 4;
const ASKED_HERE = 4;

export class WindowRecord<Work> {
  place: 'inbox' | 'offered' | 'answered' | 'gone' = 'inbox';
  constructor(
    readonly id: number,
    readonly channel: WindowChannel<Work>,
    readonly asked: boolean,
    readonly bytes: number,
    /** Gone when it is answered: nothing of it is needed any more but its number. */
    public work: Work | undefined,
  ) {}
}

/** Of one pool, on one connection. */
export class WindowChannel<Work> {
  readonly inbox: WindowRecord<Work>[] = [];
  readonly received = { records: 0, bytes: 0 };
  /** Those that have left the inbox. */
  readonly passed = { records: 0, bytes: 0 };
  told: Allowance = { records: 0, bytes: 0 };
}

/** One message of outcomes. `frame` is gone where it was dropped (W5). */
export interface KeptOutcomes<Frame> {
  readonly seq: number;
  readonly ids: readonly number[];
  readonly bytes: number;
  frame: Frame | undefined;
}

export class LaneWindow<Work, Frame> {
  readonly #limits: WindowLimits;
  readonly #records = new Map<number, WindowRecord<Work>>();
  #kept: KeptOutcomes<Frame>[] = [];
  #keptBytes = 0;
  #lastSeq = 0;
  #unanswered = 0;
  #asked = 0;
  /** Those that ask and were not forgotten, answered or not. */
  #askedHere = 0;
  /** Of what has come and was not passed on. */
  #waitingBytes = 0;
  #cutAt: number | undefined = undefined;

  constructor(limits: WindowLimits) {
    this.#limits = limits;
  }

  /** When it may be thrown away; Infinity while the client is there. */
  get expiresAt(): number {
    return this.#cutAt === undefined ? Infinity : this.#cutAt + this.#limits.windowMs;
  }

  get unansweredCount(): number {
    return this.#unanswered;
  }

  /** So much is kept for a client that nothing more is done for it until it has heard of some. */
  get isOverfull(): boolean {
    return this.#keptBytes > KEPT_OVER * this.#limits.keptBytes;
  }

  /** More waits for pools than may, of all channels together. */
  get isCrowded(): boolean {
    return this.#waitingBytes > this.#limits.waitingBytes;
  }

  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** Records that are here, answered or not. */
  ids(): number[] {
    return [...this.#records.keys()];
  }

  /**
   * A message of records came: those that are new (W1), in order, with the work that `workOf` makes of their places; a
   * string where the client sends more than it may (W3).
   */
  take(
    channel: WindowChannel<Work>,
    ids: readonly number[],
    asked: boolean,
    bytes: number,
    workOf: (index: number) => Work,
  ): WindowRecord<Work>[] | string {
    const count = ids.length;
    if (asked) {
      if (this.#asked + count > this.#limits.asked)
        return `more than ${this.#limits.asked} unanswered records that ask`;
      // Who asks on has heard what it was told: no more than this can be on the way to it.
      if (this.#askedHere + count > ASKED_HERE * this.#limits.asked)
        return 'more records that ask while it does not say that it heard of the others';
    } else {
      const { received, told } = channel;
      if (received.records + count > told.records || received.bytes >= told.bytes)
        return 'more records or bytes than it was allowed';
      received.records += count;
      received.bytes += bytes;
    }
    const share = Math.floor(bytes / count);
    const fresh: WindowRecord<Work>[] = [];
    for (let index = 0; index < count; index++) {
      const id = ids[index] as number;
      const ofIt = index === 0 ? bytes - share * (count - 1) : share;
      if (this.#records.has(id)) {
        if (!asked) pass(channel, ofIt);
        continue;
      }
      const record = new WindowRecord(id, channel, asked, ofIt, workOf(index));
      this.#records.set(id, record);
      this.#unanswered++;
      if (asked) {
        this.#asked++;
        this.#askedHere++;
      }
      if (!asked) {
        channel.inbox.push(record);
        this.#waitingBytes += ofIt;
      }
      fresh.push(record);
    }
    return fresh;
  }

  /** The pool has it: it no longer waits here. */
  offered(record: WindowRecord<Work>): void {
    record.place = 'offered';
    if (record.asked) return;
    record.channel.inbox.shift();
    this.#passed(record);
  }

  /** It waits no longer and no pool has had it: who sent it is to be told why. */
  turnedAway(record: WindowRecord<Work>): void {
    const { inbox } = record.channel;
    record.place = 'offered';
    inbox.splice(inbox.lastIndexOf(record), 1);
    this.#passed(record);
  }

  get(id: number): WindowRecord<Work> | undefined {
    return this.#records.get(id);
  }

  /** It has an outcome; false where nobody waits for it any more. */
  answered(record: WindowRecord<Work>): boolean {
    if (record.place !== 'offered') return false;
    record.place = 'answered';
    record.work = undefined;
    this.#leave(record);
    return true;
  }

  /** Nobody wants it, or it has not run and is sent again. */
  forget(record: WindowRecord<Work>): void {
    const { place, channel } = record;
    if (place === 'gone' || place === 'answered') return;
    if (place === 'inbox' && !record.asked) {
      const at = channel.inbox.indexOf(record);
      if (at >= 0) channel.inbox.splice(at, 1);
      this.#passed(record);
    }
    record.place = 'gone';
    record.work = undefined;
    if (record.asked) this.#askedHere--;
    this.#records.delete(record.id);
    this.#leave(record);
  }

  /** The number of the next message of outcomes. */
  nextSeq(): number {
    return this.#lastSeq + 1;
  }

  /** A message of outcomes was made, and is kept until it was heard (W2). */
  keep(ids: readonly number[], frame: Frame, bytes: number): void {
    this.#kept.push({ seq: ++this.#lastSeq, ids, bytes, frame });
    this.#keptBytes += bytes;
    if (this.#cutAt !== undefined) this.#evict();
  }

  /** The client has heard all up to this message. */
  heard(seq: number): void {
    let count = 0;
    for (const { seq: its, ids, bytes, frame } of this.#kept) {
      if (its > seq) break;
      count++;
      if (frame !== undefined) this.#keptBytes -= bytes;
      for (const id of ids) {
        if (this.#records.get(id)?.asked === true) this.#askedHere--;
        this.#records.delete(id);
      }
    }
    if (count > 0) this.#kept = this.#kept.slice(count);
  }

  /** The connection is gone. The inboxes are empty (W4); the records that pools have, for the edge to withdraw. */
  cut(now: number): WindowRecord<Work>[] {
    this.#cutAt = now;
    const offered: WindowRecord<Work>[] = [];
    for (const record of [...this.#records.values()]) {
      if (record.place === 'inbox') this.forget(record);
      else if (record.place === 'offered') offered.push(record);
    }
    this.#evict();
    return offered;
  }

  /** The client is back and has heard so much: what is to be sent to it again. */
  resumed(heard: number): readonly KeptOutcomes<Frame>[] {
    this.#cutAt = undefined;
    this.heard(heard);
    return this.#kept;
  }

  /** What the client is to be told that it may send; undefined where it knows. `isOpen`: the server takes more at all. */
  allowance(channel: WindowChannel<Work>, isOpen = true): Allowance | undefined {
    if (!isOpen || this.#keptBytes >= this.#limits.keptBytes) return undefined;
    const { inboxRecords, inboxBytes, waitingBytes } = this.#limits;
    // Others, whose pools have room, are not held up by one whose pool has none.
    if (channel.inbox.length > 0 && this.#waitingBytes >= waitingBytes / 2) return undefined;
    const { passed, told, received } = channel;
    const records = passed.records + inboxRecords;
    const bytes = passed.bytes + inboxBytes;
    const isWaiting = received.records >= told.records || received.bytes >= told.bytes;
    const isMore = records > told.records || bytes > told.bytes;
    const isMuch = records - told.records >= inboxRecords / 4 || bytes - told.bytes >= inboxBytes / 4;
    if (!isMore || !(isMuch || isWaiting)) return undefined;
    channel.told = { records, bytes };
    return channel.told;
  }

  #passed({ channel, bytes }: WindowRecord<Work>): void {
    this.#waitingBytes -= bytes;
    pass(channel, bytes);
  }

  #leave(record: WindowRecord<Work>): void {
    this.#unanswered--;
    if (record.asked) this.#asked--;
  }

  /** W5. */
  #evict(): void {
    for (const kept of this.#kept) {
      if (this.#keptBytes <= this.#limits.keptBytes) return;
      if (kept.frame === undefined) continue;
      kept.frame = undefined;
      this.#keptBytes -= kept.bytes;
    }
  }
}

function pass(channel: WindowChannel<unknown>, bytes: number): void {
  channel.passed.records++;
  channel.passed.bytes += bytes;
}
