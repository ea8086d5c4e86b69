import { checkListen, isLoopback, type ListenAddress } from '../stream/http-listener.js';
import { checkCount, checkKeys, checkOneOf, checkOptionalFunction, checkSpan, checkText } from '../stream/options.js';
import type { NonFinite } from './oip-tensor.js';

/** Where and to whom the pools of a system are served. */
export interface ServeOptions {
  /** 0 takes a free one; the address says which. Default 8000, or none at all where `socket` or `lane` is given. */
  readonly port?: number;
  /** Default 127.0.0.1. Anything but loopback needs `tls` and `tokens`. */
  readonly host?: string;
  /** Names by which clients may address it, besides `host` and loopback; needed where `host` is a wildcard. */
  readonly hosts?: readonly string[];
  /** Path of a Unix socket, in a directory that nobody else can enter (mode 700). */
  readonly socket?: string;
  /**
   * gRPC besides: `port` (default 8001, or none at all where it has a `socket`; 0 takes a free one) and `socket`. Everything
   * else it shares with HTTP. Default none.
   */
  readonly grpc?: { readonly port?: number; readonly socket?: string };
  /** Path of a Unix socket for `connect` of other Troupe processes, in a directory that nobody else can enter. */
  readonly lane?: string;
  /** Paths of PEM files. With `ca`, clients must show a certificate of its. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string };
  /**
   * Bearer tokens by what they allow, at least 16 characters each; `admin` allows everything. Without `infer`, who can reach
   * a loopback port or the socket may infer; without `admin`, nobody loads or unloads.
   */
  readonly tokens?: { readonly infer?: readonly string[]; readonly admin?: readonly string[] };
  /** NaN and the infinities in JSON: `bare` words, the default, or `refuse`. */
  readonly nonFinite?: NonFinite;
  /** Most bytes of a body, as it comes and inflated, and of an answer. Default 67,108,864. */
  readonly maxBodyBytes?: number;
  /** Most bytes of all requests that are not answered yet. Default 268,435,456. */
  readonly capacityBytes?: number;
  /** Most records in one request. Default 65,536. */
  readonly maxRecords?: number;
  /** Default 1024. */
  readonly maxConnections?: number;
  /** Deadline of a request that has no `timeout` of its own, from its last byte to its answer. Default 60,000. */
  readonly timeoutMs?: number;
  /** Told of each address when it listens there. */
  readonly onListening?: (address: ListenAddress) => void;
}

export type ResolvedServe = Readonly<
  Required<Pick<ServeOptions, 'host' | 'hosts' | 'nonFinite' | 'maxBodyBytes' | 'capacityBytes' | 'maxRecords'>> &
    Required<Pick<ServeOptions, 'maxConnections' | 'timeoutMs'>> &
    Pick<ServeOptions, 'socket' | 'lane' | 'tls' | 'onListening'>
> & {
  /** undefined: no TCP. */
  readonly port: number | undefined;
  readonly grpc: { readonly port: number | undefined; readonly socket: string | undefined } | undefined;
  readonly tokens: { readonly infer: readonly string[]; readonly admin: readonly string[] };
};

export const SERVE_PORT = 8000;
export const GRPC_PORT = 8001;

const KEYS = [
  'port',
  'host',
  'hosts',
  'socket',
  'grpc',
  'lane',
  'tls',
  'tokens',
  'nonFinite',
  'maxBodyBytes',
  'capacityBytes',
  'maxRecords',
  'maxConnections',
  'timeoutMs',
  'onListening',
] as const;

/** Fills in the defaults. Throws a TypeError that names option, expectation and value. */
export function resolveServe(options: ServeOptions): ResolvedServe {
  checkKeys('serve', options, KEYS);
  const {
    socket,
    lane,
    host = '127.0.0.1',
    hosts = [],
    tls,
    tokens = {},
    nonFinite = 'bare',
    maxBodyBytes = 2 ** 26,
    capacityBytes = 2 ** 28,
    maxRecords = 65_536,
    maxConnections = 1024,
    timeoutMs = 60_000,
    onListening,
  } = options;
  const port = options.port ?? (socket === undefined && lane === undefined ? SERVE_PORT : undefined);
  if (socket !== undefined) checkText('socket', socket);
  const grpc = resolveGrpc(options.grpc);
  if (lane !== undefined) checkText('lane', lane);
  if (tls !== undefined) {
    checkKeys('tls', tls, ['cert', 'key', 'ca']);
    checkText('tls.cert', tls.cert);
    checkText('tls.key', tls.key);
    if (tls.ca !== undefined) checkText('tls.ca', tls.ca);
  }
  checkKeys('tokens', tokens, ['infer', 'admin']);
  const { infer = [], admin = [] } = tokens;
  checkTokens('tokens.infer', infer);
  checkTokens('tokens.admin', admin);
  checkOneOf('nonFinite', nonFinite, ['bare', 'refuse']);
  for (const [name, count] of Object.entries({ maxBodyBytes, capacityBytes, maxRecords, maxConnections }))
    checkCount(name, count);
  checkSpan('timeoutMs', timeoutMs);
  checkOptionalFunction('onListening', onListening);
  const [token] = [...infer, ...admin];
  for (const one of [port, grpc?.port]) {
    if (one === undefined) continue;
    checkListen('serve', { port: one, host, hosts, ...(token === undefined ? {} : { token }) });
    if (!isLoopback(host) && tls === undefined)
      throw new TypeError(
        `serve: host ${JSON.stringify(host)} can be reached by others, so tls must be given; without it use a loopback host such as 127.0.0.1`,
      );
  }
  return {
    port,
    host,
    hosts,
    ...(socket === undefined ? {} : { socket }),
    grpc,
    ...(lane === undefined ? {} : { lane }),
    ...(tls === undefined ? {} : { tls }),
    tokens: { infer, admin },
    nonFinite,
    maxBodyBytes,
    capacityBytes,
    maxRecords,
    maxConnections,
    timeoutMs,
    ...(onListening === undefined ? {} : { onListening }),
  };
}

function resolveGrpc(grpc: ServeOptions['grpc']): ResolvedServe['grpc'] {
  if (grpc === undefined) return undefined;
  checkKeys('grpc', grpc, ['port', 'socket']);
  const { socket } = grpc;
  if (socket !== undefined) checkText('grpc.socket', socket);
  const port = grpc.port ?? (socket === undefined ? GRPC_PORT : undefined);
  if (port !== undefined) checkCount('grpc.port', port, 0);
  return { port, socket };
}

/** Shown by their lengths alone: a token must not end up in a log. */
function checkTokens(option: string, tokens: unknown): void {
  if (!Array.isArray(tokens)) throw new TypeError(`${option} must be an array of tokens, got ${typeof tokens}`);
  for (const token of tokens as unknown[]) {
    if (typeof token === 'string' && /^[\x21-\x7e]{16,}$/.test(token)) continue;
    const got = typeof token === 'string' ? `${token.length} characters` : typeof token;
    throw new TypeError(`${option} must be at least 16 printable characters without spaces each, got ${got}`);
  }
}
