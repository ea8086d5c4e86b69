import path from 'node:path';
import { ENSEMBLE } from '../actor/ready-made.js';
import { isTroupeError, type TroupeError } from '../kernel/errors.js';
import { dtypeOf } from '../models/declared-signature.js';
import { type EnsembleStep, type Refuse, stepsOf } from '../models/ensemble.js';
import { ensembleSignature } from '../models/ensemble-tensors.js';
import { type ModelConfigFile, placeIn } from '../models/model-config.js';
import type { ModelConfig } from '../models/model-config-fields.js';
import { ModelRepository } from '../models/repository.js';
import { type PoolPlace, stepPool } from '../models/step-pools.js';
import type { DType, Signature, TensorSpec } from '../wire/tensor.js';
import type { Config } from './schema.js';

/**
 * The ensembles of a file: which pools they ask, and what is wrong with them as far as it can be known before anything runs,
 * which are steps without a pool, and tensors that are not as the models of the steps declare them. The rest is told when the
 * ensemble starts.
 */

/** By pool, one problem at most. */
export function ensembleProblems(config: Config): ReadonlyMap<string, string> {
  const models = new ModelRepository(config.models);
  const places = Object.entries(config.pools).map(([name, pool]) => placeOf(name, pool, models));
  const problems = new Map<string, string>();
  for (const [name, { actor, model }] of Object.entries(config.pools)) {
    if (actor !== ENSEMBLE || model === undefined) continue;
    const file = fileOf(model, models);
    // Where there is no such model, or none that can be read, others tell.
    if (file === undefined || isTroupeError(file)) continue;
    const problem = problemOf(file, places, config.pools, models);
    if (problem !== undefined) problems.set(name, problem);
  }
  return problems;
}

/** These pools of a file, and those that the ensembles among them ask. */
export function withAsked(config: Config, names: Iterable<string>): ReadonlySet<string> {
  const models = new ModelRepository(config.models);
  const places = Object.entries(config.pools).map(([name, pool]) => placeOf(name, pool, models));
  const wanted = new Set(names);
  // What is added while it is gone through is gone through too.
  for (const name of wanted) {
    const { actor, model } = config.pools[name] ?? {};
    const file = actor === ENSEMBLE && model !== undefined ? fileOf(model, models) : undefined;
    if (file === undefined || isTroupeError(file)) continue;
    for (const step of stepsOf(file.config)) {
      const found = stepPool(step.model, places);
      if (typeof found !== 'string') wanted.add(found.pool);
    }
  }
  return wanted;
}

/** 0 for a pool that is no ensemble; for an ensemble more than for any ensemble that it asks. */
export function ensembleRank(config: Config, name: string): number {
  if (config.pools[name]?.actor !== ENSEMBLE) return 0;
  try {
    return withAsked(config, [name]).size;
  } catch (error) {
    // Models that cannot be looked at are told where they are used.
    if (isTroupeError(error)) return 1;
    throw error;
  }
}

type Pools = Config['pools'];

function placeOf(name: string, pool: Pools[string], models: ModelRepository): PoolPlace {
  const { model, models: many } = pool;
  return {
    name,
    model: model === undefined ? undefined : path.basename(model),
    models:
      many === undefined
        ? undefined
        : () => many.list?.map((ref) => ref.split('@')[0] as string) ?? within(many.root, models).names(),
  };
}

function within(root: string | undefined, models: ModelRepository): ModelRepository {
  return root === undefined ? models : models.withRoots([root]);
}

function fileOf(model: string, models: ModelRepository): ModelConfigFile | TroupeError | undefined {
  try {
    return models.config(model);
  } catch (error) {
    if (isTroupeError(error)) return error;
    throw error;
  }
}

function problemOf(
  file: ModelConfigFile,
  places: readonly PoolPlace[],
  pools: Pools,
  models: ModelRepository,
): string | undefined {
  const { config } = file;
  if (config.ensemble_scheduling === undefined)
    return `${file.file} has no ensemble_scheduling, which actor ensemble needs`;
  const refuse: Refuse = (field, problem, holder, key) => {
    throw new Problem(`${placeIn(file, field, holder, key)}: ${field}: ${problem}`);
  };
  try {
    ensembleSignature(
      config,
      (step) => {
        const found = stepPool(step.model, places);
        if (typeof found !== 'string') return declaredSignature(step, found.model, pools[found.pool], models);
        return refuse(
          'ensemble_scheduling.step',
          `${step.title}: ${found}`,
          config.ensemble_scheduling?.step,
          step.index,
        );
      },
      refuse,
    );
    return undefined;
  } catch (error) {
    if (error instanceof Problem) return error.message;
    throw error;
  }
}

class Problem extends Error {}

/** What the config.pbtxt of the step's model declares; undefined where that is not all of it. */
function declaredSignature(
  step: EnsembleStep,
  one: string | undefined,
  pool: Pools[string] | undefined,
  models: ModelRepository,
): Signature | undefined {
  const model = one ?? pool?.model;
  const file =
    model === undefined ? undefined : fileOf(model, one === undefined ? models : within(pool?.models?.root, models));
  if (file === undefined || isTroupeError(file)) return undefined;
  const { input = [], output = [], max_batch_size: maxBatch = 0 } = file.config;
  // Without a batch size the dims may hold the dimension of the batch: only the model can tell.
  if (input.length === 0 || output.length === 0 || maxBatch <= 0) return undefined;
  const mapped = new Set(step.inputs.map(([key]) => key));
  const needed = input.filter(({ name = '', optional = false }) => !optional || mapped.has(name));
  return { inputs: needed.map(specOf), outputs: output.map(specOf) };
}

function specOf({ reshape, ...tensor }: NonNullable<ModelConfig['output']>[number]): TensorSpec {
  const { name = '', dims = [] } = tensor;
  return { name, dtype: dtypeOf(tensor) as DType, shape: reshape === undefined ? dims : (reshape.shape ?? []) };
}
