import type { ServerResponse } from 'node:http';
import { EventEmitter } from 'node:events';
import test from 'ava';
import { VirtualClock } from 'troupe/testing';
import { Feed, FEED_LIMITS } from '../../src/dashboard/feed.js';
import type { PageEvent, PageState } from '../../src/dashboard/state.js';

/** The other end of a connection, as far as the feed knows it: takes what it is given or lets it lie. */
class Reader extends EventEmitter {
  readonly written: string[] = [];
  writableLength = 0;
  isEnded = false;
  isDestroyed = false;
  constructor(private readonly isSlow = false) {
    super();
  }
  writeHead(): void {}
  write(text: string): void {
    this.written.push(text);
    if (this.isSlow) this.writableLength += text.length;
  }
  end(): void {
    this.isEnded = true;
    this.emit('close');
  }
  destroy(): void {
    this.isDestroyed = true;
    this.emit('close');
  }
  count(type: string): number {
    return this.written.filter((text) => text.startsWith(`event: ${type}\n`)).length;
  }
}

interface Stage {
  readonly clock: VirtualClock;
  readonly feed: Feed;
  readonly refused: string[];
  readonly asked: () => number;
  happens(count: number): void;
  join(reader: Reader): void;
  isHeard(): boolean;
}

function stage(bytes = 0): Stage {
  const clock = new VirtualClock();
  const refused: string[] = [];
  let asked = 0;
  let seq = 0;
  let hear: ((event: PageEvent) => void) | undefined;
  const feed = new Feed({
    clock,
    state: () => {
      asked += 1;
      return { system: 'x'.repeat(bytes) } as PageState;
    },
    past: () => [],
    listen: (listener) => {
      hear = listener;
      return () => (hear = undefined);
    },
  });
  return {
    clock,
    feed,
    refused,
    asked: () => asked,
    happens: (count) => {
      for (let n = 0; n < count; n++) hear?.({ seq: ++seq, at: '', kind: 'ready', message: '' });
    },
    join: (reader) =>
      feed.join(undefined as never, reader as unknown as ServerResponse, {
        refuse: (_request, _response, why) => void refused.push(why),
      }),
    isHeard: () => hear !== undefined,
  };
}

test('it costs nothing while nobody looks: no state is made, no event is heard, no timer runs', (t) => {
  const { clock, asked, join, isHeard, feed } = stage();
  clock.advance(60_000);
  t.is(asked(), 0);
  const reader = new Reader();
  join(reader);
  t.true(isHeard());
  clock.advance(5 * FEED_LIMITS.stateMs);
  t.is(reader.count('state'), 6);
  reader.destroy();
  t.false(isHeard());
  const before = asked();
  clock.advance(60_000);
  t.is(asked(), before);
  t.is(feed.clientCount, 0);
});

test('what all are told is made once for all', (t) => {
  const { clock, asked, join } = stage();
  const readers = Array.from({ length: 10 }, () => new Reader());
  for (const reader of readers) join(reader);
  const before = asked();
  clock.advance(3 * FEED_LIMITS.stateMs);
  t.is(asked() - before, 3);
  for (const reader of readers) t.is(reader.count('state'), 4);
});

test('a slow reader is dropped and counted when it leaves too much unread, and the others are told on', (t) => {
  const { clock, join, refused, feed } = stage(10_000);
  const slow = new Reader(true);
  const quick = new Reader();
  join(slow);
  join(quick);
  let most = 0;
  for (let second = 0; second < 200; second++) {
    clock.advance(FEED_LIMITS.stateMs);
    most = Math.max(most, slow.writableLength);
  }
  t.true(slow.isDestroyed);
  t.true(most <= FEED_LIMITS.unreadBytes + 11_000, `${most}`);
  t.deepEqual(refused, ['unread']);
  t.is(quick.count('state'), 201);
  t.is(feed.clientCount, 1);
});

test('a reader whose answer waits behind another on its connection is dropped once, and its room is free', (t) => {
  const { clock, join, refused, feed } = stage(10_000);
  const queued = new Reader(true);
  queued.destroy = () => undefined;
  join(queued);
  clock.advance(200 * FEED_LIMITS.stateMs);
  t.deepEqual(refused, ['unread']);
  t.is(feed.clientCount, 0);
  queued.emit('close');
  const next = new Reader();
  join(next);
  clock.advance(FEED_LIMITS.stateMs);
  t.is(next.count('state'), 2);
});

test('events come together and soon, and of a flood the newest only', (t) => {
  const { clock, join, happens } = stage();
  const reader = new Reader();
  join(reader);
  happens(3);
  t.is(reader.count('events'), 1, 'the past');
  clock.advance(FEED_LIMITS.eventsMs);
  t.is(reader.count('events'), 2);
  happens(100_000);
  clock.advance(FEED_LIMITS.eventsMs);
  t.is(reader.count('events'), 3);
  const last = reader.written.at(-1) ?? '';
  const events = JSON.parse(last.slice(last.indexOf('['))) as PageEvent[];
  t.is(events.length, FEED_LIMITS.eventsAtOnce);
  t.is(events.at(-1)?.seq, 100_003);
});

test('more readers than there is room for are refused, and the end is the end for all', (t) => {
  const { join, refused, feed, clock, asked } = stage();
  const readers = Array.from({ length: FEED_LIMITS.clients + 5 }, () => new Reader());
  for (const reader of readers) join(reader);
  t.is(feed.clientCount, FEED_LIMITS.clients);
  t.deepEqual(
    refused,
    Array.from({ length: 5 }, () => 'busy'),
  );
  feed.close();
  t.is(readers.filter(({ isEnded }) => isEnded).length, FEED_LIMITS.clients);
  const before = asked();
  clock.advance(10_000);
  t.is(asked(), before);
});
