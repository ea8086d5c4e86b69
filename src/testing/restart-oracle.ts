/**
 * Books on the lives of every replica slot: who may start again, when at the earliest and latest, and after which death
 * not at all. A second, independent reading of the restart rules R1 to R4 (core/restart-window.ts).
 */

import type { DeathNotice } from '../core/effects.js';
import type { Cell } from '../core/slots.js';
import type { SimReplica } from './sim-replica.js';
import type { World } from './world.js';

interface Life {
  /** Deaths that count, oldest first. */
  deathsAt: number[];
  quarantineAt: number[];
  /** Deaths in a row without a finished batch. */
  streak: number;
  /** What the death under way must lead to. */
  fate: 'any' | 'gone' | 'back' | 'failed';
  minWaitMs: number;
  maxWaitMs: number;
  startsAt: number;
}

const EPSILON_MS = 1e-6;

export class RestartOracle {
  /** By cell. */
  readonly #lives: (Life | undefined)[] = [];
  readonly #world: World;
  deathCount = 0;
  quarantineDeathCount = 0;
  giveUpCount = 0;

  constructor(world: World) {
    this.#world = world;
  }

  started(replica: SimReplica): void {
    const now = this.#world.now;
    const life = this.#lives[replica.cell];
    if (replica.incarnation === 1) {
      if (life !== undefined) this.#world.violate('incarnations', `cell ${replica.cell} is used again`);
      this.#lives[replica.cell] = {
        deathsAt: [],
        quarantineAt: [],
        streak: 0,
        fate: 'any',
        minWaitMs: 0,
        maxWaitMs: 0,
        startsAt: now,
      };
      return;
    }
    if (life === undefined || life.fate === 'failed' || life.fate === 'gone') {
      this.#world.violate('restart-intensity', `cell ${replica.cell} starts again after it was to end`);
    }
    if (now < life.startsAt - EPSILON_MS)
      this.#world.violate('restart-backoff', `cell ${replica.cell} starts ${life.startsAt - now} ms too early`);
    const latest = Math.max(life.startsAt, this.#world.stalledUntil) + EPSILON_MS;
    if (this.#world.scenario.limits.strategy === 'one-for-one' && now > latest)
      this.#world.violate('restart-backoff', `cell ${replica.cell} starts ${now - latest} ms too late`);
  }

  /** A pool that was held is let go: whoever was to come back does so now. */
  released(): void {
    for (const life of this.#lives) if (life !== undefined) life.startsAt = this.#world.now;
  }

  progressed(cell: number): void {
    const life = this.#lives[cell];
    if (life !== undefined) life.streak = 0;
  }

  /** Before the core is told. */
  died(replica: SimReplica, death: DeathNotice, cells: ReadonlyMap<number, Cell>, inRollout: boolean): void {
    const { limits } = this.#world.scenario;
    const { restart, restartType } = limits;
    const now = this.#world.now;
    const life = this.#lives[replica.cell] as Life;
    const cell = cells.get(replica.cell);
    if (cell === undefined) this.#world.violate('incarnations', `cell ${replica.cell} is gone before its replica`);
    life.minWaitMs = 0;
    life.maxWaitMs = 0;
    const wasBusy = replica.open.length > 0;
    if (cell.state === 'stopping' || cell.state === 'draining') {
      life.fate = 'gone';
      return;
    }
    if (cell.state === 'recycling' || cell.state === 'replacing') {
      if (!replica.stopAsked)
        this.#world.violate('fencing', `cell ${replica.cell} is to start again and was not asked to stop`);
      life.fate = 'back';
      return;
    }
    if (inRollout && death.cause !== 'killed') {
      life.fate = 'gone';
      return;
    }
    const isNormal = !wasBusy && death.cause === 'exit' && death.exitCode === 0;
    if (restartType === 'temporary' || (restartType === 'transient' && isNormal)) {
      life.fate = 'gone';
      return;
    }
    const isBlamed = death.cause !== 'killed' && death.cause !== 'load-failed' && death.cause !== 'stopped';
    if (isBlamed && replica.open[0]?.isQuarantine === true) {
      life.fate = 'back';
      this.quarantineDeathCount++;
      life.quarantineAt = life.quarantineAt.filter((at) => at >= now - restart.withinMs);
      life.quarantineAt.push(now);
      if (life.quarantineAt.length > restart.quarantineMax + 1)
        this.#world.violate(
          'quarantine',
          `${life.quarantineAt.length} deaths of cell ${replica.cell} on a budget of ${restart.quarantineMax}`,
        );
      return;
    }
    this.deathCount++;
    life.deathsAt = life.deathsAt.filter((at) => at >= now - restart.withinMs);
    life.deathsAt.push(now);
    if (life.deathsAt.length > restart.max) {
      life.fate = 'failed';
      this.giveUpCount++;
      return;
    }
    life.fate = 'back';
    life.streak++;
    const doublings = death.cause === 'load-failed' ? life.streak - 1 : life.streak - 2;
    if (doublings < 0) return;
    life.maxWaitMs = Math.min(restart.maxBackoffMs, restart.backoffMs * 2 ** doublings);
    life.minWaitMs = life.maxWaitMs * (1 - restart.jitter);
  }

  /** After the core was told. */
  buried(replica: SimReplica, cells: ReadonlyMap<number, Cell>, wasOnTrial: boolean): void {
    const life = this.#lives[replica.cell] as Life;
    const cell = cells.get(replica.cell);
    const state = cell?.state ?? 'stopped';
    const now = this.#world.now;
    switch (life.fate) {
      case 'gone':
        if (state !== 'stopped')
          this.#world.violate('restart-intensity', `cell ${replica.cell} is ${state}, it was to be gone`);
        return;
      case 'failed':
        if (state !== 'failed' && state !== 'stopped')
          this.#world.violate(
            'restart-intensity',
            `cell ${replica.cell} is ${state} after ${life.deathsAt.length} deaths in the window`,
          );
        return;
      case 'back': {
        // Its trial may be over with it.
        if (wasOnTrial && state === 'stopped') return;
        if (cell === undefined || (state !== 'backoff' && state !== 'starting')) {
          this.#world.violate('restart-intensity', `cell ${replica.cell} is ${state}, it was to start again`);
        }
        const waitMs = cell.startAt - now;
        if (waitMs < life.minWaitMs - EPSILON_MS || waitMs > life.maxWaitMs + EPSILON_MS)
          this.#world.violate(
            'restart-backoff',
            `cell ${replica.cell} waits ${waitMs} ms, expected ${life.minWaitMs} to ${life.maxWaitMs} (streak ${life.streak})`,
          );
        life.startsAt = cell.startAt;
        return;
      }
      case 'any':
    }
  }

  /** May a record be settled because the quarantine budget is used up? */
  quarantineIsUsedUp(cells: ReadonlyMap<number, Cell>, now: number): boolean {
    const { withinMs, quarantineMax } = this.#world.scenario.limits.restart;
    for (const cell of cells.values()) {
      const life = this.#lives[cell.id];
      if (life !== undefined && life.quarantineAt.filter((at) => at >= now - withinMs).length > quarantineMax)
        return true;
    }
    return false;
  }
}
