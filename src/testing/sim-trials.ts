/**
 * What people do about versions in a simulated pool: swap while another version loads or bakes, promote, roll back, verify.
 * Draws from chances of its own, so that a run without trials is what it was before there were any.
 */

import { AT_ONCE, type RolloutRules } from '../core/rollout.js';
import type { PoolCore } from '../core/pool-core.js';
import { FAULT } from './faults.js';
import type { SimRecord } from './sim-record.js';
import { Chance } from './seeds.js';
import { EVENT, type World } from './world.js';

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
    const { share, bakeMs, verifies } = this.#world.scenario;
    if (version === 1 || bakeMs === 0) return AT_ONCE;
    if (this.#world.strikes(FAULT['poor-version'])) this.#poor.add(version);
    return { ...AT_ONCE, share, bakeMs, verifies: verifies && this.#chance.next() < 0.5 };
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
    else if (this.#core.fleet.rollout?.state === 'verifying')
      this.#core.rollBack('verification-failed', 'probes were answered wrongly', this.#world.now);
  }
}
