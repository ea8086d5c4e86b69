/**
 * The outcomes of one client of the lane on their way back: those of a turn go out in as few messages as may be, and each
 * message is kept by the window until it was heard. Where an output cannot cross, its record alone fails.
 */
import type { Outcome } from '../actor/outcome.js';
import { TroupeError } from '../kernel/errors.js';
import { type Fault, toFault } from '../wire/fault.js';
import { folded, foldedIds, type ToClient } from '../wire/lane-messages.js';
import { copyThroughProcess, encodeMessage } from '../wire/process-codec.js';
import { recordBytes } from '../wire/record-bytes.js';
import { packRows } from '../wire/rows.js';
import { ownMemory, payloadBytes } from '../wire/unix-lane.js';
import type { KeptOutcomes, LaneWindow } from './lane-window.js';

interface Settled {
  readonly id: number;
  readonly outcome: Outcome<unknown>;
  readonly isStream: boolean;
}

/** One message of outcomes holds at most so many, and is closed at so many bytes. */
const OUTCOMES_MAX = 1024;
const OUTCOMES_BYTES_MAX = 2 ** 20;

export class LaneOutbox {
  readonly #window: Pick<LaneWindow<unknown, readonly Buffer[]>, 'nextSeq' | 'keep'>;
  readonly #say: (pieces: readonly Buffer[]) => void;
  #settled: Settled[] = [];

  constructor(
    window: Pick<LaneWindow<unknown, readonly Buffer[]>, 'nextSeq' | 'keep'>,
    say: (pieces: readonly Buffer[]) => void,
  ) {
    this.#window = window;
    this.#say = say;
  }

  get isEmpty(): boolean {
    return this.#settled.length === 0;
  }

  add(id: number, outcome: Outcome<unknown>): void {
    this.#settled.push({ id, outcome, isStream: false });
  }

  /** Its output is a token stream, and no value stands in the outcome. */
  addStream(id: number, outcome: Outcome<unknown>): void {
    this.#settled.push({ id, outcome, isStream: true });
  }

  flush(): void {
    const settled = this.#settled;
    if (settled.length === 0) return;
    this.#settled = [];
    let from = 0;
    let bytes = 0;
    for (let to = 0; to < settled.length; to++) {
      const { outcome } = settled[to] as Settled;
      bytes += outcome.ok ? recordBytes(outcome.value) : 0;
      if (to + 1 < settled.length && to + 1 - from < OUTCOMES_MAX && bytes < OUTCOMES_BYTES_MAX) continue;
      this.#send(settled.slice(from, to + 1));
      from = to + 1;
      bytes = 0;
    }
  }

  #send(settled: readonly Settled[]): void {
    const ids = settled.map(({ id }) => id);
    const streams: number[] = [];
    const outcomes = settled.map(({ outcome, isStream }, index) => {
      if (isStream) streams.push(index);
      return outcome;
    });
    const pieces = this.#encode(ids, outcomes, streams);
    this.#window.keep(ids, pieces, payloadBytes(pieces));
    this.#say(pieces);
  }

  /** Where an output cannot cross, its record alone fails, as it would with its actor in a process. */
  #encode(
    ids: readonly number[],
    outcomes: readonly Outcome<unknown>[],
    streams: readonly number[],
  ): readonly Buffer[] {
    try {
      return encoded(this.#window.nextSeq(), ids, outcomes, streams);
    } catch {
      return encoded(this.#window.nextSeq(), ids, outcomes.map(crossing), streams);
    }
  }
}

/** In the place of a message that was dropped while its client was away. */
export function droppedOutcomes({ seq, ids }: KeptOutcomes<unknown>): readonly Buffer[] {
  const message = 'The outcome of the record was dropped while its client was away: too many bytes of outcomes waited';
  const error = new TroupeError('INTERRUPTED', message);
  return encoded(
    seq,
    ids,
    ids.map(() => ({ ok: false, error })),
    [],
  );
}

function encoded(
  seq: number,
  ids: readonly number[],
  outcomes: readonly Outcome<unknown>[],
  streams: readonly number[],
): readonly Buffer[] {
  const faults: (readonly [number, Fault])[] = [];
  const values = outcomes.map((outcome, index) => {
    if (outcome.ok) return outcome.value;
    faults.push([index, toFault(outcome.error)]);
    return undefined;
  });
  const message: ToClient = {
    kind: 'outcomes',
    seq,
    ids: foldedIds(ids),
    versions: folded(outcomes.map((outcome) => (outcome.ok ? outcome.version : undefined))),
    models: folded(outcomes.map((outcome) => (outcome.ok ? outcome.model : undefined))),
    faults: faults.length === 0 ? undefined : faults,
    ...(streams.length === 0 ? {} : { streams }),
    payload: packRows(values),
  };
  return encodeMessage(message, ownMemory);
}

function crossing(outcome: Outcome<unknown>): Outcome<unknown> {
  if (!outcome.ok) return outcome;
  try {
    copyThroughProcess(outcome.value);
    return outcome;
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause);
    const message = `The output of this record cannot be sent to another process: ${words}`;
    return { ok: false, error: new TroupeError('PREDICT_FAILED', message, { cause }) };
  }
}
