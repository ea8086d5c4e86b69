/**
 * What people do about versions in a simulated pool: swap while another version loads or bakes, promote, roll back, verify.
 * Draws from chances of its own, so that a run without trials is what it was before there were any.
 */

import { AT_ONCE, type RolloutRules } from '../core/rollout.js';
import type { PoolCore } from '../core/pool-core.js';
import { FAULT } from './faults.js';
import type { Request } from '../core/request.js';
import type { SimRecord } from './sim-record.js';
import type { SimReplica } from './sim-replica.js';
import { Chance } from './seeds.js';
import { EVENT, type World } from './world.js';

/** A batch on its way to a replica that nobody waits for. */
export interface Shown {
  readonly replica: SimReplica;
  readonly batchId: number;
  readonly requests: readonly Request[];
}

const MIN_AGREEMENT = 0.9;

export class SimTrials {
  readonly #world: World;
  readonly #core: PoolCore;
  readonly #chance: Chance;
  /** Versions that come up, and then fail half of their records. */
  readonly #poor = new Set<number>();

  constructor(world: World, core: PoolCore) {
    this.#world = world;
    this.#core = core;
    this.#chance = new Chance(world.scenario.seed, 12);
    const { promotes, rollbacks, safetyMs } = world.scenario;
    for (let i = 0; i < promotes; i++) world.after(this.#chance.next() * safetyMs, EVENT.promote, 0, undefined);
    for (let i = 0; i < rollbacks; i++) world.after(this.#chance.next() * safetyMs, EVENT.rollBack, 0, undefined);
  }

  /** For version `version`, which is about to be rolled out. */
  rules(version: number): RolloutRules {
    const { swapStrategy: strategy, share, shadow, bakeMs, keepMs, verifies } = this.#world.scenario;
    if (version === 1 || bakeMs === 0) return version === 1 ? AT_ONCE : { ...AT_ONCE, strategy };
    if (this.#world.strikes(FAULT['poor-version'])) this.#poor.add(version);
    const rules = { ...AT_ONCE, strategy, share, bakeMs, keepMs, verifies: verifies && this.#chance.next() < 0.5 };
    return shadow === 0 ? rules : { ...rules, shadow: { share: shadow, minAgreement: MIN_AGREEMENT } };
  }

  /** A replica runs what it was shown, for as long as work takes; one that has ended meanwhile says nothing. */
  shown(replica: SimReplica, batchId: number, requests: readonly Request[]): void {
    const { costMs, costPerRecordMs } = this.#world.scenario;
    const ms = (costMs + costPerRecordMs * requests.length) * (0.5 + 4 * this.#chance.next());
    this.#world.after(ms, EVENT.shown, 0, { replica, batchId, requests } satisfies Shown);
  }

  answered({ replica, batchId, requests }: Shown): void {
    if (!replica.isAlive || replica.isTold) return;
    const { now } = this.#world;
    this.#core.shown(replica.cell, batchId, now);
    for (const { owner } of requests) {
      const isBad = this.failsOn(replica.versionNumber, owner as SimRecord);
      this.#core.compared({ agreed: isBad ? 0 : 1, differed: 0, failed: isBad ? 1 : 0 }, now);
    }
  }

  /** Nothing is under way: the version before serves again where it is kept. */
  rollBack(): void {
    const { now } = this.#world;
    if (!this.#core.rollBack('operator', 'rollback was asked for', now)) this.#core.restore(now);
  }

  key(seq: number): string | undefined {
    const { keys } = this.#world.scenario;
    if (keys === 0 || seq % 3 === 0) return undefined;
    return `k${(seq * 7) % keys}`;
  }

  /** Whether this version gives an error in the place of this record. */
  failsOn(version: number, record: SimRecord): boolean {
    if (!this.#poor.has(version) || record.id % 2 === 0) return false;
    record.metPoorVersion = true;
    return true;
  }

  /** A newer wish while one is under way: that one ends first. True: it is to be tried again when it has gone. */
  supersede(isRunning: boolean): boolean {
    const { bakeMs, safetyMs } = this.#world.scenario;
    if (bakeMs === 0 || !isRunning) return false;
    if (this.#core.fleet.rollout !== undefined)
      this.#core.rollBack('superseded', 'a newer version was wished for', this.#world.now);
    else if (this.#core.fleet.generationCount === 1) return false;
    else this.#core.freeKept();
    this.#world.after((this.#chance.next() * safetyMs) / 10, EVENT.swap, 0, undefined);
    return true;
  }

  verifying(): void {
    const { loadMs } = this.#world.scenario;
    this.#world.after(this.#chance.next() * loadMs, EVENT.verified, 0, undefined);
  }

  verified(): void {
    const isGood = !this.#world.isSafe || this.#chance.next() < 0.8;
    if (isGood) this.#core.verified(this.#world.now);
    else if (this.#core.fleet.rollout?.isVerified === false)
      this.#core.rollBack('verification-failed', 'probes were answered wrongly', this.#world.now);
  }
}
