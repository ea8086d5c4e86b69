/**
 * What a new version answers to records that the old one answers for their callers, beside what the old one answers.
 *
 * C1 nothing here is waited for, and what goes wrong here is counted and fails no record. C2 callers may change what they
 * sent and what they got as soon as they have it: what is compared later is copied before. C3 it holds as many records as
 * replicas are shown, and those of them that are not settled.
 */

import type { Request } from '../core/request.js';
import type { Compared, Shadow } from '../core/shadow.js';
import type { RecordResult } from '../host/link.js';
import { LatencyWindow } from '../telemetry/latency.js';
import { differenceOf } from './value-difference.js';
import { copyOf } from './value-copy.js';

/** What became of records that were to be shown, over the life of a pool. */
export interface ShadowTotals {
  agreed: number;
  differed: number;
  /** The new version gave an error, or ended, where the old one gave a result. */
  failed: number;
  /** There was nothing to compare with: the old version failed, or the answer was no plain data. */
  uncompared: number;
  readonly callMs: LatencyWindow;
}

/** How a version that is watched as a shadow does, in records. */
export interface ShadowReport {
  /** The part of the records that it is to be shown. */
  readonly share: number;
  readonly shown: number;
  readonly compared: number;
  readonly agreed: number;
  /** Of the compared ones; absent before the first. */
  readonly agreement?: number;
  /** Answered with an error where the old version gave a result. */
  readonly failed: number;
  /** Not shown, as every replica of it had two batches already. */
  readonly dropped: number;
  /** What the batches took that both were given, in milliseconds, each as often as it had records. */
  readonly oldMs: { readonly p50: number; readonly p99: number };
  readonly newMs: { readonly p50: number; readonly p99: number };
}

interface Pair {
  /** What the caller got, copied; NOTHING: no result. */
  old: unknown;
  /** What the new version answered; FAILED: no result. */
  answer: unknown;
}

const WAITED_FOR = Symbol('waited for');
const NOTHING = Symbol('nothing');
const FAILED = Symbol('failed');

export class Comparison {
  readonly #shadow: Shadow;
  readonly #tolerance: number;
  readonly #totals: ShadowTotals;
  readonly #compared: (compared: Compared) => void;
  readonly #oldMs = new LatencyWindow();
  readonly #newMs = new LatencyWindow();
  readonly #batches = new Map<number, { readonly cell: number; readonly requests: readonly Request[] }>();
  readonly #pairs = new Map<Request, Pair>();

  constructor(shadow: Shadow, tolerance: number, totals: ShadowTotals, compared: (compared: Compared) => void) {
    this.#shadow = shadow;
    this.#tolerance = tolerance;
    this.#totals = totals;
    this.#compared = compared;
  }

  shown(cell: number, batchId: number, requests: readonly Request[]): void {
    this.#batches.set(batchId, { cell, requests });
    for (const request of requests) this.#pairs.set(request, { old: WAITED_FOR, answer: WAITED_FOR });
  }

  /** Before the caller hears of it (C2). */
  settled(request: Request): void {
    const pair = this.#pairs.get(request);
    if (pair === undefined) return;
    if (request.call !== undefined) this.#oldMs.record(request.call.durationMs);
    const isResult = request.failure === undefined;
    if (pair.answer !== WAITED_FOR) this.#compare(request, isResult ? request.value : NOTHING, pair.answer);
    else pair.old = isResult ? copied(request.value) : NOTHING;
  }

  /** `results`: of each record, or undefined where the batch failed as a whole. `tookMs`: unless nobody waits for it. */
  answered(batchId: number, results: readonly RecordResult[] | undefined, tookMs: number | undefined): void {
    const requests = this.#batches.get(batchId)?.requests;
    if (requests === undefined) return;
    this.#batches.delete(batchId);
    if (tookMs !== undefined) this.#totals.callMs.record(tookMs);
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i] as Request;
      const pair = this.#pairs.get(request);
      if (tookMs !== undefined) this.#newMs.record(tookMs);
      if (pair === undefined) continue;
      const result = results?.[i];
      const answer = result?.ok === true ? result.value : FAILED;
      if (pair.old === WAITED_FOR) pair.answer = answer;
      else this.#compare(request, pair.old, answer);
    }
  }

  /** A replica of the new version ended. */
  ended(cell: number): void {
    for (const [batchId, batch] of [...this.#batches])
      if (batch.cell === cell) this.answered(batchId, undefined, undefined);
  }

  report(): ShadowReport {
    const { rules, shownCount, comparedCount, agreedCount, failedCount, droppedCount, agreement } = this.#shadow;
    return {
      share: rules.share,
      shown: shownCount,
      compared: comparedCount,
      agreed: agreedCount,
      ...(comparedCount === 0 ? {} : { agreement }),
      failed: failedCount,
      dropped: droppedCount,
      oldMs: spanOf(this.#oldMs),
      newMs: spanOf(this.#newMs),
    };
  }

  #compare(request: Request, old: unknown, answer: unknown): void {
    this.#pairs.delete(request);
    const outcome = this.#outcome(old, answer);
    this.#totals[outcome]++;
    if (outcome !== 'uncompared') this.#compared({ ...NONE, [outcome]: 1 });
  }

  /** Outputs of inline actors may be objects of any kind: one that throws when it is read says nothing (C1). */
  #outcome(old: unknown, answer: unknown): keyof Compared | 'uncompared' {
    if (old === NOTHING) return 'uncompared';
    if (answer === FAILED) return 'failed';
    try {
      return differenceOf(answer, old, this.#tolerance, '') === undefined ? 'agreed' : 'differed';
    } catch {
      return 'uncompared';
    }
  }
}

const NONE: Compared = { agreed: 0, differed: 0, failed: 0 };

function copied(value: unknown): unknown {
  try {
    return copyOf(value);
  } catch {
    return NOTHING;
  }
}

function spanOf(window: LatencyWindow): { readonly p50: number; readonly p99: number } {
  const { p50, p99 } = window.summary();
  return { p50, p99 };
}
