import type { TroupeError } from '../kernel/errors.js';
import type { ScaleReason } from './autoscaler.js';
import type { Trigger } from './batcher.js';
import type { Request } from './request.js';
import type { EvictionReason } from './resident-models.js';
import type { RollbackReason, RolloutStep } from './rollout.js';

/** What a pool core is told of the end of a replica, and what it tells its edge to do. Plain data only. */

/**
 * Why a replica ended, as told by its link. `stopped`: we asked for it and it obeyed. `exit`: it ended by process.exit
 * without a reply, code 0 included. `crash`: uncaught throw, abort, SIGSEGV, SIGBUS. `killed`: SIGKILL or SIGTERM from
 * outside, not from our ladder, which is blamed on nobody. `hung`: ended by us, because of a missed batch deadline or
 * heartbeat. `load-failed`: load() failed, `error` holds the typed error.
 */
export interface DeathNotice {
  readonly cause: 'stopped' | 'exit' | 'crash' | 'killed' | 'hung' | 'oom' | 'load-failed' | 'protocol';
  readonly exitCode?: number;
  readonly signal?: string;
  readonly error?: unknown;
}

/** The answer to one record. A failed one is a TroupeError of code PREDICT_FAILED or INPUT_INVALID. */
export type CoreResult =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: TroupeError };

/** One batch that was sent to a replica and has come to its end; all its records share this object. */
export interface BatchCall {
  readonly batchId: number;
  /** Records in it. */
  readonly size: number;
  /** From the acceptance of its oldest record to the send. */
  readonly waitedMs: number;
  /** From the send to the answer, or to the end of the replica. */
  readonly durationMs: number;
  readonly trigger: Trigger;
  /** False: the batch as a whole failed, or its replica ended. */
  readonly answered: boolean;
  /** Time ran out for a record of it while it ran, or for the replica. */
  readonly timedOut: boolean;
  /** Records that are not tried again. */
  readonly settledCount: number;
}

export type PoolNews =
  | {
      readonly name: 'ready';
      readonly replica: number;
      readonly incarnation: number;
      readonly version: string | undefined;
    }
  | {
      readonly name: 'died';
      readonly replica: number;
      readonly incarnation: number;
      readonly version: string | undefined;
      readonly death: DeathNotice;
      readonly heldCount: number;
    }
  | { readonly name: 'restarting'; readonly replica: number; readonly incarnation: number; readonly delayMs: number }
  | { readonly name: 'restarted'; readonly replica: number; readonly incarnation: number }
  | { readonly name: 'replica-failed'; readonly replica: number; readonly death: DeathNotice }
  | { readonly name: 'failed'; readonly error: TroupeError }
  | { readonly name: 'up'; readonly version: string | undefined }
  | { readonly name: 'rollout-failed'; readonly version: string | undefined; readonly error: TroupeError }
  | {
      readonly name: 'rollout';
      readonly step: RolloutStep;
      readonly from: string | undefined;
      readonly to: string | undefined;
      /** While it bakes: the part of the records that the new version is given. */
      readonly share: number | undefined;
      /** Where it is rolled back: why, in a word and for the caller of the swap. */
      readonly reason: RollbackReason | undefined;
      readonly error: TroupeError | undefined;
    }
  | { readonly name: 'freed'; readonly version: string | undefined }
  | {
      readonly name: 'model-loaded';
      readonly replica: number;
      readonly incarnation: number;
      readonly key: string;
      readonly bytes: number;
      readonly loadMs: number;
    }
  | {
      readonly name: 'model-evicted';
      readonly replica: number;
      readonly incarnation: number;
      readonly key: string;
      readonly bytes: number;
      readonly reason: EvictionReason;
      /** What unload() threw. */
      readonly error: TroupeError | undefined;
    }
  | {
      readonly name: 'model-failed';
      readonly key: string;
      readonly error: TroupeError;
      /** Infinity: it is never tried again. */
      readonly retryAfterMs: number;
    }
  /** What was to be loaded beside another is there. */
  | { readonly name: 'model-prepared'; readonly key: string }
  | { readonly name: 'scaled'; readonly from: number; readonly replicas: number; readonly reason: ScaleReason }
  | { readonly name: 'held' }
  | { readonly name: 'drained' }
  | { readonly name: 'stopped' };

export type Effect =
  | {
      readonly kind: 'start';
      readonly cell: number;
      readonly replica: number;
      readonly replicas: number;
      readonly incarnation: number;
      readonly version: string | undefined;
    }
  | {
      readonly kind: 'send';
      readonly cell: number;
      readonly batchId: number;
      readonly requests: readonly Request[];
      readonly trigger: Trigger;
    }
  | {
      /** The replica is shown what another answers: its answer is compared and given to nobody. */
      readonly kind: 'show';
      readonly cell: number;
      readonly batchId: number;
      readonly requests: readonly Request[];
    }
  | { readonly kind: 'abandon'; readonly cell: number; readonly batchId: number }
  | { readonly kind: 'stop'; readonly cell: number; readonly now: boolean }
  | { readonly kind: 'kill'; readonly cell: number }
  /** Find out how much this model holds, and tell `located` or `locateFailed`. */
  | { readonly kind: 'locate'; readonly key: string }
  | { readonly kind: 'load-model'; readonly cell: number; readonly incarnation: number; readonly key: string }
  | { readonly kind: 'unload-model'; readonly cell: number; readonly incarnation: number; readonly key: string }
  | { readonly kind: 'news'; readonly news: PoolNews };

/** One line for people: what ended the replica. */
export function describeDeath(death: DeathNotice): string {
  const why = death.error instanceof Error ? `: ${death.error.message}` : '';
  switch (death.cause) {
    case 'exit':
      return `it exited with code ${death.exitCode ?? 'unknown'} without a reply`;
    case 'killed':
      return `it was killed from outside by ${death.signal ?? 'a signal'}`;
    case 'crash':
      return `it crashed${death.signal === undefined ? '' : ` with ${death.signal}`}${why}`;
    case 'hung':
      return 'it did not answer in time and was ended';
    case 'oom':
      return `it ran out of memory${why}`;
    case 'load-failed':
      return `it could not load${why}`;
    case 'protocol':
      return `it broke the protocol${why}`;
    case 'stopped':
      return 'it was stopped';
  }
}
