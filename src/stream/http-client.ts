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
/** Too early, too many, timed out, or the server's own trouble. */
const TRANSIENT = new Set([408, 425, 429, 500, 502, 503, 504]);

export function checkUrl(option: string, value: unknown): URL {
  let url: URL | undefined;
  if (value instanceof URL) url = new URL(value);
  else if (typeof value === 'string' && URL.canParse(value)) url = new URL(value);
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    refuse(option, 'an http or https URL', value instanceof URL ? value.href : value);
  }
  // fetch refuses them too, but not before the first request.
  if (url.username !== '' || url.password !== '') throw new TypeError(`${option} must have no user name or password`);
  return url;
}

export function checkHeaders(option: string, value: unknown): Readonly<Record<string, string>> {
  if (typeof value !== 'object' || value === null) refuse(option, 'an object of strings', value);
  for (const [name, text] of Object.entries(value)) {
    // Only the name is shown: the value may be a secret.
    if (typeof text !== 'string' || !/^[\w!#$%&'*+.^`|~-]+$/.test(name) || /[\r\n\0]/.test(text)) {
      throw new TypeError(`${option}: header ${JSON.stringify(name)} must be a name with a string as value`);
    }
  }
  return { ...(value as Record<string, string>) };
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
    const words = `status ${response.status}${excerpt === '' ? '' : `: ${excerpt}`}`;
    throw new HttpFailure(words, TRANSIENT.has(response.status), retryAfterOf(response));
  } catch (cause) {
    end();
    if (cause instanceof HttpFailure) throw cause;
    const words = isLate ? `no answer within ${timeoutMs} ms` : wordsOf(cause);
    throw new HttpFailure(words, !signal.aborted, undefined, cause);
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
    const text = new TextDecoder().decode(value?.subarray(0, 4 * EXCERPT_CHARS));
    return text.replace(/\s+/g, ' ').trim().slice(0, EXCERPT_CHARS);
  } catch {
    return '';
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Seconds, or a date. */
function retryAfterOf(response: Response): number | undefined {
  const given = response.headers.get('retry-after');
  if (given === null) return undefined;
  const ms = /^\d+$/.test(given.trim()) ? Number(given) * 1000 : Date.parse(given) - systemClock.wallNow();
  return Number.isFinite(ms) ? Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS) : undefined;
}

/** undici says "fetch failed" and keeps the reason in the cause. */
function wordsOf(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  if (!(inner instanceof Error)) return String(inner);
  const code = 'code' in inner && typeof inner.code === 'string' ? inner.code : '';
  return inner.message !== '' ? inner.message : code;
}
