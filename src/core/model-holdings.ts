import type { Fleet } from './fleet.js';
import type { Cell } from './slots.js';
import { type Holders, type ResidentModel, ResidentModels } from './resident-models.js';

/** Which replica of a pool holds which models, each for one life of the replica. */
export class ModelHoldings implements Holders {
  readonly #fleet: Fleet;
  readonly #held = new Map<number, ResidentModels>();

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  /** What the replica holds in this life of it. */
  of(cell: Cell): ResidentModels {
    let models = this.#held.get(cell.id);
    if (models === undefined || models.incarnation !== cell.incarnation) {
      models = new ResidentModels(cell.incarnation, this);
      this.#held.set(cell.id, models);
    }
    return models;
  }

  /** The same, where there is something; nothing is made. */
  peek(cell: Cell): ResidentModels | undefined {
    const models = this.#held.get(cell.id);
    return models?.incarnation === cell.incarnation ? models : undefined;
  }

  /** The replica has ended. What it held. */
  drop(cell: Cell): ResidentModels | undefined {
    const models = this.peek(cell);
    this.#held.delete(cell.id);
    return models;
  }

  /** The one used longest ago first. */
  listOf(cell: Cell): readonly ResidentModel[] {
    const models = this.peek(cell);
    return models === undefined || models.count === 0 ? [] : [...models.leastRecent()];
  }

  holders(model: string | undefined): number {
    return this.#count(model, false);
  }

  idleHolders(model: string | undefined): number {
    return this.#count(model, true);
  }

  /** Some idle replica may run it. */
  mayRun(model: string | undefined): boolean {
    return this.#count(model, true) > 0;
  }

  /** In whatever state. */
  isHeld(key: string): boolean {
    for (const models of this.#held.values()) if (models.get(key) !== undefined) return true;
    return false;
  }

  /** Some replica loads or unloads something. */
  get isChanging(): boolean {
    for (const models of this.#held.values()) if (models.isChanging) return true;
    return false;
  }

  #count(model: string | undefined, isIdle: boolean): number {
    let count = 0;
    const { list } = this.#fleet;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (isIdle && cell.flights.length > 0) continue;
      if (this.#fleet.serves(cell) && this.of(cell).mayRun(model)) count++;
    }
    return count;
  }
}
