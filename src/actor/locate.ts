import { existsSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import type { ModelConfigFile } from '../models/model-config.js';
import type { LocatedModel, ModelRepository } from '../models/repository.js';
import { readyMade, readyMadeNames, type ResolvedActor } from './ready-made.js';

/**
 * Finds what `spawn` names: the actor's module, and through the repository the model's version directory. The door to the
 * file system of this room; only looks, never loads.
 */

/** A module of unknown make may hold native code, so it gets a process unless the pool says otherwise. */
export function locateActor(pool: string, actor: string): ResolvedActor {
  const named = readyMade(actor);
  if (named !== undefined) return named;
  const url = actor.startsWith('file:') ? actor : pathToFileURL(isAbsolute(actor) ? actor : resolve(actor)).href;
  const path = fileURLToPath(url);
  if (!existsSync(path)) {
    throw new TroupeError(
      'ACTOR_INVALID',
      `Actor of pool "${pool}" not found: ${path}. Expected a module file, or a ready-made actor: ${readyMadeNames.join(', ')}`,
      { actor: pool },
    );
  }
  if (!/\.[cm]?js$/.test(path)) {
    throw new TroupeError(
      'ACTOR_INVALID',
      `Actor of pool "${pool}" must be a JavaScript module, got ${path}. Compile TypeScript first and name the .js file`,
      { actor: pool },
    );
  }
  return { url, isolation: 'process' };
}

/** Where a version lies, with the pool named in every error. Rejects as `ModelRepository.locate` does. */
export async function locateModel(
  pool: string,
  models: ModelRepository,
  model: string,
  version: string,
): Promise<LocatedModel> {
  try {
    return await models.locate(model, version);
  } catch (error) {
    throw ofPool(pool, error);
  }
}

/** What the model's config.pbtxt says of the pool; nothing where there is no model yet: the start of the pool tells. */
export function modelDefaults(pool: string, models: ModelRepository, model: string): ModelConfigFile | undefined {
  try {
    return models.config(model);
  } catch (error) {
    if (isTroupeError(error) && error.code === 'MODEL_NOT_FOUND') return undefined;
    throw ofPool(pool, error);
  }
}

function ofPool(pool: string, error: unknown): unknown {
  if (!isTroupeError(error)) return error;
  return new TroupeError(error.code, `Pool "${pool}": ${error.message}`, { cause: error.cause, actor: pool });
}
