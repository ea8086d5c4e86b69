/**
 * What a run with checkpoints, or with a source that is acknowledged, knows of its records between source and end: which
 * have settled, where the source stood, what is to be acknowledged, and, for a source that can neither go back nor be
 * acknowledged, the records themselves as they came from it.
 *
 * T1 `cut` is one synchronous moment: nothing that it gives changes afterwards.
 * T2 an outcome is handed out once; what could not be acknowledged is given back, and comes first the next time.
 * T3 memory: what is between source and end, plus outcomes since the last acknowledgement.
 * T4 a token is acknowledged when every record that came with it has settled. Where records had none, or one in common,
 *    nobody can tell them apart, and `isAmbiguous` says so; a run that goes on then drops nothing by its token.
 */
import { Positions, type Place } from '../core/positions.js';
import { Progress, type ProgressState } from '../core/progress.js';
import { TroupeError } from '../kernel/errors.js';
import { toFault, type Fault } from '../wire/fault.js';
import { encodeItem, failedItem } from './checkpoint/items.js';
import type { Envelope } from './envelope.js';
import type { Acknowledgement, SourceItem, SourceReader } from './source.js';
import type { Tracker } from './stage.js';

/** replayable: can go back to a position. acknowledging: gives again what was not acknowledged. neither. */
export type SourceKind = 'replayable' | 'acknowledging' | 'neither';

/** What a source needs in order to go on in a later run. JSON. */
export interface SourceState {
  readonly kind: SourceKind;
  readonly progress: ProgressState;
  /** Number of the first record that no run has been given. */
  readonly next: number;
  /** The source had given its end. */
  readonly hasEnded: boolean;
  /** Of replayable sources: where to read again. */
  readonly place: Place | undefined;
  /** Of acknowledging sources: settled, and not known to be acknowledged. */
  readonly outcomes: readonly SavedOutcome[];
  /** Of acknowledging sources: under way. One that comes again by its token is the same record, with the same number. */
  readonly open: readonly SavedToken[];
  /** Of acknowledging sources: records had no token, or one in common. */
  readonly isAmbiguous?: true;
  /** Of the others: the records under way, each as base64 of `encodeItem`. */
  readonly items: readonly SavedItem[];
}

export interface SavedOutcome {
  readonly token: unknown;
  readonly fault?: Fault;
}

export interface SavedToken {
  readonly seq: number;
  readonly token: unknown;
}

export interface SavedItem {
  readonly seq: number;
  readonly item: string;
}

/** Numbers of records that a crashed run gave after its last checkpoint are not given again: a sink may know them. */
const NUMBERS_PER_RUN = 2 ** 32;

/** The numbering and progress with which a run goes on. A replayable source gives the same records under the same numbers. */
export function resumedState(state: SourceState): SourceState {
  if (state.kind === 'replayable') return state;
  const next = (Math.floor(state.next / NUMBERS_PER_RUN) + 1) * NUMBERS_PER_RUN;
  const { lowest, settled, open } = state.progress;
  if (lowest === state.next) return { ...state, next, progress: { lowest: next, settled: [], open } };
  const last = settled[settled.length - 1];
  const touches = last !== undefined && last[1] === state.next;
  const gap = [touches ? last[0] : state.next, next] as const;
  return { ...state, next, progress: { lowest, settled: [...(touches ? settled.slice(0, -1) : settled), gap], open } };
}

interface OpenToken {
  readonly token: unknown;
  /** Records under way that came with it: one, if the source names its records. */
  count: number;
  error: TroupeError | undefined;
  readonly values: unknown[] | undefined;
}

/** A source that can go back is asked to, also where it wants to be told of outcomes besides. */
export function kindOf(reader: SourceReader<unknown>): SourceKind {
  if (reader.position !== undefined) return 'replayable';
  return reader.acknowledge !== undefined ? 'acknowledging' : 'neither';
}

export class Tracking implements Tracker {
  readonly #reader: SourceReader<unknown>;
  readonly #progress: Progress;
  readonly #positions = new Positions();
  /** Everything from here on is new in this run. */
  readonly #knownUpTo: number;
  /** By seq: what waits to be acknowledged. */
  readonly #open = new Map<number, OpenToken>();
  /** By `keyOf` their token: those of `#open`, and those that settled and are not acknowledged. */
  readonly #tokens = new Map<unknown, OpenToken>();
  #isAmbiguous: boolean;
  /** By seq: the record, encoded before a step could change it; of one that cannot be, its failure. */
  readonly #items = new Map<number, Uint8Array>();
  /** By seq: records that have just entered, and cannot be encoded. */
  readonly #unsavable = new Map<number, TroupeError>();
  /** By `keyOf` their token: records of the run before, with the number they had; without: that run was through with it. */
  readonly #known = new Map<unknown, { readonly token: unknown; readonly seq: number | undefined }>();
  #settled: Acknowledgement[] = [];
  #next: number;
  #hasEnded = false;
  #version = 0;
  readonly kind: SourceKind;
  /** Told when outcomes wait where none did. */
  onOutcome: (() => void) | undefined = undefined;
  readonly #acknowledges: boolean;
  /** Checkpoints hold the records under way. */
  readonly #keepsItems: boolean;

  /** `hasStore` false: outcomes are acknowledged, nothing is saved. */
  constructor(reader: SourceReader<unknown>, hasStore: boolean, resumed: SourceState | undefined) {
    this.#reader = reader;
    this.kind = kindOf(reader);
    this.#acknowledges = reader.acknowledge !== undefined;
    this.#keepsItems = hasStore && this.kind === 'neither';
    this.#hasEnded = resumed?.hasEnded === true;
    this.#progress = new Progress(resumed?.progress);
    this.#next = resumed?.place?.seq ?? resumed?.next ?? 0;
    this.#knownUpTo = resumed?.next ?? 0;
    this.#isAmbiguous = resumed?.isAmbiguous === true;
    // A source that goes back gives its records again under their old numbers.
    if (resumed?.kind === 'acknowledging') this.#knowAgain(resumed);
    for (const { seq, item } of resumed?.items ?? []) this.#items.set(seq, Buffer.from(item, 'base64'));
    this.#place();
  }

  /** Grows with everything that a checkpoint would show. */
  get version(): number {
    return this.#version;
  }

  /** Outcomes that wait for their acknowledgement. */
  get settledCount(): number {
    return this.#settled.length;
  }

  get next(): number {
    return this.#next;
  }

  /** T4. */
  get isAmbiguous(): boolean {
    return this.#isAmbiguous;
  }

  /** There may be records that an earlier run is through with. */
  get isResumed(): boolean {
    return this.#knownUpTo > 0;
  }

  /** The source gave these; `#next` is the number of the first. Gives the number of that first one. */
  entered(items: readonly SourceItem<unknown>[]): number {
    const first = this.#next;
    this.#next += items.length;
    this.#hasEnded = false;
    this.#version += 1;
    if (this.#keepsItems) for (const [index, item] of items.entries()) this.#keep(first + index, item);
    this.#place();
    return first;
  }

  /**
   * The record begins its way; told for those of acknowledging sources. Gives the number under which it does; undefined
   * where an earlier run was through with it, and the source gives it again because it read ahead of the acknowledgement.
   */
  opened(given: number, token: unknown): number | undefined {
    if (!this.#acknowledges) return given;
    if (token === undefined) {
      this.#isAmbiguous = true;
      return given;
    }
    let seq: number | undefined = given;
    const key = keyOf(token);
    if (this.#known.has(key)) {
      seq = this.#known.get(key)?.seq;
      this.#known.delete(key);
      this.#progress.settle(given, ''); // Nobody has this number.
    }
    if (seq === undefined) return undefined;
    const same = this.#tokens.get(key);
    if (same !== undefined) this.#isAmbiguous = true;
    if (same !== undefined && same.count > 0) {
      same.count += 1;
      this.#open.set(seq, same);
      return seq;
    }
    const values = this.#reader.wantsValues === true ? [] : undefined;
    const open: OpenToken = { token, count: 1, error: undefined, values };
    this.#tokens.set(key, open);
    this.#open.set(seq, open);
    return seq;
  }

  /** Asked once for each record: why it must fail here, because no checkpoint could hold it. */
  failureOf(seq: number): TroupeError | undefined {
    if (this.#unsavable.size === 0) return undefined;
    const error = this.#unsavable.get(seq);
    this.#unsavable.delete(seq);
    return error;
  }

  ended(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#version += 1;
  }

  /** An earlier run is through with it. */
  hadSettled(seq: number, path: string): boolean {
    return seq < this.#knownUpTo && this.#progress.hadSettled(seq, path);
  }

  filtered(envelope: Envelope): void {
    this.#version += 1;
    if (this.#progress.settle(envelope.seq, envelope.path)) this.#close(envelope.seq);
  }

  expanded(parent: Envelope, childCount: number): void {
    this.#version += 1;
    if (this.#progress.expand(parent.seq, parent.path, childCount)) this.#close(parent.seq);
  }

  /** The end of the pipeline is through with it. `error`: it failed, and no dead-letter sink has it. */
  delivered(envelope: Envelope, error: TroupeError | undefined): void {
    this.#version += 1;
    if (this.#open.size > 0) {
      const open = this.#open.get(envelope.seq);
      if (open !== undefined) {
        open.error ??= error;
        if (envelope.kind !== 'failed' && envelope.kind !== 'control') open.values?.push(envelope.value);
      }
    }
    if (this.#progress.settle(envelope.seq, envelope.path)) this.#close(envelope.seq);
  }

  /** T1, T2. */
  cut(): { readonly state: SourceState; readonly outcomes: readonly Acknowledgement[] } {
    const progress = this.#progress.snapshot();
    const items: SavedItem[] = [];
    for (const [seq, item] of this.#items) {
      items.push({ seq, item: Buffer.from(item.buffer, item.byteOffset, item.byteLength).toString('base64') });
    }
    const outcomes = this.#settled;
    this.#settled = [];
    const state: SourceState = {
      kind: this.kind,
      progress,
      // A run that reads again what the one before had read already is not ahead of it yet.
      next: Math.max(this.#next, this.#knownUpTo),
      hasEnded: this.#hasEnded,
      place: this.kind === 'replayable' ? this.#positions.at(progress.lowest) : undefined,
      outcomes: outcomes.map(({ token, error }) => ({
        token,
        ...(error === undefined ? {} : { fault: toFault(error) }),
      })),
      open: [
        ...[...this.#known.values()].flatMap(({ token, seq }) => (seq === undefined ? [] : [{ seq, token }])),
        ...[...this.#open].map(([seq, { token }]) => ({ seq, token })),
      ],
      ...(this.#isAmbiguous ? { isAmbiguous: true } : {}),
      items,
    };
    return { state, outcomes };
  }

  /** T2. */
  giveBack(outcomes: readonly Acknowledgement[]): void {
    this.#settled = [...outcomes, ...this.#settled];
  }

  /** These are acknowledged. */
  acknowledged(outcomes: readonly Acknowledgement[]): void {
    for (const { token } of outcomes) {
      const key = keyOf(token);
      if (this.#tokens.get(key)?.count === 0) this.#tokens.delete(key);
    }
  }

  #knowAgain({ isAmbiguous, outcomes, open }: SourceState): void {
    if (isAmbiguous === true) {
      for (const { seq } of open) this.#progress.settle(seq, ''); // Nobody will have this number.
      return;
    }
    // A failed one may rightly come again.
    for (const { token, fault } of outcomes) {
      if (fault === undefined) this.#known.set(keyOf(token), { token, seq: undefined });
    }
    for (const { seq, token } of open) this.#known.set(keyOf(token), { token, seq });
  }

  #place(): void {
    if (this.#reader.position === undefined) return;
    const position = this.#reader.position();
    if (position === undefined) {
      const words = 'position() must give JSON that says where the next record stands, got undefined';
      throw new TroupeError('SOURCE_FAILED', words);
    }
    this.#positions.add({ seq: this.#next, position }, () => this.#progress.snapshot());
  }

  #keep(seq: number, item: SourceItem<unknown>): void {
    try {
      this.#items.set(seq, encodeItem(item));
    } catch (cause) {
      const { error, saved } = failedItem(seq, item, cause);
      if (error !== undefined) this.#unsavable.set(seq, error);
      this.#items.set(seq, saved);
    }
  }

  #close(seq: number): void {
    if (this.#keepsItems) this.#items.delete(seq);
    const open = this.#open.get(seq);
    if (open === undefined) return;
    this.#open.delete(seq);
    open.count -= 1;
    if (open.count > 0) return;
    const { token, error, values } = open;
    this.#settled.push({
      token,
      ...(error === undefined ? {} : { error }),
      ...(values === undefined ? {} : { values }),
    });
    if (this.#settled.length === 1) this.onOutcome?.();
  }
}

/** Equal for equal tokens, also for those that come from a checkpoint. */
function keyOf(token: unknown): unknown {
  return typeof token === 'object' ? JSON.stringify(token) : token;
}
