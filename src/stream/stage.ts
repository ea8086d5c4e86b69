import type { Clock } from '../kernel/clock.js';
import { TroupeError, isTroupeError } from '../kernel/errors.js';
import { Envelope, RecordFailure, type Chunk } from './envelope.js';
import { isA, wordsOf } from './foreign.js';
import { INTERRUPTED, isThenable, type Interrupt } from './interrupt.js';
import type { Counts } from './report.js';
import type { SourceReader } from './source.js';

/**
 * One running step of a pipeline. The end of the pipeline pulls, each stage pulls from the one before it, and `max`
 * travels upstream: a source never reads more than what has room below. One pull is open at a time.
 */
export interface Stage {
  /** At least 1 and at most `max` records in order; undefined at the end or when the run was interrupted. */
  pull(max: number): Promise<Chunk | undefined>;
  /** Lets go of everything; called once, after the run's interrupt is set. */
  close(): void | Promise<void>;
}

/** What the stages of one run share. */
export interface RunContext {
  readonly name: string;
  readonly clock: Clock;
  readonly counts: Counts;
  readonly interrupt: Interrupt;
  /** Most records one pull may carry. */
  readonly chunkSize: number;
}

/** The first stage: puts what the reader gives into envelopes. */
export class SourceStage implements Stage {
  #seq = 0;

  constructor(
    private readonly name: string,
    private readonly reader: SourceReader<unknown>,
    private readonly run: RunContext,
  ) {}

  async pull(max: number): Promise<Chunk | undefined> {
    if (this.run.interrupt.isSet) return undefined;
    let values: readonly unknown[] | undefined;
    try {
      const read = this.reader.read(max);
      const answer = isThenable(read) ? await this.run.interrupt.guard(read) : read;
      if (answer === INTERRUPTED) return undefined;
      // A source of the user's own; without the check its mistake would look like a defect of ours.
      if (answer !== undefined && !Array.isArray(answer)) {
        throw new TypeError(`read() must give an array of records, or undefined at the end, got ${typeof answer}`);
      }
      values = answer;
    } catch (cause) {
      throw sourceFailed(this.name, cause);
    }
    if (values === undefined) return undefined;
    const now = this.run.clock.now();
    this.run.counts.entered += values.length;
    const chunk: Chunk = [];
    for (const value of values) chunk.push(this.#envelope(value, now));
    return chunk;
  }

  close(): void | Promise<void> {
    return this.reader.close();
  }

  #envelope(value: unknown, now: number): Envelope {
    const seq = this.#seq;
    this.#seq += 1;
    if (!isA(value, RecordFailure)) return new Envelope(seq, value, now, undefined, undefined);
    const envelope = new Envelope(seq, value.input, now, undefined, undefined);
    envelope.fail(value.error);
    return envelope;
  }
}

export function sourceFailed(name: string, cause: unknown): TroupeError {
  if (isTroupeError(cause) && cause.code === 'SOURCE_FAILED') return cause;
  return new TroupeError('SOURCE_FAILED', `Source ${name} failed: ${wordsOf(cause)}`, { cause });
}
