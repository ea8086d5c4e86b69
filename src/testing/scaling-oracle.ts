/**
 * Books on a pool that scales by itself: a second reading of core/autoscaler.ts and core/scaling.ts, from what is offered
 * and told alone. Never out of bounds, never sooner than the delays allow, never while a version is rolled out or a replica
 * is missing; to 0 only without work, and back with the first record; to the least when all is over.
 */

import type { ScalingLimits } from '../core/autoscaler.js';
import type { PoolNews } from '../core/effects.js';
import type { SimPool } from './sim-pool.js';
import type { World } from './world.js';

const EPSILON_MS = 1e-6;

export class ScalingOracle {
  readonly #world: World;
  readonly #pool: SimPool;
  readonly #limits: ScalingLimits;
  #changedAt = 0;
  #acceptedAt = 0;
  #acceptedBefore = 0;
  #rolloutAt = 0;
  /** As told last. */
  #count: number;
  /** By reason, for rows and reports. */
  readonly counts = new Map<string, number>();

  constructor(world: World, pool: SimPool, limits: ScalingLimits) {
    this.#world = world;
    this.#pool = pool;
    this.#limits = limits;
    this.#count = Math.max(1, limits.min);
  }

  failed(): void {
    if (this.#count === 0) this.#violate('a pool that sleeps has failed');
  }

  accepted(): void {
    if (this.#acceptedAt < this.#world.now) this.#acceptedBefore = this.#acceptedAt;
    this.#acceptedAt = this.#world.now;
  }

  rollingOut(): void {
    this.#rolloutAt = this.#world.now;
  }

  /** Nothing that was seen before counts. */
  ready(): void {
    this.#changedAt = this.#world.now;
  }

  told({ from, replicas, reason }: Extract<PoolNews, { name: 'scaled' }>): void {
    const { min, max, upAfterMs, downAfterMs, idleAfterMs } = this.#limits;
    const { now } = this.#world;
    const { core, live } = this.#pool;
    const words = `${from} -> ${replicas} (${reason})`;
    this.counts.set(reason, (this.counts.get(reason) ?? 0) + 1);
    this.#count = replicas;
    if (replicas < min || replicas > max) this.#violate(`${words} is out of ${min} to ${max}`);
    const quietMs = now - this.#changedAt + EPSILON_MS;
    this.#changedAt = now;
    if (reason === 'operator') return;
    if (reason === 'demand') {
      if (from !== 0) this.#violate(`${words} of a pool that does not sleep`);
      return;
    }
    if (replicas === from) this.#violate(`${words} changes nothing`);
    // News is heard at the end of a turn; what came later in the same turn was not known.
    const isUnderWay = this.#pool.isRollingOut || core.fleet.rollout !== undefined;
    if (isUnderWay && this.#rolloutAt < now) this.#violate(`${words} amid a roll-out`);
    let readyCount = 0;
    for (const { isReady, isTold, killAsked } of live) if (isReady && !isTold && !killAsked) readyCount++;
    if (readyCount < from) this.#violate(`${words} with ${readyCount} replicas ready`);
    if (reason === 'idle') {
      const isNew = this.#acceptedAt === now;
      if (core.heldCount > 0 && !isNew) this.#violate(`${words} with ${core.heldCount} records held`);
      const idleMs = now - (isNew ? this.#acceptedBefore : this.#acceptedAt);
      if (idleMs + EPSILON_MS < idleAfterMs) this.#violate(`${words} ${idleMs} ms after a record`);
      return;
    }
    const leastMs = replicas > from ? upAfterMs : downAfterMs;
    if (quietMs < leastMs) this.#violate(`${words} ${quietMs} ms after the last change, not before ${leastMs}`);
  }

  turnEnded(): void {
    const { core } = this.#pool;
    if (core.state !== 'running' && core.state !== 'draining') return;
    if (core.fleet.replicas === 0 && core.mailbox.held > 0)
      this.#violate(`${core.mailbox.held} records wait and the pool sleeps on`);
  }

  /** All is over for long. A pool that has lost a replica for good stays as it is. */
  restored(): void {
    const { fleet } = this.#pool.core;
    if (fleet.readyCount !== fleet.replicas) return;
    if (fleet.replicas !== this.#limits.min)
      this.#violate(`${fleet.replicas} replicas at rest, ${this.#limits.min} would do; scaled to ${this.#count} last`);
  }

  #violate(what: string): never {
    this.#world.violate('scaling', what);
  }
}
