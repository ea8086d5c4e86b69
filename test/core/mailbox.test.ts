import test from 'ava';
import fc from 'fast-check';
import { Mailbox, type MailboxLimits, type Overflow } from '../../src/core/mailbox.js';
import type { Request, RequestRules } from '../../src/core/request.js';
import { ids, requestMaker } from './make-request.js';

/** A mailbox, a maker of requests, and `offer`, which says how it went and whom it cost. */
function open(limits: Partial<MailboxLimits> = {}) {
  const mailbox = new Mailbox({ capacity: 4, capacityBytes: 1000, ageingMs: 0, ...limits });
  const make = requestMaker();
  const offer = (overflow: Overflow, rules: Partial<RequestRules> = {}) => {
    const request = make(rules);
    const victims: Request[] = [];
    return { request, how: mailbox.offer(request, overflow, victims), victims: ids(victims) };
  };
  const take = (maxSize = 100, { maxBytes = Infinity, maxWeight = Infinity, now = 0, bucket = '' } = {}): number[] => {
    const from = mailbox.bucket(bucket);
    return from === undefined ? [] : ids(mailbox.take(from, maxSize, maxBytes, maxWeight, now));
  };
  return { mailbox, offer, take };
}

test('a mailbox with room takes a record in under every overflow rule', (t) => {
  for (const overflow of ['reject', 'wait', 'drop-oldest', 'drop-newest'] as const) {
    const { mailbox, offer } = open();
    t.is(offer(overflow).how, 'accepted');
    t.is(mailbox.held, 1);
  }
});

test('a full mailbox with the rule reject refuses the newcomer and keeps nothing of it', (t) => {
  const { mailbox, offer, take } = open({ capacity: 2 });
  offer('reject');
  offer('reject');
  const { how, request } = offer('reject');
  t.is(how, 'full');
  t.is(request.place, 'nowhere');
  t.is(mailbox.held, 2);
  t.deepEqual(take(), [1, 2]);
});

test('a full mailbox with the rule drop-newest makes the newcomer the victim', (t) => {
  const { offer, take } = open({ capacity: 2 });
  offer('drop-newest');
  offer('drop-newest');
  t.is(offer('drop-newest').how, 'dropped');
  t.deepEqual(take(), [1, 2]);
});

test('a full mailbox with the rule drop-oldest gives up the longest waiting record of the lowest priority', (t) => {
  const { offer, take } = open({ capacity: 3 });
  offer('drop-oldest', { priority: 1, offeredAt: 0 });
  offer('drop-oldest', { priority: 0, offeredAt: 1 });
  offer('drop-oldest', { priority: 0, offeredAt: 2 });
  const { how, victims } = offer('drop-oldest', { priority: 0, offeredAt: 3 });
  t.is(how, 'accepted');
  t.deepEqual(victims, [2]);
  t.deepEqual(take(), [1, 3, 4]);
});

test('drop-oldest gives up as many records as the bytes of the newcomer need, and no more', (t) => {
  const { mailbox, offer, take } = open({ capacity: 10, capacityBytes: 100 });
  for (let n = 0; n < 4; n += 1) offer('drop-oldest', { bytes: 25, offeredAt: n });
  const { how, victims } = offer('drop-oldest', { bytes: 40, offeredAt: 4 });
  t.is(how, 'accepted');
  t.deepEqual(victims, [1, 2]);
  t.is(mailbox.heldBytes, 90);
  t.deepEqual(take(), [3, 4, 5]);
});

test('a full mailbox with the rule wait keeps the newcomer at the door until there is room', (t) => {
  const { mailbox, offer, take } = open({ capacity: 2 });
  offer('wait');
  offer('wait');
  const { how, request } = offer('wait');
  t.is(how, 'door');
  t.is(request.place, 'door');
  mailbox.admit();
  t.is(mailbox.doorCount, 1, 'still no room');
  t.deepEqual(take(1), [1]);
  mailbox.admit();
  t.is(mailbox.doorCount, 0);
  t.deepEqual(take(), [2, 3]);
});

test('a record too large for the whole mailbox is refused under every overflow rule', (t) => {
  for (const overflow of ['reject', 'wait', 'drop-oldest', 'drop-newest'] as const) {
    const { mailbox, offer } = open({ capacityBytes: 10 });
    offer(overflow, { bytes: 5 });
    const { how, victims } = offer(overflow, { bytes: 11 });
    t.is(how, 'too-large');
    t.deepEqual(victims, []);
    t.is(mailbox.held, 1);
  }
});

test('bytes fill a mailbox as records do, and a record of exactly the capacity fits', (t) => {
  const { mailbox, offer } = open({ capacity: 100, capacityBytes: 10 });
  t.is(offer('reject', { bytes: 10 }).how, 'accepted');
  t.false(mailbox.hasRoom);
  t.is(offer('reject', { bytes: 1 }).how, 'full');
  t.is(mailbox.heldBytes, 10);
});

test('the door holds at most as many records as the mailbox', (t) => {
  const { mailbox, offer } = open({ capacity: 2 });
  const offers = Array.from({ length: 6 }, () => offer('wait').how);
  t.deepEqual(offers, ['accepted', 'accepted', 'door', 'door', 'full', 'full']);
  t.is(mailbox.doorCount, 2);
});

test('the door holds at most as many bytes as the mailbox', (t) => {
  const { offer } = open({ capacity: 100, capacityBytes: 10 });
  const offers = [10, 6, 5, 4].map((bytes) => offer('wait', { bytes }).how);
  t.deepEqual(offers, ['accepted', 'door', 'full', 'door']);
});

test('the room at the door is free again when somebody has gone in', (t) => {
  const { mailbox, offer, take } = open({ capacity: 100, capacityBytes: 10 });
  offer('wait', { bytes: 10 });
  for (let n = 0; n < 3; n += 1) {
    t.is(offer('wait', { bytes: 10 }).how, 'door');
    take(1);
    mailbox.admit();
    t.is(mailbox.doorCount, 0);
  }
});

test('at the door nobody overtakes: a large record waits in front until it fits', (t) => {
  const { mailbox, offer, take } = open({ capacity: 100, capacityBytes: 10 });
  offer('wait', { bytes: 4 });
  offer('wait', { bytes: 4 });
  offer('wait', { bytes: 8 });
  offer('wait', { bytes: 1 });
  mailbox.admit();
  t.is(mailbox.doorCount, 2, 'the small one behind stays behind');
  take(1);
  mailbox.admit();
  t.is(mailbox.doorCount, 2);
  take(1);
  mailbox.admit();
  t.deepEqual(take(), [3, 4]);
});

test('who asks with the rule wait while others stand at the door goes to its end', (t) => {
  const { mailbox, offer, take } = open({ capacity: 2 });
  for (let n = 0; n < 3; n += 1) offer('wait');
  take(1);
  t.is(offer('wait').how, 'door', 'there is room, but somebody came first');
  mailbox.admit();
  t.deepEqual(take(), [2, 3]);
});

test('a record taken back from the door or from the mailbox is gone and frees its room', (t) => {
  const { mailbox, offer, take } = open({ capacity: 2 });
  const first = offer('wait').request;
  offer('wait');
  const third = offer('wait').request;
  mailbox.remove(third);
  t.is(mailbox.doorCount, 0);
  mailbox.remove(first);
  t.is(mailbox.held, 1);
  t.is(mailbox.heldBytes, 1);
  t.is(third.place, 'nowhere');
  t.deepEqual(take(), [2]);
  t.throws(() => mailbox.remove(first), { code: 'INTERNAL' });
});

test('records of one sender and one priority leave in the order of arrival', (t) => {
  const { offer, take } = open({ capacity: 10 });
  for (let n = 0; n < 5; n += 1) offer('reject', { offeredAt: n });
  t.deepEqual(take(2), [1, 2]);
  t.deepEqual(take(), [3, 4, 5]);
});

test('higher priority goes first', (t) => {
  const { offer, take } = open({ capacity: 10 });
  for (const priority of [0, 2, 1, 2, -1]) offer('reject', { priority });
  t.deepEqual(take(), [2, 4, 3, 1, 5]);
});

test('a record gains one level of priority per ageingMs, and among equals the higher born goes first', (t) => {
  const { offer, take } = open({ capacity: 10, ageingMs: 100 });
  offer('reject', { priority: 0, offeredAt: 0 });
  offer('reject', { priority: 1, offeredAt: 0 });
  offer('reject', { priority: 1, offeredAt: 150 });
  t.deepEqual(take(1, { now: 150 }), [2]);
  t.deepEqual(take(1, { now: 199 }), [3], 'one level gained is a tie');
  offer('reject', { priority: 1, offeredAt: 200 });
  t.deepEqual(take(1, { now: 200 }), [1], 'two levels gained beat one');
});

test('a record of low priority is never starved by a stream of higher ones', (t) => {
  const { offer, take } = open({ capacity: 10, ageingMs: 100 });
  offer('reject', { priority: 0, offeredAt: 0 });
  let now = 0;
  while (now < 10_000) {
    offer('reject', { priority: 3, offeredAt: now });
    offer('reject', { priority: 3, offeredAt: now });
    if (take(1, { now }).includes(1)) break;
    take(1, { now });
    now += 10;
  }
  t.is(now, 400, 'after four levels');
});

test('with ageingMs 0 priorities are strict', (t) => {
  const { offer, take } = open({ capacity: 10, ageingMs: 0 });
  offer('reject', { priority: 0, offeredAt: 0 });
  offer('reject', { priority: 1, offeredAt: 1e9 });
  t.deepEqual(take(1, { now: 1e9 }), [2]);
});

test('senders take turns, whatever the lengths of their queues', (t) => {
  const { offer, take } = open({ capacity: 10 });
  for (const sender of [1, 1, 1, 1, 2, 3, 3]) offer('reject', { sender });
  t.deepEqual(take(8), [1, 5, 6, 2, 7, 3, 4]);
});

test('a turn is an eighth of a batch, so that what goes back to a sender goes back in runs', (t) => {
  const { offer, take } = open({ capacity: 100 });
  for (let n = 0; n < 6; n += 1) offer('reject', { sender: 1 });
  for (let n = 0; n < 6; n += 1) offer('reject', { sender: 2 });
  t.deepEqual(take(32), [1, 2, 3, 4, 7, 8, 9, 10, 5, 6, 11, 12]);
});

test('a turn that a batch cuts short goes on in the next', (t) => {
  const { offer, take } = open({ capacity: 100, capacityBytes: 10_000 });
  for (let n = 0; n < 6; n += 1) offer('reject', { sender: 1 });
  for (let n = 0; n < 6; n += 1) offer('reject', { sender: 2, bytes: 500 });
  t.deepEqual(take(32, { maxBytes: 700 }), [1, 2, 3, 4, 7]);
  t.deepEqual(take(32, { maxBytes: 1000 }), [8, 9]);
  t.deepEqual(take(32), [10, 5, 6, 11, 12]);
});

test('a sender that had nothing waiting comes next, until it has had its whole turn of the round', (t) => {
  const { offer, take } = open({ capacity: 100 });
  for (const sender of [1, 2, 3]) for (let n = 0; n < 20; n += 1) offer('reject', { sender });
  t.deepEqual(take(16), [1, 2, 21, 22, 41, 42, 3, 4, 23, 24, 43, 44, 5, 6, 25, 26]);
  const served: number[] = [];
  for (let n = 0; n < 3; n += 1) {
    offer('reject', { sender: 4 });
    served.push(...take(1), ...take(16).slice(0, 1));
  }
  t.is(served[0], 61, 'first at once');
});

test('however often a light sender comes again, the heavy ones have their turns', (t) => {
  const { offer, take } = open({ capacity: 1000 });
  for (let n = 0; n < 100; n += 1) offer('reject', { sender: 1 });
  const served: number[] = [];
  for (let n = 0; n < 40; n += 1) {
    offer('reject', { sender: 2 });
    served.push(...take(1));
  }
  t.true(served.filter((id) => id <= 100).length >= 19, served.join(' '));
});

for (const ageingMs of [0, 100]) {
  test(`senders that are new each time do not pass over those who wait without end (ageingMs ${ageingMs})`, (t) => {
    const { offer, take } = open({ capacity: 100, ageingMs });
    // All three have had their turn, and have more.
    for (const sender of [1, 1, 2, 2, 3, 3]) offer('reject', { sender });
    t.deepEqual(take(3), [1, 3, 5]);
    let now = 0;
    let newcomer = 3;
    const servedAt = new Map<number, number>();
    // As many come as are served, so that there is always one who is new.
    while (servedAt.size < 3 && now < 10_000) {
      for (let n = 0; n < 4; n += 1) offer('reject', { sender: ++newcomer, offeredAt: now });
      for (const id of take(4, { now })) if (id <= 6) servedAt.set(id, now);
      now += 10;
    }
    t.deepEqual([...servedAt.keys()], [2, 4, 6], 'in their order');
    const patienceMs = ageingMs === 0 ? 1000 : ageingMs;
    for (const at of servedAt.values()) t.true(at >= patienceMs && at <= patienceMs + 20, `${at} ms`);
  });
}

test('large records of two senders alternate, whatever the size of a batch', (t) => {
  const { offer, take } = open({ capacity: 100, capacityBytes: 1e9 });
  for (const sender of [1, 1, 1, 2, 2, 2]) offer('reject', { sender, bytes: 100_000 });
  t.deepEqual(take(64, { maxBytes: 1e9 }), [1, 4, 2, 5, 3, 6]);
});

test('a sender of large records keeps its turn when a batch has no bytes left for it', (t) => {
  const { offer, take } = open({ capacity: 100 });
  for (let n = 0; n < 4; n += 1) offer('reject', { sender: 1, bytes: 30 });
  for (let n = 0; n < 2; n += 1) offer('reject', { sender: 2, bytes: 90 });
  const batches = Array.from({ length: 4 }, () => take(10, { maxBytes: 100 }));
  t.deepEqual(batches, [[1], [5], [2], [6]]);
});

test('a batch ends before the record that would pass its bytes or weight, and a single larger record goes alone', (t) => {
  const { offer, take } = open({ capacity: 10 });
  for (const [bytes, weight] of [
    [40, 1],
    [60, 1],
    [1, 1],
    [500, 1],
    [1, 9],
    [1, 1],
  ] as const) {
    offer('reject', { bytes, weight });
  }
  const batches = Array.from({ length: 5 }, () => take(10, { maxBytes: 100, maxWeight: 5 }));
  t.deepEqual(batches, [[1, 2], [3], [4], [5], [6]]);
});

test('records of different buckets never come out together', (t) => {
  const { mailbox, offer, take } = open({ capacity: 10 });
  for (const bucket of ['a', 'b', 'a', 'b']) offer('reject', { bucket });
  t.deepEqual(take(10, { bucket: 'a' }), [1, 3]);
  t.deepEqual(
    mailbox.buckets.map((bucket) => bucket.name),
    ['b'],
    'an empty bucket is forgotten',
  );
  t.deepEqual(take(10, { bucket: 'b' }), [2, 4]);
});

test('while another sender waits for room, a sender is let in only up to its share', (t) => {
  const { mailbox, offer, take } = open({ capacity: 4 });
  for (let n = 0; n < 4; n += 1) offer('reject', { sender: 1 });
  t.is(offer('reject', { sender: 2 }).how, 'full');
  mailbox.wantRoom(2);
  take(1);
  t.is(offer('reject', { sender: 1 }).how, 'full', 'the room is kept for the one that waits');
  t.is(offer('reject', { sender: 2 }).how, 'accepted');
  mailbox.gotRoom(2);
  take(1);
  t.is(offer('reject', { sender: 1 }).how, 'accepted', 'nobody waits: the room is for whoever comes');
});

test('the wish of a sender does not count against itself', (t) => {
  const { mailbox, offer, take } = open({ capacity: 2 });
  offer('reject');
  offer('reject');
  mailbox.wantRoom(1);
  mailbox.wantRoom(1);
  take(1);
  t.is(offer('reject').how, 'accepted');
  mailbox.gotRoom(1);
  mailbox.gotRoom(1);
});

test('under drop-oldest a sender beyond its share pays with its own records', (t) => {
  const { mailbox, offer, take } = open({ capacity: 6 });
  for (let n = 0; n < 2; n += 1) offer('drop-oldest', { sender: 2, offeredAt: n });
  for (let n = 2; n < 5; n += 1) offer('drop-oldest', { sender: 1, offeredAt: n });
  mailbox.wantRoom(2);
  const { how, victims } = offer('drop-oldest', { sender: 1, offeredAt: 5 });
  t.is(how, 'accepted');
  t.deepEqual(victims, [3], 'not with those of the sender that waits');
  t.deepEqual(take(8), [1, 4, 2, 5, 6]);
});

test('a sender at the door beyond its share is passed over, and keeps its order when it gets in', (t) => {
  const { mailbox, offer, take } = open({ capacity: 4 });
  for (let n = 0; n < 4; n += 1) offer('wait', { sender: 1 });
  offer('wait', { sender: 1 });
  offer('wait', { sender: 2 });
  offer('wait', { sender: 1 });
  take(1);
  mailbox.admit();
  t.deepEqual([mailbox.held, mailbox.doorCount], [4, 2], 'sender 2 came in, though second');
  take(2);
  mailbox.admit();
  t.is(mailbox.doorCount, 0);
  t.deepEqual(take(), [3, 4, 5, 7]);
});

test('two records of one sender at the door never change places, though somebody else is let in between', (t) => {
  const { mailbox, offer, take } = open({ capacity: 6 });
  for (let n = 0; n < 6; n += 1) offer('wait', { sender: 1 });
  offer('wait', { sender: 1 });
  offer('wait', { sender: 2 });
  offer('wait', { sender: 1 });
  take(3);
  // Sender 1 is at its share while sender 2 waits, and free of it as soon as sender 2 is in.
  mailbox.admit();
  t.is(mailbox.doorCount, 0, 'and all of it in one go');
  t.deepEqual(take(), [8, 4, 5, 6, 7, 9]);
});

test('a sender whose last record is taken back costs the next one no turn', (t) => {
  const { mailbox, offer, take } = open({ capacity: 10 });
  const first = offer('reject', { sender: 1 });
  const second = offer('reject', { sender: 1 });
  offer('reject', { sender: 2 });
  offer('reject', { sender: 3 });
  t.deepEqual(take(1), [first.request.id]);
  mailbox.remove(second.request);
  t.deepEqual(take(), [3, 4]);
});

test('where age decides, the oldest record goes, whosever turn it is', (t) => {
  const { offer, take } = open({ capacity: 10, ageingMs: 100 });
  offer('reject', { sender: 1, offeredAt: 0 });
  offer('reject', { sender: 1, offeredAt: 10 });
  offer('reject', { sender: 2, offeredAt: 20 });
  t.deepEqual(take(1, { now: 20 }), [1], 'now it is the turn of sender 2');
  offer('reject', { sender: 3, priority: 1, offeredAt: 200 });
  t.deepEqual(take(1, { now: 215 }), [2]);
});

test('records sorted into other buckets keep their order of arrival', (t) => {
  const { mailbox, offer, take } = open({ capacity: 10 });
  for (const [at, bucket] of ['a', 'b', 'a', 'b'].entries()) offer('reject', { bucket, offeredAt: at });
  mailbox.rebucket(() => 'c');
  t.deepEqual(
    mailbox.buckets.map((bucket) => bucket.name),
    ['c'],
  );
  t.is(mailbox.held, 4);
  t.deepEqual(take(10, { bucket: 'c' }), [1, 2, 3, 4]);
});

test('emptying a mailbox gives everything back once, the door included', (t) => {
  const { mailbox, offer } = open({ capacity: 3 });
  for (const bucket of ['a', 'b', 'a', 'b']) offer('wait', { bucket });
  t.deepEqual(ids(mailbox.empty()), [4, 1, 3, 2]);
  t.deepEqual([mailbox.held, mailbox.heldBytes, mailbox.doorCount, mailbox.buckets.length], [0, 0, 0, 0]);
});

// Model: every live request in one list, in order of arrival, with its place.
type Command =
  | { kind: 'offer'; overflow: Overflow; sender: number; priority: number; bucket: string; bytes: number }
  | { kind: 'take'; bucket: string; size: number; bytes: number }
  | { kind: 'remove'; pick: number }
  | { kind: 'want' | 'got'; sender: number }
  | { kind: 'wait'; ms: number };
const overflow = fc.constantFrom<Overflow>('reject', 'wait', 'drop-oldest', 'drop-newest');
const sender = fc.integer({ min: 1, max: 3 });
const bucket = fc.constantFrom('a', 'b');
const command = fc.oneof<fc.WeightedArbitrary<Command>[]>(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('offer' as const),
      overflow,
      sender,
      priority: fc.integer({ min: -1, max: 1 }),
      bucket,
      bytes: fc.integer({ min: 1, max: 12 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('take' as const),
      bucket,
      size: fc.integer({ min: 1, max: 4 }),
      bytes: fc.integer({ min: 1, max: 20 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), pick: fc.nat(50) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('want' as const, 'got' as const), sender }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(80) }) },
);
const limits = fc.record({
  capacity: fc.integer({ min: 1, max: 6 }),
  capacityBytes: fc.integer({ min: 6, max: 24 }),
  ageingMs: fc.constantFrom(0, 100),
});

test('no order of offers, takes and removals loses or doubles a record, or exceeds the capacity', (t) => {
  const outcomes = new Map<string, number>();
  fc.assert(
    fc.property(limits, fc.array(command, { maxLength: 60, size: 'max' }), (limits, commands) => {
      const mailbox = new Mailbox(limits);
      const make = requestMaker();
      const live: Request[] = [];
      let now = 0;
      const leave = (request: Request): void => {
        const at = live.indexOf(request);
        if (at < 0) throw new Error(`${request.id} left twice`);
        live.splice(at, 1);
      };
      for (const c of commands) {
        if (c.kind === 'wait') now += c.ms;
        if (c.kind === 'want') mailbox.wantRoom(c.sender);
        if (c.kind === 'got') mailbox.gotRoom(c.sender);
        if (c.kind === 'offer') {
          // Some without, some with a deadline, in an order of its own.
          const deadlineAt = c.bytes % 3 === 0 ? Infinity : now + ((c.bytes * 37) % 11);
          const request = make({ ...c, offeredAt: now, deadlineAt });
          const victims: Request[] = [];
          const how = mailbox.offer(request, c.overflow, victims);
          outcomes.set(how, (outcomes.get(how) ?? 0) + 1);
          for (const victim of victims) leave(victim);
          if (how === 'accepted' || how === 'door') live.push(request);
          else if (victims.length > 0) throw new Error('victims for nothing');
        }
        if (c.kind === 'remove') {
          const request = live[c.pick % Math.max(1, live.length)];
          if (request !== undefined) {
            mailbox.remove(request);
            leave(request);
          }
        }
        const from = c.kind === 'take' ? mailbox.bucket(c.bucket) : undefined;
        if (c.kind === 'take' && from !== undefined) {
          const taken = mailbox.take(from, c.size, c.bytes, Infinity, now);
          if (taken.length === 0 || taken.length > c.size) throw new Error(`took ${taken.length} of ${c.size}`);
          const bytes = taken.reduce((sum, request) => sum + request.bytes, 0);
          if (bytes > c.bytes && taken.length > 1) throw new Error(`took ${bytes} of ${c.bytes} bytes`);
          for (const request of taken) {
            if (request.bucket !== c.bucket) throw new Error('a batch of mixed buckets');
            leave(request);
          }
        }
        mailbox.admit();
        const waiting = live.filter((request) => request.place === 'mailbox');
        const held = waiting.reduce((sum, request) => sum + request.bytes, 0);
        if (mailbox.held !== waiting.length || mailbox.heldBytes !== held) throw new Error('miscounted');
        if (mailbox.held > limits.capacity || mailbox.heldBytes > limits.capacityBytes) throw new Error('too full');
        for (const bucket of mailbox.buckets) {
          const inside = waiting.filter((request) => request.bucket === bucket.name);
          const sum = (of: (request: Request) => number): number => inside.reduce((all, one) => all + of(one), 0);
          if (bucket.count !== inside.length || bucket.count === 0) throw new Error('miscounted a bucket');
          if (bucket.bytes !== sum((one) => one.bytes) || bucket.weight !== sum((one) => one.weight)) {
            throw new Error('miscounted the bytes or weight of a bucket');
          }
          const earliestAt = Math.min(...inside.map((one) => one.deadlineAt));
          // Not every time, so that what is kept from the last look is put to the test.
          if (live.length % 2 === 0 && bucket.earliestDeadlineAt !== earliestAt)
            throw new Error('wrong earliest deadline');
        }
        if (mailbox.doorCount !== live.length - waiting.length) throw new Error('miscounted the door');
        if (mailbox.doorCount > limits.capacity) throw new Error('the door is too full');
        const atDoor = live.filter((request) => request.place === 'door');
        if (atDoor.reduce((sum, request) => sum + request.bytes, 0) > limits.capacityBytes)
          throw new Error('door bytes');
      }
      const rest = mailbox.empty();
      for (const request of rest) leave(request);
      if (live.length > 0 || mailbox.held + mailbox.heldBytes + mailbox.buckets.length > 0)
        throw new Error('not empty');
    }),
    { numRuns: 1000 },
  );
  for (const how of ['accepted', 'door', 'full', 'dropped', 'too-large']) t.true((outcomes.get(how) ?? 0) > 50, how);
});

test('no order of offers, takes and removals reorders one sender inside a bucket and a priority', (t) => {
  fc.assert(
    fc.property(limits, fc.array(command, { maxLength: 60, size: 'max' }), (limits, commands) => {
      const mailbox = new Mailbox(limits);
      const make = requestMaker();
      const lastTaken = new Map<string, number>();
      const live: Request[] = [];
      let now = 0;
      for (const c of commands) {
        if (c.kind === 'wait') now += c.ms;
        if (c.kind === 'want') mailbox.wantRoom(c.sender);
        if (c.kind === 'got') mailbox.gotRoom(c.sender);
        if (c.kind === 'offer') {
          const request = make({ ...c, offeredAt: now });
          // One rule for all: who mixes rules has decided that some overtake.
          if (['accepted', 'door'].includes(mailbox.offer(request, 'wait', []))) live.push(request);
        }
        if (c.kind === 'remove') {
          const request = live[c.pick % Math.max(1, live.length)];
          if (request?.place === 'mailbox' || request?.place === 'door') mailbox.remove(request);
        }
        const from = c.kind === 'take' ? mailbox.bucket(c.bucket) : undefined;
        if (c.kind === 'take' && from !== undefined) {
          for (const { id, sender, priority } of mailbox.take(from, c.size, c.bytes, Infinity, now)) {
            const line = `${sender} ${priority} ${c.bucket}`;
            if (id < (lastTaken.get(line) ?? 0)) throw new Error(`${id} came after ${lastTaken.get(line)}`);
            lastTaken.set(line, id);
          }
        }
        mailbox.admit();
      }
    }),
    { numRuns: 1000 },
  );
  t.pass();
});

test('no sequence of batches passes a sender over for longer than the others have turns', (t) => {
  const work = fc.array(fc.record({ sender: fc.integer({ min: 1, max: 4 }), bytes: fc.integer({ min: 1, max: 10 }) }), {
    minLength: 1,
    maxLength: 30,
    size: 'max',
  });
  fc.assert(
    fc.property(
      work,
      fc.integer({ min: 1, max: 12 }),
      fc.constantFrom(1, 4, 6, 16, 32, 64),
      (work, maxBytes, maxSize) => {
        const { mailbox, offer } = open({ capacity: 100 });
        const turn = Math.max(1, maxSize / 8);
        const waiting = new Map<number, number>();
        for (const rules of work) {
          offer('reject', rules);
          waiting.set(rules.sender, (waiting.get(rules.sender) ?? 0) + 1);
        }
        // Records passed over since a sender was last served; fair means never more than a turn of each sender.
        const passedOver = new Map<number, number>();
        for (let bucket = mailbox.bucket(''); bucket !== undefined; bucket = mailbox.bucket('')) {
          for (const request of mailbox.take(bucket, maxSize, maxBytes, Infinity, 0)) {
            waiting.set(request.sender, (waiting.get(request.sender) ?? 0) - 1);
            passedOver.set(request.sender, 0);
            for (const [other, count] of waiting) {
              if (other === request.sender || count === 0) continue;
              const passed = (passedOver.get(other) ?? 0) + 1;
              if (passed > 4 * turn) throw new Error(`sender ${other} was passed over ${passed} times`);
              passedOver.set(other, passed);
            }
          }
        }
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});
