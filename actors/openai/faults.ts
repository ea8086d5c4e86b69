import { type ErrorCode, TroupeError } from 'troupe/actor';
import { FetchRefused } from 'troupe/remote';

/**
 * What an error of OpenAI's client means for the records it was asked about.
 *
 * What says nothing about the records goes to all of them as it is: REMOTE_UNAVAILABLE (try again) and REMOTE_REFUSED (of no
 * use). What one record may have caused is PREDICT_FAILED while there are several, which halves the batch until the culprit
 * is alone; alone it gets the error that names the answer.
 */

/** Another time it may go well: nobody ran anything. */
const LATER = new Set([408, 409, 425, 429, 503]);
/** Of who asks and what for, and not of what was sent. */
const REFUSED = new Set([401, 403, 404, 405, 407, 410, 415, 421]);
const NOT_REACHED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);
/** A wait beyond it is a mistake of the server, or its wish to be asked no more. */
const RETRY_AFTER_MS_MAX = 600_000;

interface ClientError {
  readonly message: string;
  readonly status?: number | undefined;
  readonly headers?: Headers | undefined;
  readonly cause?: unknown;
}

/** `began`: of a text that had begun, which was run in any case. */
export function faultOf(error: unknown, server: string, count: number, began?: 'interrupted'): TroupeError {
  if (error instanceof TroupeError) return error;
  const { status, headers, cause, message } = (
    error instanceof Error ? error : new Error(String(error))
  ) as ClientError;
  const words = `${server}: ${oneLine(message)}`;
  if (status === undefined) {
    const refused = [error, ...causesOf(cause)].find((one) => one instanceof FetchRefused);
    if (refused?.kind === 'size' || refused?.kind === 'invalid')
      return blamed('PROTOCOL_VIOLATION', `${server}: ${refused.message}`, count);
    if (refused !== undefined) return new TroupeError('REMOTE_REFUSED', `${server}: ${refused.message}`);
    const below = causesOf(cause).map((one) => one.message);
    const ran = began ?? (causesOf(cause).some(isUnreached) ? 'not-started' : 'interrupted');
    const why = [words, ...below.map(oneLine)].filter((line) => line !== '').join(': ');
    return new TroupeError('REMOTE_UNAVAILABLE', why, { cause: error, ran });
  }
  const retryAfterMs = retryAfterMsOf(headers);
  const details = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (LATER.has(status))
    return new TroupeError('REMOTE_UNAVAILABLE', words, { ...details, ran: began ?? 'not-started' });
  if (status < 400 || REFUSED.has(status)) return new TroupeError('REMOTE_REFUSED', words);
  if (status === 500) return blamed('REMOTE_FAILED', words, count);
  if (status > 500) return new TroupeError('REMOTE_UNAVAILABLE', words, { ...details, ran: 'interrupted' });
  return blamed('INPUT_INVALID', words, count);
}

export function blamed(code: ErrorCode, words: string, count: number): TroupeError {
  return new TroupeError(count > 1 ? 'PREDICT_FAILED' : code, words);
}

/** In seconds or as a date; OpenAI also gives milliseconds. */
function retryAfterMsOf(headers: Headers | undefined): number | undefined {
  const ms = Number(headers?.get('retry-after-ms') ?? Number.NaN);
  const after = headers?.get('retry-after');
  const seconds = Number(after ?? Number.NaN);
  const until = Date.parse(after ?? '') - Date.now();
  const wanted = [ms, seconds * 1000, until].find((one) => Number.isFinite(one) && one >= 0);
  return wanted === undefined ? undefined : Math.min(wanted, RETRY_AFTER_MS_MAX);
}

/** What lies behind it, from the outside in; Node puts the failures of several addresses into one error without words. */
function causesOf(cause: unknown): Error[] {
  const found: Error[] = [];
  let at: unknown = cause;
  for (let depth = 0; depth < 5 && at instanceof Error; depth++) {
    found.push(at);
    if (at instanceof AggregateError) found.push(...at.errors.filter((one) => one instanceof Error));
    at = at.cause;
  }
  return found;
}

function isUnreached(error: Error): boolean {
  return 'code' in error && NOT_REACHED.has(String(error.code));
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').slice(0, 500);
}
