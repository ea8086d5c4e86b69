import { TroupeError } from '../../kernel/errors.js';
import { retryPlan, type BackoffOptions, type RetryPlan } from '../backoff.js';
import type { RecordInfo } from '../envelope.js';
import { checkFlag, checkKeys, refuse } from '../options.js';
import {
  PostgresLink,
  PostgresRefusal,
  checkConnection,
  checkName,
  checkTable,
  ensureTable,
  postgresName,
  quoteName,
  quoteTable,
  type PostgresConnection,
} from '../postgres-client.js';
import { RecordKeys, checkKey, type KeyOption } from '../record-key.js';
import type { Sink } from '../sink.js';
import { jsonOf } from './json-lines.js';

export interface ToPostgresOptions<T = unknown> {
  /** `postgres://[user:password@]host[:port]/database`, or what pg's Client takes. */
  connection: PostgresConnection;
  /** `table` or `schema.table`. */
  table: string;
  /** Makes a table of `keyColumn` and `valueColumn` where it is missing. Default false; not together with `columns`. */
  createTable?: boolean;
  /** Column of the key; it needs a unique index. Default `key`. */
  keyColumn?: string;
  /** Column that takes the whole value; jsonb or json. Default `value`; not together with `columns`. */
  valueColumn?: string;
  /** Takes these fields of the value, each into the column of its name, converted as PostgreSQL converts JSON. */
  columns?: readonly string[];
  /** What a record is known by; default its name in its source, or run and record id. */
  key?: KeyOption<T>;
  /** Channel that is NOTIFYed after each write, for readers that LISTEN. Default none. */
  channel?: string;
  /** Of a connection that broke. Default 10 tries in a row, from 200 to 10,000 ms. */
  reconnect?: BackoffOptions;
}

/**
 * Inserts a row for each value. Idempotent: the row has the record's key, and one whose key is there already is left
 * as it is (ON CONFLICT DO NOTHING). Rows of a write are committed together before it resolves. Rejects with
 * SINK_FAILED, which names the record where one value is at fault: the rows before it are then written.
 */
export function toPostgres<T = unknown>(options: ToPostgresOptions<T>): Sink<T> {
  checkKeys('toPostgres', options, [
    'connection',
    'table',
    'createTable',
    'keyColumn',
    'valueColumn',
    'columns',
    'key',
    'channel',
    'reconnect',
  ]);
  const { connection, table, createTable = false, keyColumn = 'key', valueColumn = 'value' } = options;
  const { columns, key, channel, reconnect } = options;
  checkConnection('connection', connection);
  checkTable('table', table);
  checkFlag('createTable', createTable);
  checkName('keyColumn', keyColumn);
  checkName('valueColumn', valueColumn);
  checkColumns(columns, keyColumn);
  if (columns !== undefined && (createTable || options.valueColumn !== undefined)) {
    throw new TypeError('columns says where values go, so neither createTable nor valueColumn may be given');
  }
  checkKey('key', key);
  if (channel !== undefined) checkName('channel', channel);
  const retry = retryPlan('reconnect', reconnect, 10);
  const plan = { connection, table, createTable, keyColumn, valueColumn, columns, channel, retry };
  return new PostgresSink(plan, new RecordKeys(key));
}

interface Plan {
  readonly connection: PostgresConnection;
  readonly table: string;
  readonly createTable: boolean;
  readonly keyColumn: string;
  readonly valueColumn: string;
  readonly columns: readonly string[] | undefined;
  readonly channel: string | undefined;
  readonly retry: RetryPlan;
}

interface Rows {
  readonly keys: readonly string[];
  /** JSON of each value. */
  readonly texts: readonly string[];
}

class PostgresSink implements Sink<unknown> {
  readonly name: string;
  readonly isIdempotent = true;
  readonly #insert: string;
  #link: PostgresLink | undefined;

  constructor(
    private readonly plan: Plan,
    private readonly keys: RecordKeys,
  ) {
    this.name = postgresName(plan.connection, plan.table);
    this.#insert = insertStatement(plan);
  }

  async open(resume?: { readonly state: unknown }, giveUp?: AbortSignal): Promise<void> {
    const { connection, table, createTable, keyColumn, valueColumn, retry } = this.plan;
    this.keys.open(resume);
    this.#link?.end();
    this.#link = new PostgresLink(this.name, connection, retry);
    giveUp?.addEventListener('abort', () => this.#link?.end(), { once: true });
    try {
      if (createTable) {
        const columns = `${quoteName(keyColumn)} text PRIMARY KEY, ${quoteName(valueColumn)} jsonb`;
        await ensureTable(this.#link, `${quoteTable(table)} (${columns})`);
      }
      // Inserting nothing meets every trouble that is not about values: table, columns, index, permission.
      await this.#send(this.#link, { keys: [], texts: [] });
    } catch (cause) {
      this.#link.end();
      throw this.#failed('open', cause);
    }
  }

  async write(values: readonly unknown[], records: readonly RecordInfo[]): Promise<void> {
    const link = this.#link as PostgresLink;
    const keys = values.map((value, index) => this.keys.of(value, records[index] as RecordInfo));
    const texts = values.map((value, index) => jsonOf(value, records[index]));
    try {
      await this.#send(link, { keys, texts });
      if (this.plan.channel !== undefined) await link.query('SELECT pg_notify($1, $2)', [this.plan.channel, '']);
    } catch (cause) {
      if (!(cause instanceof PostgresRefusal) || !cause.isAboutData || values.length === 1) {
        const which = values.length === 1 ? `record ${records[0]?.id}` : `records ${records[0]?.id} and following`;
        throw this.#failed(`write ${which} to`, cause);
      }
      await this.#writeSingly(link, { keys, texts }, records);
    }
  }

  prepare(): unknown {
    return this.keys.state;
  }

  close(): void {
    this.#link?.end();
  }

  /** Finds the value at fault; those that were written by then are known by their keys. */
  async #writeSingly(link: PostgresLink, { keys, texts }: Rows, records: readonly RecordInfo[]): Promise<void> {
    for (let index = 0; index < keys.length; index += 1) {
      try {
        await this.#send(link, { keys: keys.slice(index, index + 1), texts: texts.slice(index, index + 1) });
      } catch (cause) {
        throw this.#failed(`write record ${records[index]?.id} to`, cause);
      }
    }
  }

  async #send(link: PostgresLink, { keys, texts }: Rows): Promise<void> {
    const { columns, keyColumn } = this.plan;
    if (columns === undefined) await link.query(this.#insert, [keys, texts]);
    else {
      const rows = texts.map((text, index) => ({ ...fieldsOf(text), [keyColumn]: keys[index] }));
      await link.query(this.#insert, [JSON.stringify(rows)]);
    }
  }

  #failed(what: string, cause: unknown): TroupeError {
    if (cause instanceof TroupeError) return cause;
    const words = cause instanceof Error ? cause.message : String(cause);
    return new TroupeError('SINK_FAILED', `Cannot ${what} ${this.name}: ${words}`, { cause });
  }
}

/** Any number of rows in one statement, with one or two parameters: the protocol allows 65,535. */
function insertStatement({ table, keyColumn, valueColumn, columns }: Plan): string {
  const names = [keyColumn, ...(columns ?? [valueColumn])].map(quoteName).join(', ');
  const rows =
    columns === undefined
      ? 'SELECT * FROM unnest($1::text[], $2::jsonb[])'
      : `SELECT ${names} FROM jsonb_populate_recordset(NULL::${quoteTable(table)}, $1::jsonb)`;
  return `INSERT INTO ${quoteTable(table)} (${names}) ${rows} ON CONFLICT (${quoteName(keyColumn)}) DO NOTHING`;
}

function fieldsOf(text: string): object {
  const value = JSON.parse(text) as unknown;
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new TypeError('with columns every value must be an object');
}

function checkColumns(columns: unknown, keyColumn: string): void {
  if (columns === undefined) return;
  if (!Array.isArray(columns) || columns.length === 0)
    refuse('columns', 'an array of names that is not empty', columns);
  for (const column of columns as unknown[]) checkName('columns', column);
  if (columns.includes(keyColumn)) throw new TypeError(`columns must not name the key column "${keyColumn}"`);
}
