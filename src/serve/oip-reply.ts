/**
 * What a remote server of the Open Inference Protocol answers, as columns and signatures. All of it is foreign: what is not
 * exactly what was asked for is a TroupeError (PARSE_FAILED, INPUT_INVALID), and nothing is allocated for what an answer
 * only says it holds.
 */
import type { Column, Columns, Signature, TensorSpec } from '../wire/tensor.js';
import { invalid, shownName, shownValue } from './oip-invalid.js';
import { Blobs, datatypeFrom, listOf, nameOf, objectOf, readHeaderLength, readJson } from './oip-request.js';
import { type OipTensor, RANK_MAX, readShape, valuesFromBytes, valuesFromJson } from './oip-tensor.js';

/** The outputs of `specs` of an answer about so many records. `headerLength`: its Inference-Header-Content-Length. */
export function decodeReply(
  body: Buffer,
  headerLength: string | undefined,
  specs: readonly TensorSpec[],
  count: number,
): Columns {
  const jsonBytes = headerLength === undefined ? body.length : readHeaderLength(headerLength, body.length);
  const root = readJson(body.subarray(0, jsonBytes), 'the answer');
  const blobs = new Blobs(body.subarray(jsonBytes), headerLength !== undefined);
  const tensors = new Map<string, OipTensor>();
  for (const value of listOf(root['outputs'], 'outputs')) {
    const tensor = readTensor(value, blobs);
    if (tensors.has(tensor.name)) throw invalid(`output ${shownName(tensor.name)} is there twice`);
    tensors.set(tensor.name, tensor);
  }
  blobs.end();
  return columnsOf(tensors, specs, count);
}

/** The outputs that were asked for, each as it has to be for so many records. */
export function columnsOf(
  tensors: ReadonlyMap<string, OipTensor>,
  specs: readonly TensorSpec[],
  count: number,
): Columns {
  const columns: Record<string, Column> = Object.create(null) as Record<string, Column>;
  for (const spec of specs) columns[spec.name] = columnOf(tensors.get(spec.name), spec, count);
  return { count, columns };
}

/** Of the metadata of a model. `wanted`: which of its outputs; undefined for all. */
export function signatureIn(root: Readonly<Record<string, unknown>>, wanted: readonly string[] | undefined): Signature {
  const inputs = listOf(root['inputs'], 'inputs').map((value) => readSpec(value, 'input'));
  const outputs = listOf(root['outputs'], 'outputs')
    .filter((value) => wanted === undefined || wanted.includes(objectOf(value, 'an output')['name'] as string))
    .map((value) => readSpec(value, 'output'));
  const missing = wanted?.find((name) => !outputs.some((output) => output.name === name));
  if (missing !== undefined) throw invalid(`there is no output ${shownName(missing)}`);
  if (inputs.length === 0 || outputs.length === 0) throw invalid('a model has one input and one output at least');
  for (const specs of [inputs, outputs])
    if (new Set(specs.map(({ name }) => name)).size < specs.length) throw invalid('two tensors have one name');
  return { inputs, outputs };
}

function readTensor(value: unknown, blobs: Blobs): OipTensor {
  const output = objectOf(value, 'an output');
  const name = nameOf(output['name'], 'an output');
  const where = `output ${shownName(name)}`;
  const datatype = datatypeFrom(output['datatype'], where);
  const shape = readShape(output['shape'], where);
  // Some servers write null for what is not there.
  const parameters = objectOf(output['parameters'] ?? {}, `parameters of ${where}`);
  const data = output['data'] ?? undefined;
  if (!Object.hasOwn(parameters, 'binary_data_size')) {
    const values = valuesFromJson(data, datatype, shape, where, 'bare');
    return { name, datatype, shape, data: values };
  }
  const size = parameters['binary_data_size'];
  if (data !== undefined) throw invalid(`${where}: it has both data and binary_data_size`);
  const bytes = blobs.take(typeof size === 'number' ? size : shownValue(size), where);
  return { name, datatype, shape, data: valuesFromBytes(bytes, datatype, shape, where) };
}

function columnOf(tensor: OipTensor | undefined, { name, dtype, shape }: TensorSpec, count: number): Column {
  const where = `output ${shownName(name)}`;
  if (tensor === undefined) throw invalid(`${where} is missing`);
  if (tensor.datatype.dtype !== dtype)
    throw invalid(`${where}: its metadata say ${dtype}, got ${tensor.datatype.name}`);
  const [first, ...own] = tensor.shape;
  const fits = own.length === shape.length && shape.every((dim, at) => dim === -1 || dim === own[at]);
  if (first !== count || !fits)
    throw invalid(`${where}: shape must be [${[count, ...shape].join(', ')}], got [${tensor.shape.join(', ')}]`);
  return { dtype, shape: own, data: tensor.data as Column['data'] };
}

function readSpec(value: unknown, what: 'input' | 'output'): TensorSpec {
  const tensor = objectOf(value, `an ${what}`);
  const name = nameOf(tensor['name'], `an ${what}`);
  const where = `${what} ${shownName(name)}`;
  const { dtype } = datatypeFrom(tensor['datatype'], where);
  if (dtype === undefined) {
    const advice = what === 'output' ? '; name the outputs you want in options.outputs' : '';
    throw invalid(`${where} is ${String(tensor['datatype'])}, which has no type here${advice}`);
  }
  const { shape } = tensor;
  if (!Array.isArray(shape) || shape.length > RANK_MAX || !shape.every(isDimension))
    throw invalid(`${where}: shape must be dimensions from 1, or -1, got ${shownValue(shape)}`);
  const [first, ...own] = shape;
  if (first !== -1)
    throw invalid(
      `${where}: shape [${shape.join(', ')}] must begin with -1, the batch; a model without batches is not called`,
    );
  return { name, dtype, shape: own };
}

function isDimension(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= -1 && (value as number) <= 2 ** 31;
}
