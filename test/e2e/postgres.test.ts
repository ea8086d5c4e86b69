import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { inspect } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { TroupeError } from '../../src/kernel/errors.js';
import { Envelope, RecordFailure, type RecordInfo, type Stamped } from '../../src/stream/envelope.js';
import type { SourceReader } from '../../src/stream/source.js';
import { toPostgres, type ToPostgresOptions } from '../../src/stream/sinks/postgres.js';
import { fromPostgres, type FromPostgresOptions } from '../../src/stream/sources/postgres.js';
import { checkSink, checkSource } from '../../src/testing/index.js';
import { conforms } from '../testing/conformance/conforms.js';
import { closedAfter, startPostgres, type TestServer } from './servers.js';

/** Against a real server that all tests share; every test has tables of its own. */
const FAST = { attempts: 200, backoffMs: 5, maxBackoffMs: 100 };

let shared: Promise<TestServer | undefined> | undefined;
const ends: (() => Promise<void>)[] = [];
test.after.always(async () => {
  for (const end of ends) await end();
});

interface Stage {
  readonly table: string;
  readonly url: string;
  sql(text: string, values?: unknown[]): Promise<Record<string, unknown>[]>;
  source(options?: Partial<FromPostgresOptions>): ReturnType<typeof fromPostgres>;
  sink(options?: Partial<ToPostgresOptions>): ReturnType<typeof toPostgres>;
  /** Makes the queue and puts values into it. */
  queue(...values: unknown[]): Promise<void>;
}

async function stage(t: ExecutionContext): Promise<Stage | undefined> {
  const keep = {
    log: t.log.bind(t),
    pass: t.pass.bind(t),
    teardown: (end: () => Promise<void>) => void ends.push(end),
  };
  const server = await (shared ??= startPostgres(keep as never));
  if (server === undefined) {
    t.log('not run: there is no postgres');
    t.pass();
    return undefined;
  }
  const pool = new pg.Pool({ connectionString: server.url, max: 1, application_name: 'test' });
  pool.on('error', () => undefined);
  t.teardown(() => pool.end());
  const table = `t_${randomUUID().replaceAll('-', '')}`;
  const connection = server.url;
  const sql: Stage['sql'] = async (text, values = []) =>
    (await pool.query(text, values)).rows as Record<string, unknown>[];
  return {
    table,
    url: server.url,
    sql,
    source: (options) =>
      closedAfter(t, fromPostgres({ connection, table, createTable: true, pollMs: 20, reconnect: FAST, ...options })),
    sink: (options) => toPostgres({ connection, table, createTable: true, reconnect: FAST, ...options }),
    queue: async (...values) => {
      const reader = await fromPostgres({ connection, table, createTable: true }).open();
      await reader.close();
      for (const value of values) await sql(`INSERT INTO ${table} (value) VALUES ($1)`, [JSON.stringify(value)]);
    },
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
const refused = { host: '127.0.0.1', port: 1, user: 'x' };

// Serial tests come first, so nobody else uses the server while it is down.
test.serial('a server that is killed and comes back costs time and no record', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.queue(1, 2);
  const reader = await on.source({ consumer: 'me' }).open();
  const before = await read(t, reader, 1);
  const sink = on.sink({ table: `${on.table}_out` });
  await sink.open?.();
  await sink.write(['a'], records(1));
  await (await shared)?.restart();
  await sink.write(['b'], records(1, 1));
  await reader.acknowledge?.(acked(before));
  t.deepEqual(valuesOf(await read(t, reader, 1)), [2]);
  await sink.close();
  await reader.close();
});

test('fromPostgres and toPostgres conform', async (t) => {
  t.timeout(60_000);
  const on = await stage(t);
  if (on === undefined) return;
  const drop = (table: string) => async (): Promise<void> => {
    // Others use the server meanwhile: only the connections that speak of this table are ended.
    await on.sql('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1', [`%${table}%`]);
  };
  for (const keepDone of [false, true]) {
    const report = await checkSource(`fromPostgres, keepDone: ${keepDone}`, {
      stand: async (values) => {
        const table = `q_${randomUUID().replaceAll('-', '')}`;
        const source = on.source({ table, keepDone, retryDelayMs: 0 });
        const reader = await source.open();
        await reader.close();
        const add = async (more: readonly unknown[]): Promise<void> => {
          const texts = more.map((value) => JSON.stringify(value));
          await on.sql(`INSERT INTO ${table} (value) SELECT * FROM unnest($1::jsonb[])`, [texts]);
        };
        await add(values);
        return {
          source,
          ends: false,
          add,
          disconnect: drop(table),
          readAhead: async () => {
            const [row] = await on.sql(`SELECT count(*) FROM ${table} WHERE claimed_until > now()`);
            return Number(row?.['count']) - 10;
          },
        };
      },
      hasBadRecords: false,
      unreachable: () => fromPostgres({ connection: refused, table: 't', reconnect: { attempts: 1 } }),
      readAheadMax: 0,
    });
    conforms(t, report, 12);
  }
  for (const columns of [undefined, ['n', 'text']]) {
    const report = await checkSink(`toPostgres, columns: ${String(columns)}`, {
      stand: async () => {
        const table = `s_${randomUUID().replaceAll('-', '')}`;
        await on.sql(`CREATE TABLE ${table} (place serial, key text UNIQUE, value jsonb, n integer, text text)`);
        const read = columns === undefined ? 'value' : "json_build_object('n', n, 'text', text) AS value";
        const lock = new pg.Client({ connectionString: on.url });
        return {
          sink: () => on.sink({ table, ...(columns === undefined ? {} : { columns, createTable: false }) }) as never,
          values: async () => (await on.sql(`SELECT ${read} FROM ${table} ORDER BY place`)).map(({ value }) => value),
          disconnect: drop(table),
          stall: async () => {
            await lock.connect();
            await lock.query('BEGIN');
            await lock.query(`LOCK TABLE ${table}`);
          },
          refuse: async () => void (await on.sql(`DROP TABLE ${table}`)),
          close: () => lock.end(),
        };
      },
      unreachable: () => toPostgres({ connection: refused, table: 't', reconnect: { attempts: 1 } }) as never,
    });
    conforms(t, report, 13);
  }
});

test('two readers of a table share its rows, and each row is claimed once', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const values = Array.from({ length: 200 }, (_, n) => n);
  await on.queue(...values);
  const readers = await Promise.all([1, 2, 3].map(async () => on.source({ endWhenEmpty: true }).open()));
  const got = await Promise.all(
    readers.map(async (reader) => {
      const mine: unknown[] = [];
      for (let items = await reader.read(7); items !== undefined; items = await reader.read(7)) {
        mine.push(...valuesOf(items as Stamped<unknown>[]));
        await reader.acknowledge?.(acked(items as Stamped<unknown>[]));
      }
      await reader.close();
      return mine;
    }),
  );
  t.deepEqual(
    got
      .flat()
      .map(Number)
      .sort((a, b) => a - b),
    values,
  );
  t.deepEqual(await on.sql(`SELECT * FROM ${on.table}`), []);
});

test('the claims of a reader that died run out; those of one that lives are renewed', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.queue('dead', 'slow');
  await on.sql(`UPDATE ${on.table} SET claimed_by = 'dead', claimed_until = 'infinity', attempts = 1 WHERE id = 1`);
  const slow = await on.source({ leaseMs: 300 }).open();
  t.deepEqual(valuesOf(await read(t, slow, 1)), ['slow']);
  await on.sql(`UPDATE ${on.table} SET claimed_until = now() WHERE id = 1`);
  const heir = await on.source().open();
  const [taken] = await read(t, heir, 1);
  t.is(taken?.value, 'dead');
  t.like(taken?.metadata, { key: `postgres:${on.table}:1`, attempt: 2 });
  const [claim] = await on.sql(`SELECT claimed_until AS until FROM ${on.table} WHERE id = 2`);
  // A first lease would be over when the server wakes up.
  await on.sql('SELECT pg_sleep(0.5)');
  const [renewed] = await on.sql(
    `SELECT claimed_until AS until FROM ${on.table} WHERE id = 2 AND claimed_until > now()`,
  );
  t.true(Number(renewed?.['until']) > Number(claim?.['until']));
  for (const reader of [slow, heir]) await reader.close();
});

test('a named consumer that comes back has its rows at once; close gives them back to all', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.queue(1, 2);
  await on.sql(`UPDATE ${on.table} SET claimed_by = 'me', claimed_until = now() + interval '1 hour', attempts = 1`);
  const other = await on.source({ endWhenEmpty: true }).open();
  t.is(await other.read(5), undefined);
  const again = await on.source({ consumer: 'me' }).open();
  t.deepEqual(valuesOf(await read(t, again, 2)), [1, 2]);
  await again.close();
  t.deepEqual(valuesOf(await read(t, other, 2)), [1, 2]);
  await other.close();
});

test('a failed row is tried again up to maxAttempts and then keeps its error', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.queue('bad', 'good');
  const reader = await on.source({ maxAttempts: 2, retryDelayMs: 1, keepDone: true }).open();
  const error = new TroupeError('PREDICT_FAILED', 'no\0body');
  const first = await read(t, reader, 2);
  await reader.acknowledge?.([{ token: first[0]?.token, error }, { token: first[1]?.token }]);
  const second = await read(t, reader, 1);
  t.is(second[0]?.value, 'bad');
  await reader.acknowledge?.([{ token: second[0]?.token, error }]);
  const rows = await on.sql(`SELECT value, attempts, error, failed_at, done_at FROM ${on.table} ORDER BY id`);
  t.like(rows[0], { value: 'bad', attempts: 2, error: 'PREDICT_FAILED: nobody', done_at: null });
  t.true(rows[0]?.['failed_at'] instanceof Date);
  t.like(rows[1], { value: 'good', attempts: 1, error: null, failed_at: null });
  t.true(rows[1]?.['done_at'] instanceof Date);
  await reader.close();
});

test('a row that ended its reader each time fails with DELIVERY_LIMIT after maxAttempts', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.queue('poison');
  const seen: unknown[] = [];
  for (let start = 0; start < 3; start += 1) {
    const reader = await on.source({ consumer: 'me', maxAttempts: 2 }).open();
    const [item] = await read(t, reader, 1);
    seen.push(item?.value instanceof RecordFailure ? item.value.error.code : item?.value);
    if (start === 2)
      await reader.acknowledge?.([{ token: item?.token, error: new TroupeError('DELIVERY_LIMIT', 'x') }]);
    await reader.close();
  }
  t.deepEqual(seen, ['poison', 'poison', 'DELIVERY_LIMIT']);
  const [row] = await on.sql(`SELECT failed_at FROM ${on.table}`);
  t.true(row?.['failed_at'] instanceof Date);
});

test('a channel tells a waiting reader at once, also after its connection broke', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.queue();
  const channel = `Odd "name" ${on.table}`;
  const reader = await on.source({ channel, pollMs: 60_000 }).open();
  const sink = on.sink({ channel, createTable: false });
  await sink.open?.();
  const first = read(t, reader, 1);
  await sink.write([{ n: 1 }], records(1));
  t.deepEqual(valuesOf(await first), [{ n: 1 }]);
  const second = read(t, reader, 1);
  await on.sql(
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()',
    [`%${on.table}%`],
  );
  await sink.write([{ n: 2 }], records(1, 1));
  t.deepEqual(valuesOf(await second), [{ n: 2 }]);
  await sink.close();
  await reader.close();
});

test('a claim whose answer was given up is made anew once the table is free, and costs no row an attempt', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  for (const limit of [{ query_timeout: 100 }, { options: '-c statement_timeout=100' }]) {
    await on.queue(1, 2, 3);
    const reader = await on
      .source({ connection: { connectionString: on.url, ...limit }, endWhenEmpty: true, createTable: false })
      .open();
    await on.sql('BEGIN');
    await on.sql(`LOCK TABLE ${on.table} IN ACCESS EXCLUSIVE MODE`);
    const reading = read(t, reader, 3);
    const waiting = `SELECT pid FROM pg_locks WHERE NOT granted AND relation = '${on.table}'::regclass`;
    const pids = new Set<unknown>();
    while (pids.size < 2) for (const { pid } of await on.sql(waiting)) pids.add(pid);
    await on.sql('COMMIT');
    const items = await reading;
    t.deepEqual(valuesOf(items), [1, 2, 3]);
    t.deepEqual(
      items.map(({ metadata }) => (metadata as { attempt: number }).attempt),
      [1, 1, 1],
    );
    await reader.acknowledge?.(acked(items));
    t.is(await reader.read(1), undefined);
    await reader.close();
  }
});

test('a server that is read only for now is waited for', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const role = `r_${on.table}`;
  await on.sql(`CREATE ROLE ${role} LOGIN SUPERUSER`);
  await on.sql(`CREATE TABLE ${on.table} (key text PRIMARY KEY, value jsonb)`);
  await on.sql(`ALTER ROLE ${role} SET default_transaction_read_only = on`);
  const sink = on.sink({ connection: on.url.replace('user=troupe', `user=${role}`), createTable: false });
  const opening = sink.open?.();
  const seen = `SELECT pid FROM pg_stat_activity WHERE usename = '${role}'`;
  const pids = new Set<unknown>();
  while (pids.size < 2) for (const { pid } of await on.sql(seen)) pids.add(pid);
  await on.sql(`ALTER ROLE ${role} RESET default_transaction_read_only`);
  await opening;
  await sink.write([1], records(1));
  t.is((await on.sql(`SELECT * FROM ${on.table}`)).length, 1);
  await sink.close();
});

test('a row that is nested too deep fails alone', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.queue();
  const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;
  for (const text of [nested(2000), nested(1000)]) {
    await on.sql(`INSERT INTO ${on.table} (value) VALUES ($1)`, [text]);
  }
  const reader = await on.source().open();
  const [deep, fine] = await read(t, reader, 2);
  const failure = deep?.value as RecordFailure;
  t.is(failure.error.code, 'PARSE_FAILED');
  t.regex(failure.error.message, /row \d+ is no JSON that can be used: it is nested deeper/);
  t.is(JSON.stringify(fine?.value), nested(1000));
  await reader.close();
});

test('settings that cannot work are refused without further tries, and a try under way ends with the run', async (t) => {
  const reconnect = { attempts: 20, backoffMs: 60_000, maxBackoffMs: 60_000 };
  const silent = createServer(() => undefined);
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.teardown(() => silent.close());
  const there = `postgres://me:hidden@127.0.0.1:${(silent.address() as AddressInfo).port}/d`;
  const ends = (connection: string) => [
    (signal?: AbortSignal) => fromPostgres({ connection, table: 't', reconnect }).open(undefined, signal),
    (signal?: AbortSignal) => toPostgres({ connection, table: 't', reconnect }).open?.(undefined, signal),
  ];
  for (const open of ends('postgres://me:hidden@127.0.0.1:99999/d')) {
    const error = await t.throwsAsync(async () => open(), { message: /Invalid URL/ });
    t.notRegex(inspect(error, { depth: 10 }), /hidden/);
  }
  for (const open of ends(there)) {
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

test('any name is a name: tables, columns and values that look like SQL are data', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const evil = `x"; DROP TABLE ${on.table}; --`;
  await on.queue();
  const sink = on.sink({ table: evil, valueColumn: 'a "value"', keyColumn: "k'; --" });
  await sink.open?.();
  await sink.write(["'; DROP TABLE x; --", { $1: '$2' }], records(2));
  await sink.close();
  const quoted = `"${evil.replaceAll('"', '""')}"`;
  const rows = await on.sql(`SELECT "a ""value""" AS value FROM ${quoted}`);
  t.deepEqual(rows, [{ value: "'; DROP TABLE x; --" }, { value: { $1: '$2' } }]);
  const reader = await on.source({ table: `public.${evil}2` }).open();
  await reader.close();
  t.deepEqual(await on.sql(`SELECT * FROM ${on.table}`), [], 'still there');
  await on.sql(`DROP TABLE ${quoted}`);
});

test('a value the table refuses fails the write, names the record, and the ones before it are there once', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  await on.sql(`CREATE TABLE ${on.table} (key text PRIMARY KEY, n smallint CHECK (n <> 13), at timestamptz)`);
  const sink = on.sink({ columns: ['n', 'at'], createTable: false, key: 'k' });
  await sink.open?.();
  await sink.write([{ n: 1, at: '2026-01-01T00:00:00Z', more: 1 }, { n: null }], records(2));
  for (const [n, words] of [
    [13, /record 3 .*violates check constraint/],
    [100_000, /record 3 .*out of range/],
    ['x', /record 3 .*invalid input syntax/],
  ] as const) {
    const error = await t.throwsAsync(async () => sink.write([{ n: 2 }, { n }, { n: 3 }], records(3, 2)), {
      message: words,
    });
    t.like(error, { code: 'SINK_FAILED' });
  }
  await t.throwsAsync(async () => sink.write([5], records(1, 9)), {
    message: /with columns every value must be an object/,
  });
  t.deepEqual(await on.sql(`SELECT key, n FROM ${on.table} ORDER BY key`), [
    { key: 'k:0', n: 1 },
    { key: 'k:1', n: null },
    { key: 'k:2', n: 2 },
  ]);
  await sink.close();
  const plain = on.sink({ table: `${on.table}_json` });
  await plain.open?.();
  await t.throwsAsync(async () => plain.write(['ok', 'nul \0 byte'], records(2)), { message: /record 1 to/ });
  await plain.close();
});

test('what cannot work is refused at open: table, columns, index', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const opening = (options: Partial<ToPostgresOptions>) => async () =>
    on.sink({ createTable: false, ...options }).open?.();
  t.regex((await t.throwsAsync(opening({})))?.message ?? '', /Cannot open .*does not exist/);
  await on.sql(`CREATE TABLE ${on.table} (key text, value jsonb)`);
  t.regex((await t.throwsAsync(opening({})))?.message ?? '', /no unique or exclusion constraint/);
  t.regex((await t.throwsAsync(opening({ columns: ['nowhere'] })))?.message ?? '', /nowhere/);
  const error = await t.throwsAsync(async () => on.source().open());
  t.like(error, { code: 'SOURCE_FAILED' });
  t.regex(error?.message ?? '', /has no column id, attempts, .*createTable: true/);
});

test('large writes go out in one statement each', async (t) => {
  const on = await stage(t);
  if (on === undefined) return;
  const sink = on.sink();
  await sink.open?.();
  const values = Array.from({ length: 70_000 }, (_, n) => ({ n }));
  await sink.write(values, records(70_000));
  await sink.close();
  t.deepEqual(await on.sql(`SELECT count(*)::int FROM ${on.table}`), [{ count: 70_000 }]);
});

test('a wrong option throws a TypeError that names it and shows no password', (t) => {
  const good = { connection: 'postgres://h/db', table: 't' };
  const wrong: readonly [object, RegExp][] = [
    [{ connection: 'http://me:hidden@h' }, /^connection must be a postgres:/],
    [{ connection: 5 }, /^connection must be/],
    [{ table: 'a.b.c' }, /^table must be/],
    [{ table: '' }, /^table must be/],
    [{ leaseMs: 0 }, /^leaseMs must be/],
    [{ maxAttempts: 0 }, /^maxAttempts must be/],
    [{ retryDelayMs: -1 }, /^retryDelayMs must be/],
    [{ pollMs: 0 }, /^pollMs must be/],
    [{ channel: '' }, /^channel must be/],
    [{ keepDone: 'yes' }, /^keepDone must be/],
    [{ consumer: '' }, /^consumer must be/],
    [{ tabel: 't' }, /unknown option "tabel"/],
  ];
  for (const [options, message] of wrong) {
    const error = t.throws(() => fromPostgres({ ...good, ...options } as never), { instanceOf: TypeError, message });
    t.notRegex(error?.message ?? '', /hidden/);
  }
  for (const [options, message] of [
    [{ columns: [] }, /^columns must be/],
    [{ columns: ['key'] }, /must not name the key column/],
    [{ columns: ['a'], createTable: true }, /neither createTable nor valueColumn/],
    [{ key: 5 }, /^key must be/],
  ] as const) {
    t.throws(() => toPostgres({ ...good, ...options } as never), { instanceOf: TypeError, message });
  }
});
