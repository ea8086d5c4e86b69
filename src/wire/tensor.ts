/** Tensor words of both sides: dtypes, shapes, signatures. Names are those of the Open Inference Protocol in lower case. */

export type DType =
  | 'bool'
  | 'uint8'
  | 'uint16'
  | 'uint32'
  | 'uint64'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'float16'
  | 'float32'
  | 'float64'
  | 'string';

export type NumericArray =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

/** One tensor of a signature. `shape` leaves the batch dimension out; -1 is a dimension that may vary between records. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

export interface Signature {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /**
   * True: each record is answered any number of times. predict gets columns and returns an array with an async iterable (or an
   * Error) for each record, whose pieces are records of outputs. Default false: once, in columns.
   */
  readonly decoupled?: boolean;
}

/** One column of a batch: `data` holds `count` records back to back; `shape` is the shape of one record, no -1 left. */
export interface Column {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Numeric dtypes: one contiguous typed array. String: an array of strings. */
  readonly data: NumericArray | string[];
}

/** A whole batch in columns, by tensor name. */
export interface Columns {
  readonly count: number;
  readonly columns: Readonly<Record<string, Column>>;
}

/** A record in tensor form: by input name, the values of one record (a bare number or string where the shape is []). */
export type TensorRecord = Readonly<Record<string, NumericArray | readonly string[] | number | bigint | string>>;
