import { promisify } from 'node:util';
import { deflate, gzip } from 'node:zlib';

/** Smaller bodies are sent as they are. */
export const PACKED_BYTES_MIN = 1024;

const PACKERS = { gzip: promisify(gzip), deflate: promisify(deflate) };

export function pack(packing: 'gzip' | 'deflate', parts: readonly Uint8Array[]): Promise<Buffer> {
  return PACKERS[packing](Buffer.concat(parts));
}

export function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}
