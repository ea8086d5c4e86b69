/**
 * The door to HTTP as a client: one request with a time limit, no redirects, and what its answer means for another try.
 * A redirect is not followed, because the headers of the first address, tokens among them, are not meant for another.
 */
import { systemClock } from '../kernel/clock.js';
import { refuse } from './options.js';

export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Until the head of the answer is there. */
  readonly timeoutMs: number;
  /** Ends the request and, later, the reading of its body. */
  readonly signal: AbortSignal;
}

/** Why there is no answer that helps, and whether another try may. */
export class HttpFailure extends Error {
  constructor(
    message: string,
    readonly isTransient: boolean,
    readonly retryAfterMs: number | undefined,
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'HttpFailure';
  }
}

/** What is shown of an answer that says no. */
const EXCERPT_CHARS = 200;
/** Longer waits asked for by a server are cut. */
const MAX_RETRY_AFTER_MS = 300_000;
/** Of a body nobody reads. */
const MAX_IGNORED_BYTES = 65_536;
/** Timed out, too early, too many; what is not in here and below 500 is final. */
const TRANSIENT = new Set([408, 425, 429]);
/** Headers that belong to the connection: fetch refuses some when it is too late, and drops the others without a word. */
const OF_THE_CONNECTION = /^(connection|content-length|expect|host|keep-alive|te|trailer|transfer-encoding|upgrade)$/;

export function checkUrl(option: string, value: unknown): URL {
  let url: URL | undefined;
  if (value instanceof URL) url = new URL(value);
  else if (typeof value === 'string' && URL.canParse(value)) url = new URL(value);
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    // Not shown where it may hold a password.
    const given = value instanceof URL ? value.href : value;
    refuse(option, 'an http or https URL', typeof given === 'string' && /[@?]/.test(given) ? 'another string' : given);
  }
  // fetch refuses them too, but not before the first request.
  if (url.username !== '' || url.password !== '') throw new TypeError(`${option} must have no user name or password`);
  return url;
}

/** With names in lower case. `own`: those that the caller of this sets itself. */
export function checkHeaders(option: string, value: unknown, own: readonly string[]): Readonly<Record<string, string>> {
  if (typeof value !== 'object' || value === null) refuse(option, 'an object of strings', value);
  const headers = new Map<string, string>();
  for (const [given, text] of Object.entries(value)) {
    // Only the name is shown: the value may be a secret.
    if (typeof text !== 'string' || !/^[\w!#$%&'*+.^`|~-]+$/.test(given) || !/^[\t\x20-\x7e\x80-\xff]*$/.test(text)) {
      throw new TypeError(
        `${option}: header ${JSON.stringify(given)} must be a name with a string of Latin-1 as value`,
      );
    }
    const name = given.toLowerCase();
    if (own.includes(name) || OF_THE_CONNECTION.test(name)) {
      throw new TypeError(`${option}: header ${JSON.stringify(given)} is set by the request itself`);
    }
    if (headers.has(name)) throw new TypeError(`${option}: header ${JSON.stringify(name)} is there twice`);
    headers.set(name, text);
  }
  return Object.fromEntries(headers);
}

/** Without the query, which may hold a secret. */
export function nameOf(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

/** An answer with status 2xx whose body may still be coming. */
export interface HttpAnswer {
  readonly response: Response;
  /** Lets go of the connection; to be called once the body is of no more use. */
  end(): void;
}

/** Anything but an answer with status 2xx is an HttpFailure. */
export async function send(request: HttpRequest): Promise<HttpAnswer> {
  const { method, url, headers, body, timeoutMs, signal } = request;
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const end = (): void => {
    signal.removeEventListener('abort', abort);
    controller.abort();
  };
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  let isLate = false;
  const timer = systemClock.at(systemClock.now() + timeoutMs, () => {
    isLate = true;
    controller.abort();
  });
  try {
    const init = { method, headers, redirect: 'manual' as const, signal: controller.signal };
    const response = await fetch(url, body === undefined ? init : { ...init, body });
    if (response.ok) return { response, end };
    const excerpt = await excerptOf(response);
    const { status } = response;
    const kind = status >= 300 && status < 400 ? ', a redirect, which is not followed' : '';
    const words = `status ${status}${kind}${excerpt === '' ? '' : `: ${excerpt}`}`;
    const retryAfterMs = retryAfterMsOf(response.headers.get('retry-after'));
    throw new HttpFailure(words, status >= 500 || TRANSIENT.has(status), retryAfterMs);
  } catch (cause) {
    end();
    if (cause instanceof HttpFailure) throw cause;
    const words = isLate ? `no answer within ${timeoutMs} ms` : wordsOf(cause);
    throw new HttpFailure(words, !signal.aborted && !isInvalid(cause), undefined, cause);
  } finally {
    timer.cancel();
  }
}

/** Sends a request whose answer says all by its status; its body is read, within limits, so that the connection can be used again. */
export async function post(request: HttpRequest): Promise<void> {
  const { response, end } = await send(request);
  const timer = systemClock.at(systemClock.now() + request.timeoutMs, end);
  try {
    let bytes = 0;
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      bytes += chunk.byteLength;
      if (bytes > MAX_IGNORED_BYTES) break;
    }
  } catch {
    // The status was the answer; what becomes of the rest changes nothing.
  } finally {
    timer.cancel();
    end();
  }
}

/** Begins no second read when the first chunk is there: a body without end says no more than its beginning. */
async function excerptOf(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return '';
  try {
    const { value } = await reader.read();
    return oneLine(new TextDecoder().decode(value?.subarray(0, 4 * EXCERPT_CHARS)));
  } catch {
    return '';
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** What is shown of a text from outside: one short line, without the control characters that would act on a terminal. */
export function oneLine(text: string): string {
  return text
    .slice(0, 4 * EXCERPT_CHARS)
    .replace(/[\s\p{C}]+/gu, ' ')
    .trim()
    .slice(0, EXCERPT_CHARS);
}

/** Of a header Retry-After: seconds, or a date. */
export function retryAfterMsOf(given: string | null | undefined): number | undefined {
  if (given === null || given === undefined) return undefined;
  const ms = /^\d+$/.test(given.trim()) ? Number(given) * 1000 : Date.parse(given) - systemClock.wallNow();
  return Number.isFinite(ms) ? Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS) : undefined;
}

/** undici says "fetch failed" and keeps the reason in the cause. */
function reasonOf(cause: unknown): unknown {
  return cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
}

/** No server was asked, and none will be: something of the request cannot be sent. */
function isInvalid(cause: unknown): boolean {
  const inner = reasonOf(cause);
  return inner instanceof Error && 'code' in inner && inner.code === 'UND_ERR_INVALID_ARG';
}

function wordsOf(cause: unknown): string {
  const inner = reasonOf(cause);
  if (!(inner instanceof Error)) return String(inner);
  const code = 'code' in inner && typeof inner.code === 'string' ? inner.code : '';
  return inner.message !== '' ? inner.message : code;
}
