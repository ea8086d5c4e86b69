import { TroupeError } from '../kernel/errors.js';
import { stepsOf } from '../models/ensemble.js';
import type { ModelConfig } from '../models/model-config-fields.js';
import { type StepPool, stepPool } from '../models/step-pools.js';
import path from 'node:path';
import type { Pool } from './pool.js';

/**
 * The ensembles of one system and the pools that they ask. Knows who asks whom, so that no ensemble comes to ask itself by
 * way of another: apart from that, pools never wait for those who ask them, and so nothing here can lock up.
 */
export class Ensembles {
  readonly #pools: ReadonlyMap<string, Pool<any, any>>;
  readonly #links = new Set<EnsembleLink>();

  constructor(pools: ReadonlyMap<string, Pool<any, any>>) {
    this.#pools = pools;
  }

  pool(name: string): Pool<any, any> | undefined {
    return this.#pools.get(name);
  }

  /** The pool for the model of a step, or in words why there is none. */
  find(model: string): StepPool | string {
    const places = [...this.#pools].map(([name, pool]) => ({
      name,
      model: pool.model === undefined ? undefined : path.basename(pool.model),
      models: pool.holdsManyModels ? () => pool.modelNames() : undefined,
    }));
    return stepPool(model, places);
  }

  /**
   * Resolves when the pools that the ensemble will ask are up; those that are not there are left to its load to tell.
   * `startOf`: of one that is starting. Rejects with ACTOR_LOAD_FAILED where one did not start, and as `enter` throws.
   */
  async stepsUp(
    name: string,
    config: ModelConfig,
    startOf: (pool: string) => Promise<void> | undefined,
  ): Promise<void> {
    const link = this.enter(name, this.askedBy(config));
    try {
      for (const pool of link.to) {
        await startOf(pool)?.catch((cause: unknown) => {
          const why = cause instanceof Error ? cause.message : String(cause);
          const message = `Pool "${name}": its pool "${pool}" did not start: ${why}`;
          throw new TroupeError('ACTOR_LOAD_FAILED', message, { actor: name, cause });
        });
      }
    } finally {
      this.leave(link);
    }
  }

  /** The pools that an ensemble of this configuration asks, as far as there are any. */
  askedBy(config: ModelConfig): readonly string[] {
    const found = stepsOf(config).map(({ model }) => this.find(model));
    return [...new Set(found.flatMap((place) => (typeof place === 'string' ? [] : place.pool)))];
  }

  /** Until `leave`, `from` asks these. Throws MODEL_CONFIG_INVALID where it would come to ask itself. */
  enter(from: string, to: readonly string[]): EnsembleLink {
    const link = { from, to };
    this.#links.add(link);
    const circle = this.#circle([from]);
    if (circle === undefined) return link;
    this.leave(link);
    const message = `Pool "${from}": ensembles ask each other in a circle: ${circle.join(' -> ')}`;
    throw new TroupeError('MODEL_CONFIG_INVALID', message, { actor: from });
  }

  leave(link: EnsembleLink): void {
    this.#links.delete(link);
  }

  #circle(trail: readonly string[]): readonly string[] | undefined {
    const [first] = trail;
    for (const { from, to } of this.#links) {
      if (from !== trail.at(-1)) continue;
      for (const next of to) {
        if (next === first) return [...trail, next];
        // A circle that it only leads to has been refused before.
        const circle = trail.includes(next) ? undefined : this.#circle([...trail, next]);
        if (circle !== undefined) return circle;
      }
    }
    return undefined;
  }
}

/** An ensemble that is loaded or is about to be, and the pools it asks. */
export interface EnsembleLink {
  readonly from: string;
  readonly to: readonly string[];
}
