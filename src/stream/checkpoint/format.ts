/**
 * What stands in the two files of a checkpoint. The data file is the snapshot as JSON; only records and results, where
 * it has any, are V8's own bytes in base64. The manifest is written last and names length and sum of the data; its first
 * line is the sum of the rest, in every format, so that damage is told from a format that is not known.
 */
import { createHash } from 'node:crypto';
import type { Outcome } from '../../actor/outcome.js';
import { TroupeError } from '../../kernel/errors.js';
import { toFault, type Fault } from '../../wire/fault.js';
import type { HeldState } from '../stage.js';
import type { SourceState } from '../tracking.js';
import { decodeValue, encodeValue, errorOf } from './items.js';

/** Told from those of other pipelines by these. */
export interface PipelineIdentity {
  readonly name: string;
  readonly source: string;
  readonly stepCount: number;
}

export interface Snapshot {
  readonly pipeline: PipelineIdentity;
  readonly source: SourceState;
  /** For each step what it held. */
  readonly held: readonly (readonly SavedHeld[])[];
  readonly sinks: readonly SinkState[];
}

export interface SinkState {
  readonly name: string;
  /** What `prepare` gave; JSON. */
  readonly state: unknown;
}

export interface SavedHeld {
  readonly id: string;
  readonly attempts: number;
  readonly leftMs?: number;
  /** Base64 of a SavedOutcome. */
  readonly outcome?: string;
  readonly isFallback?: boolean;
}

type SavedOutcome =
  | { readonly ok: true; readonly value: unknown; readonly version: string | undefined }
  | { readonly ok: false; readonly fault: Fault };

/** Turns the data of one format into a snapshot. */
export type SnapshotReader = (data: unknown) => Snapshot;

/** A format, and what older ones can be read. A format number never changes its meaning. */
export interface FormatTable {
  readonly current: number;
  readonly readers: ReadonlyMap<number, SnapshotReader>;
}

export const FORMATS: FormatTable = {
  current: 1,
  readers: new Map([[1, (data) => data as Snapshot]]),
};

export interface Manifest {
  readonly format: number;
  readonly number: number;
  /** Wall-clock time, ISO 8601. */
  readonly at: string;
  readonly data: { readonly bytes: number; readonly sha256: string };
}

export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  const body = `${JSON.stringify(manifest)}\n`;
  return Buffer.from(`${sha256(body)}\n${body}`);
}

/** Undefined for anything but the very bytes that were written. */
export function decodeManifest(bytes: Uint8Array): Manifest | undefined {
  const text = Buffer.from(bytes).toString('latin1');
  const body = text.slice(65);
  // Latin-1 keeps every byte apart; the body is ASCII but for what the user's names hold, which do not stand in it.
  if (text.slice(0, 65) !== `${sha256(body)}\n`) return undefined;
  return JSON.parse(body) as Manifest;
}

/** Throws what JSON throws for a position, token or sink state that it cannot hold. */
export function encodeSnapshot(snapshot: Snapshot): Uint8Array {
  return Buffer.from(JSON.stringify(snapshot));
}

/** For the file alone: outcomes are encoded at once, because their values go on and may be changed. */
export function saveHeld({ leftMs, outcome, ...rest }: HeldState): SavedHeld {
  const saved = outcome === undefined ? undefined : encodedOutcome(outcome);
  return {
    ...rest,
    ...(leftMs === undefined ? {} : { leftMs }),
    ...(saved === undefined ? {} : { outcome: saved }),
  };
}

/** Undefined for a result that cannot be copied: the next run asks for it again. */
function encodedOutcome(outcome: Outcome<unknown>): string | undefined {
  try {
    return encodeValue(plainOf(outcome));
  } catch {
    return undefined;
  }
}

export function loadHeld({ leftMs, outcome, ...rest }: SavedHeld): HeldState {
  return { ...rest, leftMs, outcome: outcome === undefined ? undefined : outcomeOf(decodeValue(outcome)) };
}

/** Throws CHECKPOINT_INVALID where the checkpoint is of another pipeline. */
export function checkIdentity(where: string, found: PipelineIdentity, expected: PipelineIdentity): void {
  for (const key of ['name', 'source', 'stepCount'] as const) {
    if (found[key] === expected[key]) continue;
    const what = { name: 'the pipeline', source: 'the source', stepCount: 'the number of steps' }[key];
    throw new TroupeError(
      'CHECKPOINT_INVALID',
      `${where} is of another pipeline: ${what} was ${JSON.stringify(found[key])}, now it is ` +
        `${JSON.stringify(expected[key])}. Give this pipeline a directory of its own, or begin anew without resume`,
    );
  }
}

function plainOf(outcome: Outcome<unknown>): SavedOutcome {
  return outcome.ok ? outcome : { ok: false, fault: toFault(outcome.error) };
}

function outcomeOf(plain: unknown): Outcome<unknown> {
  const saved = plain as SavedOutcome;
  return saved.ok ? saved : { ok: false, error: errorOf(saved.fault) };
}
