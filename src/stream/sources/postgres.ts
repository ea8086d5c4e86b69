/**
 * Rows of a table as a queue. A row is claimed for a while, by a date in the row itself; what is not acknowledged by
 * then may be claimed by anybody.
 *
 * Q1 a row is claimed by one reader at a time: FOR UPDATE SKIP LOCKED, and a date in the future.
 * Q2 the claims of this reader are renewed while it lives, so a slow record is no lost one.
 * Q3 a row is deleted, or marked, after its outcome, never before.
 * Q4 rows whose claim got through and whose answer got lost with the connection are free again before the next claim.
 */
import { randomUUID } from 'node:crypto';
import { systemClock, type Timer } from '../../kernel/clock.js';
import { TroupeError, type ErrorCode } from '../../kernel/errors.js';
import { pause, retryPlan, type BackoffOptions, type RetryPlan } from '../backoff.js';
import { RecordFailure, Stamped } from '../envelope.js';
import { wordsOf } from '../foreign.js';
import { checkCount, checkFlag, checkKeys, checkText } from '../options.js';
import { parseJson } from '../parse-json.js';
import {
  PostgresLink,
  checkConnection,
  checkName,
  checkTable,
  ensureTable,
  postgresName,
  quoteName,
  quoteTable,
  type PostgresConnection,
  type Row,
} from '../postgres-client.js';
import type { Acknowledgement, Source, SourceReader } from '../source.js';

export interface FromPostgresOptions {
  /** `postgres://[user:password@]host[:port]/database`, or what pg's Client takes. */
  connection: PostgresConnection;
  /** `table` or `schema.table`, with the columns that `createTable` makes. */
  table: string;
  /** Makes the table where it is missing. Default false. */
  createTable?: boolean;
  /** Column of the value; jsonb, or any type that pg reads. Default `value`. */
  valueColumn?: string;
  /** Names this reader, the same after a restart: what it had claimed is then free at once. Default: a new name each run. */
  consumer?: string;
  /** How long a row stays claimed by a reader that says nothing. Default 60,000. */
  leaseMs?: number;
  /** A row claimed more often than this without an outcome fails with DELIVERY_LIMIT. Default 5. */
  maxAttempts?: number;
  /** How long a row whose record failed waits for the next attempt. Default 1000. */
  retryDelayMs?: number;
  /** How often the table is looked at when it has nothing. Default 1000. */
  pollMs?: number;
  /** Channel whose NOTIFY says that there is more; looked at then, besides every `pollMs`. Default none. */
  channel?: string;
  /** Rows that are done stay, with the time in `done_at`, instead of being deleted. Default false. */
  keepDone?: boolean;
  /** Ends when there is no row to claim, instead of waiting for more. Default false. */
  endWhenEmpty?: boolean;
  /** Of a connection that broke. Default 10 tries in a row, from 200 to 10,000 ms. */
  reconnect?: BackoffOptions;
}

/** What a row carries along. */
export interface PostgresMetadata {
  readonly key: string;
  readonly table: string;
  readonly id: string;
  /** How often the row has been claimed, this time included. */
  readonly attempt: number;
}

const COLUMNS = ['id', 'attempts', 'claimed_by', 'claimed_until', 'done_at', 'failed_at', 'error'] as const;

/**
 * Reads a table as a queue, rows in the order of `id`, several readers at a time. Acknowledging: a row is deleted (or
 * marked, with `keepDone`) when its outcome is safe. A row whose record failed without a dead letter is tried again
 * after `retryDelayMs`, and after `maxAttempts` keeps its last error and `failed_at`. Rejects with SOURCE_FAILED when
 * the server cannot be reached or the table has other columns, and with PACKAGE_NOT_INSTALLED without `pg`.
 */
export function fromPostgres<T = unknown>(options: FromPostgresOptions): Source<T> {
  checkKeys('fromPostgres', options, [
    'connection',
    'table',
    'createTable',
    'valueColumn',
    'consumer',
    'leaseMs',
    'maxAttempts',
    'retryDelayMs',
    'pollMs',
    'channel',
    'keepDone',
    'endWhenEmpty',
    'reconnect',
  ]);
  const { connection, table, createTable = false, valueColumn = 'value', consumer, leaseMs = 60_000 } = options;
  const { maxAttempts = 5, retryDelayMs = 1000, pollMs = 1000, channel, keepDone = false } = options;
  const { endWhenEmpty = false, reconnect } = options;
  checkConnection('connection', connection);
  checkTable('table', table);
  checkFlag('createTable', createTable);
  checkName('valueColumn', valueColumn);
  if (consumer !== undefined) checkText('consumer', consumer);
  checkCount('leaseMs', leaseMs);
  checkCount('maxAttempts', maxAttempts);
  checkCount('retryDelayMs', retryDelayMs, 0);
  checkCount('pollMs', pollMs);
  if (channel !== undefined) checkName('channel', channel);
  checkFlag('keepDone', keepDone);
  checkFlag('endWhenEmpty', endWhenEmpty);
  const name = postgresName(connection, table);
  const retry = retryPlan('reconnect', reconnect, 10);
  const plan: Plan = {
    name,
    connection,
    table,
    createTable,
    valueColumn,
    consumer,
    leaseMs,
    maxAttempts,
    retryDelayMs,
    pollMs,
    channel,
    keepDone,
    endWhenEmpty,
    retry,
  };
  return {
    name,
    open: async (_from, giveUp) => {
      const reader = new PostgresReader(plan);
      giveUp?.addEventListener('abort', () => void reader.close(), { once: true });
      await reader.start();
      return reader as SourceReader<T>;
    },
  };
}

interface Plan {
  readonly name: string;
  readonly connection: PostgresConnection;
  readonly table: string;
  readonly createTable: boolean;
  readonly valueColumn: string;
  readonly consumer: string | undefined;
  readonly leaseMs: number;
  readonly maxAttempts: number;
  readonly retryDelayMs: number;
  readonly pollMs: number;
  readonly channel: string | undefined;
  readonly keepDone: boolean;
  readonly endWhenEmpty: boolean;
  readonly retry: RetryPlan;
}

class PostgresReader implements SourceReader<unknown> {
  readonly namesRecords = true;
  readonly #link: PostgresLink;
  readonly #consumer: string;
  readonly #table: string;
  /** SQL type of `id`, from the catalogue. */
  #idType = 'bigint';
  /** The value comes as text, because pg would parse it to any depth. */
  #isJson = true;
  /** Claimed here and without outcome. True: done with, whatever comes of it. */
  readonly #underWay = new Map<string, boolean>();
  #listeningEpoch = 0;
  /** Of the connection up to which no claim can have got lost. */
  #epoch = 0;
  /** Ends the wait for more rows. */
  #news = new AbortController();
  #renewal: Timer | undefined;
  #isClosed = false;

  constructor(private readonly plan: Plan) {
    this.#table = quoteTable(plan.table);
    this.#consumer = plan.consumer ?? randomUUID();
    this.#link = new PostgresLink(plan.name, plan.connection, plan.retry, () => this.#news.abort());
  }

  async start(): Promise<void> {
    const { table, valueColumn, createTable, consumer, leaseMs } = this.plan;
    try {
      if (createTable) await ensureTable(this.#link, tableDefinition(table, valueColumn));
      const columns = await this.#link.query(
        `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
         WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`,
        [this.#table],
      );
      const types = new Map(columns.map(({ name, type }) => [String(name), String(type)]));
      const missing = [...COLUMNS, valueColumn].filter((column) => !types.has(column));
      if (missing.length > 0) {
        throw new Error(`it has no column ${missing.join(', ')}; createTable: true makes a table that fits`);
      }
      this.#idType = types.get('id') as string;
      this.#isJson = /^jsonb?$/.test(types.get(valueColumn) as string);
      if (consumer !== undefined) await this.#release();
    } catch (cause) {
      this.#link.end();
      throw this.#failed(cause);
    }
    this.#epoch = this.#link.epoch;
    this.#scheduleRenewal(leaseMs / 3);
  }

  async read(max: number): Promise<readonly Stamped<unknown>[] | undefined> {
    try {
      while (!this.#isClosed) {
        this.#news = new AbortController();
        await this.#listen();
        await this.#recover();
        // After close() has let go of all claims there must be no new one.
        if (this.#isClosed) break;
        const rows = await this.#claim(max);
        // Closed meanwhile: close() asked after this claim, so it has let go of these rows too.
        if (this.#isClosed) break;
        if (rows.length > 0) return rows.map((row) => this.#itemOf(row));
        // It may have nothing because the one before it, whose answer got lost, has it all.
        if (this.#epoch !== this.#link.epoch) continue;
        if (this.plan.endWhenEmpty) return undefined;
        await pause(this.plan.pollMs, this.#news.signal);
      }
      return undefined;
    } catch (cause) {
      if (this.#isClosed) return undefined;
      throw this.#failed(cause);
    }
  }

  /** Q3. */
  async acknowledge(outcomes: readonly Acknowledgement[]): Promise<void> {
    const done: string[] = [];
    const failed: { id: string; error: string; isFinal: boolean }[] = [];
    for (const { token, error } of outcomes) {
      const id = String(token);
      if (error === undefined) done.push(id);
      else failed.push({ id, error: `${error.code}: ${error.message}`, isFinal: this.#underWay.get(id) === true });
    }
    try {
      if (done.length > 0) await this.#finish(done);
      if (failed.length > 0) await this.#fail(failed);
    } catch (cause) {
      throw this.#failed(cause);
    }
    for (const { token } of outcomes) this.#underWay.delete(String(token));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#renewal?.cancel();
    this.#news.abort();
    const ending = new AbortController();
    // Where it does not work in time the claims run out by themselves.
    const released = this.#release().then(
      () => ending.abort(),
      () => ending.abort(),
    );
    await Promise.race([released, pause(CLOSE_GRACE_MS, ending.signal)]);
    ending.abort();
    this.#link.end();
  }

  /** Q4. They were not tried, so it costs no attempt. A statement that the server still holds back comes before this one. */
  async #recover(): Promise<void> {
    while (this.#epoch !== this.#link.epoch) {
      const { epoch } = this.#link;
      await this.#link.query(
        `UPDATE ${this.#table} SET claimed_by = NULL, claimed_until = NULL, attempts = attempts - 1
         WHERE claimed_by = $1 AND done_at IS NULL AND failed_at IS NULL AND NOT id = ANY($2::text[]::${this.#idType}[])`,
        [this.#consumer, [...this.#underWay.keys()]],
      );
      this.#epoch = epoch;
    }
  }

  /** Q1. */
  async #claim(max: number): Promise<readonly Row[]> {
    const value = `${quoteName(this.plan.valueColumn)}${this.#isJson ? '::text' : ''}`;
    const rows = await this.#link.query(
      `WITH picked AS (
         SELECT id FROM ${this.#table}
         WHERE done_at IS NULL AND failed_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
         ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
       ), claimed AS (
         UPDATE ${this.#table} AS queue
         SET claimed_by = $2, claimed_until = now() + $3 * interval '1 ms', attempts = attempts + 1
         FROM picked WHERE queue.id = picked.id
         RETURNING queue.id, queue.${value} AS value, queue.attempts
       )
       SELECT id::text AS id, value, attempts FROM claimed ORDER BY claimed.id`,
      [max, this.#consumer, this.plan.leaseMs],
    );
    for (const { id } of rows) this.#underWay.set(String(id), false);
    return rows;
  }

  #itemOf({ id, value, attempts }: Row): Stamped<unknown> {
    const { name, table, maxAttempts } = this.plan;
    const attempt = Number(attempts);
    const metadata: PostgresMetadata = { key: `postgres:${table}:${String(id)}`, table, id: String(id), attempt };
    const failed = (code: ErrorCode, words: string, cause?: unknown): Stamped<unknown> => {
      this.#underWay.set(String(id), true);
      const error = new TroupeError(code, `${name}: row ${String(id)} ${words}`, { cause });
      return new Stamped<unknown>(new RecordFailure(error, value), { token: String(id), metadata });
    };
    if (attempt > maxAttempts) {
      return failed(
        'DELIVERY_LIMIT',
        `was claimed ${attempt - 1} times without an outcome, maxAttempts is ${maxAttempts}`,
      );
    }
    try {
      const parsed = this.#isJson && typeof value === 'string' ? parseJson(value) : value;
      return new Stamped(parsed, { token: String(id), metadata });
    } catch (cause) {
      return failed('PARSE_FAILED', `is no JSON that can be used: ${wordsOf(cause)}`, cause);
    }
  }

  /** Whoever holds the row by now: its outcome is safe, so it is done. */
  async #finish(ids: readonly string[]): Promise<void> {
    const which = `id = ANY($1::text[]::${this.#idType}[])`;
    if (!this.plan.keepDone) await this.#link.query(`DELETE FROM ${this.#table} WHERE ${which}`, [ids]);
    else {
      const change = 'done_at = now(), claimed_by = NULL, claimed_until = NULL, error = NULL';
      await this.#link.query(`UPDATE ${this.#table} SET ${change} WHERE ${which} AND done_at IS NULL`, [ids]);
    }
  }

  /** Only what is still claimed here: another reader may be at work on it again. */
  async #fail(failed: readonly { id: string; error: string; isFinal: boolean }[]): Promise<void> {
    await this.#link.query(
      `UPDATE ${this.#table} AS queue SET
         error = report.error,
         claimed_by = NULL,
         failed_at = CASE WHEN report.final OR queue.attempts >= $4 THEN now() END,
         claimed_until = now() + $5 * interval '1 ms'
       FROM unnest($1::text[]::${this.#idType}[], $2::text[], $3::boolean[]) AS report(id, error, final)
       WHERE queue.id = report.id AND queue.claimed_by = $6`,
      [
        failed.map(({ id }) => id),
        failed.map(({ error }) => error.replaceAll('\0', '')),
        failed.map(({ isFinal }) => isFinal),
        this.plan.maxAttempts,
        this.plan.retryDelayMs,
        this.#consumer,
      ],
    );
  }

  /** Lets go of all claims in this reader's name. They stay counted: a record may be what ended the reader. */
  async #release(): Promise<void> {
    await this.#link.query(
      `UPDATE ${this.#table} SET claimed_by = NULL, claimed_until = NULL
       WHERE claimed_by = $1 AND done_at IS NULL AND failed_at IS NULL`,
      [this.#consumer],
    );
  }

  /** A new connection listens to nothing. */
  async #listen(): Promise<void> {
    const { channel } = this.plan;
    while (channel !== undefined && this.#listeningEpoch !== this.#link.epoch) {
      await this.#link.query(`LISTEN ${quoteName(channel)}`);
      this.#listeningEpoch = this.#link.epoch;
    }
  }

  /** Q2. */
  #scheduleRenewal(everyMs: number): void {
    this.#renewal = systemClock.at(systemClock.now() + everyMs, () => {
      void this.#renew().then(() => {
        if (!this.#isClosed) this.#scheduleRenewal(everyMs);
      });
    });
  }

  async #renew(): Promise<void> {
    const ids = [...this.#underWay.keys()];
    if (ids.length === 0) return;
    try {
      await this.#link.query(
        `UPDATE ${this.#table} SET claimed_until = now() + $3 * interval '1 ms'
         WHERE id = ANY($1::text[]::${this.#idType}[]) AND claimed_by = $2`,
        [ids, this.#consumer, this.plan.leaseMs],
      );
    } catch {
      // The reads and acknowledgements of this run meet the same trouble and tell of it; here it costs an attempt.
    }
  }

  #failed(cause: unknown): TroupeError {
    if (cause instanceof TroupeError) return cause;
    const words = cause instanceof Error ? cause.message : String(cause);
    return new TroupeError('SOURCE_FAILED', `Cannot read ${this.plan.name}: ${words}`, { cause });
  }
}

/** How long close waits for the server to let go of claims. */
const CLOSE_GRACE_MS = 1000;

/** The table of a queue. `key` lets toPostgres write to it, each record once. */
function tableDefinition(table: string, valueColumn: string): string {
  return `${quoteTable(table)} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    ${quoteName(valueColumn)} jsonb NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    claimed_by text,
    claimed_until timestamptz,
    done_at timestamptz,
    failed_at timestamptz,
    error text
  )`;
}
