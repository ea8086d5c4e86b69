import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { LaneBook, type LaneCall } from '../../src/serve/lane-book.js';
import { LaneWindow, WindowChannel, type WindowRecord } from '../../src/serve/lane-window.js';
import { sizes } from '../e2e/sizes.js';

/**
 * The two deciding halves of the lane with a wire between them that loses what is on it, a pool that runs records when it
 * likes, and servers that go. All of it under a time that is told, in every order that chance gives.
 */

const LIMITS = { inboxRecords: 8, inboxBytes: 800, waitingBytes: 100_000, asked: 6, keptBytes: 400, windowMs: 100 };
const RECORD_BYTES = 40;

class Net {
  readonly book = new LaneBook<number>();
  readonly channel = this.book.add('p');
  /** By record: how it ended, and how often it ran. */
  readonly ended = new Map<number, string[]>();
  readonly runs = new Map<number, number>();
  readonly serversOf = new Map<number, Set<number>>();
  readonly deadlines = new Map<number, number>();
  #window: LaneWindow<number, readonly number[]> | undefined;
  #there = new WindowChannel<number>();
  #server = 0;
  #isUp = false;
  #heard = 0;
  #now = 0;
  #toServer: { ids: number[]; asked: boolean; isCancel?: true }[] = [];
  #givenUp: number[] = [];
  #toClient: (() => void)[] = [];
  #pool: { record: WindowRecord<number>; isRunning: boolean }[] = [];
  #items = 0;

  constructor(
    private readonly t: ExecutionContext,
    readonly repeatable: boolean,
    readonly attempts: number,
  ) {}

  offer(asked: boolean, deadlineMs: number): void {
    const item = ++this.#items;
    const deadlineAt = this.#now + deadlineMs;
    const call = this.book.offer(this.channel, item, asked, RECORD_BYTES, deadlineAt);
    if (call === undefined) this.#items--;
    else {
      this.ended.set(item, []);
      this.deadlines.set(item, deadlineAt);
    }
  }

  send(): void {
    if (!this.#isUp) return;
    if (this.#givenUp.length > 0) this.#toServer.push({ ids: this.#givenUp, asked: false, isCancel: true });
    this.#givenUp = [];
    for (let chunk = this.book.take(this.channel); chunk.length > 0; chunk = this.book.take(this.channel)) {
      const asked = (chunk[0] as LaneCall<number>).asked;
      if (chunk.length === 3) this.book.putBack(this.channel, chunk.splice(2)); // Too large for one message.
      this.#toServer.push({ ids: chunk.map(({ id }) => id), asked });
      if (!asked) this.book.charge(this.channel, chunk.length * RECORD_BYTES);
    }
  }

  /** One message arrives at the server. */
  arrive(): void {
    const message = this.#toServer.shift();
    if (message === undefined || this.#window === undefined) return;
    const window = this.#window;
    if (message.isCancel) {
      for (const id of message.ids) this.#cancel(id);
      return;
    }
    const items = message.ids.map((id) => this.#itemOf(id));
    const fresh = window.take(
      this.#there,
      message.ids,
      message.asked,
      message.ids.length * RECORD_BYTES,
      (at) => items[at] as number,
    );
    if (typeof fresh === 'string') return this.t.fail(fresh);
    for (const record of fresh) {
      if (!message.asked) continue;
      window.offered(record);
      this.#pool.push({ record, isRunning: false });
    }
    this.t.true(this.#there.inbox.length <= LIMITS.inboxRecords, 'W3');
  }

  /** The mailbox has room for one more. */
  admit(): void {
    const record = this.#there.inbox[0];
    if (record === undefined) return;
    this.#pool.push({ record, isRunning: false });
    this.#window?.offered(record);
    this.#grant();
  }

  begin(at: number): void {
    const waiting = this.#pool.filter(({ isRunning }) => !isRunning);
    const one = waiting[at % Math.max(1, waiting.length)];
    if (one === undefined) return;
    one.isRunning = true;
    const item = one.record.work as number;
    this.runs.set(item, (this.runs.get(item) ?? 0) + 1);
    const servers = this.serversOf.get(item) ?? new Set();
    this.t.false(servers.has(this.#server), `record ${item} ran twice at one server`);
    this.serversOf.set(item, servers.add(this.#server));
  }

  /** Some that run are answered, in one message. */
  answer(count: number): void {
    const window = this.#window;
    if (window === undefined) return;
    const done = this.#pool.filter(({ isRunning }) => isRunning).slice(0, count);
    this.#pool = this.#pool.filter((one) => !done.includes(one));
    const ids = done.filter(({ record }) => window.answered(record)).map(({ record }) => record.id);
    if (ids.length === 0) return;
    window.keep(ids, ids, ids.length * RECORD_BYTES);
    if (this.#isUp) this.#say(window.nextSeq() - 1, ids);
    this.#grant();
  }

  hear(): void {
    this.#toClient.shift()?.();
  }

  acknowledge(): void {
    if (!this.#isUp) return;
    this.#window?.heard(this.#heard);
    this.#grant();
  }

  cut(): void {
    if (!this.#isUp) return;
    this.#isUp = false;
    this.#toServer = [];
    this.#toClient = [];
    this.book.cut();
    this.#there = new WindowChannel();
    for (const record of this.#window?.cut(this.#now) ?? []) {
      const at = this.#pool.findIndex((one) => one.record === record);
      if (this.#pool[at]?.isRunning !== false) continue;
      this.#pool.splice(at, 1);
      this.#window?.forget(record);
    }
  }

  /** The server dies, with all it knew. */
  die(): void {
    this.cut();
    this.#window = undefined;
    this.#pool = [];
    this.#server++;
  }

  connect(): void {
    if (this.#isUp) return;
    if (this.#window !== undefined && this.#window.expiresAt <= this.#now) {
      this.#window = undefined;
      this.#pool = [];
      this.#server++; // To the client it is another one.
    }
    const resumed = this.#window !== undefined;
    this.#window ??= new LaneWindow(LIMITS);
    if (!resumed) this.#heard = 0;
    const kept = [...this.#window.resumed(this.#heard)];
    this.#isUp = true;
    this.book.limits = { records: 4, asked: LIMITS.asked };
    const known = this.#window.ids();
    this.#givenUp = known.filter((id) => this.book.get(id) === undefined);
    for (const call of this.book.welcomed(resumed, known)) this.#end(call.item, 'lost');
    const allowed = this.#window.allowance(this.#there) ?? this.#there.told;
    this.book.open(this.channel, { repeatable: this.repeatable, attempts: this.attempts, ...allowed });
    for (const { seq, ids, frame } of kept) this.#say(seq, ids, frame === undefined ? 'lost' : 'ok');
  }

  pass(ms: number): void {
    this.#now += ms;
    for (let call = this.book.takeExpired(this.#now); call !== undefined; call = this.book.takeExpired(this.#now)) {
      this.t.true(this.#now >= call.deadlineAt);
      if (call.place === 'sent') this.#givenUp.push(call.id);
      if (this.book.settle(call.id) !== undefined) this.#end(call.item, 'late');
    }
  }

  /** The wire holds and everything goes its way: nothing may be left. */
  finish(): void {
    this.connect();
    for (let round = 0; round < 5000 && this.book.count > 0; round++) {
      this.send();
      this.arrive();
      this.admit();
      this.begin(0);
      this.answer(3);
      this.hear();
      this.acknowledge();
    }
    this.t.is(this.book.count, 0, 'a record is stuck');
  }

  #cancel(id: number): void {
    const record = this.#window?.get(id);
    if (record === undefined) return;
    this.#window?.forget(record);
    this.#pool = this.#pool.filter((one) => one.record !== record || one.isRunning);
  }

  #say(seq: number, ids: readonly number[], how = 'ok'): void {
    this.#toClient.push(() => {
      if (seq <= this.#heard) return;
      this.#heard = seq;
      for (const id of ids) {
        const call = this.book.settle(id);
        if (call !== undefined) this.#end(call.item, how);
      }
    });
  }

  #grant(): void {
    if (!this.#isUp) return;
    const allowed = this.#window?.allowance(this.#there);
    if (allowed !== undefined) this.#toClient.push(() => this.book.allow(this.channel, allowed));
  }

  #end(item: number, how: string): void {
    this.ended.get(item)?.push(how);
  }

  #itemOf(id: number): number {
    return this.book.get(id)?.item ?? id;
  }
}

type Step = (net: Net) => void;

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(fc.boolean(), fc.constantFrom(5, 50, Infinity)).map(
      ([asked, ms]): Step =>
        (net) =>
          net.offer(asked, ms),
    ),
  },
  { weight: 5, arbitrary: fc.constant<Step>((net) => net.send()) },
  { weight: 5, arbitrary: fc.constant<Step>((net) => net.arrive()) },
  { weight: 5, arbitrary: fc.constant<Step>((net) => net.admit()) },
  {
    weight: 5,
    arbitrary: fc.nat(10).map(
      (at): Step =>
        (net) =>
          net.begin(at),
    ),
  },
  {
    weight: 4,
    arbitrary: fc.integer({ min: 1, max: 4 }).map(
      (count): Step =>
        (net) =>
          net.answer(count),
    ),
  },
  { weight: 5, arbitrary: fc.constant<Step>((net) => net.hear()) },
  { weight: 2, arbitrary: fc.constant<Step>((net) => net.acknowledge()) },
  { weight: 2, arbitrary: fc.constant<Step>((net) => net.cut()) },
  { weight: 4, arbitrary: fc.constant<Step>((net) => net.connect()) },
  { weight: 1, arbitrary: fc.constant<Step>((net) => net.die()) },
  {
    weight: 2,
    arbitrary: fc.integer({ min: 1, max: 60 }).map(
      (ms): Step =>
        (net) =>
          net.pass(ms),
    ),
  },
);

test('no order of cuts, deaths and replies loses a record, ends one twice, or runs one twice at a server', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150, size: 'max' }), fc.integer({ min: 1, max: 4 }), (steps, attempts) => {
      const net = new Net(t, true, attempts);
      for (const one of steps) one(net);
      net.finish();
      for (const [item, how] of net.ended) {
        t.is(how.length, 1, `record ${item}: ${how.join(', ')}`);
        t.true((net.runs.get(item) ?? 0) <= attempts);
        if (how[0] === 'ok') t.true((net.runs.get(item) ?? 0) >= 1);
      }
    }),
    { numRuns: sizes.laneRuns },
  );
});

test('a record whose actor is not repeatable never runs twice, whichever servers come and go', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
      const net = new Net(t, false, 5);
      for (const one of steps) one(net);
      net.finish();
      for (const [item, how] of net.ended) {
        t.is(how.length, 1);
        t.true((net.runs.get(item) ?? 0) <= 1, `record ${item}`);
      }
    }),
    { numRuns: sizes.laneRuns },
  );
});

test('a server that is not heard from grants nothing more once too many outcomes are kept', (t) => {
  const window = new LaneWindow<number, string>(LIMITS);
  const channel = new WindowChannel<number>();
  t.deepEqual(window.allowance(channel), { records: 8, bytes: 800 });
  const [record] = window.take(channel, [1], false, 40, () => 1) as WindowRecord<number>[];
  window.offered(record as WindowRecord<number>);
  t.true(window.answered(record as WindowRecord<number>));
  window.keep([1], 'frame', 500);
  t.is(window.take(channel, [2, 3, 4, 5, 6, 7, 8], false, 280, Number).length, 7);
  t.is(window.allowance(channel), undefined);
  window.heard(1);
  t.deepEqual(window.allowance(channel), { records: 9, bytes: 840 });
  t.deepEqual(window.ids(), [2, 3, 4, 5, 6, 7, 8]);
});

test('outcomes nobody fetches are dropped beyond their bytes, the oldest first, and are told as dropped', (t) => {
  const window = new LaneWindow<number, string>(LIMITS);
  const channel = new WindowChannel<number>();
  window.allowance(channel);
  const records = window.take(channel, [1, 2, 3], false, 120, (at) => at) as WindowRecord<number>[];
  for (const record of records) window.offered(record);
  t.is(window.cut(50).length, 3);
  t.is(window.expiresAt, 150);
  for (const record of records) {
    t.true(window.answered(record));
    window.keep([record.id], `frame ${record.id}`, 200);
  }
  t.deepEqual(
    window.resumed(0).map(({ ids, frame }) => [ids[0], frame]),
    [
      [1, undefined],
      [2, 'frame 2'],
      [3, 'frame 3'],
    ],
  );
  t.is(window.expiresAt, Infinity);
});

test('who sends more than allowed is told apart from who sends again', (t) => {
  const window = new LaneWindow<number, string>(LIMITS);
  const channel = new WindowChannel<number>();
  window.allowance(channel);
  const many = Array.from({ length: 9 }, (_, at) => at + 1);
  t.is(typeof window.take(channel, many, false, 9, Number), 'string');
  t.is(window.take(channel, [1, 2], false, 2, Number).length, 2);
  t.deepEqual(window.take(channel, [1, 2], false, 2, Number), []);
  t.is(typeof window.take(channel, [20, 21, 22, 23, 24, 25, 26], true, 7, Number), 'string');
});

test('who asks on and never says what it heard is told apart', (t) => {
  const window = new LaneWindow<number, string>(LIMITS);
  const channel = new WindowChannel<number>();
  for (let id = 1; id <= 24; id++) {
    const [record] = window.take(channel, [id], true, 1, Number) as WindowRecord<number>[];
    window.offered(record as WindowRecord<number>);
    t.true(window.answered(record as WindowRecord<number>));
    window.keep([id], 'frame', 70);
  }
  t.true(window.isOverfull);
  t.is(typeof window.take(channel, [25], true, 1, Number), 'string');
  window.heard(1);
  t.is(window.take(channel, [25], true, 1, Number).length, 1);
});

test('bytes that wait are bounded over all channels: what is turned away has left, and nobody else is held up', (t) => {
  const window = new LaneWindow<string, string>({ ...LIMITS, waitingBytes: 1000 });
  const [full, other] = [new WindowChannel<string>(), new WindowChannel<string>()];
  for (const channel of [full, other]) t.deepEqual(window.allowance(channel), { records: 8, bytes: 800 });
  const take = (channel: WindowChannel<string>, id: number, bytes: number) => {
    const [record] = window.take(channel, [id], false, bytes, () => 'work') as WindowRecord<string>[];
    return record as WindowRecord<string>;
  };
  const first = take(full, 1, 700);
  t.false(window.isCrowded);
  const second = take(other, 2, 700);
  t.true(window.isCrowded);
  window.turnedAway(second);
  t.false(window.isCrowded);
  t.is(other.inbox.length, 0);
  t.true(window.answered(second), 'who sent it can be told');
  t.is(window.allowance(full), undefined, 'nothing more for a pool that has no room');
  t.deepEqual(window.allowance(other), { records: 9, bytes: 1500 });
  window.offered(first);
  t.deepEqual(window.allowance(full), { records: 9, bytes: 1500 });
  const third = take(full, 3, 900);
  window.forget(third);
  t.false(window.isCrowded);
  take(full, 4, 600);
  t.false(window.isCrowded, 'what was forgotten does not count');
});
