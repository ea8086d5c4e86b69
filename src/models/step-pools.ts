/**
 * Which pool answers for the model of a step: the pool of that name; without one, the pool whose model's directory has
 * that name; without one, the pool of many models that has it.
 */

/** A pool there is, or is to be. */
export interface PoolPlace {
  readonly name: string;
  /** Name of its model's directory. */
  readonly model: string | undefined;
  /** The names that can be asked for, in a pool of many models. */
  readonly models: (() => readonly string[]) | undefined;
}

export interface StepPool {
  readonly pool: string;
  /** What a record is to name, in a pool of many models. */
  readonly model: string | undefined;
}

/** The pool, or in words why there is none that is meant. */
export function stepPool(model: string, pools: readonly PoolPlace[]): StepPool | string {
  const single = pools.filter(({ models }) => models === undefined);
  const named = single.find(({ name }) => name === model);
  if (named !== undefined) return { pool: named.name, model: undefined };
  const holders = single.filter((pool) => pool.model === model);
  if (holders.length > 0) return only(model, holders, undefined);
  const many = pools.filter(({ models }) => models?.().includes(model) === true);
  if (many.length > 0) return only(model, many, model);
  const there = pools.slice(0, SHOWN_MAX).map(({ name }) => name);
  const others = there.length === 0 ? 'there are none' : `there are ${there.join(', ')}`;
  return `no pool is called ${JSON.stringify(model)} or has a model of that name; ${others}`;
}

const SHOWN_MAX = 16;

function only(name: string, pools: readonly PoolPlace[], model: string | undefined): StepPool | string {
  const [first, second] = pools;
  if (first !== undefined && second === undefined) return { pool: first.name, model };
  const all = pools.map((pool) => pool.name).join(' and ');
  return `the pools ${all} have it, and none is called ${JSON.stringify(name)}; call the one so that is meant`;
}
