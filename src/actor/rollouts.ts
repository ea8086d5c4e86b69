/**
 * The swaps of one pool as its callers see them: who asked for what, which of them is under way, and what they are told.
 *
 * Decides about callers only; what becomes of replicas and records is the core's (core/rollout.ts, core/succession.ts).
 *
 * R1 one swap is under way at a time, and no version is loaded while more than one has replicas: two are resident at
 * most, and one that is kept goes first. R2 the newest wish wins: it ends what loads or bakes for another, and takes the place of one that waits. R3 who
 * wishes for exactly what is under way shares it.
 */

import type { PoolNews } from '../core/effects.js';
import type { PoolCore } from '../core/pool-core.js';
import type { RollbackReason, Rollout, RolloutRules, RolloutStep, SwapStrategy } from '../core/rollout.js';
import type { Compared } from '../core/shadow.js';
import type { RecordResult } from '../host/link.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { plainName } from '../models/names.js';
import { LatencyWindow } from '../telemetry/latency.js';
import { Comparison, type ShadowReport, type ShadowTotals } from './comparison.js';
import type { LocatedVersion } from './generation-files.js';
import type { Milestones } from './milestones.js';
import type { FreedMemory, NewsDetails, PoolVoice } from './pool-events.js';
import { problemOf, type Verification } from './verification.js';
import { isSamePlan, planSwap, type SwapOptions, type SwapPlan } from './swap-options.js';

/** What serves, and what is under way. */
export interface PoolVersions {
  /** The version that serves; while a canary bakes, the old one. */
  readonly current: string | undefined;
  /** The one before it, which `rollback` would bring back; absent before the first swap. */
  readonly previous?: string | undefined;
  /** `previous` is loaded still, and `rollback` takes no time. */
  readonly previousIsKept?: true;
  /** The one that is being rolled out; absent when none is. */
  readonly next?: string | undefined;
  readonly step?: RolloutStep;
  /** The part of the records that `next` is given, while it bakes. */
  readonly share?: number;
  /** How it does, where it is only shown records. */
  readonly shadow?: ShadowReport;
}

/** What a swap would do. */
export interface SwapPreview {
  readonly from: string | undefined;
  readonly to: string | undefined;
  /** So many of the new version are loaded: beside as many of the old one, one after another in their places, or after them. */
  readonly replicas: number;
  readonly strategy: SwapStrategy;
  /** In order, if all goes well. */
  readonly steps: readonly RolloutStep[];
  /** Records that each replica has to answer first. */
  readonly probes?: number;
  readonly share?: number;
  /** The part of the records that it is only shown. */
  readonly shadow?: number;
  readonly bakeMs?: number;
  readonly keepPreviousMs?: number;
  /** The version whose roll-out it would end. */
  readonly ends?: string;
  /** The same swap is under way already, and would be shared. */
  readonly joins: boolean;
}

/** What the swaps need of their pool. */
export interface RolloutHost {
  readonly name: string;
  readonly core: PoolCore;
  readonly voice: PoolVoice;
  readonly milestones: Milestones;
  now(): number;
  /** The version that a name means. */
  locate(version: string): Promise<LocatedVersion>;
  /** Begins to load it, as many replicas as there are to be. */
  rollOut(located: LocatedVersion, rules: RolloutRules): void;
  /** What one replica answers to these records; rejects where it ends, or takes longer than a load may. */
  probe(cell: number, records: readonly unknown[]): Promise<readonly RecordResult[]>;
  /** Throws unless the pool runs. */
  refuseUnlessRunning(what: string): void;
  /** Carries out what the core has decided. */
  pump(): void;
  /** What the new version is shown is told to it; undefined: nothing is. */
  compare(comparison: Comparison | undefined): void;
  residentMemory(): { readonly of: FreedMemory['of']; readonly bytes: number } | undefined;
  /** One after another, and never beside a change of scale. */
  operation<T>(run: () => Promise<T>): Promise<T>;
}

/** One swap that was asked for. */
class Swap {
  readonly done: Deferred<void> = deferred();
  /** What the core has decided; what is left is to clear away. */
  verdict: 'promoted' | 'rolled-back' | undefined;
  isOver = false;
  constructor(readonly plan: SwapPlan) {
    // Whoever asked has the same promise in hand.
    this.done.promise.catch(() => undefined);
  }
}

export class Rollouts {
  readonly #host: RolloutHost;
  #active: Swap | undefined;
  #waiting: Swap | undefined;
  /** Of both versions, as of the last decision between two. */
  #before: ReturnType<RolloutHost['residentMemory']>;
  #comparison: Comparison | undefined;
  readonly shadowTotals: ShadowTotals = {
    agreed: 0,
    differed: 0,
    failed: 0,
    uncompared: 0,
    callMs: new LatencyWindow(),
  };
  /** What served before, and how it was replaced: the way back is no other. */
  #previous: { readonly version: string | undefined; readonly strategy: SwapStrategy } | undefined;

  constructor(host: RolloutHost) {
    this.#host = host;
  }

  swap(version: string | number, options: SwapOptions): Promise<void> {
    return this.#start(planSwap(version, options)).done.promise;
  }

  /** What a swap would do, without doing any of it. Rejects where there is no such version. */
  async plan(version: string | number, options: SwapOptions): Promise<SwapPreview> {
    const plan = planSwap(version, options);
    const { strategy, share, shadow, bakeMs, verifies, keepMs } = plan.rules;
    const { version: to } = await this.#host.locate(plan.version);
    const { fleet } = this.#host.core;
    const newest = this.#waiting ?? this.#active;
    const isUnderWay = isOpen(newest);
    const joins = isUnderWay && isSamePlan(newest.plan, plan);
    return {
      from: fleet.version,
      to,
      // One at 0 wakes for it.
      replicas: Math.max(1, fleet.replicas),
      strategy,
      steps: [
        ...(strategy === 'recreate' ? (['draining'] as const) : []),
        'loading',
        ...(verifies ? (['verifying'] as const) : []),
        'shifting',
        ...(bakeMs > 0 ? (['baking'] as const) : []),
        'promoted',
        ...(keepMs > 0 ? (['kept'] as const) : []),
        ...(strategy === 'beside' ? (['draining'] as const) : []),
        'freed',
      ],
      ...(verifies ? { probes: plan.verify?.records.length ?? 0 } : {}),
      ...(bakeMs > 0 ? { share: shadow === undefined ? share : 0, bakeMs } : {}),
      ...(shadow === undefined ? {} : { shadow: shadow.share }),
      ...(keepMs > 0 ? { keepPreviousMs: keepMs } : {}),
      ...(isUnderWay && !joins ? { ends: newest.plan.version } : {}),
      joins,
    };
  }

  async promote(): Promise<void> {
    const { core } = this.#host;
    const swap = this.#active;
    const from = core.fleet.rollout?.sides.fromVersion;
    if (swap === undefined || !core.promote(this.#host.now()))
      throw this.#noRollout('promote', 'no version is on trial');
    this.#decided(swap, 'promoted', from);
    this.#host.pump();
    await swap.done.promise;
  }

  async rollback(): Promise<void> {
    const isUnderWay = isOpen(this.#active) || this.#waiting !== undefined;
    if (isUnderWay) {
      const why = 'rollback was asked for';
      if (this.#waiting !== undefined) this.#forget(this.#waiting, 'operator', why);
      if (isOpen(this.#active)) this.#giveUp(this.#active, 'operator', why);
    }
    // One that is being taken back already is what was meant.
    if (isUnderWay || this.#active?.verdict === 'rolled-back') {
      await this.#host.operation(() => Promise.resolve());
      return;
    }
    if (await this.#restore()) return;
    if (this.#previous === undefined)
      throw this.#noRollout('rollback', 'no version is being rolled out, and none served before');
    const { version = 'latest', strategy } = this.#previous;
    await this.swap(version, { strategy });
  }

  versions(): PoolVersions {
    const { fleet } = this.#host.core;
    const { rollout } = fleet;
    const kept = fleet.keepsPrevious ? { previousIsKept: true as const } : {};
    const previous = this.#previous === undefined ? {} : { previous: this.#previous.version, ...kept };
    const current = fleet.version;
    if (rollout === undefined || rollout.sides.fromGeneration === 0) {
      const isLeaving = !fleet.isSettled;
      return { current, ...previous, ...(isLeaving ? { step: 'draining' as const } : {}) };
    }
    // One replica after the other: some of the shift is done.
    const step = rollout.state === 'rolling' ? 'shifting' : rollout.state;
    const share = rollout.bakes ? { share: rollout.share } : {};
    return { current, ...previous, next: rollout.sides.version, step, ...share, ...this.#shadowReport() };
  }

  #start(plan: SwapPlan): Swap {
    const newest = this.#waiting ?? this.#active;
    if (isOpen(newest) && isSamePlan(newest.plan, plan)) return newest; // R3
    const why = `a newer swap to version ${plainName(plan.version)} was asked for`;
    if (this.#waiting !== undefined) this.#forget(this.#waiting, 'superseded', why);
    if (isOpen(this.#active)) this.#giveUp(this.#active, 'superseded', why);
    const swap = new Swap(plan);
    this.#waiting = swap;
    void this.#host.operation(() => this.#run(swap));
    return swap;
  }

  /** Never rejects; its outcome is that of the swap. */
  async #run(swap: Swap): Promise<void> {
    if (swap.isOver) return;
    const { core, voice, milestones } = this.#host;
    this.#waiting = undefined;
    this.#active = swap;
    const from = core.fleet.version;
    try {
      this.#host.refuseUnlessRunning('swap');
      this.#freeKept();
      await this.#settled();
      const located = swap.isOver ? undefined : await this.#host.locate(swap.plan.version);
      if (located !== undefined && !swap.isOver) {
        this.#host.refuseUnlessRunning('swap');
        const promoted = milestones.next('promoted');
        this.#host.rollOut(located, swap.plan.rules);
        this.#host.pump();
        await promoted;
        voice.emit('swapped', { from, to: located.version });
        await this.#settled();
        this.#end(swap, undefined);
      }
    } catch (cause) {
      const error = this.#failure(swap, from, cause);
      await this.#restored();
      this.#end(swap, error);
    }
    // What was given up goes before anything else is loaded (R1).
    await this.#settled();
    this.#active = undefined;
  }

  /** What those who listen are told of it besides, when the core tells it. */
  detailsOf(news: PoolNews): NewsDetails {
    if (news.name === 'freed') {
      const memory = this.#freedMemory();
      return memory === undefined ? {} : { memory };
    }
    return news.name === 'rollout' && (news.step === 'promoted' || news.step === 'rolled-back')
      ? this.#shadowReport()
      : {};
  }

  #shadowReport(): { readonly shadow?: ShadowReport } {
    return this.#comparison === undefined ? {} : { shadow: this.#comparison.report() };
  }

  /** What the end of a version gave back; to be asked when it has gone. */
  #freedMemory(): FreedMemory | undefined {
    const before = this.#before;
    const after = before === undefined ? undefined : this.#host.residentMemory();
    if (before === undefined || after === undefined) return undefined;
    this.#before = undefined;
    return { of: after.of, beforeBytes: before.bytes, afterBytes: after.bytes };
  }

  /** The core tells what it does; what it waits for is done here. To be called before those who listen are told. */
  hear(news: PoolNews): void {
    if (news.name !== 'rollout') return;
    if (this.#active !== undefined && (news.step === 'promoted' || news.step === 'rolled-back'))
      this.#decided(this.#active, news.step, news.from);
    if (news.step === 'baking') this.#beginComparison();
    if (news.step === 'promoted' || news.step === 'rolled-back') this.#compareWith(undefined);
    const isFirst = news.step === 'draining' || (news.step === 'loading' && this.#host.core.fleet.rollout?.takesPlaces);
    if (isFirst || news.step === 'rolled-back') this.#before = this.#host.residentMemory();
    if (news.step !== 'verifying') return;
    const { rollout } = this.#host.core.fleet;
    const verify = this.#active?.plan.verify;
    if (rollout !== undefined && verify !== undefined) void this.#verify(rollout, verify);
  }

  /** Known at once to those who decided it themselves: a listener may ask for more before the news is told. */
  #decided(swap: Swap, verdict: 'promoted' | 'rolled-back', from: string | undefined): void {
    swap.verdict = verdict;
    if (verdict === 'promoted') this.#previous = { version: from, strategy: swap.plan.rules.strategy };
  }

  #beginComparison(): void {
    const { core } = this.#host;
    const shadow = core.fleet.rollout?.shadow;
    if (shadow === undefined) return;
    const compared = (one: Compared): void => core.compared(one, this.#host.now());
    this.#compareWith(new Comparison(shadow, this.#active?.plan.tolerance ?? 0, this.shadowTotals, compared));
  }

  #compareWith(comparison: Comparison | undefined): void {
    this.#comparison = comparison;
    this.#host.compare(comparison);
  }

  /** Never rejects: what is wrong with the version rolls it back. */
  async #verify(rollout: Rollout, verify: Verification): Promise<void> {
    const { core } = this.#host;
    const { generation } = rollout.sides;
    const cells = core.fleet.list.filter((cell) => cell.generation === generation && !cell.isProved);
    const answers = await Promise.allSettled(cells.map(({ id }) => this.#host.probe(id, verify.records)));
    if (core.fleet.rollout !== rollout) return;
    let problem: string | undefined;
    let cause: unknown;
    let passed = 0;
    let deaths = 0;
    for (const answer of answers) {
      if (answer.status === 'rejected') {
        cause ??= answer.reason;
        if (isTroupeError(answer.reason) && answer.reason.code === 'ACTOR_CRASHED') deaths++;
      } else {
        problem ??= problemOf(answer.value, verify);
        passed++;
      }
    }
    // A replica that was killed meanwhile says nothing of the version, while others have answered.
    if (passed === 0) problem = cause instanceof Error ? cause.message : String(cause);
    const now = this.#host.now();
    if (problem === undefined) core.verified(now);
    else {
      // The core knows already of one that ended by its own fault: these were killed, and have said nothing of the version.
      const reason = passed === 0 && deaths === answers.length ? 'replicas-died' : 'verification-failed';
      core.rollBack(reason, problem, now, passed === 0 ? cause : undefined);
    }
    this.#host.pump();
  }

  /** The way back to a version that is kept; false: none is. */
  async #restore(): Promise<boolean> {
    const { core, voice } = this.#host;
    const from = core.fleet.version;
    if (!core.restore(this.#host.now())) return false;
    const to = core.fleet.version;
    this.#previous = { version: from, strategy: 'beside' };
    this.#host.pump();
    // Where a listener asks for it, the steps are told when that has returned, and go first.
    await Promise.resolve();
    voice.emit('swapped', { from, to });
    await this.#settled();
    return true;
  }

  #freeKept(): void {
    this.#host.core.freeKept();
    this.#host.pump();
  }

  /** What had to make room is loaded again, or the pool has failed or stops. */
  async #restored(): Promise<void> {
    const { core, milestones } = this.#host;
    const resumed = core.fleet.isRestoring ? milestones.next('resumed') : Promise.resolve();
    await resumed.catch(() => undefined);
  }

  /** R1. */
  async #settled(): Promise<void> {
    const { core, milestones } = this.#host;
    while (!core.fleet.isSettled && core.state !== 'stopping' && core.state !== 'stopped')
      await milestones.next('freed');
  }

  #giveUp(swap: Swap, reason: RollbackReason, why: string): void {
    // Between two steps of its own it has nothing in the core yet.
    const { core } = this.#host;
    if (core.rollBack(reason, why, this.#host.now())) this.#decided(swap, 'rolled-back', core.fleet.version);
    else this.#forget(swap, reason, why);
    this.#host.pump();
  }

  /** It has not begun. */
  #forget(swap: Swap, reason: RollbackReason, why: string): void {
    if (swap === this.#waiting) this.#waiting = undefined;
    this.#end(swap, this.#rolledBack(swap.plan.version, this.#host.core.fleet.version, reason, why, undefined));
  }

  #end(swap: Swap, error: TroupeError | undefined): void {
    if (swap.isOver) return;
    swap.isOver = true;
    if (error === undefined) {
      swap.done.resolve();
      return;
    }
    // Its replicas may still be ending; who asks for something now does not mean what has failed.
    if (swap === this.#active) this.#active = undefined;
    this.#host.voice.emit('swap-failed', { version: swap.plan.version, error });
    swap.done.reject(error);
  }

  /** The core has told of what it rolled back; what it never heard of is told here. */
  #failure({ plan }: Swap, from: string | undefined, cause: unknown): TroupeError {
    if (cause instanceof TroupeError && cause.code === 'SWAP_ROLLED_BACK') return cause;
    const { core } = this.#host;
    const reason = core.state === 'running' ? 'load-failed' : 'stopped';
    const why = cause instanceof Error ? cause.message : String(cause);
    const error = this.#rolledBack(plan.version, from, reason, why, cause);
    const news: PoolNews = {
      name: 'rollout',
      step: 'rolled-back',
      from,
      to: plan.version,
      share: undefined,
      reason,
      error,
    };
    this.#host.voice.tell(news);
    return error;
  }

  #rolledBack(
    version: string,
    from: string | undefined,
    reason: RollbackReason,
    why: string,
    cause: unknown,
  ): TroupeError {
    const { name } = this.#host;
    const message = `Pool "${name}" stays on version ${from ?? 'none'}: version ${plainName(version)} was not loaded: ${why}`;
    return new TroupeError('SWAP_ROLLED_BACK', message, { cause, actor: name, step: 'loading', reason });
  }

  #noRollout(what: string, why: string): TroupeError {
    const { name, core } = this.#host;
    const { next, step } = this.versions();
    const state = step === undefined || next === undefined ? '' : `; version ${next} is ${step}`;
    const message = `Pool "${name}", version ${core.fleet.version ?? 'none'}: nothing to ${what}: ${why}${state}`;
    return new TroupeError('NO_ROLLOUT', message, { actor: name });
  }
}

/** It may yet be promoted or given up. */
function isOpen(swap: Swap | undefined): swap is Swap {
  return swap !== undefined && swap.verdict === undefined;
}
