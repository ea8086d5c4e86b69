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

/** For the connection, and again for what is said before it can be used. */
const CONNECT_TIMEOUT_MS = 5000;
/** Longer than any command takes on a server that is well; what blocks by intention says so. */
const COMMAND_TIMEOUT_MS = 10_000;
/** What a server says while it starts, fails over, is full, or is busy with a script. */
const TRANSIENT =
  /^(LOADING|BUSY|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|READONLY|NOREPLICAS|OOM|MISCONF|ERR max number of clients reached)\b/;

export function checkRedisUrl(option: string, value: unknown): string {
  if (typeof value === 'string' && URL.canParse(value)) {
    const { protocol, pathname, hostname } = new URL(value);
    if (/^rediss?:$/.test(protocol) && hostname !== '' && /^(\/\d*)?$/.test(pathname)) return value;
  }
  // Not shown: it may hold a password.
  const given = typeof value === 'string' ? 'another string' : value;
  return refuse(option, 'a redis:// or rediss:// URL with a host, and at most a database number after it', given);
}

/** Without user and password. */
export function redisName(url: string, stream: string): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname === '/' ? '' : pathname} ${stream}`;
}

/** The server understood the command and refuses it, or the client the URL; trying again is of no use. */
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
    return (await this.#send(command, blocksMs, false)) as RedisReply;
  }

  /** As `send`, with a Buffer in the place of every text of the reply. */
  sendForBytes(command: readonly string[]): Promise<unknown> {
    return this.#send(command, 0, true);
  }

  /** Ends the connection at once; what is under way rejects. */
  end(): void {
    this.#ending.abort();
    this.#connection?.then(
      (connection) => connection.drop(),
      () => undefined,
    );
  }

  async #send(command: readonly string[], blocksMs: number, asBytes: boolean): Promise<unknown> {
    const backoff = new Backoff(this.retry);
    const { signal } = this.#ending;
    for (;;) {
      try {
        return await this.#try(command, COMMAND_TIMEOUT_MS + blocksMs, asBytes);
      } catch (cause) {
        if (cause instanceof RedisRefusal || isMissingPackage(cause)) throw cause;
        const waitMs = signal.aborted ? undefined : backoff.next();
        if (waitMs === undefined) throw cause;
        await pause(waitMs, signal);
        if (signal.aborted) throw cause;
      }
    }
  }

  async #try(command: readonly string[], timeoutMs: number, asBytes: boolean): Promise<unknown> {
    this.#connection ??= this.#connect();
    const mine = this.#connection;
    let connection: Connection | undefined;
    let timer: Timer | undefined;
    try {
      connection = await mine;
      // A connection that is half open never answers.
      timer = systemClock.at(systemClock.now() + timeoutMs, connection.drop);
      return await connection.send([...command], asBytes);
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
    const connection = await connect(this.name, this.url, this.#ending.signal);
    this.#epoch += 1;
    if (!this.#ending.signal.aborted) return connection;
    connection.drop();
    throw new Error('the connection was ended');
  }
}

interface Connection {
  send(command: string[], asBytes: boolean): Promise<unknown>;
  readonly drop: () => void;
}

async function connect(name: string, url: string, signal: AbortSignal): Promise<Connection> {
  const { createClient, ErrorReply, RESP_TYPES } = await importOptional(name, 'redis', '6', () => import('redis'));
  const refusalOr = (cause: unknown): unknown =>
    cause instanceof ErrorReply && !TRANSIENT.test(cause.message) ? new RedisRefusal(cause) : cause;
  let client: ReturnType<typeof createClient>;
  try {
    client = createClient({
      url,
      RESP: 2,
      disableOfflineQueue: true,
      // The link decides about a new connection, because the work under way must be looked at anew.
      socket: { reconnectStrategy: false, connectTimeout: CONNECT_TIMEOUT_MS },
    }) as ReturnType<typeof createClient>;
  } catch (cause) {
    throw new RedisRefusal(cause as Error);
  }
  // Every failure also rejects what waits for it; unheard, the event would end the process.
  client.on('error', () => undefined);
  const drop = (): void => {
    if (client.isOpen) client.destroy();
  };
  await connected(client, drop, signal).catch((cause: unknown) => {
    throw refusalOr(cause);
  });
  const asBuffers = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };
  return {
    send: async (command, asBytes) => {
      try {
        return await client.sendCommand(command, asBytes ? asBuffers : undefined);
      } catch (cause) {
        throw refusalOr(cause);
      }
    },
    drop,
  };
}

/** The part of a client that `connected` needs. */
interface Connecting {
  connect(): Promise<unknown>;
  once(event: 'connect', listener: () => void): unknown;
}

/**
 * The client's own time limit ends when a socket is there: what then says nothing, such as a server of another kind,
 * would be waited for for ever. Before that the client must be left alone, for a socket that comes later would stay.
 */
function connected(client: Connecting, drop: () => void, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let timer: Timer | undefined;
    let hasSocket = false;
    let hasEnded = false;
    const end = (reason?: unknown): void => {
      hasEnded = true;
      timer?.cancel();
      signal.removeEventListener('abort', onAbort);
      if (reason === undefined) resolve();
      else reject(reason as Error);
    };
    const giveUp = (words: string): void => {
      end(new Error(words));
      if (hasSocket) drop();
    };
    const onAbort = (): void => giveUp('the connection was ended');
    const onLate = (): void => giveUp(`the server said nothing for ${CONNECT_TIMEOUT_MS} ms`);
    signal.addEventListener('abort', onAbort, { once: true });
    client.once('connect', () => {
      hasSocket = true;
      if (hasEnded) drop();
      else timer = systemClock.at(systemClock.now() + CONNECT_TIMEOUT_MS, onLate);
    });
    client.connect().then(() => end(), end);
  });
}

function isMissingPackage(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'PACKAGE_NOT_INSTALLED';
}
