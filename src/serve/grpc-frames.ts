import type { Writable } from 'node:stream';
import { largerThan, Refusal } from '../stream/http-body.js';

/** A message as it came, with its prefix off. */
export interface Framed {
  readonly bytes: Buffer;
  readonly isPacked: boolean;
}

/** A flag, and the length in four bytes, most significant first. */
export const PREFIX_BYTES = 5;
/** More than this is not made for what a prefix only says. */
const FIRST_BYTES = 65_536;
const GROWTH = 4;

/** Parts of smaller messages are put together: a write costs more than copying. */
const COPIED_BYTES_MAX = 32_768;

/** Writes one message, its prefix before it. False where the stream is full. */
export function writeFramed(
  stream: Writable,
  parts: readonly Uint8Array[],
  isPacked = false,
  written?: () => void,
): boolean {
  const size = parts.reduce((total, part) => total + part.length, 0);
  const isSmall = size <= COPIED_BYTES_MAX;
  const bytes = Buffer.allocUnsafe(isSmall ? PREFIX_BYTES + size : PREFIX_BYTES);
  bytes[0] = isPacked ? 1 : 0;
  bytes.writeUInt32BE(size, 1);
  if (isSmall) {
    let at = PREFIX_BYTES;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return stream.write(bytes, written);
  }
  stream.cork();
  let hasRoom = stream.write(bytes);
  const last = parts.length - 1;
  for (let i = 0; i <= last; i++) hasRoom = stream.write(parts[i], i === last ? written : undefined);
  stream.uncork();
  return hasRoom;
}

/**
 * Messages out of the chunks of a stream. One that lies in one chunk whole stays there, any other is put together in memory
 * that grows with what has come of it.
 */
export class GrpcFrames {
  readonly #prefix = Buffer.alloc(PREFIX_BYTES);
  #prefixLength = 0;
  #room: Buffer | undefined;
  #length = 0;
  #filled = 0;

  /** `take`: whether there is room for so many bytes more. */
  constructor(
    private readonly maxBytes: number,
    private readonly take: (bytes: number) => boolean,
  ) {}

  /** A message has begun, and is not all there. */
  get isInside(): boolean {
    return this.#prefixLength > 0;
  }

  /** Gives the message that has begun up: so many bytes of it were taken. */
  drop(): number {
    const held = this.#filled;
    this.#filled = 0;
    this.#room = undefined;
    return held;
  }

  /** Adds the messages that end in this chunk to `into`. `busy` where there is no room; nothing must follow a refusal. */
  push(chunk: Buffer, into: Framed[]): Refusal | 'busy' | undefined {
    let at = 0;
    // A message without bytes ends where its prefix does.
    while (at < chunk.length || (this.#prefixLength === PREFIX_BYTES && this.#length === 0)) {
      if (this.#prefixLength < PREFIX_BYTES) {
        const part = Math.min(PREFIX_BYTES - this.#prefixLength, chunk.length - at);
        chunk.copy(this.#prefix, this.#prefixLength, at, at + part);
        this.#prefixLength += part;
        at += part;
        if (this.#prefixLength < PREFIX_BYTES) return undefined;
        this.#length = this.#prefix.readUInt32BE(1);
        if ((this.#prefix[0] as number) > 1) return new Refusal(400, 'what comes is no message of gRPC');
        if (this.#length > this.maxBytes) return largerThan(this.maxBytes);
      }
      const part = Math.min(this.#length - this.#filled, chunk.length - at);
      if (part > 0 && !this.take(part)) return 'busy';
      const whole = this.#add(chunk.subarray(at, at + part));
      at += part;
      if (whole === undefined) continue;
      into.push({ bytes: whole, isPacked: this.#prefix[0] === 1 });
      this.#prefixLength = 0;
      this.#filled = 0;
      this.#room = undefined;
    }
    return undefined;
  }

  #add(part: Buffer): Buffer | undefined {
    if (part.length === this.#length) return part;
    const filled = this.#filled + part.length;
    let room = this.#room ?? Buffer.allocUnsafe(Math.min(this.#length, Math.max(part.length, FIRST_BYTES)));
    if (filled > room.length) {
      const larger = Buffer.allocUnsafe(Math.min(this.#length, Math.max(filled, GROWTH * room.length)));
      room.copy(larger, 0, 0, this.#filled);
      room = larger;
    }
    part.copy(room, this.#filled);
    this.#room = room;
    this.#filled = filled;
    return filled === this.#length ? room : undefined;
  }
}
