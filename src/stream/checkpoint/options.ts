import { TroupeError } from '../../kernel/errors.js';
import { checkCount, checkKeys, checkOneOf, checkSpan, refuse } from '../options.js';

export interface CheckpointOptions {
  /** Directory of this pipeline's checkpoints, made if need be; no two pipelines share one. */
  dir: string;
  /** From one checkpoint to the next. Default 1000. */
  intervalMs?: number;
  /**
   * Goes on from the newest whole checkpoint in `dir`, and begins anew where there is none. Default false: begins anew
   * and forgets the checkpoints that are there.
   */
  resume?: boolean;
  /** Checkpoints that are kept. Default 3. */
  keep?: number;
  /**
   * When a checkpoint fails: `stop` ends the run with CHECKPOINT_FAILED, `continue` counts it and goes on from the last
   * good one the next time. Default stop. A directory that cannot be used at all always ends the run at once.
   */
  onFailure?: 'stop' | 'continue';
  /**
   * Longest that one operation of the disk may take; after that the checkpoint has failed, as `onFailure` says, and no
   * other is begun until the disk has answered. Infinity for no limit. Default 60,000.
   */
  timeoutMs?: number;
  /** Makes checkpoints on demand besides. */
  trigger?: CheckpointTrigger;
}

export interface CheckpointPlan {
  readonly dir: string;
  readonly intervalMs: number;
  readonly resume: boolean;
  readonly keep: number;
  readonly onFailure: 'stop' | 'continue';
  readonly timeoutMs: number;
  readonly trigger: CheckpointTrigger | undefined;
}

export function checkpointPlan(options: CheckpointOptions): CheckpointPlan {
  checkKeys('checkpoint', options, ['dir', 'intervalMs', 'resume', 'keep', 'onFailure', 'timeoutMs', 'trigger']);
  const { dir, intervalMs = 1000, resume = false, keep = 3, onFailure = 'stop', timeoutMs = 60_000, trigger } = options;
  if (typeof dir !== 'string' || dir === '') refuse('checkpoint.dir', 'a path', dir);
  checkCount('checkpoint.intervalMs', intervalMs);
  if (typeof resume !== 'boolean') refuse('checkpoint.resume', 'true or false', resume);
  checkCount('checkpoint.keep', keep);
  checkOneOf('checkpoint.onFailure', onFailure, ['stop', 'continue']);
  checkSpan('checkpoint.timeoutMs', timeoutMs);
  if (trigger !== undefined && !(trigger instanceof CheckpointTrigger)) {
    refuse('checkpoint.trigger', 'a CheckpointTrigger', trigger);
  }
  return { dir, intervalMs, resume, keep, onFailure, timeoutMs, trigger };
}

/** One wish for a checkpoint. */
export interface CheckpointRequest {
  resolve(number: number): void;
  reject(error: TroupeError): void;
}

/** Asks the run that it was given to, in `to(sink, { checkpoint: { trigger } })`, for checkpoints. */
export class CheckpointTrigger {
  #take: ((request: CheckpointRequest) => void) | undefined;

  /**
   * Resolves with the number of a checkpoint that holds everything that was delivered until this call, once it is
   * durable. Rejects with CHECKPOINT_FAILED when it fails, or when no run is there to make it.
   */
  now(): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#take !== undefined) this.#take({ resolve, reject });
      else reject(new TroupeError('CHECKPOINT_FAILED', 'No run uses this CheckpointTrigger now: nothing to save'));
    });
  }

  /** For the run: who takes requests now. Throws CHECKPOINT_FAILED while another run does. */
  attach(take: (request: CheckpointRequest) => void): void {
    if (this.#take !== undefined) {
      throw new TroupeError(
        'CHECKPOINT_FAILED',
        'checkpoint.trigger is in use by another run; give every run a CheckpointTrigger of its own',
      );
    }
    this.#take = take;
  }

  detach(): void {
    this.#take = undefined;
  }
}
