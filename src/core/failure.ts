import { type ErrorCode, type ErrorDetails, type Ran, TroupeError } from '../kernel/errors.js';
import type { MailboxLimits } from './mailbox.js';
import type { KnownModel } from './model-book.js';
import { versionOf } from './model-key.js';
import type { Request } from './request.js';
import { type DeathNotice, describeDeath } from './effects.js';

/**
 * Why a record got no result. The error itself is made when it is first read: an Error costs more than the rest of a
 * record's way through the pool, and of those dropped under overload most are never looked at. So it is kept as data:
 * the code, and what one of the functions below makes the error of. None of that changes once the record has settled.
 */
export class Failure<Detail = unknown> {
  readonly code: ErrorCode;
  readonly ran: Ran;
  /** The record, or the first of a batch that failed as a whole. */
  readonly request: Request;
  /** Name of the pool. */
  readonly pool: string;
  readonly detail: Detail;
  /** Takes the very failure it stands in; who holds one need not know its detail. */
  readonly #make: (failure: never) => TroupeError;
  #error: TroupeError | undefined;

  constructor(
    code: ErrorCode,
    ran: Ran,
    request: Request,
    pool: string,
    make: (failure: Failure<Detail>) => TroupeError,
    detail: Detail,
  ) {
    this.code = code;
    this.ran = ran;
    this.request = request;
    this.pool = pool;
    this.detail = detail;
    this.#make = make;
    this.#error = undefined;
  }

  get error(): TroupeError {
    return (this.#error ??= this.#make(this as never));
  }
}

/** Where a batch failed, and with what. */
export interface Located {
  readonly error: TroupeError;
  readonly replica: number;
  readonly incarnation: number;
  readonly version: string | undefined;
  readonly requests: readonly Request[];
}

/** The end of the replica that held the record. */
export interface Buried {
  readonly death: DeathNotice;
  readonly replica: number;
  readonly incarnation: number;
  readonly version: string | undefined;
}

/** Why no record of a model is taken. */
export interface NotLoaded {
  readonly key: string;
  readonly known: Pick<KnownModel, 'bytes' | 'error' | 'failedUntil'>;
  readonly maxBytes: number;
  readonly now: number;
}

/** What is said of a model also where no record stands for it. */
type OfModel = { readonly pool: string; readonly detail: NotLoaded } & Partial<Failure<NotLoaded>>;

/** How full the mailbox was. */
export interface Fill {
  readonly what: string;
  readonly held: number;
  readonly heldBytes: number;
  readonly limits: MailboxLimits;
}

/** `detail` of those that have nothing else to tell is what the error is caused by. */
export function cancelledInFlight(failure: Failure): TroupeError {
  return failed(failure, 'The record was cancelled by its caller while a replica ran it', failure.detail);
}

export function cancelledWaiting(failure: Failure): TroupeError {
  return failed(failure, 'The record was cancelled by its caller while it waited', failure.detail);
}

export function tryTimedOut(failure: Failure): TroupeError {
  const { callTimeoutMs } = failure.request;
  return failed(failure, `No answer within ${callTimeoutMs} ms of the send: the time of this call passed`, undefined);
}

export function expiredInFlight(failure: Failure): TroupeError {
  return failed(failure, `${noResult(failure.request)} while a replica ran it`, undefined);
}

export function expiredWaiting(failure: Failure): TroupeError {
  return failed(failure, `${noResult(failure.request)} before a replica took it`, undefined);
}

export function waitedTooLong(failure: Failure): TroupeError {
  const { dueAt, offeredAt } = failure.request;
  const waitedMs = Math.round(dueAt - offeredAt);
  return failed(failure, `No replica took the record within ${waitedMs} ms: mailbox.maxWaitMs passed`, undefined);
}

function noResult({ deadlineAt, offeredAt }: Request): string {
  return `No result within ${Math.round(deadlineAt - offeredAt)} ms: the deadline passed`;
}

export function notReplayed(failure: Failure<number>): TroupeError {
  const what = `its batch killed a replica of "${failure.pool}"`;
  const why = `the quarantine budget of ${failure.detail} deaths is used up`;
  return failed(failure, `The record was not replayed: ${what}, and ${why}`, undefined);
}

export function poolStopped(failure: Failure): TroupeError {
  return failed(failure, `Pool "${failure.pool}" was stopped before the record was done`, failure.detail);
}

export function poolFailed(failure: Failure<TroupeError>): TroupeError {
  const { detail: error, pool } = failure;
  const text = error.code === 'NO_REPLICA' ? error.message : `Pool "${pool}" has failed: ${error.message}`;
  return failed(failure, text, error);
}

export function modelNotLoaded({ pool, detail, ran, request }: OfModel): TroupeError {
  const { key, known, now } = detail;
  const retryAfterMs = Math.max(0, Math.ceil(known.failedUntil - now));
  const why = known.error === undefined ? '' : `: ${known.error.message}`;
  const message = `Model "${key}" of pool "${pool}" could not be loaded${why}; it is tried again in ${retryAfterMs} ms at the earliest`;
  return new TroupeError('MODEL_LOAD_FAILED', message, {
    ...ofModel(key, pool, ran, request),
    cause: known.error,
    retryAfterMs,
  });
}

export function modelTooLarge({ pool, detail, ran, request }: OfModel): TroupeError {
  const { key, known, maxBytes } = detail;
  const message = `Model "${key}" of pool "${pool}" holds ${known.bytes ?? 0} bytes, more than models.maxBytes ${maxBytes} of a replica`;
  return new TroupeError('MODEL_TOO_LARGE', message, ofModel(key, pool, ran, request));
}

function ofModel(key: string, pool: string, ran: Ran = 'not-started', request?: Request): ErrorDetails {
  const modelVersion = versionOf(key);
  return {
    ran,
    actor: pool,
    ...(modelVersion === undefined ? {} : { modelVersion }),
    ...(request === undefined ? {} : { attempt: request.sendCount }),
  };
}

export function dropped(failure: Failure<Fill>): TroupeError {
  const { what, held, heldBytes, limits } = failure.detail;
  const fill = `${held} of ${limits.capacity} records and ${heldBytes} of ${limits.capacityBytes} bytes held`;
  return failed(failure, `Mailbox of "${failure.pool}" is full: ${fill}, overflow ${what}`, undefined);
}

/** The same error with where it happened and to which records. */
export function located({ pool, request, detail }: Failure<Located>): TroupeError {
  const { error, replica, incarnation, version, requests } = detail;
  return new TroupeError(error.code, error.message, {
    ran: error.ran,
    cause: error.cause,
    actor: pool,
    replica,
    incarnation,
    attempt: request.sendCount,
    recordIds: requests.map(({ id }) => id),
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    ...(version === undefined ? {} : { modelVersion: version }),
  });
}

export function buried({ code, pool, request, detail }: Failure<Buried>): TroupeError {
  const { death, replica, incarnation, version } = detail;
  const text = `Replica ${replica} of "${pool}" ended while it held the record: ${describeDeath(death)}`;
  return new TroupeError(code, text, {
    cause: death.error,
    actor: pool,
    replica,
    incarnation,
    attempt: request.sendCount,
    ...(version === undefined ? {} : { modelVersion: version }),
  });
}

function failed({ code, ran, request, pool }: Failure, text: string, cause: unknown): TroupeError {
  return new TroupeError(code, text, { ran, cause, actor: pool, attempt: request.sendCount });
}
