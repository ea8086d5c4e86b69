import { TroupeError } from '../kernel/errors.js';
import { shownName } from './oip-invalid.js';
import type { OipResponse } from './oip-response.js';
import { elementsOf, type NonFinite, valuesToJson } from './oip-tensor.js';

const NAMES: ReadonlySet<string> = new Set(['id', 'model_name', 'model_version']);

/**
 * An answer of Triton's generate extension: each output by its name, flat, and one that has a single value as that value.
 * Throws INPUT_INVALID where an output cannot be JSON, SIGNATURE_MISMATCH where its name is taken.
 */
export function generateBody({ modelName, modelVersion, id, outputs }: OipResponse, nonFinite: NonFinite): string {
  const said = id === '' ? [] : [`"id":${JSON.stringify(id)}`];
  const parts = outputs.map((output) => {
    const { name, shape } = output;
    if (NAMES.has(name))
      throw new TroupeError(
        'SIGNATURE_MISMATCH',
        `output ${shownName(name)} has a name that answers of generate have themselves; ask by infer`,
      );
    const values = valuesToJson(output, nonFinite);
    return `${JSON.stringify(name)}:${elementsOf(shape) === 1 ? values.slice(1, -1) : values}`;
  });
  const model = [`"model_name":${JSON.stringify(modelName)}`, `"model_version":${JSON.stringify(modelVersion)}`];
  return `{${[...said, ...model, ...parts].join(',')}}`;
}
