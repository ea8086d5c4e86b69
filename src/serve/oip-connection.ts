/**
 * The pools of a server of the Open Inference Protocol as pools of this process. Each is a pool of a small system of its
 * own, whose actor is a client of the protocol: mailbox, batches, deadlines, cancellation and order are those of any pool.
 *
 * C1 a pool is made when it is first used and waits for its server as long as it takes; what a record waits is bounded by
 *    its own deadline.
 * C2 a pool whose server says that it does not know or admit it ends, with that error for whatever it held; the next who
 *    uses it asks the server anew.
 * C3 one connection is tried at a time while the server cannot be reached, and one probe, however many replicas wait.
 */
import { defineActor } from '../actor/define-actor.js';
import type { AskManyOptions, AskOptions } from '../actor/ask.js';
import type { Submission, Ticket } from '../actor/infer-target.js';
import type { Outcome } from '../actor/outcome.js';
import type { PoolClient } from '../actor/pool-client.js';
import type { Pool } from '../actor/pool.js';
import type { PoolHealth } from '../actor/readiness.js';
import type { PoolStats } from '../actor/stats.js';
import { System } from '../actor/system.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { silentLog } from '../telemetry/log.js';
import type { ActorDefinition } from '../wire/definition.js';
import type { Columns, Signature } from '../wire/tensor.js';
import { OipClient } from './oip-client.js';
import { openEndpoint } from './open-endpoint.js';
import { PoolElsewhere } from './pool-elsewhere.js';
import type { GrpcEndpoint } from './grpc-endpoint.js';
import type { RemoteEndpoint } from './remote-endpoint.js';
import type { RemoteOptions } from './remote-options.js';

export interface OipConnectionOptions extends Pick<RemoteOptions, 'token' | 'allow' | 'ca'> {
  /** Deadline of an ask that names none. */
  readonly timeoutMs: number;
}

/** Requests of one pool that are under way at once: as many as fill what a server batches, and little of its connections. */
const REQUESTS_MAX = 8;
const RECORDS_MAX = 128;
/** Of one request, queueing at the server included; its own limit is as much. */
const REQUEST_MS = 60_000;
/** C1: the longest time that a pool can be given. */
const LONG_MS = 2 ** 39;

export class OipConnection implements AsyncDisposable {
  readonly address: string;
  readonly #options: OipConnectionOptions;
  readonly #endpoint: RemoteEndpoint | GrpcEndpoint;
  readonly #system = new System({ name: 'remote', log: silentLog, supervision: { max: 2 ** 31 } });
  readonly #pools = new Map<string, OipPool<any, any>>(); // any: a connection does not know the record types

  /** Throws a TypeError for an address or an option that cannot be right. */
  constructor(address: string, options: OipConnectionOptions) {
    const { token, allow, ca } = options;
    this.address = address;
    this.#options = options;
    this.#endpoint = openEndpoint('connect', 'address', address, {
      timeoutMs: REQUEST_MS,
      retryForMs: LONG_MS,
      ...(token === undefined ? {} : { token }),
      ...(allow === undefined ? {} : { allow }),
      ...(ca === undefined ? {} : { ca }),
    });
  }

  pool<In = unknown, Out = unknown>(name: string): PoolClient<In, Out> {
    const known = this.#pools.get(name);
    if (known !== undefined) return known;
    // Throws NAME_INVALID for what is no name.
    const client = new OipClient('connect', this.#endpoint, { model: name });
    const pool = new OipPool<In, Out>(name, this.address, () => this.#spawn(name, client));
    this.#pools.set(name, pool);
    return pool;
  }

  async close(): Promise<void> {
    await this.#system.stop({ timeoutMs: 0 });
    this.#endpoint.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The pool is there at once, and loads. */
  #spawn(name: string, client: OipClient): Spawned {
    const started = this.#system.spawn<any, any>(name, {
      actor: actorOf(client),
      replicas: REQUESTS_MAX,
      batching: { maxSize: RECORDS_MAX },
      timeoutMs: this.#options.timeoutMs,
      batchTimeoutMs: 2 * LONG_MS,
      loadTimeoutMs: LONG_MS,
    });
    return { pool: this.#system.get(name), started };
  }
}

interface Spawned {
  /** undefined where the connection is closed. */
  readonly pool: Pool<any, any> | undefined;
  readonly started: Promise<unknown>;
}

/** One client for all replicas, and one probe for those that load at once (C3). */
function actorOf(client: OipClient): ActorDefinition<any, any, OipClient> {
  let opening: Promise<void> | undefined;
  return defineActor<any, any, OipClient>({
    async load({ signal }) {
      opening ??= client.open(signal, Infinity).finally(() => (opening = undefined));
      await opening;
      return client;
    },
    predict: (batch: Columns, { signal }) => client.infer(batch, signal),
    signature: () => client.signature as Signature, // load() has opened it.
  });
}

class OipPool<In, Out> extends PoolElsewhere implements PoolClient<In, Out> {
  readonly name: string;
  protected readonly address: string;
  readonly #spawn: () => Spawned;
  readonly #senders = new Map<number, Sender>();
  #lastSender = 0;
  #pool: Pool<In, Out> | undefined;

  constructor(name: string, address: string, spawn: () => Spawned) {
    super();
    this.name = name;
    this.address = address;
    this.#spawn = spawn;
  }

  async ask(input: In, options?: AskOptions): Promise<Out> {
    try {
      return await this.#current().ask(input, options);
    } catch (error) {
      throw isTroupeError(error) ? this.#told(error) : error;
    }
  }

  async askMany(inputs: Iterable<In>, options?: AskManyOptions<In>): Promise<Outcome<Out>[]> {
    const outcomes = await this.#current().askMany(inputs, options);
    return outcomes.map((outcome) => this.#toldOutcome(outcome));
  }

  tell(input: In, options?: Omit<AskOptions, 'signal'>): void {
    this.#current().tell(input, options);
  }

  async call(method: string): Promise<unknown> {
    throw new TroupeError(
      'METHOD_NOT_FOUND',
      `Pool "${this.name}" is reached by a protocol without methods: ${method}`,
    );
  }

  async health(): Promise<PoolHealth> {
    try {
      return await this.#current().health();
    } catch (error) {
      return { ready: false, why: isTroupeError(error) ? error.code : 'it has ended' };
    }
  }

  /** Of what this connection asked; the protocol has no words for what a pool is. Rejects with POOL_STOPPED. */
  async stats(): Promise<PoolStats> {
    return this.#current().stats();
  }

  openSender(name: string): number {
    this.#senders.set(++this.#lastSender, { name, pool: undefined, id: 0 });
    return this.#lastSender;
  }

  closeSender(sender: number): void {
    const { pool, id } = this.#senders.get(sender) ?? {};
    this.#senders.delete(sender);
    if (pool !== undefined && id !== undefined) pool.closeSender(id);
  }

  offer(submission: Submission<In, Out>): Ticket | undefined {
    const { input, priority, deadlineAt, callTimeoutMs, key, model, traceparent } = submission;
    let pool: Pool<In, Out>;
    try {
      pool = this.#current();
    } catch (error) {
      // Never from inside this call.
      queueMicrotask(() => submission.settled({ ok: false, error: error as TroupeError }));
      return SETTLED;
    }
    return pool.offer({
      input,
      sender: this.#senderAt(pool, submission.sender),
      priority,
      deadlineAt,
      callTimeoutMs,
      key,
      model,
      traceparent,
      settled: (outcome, call) => submission.settled(this.#toldOutcome(outcome), call),
    });
  }

  onRoom(sender: number, callback: () => void): void {
    const pool = this.#pool;
    // A pool that has ended has room: what is offered then makes a new one.
    if (pool === undefined) queueMicrotask(callback);
    else pool.onRoom(this.#senderAt(pool, sender), callback);
  }

  flush(): void {
    this.#pool?.flush();
  }

  /** Throws what ended it where there can be none. */
  #current(): Pool<In, Out> {
    if (this.#pool !== undefined) return this.#pool;
    const { pool, started } = this.#spawn();
    const end = (): void => {
      if (this.#pool === pool) this.#pool = undefined; // Not one that was made meanwhile.
    };
    // Who waits for the pool is told by it (C2).
    started.catch(end);
    if (pool === undefined) throw new TroupeError('POOL_STOPPED', `The connection to pool "${this.name}" is closed`);
    this.#pool = pool;
    pool.on('stopped', end);
    return pool;
  }

  #senderAt(pool: Pool<any, any>, sender: number): number {
    const known = this.#senders.get(sender);
    if (known === undefined) throw new TypeError(`offer: sender ${sender} is not open; take one from openSender`);
    if (known.pool !== pool) {
      known.pool = pool;
      known.id = pool.openSender(known.name);
    }
    return known.id;
  }

  #toldOutcome<T>(outcome: Outcome<T>): Outcome<T> {
    return outcome.ok ? outcome : { ok: false, error: this.#told(outcome.error) };
  }

  /** C2: why the pool ended says more than that it did. In the words of those who ask for pools. */
  #told(error: TroupeError): TroupeError {
    const told = error.code === 'NO_REPLICA' && isTroupeError(error.cause) ? error.cause : error;
    if (told.code !== 'MODEL_NOT_FOUND') return told;
    return new TroupeError('POOL_NOT_FOUND', `There is no pool "${this.name}": ${told.message}`, { cause: told });
  }
}

interface Sender {
  readonly name: string;
  /** Where it is open, and its number there. */
  pool: Pool<any, any> | undefined;
  id: number;
}

const SETTLED: Ticket = { cancel: () => undefined };
