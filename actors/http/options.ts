import type { LoadContext } from 'troupe/actor';
import { REMOTE_KEYS, RemoteEndpoint, type RemoteOptions } from 'troupe/remote';
import { compilePointer, compileTemplate, type Fill, hasBatch, type Pointer, type Template } from './mapping.js';

/** `options` of a pool whose actor is `http`. Unknown keys are refused. */
export interface HttpOptions extends RemoteOptions {
  /** Where requests go, query included. */
  readonly url: string;
  /** Default POST. */
  readonly method?: 'POST' | 'PUT' | 'PATCH';
  /**
   * The body. With `$batch` in it, one request for a batch; without, one for each record, which stands in it as `$record` or
   * `$record/<JSON pointer>`. Default `$batch`: the body is the list of the records.
   */
  readonly request?: Template;
  /** What stands in `$batch` for one record. Default `$record`: the record itself. */
  readonly each?: Template;
  readonly response?: {
    /** Where in the answer the list of outputs lies, or the one output where each record has its request. Default: the whole. */
    readonly at?: string;
    /** Where in one output the result lies. Default: the whole. */
    readonly each?: string;
    /** Where in one output an error lies: where it is there and not null, the record fails alone. Default: nowhere. */
    readonly error?: string;
  };
  /** Where each record has its request: how many of a batch are under way at once. Default 8. */
  readonly concurrency?: number;
  /** Path at the same server that answers with 2xx when it is ready; asked when a replica loads. Default: nothing is asked. */
  readonly health?: string;
}

export interface ResolvedHttp {
  readonly endpoint: RemoteEndpoint;
  readonly method: 'POST' | 'PUT' | 'PATCH';
  readonly isBatch: boolean;
  readonly request: Fill;
  readonly each: Fill;
  readonly at: Pointer;
  readonly result: Pointer;
  readonly error: Pointer | undefined;
  readonly concurrency: number;
  readonly retryForMs: number;
  /** Another address than that of the requests, so an endpoint of its own. */
  readonly health: RemoteEndpoint | undefined;
}

const METHODS = ['POST', 'PUT', 'PATCH'] as const;
const KEYS: readonly string[] = [
  'url',
  'method',
  'request',
  'each',
  'response',
  'concurrency',
  'health',
  ...REMOTE_KEYS,
];
const RESPONSE_KEYS = ['at', 'each', 'error'];

/** Fills in the defaults. Throws TypeError naming pool, option, expectation and value. */
export function resolveHttp({ pool, options: given }: LoadContext): ResolvedHttp {
  const where = `Pool "${pool}": actor http`;
  refuseUnknown(where, given, KEYS);
  // Each of them is checked below, or where it is used.
  const options = given as Partial<HttpOptions>;
  const { request = '$batch', each = '$record', response = {}, concurrency = 8, health, retryForMs = 15_000 } = options;
  const method = METHODS.find((name) => name === (options.method ?? 'POST'));
  if (method === undefined) throw wrong(where, 'method', `one of ${METHODS.join(', ')}`, options.method);
  if (typeof response !== 'object' || response === null)
    throw wrong(where, 'response', `an object with ${RESPONSE_KEYS.join(', ')}`, response);
  refuseUnknown(`${where}: response`, response, RESPONSE_KEYS);
  if (!Number.isSafeInteger(concurrency) || concurrency < 1)
    throw wrong(where, 'concurrency', 'a whole number from 1', concurrency);
  if (health !== undefined && (typeof health !== 'string' || !/^\/(?!\/)[\x21-\x7e]*$/.test(health)))
    throw wrong(where, 'health', 'a path such as /healthz', health);
  const isBatch = hasBatch(request);
  if (!isBatch && options.each !== undefined)
    throw new TypeError(`${where}: each has a meaning only with $batch in request`);
  const endpoint = new RemoteEndpoint(where, 'url', options.url, options);
  return {
    endpoint,
    method,
    isBatch,
    request: compileTemplate(`${where}: request`, request, isBatch ? ['batch'] : ['record']),
    each: compileTemplate(`${where}: each`, each, ['record']),
    at: compilePointer(`${where}: response.at`, response.at ?? ''),
    result: compilePointer(`${where}: response.each`, response.each ?? ''),
    error: response.error === undefined ? undefined : compilePointer(`${where}: response.error`, response.error),
    concurrency,
    retryForMs,
    health:
      health === undefined
        ? undefined
        : new RemoteEndpoint(where, 'url', new URL(options.url as string).origin + health, options),
  };
}

function refuseUnknown(where: string, options: object, known: readonly string[]): void {
  for (const key of Object.keys(options))
    if (!known.includes(key)) throw new TypeError(`${where} has no option "${key}"; it has ${known.join(', ')}`);
}

function wrong(where: string, option: string, expected: string, value: unknown): TypeError {
  return new TypeError(`${where}: ${option} must be ${expected}, got ${JSON.stringify(value) ?? String(value)}`);
}
