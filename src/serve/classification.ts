/**
 * The classification extension: of an output the highest values of each record, as texts `value:index[:label]`, highest
 * first. Which datatypes have it and how a value is written is Triton's way (classification.cc of
 * triton-inference-server/server), where whole numbers are digits and others have six decimals, as `%f` writes them.
 *
 * Where Triton leaves it open: of equal values the first comes first, and NaN is lower than everything.
 */
import type { NumericArray, TensorSpec } from '../wire/tensor.js';
import { datatypeOf } from './oip-datatype.js';
import { invalid, shownName } from './oip-invalid.js';
import { elementsOf, type OipTensor } from './oip-tensor.js';

/** Of all outputs of an answer: each becomes a text, of up to 309 digits that are worked out one by one. */
export const CLASSES_MAX = 2 ** 14;
const DECIMALS = 6;
/** From here on toFixed writes no digits. */
const TO_FIXED_END = 1e21;
/** 2 * 10 ** 6 is 2 ** 7 * 5 ** 6: of all numbers only odd multiples of 1 / 128 lie just between two sixth decimals. */
const HALVES = 128;

/** Throws INPUT_INVALID where its datatype has no order of Triton's. */
export function refuseClasses({ name, dtype }: TensorSpec): void {
  const { json, name: datatype } = datatypeOf(dtype);
  if (json === 'integer' || json === 'bigint' || json === 'float') return;
  throw invalid(`output ${shownName(name)}: ${datatype} has no classes; classification is for numbers, FP16 excepted`);
}

/**
 * A tensor whose first dimension is the records: of each the `count` highest values, or all where there are fewer. `room` is
 * what the outputs before it have left of `CLASSES_MAX`. Throws INPUT_INVALID where that is not enough.
 */
export function classified(
  { name, datatype, shape, data }: OipTensor,
  count: number,
  labels: readonly string[] = [],
  room = CLASSES_MAX,
): OipTensor {
  const [records = 0, ...own] = shape;
  const size = elementsOf(own);
  const classes = Math.min(count, size);
  const all = CLASSES_MAX - room + records * classes;
  if (all > CLASSES_MAX)
    throw invalid(
      `output ${shownName(name)}: with its classes the answer has ${all}, more than ${CLASSES_MAX}; ask for fewer`,
    );
  const texts: string[] = [];
  for (let record = 0; record < records; record++) {
    const values = (data as NumericArray).subarray(record * size, (record + 1) * size);
    for (const index of highest(values, classes)) {
      const label = labels[index] ?? '';
      const value = values[index] as number | bigint;
      const text = `${datatype.json === 'float' ? decimals(value as number) : value}:${index}`;
      texts.push(label === '' ? text : `${text}:${label}`);
    }
  }
  return { name, datatype: datatypeOf('string'), shape: [records, classes], data: texts };
}

/** Indices of so many, the highest first. */
function highest(values: NumericArray, count: number): readonly number[] {
  // Below 0 where `a` comes before `b`.
  const order = (a: number, b: number): number => {
    const x = values[a] as number;
    const y = values[b] as number;
    if (x > y) return -1;
    if (x < y) return 1;
    return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || a - b;
  };
  // A heap: each comes after its two children, so that the first is the last of them all.
  const heap = Array.from({ length: count }, (_, index) => index);
  const sink = (index: number, from: number): void => {
    let at = from;
    for (let child = 2 * at + 1; child < count; child = 2 * at + 1) {
      if (child + 1 < count && order(heap[child + 1] as number, heap[child] as number) > 0) child++;
      if (order(heap[child] as number, index) < 0) break;
      heap[at] = heap[child] as number;
      at = child;
    }
    heap[at] = index;
  };
  for (let at = count >> 1; at > 0; at--) sink(heap[at - 1] as number, at - 1);
  for (let index = count; index < values.length && count > 0; index++)
    if (order(index, heap[0] as number) < 0) sink(index, 0);
  return heap.sort(order);
}

/** As `%f` of C has it: rounded to even where a value lies just between two, exact however large, -0 with its sign. */
function decimals(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  const size = Math.abs(value);
  if (size === Infinity) return `${sign}inf`;
  if (size >= TO_FIXED_END) return `${sign}${BigInt(size)}.${'0'.repeat(DECIMALS)}`;
  // toFixed rounds up there.
  const fixed = size.toFixed(DECIMALS);
  const isBetween = (size * HALVES) % 2 === 1;
  const digit = Number(fixed.at(-1));
  return `${sign}${isBetween && digit % 2 === 1 ? `${fixed.slice(0, -1)}${digit - 1}` : fixed}`;
}
