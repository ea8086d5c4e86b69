/**
 * A copy of plain data that shares nothing with it. Not `structuredClone`: of a view that copies the whole buffer under it,
 * and results are mostly views over the buffer of a batch. Throws where something is no data (a function, a promise).
 */
export function copyOf(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) {
    if (typeof value === 'function' || typeof value === 'symbol') throw new TypeError('no plain data');
    return value;
  }
  // Not their own: that of a Buffer copies nothing.
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return Uint8Array.prototype.slice.call(value);
  if (Array.isArray(value)) return value.map(copyOf);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return structuredClone(value);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copyOf(inner)]));
}
