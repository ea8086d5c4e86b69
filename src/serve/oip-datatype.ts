import type { DType, NumericArray } from '../wire/tensor.js';
import { numericClassOf } from '../wire/columns.js';

/** The datatypes of the Open Inference Protocol, beside ours and those of config.pbtxt. */

export interface OipDatatype {
  /** As it stands in a request. */
  readonly name: string;
  /** As it stands in config.pbtxt. */
  readonly configName: string;
  /** Ours; BF16 has none, so no signature can ask for it. */
  readonly dtype: DType | undefined;
  /** Bytes of one value; 0 where that varies. */
  readonly bytes: number;
  /** What JSON may hold of it; `none`: it travels as bytes alone. */
  readonly json: 'boolean' | 'integer' | 'bigint' | 'float' | 'text' | 'none';
  /** Of integers. */
  readonly range?: readonly [number, number];
  readonly bigRange?: readonly [bigint, bigint];
}

const of = (
  name: string,
  dtype: DType | undefined,
  bytes: number,
  json: OipDatatype['json'],
  more: Pick<OipDatatype, 'range' | 'bigRange'> = {},
): OipDatatype => ({ name, configName: `TYPE_${name === 'BYTES' ? 'STRING' : name}`, dtype, bytes, json, ...more });

const ALL: readonly OipDatatype[] = [
  of('BOOL', 'bool', 1, 'boolean'),
  of('UINT8', 'uint8', 1, 'integer', { range: [0, 0xff] }),
  of('UINT16', 'uint16', 2, 'integer', { range: [0, 0xffff] }),
  of('UINT32', 'uint32', 4, 'integer', { range: [0, 0xffffffff] }),
  of('UINT64', 'uint64', 8, 'bigint', { bigRange: [0n, 2n ** 64n - 1n] }),
  of('INT8', 'int8', 1, 'integer', { range: [-0x80, 0x7f] }),
  of('INT16', 'int16', 2, 'integer', { range: [-0x8000, 0x7fff] }),
  of('INT32', 'int32', 4, 'integer', { range: [-0x80000000, 0x7fffffff] }),
  of('INT64', 'int64', 8, 'bigint', { bigRange: [-(2n ** 63n), 2n ** 63n - 1n] }),
  of('FP16', 'float16', 2, 'none'),
  of('BF16', undefined, 2, 'none'),
  of('FP32', 'float32', 4, 'float'),
  of('FP64', 'float64', 8, 'float'),
  of('BYTES', 'string', 0, 'text'),
];

export const OIP_DATATYPES: ReadonlyMap<string, OipDatatype> = new Map(ALL.map((one) => [one.name, one]));

const BY_DTYPE: ReadonlyMap<DType, OipDatatype> = new Map(
  ALL.flatMap((one) => (one.dtype === undefined ? [] : [[one.dtype, one]])),
);

export function datatypeOf(dtype: DType): OipDatatype {
  return BY_DTYPE.get(dtype) as OipDatatype; // Every dtype has a row: the round trip of all of them is tested.
}

/** An array of that many values, all 0. Not for BYTES. */
export function makeValues(datatype: OipDatatype, length: number): NumericArray {
  return classOf(datatype).make(length);
}

/** The values that lie there, least significant byte first. A view where they lie evenly, else a copy. Not for BYTES. */
export function valuesOver(datatype: OipDatatype, bytes: Uint8Array): NumericArray {
  const { over, bytes: each } = classOf(datatype);
  const isEven = bytes.byteOffset % each === 0;
  // Not slice: that of a Buffer makes a view.
  const { buffer, byteOffset, length } = isEven ? bytes : new Uint8Array(bytes);
  return over(buffer as ArrayBuffer, byteOffset, length / each);
}

function classOf({ dtype }: OipDatatype): NonNullable<ReturnType<typeof numericClassOf>> {
  // The bits of BF16 travel like those of FP16.
  const numeric = numericClassOf(dtype ?? 'float16');
  if (numeric === undefined) throw new TypeError('BYTES are no numbers');
  return numeric;
}
