/**
 * The end of a pipeline: hands values, failures and control elements to the sinks and gives every record its class.
 *
 * D1 every record that comes here leaves in exactly one class (see report.ts).
 * D2 nothing more is taken while a sink has not taken what it was given; no two writes are open at once.
 * D3 a record has settled when the sink that it belongs to has taken it, and all of a chunk settle in one moment.
 */
import type { Clock } from '../kernel/clock.js';
import { TroupeError, isTroupeError } from '../kernel/errors.js';
import {
  deadLetterOf,
  failureOf,
  operatorFailed,
  type Chunk,
  type Control,
  type DeadLetter,
  type Envelope,
} from './envelope.js';
import { isA, wordsOf } from './foreign.js';
import { INTERRUPTED, isThenable, type Interrupt } from './interrupt.js';
import type { Counts } from './report.js';
import { SinkClosed, type Sink } from './sink.js';
import type { Tracking } from './tracking.js';

type OnFailed = (record: unknown, error: TroupeError) => unknown;

export interface DeliveryOptions {
  /** Its name, for dead letters. */
  readonly pipeline: string;
  readonly sink: Sink;
  readonly deadLetters: Sink<DeadLetter> | undefined;
  readonly onFailed: OnFailed | undefined;
  readonly clock: Clock;
  readonly counts: Counts;
  readonly interrupt: Interrupt;
  readonly tracking: Tracking | undefined;
}

export class Delivery {
  readonly #options: DeliveryOptions;
  #writingTo: Sink<never> | undefined;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** The sink with a write that is open or has failed: it is aborted, the others are closed. */
  get writingTo(): Sink<never> | undefined {
    return this.#writingTo;
  }

  /** Resolves when the sinks have taken the chunk, or the run was interrupted. */
  async deliver(given: Chunk): Promise<void> {
    const chunk = this.#withoutSettled(given);
    let from = 0;
    for (let index = 0; index < chunk.length; index += 1) {
      const envelope = chunk[index] as Envelope;
      if (envelope.kind !== 'control') continue;
      if (index > from && !(await this.#deliverRecords(chunk.slice(from, index)))) return;
      if (!(await this.#deliverControl(envelope))) return;
      from = index + 1;
    }
    if (from < chunk.length) await this.#deliverRecords(from === 0 ? chunk : chunk.slice(from));
  }

  /** Children of a flatMap that an earlier run delivered, when it had not delivered all of them. */
  #withoutSettled(chunk: Chunk): Chunk {
    const { counts, tracking } = this.#options;
    if (tracking === undefined || !tracking.isResumed) return chunk;
    const left = chunk.filter(({ seq, path }) => path === '' || !tracking.hadSettled(seq, path));
    counts.entered -= chunk.length - left.length;
    return left;
  }

  async #deliverControl(envelope: Envelope): Promise<boolean> {
    const { sink, tracking } = this.#options;
    if (sink.control !== undefined) {
      const element = envelope.value as Control;
      if (!(await this.#hand(sink, () => sink.control?.(element)))) return false;
    }
    tracking?.delivered(envelope, undefined);
    return true;
  }

  /** Writes values in runs between failures only where it must: a chunk costs one write per sink. */
  async #deliverRecords(chunk: Chunk): Promise<boolean> {
    const { pipeline, sink, clock, counts, tracking, onFailed } = this.#options;
    const values: unknown[] = [];
    const records: Chunk = [];
    let letters: Map<Sink<DeadLetter>, Chunk> | undefined;
    for (const envelope of chunk) {
      if (envelope.kind !== 'failed') {
        values.push(envelope.value);
        records.push(envelope);
        continue;
      }
      const deadLetters = this.#deadLettersOf(envelope);
      if (deadLetters === undefined) continue;
      letters ??= new Map();
      const queue = letters.get(deadLetters);
      if (queue === undefined) letters.set(deadLetters, [envelope]);
      else queue.push(envelope);
    }
    if (values.length > 0 && !(await this.#hand(sink, () => sink.write(values, records)))) return false;
    this.#countValues(chunk);
    if (letters !== undefined) {
      const wallOffsetMs = clock.wallNow() - clock.now();
      for (const [to, envelopes] of letters) {
        const written = envelopes.map((envelope) => deadLetterOf(envelope, pipeline, wallOffsetMs));
        if (!(await this.#hand(to, () => to.write(written, envelopes)))) return false;
        counts.deadLetters += envelopes.length;
        for (const envelope of envelopes) counts.error(failureOf(envelope).code);
      }
    }
    // Last: it may throw, and what the sinks have taken is counted all the same.
    if (onFailed !== undefined && !(await this.#tellFailed(onFailed, chunk))) return false;
    if (tracking !== undefined) {
      for (const envelope of chunk) {
        const isLost = envelope.kind === 'failed' && this.#deadLettersOf(envelope) === undefined;
        tracking.delivered(envelope, isLost ? envelope.error : undefined);
      }
    }
    return true;
  }

  /** False when the run was interrupted before the sink took it. */
  async #hand(sink: Sink<never>, give: () => unknown): Promise<boolean> {
    this.#writingTo = sink;
    try {
      const taken = give();
      if (isThenable(taken) && (await this.#options.interrupt.guard(taken)) === INTERRUPTED) return false;
    } catch (cause) {
      throw sinkFailed(sink.name, cause);
    }
    this.#writingTo = undefined;
    return true;
  }

  #deadLettersOf(envelope: Envelope): Sink<DeadLetter> | undefined {
    return envelope.deadLetters ?? this.#options.deadLetters;
  }

  /** Everything of a delivered chunk but the dead letters. */
  #countValues(chunk: Chunk): void {
    const { clock, counts } = this.#options;
    const now = clock.now();
    for (const envelope of chunk) {
      counts.latency.record(now - envelope.pulledAt);
      switch (envelope.kind) {
        case 'value':
          counts.results += 1;
          break;
        case 'fallback':
          counts.results += 1;
          counts.fallbacks += 1;
          break;
        case 'substitute':
          counts.failed += 1;
          counts.error(failureOf(envelope).code);
          break;
        case 'failed':
          if (this.#deadLettersOf(envelope) !== undefined) break;
          counts.failed += 1;
          counts.error(failureOf(envelope).code);
          break;
        case 'control':
          break;
        default:
          envelope.kind satisfies never;
      }
    }
  }

  /** False when the run was interrupted before `onFailed` had done. Rejects with what it threw. */
  async #tellFailed(onFailed: OnFailed, chunk: Chunk): Promise<boolean> {
    let told: Promise<unknown>[] | undefined;
    for (const envelope of chunk) {
      if (envelope.kind !== 'failed') continue;
      const threw = (cause: unknown): never => {
        throw operatorFailed(`onFailed for record ${envelope.id}`, cause);
      };
      try {
        const promise: unknown = onFailed(envelope.value, failureOf(envelope));
        if (isThenable(promise)) (told ??= []).push(Promise.resolve(promise).catch(threw));
      } catch (cause) {
        for (const promise of told ?? []) promise.catch(() => undefined); // The first failure ends the run.
        threw(cause);
      }
    }
    return told === undefined || (await this.#options.interrupt.guard(Promise.all(told))) !== INTERRUPTED;
  }
}

export function sinkFailed(name: string, cause: unknown): Error {
  if (isA(cause, SinkClosed)) return cause;
  if (isTroupeError(cause) && SAYS_ENOUGH.has(cause.code)) return cause;
  return new TroupeError('SINK_FAILED', `Sink ${name} failed: ${wordsOf(cause)}`, { cause });
}

const SAYS_ENOUGH: ReadonlySet<string> = new Set(['SINK_FAILED', 'CHECKPOINT_INVALID', 'PACKAGE_NOT_INSTALLED']);
