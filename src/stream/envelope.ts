import { TroupeError, type ErrorCode, type ErrorDetails } from '../kernel/errors.js';
import { toFault, type Fault } from '../wire/fault.js';
import { wordsOf } from './foreign.js';
import { jsonSafe } from './json-safe.js';
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

/** What a source may give that is no plain value; one base, so that one look tells plain values from all others. */
export abstract class StreamElement {}

/** False for plain values, also for those that do not let themselves be asked. */
export function isStreamElement(value: unknown): value is StreamElement {
  try {
    return value instanceof StreamElement;
  } catch {
    return false; // A proxy whose traps throw.
  }
}

/** A record with what the source knows of it; a source gives it in the place of a plain value. */
export class Stamped<T> extends StreamElement {
  readonly timestamp: number | undefined;
  readonly metadata: unknown;
  /**
   * Names the record, and no other that is not acknowledged yet, towards `SourceReader.acknowledge`; JSON. Undefined:
   * nothing to acknowledge.
   */
  readonly token: unknown;

  constructor(
    readonly value: T | RecordFailure,
    facts: { timestamp?: number; metadata?: unknown; token?: unknown } = {},
  ) {
    super();
    this.timestamp = facts.timestamp;
    this.metadata = facts.metadata;
    this.token = facts.token;
  }
}

/** An element of the stream that is no record. It passes every step, never overtakes a record and is never overtaken. */
export class Control extends StreamElement {
  constructor(
    readonly name: string,
    /** JSON, so that a checkpoint can hold it. */
    readonly data?: unknown,
  ) {
    super();
  }
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
  /** Why it failed; also of a `substitute` and a `fallback`. */
  error: TroupeError | undefined = undefined;
  /** Where it failed; undefined: at the source. */
  failure: FailurePlace | undefined = undefined;

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

  /** Where the failing step wants its dead letters; undefined leaves it to the end of the pipeline. */
  get deadLetters(): Sink<DeadLetter> | undefined {
    return this.failure?.deadLetters;
  }

  fail(error: TroupeError, place?: FailurePlace): void {
    this.kind = 'failed';
    this.error = error;
    this.failure = place;
  }
}

/** What the failing step knows of a failure besides the error. */
export interface FailurePlace {
  /** Place of the step in the pipeline, from 0. */
  readonly step: number;
  /** Monotonic instant. */
  readonly at: number;
  /** Name of the actor, where one was asked. */
  readonly actor?: string;
  /** Model version, where one was asked and it is known. */
  readonly version?: string | undefined;
  /** How often it was tried. */
  readonly attempts?: number;
  readonly deadLetters?: Sink<DeadLetter> | undefined;
}

export type Chunk = Envelope[];

/** What a source gives in the place of a record that it could not read. */
export class RecordFailure extends StreamElement {
  constructor(
    readonly error: TroupeError,
    /** What is known of the record: the line, or the path. */
    readonly input: unknown,
  ) {
    super();
  }
}

/** A failed record as it reaches a dead-letter sink: plain data that JSON can hold, whatever the record was. */
export interface DeadLetter {
  /** The record as it came to the step that failed; what JSON has no word for is put into words. */
  readonly input: unknown;
  readonly error: {
    readonly code: ErrorCode;
    readonly message: string;
    readonly ran: TroupeError['ran'];
    /** May the same record go well another time? */
    readonly retryable: boolean;
    readonly cause?: Fault;
  };
  /** How often it was tried: 0 where no actor was asked. */
  readonly attempts: number;
  /** Name of the actor, where one was asked. */
  readonly actor?: string;
  /** Model version that failed, where it is known. */
  readonly version?: string;
  /** Place in the source, from 0. */
  readonly seq: number;
  /** Names the record, see RecordInfo. */
  readonly id: string;
  /** Event time in milliseconds since 1970, where the source knows one. */
  readonly timestamp?: number;
  readonly metadata?: unknown;
  /** Name of the pipeline. */
  readonly pipeline: string;
  /** Place of the failing step in the pipeline, from 0; left out where the source could not read the record. */
  readonly step?: number;
  /** Wall-clock times, ISO 8601: when the source gave the record, and when the step failed. */
  readonly times: { readonly pulledAt: string; readonly failedAt: string };
}

/** `wallOffsetMs` is what turns a monotonic instant of the run into milliseconds since 1970. */
export function deadLetterOf(envelope: Envelope, pipeline: string, wallOffsetMs: number): DeadLetter {
  const { failure, seq, id, timestamp, metadata, pulledAt } = envelope;
  const { code, message, ran, retryable, cause } = failureOf(envelope);
  const iso = (at: number): string => new Date(wallOffsetMs + at).toISOString();
  return {
    input: jsonSafe(envelope.value),
    error: { code, message, ran, retryable, ...(cause === undefined ? {} : { cause: toFault(cause) }) },
    attempts: failure?.attempts ?? 0,
    ...(failure?.actor === undefined ? {} : { actor: failure.actor }),
    ...(failure?.version === undefined ? {} : { version: failure.version }),
    seq,
    id,
    ...(timestamp === undefined ? {} : { timestamp }),
    ...(metadata === undefined ? {} : { metadata: jsonSafe(metadata) }),
    pipeline,
    ...(failure === undefined ? {} : { step: failure.step }),
    times: { pulledAt: iso(pulledAt), failedAt: iso(failure?.at ?? pulledAt) },
  };
}

export function failureOf(envelope: Envelope): TroupeError {
  return envelope.error ?? new TroupeError('INTERNAL', `Record ${envelope.seq} is ${envelope.kind} and has no error`);
}

/** The failure of a user's function, with its own words in the message. */
export function operatorFailed(what: string, cause: unknown, details: ErrorDetails = {}): TroupeError {
  return new TroupeError('OPERATOR_FAILED', `${what} threw: ${wordsOf(cause)}`, { ...details, cause });
}
