import { checkHeaders } from '../stream/http-client.js';
import { readAuthorities } from '../stream/authorities.js';
import { checkCount, checkMs, checkOneOf, checkSpan, refuse } from '../stream/options.js';

/** Options that the actors for remote models have in common. */
export interface RemoteOptions {
  /** Sent as `Authorization: Bearer`. Never shown in errors. */
  readonly token?: string;
  /** Sent with every request. Never shown in errors. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Host names, addresses and ranges (`10.0.0.0/8`) that may be connected to though they are no public ones. Default: none. */
  readonly allow?: readonly string[];
  /** File with the certificates (PEM) of the authorities that are trusted, in the place of those that everybody trusts. */
  readonly ca?: string;
  /** From the first byte of a request to the last of its answer. Default 10,000. */
  readonly timeoutMs?: number;
  /**
   * How long a batch is tried again after the server could not be reached, was overloaded, or cut off the answer; a try that
   * has begun may end later. timeoutMs and this together belong below the pool's batchTimeoutMs. Default 15,000; 0: one try.
   */
  readonly retryForMs?: number;
  /** Most bytes of an answer, as it comes and inflated. Default 67,108,864. */
  readonly maxReplyBytes?: number;
  /** Packs requests of 1 KiB and more, and takes packed answers. Default none. */
  readonly compression?: 'none' | 'gzip' | 'deflate';
}

/** What was done so far. */
export interface RemoteCounts {
  readonly requests: number;
  /** Those that were a further try. */
  readonly retries: number;
}

export const REMOTE_KEYS = [
  'token',
  'headers',
  'allow',
  'ca',
  'timeoutMs',
  'retryForMs',
  'maxReplyBytes',
  'compression',
] as const;

export interface ResolvedRemote {
  readonly headers: Readonly<Record<string, string>>;
  readonly ca: Buffer | undefined;
  readonly timeoutMs: number;
  readonly retryForMs: number;
  readonly maxReplyBytes: number;
  readonly compression: 'none' | 'gzip' | 'deflate';
}

/** Headers that are set here. */
const OWN_HEADERS = ['authorization', 'accept-encoding', 'content-encoding', 'content-type'];

/**
 * All but `allow`, checked. `where` begins the messages: `Pool "a": actor triton`. Wrong options throw a TypeError naming
 * the option. `own`: further headers that a request sets itself.
 */
export function resolveRemote(where: string, options: RemoteOptions, own: readonly string[] = []): ResolvedRemote {
  const of = (name: string): string => `${where}: ${name}`;
  const { token, headers = {}, ca, timeoutMs = 10_000, retryForMs = 15_000 } = options;
  const { maxReplyBytes = 2 ** 26, compression = 'none' } = options;
  if (token !== undefined && (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)))
    throw new TypeError(`${of('token')} must be printable characters without spaces`);
  const taken = [...(token === undefined ? OWN_HEADERS.slice(1) : OWN_HEADERS), ...own];
  checkSpan(of('timeoutMs'), timeoutMs);
  checkMs(of('retryForMs'), retryForMs);
  checkCount(of('maxReplyBytes'), maxReplyBytes);
  checkOneOf(of('compression'), compression, ['none', 'gzip', 'deflate']);
  if (maxReplyBytes > 2 ** 31) refuse(of('maxReplyBytes'), 'at most 2,147,483,648', maxReplyBytes);
  return {
    headers: {
      ...checkHeaders(of('headers'), headers, taken),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    ca: ca === undefined ? undefined : readAuthorities(of('ca'), ca),
    timeoutMs,
    retryForMs,
    maxReplyBytes,
    compression,
  };
}
