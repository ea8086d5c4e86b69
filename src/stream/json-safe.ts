import { toFault } from '../wire/fault.js';
import { wordsOf } from './foreign.js';

/** What lies deeper is put into words. */
const DEPTH_MAX = 64;

/**
 * The value itself where JSON can hold it, else a copy in which everything else stands as what comes nearest: typed
 * arrays, sets and maps as arrays, big integers as decimal strings, errors as faults, and functions, symbols and what
 * does not let itself be looked at as words in brackets. Never throws. A NaN stays, and JSON makes it null.
 */
export function jsonSafe(value: unknown): unknown {
  try {
    return convert(value, new Set());
  } catch (cause) {
    return `[unreadable: ${wordsOf(cause)}]`; // A proxy whose traps throw, or a getter that does.
  }
}

/** `above` holds the objects on the way from the root: one that comes again closes a circle. */
function convert(value: unknown, above: Set<object>): unknown {
  switch (typeof value) {
    case 'bigint':
      return String(value);
    case 'function':
      return `[function ${value.name}]`;
    case 'symbol':
      return `[${String(value)}]`;
    case 'object':
      break;
    default:
      return value;
  }
  if (value === null) return value;
  if (above.has(value)) return '[circular]';
  if (above.size === DEPTH_MAX) return '[deeper]';
  above.add(value);
  const safe = convertObject(value, above);
  above.delete(value);
  return safe;
}

function convertObject(value: object, above: Set<object>): unknown {
  if (value instanceof Error) return toFault(value);
  if (Array.isArray(value)) return convertArray(value, above);
  if (value instanceof DataView || value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) {
    const bytes = value instanceof DataView ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : value;
    return [...new Uint8Array(bytes as ArrayBuffer)];
  }
  if (ArrayBuffer.isView(value)) return convertArray([...(value as unknown as Iterable<unknown>)], above);
  if (value instanceof Map || value instanceof Set) return convertArray([...value], above);
  if ('toJSON' in value && typeof value.toJSON === 'function') {
    const json: unknown = value.toJSON();
    return convert(json, above);
  }
  return convertPlain(value as Readonly<Record<string, unknown>>, above);
}

function convertArray(values: readonly unknown[], above: Set<object>): readonly unknown[] {
  let copy: unknown[] | undefined;
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index];
    const safe = convert(value, above);
    if (!Object.is(safe, value)) copy ??= values.slice();
    if (copy !== undefined) copy[index] = safe;
  }
  return copy ?? values;
}

function convertPlain(value: Readonly<Record<string, unknown>>, above: Set<object>): unknown {
  let copy: Record<string, unknown> | undefined;
  for (const key of Object.keys(value)) {
    const inner = value[key];
    const safe = convert(inner, above);
    if (Object.is(safe, inner)) continue;
    copy ??= { ...value };
    // A key such as __proto__ must become a property, not the prototype.
    Object.defineProperty(copy, key, { value: safe, enumerable: true, configurable: true, writable: true });
  }
  return copy ?? value;
}
