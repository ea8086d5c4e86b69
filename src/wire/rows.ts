import { arrayClassName, arrayLength, numericClassNamed } from './columns.js';
import { ownsMemory, type TakeBuffer, unzeroed } from './recycler.js';
import type { Columns, NumericArray } from './tensor.js';

/**
 * Rows on the data lane. Records that are all typed arrays of one class are packed into one buffer, which crosses as a
 * transfer (thread) or as raw bytes (process); that is several times cheaper than cloning 64 small arrays. Everything else
 * crosses as plain values by structured clone.
 */
export type Payload =
  | { readonly kind: 'rows'; readonly values: readonly unknown[] }
  | {
      readonly kind: 'packed';
      readonly count: number;
      /** Class name of the array, e.g. 'Float32Array'. */
      readonly className: string;
      /** Values per record, one number where all are equal. */
      readonly lengths: number | Uint32Array;
      readonly data: NumericArray;
    }
  | { readonly kind: 'columns'; readonly columns: Columns };

/** How many records a payload holds. */
export function payloadCount(payload: Payload): number {
  switch (payload.kind) {
    case 'rows':
      return payload.values.length;
    case 'packed':
      return payload.count;
    case 'columns':
      return payload.columns.count;
    default:
      return payload satisfies never;
  }
}

/**
 * Packs records for the way. The packed buffer comes from `take`: the caller's arrays stay theirs. `lends`: a lone record
 * may be its own data, because its owner waits until it has been sent, or has given it away.
 */
export function packRows(records: readonly unknown[], take: TakeBuffer = unzeroed, lends = false): Payload {
  return packTyped(records, take, lends) ?? { kind: 'rows', values: compactAll(records) };
}

/**
 * Records again, each packed one with memory of its own, so that a kept record does not pin its batch, and nothing beside
 * it can be reached through its buffer. `copied` is told of the packed data when no view of it went out.
 */
export function unpackRows(
  payload: Exclude<Payload, { kind: 'columns' }>,
  copied?: (data: NumericArray) => void,
): readonly unknown[] {
  if (payload.kind === 'rows') return payload.values;
  const { count, data, lengths } = payload;
  if (count === 1 && data.byteLength === data.buffer.byteLength) return [data];
  const records: NumericArray[] = [];
  let from = 0;
  for (let index = 0; index < count; index++) {
    const to = from + (typeof lengths === 'number' ? lengths : (lengths[index] as number));
    records.push(data.slice(from, to));
    from = to;
  }
  copied?.(data);
  return records;
}

/** V8 keeps arrays up to this size on its heap, where a copy costs no more than a view. */
const ON_HEAP_BYTES = 64;

/**
 * Records again for the actor, packed ones as views over the buffer of their batch: no memory is taken per record. Who
 * keeps one longer than its batch keeps the batch, so the buffer must never be written to again.
 */
export function viewRows(payload: Exclude<Payload, { kind: 'columns' }>): readonly unknown[] {
  if (payload.kind === 'rows') return payload.values;
  const { count, className, data, lengths } = payload;
  const numericClass = numericClassNamed(className);
  const isSmall = typeof lengths === 'number' && lengths * data.BYTES_PER_ELEMENT <= ON_HEAP_BYTES;
  if (isSmall || numericClass === undefined) return unpackRows(payload);
  const { buffer } = data;
  const records: NumericArray[] = [];
  let at = data.byteOffset;
  for (let index = 0; index < count; index++) {
    const length = typeof lengths === 'number' ? lengths : (lengths[index] as number);
    records.push(numericClass.over(buffer as ArrayBuffer, at, length));
    at += length * numericClass.bytes;
  }
  return records;
}

/** Records again, packed ones as views over one copy of their batch, which nobody writes to any more. `copied` as above. */
export function shareRows(
  payload: Exclude<Payload, { kind: 'columns' }>,
  copied?: (data: NumericArray) => void,
): readonly unknown[] {
  if (payload.kind === 'rows') return payload.values;
  const { data } = payload;
  const records = viewRows({ ...payload, data: data.slice() });
  copied?.(data);
  return records;
}

/**
 * The value with every typed array that is a small view over a bigger buffer replaced by a copy of its own: structured
 * clone ships, and a kept result pins, the whole buffer. Looks into plain objects and arrays, COMPACT_DEPTH_MAX levels deep.
 */
export function compact(value: unknown): unknown {
  return compactAt(value, 0);
}

const COMPACT_DEPTH_MAX = 3;

function compactAll(records: readonly unknown[]): readonly unknown[] {
  let copies: unknown[] | undefined;
  for (let index = 0; index < records.length; index++) {
    const record = records[index];
    if (typeof record !== 'object' || record === null) continue;
    let small: unknown;
    try {
      small = compactAt(record, 0);
    } catch {
      continue; // A getter or trap threw; the clone of this record will throw again and be charged to it.
    }
    if (small !== record) {
      copies ??= records.slice();
      copies[index] = small;
    }
  }
  return copies ?? records;
}

function compactAt(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (ArrayBuffer.isView(value)) return compactView(value);
  if (depth === COMPACT_DEPTH_MAX) return value;
  if (Array.isArray(value)) {
    let copy: unknown[] | undefined;
    for (let i = 0; i < value.length; i++) {
      const entry: unknown = value[i];
      if (typeof entry !== 'object' || entry === null) continue;
      const small = compactAt(entry, depth + 1);
      if (small !== entry) {
        copy ??= value.slice() as unknown[];
        copy[i] = small;
      }
    }
    return copy ?? value;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  let copy: Record<string, unknown> | undefined;
  for (const key of Object.keys(value)) {
    const entry = (value as Record<string, unknown>)[key];
    if (typeof entry !== 'object' || entry === null) continue;
    const small = compactAt(entry, depth + 1);
    if (small !== entry) {
      copy ??= { ...value };
      copy[key] = small;
    }
  }
  return copy ?? value;
}

function compactView(view: ArrayBufferView): unknown {
  const { buffer } = view;
  if (view.byteLength === buffer.byteLength || buffer instanceof SharedArrayBuffer) return view;
  const className = arrayClassName(view);
  if (className !== undefined) {
    // Buffer.prototype.slice makes a view; the method of the typed array class copies.
    return Uint8Array.prototype.slice.call(view as Uint8Array);
  }
  return new DataView(buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function packTyped(records: readonly unknown[], take: TakeBuffer, lends: boolean): Payload | undefined {
  const count = records.length;
  if (count === 0) return undefined;
  const className = arrayClassName(records[0]);
  const numericClass = className === undefined ? undefined : numericClassNamed(className);
  if (className === undefined || numericClass === undefined) return undefined;
  const first = arrayLength(records[0] as NumericArray);
  let total = 0;
  let isEven = true;
  for (let index = 0; index < count; index++) {
    const record = records[index];
    // Shared memory crosses as shared memory; packing would cut the sharing.
    if (arrayClassName(record) !== className || (record as NumericArray).buffer instanceof SharedArrayBuffer)
      return undefined;
    const length = arrayLength(record as NumericArray);
    if (length !== first) isEven = false;
    total += length;
  }
  if (lends && count === 1 && ownsMemory(records[0] as NumericArray)) {
    return { kind: 'packed', count, className, lengths: first, data: records[0] as NumericArray };
  }
  // Every value is written below: the lengths are the true ones, and no foreign code runs in between.
  const data = total === 0 ? numericClass.make(0) : numericClass.over(take(total * numericClass.bytes), 0, total);
  const lengths = isEven ? first : new Uint32Array(count);
  let at = 0;
  for (let index = 0; index < count; index++) {
    const record = records[index] as Float32Array;
    (data as Float32Array).set(record, at); // The classes are equal: their names were compared.
    const length = arrayLength(record);
    if (typeof lengths !== 'number') lengths[index] = length;
    at += length;
  }
  return { kind: 'packed', count, className, lengths, data };
}
