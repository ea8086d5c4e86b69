import { TroupeError, type ErrorCode, type ErrorDetails } from '../kernel/errors.js';
import { wordsOf } from './foreign.js';
import type { Sink } from './sink.js';

/**
 * One record on its way from source to sink. Operators change it in place, so a record costs one object however many
 * operators it passes. A failure takes the place of the value: the envelope stays where it was in the order.
 *
 * kind `value`: `value` is the record. `failed`: `error` is set and `value` is what failed; operators hand it on
 * untouched. `substitute`: a step turned the failure into a value; operators treat it as a value, the report as failed.
 */
export class Envelope {
  kind: 'value' | 'substitute' | 'failed' = 'value';
  error: TroupeError | undefined = undefined;
  /** Name of the actor whose step failed. */
  actor: string | undefined = undefined;
  /** Where the failing step wants its dead letters; undefined leaves it to the end of the pipeline. */
  deadLetters: Sink<DeadLetter> | undefined = undefined;

  constructor(
    /** Place in the source, from 0; the children of a flatMap share the number of their parent. */
    readonly seq: number,
    public value: unknown,
    /** Monotonic instant at which the source gave it. */
    readonly pulledAt: number,
    /** Event time in milliseconds since 1970, where the source knows one. */
    readonly timestamp: number | undefined,
    /** Whatever the source wants to travel along, such as file and line. */
    readonly metadata: unknown,
  ) {}

  fail(error: TroupeError): void {
    this.kind = 'failed';
    this.error = error;
    this.actor = undefined;
    this.deadLetters = undefined;
  }
}

export type Chunk = Envelope[];

/** What a source gives in the place of a record that it could not read. */
export class RecordFailure {
  constructor(
    readonly error: TroupeError,
    /** What is known of the record: the line, or the path. */
    readonly input: unknown,
  ) {}
}

/** A failed record as it reaches a dead-letter sink. */
export interface DeadLetter {
  /** The record as it came to the step that failed. */
  readonly input: unknown;
  readonly error: {
    readonly code: ErrorCode;
    readonly message: string;
    readonly ran: TroupeError['ran'];
    /** How often it had been sent to a replica, where it had. */
    readonly attempt?: number;
  };
  /** Name of the actor, where one was asked. */
  readonly actor?: string;
  /** Wall-clock time, ISO 8601. */
  readonly at: string;
}

export function deadLetterOf(envelope: Envelope, wallNowMs: number): DeadLetter {
  const error = failureOf(envelope);
  return {
    input: envelope.value,
    error: {
      code: error.code,
      message: error.message,
      ran: error.ran,
      ...(error.attempt === undefined ? {} : { attempt: error.attempt }),
    },
    ...(envelope.actor === undefined ? {} : { actor: envelope.actor }),
    at: new Date(wallNowMs).toISOString(),
  };
}

export function failureOf(envelope: Envelope): TroupeError {
  return envelope.error ?? new TroupeError('INTERNAL', `Record ${envelope.seq} is ${envelope.kind} and has no error`);
}

/** The failure of a user's function, with its own words in the message. */
export function operatorFailed(what: string, cause: unknown, details: ErrorDetails = {}): TroupeError {
  return new TroupeError('OPERATOR_FAILED', `${what} threw: ${wordsOf(cause)}`, { ...details, cause });
}
