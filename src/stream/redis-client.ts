/**
 * The door to redis: one connection that is made when first needed and made anew after it broke. Commands go out as
 * plain words and replies come back as Redis sent them (RESP 2), so nothing depends on how the client dresses them.
 *
 * A command that was under way when the connection broke is sent again: every command given here must bear that.
 */
import { systemClock, type Timer } from '../kernel/clock.js';
import { Backoff, pause, type RetryPlan } from './backoff.js';
import { importOptional } from './optional-package.js';
import { refuse } from './options.js';

/** A reply as it came: text, number, nothing, or a list of these. */
export type RedisReply = string | number | null | readonly RedisReply[];

const CONNECT_TIMEOUT_MS = 5000;
/** Longer than any command takes on a server that is well; what blocks by intention says so. */
const COMMAND_TIMEOUT_MS = 10_000;
/** What a server says while it starts, fails over, or is busy with a script. */
const TRANSIENT = /^(LOADING|BUSY|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|READONLY|NOREPLICAS)\b/;

export function checkRedisUrl(option: string, value: unknown): string {
  if (typeof value !== 'string' || !URL.canParse(value) || !/^rediss?:$/.test(new URL(value).protocol)) {
    // Not shown: it may hold a password.
    refuse(option, 'a redis:// or rediss:// URL', typeof value === 'string' ? 'another string' : value);
  }
  return value;
}

/** Without user and password. */
export function redisName(url: string, stream: string): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname === '/' ? '' : pathname} ${stream}`;
}

/** The server understood the command and refuses it; trying again is of no use. */
export class RedisRefusal extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause });
    this.name = 'RedisRefusal';
  }
}

export class RedisLink {
  #connection: Promise<Connection> | undefined;
  #epoch = 0;
  readonly #ending = new AbortController();

  constructor(
    private readonly name: string,
    private readonly url: string,
    private readonly retry: RetryPlan,
  ) {}

  /** Grows with every connection that is made. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Rejects with RedisRefusal, or with what broke the connection once the tries are used up or the link has ended. */
  async send(command: readonly string[], blocksMs = 0): Promise<RedisReply> {
    const backoff = new Backoff(this.retry);
    const { signal } = this.#ending;
    for (;;) {
      try {
        return await this.#try(command, COMMAND_TIMEOUT_MS + blocksMs);
      } catch (cause) {
        if (cause instanceof RedisRefusal || isMissingPackage(cause)) throw cause;
        const waitMs = signal.aborted ? undefined : backoff.next();
        if (waitMs === undefined) throw cause;
        await pause(waitMs, signal);
        if (signal.aborted) throw cause;
      }
    }
  }

  /** Ends the connection at once; what is under way rejects. */
  end(): void {
    this.#ending.abort();
    this.#connection?.then(
      (connection) => connection.drop(),
      () => undefined,
    );
  }

  async #try(command: readonly string[], timeoutMs: number): Promise<RedisReply> {
    this.#connection ??= this.#connect();
    const mine = this.#connection;
    let connection: Connection | undefined;
    let timer: Timer | undefined;
    try {
      connection = await mine;
      // A connection that is half open never answers.
      timer = systemClock.at(systemClock.now() + timeoutMs, connection.drop);
      return await connection.send([...command]);
    } catch (cause) {
      if (cause instanceof RedisRefusal) throw cause;
      connection?.drop();
      // Another command may have made a new one already.
      if (this.#connection === mine) this.#connection = undefined;
      throw cause;
    } finally {
      timer?.cancel();
    }
  }

  async #connect(): Promise<Connection> {
    if (this.#ending.signal.aborted) throw new Error('the connection was ended');
    const connection = await connect(this.name, this.url);
    this.#epoch += 1;
    if (!this.#ending.signal.aborted) return connection;
    connection.drop();
    throw new Error('the connection was ended');
  }
}

interface Connection {
  send(command: string[]): Promise<RedisReply>;
  readonly drop: () => void;
}

async function connect(name: string, url: string): Promise<Connection> {
  const { createClient, ErrorReply } = await importOptional(name, 'redis', '6', () => import('redis'));
  const client = createClient({
    url,
    RESP: 2,
    disableOfflineQueue: true,
    // The link decides about a new connection, because the work under way must be looked at anew.
    socket: { reconnectStrategy: false, connectTimeout: CONNECT_TIMEOUT_MS },
  });
  // Every failure also rejects what waits for it; unheard, the event would end the process.
  client.on('error', () => undefined);
  await client.connect();
  return {
    send: async (command) => {
      try {
        return (await client.sendCommand(command)) as RedisReply;
      } catch (cause) {
        if (cause instanceof ErrorReply && !TRANSIENT.test(cause.message)) throw new RedisRefusal(cause);
        throw cause;
      }
    },
    drop: () => {
      if (client.isOpen) client.destroy();
    },
  };
}

function isMissingPackage(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'PACKAGE_NOT_INSTALLED';
}
