/**
 * The bounded inbox of a pool: what waits for a replica, and in which order it goes.
 *
 * Owns the waiting records and the door, where callers with the rule `wait` stand while it is full. Does not own
 * deadlines (deadlines.ts), batch limits (batcher.ts) or anything in flight (ledger.ts).
 *
 * M1 held <= capacity and heldBytes <= capacityBytes, always. M2 the same holds for the door.
 * M3 every request that came in leaves exactly once: by take, remove, or as the victim of drop-oldest.
 * M4 inside one sender, bucket and priority, order of arrival. M5 inside one priority senders take turns of an eighth of
 * a batch, one record at least, so that what goes back to a sender goes back in runs; a sender that
 * had nothing waiting comes next while it has not had its whole turn of this round, so that the light ones do not wait
 * for the turns of the heavy ones. (Deficit round robin with sparse flows first, as in RFC 8290, FQ-CoDel.) Where others
 * have waited for `ageingMs`, it comes after them: every call of a caller is a new sender, and there may be no end of them.
 * M6 a record gains one level of priority per `ageingMs` waited, so nothing starves.
 * M7 while another sender waits for room, no sender is let in beyond its share of the capacity; under drop-oldest it
 * pays with its own records. M8 at the door nobody overtakes, but for those whose sender must wait because of M7.
 * M9 of the records of one key only the first that has not settled can be taken; the others are held back: they count in
 * `held` and can be removed, but stand in no bucket. Order in a key is that of acceptance into the mailbox.
 * M10 while two versions share the work, what is for one of them stands in a bucket of its own. M11 the records of one
 * bucket are for one model.
 */

import { invariant } from '../kernel/errors.js';
import { KeyGate } from './key-gate.js';
import type { Request } from './request.js';
import { insertAt, removeAt } from './short-list.js';
import { SIDE, type Side } from './traffic-split.js';

/** `try` is the rule of stream operators: refused without a trace, they come back when there is room. */
export type Overflow = 'reject' | 'wait' | 'drop-oldest' | 'drop-newest' | 'try';

export interface MailboxLimits {
  readonly capacity: number;
  readonly capacityBytes: number;
  readonly ageingMs: number;
  /** How long a record that has a deadline waits to be sent for the first time. Default Infinity. */
  readonly maxWaitMs?: number;
}

/** How an offer ended. `door`: it waits outside until there is room. `dropped`: the newcomer itself is the victim. */
export type Offer = 'accepted' | 'door' | 'full' | 'dropped' | 'too-large';

/** A turn is this share of a batch, and no longer than this; a record counts for each TURN_BYTES begun, so that large ones alternate. */
const TURNS_PER_BATCH = 8;
const TURN_MAX = 16;
const TURN_BYTES = 4096;

/** How long newcomers may go before those who wait, where ageing is off. */
const PATIENCE_MS = 1000;

/** The records of one sender, of one priority, in one bucket. */
export class SenderQueue {
  head: Request | undefined = undefined;
  tail: Request | undefined = undefined;
  /** How much of its turn it has had, in the round it was served last. */
  used = 0;
  round = 0;
  constructor(
    public sender: number,
    public level: Level,
    public share: Share,
  ) {}
}

/** One priority of one bucket: its senders take turns. */
class Level {
  readonly senders: SenderQueue[] = [];
  /** Whose turn it is; those before have had theirs in this round. */
  turn = 0;
  /** Those before it that have not had their turn had nothing waiting when they came; among them, first come first served. */
  newEnd = 0;
  /** Of no other level, now or before. */
  round = 0;
  constructor(
    public priority: number,
    public bucket: Bucket,
  ) {}
}

/** Records that may share a batch. */
export class Bucket {
  readonly levels: Level[] = [];
  count = 0;
  bytes = 0;
  weight = 0;
  /** Records that arrived up to this instant are to go without waiting for company. */
  flushedAt = -Infinity;
  #earliestDeadlineAt = Infinity;
  #deadlineIsStale = false;
  constructor(
    public name: string,
    public side: Side,
    public model: string | undefined,
  ) {}

  /** Arrival of the oldest record, Infinity when empty. */
  get oldestAt(): number {
    let oldestAt = Infinity;
    const { levels } = this;
    for (let l = 0; l < levels.length; l++) {
      const { senders } = levels[l] as Level;
      for (let s = 0; s < senders.length; s++) {
        const { offeredAt } = (senders[s] as SenderQueue).head as Request;
        if (offeredAt < oldestAt) oldestAt = offeredAt;
      }
    }
    return oldestAt;
  }

  /** Earliest deadline of all records; looked for anew only after the one that had it is gone. */
  get earliestDeadlineAt(): number {
    if (!this.#deadlineIsStale) return this.#earliestDeadlineAt;
    let earliestAt = Infinity;
    const { levels } = this;
    for (let l = 0; l < levels.length; l++) {
      const { senders } = levels[l] as Level;
      for (let s = 0; s < senders.length; s++) {
        for (let r = (senders[s] as SenderQueue).head; r !== undefined; r = r.next)
          if (r.deadlineAt < earliestAt) earliestAt = r.deadlineAt;
      }
    }
    this.#earliestDeadlineAt = earliestAt;
    this.#deadlineIsStale = false;
    return earliestAt;
  }

  counted(request: Request): void {
    this.count++;
    this.bytes += request.bytes;
    this.weight += request.weight;
    if (request.deadlineAt < this.#earliestDeadlineAt) this.#earliestDeadlineAt = request.deadlineAt;
  }

  uncounted(request: Request): void {
    this.count--;
    this.bytes -= request.bytes;
    this.weight -= request.weight;
    if (request.deadlineAt === this.#earliestDeadlineAt && request.deadlineAt !== Infinity) {
      if (this.count > 0) this.#deadlineIsStale = true;
      else {
        this.#deadlineIsStale = false;
        this.#earliestDeadlineAt = Infinity;
      }
    }
  }
}

interface Share {
  held: number;
  /** Waits for room: at the door, or by `wantRoom`. */
  wants: number;
  /** By `wantRoom`. */
  comesAgain: boolean;
  /** The round in which it last ran dry, and how much of its turn it had had. */
  round: number;
  used: number;
}

/** Bounds what is remembered of senders that have nothing here; a handful of operators and askers is usual. */
const IDLE_SHARES_MAX = 32;

export class Mailbox {
  held = 0;
  heldBytes = 0;
  /** Records that have left it, whichever way. */
  leftCount = 0;
  /** Those that hold something; a list because it is gone through every turn, and few shapes wait at a time. */
  readonly buckets: Bucket[] = [];
  readonly limits: MailboxLimits;
  /** Idle ones stay for a while: most senders come again at once. */
  readonly #shares = new Map<number, Share>();
  #activeShares = 0;
  #rounds = 0;
  /** Records, as of the last batch. */
  #turnLength = 1;
  #wanting = 0;
  /** First come, first served; a Set because a caller may leave from the middle. */
  readonly #door = new Set<Request>();
  #doorBytes = 0;
  readonly #keys = new KeyGate();
  readonly #heldBack = new Set<Request>();
  // One of each that fell empty: under light load every record would make all three anew.
  #spareBucket: Bucket | undefined = undefined;
  #spareLevel: Level | undefined = undefined;
  #spareQueue: SenderQueue | undefined = undefined;

  constructor(limits: MailboxLimits) {
    this.limits = limits;
  }

  get doorCount(): number {
    return this.#door.size;
  }

  /** Has room for at least one record of one byte. */
  get hasRoom(): boolean {
    return this.held < this.limits.capacity && this.heldBytes < this.limits.capacityBytes;
  }

  /** As hasRoom, for one sender: where others wait, its share has room too. */
  hasRoomFor(sender: number): boolean {
    return this.hasRoom && this.#inShare(sender);
  }

  bucket(name: string, side: Side = SIDE.any): Bucket | undefined {
    const { buckets } = this;
    for (let b = 0; b < buckets.length; b++) {
      const bucket = buckets[b] as Bucket;
      if (bucket.name === name && bucket.side === side) return bucket;
    }
    return undefined;
  }

  /** Takes the request in, or says why not. Victims of drop-oldest are appended to `victims`. */
  offer(request: Request, overflow: Overflow, victims: Request[]): Offer {
    if (request.bytes > this.limits.capacityBytes) return 'too-large';
    if (this.#fits(request)) {
      // Whoever stands at the door came first.
      if (this.#door.size === 0 || overflow !== 'wait') {
        this.#push(request);
        return 'accepted';
      }
    }
    switch (overflow) {
      case 'reject':
      case 'try':
        return 'full';
      case 'drop-newest':
        return 'dropped';
      case 'wait':
        if (this.#door.size >= this.limits.capacity) return 'full'; // M2
        if (this.#doorBytes + request.bytes > this.limits.capacityBytes) return 'full'; // M2
        this.#door.add(request);
        this.#doorBytes += request.bytes;
        request.place = 'door';
        this.#want(this.#share(request.sender), 1);
        return 'door';
      case 'drop-oldest':
        while (!this.#fits(request)) {
          const victim = this.#oldest(this.#inShare(request.sender) ? undefined : request.sender); // M7
          if (victim === undefined) return 'full';
          this.remove(victim);
          victims.push(victim);
        }
        this.#push(request);
        return 'accepted';
    }
  }

  /** The sender was refused and will come again: counts as waiting for fairness until `gotRoom`. */
  wantRoom(sender: number): void {
    const share = this.#share(sender);
    if (share.comesAgain) return;
    share.comesAgain = true;
    this.#want(share, 1);
  }

  gotRoom(sender: number): void {
    const share = this.#shares.get(sender);
    if (share === undefined || !share.comesAgain) return;
    share.comesAgain = false;
    this.#want(share, -1);
  }

  /**
   * So many records at least go before this one, were it let in now: those of its sender in its bucket, unless it is
   * more urgent than some. What else waits may or may not.
   */
  aheadOf(request: Request): number {
    const bucket = this.bucket(request.bucket, request.side);
    if (bucket === undefined) return 0;
    const { levels } = bucket;
    for (let l = 0; l < levels.length; l++) if ((levels[l] as Level).priority < request.priority) return 0;
    const share = this.#shares.get(request.sender);
    return share === undefined ? 0 : Math.min(bucket.count, Math.max(0, share.held - this.#heldBack.size));
  }

  /** Lets in from the door what fits now, first come first served. */
  admit(): void {
    // Whoever is let in waits no longer, which can free the share of one that was passed over: so again.
    while (this.#door.size > 0 && this.#admitRound());
  }

  /** True if somebody was let in past another, so that a second look is worth it. */
  #admitRound(): boolean {
    let passedOver: Set<number> | undefined;
    let again = false;
    for (const request of this.#door) {
      if (!this.#hasSpace(request)) return again; // M8
      if (passedOver?.has(request.sender)) continue; // M4
      if (!this.#inShare(request.sender)) {
        passedOver ??= new Set();
        passedOver.add(request.sender);
        continue;
      }
      this.#leaveDoor(request);
      this.#push(request);
      again = passedOver !== undefined;
    }
    return again;
  }

  /** Takes a waiting request out, wherever it stands: it was cancelled or has expired. */
  remove(request: Request): void {
    if (request.place === 'door') {
      this.#leaveDoor(request);
      request.place = 'nowhere';
      return;
    }
    const queue = request.queue;
    if (queue === undefined) {
      invariant(this.#heldBack.delete(request), 'M3: only what waits can leave');
      this.#release(request, this.#share(request.sender));
      return;
    }
    invariant(request.place === 'mailbox', 'M3: only what waits can leave');
    if (request.prev === undefined) queue.head = request.next;
    else request.prev.next = request.next;
    if (request.next === undefined) queue.tail = request.prev;
    else request.next.prev = request.prev;
    request.prev = undefined;
    request.next = undefined;
    request.queue = undefined;
    queue.level.bucket.uncounted(request);
    const { share } = queue;
    if (queue.head === undefined) this.#dropQueue(queue);
    this.#release(request, share);
  }

  #release(request: Request, share: Share): void {
    request.place = 'nowhere';
    this.held--;
    this.leftCount++;
    this.heldBytes -= request.bytes;
    share.held--;
    if (share.held === 0 && share.wants === 0) this.#idle();
  }

  /** A record that has a key has settled: the next of that key may go now (M9). */
  settled(request: Request, key: string): void {
    const next = this.#keys.leave(request, key);
    if (next !== undefined && this.#heldBack.delete(next)) this.#link(next);
  }

  /** Takes everything out, the door included: the pool ends. */
  empty(): Request[] {
    if (this.held === 0 && this.#door.size === 0) return [];
    const all: Request[] = [...this.#door, ...this.#heldBack];
    for (const bucket of this.buckets) {
      for (const level of bucket.levels)
        for (const queue of level.senders) for (let r = queue.head; r !== undefined; r = r.next) all.push(r);
    }
    for (const request of all) this.remove(request);
    return all;
  }

  /** Everything of this model that waits, the door included. */
  of(model: string): Request[] {
    const all: Request[] = [];
    for (const bucket of this.buckets) {
      if (bucket.model !== model) continue;
      for (const level of bucket.levels)
        for (const queue of level.senders) for (let r = queue.head; r !== undefined; r = r.next) all.push(r);
    }
    for (const request of this.#heldBack) if (request.model === model) all.push(request);
    for (const request of this.#door) if (request.model === model) all.push(request);
    return all;
  }

  /** Sorts what waits (of one model, where given) into other buckets: the shapes became known after it had arrived. */
  rebucket(bucketOf: (request: Request) => string, model?: string): void {
    const all: Request[] = [];
    for (const bucket of this.buckets) {
      if (model !== undefined && bucket.model !== model) continue;
      for (const level of bucket.levels)
        for (const queue of level.senders) for (let r = queue.head; r !== undefined; r = r.next) all.push(r);
    }
    for (const request of all) this.remove(request);
    // M4: what was apart may come together, and then arrival counts.
    all.sort((a, b) => a.offeredAt - b.offeredAt || a.id - b.id);
    for (const request of all) {
      request.bucket = bucketOf(request);
      this.#hold(request, this.#link(request));
    }
    for (const request of this.#heldBack)
      if (model === undefined || request.model === model) request.bucket = bucketOf(request);
    for (const request of this.#door)
      if (model !== undefined && request.model === model) request.bucket = bucketOf(request);
  }

  /** M10: sorts what has a key by the version its key goes to, as of now. */
  resort(sideOf: (key: string) => Side): void {
    const moved: Request[] = [];
    for (const bucket of this.buckets) {
      for (const level of bucket.levels)
        for (const queue of level.senders)
          for (let r = queue.head; r !== undefined; r = r.next)
            if (r.key !== undefined && r.side !== sideOf(r.key)) moved.push(r);
    }
    for (const request of moved) {
      const { level } = request.queue as SenderQueue;
      const { flushedAt } = level.bucket;
      this.remove(request);
      request.side = sideOf(request.key as string);
      this.#hold(request, this.#link(request));
      const { bucket } = (request.queue as SenderQueue).level;
      bucket.flushedAt = Math.max(bucket.flushedAt, flushedAt);
    }
    for (const request of this.#heldBack) request.side = sideOf(request.key as string);
    for (const request of this.#door) if (request.key !== undefined) request.side = sideOf(request.key);
  }

  /** Takes up to the limits from one bucket: by effective priority, then turn of sender, then arrival (M4-M6). */
  take(bucket: Bucket, maxSize: number, maxBytes: number, maxWeight: number, now: number): Request[] {
    const level = bucket.levels[0];
    if (bucket.levels.length === 1 && level?.senders.length === 1 && maxSize > 0)
      return this.#takeRun(level.senders[0] as SenderQueue, maxSize, maxBytes, maxWeight);
    const taken: Request[] = [];
    let bytes = 0;
    let weight = 0;
    this.#turnLength = Math.min(TURN_MAX, Math.max(1, Math.floor(maxSize / TURNS_PER_BATCH)));
    while (taken.length < maxSize) {
      const request = this.#next(bucket, now);
      if (request === undefined) break;
      if (taken.length > 0 && (bytes + request.bytes > maxBytes || weight + request.weight > maxWeight)) break;
      bytes += request.bytes;
      weight += request.weight;
      this.#passTurn(request);
      this.remove(request);
      taken.push(request);
    }
    return taken;
  }

  /** As `take`, where only one sender has something: the front of its queue is cut off as a whole. */
  #takeRun(queue: SenderQueue, maxSize: number, maxBytes: number, maxWeight: number): Request[] {
    const { level, share } = queue;
    const { bucket } = level;
    let request = queue.head;
    // Many a batch is of one, for which an empty list would be made room for many in.
    const taken = [request as Request];
    let count = 0;
    let bytes = 0;
    let weight = 0;
    // M5: whoever comes next has the next turn, as after a take among many.
    if (request !== queue.tail && level.turn === 0) level.turn = 1;
    while (request !== undefined && count < maxSize) {
      if (count > 0 && (bytes + request.bytes > maxBytes || weight + request.weight > maxWeight)) break;
      const { next } = request as Request;
      bytes += request.bytes;
      weight += request.weight;
      request.place = 'nowhere';
      request.queue = undefined;
      request.prev = undefined;
      request.next = undefined;
      bucket.uncounted(request);
      if (count++ > 0) taken.push(request);
      request = next;
    }
    queue.head = request;
    if (request === undefined) queue.tail = undefined;
    else request.prev = undefined;
    this.held -= count;
    this.leftCount += count;
    this.heldBytes -= bytes;
    share.held -= count;
    if (request === undefined) this.#dropQueue(queue);
    if (share.held === 0 && share.wants === 0) this.#idle();
    return taken;
  }

  /** The highest effective priority in the bucket, for choosing between buckets. */
  urgency(bucket: Bucket, now: number): number {
    let highest = -Infinity;
    const { levels } = bucket;
    for (let l = 0; l < levels.length; l++) {
      const effective = this.#effective(levels[l] as Level, now);
      if (effective > highest) highest = effective;
    }
    return highest;
  }

  #next(bucket: Bucket, now: number): Request | undefined {
    const levels = bucket.levels;
    let best = levels[0];
    if (best === undefined) return undefined;
    let aged = false;
    if (levels.length > 1) {
      let highest = -Infinity;
      for (let l = 0; l < levels.length; l++) {
        const level = levels[l] as Level;
        const effective = this.#effective(level, now);
        if (effective > highest || (effective === highest && level.priority > (best as Level).priority)) {
          best = level;
          highest = effective;
        }
      }
      aged = highest > (best as Level).priority;
    }
    const senders = (best as Level).senders;
    if (senders.length === 1) return (senders[0] as SenderQueue).head;
    if (aged) {
      // M6: it was chosen for its age, so the oldest goes, whosever turn it is.
      let oldest = (senders[0] as SenderQueue).head as Request;
      for (let s = 0; s < senders.length; s++) {
        const head = (senders[s] as SenderQueue).head as Request;
        if (head.offeredAt < oldest.offeredAt) oldest = head;
      }
      return oldest;
    }
    const level = best as Level;
    if (level.turn >= senders.length) {
      level.turn = 0;
      level.newEnd = 0;
      level.round = ++this.#rounds;
    }
    return (senders[level.turn] as SenderQueue).head;
  }

  /** M5: a turn is used up by records that really go, else one too large for the rest of a batch would lose it. */
  #passTurn(request: Request): void {
    const queue = request.queue as SenderQueue;
    const { level } = queue;
    if (level.senders[level.turn] !== queue) return;
    if (queue.round !== level.round) {
      queue.round = level.round;
      queue.used = 0;
    }
    queue.used += Math.ceil((request.bytes + 1) / TURN_BYTES);
    // A queue that is about to vanish makes the next one slide into its place.
    if (queue.used >= this.#turnLength && queue.head !== queue.tail) level.turn++;
  }

  #effective(level: Level, now: number): number {
    const { ageingMs } = this.limits;
    if (ageingMs === 0) return level.priority;
    let oldestAt = Infinity;
    const { senders } = level;
    for (let s = 0; s < senders.length; s++) {
      const { offeredAt } = (senders[s] as SenderQueue).head as Request;
      if (offeredAt < oldestAt) oldestAt = offeredAt;
    }
    return oldestAt === Infinity ? level.priority : level.priority + Math.floor((now - oldestAt) / ageingMs);
  }

  #fits(request: Request): boolean {
    return this.#hasSpace(request) && this.#inShare(request.sender);
  }

  #hasSpace(request: Request): boolean {
    return this.held < this.limits.capacity && this.heldBytes + request.bytes <= this.limits.capacityBytes;
  }

  /** M7: where others wait for room, a sender keeps to its share. Its own wish does not count against it. */
  #inShare(sender: number): boolean {
    if (this.#wanting === 0) return true;
    const share = this.#shares.get(sender);
    if (share === undefined) return true;
    const othersWait = this.#wanting - (share.wants > 0 ? 1 : 0) > 0;
    return !othersWait || share.held < Math.max(1, Math.floor(this.limits.capacity / this.#activeShares));
  }

  #push(request: Request): void {
    const { key } = request;
    if (key === undefined || this.#keys.enter(request, key)) {
      this.#hold(request, this.#link(request));
      return;
    }
    this.#heldBack.add(request);
    this.#hold(request, this.#share(request.sender));
  }

  #hold(request: Request, share: Share): void {
    request.place = 'mailbox';
    this.held++;
    this.heldBytes += request.bytes;
    if (share.held === 0 && share.wants === 0) this.#activeShares++;
    share.held++;
    invariant(
      this.held <= this.limits.capacity && this.heldBytes <= this.limits.capacityBytes,
      'M1: a mailbox never holds more than its capacity',
    );
  }

  /** Puts it where it can be taken. */
  #link(request: Request): Share {
    const queue = this.#queueOf(request);
    const { bucket } = queue.level;
    request.queue = queue;
    let next: Request | undefined;
    if (request.keyPlace !== undefined && queue.tail !== undefined && queue.tail.id > request.id) {
      // M4: it was held back, and came before most of those that wait by now.
      next = queue.head;
      while (next !== undefined && next.id < request.id) next = next.next;
    }
    request.next = next;
    request.prev = next === undefined ? queue.tail : next.prev;
    if (request.prev === undefined) queue.head = request;
    else request.prev.next = request;
    if (next === undefined) queue.tail = request;
    else next.prev = request;
    bucket.counted(request);
    return queue.share;
  }

  #queueOf(request: Request): SenderQueue {
    let bucket = this.bucket(request.bucket, request.side);
    if (bucket === undefined) {
      bucket = this.#newBucket(request);
      this.buckets.push(bucket);
    }
    const { levels } = bucket;
    let level: Level | undefined;
    for (let l = 0; l < levels.length; l++)
      if ((levels[l] as Level).priority === request.priority) {
        level = levels[l] as Level;
        break;
      }
    if (level === undefined) {
      level = this.#newLevel(request.priority, bucket);
      levels.push(level);
    }
    const { senders } = level;
    for (let s = 0; s < senders.length; s++)
      if ((senders[s] as SenderQueue).sender === request.sender) return senders[s] as SenderQueue;
    const queue = this.#newQueue(request.sender, level);
    const { share } = queue;
    queue.round = level.round;
    queue.used = share.round === level.round ? share.used : 0;
    const turn = Math.min(level.turn, senders.length);
    const at = Math.max(turn, level.newEnd);
    const isLate = this.#isLate(senders[0], request) || this.#isLate(senders[at], request);
    if (queue.used < this.#turnLength && !isLate) {
      insertAt(senders, at, queue);
      level.newEnd = at + 1;
    } else {
      insertAt(senders, turn, queue);
      level.turn = turn + 1;
      if (level.newEnd > turn) level.newEnd++;
    }
    return queue;
  }

  /** M5: newcomers have gone before it for long enough; while they do, the round has no end, and nobody's next turn comes. */
  #isLate(waiting: SenderQueue | undefined, newcomer: Request): boolean {
    if (waiting === undefined) return false;
    const patienceMs = this.limits.ageingMs === 0 ? PATIENCE_MS : this.limits.ageingMs;
    return newcomer.offeredAt - (waiting.head as Request).offeredAt >= patienceMs;
  }

  #dropQueue(queue: SenderQueue): void {
    const { level, share } = queue;
    share.round = queue.round;
    share.used = queue.used;
    const at = removeFrom(level.senders, queue);
    this.#spareQueue = queue;
    if (at < level.turn) level.turn--;
    if (at < level.newEnd) level.newEnd--;
    if (level.senders.length > 0) return;
    const bucket = level.bucket;
    removeFrom(bucket.levels, level);
    this.#spareLevel = level;
    if (bucket.count > 0) return;
    removeFrom(this.buckets, bucket);
    this.#spareBucket = bucket;
  }

  #newQueue(sender: number, level: Level): SenderQueue {
    const share = this.#share(sender);
    const queue = this.#spareQueue;
    if (queue === undefined) return new SenderQueue(sender, level, share);
    this.#spareQueue = undefined;
    queue.sender = sender;
    queue.level = level;
    queue.share = share;
    return queue;
  }

  #newLevel(priority: number, bucket: Bucket): Level {
    const level = this.#spareLevel ?? new Level(priority, bucket);
    this.#spareLevel = undefined;
    level.turn = 0;
    level.newEnd = 0;
    level.round = ++this.#rounds;
    level.priority = priority;
    level.bucket = bucket;
    return level;
  }

  #newBucket({ bucket: name, side, model }: Request): Bucket {
    const bucket = this.#spareBucket;
    if (bucket === undefined) return new Bucket(name, side, model);
    this.#spareBucket = undefined;
    bucket.name = name;
    bucket.side = side;
    bucket.model = model;
    bucket.flushedAt = -Infinity;
    return bucket;
  }

  /** The victim of drop-oldest: of the lowest priority, the one that waits longest; of one sender, where given. */
  #oldest(sender: number | undefined): Request | undefined {
    let victim: Request | undefined;
    for (let b = 0; b < this.buckets.length; b++) {
      const { levels } = this.buckets[b] as Bucket;
      for (let l = 0; l < levels.length; l++) {
        const { senders } = levels[l] as Level;
        for (let s = 0; s < senders.length; s++) {
          const head = (senders[s] as SenderQueue).head as Request;
          if (sender !== undefined && head.sender !== sender) continue;
          if (isOlder(head, victim)) victim = head;
        }
      }
    }
    for (const request of this.#heldBack)
      if ((sender === undefined || request.sender === sender) && isOlder(request, victim)) victim = request;
    return victim;
  }

  #leaveDoor(request: Request): void {
    this.#door.delete(request);
    this.#doorBytes -= request.bytes;
    this.#want(this.#share(request.sender), -1);
  }

  #want(share: Share, by: 1 | -1): void {
    if (share.held === 0 && share.wants === 0) this.#activeShares++;
    if (share.wants === 0 && by === 1) this.#wanting++;
    share.wants += by;
    if (share.wants === 0) this.#wanting--;
    if (share.held === 0 && share.wants === 0) this.#idle();
  }

  /** A sender has nothing here any more; forgotten with the others once there are many of them. */
  #idle(): void {
    this.#activeShares--;
    if (this.#shares.size - this.#activeShares <= IDLE_SHARES_MAX) return;
    for (const [sender, { held, wants }] of this.#shares) if (held === 0 && wants === 0) this.#shares.delete(sender);
  }

  #share(sender: number): Share {
    let share = this.#shares.get(sender);
    if (share === undefined) {
      share = { held: 0, wants: 0, comesAgain: false, round: -1, used: 0 };
      this.#shares.set(sender, share);
    }
    return share;
  }
}

/** Of two that may be dropped, the one of lower priority goes, then the one that waits longer. */
function isOlder(request: Request, than: Request | undefined): boolean {
  return (
    than === undefined ||
    request.priority < than.priority ||
    (request.priority === than.priority && request.offeredAt < than.offeredAt)
  );
}

/** Where it stood. Mostly it is the last, and there was no other. */
function removeFrom<T>(array: T[], item: T): number {
  const last = array.length - 1;
  if (array[last] === item) {
    array.pop();
    return last;
  }
  const at = array.indexOf(item);
  removeAt(array, at);
  return at;
}
