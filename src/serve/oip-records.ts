/**
 * Between the tensors of the protocol and the records of a pool: a request whose first dimension is n is n records, and their
 * results are put together in order.
 *
 * The names of a model are looked for as they are written, then whatever their case, because a widespread client writes them
 * in capitals; answers have the spelling of the request.
 */
import { TroupeError } from '../kernel/errors.js';
import { type ModelLabels, NO_LABELS } from '../models/labels.js';
import type { NumericArray, Signature, TensorRecord, TensorSpec } from '../wire/tensor.js';
import { CLASSES_MAX, classified, refuseClasses } from './classification.js';
import { datatypeOf, makeValues } from './oip-datatype.js';
import { invalid, shownName } from './oip-invalid.js';
import type { OipRequest, RequestedOutput } from './oip-request.js';
import type { OutputTensor } from './oip-response.js';
import { elementsOf, type OipTensor, valuesFromBytes } from './oip-tensor.js';

type Value = TensorRecord[string];

/** The records of a request. Throws INPUT_INVALID where its inputs are not those of the signature. */
export function recordsFrom(
  inputs: readonly OipTensor[],
  { inputs: specs }: Signature,
  recordsMax: number,
): readonly TensorRecord[] {
  const given = matched(inputs, specs, 'input');
  let count: number | undefined;
  let counted = '';
  for (const [spec, tensor] of given) {
    const own = countOf(tensor, spec);
    if (own > recordsMax)
      throw invalid(
        `input ${shownName(tensor.name)}: shape begins with ${own}; at most ${recordsMax} records a request`,
      );
    if (count !== undefined && own !== count)
      throw invalid(`shape of input ${shownName(tensor.name)} begins with ${own}, that of ${counted} with ${count}`);
    count = own;
    counted = shownName(tensor.name);
  }
  const missing = specs.filter((spec) => !given.has(spec)).map(({ name }) => shownName(name));
  if (missing.length > 0 || count === undefined) throw invalid(`input ${missing.join(', ')} is missing`);
  const records: Record<string, Value>[] = [];
  for (let index = 0; index < count; index++) records.push(Object.create(null) as Record<string, Value>);
  for (const [{ name, shape }, { data }] of given) {
    const size = data.length / count;
    for (let index = 0; index < count; index++) {
      // Null-prototype: a tensor may be called __proto__.
      (records[index] as Record<string, Value>)[name] =
        shape.length === 0 ? (data[index] as Value) : count === 1 ? data : partOf(data, index * size, size);
    }
  }
  return records;
}

/** The one record of a body that is nothing but the bytes of the one input. */
export function rawRequest(body: Buffer, { inputs }: Signature): OipRequest {
  const [spec] = inputs;
  if (spec === undefined || inputs.length > 1)
    throw invalid(`a body without JSON is for models with one input; this one has ${inputs.length}`);
  const datatype = datatypeOf(spec.dtype);
  const where = `input ${shownName(spec.name)}`;
  const known = spec.shape.reduce((product, dim) => (dim === -1 ? product : product * dim), 1);
  const unknown = spec.shape.filter((dim) => dim === -1).length;
  const values = datatype.bytes === 0 ? 1 : body.length / datatype.bytes;
  if (unknown > 1 || (unknown === 1 && (known === 0 || !Number.isInteger(values / known))))
    throw invalid(`${where}: the shape [${spec.shape.join(', ')}] cannot be told from ${body.length} bytes`);
  const shape = [1, ...spec.shape.map((dim) => (dim === -1 ? values / known : dim))];
  if (datatype.bytes === 0 && elementsOf(shape) !== 1)
    throw invalid(`${where}: a body without JSON is one value, its shape [${shape.join(', ')}] takes more`);
  // One text of the whole body has no length before it.
  const length = Buffer.alloc(4);
  length.writeUInt32LE(datatype.bytes === 0 ? body.length : 0);
  const bytes = datatype.bytes === 0 ? Buffer.concat([length, body]) : body;
  const data = valuesFromBytes(bytes, datatype, shape, where);
  const inputTensor = { name: spec.name, datatype, shape, data };
  return { id: '', parameters: new Map(), inputs: [inputTensor], outputs: undefined, binaryOutputs: true };
}

/** Which outputs a request wants, in which spelling. Throws INPUT_INVALID for one that is not there, or has no classes. */
export function wantedOutputs(
  { outputs, binaryOutputs }: Pick<OipRequest, 'outputs' | 'binaryOutputs'>,
  { outputs: specs }: Signature,
): ReadonlyMap<TensorSpec, RequestedOutput> {
  // The flag of the request is for outputs that it does not list.
  if (outputs === undefined)
    return new Map(specs.map((spec) => [spec, { name: spec.name, isBinary: binaryOutputs, classes: 0 }]));
  const wanted = matched(outputs, specs, 'output');
  for (const [spec, { classes }] of wanted) if (classes > 0) refuseClasses(spec);
  return wanted;
}

/** The results of all records of a request as tensors; of those with classes the highest, called by `labels`. */
export function tensorsOf(
  results: readonly TensorRecord[],
  wanted: ReadonlyMap<TensorSpec, RequestedOutput>,
  labels: ModelLabels = NO_LABELS,
): readonly OutputTensor[] {
  let room = CLASSES_MAX;
  return [...wanted].map(([spec, { name, isBinary, classes }]) => {
    const tensor = tensorOf(results, spec, name);
    if (classes === 0) return { ...tensor, isBinary };
    const made = classified(tensor, classes, labels.get(spec.name), room);
    room -= made.data.length;
    return { ...made, isBinary };
  });
}

function tensorOf(results: readonly TensorRecord[], spec: TensorSpec, name: string): OipTensor {
  const datatype = datatypeOf(spec.dtype);
  const values = results.map((result) => result[spec.name] as Value);
  if (spec.shape.length === 0) return { name, datatype, shape: [values.length], data: column(datatype, values) };
  const parts = values as (NumericArray | readonly string[])[];
  const size = parts[0]?.length ?? 0;
  if (parts.some((part) => part.length !== size))
    throw unfit(name, 'is not equally long for all records of the request; send them one by one');
  return { name, datatype, shape: [parts.length, ...shapeOf(spec, size)], data: joined(spec, parts, size) };
}

type ByName = { readonly name: string };

function matched<Given extends ByName>(
  given: readonly Given[],
  specs: readonly TensorSpec[],
  what: 'input' | 'output',
): ReadonlyMap<TensorSpec, Given> {
  const found = new Map<TensorSpec, Given>();
  for (const one of given) {
    const spec = named(one.name, specs);
    if (spec === undefined) {
      const known = specs.map(({ name }) => shownName(name)).join(', ');
      throw invalid(`there is no ${what} ${shownName(one.name)}; the model has ${known}`);
    }
    if (found.has(spec)) throw invalid(`${what} ${shownName(spec.name)} is given twice`);
    found.set(spec, one);
  }
  return found;
}

function named(name: string, specs: readonly TensorSpec[]): TensorSpec | undefined {
  const exact = specs.find((spec) => spec.name === name);
  if (exact !== undefined) return exact;
  const folded = name.toLowerCase();
  const like = specs.filter((spec) => spec.name.toLowerCase() === folded);
  return like.length === 1 ? like[0] : undefined;
}

/** How many records a tensor holds. One without the first dimension is one record. */
function countOf({ name, datatype, shape }: OipTensor, spec: TensorSpec): number {
  const wanted = datatypeOf(spec.dtype);
  if (datatype !== wanted)
    throw invalid(`input ${shownName(name)}: the model takes ${wanted.name}, got ${datatype.name}`);
  const isWhole = shape.length === spec.shape.length + 1;
  const own = isWhole ? shape.slice(1) : shape;
  const fits = own.length === spec.shape.length && spec.shape.every((dim, at) => dim === -1 || dim === own[at]);
  const count = isWhole ? (shape[0] as number) : 1;
  if (fits && count > 0) return count;
  const expected = `[${[-1, ...spec.shape].join(', ')}]`;
  const why = fits ? '; a request has one record at least' : '';
  throw invalid(`input ${shownName(name)}: shape must be ${expected}, got [${shape.join(', ')}]${why}`);
}

function partOf(data: OipTensor['data'], from: number, size: number): Value {
  return Array.isArray(data) ? data.slice(from, from + size) : (data as NumericArray).subarray(from, from + size);
}

function column(datatype: ReturnType<typeof datatypeOf>, values: readonly Value[]): OipTensor['data'] {
  if (datatype.json === 'text') return values as readonly string[];
  const data = makeValues(datatype, values.length) as { [index: number]: unknown; length: number };
  for (let index = 0; index < values.length; index++) data[index] = values[index];
  return data as unknown as NumericArray;
}

function joined(
  spec: TensorSpec,
  parts: readonly (NumericArray | readonly string[])[],
  size: number,
): OipTensor['data'] {
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  if (spec.dtype === 'string') return (parts as readonly string[][]).flat();
  const data = makeValues(datatypeOf(spec.dtype), size * parts.length) as Float32Array;
  // All are of the class of the dtype: the pool has checked them.
  for (let index = 0; index < parts.length; index++) data.set(parts[index] as Float32Array, index * size);
  return data;
}

/** Of one record: a result has its values alone, so that one dimension of unknown size can be told from them, not two. */
function shapeOf({ name, shape }: TensorSpec, size: number): readonly number[] {
  const unknown = shape.filter((dim) => dim === -1).length;
  if (unknown === 0) return shape;
  if (unknown > 1) throw unfit(name, `has ${unknown} dimensions of unknown size, which cannot be told from its values`);
  const known = shape.reduce((product, dim) => (dim === -1 ? product : product * dim), 1);
  return shape.map((dim) => (dim === -1 ? (known === 0 ? 0 : size / known) : dim));
}

function unfit(name: string, why: string): TroupeError {
  return new TroupeError('SIGNATURE_MISMATCH', `output ${shownName(name)} ${why}`);
}
