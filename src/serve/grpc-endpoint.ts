/**
 * One server that actors ask over gRPC: where it is, what is sent with each call, and how long they try. As RemoteEndpoint is
 * for HTTP, with the same options and the same errors.
 */
import { retryAfterMsOf, oneLine } from '../stream/http-client.js';
import type { TroupeError } from '../kernel/errors.js';
import { AddressGuard, grpcUrl, type Resolve } from './address-guard.js';
import { GrpcChannel, type GrpcReply } from './grpc-channel.js';
import { NoReply } from './guarded-http.js';
import { grpcStatusOf } from './oip-status.js';
import { faultOfSaid, faultOfSilence } from './remote-fault.js';
import { type RemoteCounts, type RemoteOptions, type ResolvedRemote, resolveRemote } from './remote-options.js';
import { pack, PACKED_BYTES_MIN, sizeOf } from './remote-packing.js';
import { RemoteTries } from './remote-tries.js';

export interface GrpcQuestion {
  /** `/service/method`. */
  readonly path: string;
  /** Of the message. */
  readonly parts: readonly Uint8Array[];
  /** How many records it is about, for what a failure means to them. Default 0: none. */
  readonly count?: number;
  /** In the place of that of the options. */
  readonly retryForMs?: number;
  /** Most bytes of the answer, below that of the options. */
  readonly maxReplyBytes?: number;
  readonly signal: AbortSignal;
}

/** An answer that is no good, in the words of gRPC. */
export type GrpcRefusal = Exclude<GrpcReply, { readonly kind: 'ok' }>;

/** What a call sets itself; others begin with `grpc-`. */
const OWN_HEADERS = ['te', 'user-agent'];
const UNIMPLEMENTED = 12;
const RESOURCE_EXHAUSTED = 8;

export class GrpcEndpoint {
  /** For messages. */
  readonly name: string;
  readonly #channel: GrpcChannel;
  readonly #options: ResolvedRemote;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #tries = new RemoteTries();
  #requests = 0;

  /** `url`: `grpc://host:port`, or grpcs for TLS. Wrong options throw a TypeError naming the option. */
  constructor(where: string, option: string, url: string, options: RemoteOptions, resolve?: Resolve) {
    const { allow = [] } = options;
    const parsed = grpcUrl(`${where}: ${option}`, url);
    this.name = `grpc${parsed.protocol === 'https:' ? 's' : ''}://${parsed.host}`;
    const guard = new AddressGuard(`${where}: allow`, parsed, allow, resolve);
    this.#options = resolveRemote(where, options, OWN_HEADERS);
    for (const name of Object.keys(this.#options.headers))
      if (name.startsWith('grpc-'))
        throw new TypeError(`${where}: headers: header ${JSON.stringify(name)} is set by the request itself`);
    const { headers, compression, timeoutMs, ca } = this.#options;
    const accepted = compression === 'none' ? {} : { 'grpc-accept-encoding': compression };
    this.#headers = { 'user-agent': 'troupe', ...accepted, ...headers };
    this.#channel = new GrpcChannel(parsed, guard, timeoutMs, ca);
  }

  get counts(): RemoteCounts {
    return { requests: this.#requests, retries: this.#tries.retries };
  }

  /** Resolves to the message of the answer. Rejects as `RemoteEndpoint.call` does. */
  async call(question: GrpcQuestion): Promise<Buffer> {
    const { path, count = 0, retryForMs = this.#options.retryForMs, signal } = question;
    const body = await this.#packed(question.parts);
    const once = async (): Promise<Buffer> => {
      const reply = await this.#once(question, body);
      if (reply.kind === 'ok') return reply.body;
      throw this.faultOf(path, reply, count);
    };
    return this.#tries.run(once, retryForMs, signal);
  }

  /** One try, and the answer whatever it says. Rejects with REMOTE_UNAVAILABLE, REMOTE_REFUSED, PROTOCOL_VIOLATION or CANCELLED. */
  async ask(question: Omit<GrpcQuestion, 'retryForMs'>): Promise<GrpcReply> {
    return this.#once(question, await this.#packed(question.parts));
  }

  /** As the error of an answer that is no good; `count` as of a question. */
  faultOf(path: string, reply: GrpcRefusal, count = 0): TroupeError {
    const where = `${this.name}${path}`;
    if (reply.kind === 'http') {
      const words = `answered with status ${reply.status} of HTTP and not in gRPC`;
      // What is no gRPC is never the fault of a record: 4xx and below are no use, others may pass.
      const status = reply.status === 429 || reply.status >= 500 ? Math.max(reply.status, 502) : 404;
      return faultOfSaid(where, { status, words, retryAfterMs: undefined }, count);
    }
    const { name, status } = grpcStatusOf(reply.code);
    const reason = oneLine(reply.message);
    const words = `answered with ${name}${reason === '' ? '' : `: ${reason}`}`;
    const retryAfterMs = retryAfterMsOf(reply.retryAfter);
    return faultOfSaid(where, { status: statusFor(reply, status, count), words, retryAfterMs }, count);
  }

  /** Ends the connection once nothing is under way. */
  close(): void {
    this.#channel.close();
  }

  async #once({ path, count = 0, maxReplyBytes, signal }: GrpcQuestion, body: Body): Promise<GrpcReply> {
    this.#requests++;
    const { timeoutMs, maxReplyBytes: most, compression } = this.#options;
    try {
      return await this.#channel.send({
        path,
        headers: body.isPacked ? { ...this.#headers, 'grpc-encoding': compression } : this.#headers,
        parts: body.parts,
        isPacked: body.isPacked,
        timeoutMs,
        maxReplyBytes: Math.min(most, maxReplyBytes ?? Infinity),
        signal,
      });
    } catch (error) {
      if (error instanceof NoReply) throw faultOfSilence(`${this.name}${path}`, error, count);
      throw error;
    }
  }

  async #packed(parts: readonly Uint8Array[]): Promise<Body> {
    const { compression } = this.#options;
    if (compression === 'none' || sizeOf(parts) < PACKED_BYTES_MIN) return { parts, isPacked: false };
    return { parts: [await pack(compression, parts)], isPacked: true };
  }
}

interface Body {
  readonly parts: readonly Uint8Array[];
  readonly isPacked: boolean;
}

function statusFor(reply: Extract<GrpcReply, { kind: 'status' }>, status: number, count: number): number {
  // A server that has not even this method is none of the protocol; of a batch it says what it does not serve.
  if (reply.code === UNIMPLEMENTED && count === 0) return 404;
  // Too large, unless it says when there is room again.
  return reply.code === RESOURCE_EXHAUSTED && reply.retryAfter !== undefined ? 429 : status;
}
