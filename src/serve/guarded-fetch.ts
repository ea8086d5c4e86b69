/**
 * `fetch` for clients that speak a protocol of their own over it: it connects where the guard allows and nowhere else, follows
 * no redirect, takes no more than so many bytes of an answer, and gives them as they come.
 */
import { Agent, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as SecureAgent, request as requestHttps } from 'node:https';
import { readAuthorities } from '../stream/authorities.js';
import { AddressGuard, AddressRefused, endpointUrl } from './address-guard.js';

export interface GuardedFetchOptions {
  /** As of `RemoteOptions`. Default: none. */
  readonly allow?: readonly string[];
  /** File with the certificates (PEM) of the authorities that are trusted, in the place of those that everybody trusts. */
  readonly ca?: string;
  /** Most bytes of one answer. Default 67,108,864. */
  readonly maxReplyBytes?: number;
}

/** Why there is no answer, beside what the system says. */
export class FetchRefused extends Error {
  constructor(
    /**
     * `address`: it is not one that may be connected to. `redirect`: the server sends elsewhere. `size`: the answer is too
     * large. `invalid`: what came is no answer.
     */
    readonly kind: 'address' | 'redirect' | 'size' | 'invalid',
    message: string,
  ) {
    super(message);
    this.name = 'FetchRefused';
  }
}

export interface GuardedFetch {
  /** Bodies are texts or bytes. Rejects with a FetchRefused, or what the system says. */
  readonly fetch: typeof fetch;
  /** Ends idle connections; what is under way goes on. */
  close(): void;
}

const IDLE_MS = 60_000;
const IDLE_SOCKETS_MAX = 16;

/** For the server at `base`, and no other. Throws a TypeError naming `option`, `allow` or `ca` for what cannot be right. */
export function guardedFetch(option: string, base: string, options: GuardedFetchOptions = {}): GuardedFetch {
  const { allow = [], ca, maxReplyBytes = 2 ** 26 } = options;
  const url = endpointUrl(option, base);
  const guard = new AddressGuard('allow', url, allow);
  const isSecure = url.protocol === 'https:';
  const authorities = ca === undefined ? {} : { ca: readAuthorities('ca', ca) };
  const kept = { keepAlive: true, maxFreeSockets: IDLE_SOCKETS_MAX, timeout: IDLE_MS };
  const agent = isSecure ? new SecureAgent({ ...kept, ...authorities }) : new Agent(kept);

  const send = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const to = new URL(input instanceof Request ? input.url : input);
    if (to.origin !== url.origin) throw new FetchRefused('address', `${to.origin} is not the server of ${option}`);
    try {
      guard.check();
    } catch (error) {
      throw asRefused(error);
    }
    const { method = 'GET', headers, body, signal } = init;
    const given = Object.fromEntries(new Headers(headers));
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = (isSecure ? requestHttps : requestHttp)({
        host: guard.host,
        port: url.port === '' ? (isSecure ? 443 : 80) : Number(url.port),
        method,
        path: to.pathname + to.search,
        // Brackets of an address belong into the header and not to the socket.
        headers: { ...given, host: url.host, 'accept-encoding': 'identity' },
        agent,
        lookup: guard.lookup,
        ...(signal === null || signal === undefined ? {} : { signal }),
      });
      sent.on('response', resolve);
      sent.on('error', (error) => reject(asRefused(error)));
      // Node ends it without an error.
      sent.on('upgrade', (_response, socket) => {
        socket.destroy();
        reject(new FetchRefused('invalid', 'it wants to change the protocol'));
      });
      sent.on('close', () => reject(new Error('the connection ended without an answer')));
      sent.end(body as string | Uint8Array | undefined);
    });
    response.on('error', () => undefined); // Who reads the body is told.
    const { statusCode: status = 0 } = response;
    // A Response throws for control characters, which Node lets through.
    const statusText = (response.statusMessage ?? '').replace(/[^\t\x20-\x7e\x80-\xff]/g, '');
    if (status >= 300 && status < 400) {
      response.destroy();
      throw new FetchRefused('redirect', `it answered with status ${status}, a redirect, which is not followed`);
    }
    if (status < 200 || status > 599) {
      response.destroy();
      throw new FetchRefused('invalid', `it answered with status ${status}, which is none of HTTP`);
    }
    const hasBody = status !== 204 && status !== 205;
    if (!hasBody) response.resume();
    const stream = hasBody ? ReadableStream.from(limited(response, maxReplyBytes)) : null;
    return new Response(stream, { status, statusText, headers: headersOf(response) });
  };
  return { fetch: send, close: () => agent.destroy() };
}

/** Left early, it ends the connection. */
async function* limited(response: IncomingMessage, maxBytes: number): AsyncGenerator<Uint8Array> {
  let taken = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    taken += chunk.length;
    if (taken > maxBytes) throw new FetchRefused('size', `its answer has more than ${maxBytes} bytes`);
    yield chunk;
  }
}

function headersOf({ rawHeaders }: IncomingMessage): Headers {
  const headers = new Headers();
  for (let at = 0; at + 1 < rawHeaders.length; at += 2)
    headers.append(rawHeaders[at] as string, rawHeaders[at + 1] as string);
  return headers;
}

function asRefused(error: unknown): unknown {
  return error instanceof AddressRefused ? new FetchRefused('address', error.message) : error;
}
