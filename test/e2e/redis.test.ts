import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { createClient } from 'redis';
import { TroupeError } from '../../src/kernel/errors.js';
import { Envelope, RecordFailure, Stamped, type RecordInfo } from '../../src/stream/envelope.js';
import { stream } from '../../src/stream/pipeline.js';
import type { SourceReader } from '../../src/stream/source.js';
import { toArray } from '../../src/stream/sinks/array.js';
import { toRedis, type ToRedisOptions } from '../../src/stream/sinks/redis.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import { fromRedis, type FromRedisOptions, type RedisMetadata } from '../../src/stream/sources/redis.js';
import { checkSink, checkSource } from '../../src/testing/index.js';
import { conforms } from '../testing/conformance/conforms.js';
import { closedAfter, startRedis, type TestServer } from './servers.js';

/** Against a real server; every test has streams of its own, and one server serves them all. */
const FAST = { attempts: 200, backoffMs: 5, maxBackoffMs: 100 };

interface Stage {
  readonly server: TestServer;
  readonly client: Client;
  source(options?: Partial<FromRedisOptions>): ReturnType<typeof fromRedis>;
  sink(options?: Partial<ToRedisOptions>): ReturnType<typeof toRedis>;
  add(stream: string, ...values: unknown[]): Promise<string[]>;
}

const connect = (url: string) => createClient({ url, RESP: 2 });
type Client = ReturnType<typeof connect>;

async function stage(t: ExecutionContext): Promise<Stage | undefined> {
  const server = await startRedis(t);
  if (server === undefined) return undefined;
  const client = connect(server.url);
  client.on('error', () => undefined);
  await client.connect();
  t.teardown(() => client.destroy());
  const { url } = server;
  return {
    server,
    client,
    source: (options) =>
      closedAfter(t, fromRedis({ url, stream: 's', group: 'g', consumer: 'c', reconnect: FAST, ...options })),
    sink: (options) => toRedis({ url, stream: 's', reconnect: FAST, ...options }),
    add: (name, ...values) =>
      Promise.all(values.map((value) => client.xAdd(name, '*', { value: JSON.stringify(value) }))),
  };
}

async function read(t: ExecutionContext, reader: SourceReader<unknown>, count: number): Promise<Stamped<unknown>[]> {
  const items: Stamped<unknown>[] = [];
  while (items.length < count) {
    const some = (await reader.read(count - items.length)) ?? [];
    t.true(some.length > 0);
    items.push(...(some as Stamped<unknown>[]));
  }
  return items;
}

const acked = (items: readonly Stamped<unknown>[]) => items.map(({ token }) => ({ token }));
const valuesOf = (items: readonly Stamped<unknown>[]): unknown[] => items.map(({ value }) => value);
const records = (count: number, from = 0): RecordInfo[] =>
  Array.from({ length: count }, (_, n) => new Envelope(from + n, undefined, 0, undefined, undefined));

test.serial('fromRedis and toRedis conform', async (t) => {
  t.timeout(60_000);
  const on = await stage(t);
  if (on === undefined) return;
  const drop = async (): Promise<void> =>
    void (await on.client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes']));
  const source = await checkSource('fromRedis', {
    stand: async (values, { bad = false } = {}) => {
      const name = randomUUID();
      await on.add(name, ...values);
      if (bad) await on.client.xAdd(name, '*', { value: '{oops' });
      return {
        source: on.source({ stream: name }),
        ends: false,
        add: async (more) => void (await on.add(name, ...more)),
        disconnect: drop,
        readAhead: async () => {
          const groups = await on.client.xPending(name, 'g');
          return groups.pending - 10;
        },
      };
    },
    unreachable: () =>
      fromRedis({ url: 'redis://127.0.0.1:1', stream: 's', group: 'g', consumer: 'c', reconnect: { attempts: 1 } }),
    readAheadMax: 0,
  });
  conforms(t, source, 13);
  const ending = await checkSource('fromRedis, endWhenEmpty', {
    stand: async (values) => {
      const name = randomUUID();
      await on.add(name, ...values);
      return { source: on.source({ stream: name, endWhenEmpty: true }), ends: true, disconnect: drop };
    },
    hasBadRecords: false,
  });
  conforms(t, ending, 9);
  const sink = await checkSink('toRedis', {
    stand: async () => {
      const name = randomUUID();
      return {
        sink: () => on.sink({ stream: name }) as never,
        values: async () =>
          ((await on.client.xRange(name, '-', '+')) ?? []).map(
            ({ message }) => JSON.parse(message['value'] ?? '') as unknown,
          ),
        disconnect: drop,
        refuse: async () => {
          await on.client.del(name);
          await on.client.set(name, 'a string');
        },
      };
    },
    unreachable: () => toRedis({ url: 'redis://127.0.0.1:1', stream: 's', reconnect: { attempts: 1 } }) as never,
  });
  conforms(t, sink, 12);
});

test.serial('a record carries the id, time and key of its entry', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const [id = ''] = await on.add('s', { a: 1 });
  const reader = await on.source().open();
  const [item] = await read(t, reader, 1);
  t.deepEqual(item?.metadata, { key: `redis:s:${id}`, stream: 's', id, redeliveries: 0 } satisfies RedisMetadata);
  t.is(item?.timestamp, Number(id.split('-')[0]));
  t.is(item?.token, id);
  await on.client.xAdd('s', '*', { city: 'Oslo', constructor: 'mine' });
  const fields = await on.source({ format: 'fields', group: 'other' }).open();
  const named = { city: 'Oslo', constructor: 'mine' };
  t.is(JSON.stringify(valuesOf(await read(t, fields, 2))), JSON.stringify([{ value: '{"a":1}' }, named]));
  await on.client.xAdd('s', '*', { other: '1' });
  const [, bad] = await read(t, reader, 2);
  t.true(bad?.value instanceof RecordFailure && bad.value.error.message.includes('no field "value"; it has other'));
  await reader.close();
  await fields.close();
});

test.serial('two consumers of a group share the entries, and each gets its own again after a restart', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.add('s', 1, 2, 3, 4);
  const [a, b] = [await on.source({ consumer: 'a' }).open(), await on.source({ consumer: 'b' }).open()];
  const first = await read(t, a, 2);
  const second = await read(t, b, 2);
  t.deepEqual(
    [valuesOf(first), valuesOf(second)],
    [
      [1, 2],
      [3, 4],
    ],
  );
  await a.acknowledge?.(acked(first.slice(0, 1)));
  await a.close();
  await b.close();
  await on.add('s', 5);
  const again = await on.source({ consumer: 'a' }).open();
  t.deepEqual(valuesOf(await read(t, again, 2)), [2, 5], 'what was pending comes first');
  await again.close();
});

test.serial('claimIdleMs takes over what a dead consumer held, and leaves what a live one works on', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.add('s', 'dead', 'slow');
  const dead = await on.source({ consumer: 'dead' }).open();
  await read(t, dead, 1);
  await dead.close();
  const slow = await on.source({ consumer: 'slow', claimIdleMs: 300 }).open();
  const [held] = await read(t, slow, 1);
  t.is(held?.value, 'slow');
  const heir = await on.source({ consumer: 'heir', claimIdleMs: 300 }).open();
  const [taken] = await read(t, heir, 1);
  t.is(taken?.value, 'dead');
  t.like(taken?.metadata, { redeliveries: 1 });
  // The slow one has by now held its record for longer than 300 ms; what comes next is new, not taken from it.
  await on.add('s', 'new');
  t.deepEqual(valuesOf(await read(t, heir, 1)), ['new']);
  await slow.close();
  await heir.close();
});

test.serial(
  'a failed entry comes again after claimIdleMs, and one given too often fails with DELIVERY_LIMIT and ends',
  async (t) => {
    const on = await stage(t);
    if (on === undefined) return;
    await on.add('s', 'poison', 'good');
    const reader = await on.source({ claimIdleMs: 20, maxDeliveries: 2 }).open();
    const error = new TroupeError('PREDICT_FAILED', 'no');
    const seen: unknown[] = [];
    for (let round = 0; round < 3; round += 1) {
      for (const { value, token } of await read(t, reader, round === 0 ? 2 : 1)) {
        seen.push(value instanceof RecordFailure ? value.error.code : value);
        await reader.acknowledge?.([value === 'good' ? { token } : { token, error }]);
      }
    }
    t.deepEqual(seen, ['poison', 'good', 'poison', 'DELIVERY_LIMIT']);
    t.is((await on.client.xPending('s', 'g')).pending, 0);
    await reader.close();
  },
);

test.serial('a record that ended the process each time is poison after maxDeliveries starts', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.add('s', 'poison');
  const seen: unknown[] = [];
  for (let start = 0; start < 4; start += 1) {
    const reader = await on.source({ maxDeliveries: 3 }).open();
    const [item] = await read(t, reader, 1);
    seen.push(item?.value instanceof RecordFailure ? item.value.error.code : item?.value);
    await reader.close();
  }
  t.deepEqual(seen, ['poison', 'poison', 'poison', 'DELIVERY_LIMIT']);
});

test.serial('an entry deleted while it was under way is a failed record, not a silent gap', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const [id = ''] = await on.add('s', 1, 2);
  const reader = await on.source().open();
  await read(t, reader, 2);
  await reader.close();
  await on.client.xDel('s', id);
  const again = await on.source().open();
  const [gone, there] = await read(t, again, 2);
  t.true(gone?.value instanceof RecordFailure && gone.value.error.message.includes('was deleted'));
  t.is(there?.value, 2);
  await again.close();
});

test.serial('a server that is killed and comes back costs time and no record', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.add('s', 1, 2, 3);
  const reader = await on.source().open();
  const before = await read(t, reader, 2);
  const waiting = read(t, reader, 2);
  const sink = on.sink({ stream: 'out' });
  await sink.open?.();
  await sink.write(['a'], records(1));
  await on.server.restart();
  await sink.write(['b'], records(1, 1));
  await sink.close();
  await reader.acknowledge?.(acked(before));
  const again = connect(on.server.url);
  // Unheard, it would end this process when a failed test stops the server.
  again.on('error', () => undefined);
  await again.connect();
  t.teardown(() => again.destroy());
  await again.xAdd('s', '*', { value: '4' });
  t.deepEqual(
    ((await again.xRange('out', '-', '+')) ?? []).map(({ message }) => message['value']),
    ['"a"', '"b"'],
  );
  t.deepEqual(valuesOf(await waiting), [3, 4]);
  await reader.close();
});

test.serial('a server that stays away ends the source and the sink with typed errors that name it', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const reconnect = { attempts: 3, backoffMs: 1, maxBackoffMs: 2 };
  const reader = await on.source({ reconnect }).open();
  const sink = on.sink({ reconnect });
  await sink.open?.();
  const reading = Promise.resolve(reader.read(1));
  const failed = t.throwsAsync(reading, { message: /^Cannot read redis:\/\/127\.0\.0\.1:\d+ s: / });
  await on.server.stop();
  t.like(await failed, { code: 'SOURCE_FAILED' });
  t.like(await t.throwsAsync(async () => sink.write([1], records(1))), { code: 'SINK_FAILED' });
  await reader.close();
  await sink.close();
});

test.serial(
  'a stream of another type, a wrong password: refused at once, in words, without the password',
  async (t) => {
    const on = await stage(t);
    if (on === undefined) return;
    await on.client.set('s', 'a string');
    t.like(await t.throwsAsync(async () => on.source().open()), { code: 'SOURCE_FAILED' });
    t.regex((await t.throwsAsync(async () => on.sink().open?.()))?.message ?? '', /it is a string, not a stream/);
    const url = on.server.url.replace('redis://', 'redis://me:hidden@');
    const error = await t.throwsAsync(async () => on.source({ url, reconnect: { attempts: 1 } }).open());
    t.like(error, { code: 'SOURCE_FAILED' });
    t.notRegex(error?.message ?? '', /hidden/);
  },
);

test.serial(
  'what toRedis has written is trimmed to maxLength, and known by key for the last remember records',
  async (t) => {
    const on = await stage(t);
    if (on === undefined) return;
    const sink = on.sink({ maxLength: 100, remember: 500, key: 'k' });
    await sink.open?.();
    const values = Array.from({ length: 2000 }, (_, n) => n);
    await sink.write(values, records(2000));
    t.true((await on.client.xLen('s')) < 400);
    t.is(await on.client.zCard('{s}:troupe-written'), 500);
    const before = await on.client.xInfoStream('s');
    await sink.write(values.slice(1500), records(500, 1500));
    t.deepEqual(
      (await on.client.xInfoStream('s'))['last-generated-id'],
      before['last-generated-id'],
      'all of them were known',
    );
    await sink.write(values.slice(1499, 1500), records(1, 1499));
    t.not(
      (await on.client.xInfoStream('s'))['last-generated-id'],
      before['last-generated-id'],
      'this one was not any more',
    );
    await sink.close();
  },
);

test.serial(
  'entries that come by two groups are written once, because their sink knows them by the names of their source',
  async (t) => {
    const on = await stage(t);
    if (on === undefined) return;
    await stream(fromIterable([1, 2, 3])).to(on.sink({ stream: 'in' }));
    for (const group of ['first', 'second']) {
      const source = on.source({ stream: 'in', group, endWhenEmpty: true });
      const report = await stream(source)
        .flatMap((n) => [n, -Number(n)])
        .to(on.sink({ stream: 'out' }));
      t.like(report, { results: 6, delivery: 'at-least-once' });
      t.is((await on.client.xPending('in', group)).pending, 0);
    }
    const entries = (await on.client.xRange('out', '-', '+')) ?? [];
    t.deepEqual(
      entries.map(({ message }) => Number(message['value'])),
      [1, -1, 2, -2, 3, -3],
    );
  },
);

test.serial('a failed record without a dead letter stays with the group; with one it is done', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.add('s', 'good', 'bad');
  const pipeline = stream(on.source({ endWhenEmpty: true })).map((value) => {
    if (value === 'bad') throw new Error('not this one');
    return value;
  });
  t.like(await pipeline.to(toArray()), { results: 1, failed: 1 });
  t.is((await on.client.xPending('s', 'g')).pending, 1);
  const letters = toArray();
  t.like(await pipeline.to(toArray(), { deadLetters: letters }), { results: 0, deadLetters: 1 });
  t.like(letters.values, { 0: { input: 'bad' } });
  t.is((await on.client.xPending('s', 'g')).pending, 0);
});

test.serial('a record whose entry could not be added is not taken for written when it comes again', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const sink = on.sink();
  await sink.open?.();
  await sink.write(['one'], records(1));
  await on.client.rename('s', 'aside');
  await on.client.set('s', 'of another type');
  await t.throwsAsync(async () => sink.write(['two'], records(1, 1)), { code: 'SINK_FAILED', message: /WRONGTYPE/ });
  await on.client.rename('aside', 's');
  await sink.write(['one', 'two'], records(2));
  const entries = (await on.client.xRange('s', '-', '+')) ?? [];
  t.deepEqual(
    entries.map(({ message }) => message['value']),
    ['"one"', '"two"'],
  );
  await sink.close();
});

test.serial('what keeps a sink from writing is met when it opens, before anything is read', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.client.set('{s}:troupe-written', 'of another type');
  await t.throwsAsync(async () => on.sink().open?.(), { code: 'SINK_FAILED', message: /Cannot open .*WRONGTYPE/ });
  await on.client.sendCommand(['ACL', 'SETUSER', 'reader', 'on', '>correct', '~*', '+@all', '-eval']);
  const url = on.server.url.replace('//', '//reader:correct@');
  await t.throwsAsync(async () => on.sink({ url, stream: 'other' }).open?.(), { message: /Cannot open .*NOPERM/ });
});

test.serial('large values go out in several scripts, in order', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const sink = on.sink();
  await sink.open?.();
  const letters = ['a', 'b', 'c', 'd'];
  await sink.write(
    letters.map((letter) => letter.repeat(1_500_000)),
    records(4),
  );
  const entries = (await on.client.xRange('s', '-', '+')) ?? [];
  t.deepEqual(
    entries.map(({ message }) => message['value']?.[1]),
    letters,
  );
  t.regex(await on.client.info('commandstats'), /cmdstat_eval:calls=3,/, 'one of them to open');
  await sink.close();
});

test.serial('what the server refuses is not tried again: a wrong password, a database that is not there', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const reconnect = { attempts: 20, backoffMs: 60_000, maxBackoffMs: 60_000 };
  await on.client.sendCommand(['CONFIG', 'SET', 'requirepass', 'correct']);
  for (const url of [on.server.url.replace('//', '//:wrong@'), on.server.url.replace('//', '//:correct@') + '/4096']) {
    const error = await t.throwsAsync(async () => on.source({ url, reconnect }).open(), { code: 'SOURCE_FAILED' });
    t.regex(error?.message ?? '', /WRONGPASS|DB index is out of range/);
    t.notRegex(error?.message ?? '', /wrong@|correct/);
    await t.throwsAsync(async () => on.sink({ url, reconnect }).open?.(), { code: 'SINK_FAILED' });
  }
});

test.serial('a server that is full is waited for, like one that is away', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const sink = on.sink();
  await sink.open?.();
  await on.client.sendCommand(['CONFIG', 'SET', 'maxmemory', '1']);
  const writing = sink.write([1], records(1));
  while (!/OOM/.test(await on.client.info('errorstats'))) continue;
  t.is(await on.client.xLen('s'), 0);
  await on.client.sendCommand(['CONFIG', 'SET', 'maxmemory', '0']);
  await writing;
  t.is(await on.client.xLen('s'), 1);
  await sink.close();
});

test.serial('an entry that is not UTF-8, or nested too deep, fails alone', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  for (const value of [
    Buffer.from([0x22, 0xff, 0x22]),
    '"\uFFFD is a character like others"',
    `${'['.repeat(5000)}${']'.repeat(5000)}`,
  ]) {
    await on.client.sendCommand(['XADD', 's', '*', 'value', value] as string[]);
  }
  const reader = await on.source().open();
  const [bytes, text, deep] = valuesOf(await read(t, reader, 3));
  t.true(bytes instanceof RecordFailure && /is not valid UTF-8/.test(bytes.error.message));
  t.is(text, '\uFFFD is a character like others');
  t.true(deep instanceof RecordFailure && /nested deeper than 1000/.test(deep.error.message));
  const fields = await on.source({ group: 'other', format: 'fields' }).open();
  const [mangled, whole] = valuesOf(await read(t, fields, 3));
  t.true(mangled instanceof RecordFailure && mangled.error.code === 'PARSE_FAILED');
  t.like(whole, { value: '"\uFFFD is a character like others"' });
  await fields.close();
  await reader.close();
});

test('a server that takes the connection and says nothing is given up, and at once when the run ends', async (t) => {
  const silent = createServer(() => undefined);
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.teardown(() => silent.close());
  const url = `redis://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const options = { url, stream: 's', group: 'g', consumer: 'c' };
  const source = fromRedis({ ...options, reconnect: { attempts: 1 } });
  await t.throwsAsync(async () => source.open(), { code: 'SOURCE_FAILED', message: /said nothing for 5000 ms/ });
  for (const open of [
    (signal: AbortSignal) => fromRedis(options).open(undefined, signal),
    (signal: AbortSignal) => toRedis({ url, stream: 's' }).open?.(undefined, signal),
  ]) {
    const ending = new AbortController();
    const connected = once(silent, 'connection');
    const opening = t.throwsAsync(async () => open(ending.signal), { message: /the connection was ended/ });
    const [socket] = (await connected) as [Socket];
    socket.resume();
    ending.abort();
    await opening;
    if (!socket.destroyed) await once(socket, 'close');
  }
});

test('a wrong option throws a TypeError that names it and shows no password', (t) => {
  const good = { url: 'redis://h', stream: 's', group: 'g', consumer: 'c' };
  const wrong: readonly [object, RegExp][] = [
    [{ url: 'http://me:hidden@h' }, /^url must be a redis:/],
    [{ url: 5 }, /^url must be a redis:/],
    [{ url: 'redis://me:hidden@h/table' }, /^url must be a redis:.* at most a database number/],
    [{ url: 'redis://me:hidden@h:99999' }, /^url must be a redis:/],
    [{ stream: '' }, /^stream must be/],
    [{ group: 1 }, /^group must be/],
    [{ consumer: undefined }, /^consumer must be/],
    [{ format: 'xml' }, /^format must be/],
    [{ start: '0' }, /^start must be/],
    [{ claimIdleMs: 0 }, /^claimIdleMs must be/],
    [{ maxDeliveries: 0 }, /^maxDeliveries must be/],
    [{ endWhenEmpty: 1 }, /^endWhenEmpty must be/],
    [{ reconnect: { attempts: 0 } }, /^reconnect\.attempts must be/],
    [{ steam: 's' }, /unknown option "steam"/],
  ];
  for (const [options, message] of wrong) {
    const error = t.throws(() => fromRedis({ ...good, ...options } as never), { instanceOf: TypeError, message });
    t.notRegex(error?.message ?? '', /hidden/);
  }
  for (const [options, message] of [
    [{ maxLength: 0 }, /^maxLength must be/],
    [{ remember: 0 }, /^remember must be/],
    [{ key: '' }, /^key must be/],
    [{ field: '' }, /^field must be/],
  ] as const) {
    t.throws(() => toRedis({ url: 'redis://h', stream: 's', ...options } as never), { instanceOf: TypeError, message });
  }
});
