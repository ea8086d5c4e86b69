import path from 'node:path';
import { mayShareFiles, type OpenFile, openFile, refused } from './files.js';

/**
 * Opens a file of a version for an actor, judged as the repository judges: a plain file of its own, in its place, reached
 * through no link, pipe or device. What it gives reads from what was judged, whatever happens to the path meanwhile.
 *
 * `modelDir`: as load() gets it. `name`: below it, parts divided by `/`. Close it. Rejects with MODEL_NOT_FOUND,
 * MODEL_REFUSED (a way out of the directory, a link, no plain file) or MODEL_INVALID (reading it is not permitted).
 */
export async function openModelFile(modelDir: string, name: string): Promise<OpenFile> {
  const dir = path.resolve(modelDir);
  const objection = objectionToPath(name);
  if (objection !== undefined) throw refused(`The file ${shown(name)} of ${dir}`, objection);
  // <root>/<model>/<version>: the root alone says whether files may have second names.
  return openFile({ dir, mayShare: mayShareFiles(path.dirname(path.dirname(dir))) }, name);
}

/**
 * Opens a file of the directory `warmup` beside the versions of a model, judged as those of a version are. `modelDir`: that
 * of the version. Rejects as openModelFile does.
 */
export async function openWarmUpFile(modelDir: string, name: string): Promise<OpenFile> {
  const model = path.dirname(path.resolve(modelDir));
  const dir = path.join(model, 'warmup');
  const objection = objectionToPath(name);
  if (objection !== undefined) throw refused(`The file ${shown(name)} of ${dir}`, objection);
  return openFile({ dir, mayShare: mayShareFiles(path.dirname(model)) }, name);
}

/** Why a path cannot be one below a model's directory; undefined where it can. An allow-list, on every system the same. */
export function objectionToPath(name: string): string | undefined {
  if (name.length > PATH_MAX) return `its path has ${name.length} characters`;
  if (name.startsWith('/')) return 'it is an absolute path';
  for (const part of name.split('/')) {
    if (part === '..') return 'it leads out of the directory';
    if (part === '' || part === '.') return 'its path has empty parts';
    if (!PART.test(part)) return 'its path has characters that are not for file names';
  }
  return undefined;
}

const PATH_MAX = 1024;
/** No separators or drives of other systems, no wildcards, nothing that cannot be seen. */
const PART = /^[^\\:*?"<>|\p{C}]{1,255}$/u;

function shown(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name);
}
