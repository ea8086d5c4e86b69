import { TroupeError } from '../kernel/errors.js';
import { type TakeBuffer, unzeroed } from './recycler.js';
import type { Column, Columns, DType, NumericArray, Signature, TensorRecord, TensorSpec } from './tensor.js';

/**
 * Records to columns and back. Every value is copied exactly once in each direction: into one fresh buffer per input
 * (so the caller's arrays stay whole for a retry, and the fresh buffer can be transferred), and out into one small array
 * per record (so one kept result never pins the buffer of its batch). This is a hot path: one loop per input, no closure
 * and no promise per record.
 */

export interface PackedColumns {
  /** The valid records only; `columns.count` is the number of records minus the number of faults. */
  readonly columns: Columns;
  /** Position in `records` and what is wrong there (INPUT_INVALID), in order. */
  readonly faults: readonly (readonly [number, TroupeError])[];
}

/** More than this in one column is refused: typed arrays of this size could not be allocated twice on most machines. */
export const COLUMN_BYTES_MAX = 2 ** 31;

/** What the tensors are called in words. */
type Side = 'input' | 'output';

interface NumericClass {
  readonly name: string;
  readonly bytes: number;
  make(length: number): NumericArray;
  over(buffer: ArrayBuffer, byteOffset: number, length: number): NumericArray;
}

interface NumericConstructor {
  new (length: number): NumericArray;
  new (buffer: ArrayBuffer, byteOffset: number, length: number): NumericArray;
  readonly name: string;
  readonly BYTES_PER_ELEMENT: number;
}

const numeric = (Class: NumericConstructor): NumericClass => ({
  name: Class.name,
  bytes: Class.BYTES_PER_ELEMENT,
  make: (length) => new Class(length),
  over: (buffer, byteOffset, length) => new Class(buffer, byteOffset, length),
});

/** float16 travels as its bits (Uint16Array), bool as 0 and 1 in a Uint8Array: Node 20 has no array of either. */
const CLASS_OF: Readonly<Record<Exclude<DType, 'string'>, NumericClass>> = {
  bool: numeric(Uint8Array),
  uint8: numeric(Uint8Array),
  uint16: numeric(Uint16Array),
  uint32: numeric(Uint32Array),
  uint64: numeric(BigUint64Array),
  int8: numeric(Int8Array),
  int16: numeric(Int16Array),
  int32: numeric(Int32Array),
  int64: numeric(BigInt64Array),
  float16: numeric(Uint16Array),
  float32: numeric(Float32Array),
  float64: numeric(Float64Array),
};

const CLASS_BY_NAME: ReadonlyMap<string, NumericClass> = new Map(
  Object.values(CLASS_OF).map((numericClass) => [numericClass.name, numericClass]),
);

/** The typed array class that carries a dtype; undefined for string. */
export function numericClassOf(dtype: DType): NumericClass | undefined {
  return dtype === 'string' ? undefined : CLASS_OF[dtype];
}

/** By the class name of a typed array, e.g. 'Float32Array'; undefined for any other word. */
export function numericClassNamed(name: string): NumericClass | undefined {
  return CLASS_BY_NAME.get(name);
}

// oxlint-disable-next-line typescript/unbound-method -- the getter is only ever called with its own `this`.
const tagOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)?.get;

// oxlint-disable-next-line typescript/unbound-method -- as above.
const lengthGetter = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), 'length')?.get;

/** How many values a typed array really has, whatever a subclass says: 0 when it has lost its memory. */
export function arrayLength(array: ArrayBufferView): number {
  return lengthGetter?.call(array) as number;
}

/** Class name of a typed array of any realm ('Uint8Array' for a Buffer); undefined for everything else. */
export function arrayClassName(value: unknown): string | undefined {
  return tagOf?.call(value) as string | undefined;
}

/**
 * Copies records into one contiguous buffer per input. A record fits when it has exactly the inputs of `specs`, each a
 * typed array of the dtype's class with as many values as the shape says (a number or bigint where the shape is []), or
 * for string an array of strings. One -1 per shape is inferred; all records of a batch must agree on it.
 */
export function packColumns(
  records: readonly unknown[],
  specs: readonly TensorSpec[],
  take: TakeBuffer = unzeroed,
): PackedColumns {
  const faults: [number, TroupeError][] = [];
  const targets = specs.map((spec) => new Target(spec, records.length, take));
  let count = 0;
  for (let index = 0; index < records.length; index++) {
    const record = records[index];
    const problem = problemOf(record, specs, targets);
    if (problem === undefined) {
      for (let i = 0; i < targets.length; i++) {
        (targets[i] as Target).write(count);
      }
      count++;
    } else {
      faults.push([index, new TroupeError('INPUT_INVALID', `Record ${index} of the batch: ${problem}`)]);
    }
  }
  const columns: Record<string, Column> = Object.create(null) as Record<string, Column>;
  for (const target of targets) columns[target.spec.name] = target.column(count);
  return { columns: { count, columns }, faults };
}

/**
 * Records of a batch, each with arrays of its own (copies; with one record the column itself). Shape [] gives the bare
 * value. `copied` is told of every column of which no view went into a record.
 */
export function unpackColumns(columns: Columns, copied?: (data: NumericArray) => void): TensorRecord[] {
  const { count } = columns;
  const records: Record<string, unknown>[] = [];
  for (let index = 0; index < count; index++) records.push({});
  for (const name of Object.keys(columns.columns)) {
    const { data, shape } = columns.columns[name] as Column;
    const isScalar = shape.length === 0;
    const size = isScalar ? 1 : data.length / count;
    const isWhole = count === 1 && (Array.isArray(data) || data.byteLength === data.buffer.byteLength);
    for (let index = 0; index < count; index++) {
      const value = isScalar ? data[index] : isWhole ? data : data.slice(index * size, (index + 1) * size);
      setOwn(records[index] as Record<string, unknown>, name, value);
    }
    if (copied !== undefined && !Array.isArray(data) && (isScalar || !isWhole)) copied(data);
  }
  return records as TensorRecord[];
}

/**
 * Why a record does not fit these inputs, by the rules of `packColumns`; undefined where it does. Of outputs more than one
 * dimension may be of unknown size.
 */
export function recordProblem(record: unknown, specs: readonly TensorSpec[], side: Side = 'input'): string | undefined {
  return problemOf(
    record,
    specs,
    specs.map((spec) => new Target(spec, 1, unzeroed)),
    side,
  );
}

/**
 * The value of a tensor of one shape in a record where it has the other: a single value stands bare where the shape is [],
 * in an array elsewhere.
 */
export function reshaped(value: unknown, { dtype, shape }: TensorSpec, to: readonly number[]): unknown {
  if (shape.length === 0 && to.length > 0) {
    const array: unknown[] | NumericArray = numericClassOf(dtype)?.make(1) ?? [''];
    array[0] =
      dtype === 'int64' || dtype === 'uint64' ? BigInt(value as number) : dtype === 'string' ? value : Number(value);
    return array;
  }
  return shape.length > 0 && to.length === 0 ? (value as readonly unknown[])[0] : value;
}

/** What predict returned, checked against the signature. Throws PROTOCOL_VIOLATION naming the output that is wrong. */
export function checkColumns(value: unknown, outputs: readonly TensorSpec[], count: number): Columns {
  if (typeof value !== 'object' || value === null || !('columns' in value) || !isObject(value.columns)) {
    throw violation(`predict must return { count, columns } for a definition with a signature, got ${kindOf(value)}`);
  }
  const given = value.columns as Record<string, unknown>;
  if (!('count' in value) || value.count !== count) {
    throw violation(
      `predict was given ${count} records and returned columns with count ${String('count' in value ? value.count : undefined)}`,
    );
  }
  const columns: Record<string, Column> = Object.create(null) as Record<string, Column>;
  for (const spec of outputs) {
    columns[spec.name] = checkColumn(Object.hasOwn(given, spec.name) ? given[spec.name] : undefined, spec, count);
  }
  for (const name of Object.keys(given)) {
    if (!(name in columns)) throw violation(`output "${name}" is not in the signature (${namesOf(outputs)})`);
  }
  return { count, columns };
}

/** The batcher's bucket: records with equal keys fit one batch. '' where no input has a dimension that varies. */
export function shapeKey(record: unknown, signature: Signature): string {
  let key = '';
  for (const { name, shape } of signature.inputs) {
    if (!shape.includes(-1)) continue;
    let length = 0;
    try {
      const value = isObject(record) ? (record as Record<string, unknown>)[name] : undefined;
      if (Array.isArray(value) || ArrayBuffer.isView(value)) length = (value as NumericArray).length;
    } catch {
      // A getter or trap threw; packing the record will say so as INPUT_INVALID.
    }
    key += `${length},`;
  }
  return key;
}

/** Fills one column. The size of a record is known from the shape, or from the first valid record where one dimension is -1. */
class Target {
  readonly spec: TensorSpec;
  /** Values per record; -1 until the first record told. */
  size: number;
  readonly numericClass: NumericClass | undefined;
  /** Product of the known dimensions. */
  readonly known: number;
  readonly unknownCount: number;
  /** The value of the record being looked at, read once: a getter could answer differently the second time. */
  value: unknown;
  readonly capacity: number;
  private readonly take: TakeBuffer;
  private data: NumericArray | string[] | undefined;

  constructor(spec: TensorSpec, capacity: number, take: TakeBuffer) {
    this.spec = spec;
    this.capacity = capacity;
    this.take = take;
    this.numericClass = numericClassOf(spec.dtype);
    let known = 1;
    let unknownCount = 0;
    for (const dim of spec.shape) {
      if (dim === -1) unknownCount++;
      else known *= dim;
    }
    this.known = known;
    this.unknownCount = unknownCount;
    this.size = unknownCount === 0 ? known : -1;
  }

  write(index: number): void {
    const { value } = this;
    const isArray = typeof value === 'object';
    if (this.size === -1) this.size = isArray ? (value as NumericArray).length : 1;
    const data = (this.data ??= this.open());
    if (Array.isArray(data)) {
      if (isArray) for (const text of value as string[]) data.push(text);
      else data.push(value as string);
    } else if (isArray) {
      const from = index * this.size;
      const length = arrayLength(value as NumericArray);
      // A getter of another input may have shrunk it since problemOf looked; the memory is not zeroed.
      if (length < this.size) (data as Float32Array).fill(0, from, from + this.size);
      const array = length > this.size ? (value as Float32Array).subarray(0, this.size) : (value as Float32Array);
      if (length > 0) (data as Float32Array).set(array, from); // The classes are equal: problemOf compared their names.
    } else {
      data[index] =
        this.spec.dtype === 'int64' || this.spec.dtype === 'uint64' ? BigInt(value as number) : Number(value);
    }
  }

  /** For as many records as may come; `column` cuts off what was refused. */
  private open(): NumericArray | string[] {
    const { numericClass } = this;
    if (numericClass === undefined) return [];
    const length = this.size * this.capacity;
    return length === 0 ? numericClass.make(0) : numericClass.over(this.take(length * numericClass.bytes), 0, length);
  }

  column(count: number): Column {
    const { spec } = this;
    const size = Math.max(0, this.size);
    const empty = this.numericClass === undefined ? [] : this.numericClass.make(0);
    const whole = this.data ?? empty;
    const data = whole.length === count * size ? whole : whole.slice(0, count * size);
    const inferred = this.known === 0 ? 0 : size / this.known;
    return { dtype: spec.dtype, shape: spec.shape.map((dim) => (dim === -1 ? inferred : dim)), data };
  }
}

/** Why a record does not fit, or undefined. */
function problemOf(
  record: unknown,
  specs: readonly TensorSpec[],
  targets: readonly Target[],
  side: Side = 'input',
): string | undefined {
  if (!isObject(record) || Array.isArray(record) || ArrayBuffer.isView(record)) {
    return `expected an object with the ${side}s ${namesOf(specs)}, got ${kindOf(record)}`;
  }
  try {
    for (let i = 0; i < targets.length; i++) {
      const target = targets[i] as Target;
      const { name } = target.spec;
      if (!Object.hasOwn(record, name)) return `${side} "${name}" is missing`;
      target.value = (record as Record<string, unknown>)[name];
      const problem = problemOfValue(target.value, target, side);
      if (problem !== undefined) return `${side} "${name}" ${problem}`;
    }
    const keys = Object.keys(record);
    if (keys.length !== specs.length) {
      const unknown = keys.find((key) => !specs.some((spec) => spec.name === key));
      if (unknown !== undefined) return `${side} "${unknown}" is not in the signature (${namesOf(specs)})`;
    }
    return undefined;
  } catch (error) {
    return `it cannot be read: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function problemOfValue(value: unknown, target: Target, side: Side): string | undefined {
  const { spec, numericClass } = target;
  // Outputs come with their shape; only of inputs it has to be inferred.
  if (target.unknownCount > 1 && side === 'input')
    return `has ${target.unknownCount} dimensions of unknown size; at most one can be inferred`;
  if (typeof value !== 'object' || value === null) return problemOfScalar(value, spec);
  if (numericClass === undefined) {
    if (!Array.isArray(value)) return `expected ${describe(target)}, got ${kindOf(value)}`;
    for (const text of value) if (typeof text !== 'string') return `expected strings, got ${kindOf(text)} among them`;
  } else if (arrayClassName(value) !== numericClass.name) {
    return `expected ${describe(target)}, got ${kindOf(value)}`;
  }
  const length = numericClass === undefined ? (value as unknown[]).length : arrayLength(value as NumericArray);
  const fits =
    target.size !== -1 ? length === target.size : target.known === 0 ? length === 0 : length % target.known === 0;
  if (!fits) {
    const agreed = target.unknownCount > 0 && target.size !== -1 ? ', as the other records of the batch have' : '';
    return `expected ${describe(target)}${agreed}, got ${length} values`;
  }
  return target.size === -1 ? problemOfSize(length, target) : problemOfSize(target.size, target);
}

function problemOfSize(size: number, target: Target): string | undefined {
  const bytes = size * target.capacity * (target.numericClass?.bytes ?? 1);
  if (bytes <= COLUMN_BYTES_MAX) return undefined;
  return `would take ${bytes} bytes in this batch, more than ${COLUMN_BYTES_MAX}`;
}

const INTEGER_RANGE: Readonly<Partial<Record<DType, readonly [number, number]>>> = {
  bool: [0, 1],
  uint8: [0, 0xff],
  uint16: [0, 0xffff],
  uint32: [0, 0xffffffff],
  int8: [-0x80, 0x7f],
  int16: [-0x8000, 0x7fff],
  int32: [-0x80000000, 0x7fffffff],
  float16: [0, 0xffff],
};

function problemOfScalar(value: unknown, spec: TensorSpec): string | undefined {
  const { dtype, shape } = spec;
  if (shape.length !== 0) return `expected ${shape.length} dimensions [${shape.join(', ')}], got ${kindOf(value)}`;
  if (dtype === 'string') return typeof value === 'string' ? undefined : `expected a string, got ${kindOf(value)}`;
  if (dtype === 'bool' && typeof value === 'boolean') return undefined;
  if (dtype === 'int64' || dtype === 'uint64') {
    if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) {
      return `expected a bigint or a safe integer (${dtype}), got ${kindOf(value)}`;
    }
    const big = BigInt(value as bigint | number);
    const wrapped = dtype === 'int64' ? BigInt.asIntN(64, big) : BigInt.asUintN(64, big);
    return wrapped === big ? undefined : `expected ${dtype}, got ${big}, which is out of range`;
  }
  if (typeof value !== 'number') return `expected a number (${dtype}), got ${kindOf(value)}`;
  const range = INTEGER_RANGE[dtype];
  if (range === undefined) return undefined;
  if (Number.isInteger(value) && value >= range[0] && value <= range[1]) return undefined;
  return `expected an integer from ${range[0]} to ${range[1]} (${dtype}), got ${value}`;
}

function checkColumn(column: unknown, spec: TensorSpec, count: number): Column {
  const { name, dtype } = spec;
  if (!isObject(column)) throw violation(`output "${name}" is missing`);
  const { dtype: givenDtype, shape, data } = column as Partial<Column>;
  if (givenDtype !== dtype) throw violation(`output "${name}" must be ${dtype}, got ${String(givenDtype)}`);
  if (!Array.isArray(shape) || !fitsShape(shape, spec.shape)) {
    throw violation(`output "${name}" must have the record shape [${spec.shape.join(', ')}], got ${shapeText(shape)}`);
  }
  const numericClass = numericClassOf(dtype);
  const isRight = numericClass === undefined ? Array.isArray(data) : arrayClassName(data) === numericClass.name;
  if (data === undefined || !isRight) {
    throw violation(`output "${name}" must hold ${numericClass?.name ?? 'an array of strings'}, got ${kindOf(data)}`);
  }
  let size = 1;
  for (const dim of shape as number[]) size *= dim;
  if (data.length !== size * count) {
    throw violation(
      `output "${name}" must hold ${size * count} values (${count} records of ${size}), got ${data.length}`,
    );
  }
  if (Array.isArray(data)) {
    for (const text of data) {
      if (typeof text !== 'string')
        throw violation(`output "${name}" must hold strings, got ${kindOf(text)} among them`);
    }
  }
  return { dtype, shape: shape as number[], data };
}

function fitsShape(shape: readonly unknown[], expected: readonly number[]): boolean {
  if (shape.length !== expected.length) return false;
  for (let i = 0; i < shape.length; i++) {
    const dim = shape[i];
    if (!Number.isSafeInteger(dim) || (dim as number) < 0) return false;
    if (expected[i] !== -1 && expected[i] !== dim) return false;
  }
  return true;
}

function shapeText(shape: unknown): string {
  return Array.isArray(shape) ? `[${shape.map(String).join(', ')}]` : kindOf(shape);
}

function describe(target: Target): string {
  const { spec, numericClass } = target;
  const what = numericClass?.name ?? 'an array of strings';
  const many =
    target.size === -1 ? (target.known === 1 ? 'any number of' : `a multiple of ${target.known}`) : target.size;
  return `${what} with ${many} values (${spec.dtype} [${spec.shape.join(', ')}])`;
}

function namesOf(specs: readonly TensorSpec[]): string {
  return specs.map((spec) => `"${spec.name}"`).join(', ');
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value !== 'object') return typeof value === 'undefined' ? 'undefined' : `a ${typeof value}`;
  return arrayClassName(value) ?? 'an object';
}

function violation(what: string): TroupeError {
  return new TroupeError('PROTOCOL_VIOLATION', what);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** A tensor may be called __proto__; assignment would set the prototype instead. */
export function setOwn(target: Record<string, unknown>, name: string, value: unknown): void {
  if (name === '__proto__')
    Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
  else target[name] = value;
}
