/**
 * What the rounds of a run ask of its sinks and its source, and what these throw, in words that say who it was. Decides
 * nothing: when a round is made, and what follows from a failure, stands in coordinator.ts.
 */
import { TroupeError, isTroupeError } from '../../kernel/errors.js';
import { isA, wordsOf } from '../foreign.js';
import { INTERRUPTED, type Interrupt } from '../interrupt.js';
import { SinkClosed, type Sink } from '../sink.js';
import type { Acknowledgement, SourceReader } from '../source.js';
import type { SinkState } from './format.js';

export interface ParticipantsOptions {
  readonly sinks: readonly Sink<never>[];
  readonly reader: SourceReader<unknown>;
  readonly sourceName: string;
  readonly interrupt: Interrupt;
  /** Their failures are those of a checkpoint; without, the part itself has failed. */
  readonly hasStore: boolean;
}

/** By the sinks' place; undefined for those without `prepare`. */
export type Prepared = readonly unknown[];

export class Participants {
  constructor(private readonly options: ParticipantsOptions) {}

  /** No sink has to be made safe before what it took may be acknowledged. */
  get areAlwaysSafe(): boolean {
    return this.options.sinks.every((sink) => sink.prepare === undefined);
  }

  /** Every sink is called in this very moment; only then they are waited for. */
  async prepare(): Promise<Prepared | typeof INTERRUPTED> {
    const { sinks, interrupt } = this.options;
    const prepared = await interrupt.guard(Promise.allSettled(sinks.map(async (sink) => sink.prepare?.())));
    if (prepared === INTERRUPTED) return INTERRUPTED;
    return prepared.map((result, index) => {
      if (result.status === 'rejected') throw this.#sinkFailed('prepare', sinks[index] as Sink<never>, result.reason);
      return result.value as unknown;
    });
  }

  /** As a checkpoint holds it. */
  statesOf(prepared: Prepared): SinkState[] {
    return this.options.sinks.flatMap(({ name, prepare }, index): SinkState[] =>
      prepare === undefined ? [] : [{ name, state: prepared[index] }],
    );
  }

  /** One sink after the other. */
  async commit(prepared: Prepared): Promise<undefined | typeof INTERRUPTED> {
    const { sinks, interrupt } = this.options;
    for (const [index, sink] of sinks.entries()) {
      if (sink.prepare === undefined || sink.commit === undefined) continue;
      try {
        const done = await interrupt.guard(Promise.resolve(sink.commit(prepared[index])));
        if (done === INTERRUPTED) return INTERRUPTED;
      } catch (cause) {
        throw this.#sinkFailed('commit', sink, cause);
      }
    }
    return undefined;
  }

  async acknowledge(outcomes: readonly Acknowledgement[]): Promise<void> {
    if (outcomes.length === 0) return;
    const { reader, sourceName, hasStore } = this.options;
    try {
      await reader.acknowledge?.(outcomes);
    } catch (cause) {
      if (isTroupeError(cause)) throw cause;
      const words = `Source ${sourceName} could not acknowledge: ${wordsOf(cause)}`;
      throw new TroupeError(hasStore ? 'CHECKPOINT_FAILED' : 'SOURCE_FAILED', words, { cause });
    }
  }

  #sinkFailed(what: string, sink: Sink<never>, cause: unknown): unknown {
    if (isA(cause, SinkClosed)) return cause;
    const code = this.options.hasStore ? 'CHECKPOINT_FAILED' : 'SINK_FAILED';
    if (isTroupeError(cause) && cause.code === code) return cause;
    return new TroupeError(code, `Sink ${sink.name} could not ${what}: ${wordsOf(cause)}`, { cause });
  }
}
