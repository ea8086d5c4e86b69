import type { Tensor } from 'onnxruntime-node';
import { TroupeError, type Column, type DType, type NumericArray, type TensorSpec } from 'troupe/actor';

type Engine = typeof import('onnxruntime-node');

/** An input tensor over the column's own memory: nothing is copied. */
export function toTensor(engine: Engine, column: Column, count: number): Tensor {
  const { dtype, data } = column;
  const dims = [count, ...column.shape];
  if (Array.isArray(data)) return new engine.Tensor('string', refuseNul(data), dims);
  const own = ownMemory(data);
  if (dtype === 'float16') return halfTensor(engine, own, dims);
  // The class of the data belongs to the dtype, which the typed constructor cannot see for a dtype known at run time.
  return new engine.Tensor(dtype as 'float32', own as Float32Array, dims);
}

/** The output as it came from the engine: its memory is fresh for every run and may be transferred. */
export function toColumn(tensor: Tensor, spec: TensorSpec): Column {
  const data: unknown = tensor.data;
  const shape = tensor.dims.slice(1);
  if (spec.dtype === 'float16' && ArrayBuffer.isView(data) && !(data instanceof Uint16Array)) {
    // Node 24 has a Float16Array of its own; columns carry the bits.
    return { dtype: 'float16', shape, data: new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2) };
  }
  return { dtype: spec.dtype, shape, data: data as NumericArray | string[] };
}

/** A batch of zeros, or of empty strings, for the warm-up; dimensions that vary are 1. */
export function zeroColumn(spec: TensorSpec, count: number): Column {
  const shape = spec.shape.map((dim) => (dim === -1 ? 1 : dim));
  const length = count * recordLength(spec);
  const Class = CLASSES[spec.dtype];
  const data = Class === undefined ? Array.from({ length }, () => '') : new Class(length);
  return { dtype: spec.dtype, shape, data };
}

/** Bytes of one record with every varying dimension at 1; strings count 8 each. */
export function recordBytes(spec: TensorSpec): number {
  return recordLength(spec) * (CLASSES[spec.dtype]?.BYTES_PER_ELEMENT ?? 8);
}

function recordLength(spec: TensorSpec): number {
  return spec.shape.reduce((product, dim) => product * (dim === -1 ? 1 : dim), 1);
}

/** The engine takes strings for C strings and would cut them at a NUL without a word. */
function refuseNul(strings: string[]): string[] {
  if (strings.some((text) => text.includes('\0'))) {
    throw new TroupeError('INPUT_INVALID', 'A string holds the character NUL, at which onnxruntime would cut it off');
  }
  return strings;
}

/** The engine refuses SharedArrayBuffer ("Invalid argument") on Node 20, so shared input is copied once. */
function ownMemory(data: NumericArray): NumericArray {
  return data.buffer instanceof SharedArrayBuffer ? data.slice() : data;
}

/**
 * Node 24's own Float16Array makes the engine's constructor refuse the bits, so the tensor is made as uint16 and then
 * named float16; the engine reads type and memory separately. It works the same on Node 20 and 22.
 */
function halfTensor(engine: Engine, bits: NumericArray, dims: number[]): Tensor {
  const tensor = new engine.Tensor('uint16', bits as Uint16Array, dims);
  Object.defineProperty(tensor, 'type', { value: 'float16' });
  return tensor;
}

interface NumericClass {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): NumericArray;
}

const CLASSES: Readonly<Record<DType, NumericClass | undefined>> = {
  bool: Uint8Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  float16: Uint16Array,
  float32: Float32Array,
  float64: Float64Array,
  string: undefined,
};
