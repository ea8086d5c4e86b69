import type { PoolVersions } from '../actor/rollouts.js';
import type { PoolState } from '../core/lifecycles.js';
import type { ExplainedValue } from '../config/explain.js';
import type { RunCounts } from '../telemetry/registry.js';
import type { Plan } from './desired-state.js';
import type { LetterSummary } from './failure-board.js';

/** One pool as `ps` shows it. */
export interface PoolLine {
  readonly name: string;
  readonly state: PoolState;
  /** The version that serves; while another is brought in, `next` is that, and `share` its part of the records. */
  readonly version: string | undefined;
  readonly next?: string | undefined;
  /** In a pool of many models: how many its replicas hold, each version of a model for itself. */
  readonly models?: number;
  readonly share?: number | undefined;
  /** Replicas that are ready, and those there should be. */
  readonly ready: number;
  readonly replicas: number;
  /** Of those that are not ready: how many wait for their turn to start; absent for none. */
  readonly waiting?: number;
  /** Of a pool that scales by itself: its bounds, and whether it has gone to 0 until the next record comes. */
  readonly scaling?: { readonly min: number; readonly max: number; readonly asleep: boolean };
  /** Records in the mailbox and with replicas, and what the mailbox can hold. */
  readonly held: number;
  readonly capacity: number;
  readonly results: number;
  readonly errors: number;
  readonly meanBatchSize: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly restarts: number;
}

export interface PsAnswer {
  readonly system: string;
  readonly pid: number;
  readonly upMs: number;
  readonly pools: readonly PoolLine[];
  /** Pipelines that run now and use a pool of the system. */
  readonly pipelines: readonly RunCounts[];
  /** Connections and requests that were turned away: by listener (control, metrics, serve) and reason (token, host, origin ...). */
  readonly refused: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** What serves, what served before, what is being rolled out, and what else there is. */
export interface VersionsAnswer extends PoolVersions {
  readonly pool: string;
  /** How many ready replicas run which version. */
  readonly replicas: Readonly<Record<string, number>>;
  /** Versions that lie in the model directory and may be swapped to; empty where the actor has no model. */
  readonly available: readonly string[];
  /** Own names and the versions they stand for. */
  readonly aliases: Readonly<Record<string, string>>;
}

export interface AskAnswer {
  /** As JSON has it: typed arrays are lists of numbers. */
  readonly value: unknown;
  /** The model version that made it. */
  readonly version: string | undefined;
}

export interface ExplainAnswer {
  /** The config file. */
  readonly file: string;
  readonly values: readonly (ExplainedValue & { /** Where it came from, in words. */ readonly from: string })[];
}

export interface LettersAnswer {
  readonly letters: readonly LetterSummary[];
  /** The files that hold the dead letters with their records, by pipeline. */
  readonly files: Readonly<Record<string, string>>;
}

export interface PlanAnswer extends Plan {
  /** The config file, absolute. */
  readonly file: string;
}

export interface ApplyAnswer extends PlanAnswer {
  /** How many steps were taken: all of them. */
  readonly done: number;
}

/** What a verb that changes a pool gives when it is done: how the pool stands then. */
export type Done = PoolLine;
