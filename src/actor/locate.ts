import { existsSync, readdirSync, statSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { TroupeError } from '../kernel/errors.js';
import { readyMade, readyMadeNames, type ResolvedActor } from './ready-made.js';

/**
 * Finds what `spawn` names: the actor's module and the model's version directory. The door to the file system of this
 * room; only looks, never loads.
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

export interface LocatedModel {
  /** Absolute `<model>/<version>`. */
  readonly modelDir: string;
  readonly version: string;
}

/** Triton layout: `<model>/<version>/...`, versions are numbers; `latest` is the highest. */
export function locateModel(pool: string, model: string, version: string): LocatedModel {
  const root = resolve(model);
  const versions = listVersions(pool, root);
  const highest = versions.at(-1);
  if (highest === undefined) {
    throw new TroupeError(
      'MODEL_NOT_FOUND',
      `Model of pool "${pool}": ${root} has no version directory; expected ${join(root, '1')}`,
      { actor: pool },
    );
  }
  const wanted = version === 'latest' ? highest : version;
  if (!versions.includes(wanted)) {
    throw new TroupeError(
      'VERSION_NOT_FOUND',
      `Model of pool "${pool}" has no version ${wanted}: ${root} has ${versions.join(', ')}`,
      { actor: pool },
    );
  }
  return { modelDir: join(root, wanted), version: wanted };
}

function listVersions(pool: string, root: string): string[] {
  try {
    return readdirSync(root)
      .filter((name) => /^(0|[1-9]\d{0,15})$/.test(name) && isDirectory(join(root, name)))
      .sort((a, b) => Number(a) - Number(b));
  } catch (cause) {
    throw new TroupeError(
      'MODEL_NOT_FOUND',
      `Model of pool "${pool}" cannot be read: ${root}: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause, actor: pool },
    );
  }
}

/** A link that leads nowhere or in a loop is no version; it must not hide those beside it. */
function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
