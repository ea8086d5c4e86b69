import path from 'node:path';
import { TroupeError } from '../kernel/errors.js';
import { stepsOf } from '../models/ensemble.js';
import type { ModelConfig } from '../models/model-config-fields.js';
import { type StepPool, stepPool } from '../models/step-pools.js';
import type { Pool } from './pool.js';
import type { PoolHealth } from './readiness.js';

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

  /** Whether the pools that an ensemble asks would answer now. */
  async health(name: string): Promise<PoolHealth> {
    const asked = [...this.#links].filter(({ from }) => from === name).flatMap(({ to }) => to);
    const healths = [...new Set(asked)].map(async (step): Promise<PoolHealth> => {
      const health = await this.#pools.get(step)?.health();
      if (health?.ready === true) return health;
      const why = health === undefined ? 'gone' : `not ready: ${health.why}`;
      return { ready: false, why: `a pool that it asks is ${why}` };
    });
    return (await Promise.all(healths)).find(({ ready }) => !ready) ?? { ready: true };
  }

  /** Steps by the names under which their models are served, which are those of their pools. */
  shown({ step: steps = [], max_inflight_requests: most = 0 }: EnsembleScheduling): ShownScheduling {
    return {
      step: steps.map(({ model_name: model = '', model_version: version, input_map = {}, output_map = {} }) => {
        const found = this.find(model);
        const name = typeof found === 'string' ? model : (found.model ?? found.pool);
        // What is not said is 0 in protobuf, and -1 says the same.
        return { model_name: name, model_version: version || -1, input_map, output_map };
      }),
      max_inflight_requests: most,
    };
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

  /** The pools there are, each after those that it asks, else in the order of their spawning. */
  inOrder(): readonly string[] {
    const order = new Set<string>();
    const links = [...this.#links];
    // No circle: `enter` lets none in.
    const visit = (name: string): void => {
      if (order.has(name)) return;
      for (const { from, to } of links) if (from === name) for (const asked of to) visit(asked);
      order.add(name);
    };
    for (const name of this.#pools.keys()) visit(name);
    return [...order].filter((name) => this.#pools.has(name));
  }

  /** Until `leave`, `from` asks these. Throws MODEL_CONFIG_INVALID where it would come to ask itself. */
  enter(from: string, to: readonly string[]): EnsembleLink {
    const link = { from, to };
    this.#links.add(link);
    const circle = this.#circleOf(from);
    if (circle === undefined) return link;
    this.leave(link);
    const message = `Pool "${from}": ensembles ask each other in a circle: ${circle.join(' -> ')}`;
    throw new TroupeError('MODEL_CONFIG_INVALID', message, { actor: from });
  }

  leave(link: EnsembleLink): void {
    this.#links.delete(link);
  }

  /** The way from `start` back to it, if there is one. */
  #circleOf(start: string): readonly string[] | undefined {
    const asked = new Map<string, Set<string>>();
    for (const { from, to } of this.#links) {
      const known = asked.get(from) ?? new Set();
      asked.set(from, new Set([...known, ...to]));
    }
    const seen = new Set<string>();
    const visit = (trail: readonly string[]): readonly string[] | undefined => {
      for (const next of asked.get(trail.at(-1) as string) ?? []) {
        if (next === start) return [...trail, next];
        if (seen.has(next)) continue;
        seen.add(next);
        const circle = visit([...trail, next]);
        if (circle !== undefined) return circle;
      }
      return undefined;
    };
    return visit([start]);
  }
}

export type EnsembleScheduling = NonNullable<ModelConfig['ensemble_scheduling']>;

/** As Triton shows it, every field there. */
export interface ShownScheduling {
  readonly step: readonly {
    readonly model_name: string;
    readonly model_version: number;
    readonly input_map: Readonly<Record<string, string>>;
    readonly output_map: Readonly<Record<string, string>>;
  }[];
  readonly max_inflight_requests: number;
}

/** An ensemble that is loaded or is about to be, and the pools it asks. */
export interface EnsembleLink {
  readonly from: string;
  readonly to: readonly string[];
}
