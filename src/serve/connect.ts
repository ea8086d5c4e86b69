import { systemClock } from '../kernel/clock.js';
import { systemRandom } from '../kernel/random.js';
import type { PoolClient } from '../actor/pool-client.js';
import { checkKeys, checkText } from '../stream/options.js';
import { objectionToPath } from '../wire/unix-lane.js';
import { LaneConnection } from './lane-connection.js';
import { OipConnection } from './oip-connection.js';

/** The way to the pools of another process. */
export interface Connection extends AsyncDisposable {
  readonly address: string;
  /**
   * A pool of the server by its name, at once; whether there is one shows when it is asked, as POOL_NOT_FOUND. The same
   * name gives the same pool.
   */
  pool<In = unknown, Out = unknown>(name: string): PoolClient<In, Out>;
  /** Ends the connection; what is unanswered rejects with POOL_STOPPED. May be called twice. */
  close(): Promise<void>;
}

export interface ConnectOptions {
  /** Where the server asks for one: a token of `serve.tokens`. */
  readonly token?: string;
  /** Deadline of an ask that names none, waiting included. Default 30,000. */
  readonly timeoutMs?: number;
  /** A server that is silent for two of these is taken for gone. Default 5000. Over the lane alone. */
  readonly heartbeatMs?: number;
  /** Over HTTP and gRPC: host names, addresses and ranges that may be connected to though they are no public ones. Default: none. */
  readonly allow?: readonly string[];
  /** Over https and grpcs: file with the certificates (PEM) of the authorities that are trusted. Default: those that everybody trusts. */
  readonly ca?: string;
}

/**
 * Connects to the pools of another process: `unix:///run/troupe/lane.sock` by the framed lane (option `lane` of its
 * `serve`), `http://host:port`, https, `grpc://host:port` and grpcs by the Open Inference Protocol, where pools take and give
 * tensors and have no methods. Gives the connection at once and dials by itself, again after every cut, until `close`; awaiting it changes
 * nothing. Throws a TypeError for an address or an option that cannot be right.
 */
export function connect(address: string, options: ConnectOptions = {}): Connection {
  if (typeof address !== 'string')
    throw new TypeError(`connect: expected an address such as unix:///run/troupe.sock, got ${typeof address}`);
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(address)?.[1]?.toLowerCase();
  if (scheme === 'unix') return connectLane(address, options);
  if (scheme !== undefined && /^(http|grpc)s?$/.test(scheme)) return connectOip(address, options);
  throw new TypeError(
    `connect: expected an address of scheme unix, http, https, grpc or grpcs, got ${JSON.stringify(address.slice(0, 200))}`,
  );
}

function connectLane(address: string, options: ConnectOptions): Connection {
  checkKeys('connect', options, ['token', 'timeoutMs', 'heartbeatMs']);
  const { token, timeoutMs = 30_000, heartbeatMs = 5000 } = options;
  const path = address.slice('unix:'.length).replace(/^\/\//, '');
  const wrong = objectionToPath(path);
  if (wrong !== undefined) throw new TypeError(`connect: address must hold ${wrong}, got ${JSON.stringify(address)}`);
  if (token !== undefined) checkText('connect: token', token);
  checkTimeout(timeoutMs);
  if (typeof heartbeatMs !== 'number' || !(heartbeatMs >= 10 && heartbeatMs <= 3_600_000))
    throw new TypeError(`connect: heartbeatMs must be a number from 10 to 3,600,000, got ${String(heartbeatMs)}`);
  return new LaneConnection({ address, path, token, timeoutMs, heartbeatMs, clock: systemClock, random: systemRandom });
}

function connectOip(address: string, options: ConnectOptions): Connection {
  checkKeys('connect', options, ['token', 'timeoutMs', 'allow', 'ca']);
  const { timeoutMs = 30_000, ...others } = options;
  checkTimeout(timeoutMs);
  return new OipConnection(address, { ...others, timeoutMs });
}

function checkTimeout(timeoutMs: unknown): void {
  if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0))
    throw new TypeError(`connect: timeoutMs must be a number of at least 0, got ${String(timeoutMs)}`);
}
