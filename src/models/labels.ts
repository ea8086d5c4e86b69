import type { Within } from './files.js';
import { readSmallFile, refused } from './files.js';
import { TroupeError } from '../kernel/errors.js';
import type { ModelConfigFile } from './model-config.js';
import { objectionToPath } from './model-file.js';

/**
 * What the classes of a model's outputs are called: `label_filename` of its config.pbtxt, a file in the directory of the
 * model with one label a line. Read when the model is located, so that a version never serves with a file that is missing.
 */

/** By output, and then by index; an empty label is none. Outputs without a file are not there. */
export type ModelLabels = ReadonlyMap<string, readonly string[]>;

export const NO_LABELS: ModelLabels = new Map();

/** Of all label files of a model together. */
const LABELS_BYTES_MAX = 4 * 1024 * 1024;
const UTF8 = new TextDecoder('utf-8', { fatal: true });

/**
 * `within`: the directory of the model. Throws MODEL_CONFIG_INVALID where a file is not there or is not UTF-8, MODEL_REFUSED
 * where it is no plain file below that directory, or too large.
 */
export function readLabels(within: Within, config: ModelConfigFile | undefined): ModelLabels {
  const labels = new Map<string, readonly string[]>();
  let left = LABELS_BYTES_MAX;
  for (const { name = '', label_filename: file = '' } of config?.config.output ?? []) {
    if (file === '') continue;
    const objection = objectionToPath(file);
    if (objection !== undefined) throw refused(`The label file ${JSON.stringify(file)} of ${within.dir}`, objection);
    const bytes = readSmallFile(within, file, left);
    if (bytes === undefined) throw invalid(config, `there is no file ${file} in ${within.dir}`);
    left -= bytes.length;
    labels.set(
      name,
      linesOf(bytes, () => invalid(config, `expected UTF-8 text in ${file}, found other bytes`)),
    );
  }
  return labels;
}

/** As an editor of any system ends them. */
function linesOf(bytes: Buffer, notText: () => TroupeError): readonly string[] {
  try {
    return UTF8.decode(bytes).split(/\r?\n/);
  } catch {
    throw notText();
  }
}

function invalid(config: ModelConfigFile | undefined, problem: string): TroupeError {
  const { line, col } = config?.places.get('output.label_filename') ?? { line: 1, col: 1 };
  return new TroupeError('MODEL_CONFIG_INVALID', `${config?.file}:${line}:${col}: output.label_filename: ${problem}`);
}
