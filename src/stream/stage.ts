import type { Outcome } from '../actor/outcome.js';
import type { Clock } from '../kernel/clock.js';
import { TroupeError, isTroupeError } from '../kernel/errors.js';
import { decodeItem } from './checkpoint/items.js';
import { Control, Envelope, isStreamElement, RecordFailure, Stamped, type Chunk } from './envelope.js';
import type { FairTurn } from './fair-turn.js';
import { isA, wordsOf } from './foreign.js';
import { INTERRUPTED, isThenable, type Interrupt } from './interrupt.js';
import type { Counts } from './report.js';
import type { SourceReader } from './source.js';
import type { SavedItem, Tracking } from './tracking.js';
import type { StepMeters } from './run-metrics.js';

/**
 * One running step of a pipeline. The end of the pipeline pulls, each stage pulls from the one before it, and `max`
 * travels upstream: a source never reads more than what has room below. One pull is open at a time.
 */
export interface Stage {
  /** At least 1 and at most `max` records in order; undefined at the end or when the run was interrupted. */
  pull(max: number): Promise<Chunk | undefined>;
  /** What it holds now, in order; `withOutcomes` where finished results are wanted. Only steps that ask actors have it. */
  held?(withOutcomes: boolean): readonly HeldState[];
  /** Steps that ask actors: what they did so far. */
  meters?(): StepMeters;
  /** Lets go of everything; called once, after the run's interrupt is set. */
  close(): void | Promise<void>;
}

/**
 * What a step remembers of a record it holds, for a checkpoint. The record itself is read again, or stands in the
 * checkpoint with the source; only an `outcome` that is there already need not be computed again.
 */
export interface HeldState {
  /** Of the record, see RecordInfo. */
  readonly id: string;
  /** How often it has been tried. */
  readonly attempts: number;
  /** What is left of its timeout; undefined for none. */
  readonly leftMs: number | undefined;
  /** Its result, finished and not yet delivered. Any structured-cloneable value. */
  readonly outcome: Outcome<unknown> | undefined;
  /** The pool of the step's fallback gave the outcome. */
  readonly isFallback?: boolean;
}

/**
 * Hears what becomes of records inside the pipeline; the end of the pipeline tells the rest. For checkpoints and
 * acknowledgements. A record has settled when it was delivered or filtered, or when it was expanded and every child of
 * it has settled.
 */
export interface Tracker {
  /** A filter refused the record. */
  filtered(envelope: Envelope): void;
  /**
   * A flatMap has given all children of the record: told once, after the last one, with how many there were; 0 for none.
   * Child `index` (from 0) has the path `${parent.path}.${index}`; a failure of the flatMap is a child like the others.
   */
  expanded(parent: Envelope, childCount: number): void;
}

/** What the stages of one run share. */
export interface RunContext {
  readonly name: string;
  readonly clock: Clock;
  readonly counts: Counts;
  readonly interrupt: Interrupt;
  /** Most records one pull may carry. */
  readonly chunkSize: number;
  readonly turn: FairTurn;
  /** Undefined where nobody needs to know. */
  readonly tracker: Tracker | undefined;
  /**
   * What step `index` held of a record when the checkpoint that this run resumes was made; gives it once. Undefined
   * where the run resumes nothing, so that no record's id is made in vain.
   */
  readonly takeHeld: ((index: number, id: string) => HeldState | undefined) | undefined;
}

export interface SourceStageOptions {
  readonly name: string;
  readonly reader: SourceReader<unknown>;
  /** Ends a read that waits: the run has ended, or nothing more is to be read. */
  readonly reading: Interrupt;
  readonly tracking: Tracking | undefined;
  /** Records that were under way when the checkpoint was made that this run goes on from. They come first. */
  readonly restored: readonly SavedItem[];
}

/** The first stage: puts what the reader gives into envelopes, without what an earlier run is through with. */
export class SourceStage implements Stage {
  #seq = 0;
  #restored: readonly SavedItem[];

  constructor(
    private readonly options: SourceStageOptions,
    private readonly run: RunContext,
  ) {
    this.#restored = options.restored;
  }

  async pull(max: number): Promise<Chunk | undefined> {
    if (this.#restored.length > 0 && !this.run.interrupt.isSet) return this.#restore(max);
    for (;;) {
      const values = await this.#read(max);
      if (values === undefined) return undefined;
      const { tracking } = this.options;
      const now = this.run.clock.now();
      const chunk: Chunk = [];
      let count = 0;
      try {
        count = values.length;
        let seq = tracking === undefined ? this.#seq : tracking.entered(values);
        this.#seq += count;
        for (const value of values) {
          if (tracking?.hadSettled(seq, '') !== true) this.#add(chunk, seq, value, now);
          const failure = tracking?.failureOf(seq);
          if (failure !== undefined) chunk.at(-1)?.fail(failure);
          seq += 1;
        }
      } catch (cause) {
        throw sourceFailed(this.options.name, cause);
      }
      if (chunk.length > 0 || count === 0) return chunk;
      const turn = this.run.turn.give();
      if (turn !== undefined) await turn;
    }
  }

  /** The reader belongs to the run. */
  close(): void {
    this.#restored = [];
  }

  async #read(max: number): Promise<readonly unknown[] | undefined> {
    const { name, reader, reading, tracking } = this.options;
    if (reading.isSet) return undefined;
    let answer: unknown;
    try {
      const read = reader.read(max);
      answer = isThenable(read) ? await reading.guard(read) : read;
      // A source of the user's own; without the check its mistake would look like a defect of ours.
      if (answer !== undefined && answer !== INTERRUPTED && !Array.isArray(answer)) {
        const kind = answer === null ? 'null' : typeof answer;
        throw new TypeError(`read() must give an array of records, or undefined at the end, got ${kind}`);
      }
      if (Array.isArray(answer) && answer.length > max) {
        throw new TypeError(`read(${max}) must give at most ${max} records, got ${answer.length}`);
      }
    } catch (cause) {
      throw sourceFailed(name, cause);
    }
    if (answer === INTERRUPTED) return undefined;
    if (answer === undefined) tracking?.ended();
    return answer as readonly unknown[] | undefined;
  }

  #restore(max: number): Chunk {
    const now = this.run.clock.now();
    const chunk: Chunk = [];
    for (const { seq, item } of this.#restored.slice(0, max)) {
      this.#add(chunk, seq, decodeItem(Buffer.from(item, 'base64')), now);
    }
    this.#restored = this.#restored.slice(max);
    return chunk;
  }

  #add(chunk: Chunk, place: number, item: unknown, now: number): void {
    const { tracking } = this.options;
    if (typeof item !== 'object' || item === null || !isStreamElement(item)) {
      tracking?.opened(place, undefined);
      this.run.counts.entered += 1;
      chunk.push(new Envelope(place, item, now, undefined, undefined));
      return;
    }
    const stamped = isA(item, Stamped<unknown>) ? item : undefined;
    const value: unknown = stamped === undefined ? item : stamped.value;
    const isNamed = stamped?.token !== undefined || !isA(value, Control);
    const seq = tracking === undefined || !isNamed ? place : tracking.opened(place, stamped?.token);
    if (seq === undefined) return;
    const envelope = new Envelope(seq, value, now, stamped?.timestamp, stamped?.metadata);
    if (isA(value, Control)) {
      envelope.kind = 'control';
    } else {
      this.run.counts.entered += 1;
      if (isA(value, RecordFailure)) {
        envelope.value = value.input;
        envelope.fail(unreadable(value.error));
      }
    }
    chunk.push(envelope);
  }
}

/** A source of the user's own may give any error; reports and dead letters go by its code. */
function unreadable(error: unknown): TroupeError {
  if (isTroupeError(error)) return error;
  return new TroupeError('PARSE_FAILED', `The source could not read the record: ${wordsOf(error)}`, { cause: error });
}

export function sourceFailed(name: string, cause: unknown): TroupeError {
  if (isTroupeError(cause) && (cause.code === 'SOURCE_FAILED' || cause.code === 'PACKAGE_NOT_INSTALLED')) return cause;
  return new TroupeError('SOURCE_FAILED', `Source ${name} failed: ${wordsOf(cause)}`, { cause });
}
