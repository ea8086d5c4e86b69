/**
 * The door to pg: one connection that is made when first needed and made anew after it broke, with statements one
 * after the other. Values are parameters always; names of tables and columns go through `quoteName`.
 *
 * A statement that was under way when the connection broke is sent again: every statement given here must bear that.
 */
import { Backoff, pause, type RetryPlan } from './backoff.js';
import { importOptional } from './optional-package.js';
import { refuse } from './options.js';

/** A connection string, or what pg's Client takes: `{ host, port, user, password, database, ssl }`. */
export type PostgresConnection = string | Readonly<Record<string, unknown>>;

export type Row = Readonly<Record<string, unknown>>;

const CONNECT_TIMEOUT_MS = 5000;
const STATEMENT_TIMEOUT_MS = 30_000;
/**
 * Worth another try: the connection (08), a shutdown or a start (57P), a server that is full (53) or a standby for now
 * (25006), a lost race (40001, 40P01), a lock (55P03), a time limit (57014).
 */
const TRANSIENT = /^(08...|25006|53...|57P0[1235]|57014|40001|40P01|55P03)$/;

export function checkConnection(option: string, value: unknown): void {
  const isText = typeof value === 'string' && /^(postgres(ql)?:\/\/|socket:)/.test(value);
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  // Not shown: it may hold a password.
  if (!isText && !isObject) {
    refuse(
      option,
      'a postgres:// URL or an object of connection settings',
      typeof value === 'string' ? 'another string' : value,
    );
  }
}

/** The table, with host and database where a URL says them, without user and password. */
export function postgresName(connection: PostgresConnection, table: string): string {
  const settings = typeof connection === 'string' ? fromUrl(connection) : connection;
  const { host = 'localhost', database = '' } = settings;
  return `postgres://${String(host)}/${String(database)} ${table}`;
}

function fromUrl(text: string): { host?: string; database?: string } {
  if (!URL.canParse(text)) return {};
  const { host, pathname } = new URL(text);
  return { ...(host === '' ? {} : { host }), database: pathname.slice(1) };
}

/** `table` or `schema.table`, quoted, so that any name is a name and nothing else. */
export function quoteTable(table: string): string {
  return table.split('.').map(quoteName).join('.');
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function checkTable(option: string, value: unknown): void {
  if (typeof value !== 'string' || !/^[^.\0]+(\.[^.\0]+)?$/.test(value)) {
    refuse(option, 'a table, or a schema and a table with a dot between', value);
  }
}

export function checkName(option: string, value: unknown): void {
  if (typeof value !== 'string' || value === '' || value.includes('\0')) refuse(option, 'a name', value);
}

/** The server understood the statement and refuses it, or the client its settings; trying again is of no use. */
export class PostgresRefusal extends Error {
  constructor(
    readonly sqlState: string,
    cause: Error,
  ) {
    super(cause.message, { cause });
    this.name = 'PostgresRefusal';
  }

  /** What was to be written is at fault: a value of the wrong type or size, or one that breaks a constraint. */
  get isAboutData(): boolean {
    return /^2[23]/.test(this.sqlState);
  }
}

export class PostgresLink {
  #connection: Promise<Connection> | undefined;
  #epoch = 0;
  readonly #ending = new AbortController();

  constructor(
    private readonly name: string,
    private readonly settings: PostgresConnection,
    private readonly retry: RetryPlan,
    /** Told of a notification on the channel that was LISTENed to, and of every new connection: one may have been missed. */
    private readonly onNotification: () => void = () => undefined,
  ) {}

  /** Rejects with PostgresRefusal, or with what broke the connection once the tries are used up or the link has ended. */
  async query(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    const backoff = new Backoff(this.retry);
    const { signal } = this.#ending;
    for (;;) {
      try {
        return await this.#try(text, values);
      } catch (cause) {
        if (cause instanceof PostgresRefusal || isMissingPackage(cause)) throw cause;
        const waitMs = signal.aborted ? undefined : backoff.next();
        if (waitMs === undefined) throw cause;
        await pause(waitMs, signal);
        if (signal.aborted) throw cause;
      }
    }
  }

  /** Grows with every connection that is made. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Ends the connection at once; what is under way rejects. */
  end(): void {
    this.#ending.abort();
    this.#connection?.then(
      (connection) => connection.drop(),
      () => undefined,
    );
  }

  async #try(text: string, values: readonly unknown[]): Promise<readonly Row[]> {
    this.#connection ??= this.#connect();
    const mine = this.#connection;
    let connection: Connection | undefined;
    try {
      connection = await mine;
      return await connection.query(text, values);
    } catch (cause) {
      if (cause instanceof PostgresRefusal) throw cause;
      connection?.drop();
      if (this.#connection === mine) this.#connection = undefined;
      throw cause;
    }
  }

  async #connect(): Promise<Connection> {
    if (this.#ending.signal.aborted) throw new Error('the connection was ended');
    const connection = await connect(this.name, this.settings, this.onNotification, this.#ending.signal);
    this.#epoch += 1;
    if (!this.#ending.signal.aborted) return connection;
    connection.drop();
    throw new Error('the connection was ended');
  }
}

/** Two that make the same table at once get in each other's way, IF NOT EXISTS or not: it is there then. */
export async function ensureTable(link: PostgresLink, definition: string): Promise<void> {
  try {
    await link.query(`CREATE TABLE IF NOT EXISTS ${definition}`);
  } catch (cause) {
    if (!(cause instanceof PostgresRefusal) || !['23505', '42P07'].includes(cause.sqlState)) throw cause;
  }
}

interface Connection {
  query(text: string, values: readonly unknown[]): Promise<readonly Row[]>;
  drop(): void;
}

async function connect(
  name: string,
  settings: PostgresConnection,
  onNotification: () => void,
  signal: AbortSignal,
): Promise<Connection> {
  const { default: pg } = await importOptional(name, 'pg', '8', () => import('pg'));
  let client: InstanceType<typeof pg.Client>;
  try {
    client = new pg.Client({
      application_name: 'troupe',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: STATEMENT_TIMEOUT_MS,
      keepAlive: true,
      ...(typeof settings === 'string' ? { connectionString: settings } : settings),
    });
  } catch (cause) {
    throw new PostgresRefusal('', cause as Error);
  }
  let failure: Error | undefined;
  // Told of a connection that breaks while nothing is under way; unheard, the event would end the process.
  client.on('error', (error) => {
    failure = error;
    onNotification();
  });
  client.on('notification', onNotification);
  const drop = (): void => void client.end().catch(() => undefined);
  let onAbort = (): void => undefined;
  // connect() of a client that is ended meanwhile may never settle.
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(new Error('the connection was ended'));
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    await Promise.race([client.connect(), aborted]);
  } catch (cause) {
    drop();
    throw refusalOr(cause);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
  return {
    drop,
    query: async (text, values) => {
      if (failure !== undefined) throw failure;
      try {
        return (await client.query<Row>(text, [...values])).rows;
      } catch (cause) {
        throw refusalOr(cause);
      }
    },
  };
}

/** What carries an SQLSTATE comes from the server; everything else is the connection. */
function refusalOr(cause: unknown): unknown {
  if (!(cause instanceof Error) || !('code' in cause) || typeof cause.code !== 'string') return cause;
  const isState = /^[0-9A-Z]{5}$/.test(cause.code) && 'severity' in cause;
  return isState && !TRANSIENT.test(cause.code) ? new PostgresRefusal(cause.code, cause) : cause;
}

function isMissingPackage(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'PACKAGE_NOT_INSTALLED';
}
