/**
 * A cheap estimate of what a record holds in memory, for capacities and batch limits in bytes. It runs once per record,
 * so it looks at no more than ENTRY_COUNT_MAX values and DEPTH_MAX levels and scales the rest up; it never runs user code
 * that a plain object does not have, and never throws.
 */

const OBJECT_BYTES = 32;
const VALUE_BYTES = 8;
const DEPTH_MAX = 4;
/** Entries looked at per object or array; a longer one is taken to go on as it began. */
const ENTRY_COUNT_MAX = 32;

/** Typed arrays and buffers by their bytes, strings by two bytes per character, objects and arrays by what they hold. */
export function recordBytes(value: unknown): number {
  try {
    return measure(value, 0);
  } catch {
    return OBJECT_BYTES; // A getter or proxy trap threw; the copy to the actor will say so as INPUT_INVALID.
  }
}

function measure(value: unknown, depth: number): number {
  switch (typeof value) {
    case 'string':
      return value.length * 2;
    case 'bigint':
      return 16;
    case 'object':
      return value === null ? VALUE_BYTES : measureObject(value, depth);
    default:
      return VALUE_BYTES;
  }
}

function measureObject(value: object, depth: number): number {
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return OBJECT_BYTES + value.byteLength;
  if (depth === DEPTH_MAX) return OBJECT_BYTES;
  if (Array.isArray(value)) return measureArray(value, depth);
  if (value instanceof Map || value instanceof Set)
    return OBJECT_BYTES + Math.ceil(measureArray(firstOf(value), depth) * ratioOf(value));
  let bytes = OBJECT_BYTES;
  let seen = 0;
  for (const key in value) {
    if (++seen > ENTRY_COUNT_MAX) return Math.ceil(bytes * (Object.keys(value).length / ENTRY_COUNT_MAX));
    bytes += VALUE_BYTES + measure((value as Record<string, unknown>)[key], depth + 1);
  }
  return bytes;
}

function measureArray(values: readonly unknown[], depth: number): number {
  const { length } = values;
  const looked = Math.min(length, ENTRY_COUNT_MAX);
  let bytes = 0;
  for (let i = 0; i < looked; i++) bytes += measure(values[i], depth + 1);
  return OBJECT_BYTES + (looked === length ? bytes : Math.ceil(bytes * (length / looked)));
}

function firstOf(collection: ReadonlyMap<unknown, unknown> | ReadonlySet<unknown>): unknown[] {
  const first: unknown[] = [];
  for (const entry of collection) {
    if (first.push(entry) === ENTRY_COUNT_MAX) break;
  }
  return first;
}

function ratioOf(collection: ReadonlyMap<unknown, unknown> | ReadonlySet<unknown>): number {
  return Math.max(1, collection.size / ENTRY_COUNT_MAX);
}
