/**
 * What the answer of a remote server, or its silence, means for the records of the batch it was asked about.
 *
 * R1 what says nothing about the records is blamed on none of them: `REMOTE_UNAVAILABLE` (try again) and `REMOTE_REFUSED`
 *    (no use) go to the whole batch as they are.
 * R2 what one record may have caused is PREDICT_FAILED while there are several, which halves the batch until the culprit is
 *    alone; alone it gets the error that names the answer.
 */
import { type ErrorCode, TroupeError } from '../kernel/errors.js';
import { oneLine, retryAfterMsOf } from '../stream/http-client.js';
import type { GuardedReply, NoReply } from './guarded-http.js';

/** Another time it may go well: timed out there, too early, too many, overloaded or stopping. Nobody ran anything. */
const LATER = new Set([408, 425, 429, 503]);
/** Of the way there and not of what was sent: not found, not allowed, not this method, not this server. */
const REFUSED = new Set([401, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426, 505]);
const FAILED = 500;
/** Our own servers say so of what does not fit in one request, such as outputs of different sizes. */
const NOT_SERVED = 501;

/** What a server said, whatever the protocol it said it in. */
export interface Said {
  /** The status of HTTP that means the same. */
  readonly status: number;
  /** Behind the name of the server: `answered with status 503: too many`. */
  readonly words: string;
  readonly retryAfterMs: number | undefined;
}

/** `count`: how many records were asked about; 0 where it was something else. */
export function faultOfStatus(name: string, { status, headers, body }: GuardedReply, count: number): TroupeError {
  const redirect = status >= 300 && status < 400 ? ', a redirect, which is not followed' : '';
  const words = `answered with status ${status}${redirect}${reasonOf(body)}`;
  return faultOfSaid(name, { status, words, retryAfterMs: retryAfterMsOf(headers['retry-after']) }, count);
}

/** As `faultOfStatus`. */
export function faultOfSaid(name: string, { status, words: said, retryAfterMs }: Said, count: number): TroupeError {
  const words = `${name} ${said}`;
  const details = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (LATER.has(status)) return new TroupeError('REMOTE_UNAVAILABLE', words, details);
  if (status < 400 || REFUSED.has(status)) return new TroupeError('REMOTE_REFUSED', words);
  if (status === FAILED) return blamed('REMOTE_FAILED', words, count);
  if (status > FAILED && status !== NOT_SERVED)
    return new TroupeError('REMOTE_UNAVAILABLE', words, { ...details, ran: 'interrupted' });
  return blamed('PREDICT_FAILED', words, count);
}

/** Of an answer that never came. */
export function faultOfSilence(name: string, error: NoReply, count: number): TroupeError {
  const words = `${name}: ${error.message}`;
  switch (error.kind) {
    case 'refused':
      return new TroupeError('REMOTE_REFUSED', words, { cause: error });
    case 'unreached':
      return new TroupeError('REMOTE_UNAVAILABLE', `${name} cannot be reached: ${error.message}`, { cause: error });
    case 'invalid':
      return faultOfReply(name, error.message, count, error);
    case 'cancelled':
      return new TroupeError('CANCELLED', words, { cause: error });
    case 'cut':
    case 'late':
      return new TroupeError('REMOTE_UNAVAILABLE', words, { ran: 'interrupted', cause: error });
  }
}

/** Of an answer that is not what it should be. */
export function faultOfReply(name: string, why: string, count: number, cause?: unknown): TroupeError {
  return blamed('PROTOCOL_VIOLATION', `${name}: ${oneLine(why)}`, count, cause);
}

/** R2. */
export function blamed(code: ErrorCode, words: string, count: number, cause?: unknown): TroupeError {
  const details = cause === undefined ? {} : { cause };
  return new TroupeError(count > 1 ? 'PREDICT_FAILED' : code, words, details);
}

/** What the server says of it: the `error` of the protocol, or the beginning of whatever it is. */
function reasonOf(body: Buffer): string {
  const text = body.subarray(0, 4096).toString();
  let said: unknown;
  try {
    said = (JSON.parse(text) as { error?: unknown } | null)?.error;
  } catch {
    // No JSON, or more than was looked at.
  }
  const line = oneLine(typeof said === 'string' ? said : text);
  return line === '' ? '' : `: ${line}`;
}
