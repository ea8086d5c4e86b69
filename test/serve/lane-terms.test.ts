import test from 'ava';
import { defineActor, type Outcome } from 'troupe';
import { LaneBook, type LaneCall } from '../../src/serve/lane-book.js';
import { LaneWindow, WindowChannel, type WindowRecord } from '../../src/serve/lane-window.js';
import { type AnySubmission, RemotePool } from '../../src/serve/remote-pool.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { laneStand } from './lane-stand.js';

/** What a record takes with it over the lane, and what it gives back when it has left. */

test('a record has at its server the priority, key, model, trace and time of a call that it was given', async (t) => {
  const { system, connect: dial } = await laneStand(t);
  const echo = defineActor({ predict: (batch: readonly unknown[]) => batch });
  const local = await system.spawn('echo', { actor: echo });
  const seen: unknown[] = [];
  const offer = local.offer.bind(local);
  local.offer = (submission) => {
    const { input, priority, key, model, callTimeoutMs, traceparent } = submission;
    seen.push({ input, priority, key, model, callTimeoutMs, traceparent });
    return offer(submission);
  };
  const pool = dial().pool<number, number>('echo');
  const sender = pool.openSender('test');
  const traceparent = `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`;
  const given = [
    { input: 1, priority: 3, key: 'a', model: 'm', callTimeoutMs: 40_000, traceparent },
    { input: 2, priority: 0, key: undefined, model: undefined, callTimeoutMs: undefined, traceparent: undefined },
    { input: 3, priority: 5, key: 'b', model: 'n', callTimeoutMs: 50_000, traceparent },
  ];
  await Promise.all(
    given.map(
      (terms) =>
        new Promise<Outcome<number>>((settled) => {
          t.truthy(pool.offer({ ...terms, sender, deadlineAt: Infinity, settled }));
        }),
    ),
  );
  t.deepEqual(seen, given);
});

function openBook() {
  const book = new LaneBook<number>();
  const channel = book.add('p');
  const offer = (item: number, asked = false, bytes = 1): LaneCall<number> | undefined =>
    book.offer(channel, item, asked, bytes, Infinity);
  return { book, channel, offer };
}

test('bytes of records that ask are given back when they are answered', (t) => {
  const { book, offer } = openBook();
  const large = offer(1, true, 64 * 2 ** 20);
  t.is(offer(2, true), undefined);
  book.settle((large as LaneCall<number>).id);
  t.truthy(offer(3, true));
});

test('a record that could not be sent gives back its room', (t) => {
  const { book, channel, offer } = openBook();
  book.open(channel, { records: 1, bytes: 100, repeatable: true, attempts: 5 });
  const only = offer(1) as LaneCall<number>;
  t.deepEqual(book.take(channel), [only]);
  t.false(channel.hasRoom);
  book.unsent(only);
  book.settle(only.id);
  t.true(channel.hasRoom);
});

test('what is put back is sent before what came behind it', (t) => {
  const { book, channel, offer } = openBook();
  book.open(channel, { records: 9, bytes: 100, repeatable: true, attempts: 5 });
  for (const item of [1, 2, 3]) offer(item);
  const taken = book.take(channel);
  offer(4);
  book.putBack(channel, taken.slice(1));
  t.deepEqual(
    book.take(channel).map(({ item }) => item),
    [2, 3, 4],
  );
});

test('records that ask and were given up do not count against who asks on', (t) => {
  const limits = { inboxRecords: 8, inboxBytes: 800, waitingBytes: 1000, asked: 1, keptBytes: 400, windowMs: 100 };
  const window = new LaneWindow<number, string>(limits);
  const channel = new WindowChannel<number>();
  for (let id = 1; id <= 9; id++) {
    const fresh = window.take(channel, [id], true, 1, Number);
    t.true(Array.isArray(fresh), `record ${id}`);
    const [record] = fresh as WindowRecord<number>[];
    window.offered(record as WindowRecord<number>);
    window.forget(record as WindowRecord<number>);
  }
});

test('a sender that was closed is not told of room, and does not keep its process', (t) => {
  const never = (): never => t.fail() as never;
  const way = { address: 'unix:///a', clock: new VirtualClock(), look: () => undefined };
  const rest = { offer: never, offerAsked: never, flush: never, call: never, health: never, stats: never };
  const pool = new RemotePool({ ...way, ...rest }, new LaneBook<AnySubmission>().add('p'), 1000);
  const told: number[] = [];
  const senders = [1, 2].map(() => pool.openSender('test'));
  for (const sender of senders) pool.onRoom(sender, () => told.push(sender));
  pool.closeSender(senders[0] as number);
  pool.callWaiters();
  t.deepEqual(told, senders.slice(1));
  pool.onRoom(senders[0] as number, never);
  pool.closeSender(senders[0] as number);
  t.true(pool.isAwaitedByNobody);
});
