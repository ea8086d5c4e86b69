/**
 * The body of a request of Triton's generate extension: plain JSON, whose properties, and those of its `parameters`, are the
 * inputs of the model by their names, and parameters where there is no such input.
 *
 * As in oip-request.ts, whatever the bytes are, the outcome is a request or a TroupeError (PARSE_FAILED, INPUT_INVALID), and
 * names of a request are never looked up in an object.
 */
import type { TensorSpec } from '../wire/tensor.js';
import { datatypeOf } from './oip-datatype.js';
import { invalid, shownName, shownValue } from './oip-invalid.js';
import {
  countNames,
  idFrom,
  type OipParameter,
  type OipRequest,
  objectOf,
  readJson,
  refuseMany,
  refuseReserved,
} from './oip-request.js';
import { type NonFinite, type OipTensor, valuesFromJson } from './oip-tensor.js';

const ID = 'id';
const PARAMETERS = 'parameters';

export interface GenerateRequest {
  /** '' where it has none. */
  readonly id: string;
  /** Inputs and parameters; nothing is known of their values. */
  readonly fields: ReadonlyMap<string, unknown>;
}

/** Throws PARSE_FAILED or INPUT_INVALID. */
export function readGenerate(body: Buffer): GenerateRequest {
  const root = readJson(body, 'the request');
  const nested = objectOf(root[PARAMETERS] ?? {}, PARAMETERS);
  // Of inputs there are no more either.
  refuseMany(countNames(root), 'the request');
  refuseMany(countNames(nested), 'the request');
  const outer = Object.entries(root).filter(([name]) => name !== PARAMETERS && name !== ID);
  const fields = new Map<string, unknown>();
  for (const [name, value] of [...outer, ...Object.entries(nested)]) {
    if (fields.has(name)) throw invalid(`${shownName(name)} is given twice: in the request, and in its parameters`);
    refuseReserved(name, 'the request');
    fields.set(name, value);
  }
  refuseMany(fields.size, 'the request');
  return { id: idFrom(root[ID] ?? ''), fields };
}

/** For a model that takes these inputs. */
export function tensorRequest(
  { id, fields }: GenerateRequest,
  specs: readonly TensorSpec[],
  nonFinite: NonFinite,
): OipRequest {
  const inputs: OipTensor[] = [];
  const parameters = new Map<string, OipParameter>();
  // A model may have an input of that name besides.
  const isInput = id !== '' && specs.some(({ name }) => name === ID);
  for (const [name, value] of isInput ? [...fields, [ID, id] as const] : fields) {
    const spec = specs.find((one) => one.name === name);
    if (spec === undefined) parameters.set(name, parameterOf(name, value));
    else inputs.push(inputOf(spec, value, nonFinite));
  }
  return { id, parameters, inputs, outputs: undefined, binaryOutputs: false };
}

function parameterOf(name: string, value: unknown): OipParameter {
  switch (typeof value) {
    case 'string':
    case 'number':
    case 'bigint':
    case 'boolean':
      return value;
    default:
      throw invalid(
        `${shownName(name)} is no input of the model, so it must be a string, a number or a boolean, got ${shownValue(value)}`,
      );
  }
}

function inputOf({ name, dtype, shape: dims }: TensorSpec, value: unknown, nonFinite: NonFinite): OipTensor {
  const where = `input ${shownName(name)}`;
  const data: readonly unknown[] = Array.isArray(value) ? value : [value];
  const datatype = datatypeOf(dtype);
  const shape = shapeFor([-1, ...dims], leavesOf(data), where);
  return { name, datatype, shape, data: valuesFromJson(data, datatype, shape, where, nonFinite) };
}

/** As Triton tells it: the innermost dimension of unknown size takes what the others, which are 1, leave over. */
function shapeFor(dims: readonly number[], count: number, where: string): readonly number[] {
  const known = dims.reduce((product, dim) => (dim === -1 ? product : product * dim), 1);
  const left = known === 0 && count === 0 ? 1 : count / known;
  if (!Number.isInteger(left))
    throw invalid(`${where}: shape [${dims.join(', ')}] cannot be made of ${count} value${count === 1 ? '' : 's'}`);
  const innermost = dims.lastIndexOf(-1);
  return dims.map((dim, at) => (dim !== -1 ? dim : at === innermost ? left : 1));
}

/** How many values there are, nested or not. */
function leavesOf(data: readonly unknown[]): number {
  let count = 0;
  const open: (readonly unknown[])[] = [data];
  for (let list = open.pop(); list !== undefined; list = open.pop())
    for (const value of list) {
      if (Array.isArray(value)) open.push(value);
      else count++;
    }
  return count;
}
