import { TroupeError, type ErrorCode, type ErrorDetails } from '../kernel/errors.js';
import { wordsOf } from './foreign.js';
import type { Sink } from './sink.js';

/** What is known of a record besides its value; step functions and sinks get it as their second argument. */
export interface RecordInfo {
  /** Place in the source, from 0; the same in every run that reads the source again. */
  readonly seq: number;
  /** Names the record: `seq`, and below a flatMap the places among its siblings, as in `17.0.2`. The key of idempotent sinks. */
  readonly id: string;
  /** Event time in milliseconds since 1970, where the source knows one. */
  readonly timestamp: number | undefined;
  /** Whatever the source lets travel along, such as file and line. */
  readonly metadata: unknown;
}

/** A record with what the source knows of it; a source gives it in the place of a plain value. */
export class Stamped<T> {
  readonly timestamp: number | undefined;
  readonly metadata: unknown;
  /** Names the record towards `SourceReader.acknowledge`; JSON. Undefined: nothing to acknowledge. */
  readonly token: unknown;

  constructor(
    readonly value: T | RecordFailure,
    facts: { timestamp?: number; metadata?: unknown; token?: unknown } = {},
  ) {
    this.timestamp = facts.timestamp;
    this.metadata = facts.metadata;
    this.token = facts.token;
  }
}

/** An element of the stream that is no record. It passes every step, never overtakes a record and is never overtaken. */
export class Control {
  constructor(
    readonly name: string,
    /** JSON, so that a checkpoint can hold it. */
    readonly data: unknown = undefined,
  ) {}
}

/** "No record after this is older": event time in milliseconds since 1970. */
export class Watermark extends Control {
  constructor(readonly timestamp: number) {
    super('watermark', timestamp);
  }
}

/**
 * One record on its way from source to sink. Operators change it in place, so a record costs one object however many
 * operators it passes. A failure takes the place of the value: the envelope stays where it was in the order.
 *
 * kind `value`: `value` is the record. `failed`: `error` is set and `value` is what failed; operators hand it on
 * untouched. `substitute`: a step turned the failure into a value; operators treat it as a value, the report as failed.
 * `fallback`: a step's fallback answered in the place of the actor; a value like others, the report counts it apart.
 * `control`: `value` is a Control; operators hand it on untouched, in its place.
 */
export class Envelope implements RecordInfo {
  kind: 'value' | 'substitute' | 'fallback' | 'failed' | 'control' = 'value';
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
    /** Places among siblings below flatMaps: '' or as '.0.2'. */
    readonly path: string = '',
  ) {}

  get id(): string {
    return `${this.seq}${this.path}`;
  }

  /** Operators hand it on untouched. */
  get passes(): boolean {
    return this.kind === 'failed' || this.kind === 'control';
  }

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
