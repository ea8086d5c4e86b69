/**
 * One server that actors ask over HTTP: where it is, what is sent with each request, and how long they try. What fails for
 * reasons that pass (unreachable, overloaded, cut, late) is tried again here, while the replica keeps its batch and the
 * mailbox fills behind it, so that a server that is started again costs time and no record.
 */
import type { TroupeError } from '../kernel/errors.js';
import { nameOf } from '../stream/http-client.js';
import { parseJson } from '../stream/parse-json.js';
import { AddressGuard, endpointUrl, type Resolve } from './address-guard.js';
import { GuardedHttp, type GuardedReply, NoReply } from './guarded-http.js';
import { blamed, faultOfReply, faultOfSilence, faultOfStatus } from './remote-fault.js';
import { pack, PACKED_BYTES_MIN, sizeOf } from './remote-packing.js';
import { type RemoteCounts, type RemoteOptions, type ResolvedRemote, resolveRemote } from './remote-options.js';
import { RemoteTries } from './remote-tries.js';

export interface RemoteCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH';
  /** Below the address of the endpoint; without it, that address itself. */
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: readonly Uint8Array[];
  /** How many records it is about, for what a failure means to them. Default 0: none. */
  readonly count?: number;
  /** In the place of that of the options. */
  readonly retryForMs?: number;
  readonly signal: AbortSignal;
}

/** Nobody means more. */
const REPLY_DEPTH_MAX = 100;
const UTF8 = new TextDecoder('utf-8', { fatal: true });

export class RemoteEndpoint {
  /** Without the query, for messages. */
  readonly name: string;
  readonly #url: URL;
  readonly #http: GuardedHttp;
  readonly #options: ResolvedRemote;
  readonly #tries = new RemoteTries();
  #requests = 0;

  /** `where` begins the messages: `Pool "a": actor triton`. Wrong options throw a TypeError naming the option. */
  constructor(where: string, option: string, url: unknown, options: RemoteOptions, resolve?: Resolve) {
    const { allow = [] } = options;
    this.#url = endpointUrl(`${where}: ${option}`, url);
    this.name = nameOf(this.#url);
    const guard = new AddressGuard(`${where}: allow`, this.#url, allow, resolve);
    this.#options = resolveRemote(where, options);
    this.#http = new GuardedHttp(this.#url, guard, this.#options.ca);
  }

  get counts(): RemoteCounts {
    return { requests: this.#requests, retries: this.#tries.retries };
  }

  /**
   * Resolves to an answer with status 2xx. Rejects with REMOTE_UNAVAILABLE, REMOTE_REFUSED, REMOTE_FAILED,
   * PROTOCOL_VIOLATION, CANCELLED, or PREDICT_FAILED where one of several records may be the reason.
   */
  async call(call: RemoteCall): Promise<GuardedReply> {
    const { signal, retryForMs = this.#options.retryForMs } = call;
    const body = await this.#packed(call.body ?? []);
    const once = async (): Promise<GuardedReply> => {
      const reply = await this.#once(call, body);
      if (isGood(reply)) return reply;
      throw faultOfStatus(this.#nameOf(call.path), reply, call.count ?? 0);
    };
    return this.#tries.run(once, retryForMs, signal);
  }

  /** One try, and the answer whatever its status. Rejects with REMOTE_UNAVAILABLE, REMOTE_REFUSED, PROTOCOL_VIOLATION or CANCELLED. */
  async ask(call: Omit<RemoteCall, 'retryForMs'>): Promise<GuardedReply> {
    return this.#once(call, await this.#packed(call.body ?? []));
  }

  /**
   * As `call`, with JSON both ways. Typed arrays become lists; a bigint that is no safe integer is INPUT_INVALID, or
   * PREDICT_FAILED where it is one of several records.
   */
  async callJson(call: Omit<RemoteCall, 'body'>, value: unknown): Promise<unknown> {
    const { count = 0, path } = call;
    let text: string;
    try {
      text = JSON.stringify(value, plain);
    } catch (cause) {
      throw blamed('INPUT_INVALID', `${this.#nameOf(path)}: the request is no JSON: ${wordsOf(cause)}`, count, cause);
    }
    const headers = { accept: 'application/json', ...call.headers, 'content-type': 'application/json' };
    const { body } = await this.call({ ...call, headers, body: [Buffer.from(text)] });
    try {
      return parseJson(UTF8.decode(body), REPLY_DEPTH_MAX);
    } catch (cause) {
      throw faultOfReply(this.#nameOf(path), `the answer is not JSON: ${wordsOf(cause)}`, count, cause);
    }
  }

  /** As the error of an answer that is no good. */
  faultOf(path: string | undefined, reply: GuardedReply): TroupeError {
    return faultOfStatus(this.#nameOf(path), reply, 0);
  }

  /** Ends idle connections. */
  close(): void {
    this.#http.close();
  }

  async #once({ method, path, headers = {}, count = 0, signal }: RemoteCall, body: Body): Promise<GuardedReply> {
    this.#requests++;
    const { pathname, search } = this.#url;
    const { compression, timeoutMs, maxReplyBytes } = this.#options;
    try {
      return await this.#http.send({
        method,
        path: path === undefined ? pathname + search : joined(pathname, path) + search,
        headers: {
          ...this.#options.headers,
          ...headers,
          ...(body.packing === undefined ? {} : { 'content-encoding': body.packing }),
          'accept-encoding': compression === 'none' ? 'identity' : compression,
        },
        body: body.parts,
        timeoutMs,
        maxReplyBytes,
        signal,
      });
    } catch (error) {
      if (error instanceof NoReply) throw faultOfSilence(this.#nameOf(path), error, count);
      throw error;
    }
  }

  #nameOf(path: string | undefined): string {
    return path === undefined ? this.name : `${this.#url.origin}${joined(this.#url.pathname, path)}`;
  }

  async #packed(parts: readonly Uint8Array[]): Promise<Body> {
    const { compression } = this.#options;
    if (compression === 'none' || sizeOf(parts) < PACKED_BYTES_MIN) return { parts, packing: undefined };
    return { parts: [await pack(compression, parts)], packing: compression };
  }
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') {
    if (Number.isSafeInteger(Number(value))) return Number(value);
    throw new TypeError(`${value} is more than a JSON number holds; send it as a string`);
  }
  return ArrayBuffer.isView(value) && !(value instanceof DataView) ? Array.from(value as Float32Array) : value;
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

function isGood({ status }: GuardedReply): boolean {
  return status >= 200 && status < 300;
}

interface Body {
  readonly parts: readonly Uint8Array[];
  readonly packing: 'gzip' | 'deflate' | undefined;
}

function joined(pathname: string, path: string): string {
  return `${pathname.replace(/\/$/, '')}/${path}`;
}
