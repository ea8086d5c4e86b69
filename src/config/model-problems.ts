import { isTroupeError } from '../kernel/errors.js';
import { LATEST } from '../models/names.js';
import { ModelRepository } from '../models/repository.js';
import type { LoadedConfig } from './load.js';
import { pathText, type Problem } from './problem.js';
import { nodeAt } from './yaml-tree.js';

/**
 * Models and versions that pools name and that are not there, or cannot be taken as they lie: what the start of a pool would
 * say, without loading one. Apart from reading the file: a model may come later than it, and a pool without one fails alone.
 */
export async function modelProblems({ config, tree }: LoadedConfig): Promise<readonly Problem[]> {
  const problems: Problem[] = [];
  const look = async (models: ModelRepository, model: string, version: string, key: readonly PropertyKey[]) => {
    try {
      await models.locate(model, version);
    } catch (error) {
      if (!isTroupeError(error)) throw error;
      problems.push({ at: nodeAt(tree, key).node.at, path: pathText(key), text: error.message });
    }
  };
  const models = new ModelRepository(config.models);
  for (const [name, { model, version, models: many }] of Object.entries(config.pools)) {
    const key = ['pools', name];
    if (model !== undefined) await look(models, model, version, [...key, 'model']);
    const within = many?.root === undefined ? models : models.withRoots([many.root]);
    // Without directories a list is names that the actor knows.
    const list = within.roots.length === 0 ? [] : (many?.list ?? []);
    for (const [index, ref] of list.entries()) {
      const [part = '', of = LATEST] = ref.split('@');
      await look(within, part, of, [...key, 'models', 'list', index]);
    }
  }
  return problems;
}
