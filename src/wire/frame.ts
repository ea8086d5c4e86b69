import { TroupeError } from '../kernel/errors.js';
import { type TakeBuffer, unzeroed } from './recycler.js';

/**
 * Frames of the process data lane: 8 bytes of header (magic 'TR', protocol version, kind, payload length as u32 little
 * endian), then the payload. A large array travels in a frame of its own, before the message it belongs to, so that its
 * bytes are written from and read into exactly its own memory.
 *
 * The decoder keeps at most one unfinished frame: it allocates exactly that payload once, when its length is known and
 * allowed, so a peer that dribbles or splits costs nothing more. Bytes that are read into `space()` are not even copied
 * once a frame's length is known.
 */
export const FRAME_VERSION = 2;
export const FRAME_HEADER_BYTES = 8;
/** No batch is larger: one column may hold 2 GiB, but a frame that long is a broken peer long before it is work. */
export const FRAME_BYTES_MAX = 1024 * 1024 * 1024;

// Two bits apart: no flipped bit makes one kind of another.

/** A message of which the receiver keeps nothing but what it copies. */
export const FRAME_MESSAGE = 0;
/** One large array of the message that follows. */
export const FRAME_ARRAY = 3;
/** A message with plain values, whose typed arrays lie in the frame for as long as they are kept: it is never lent. */
export const FRAME_VALUES = 5;
export type FrameKind = typeof FRAME_MESSAGE | typeof FRAME_ARRAY | typeof FRAME_VALUES;

const MAGIC_0 = 0x54;
const MAGIC_1 = 0x52;

/** Writes a header at `at`. Throws INPUT_INVALID when the payload is longer than a frame may be. */
export function writeFrameHeader(
  target: Buffer,
  at: number,
  payloadBytes: number,
  kind: FrameKind = FRAME_MESSAGE,
): void {
  if (payloadBytes > FRAME_BYTES_MAX) {
    throw new TroupeError(
      'INPUT_INVALID',
      `A batch of ${payloadBytes} bytes cannot be sent to a process: at most ${FRAME_BYTES_MAX}; lower batching.maxBytes`,
    );
  }
  target[at] = MAGIC_0;
  target[at + 1] = MAGIC_1;
  target[at + 2] = FRAME_VERSION;
  target[at + 3] = kind;
  target.writeUInt32LE(payloadBytes, at + 4);
}

/** One whole frame in one buffer. */
export function encodeFrame(payload: Uint8Array, kind: FrameKind = FRAME_MESSAGE): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.byteLength);
  writeFrameHeader(frame, 0, payload.byteLength, kind);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

export type FrameListener = (payload: Buffer, kind: FrameKind) => unknown;

export interface FrameDecoderOptions {
  /** Longest payload that is taken. Default FRAME_BYTES_MAX. */
  readonly bytesMax?: number;
  /** Where the memory of an array frame comes from. Default: fresh. */
  readonly take?: TakeBuffer;
  /**
   * Whether a whole FRAME_MESSAGE that lies in the bytes that were read is lent from there instead of copied: it is then
   * valid until more is read. Default false.
   */
  readonly lends?: boolean;
}

/** Puts frames together from chunks of any size. After it threw, it is dead: there is no way back into step. */
export class FrameDecoder {
  /** Longest payload that is taken from now on. */
  bytesMax: number;
  private readonly take: TakeBuffer;
  private readonly lends: boolean;
  private readonly header = Buffer.alloc(FRAME_HEADER_BYTES);
  private headerFill = 0;
  private kind: FrameKind = FRAME_MESSAGE;
  private payload: Buffer | undefined;
  private payloadFill = 0;
  private staging: Buffer | undefined;
  private isBroken = false;

  constructor({ bytesMax = FRAME_BYTES_MAX, take = unzeroed, lends = false }: FrameDecoderOptions = {}) {
    this.bytesMax = bytesMax;
    this.take = take;
    this.lends = lends;
  }

  /** Bytes of the unfinished frame that are held. */
  get heldBytes(): number {
    return this.headerFill + this.payloadFill;
  }

  /** Where the next bytes should be read into: never empty, and valid until `filled` or `push` is called. */
  space(): Buffer {
    if (this.payload !== undefined) return this.payload.subarray(this.payloadFill);
    this.staging ??= Buffer.allocUnsafeSlow(STAGING_BYTES);
    return this.staging;
  }

  /** `bytes` bytes were read into the last `space()`. As `push` otherwise. */
  filled(bytes: number, onFrame: FrameListener): void {
    if (this.payload === undefined) {
      this.push(this.space().subarray(0, bytes), onFrame);
      return;
    }
    this.payloadFill += bytes;
    if (this.payloadFill === this.payload.byteLength) this.close(onFrame);
  }

  /**
   * Takes a chunk and calls `onFrame` with each payload that is complete, each starting on an 8-byte boundary, in a buffer of
   * its own unless it is lent. Throws PROTOCOL_VIOLATION on a wrong magic, version, kind or length.
   */
  push(chunk: Uint8Array, onFrame: FrameListener): void {
    if (this.isBroken) throw violation('more bytes came after a broken frame');
    let at = 0;
    while (at < chunk.byteLength) {
      if (this.payload === undefined) {
        at += this.fillHeader(chunk, at);
        if (this.headerFill === FRAME_HEADER_BYTES) {
          const length = this.readHeader();
          const start = chunk.byteOffset + at;
          if (this.lends && this.kind === FRAME_MESSAGE && start % 8 === 0 && length <= chunk.byteLength - at) {
            this.headerFill = 0;
            onFrame(Buffer.from(chunk.buffer, start, length), FRAME_MESSAGE);
            at += length;
            continue;
          }
          this.payload = this.open(length);
        }
      } else {
        const take = Math.min(this.payload.byteLength - this.payloadFill, chunk.byteLength - at);
        this.payload.set(chunk.subarray(at, at + take), this.payloadFill);
        this.payloadFill += take;
        at += take;
      }
      if (this.payload !== undefined && this.payloadFill === this.payload.byteLength) this.close(onFrame);
    }
  }

  /** The peer has closed. Throws PROTOCOL_VIOLATION when a frame was cut off. */
  end(): void {
    if (this.heldBytes > 0) throw violation(`the peer closed inside a frame, after ${this.heldBytes} of its bytes`);
  }

  private fillHeader(chunk: Uint8Array, at: number): number {
    const take = Math.min(FRAME_HEADER_BYTES - this.headerFill, chunk.byteLength - at);
    this.header.set(chunk.subarray(at, at + take), this.headerFill);
    this.headerFill += take;
    // Garbage is refused at its first byte, not after eight.
    if (this.header[0] !== MAGIC_0 || (this.headerFill > 1 && this.header[1] !== MAGIC_1)) {
      throw this.broken('the bytes are not a frame (wrong magic)');
    }
    return take;
  }

  /** Length of the payload that follows. */
  private readHeader(): number {
    const version = this.header[2];
    if (version !== FRAME_VERSION) throw this.broken(`protocol version ${version}, expected ${FRAME_VERSION}`);
    const kind = this.header[3];
    if (kind !== FRAME_MESSAGE && kind !== FRAME_ARRAY && kind !== FRAME_VALUES)
      throw this.broken(`frame kind ${kind}`);
    const length = this.header.readUInt32LE(4);
    if (length > this.bytesMax) throw this.broken(`a frame of ${length} bytes, more than ${this.bytesMax}`);
    this.kind = kind;
    return length;
  }

  /** An ArrayBuffer of its own, so that arrays can be views with their alignment. Its pages are touched only as bytes arrive. */
  private open(length: number): Buffer {
    if (this.kind === FRAME_ARRAY && length > 0) return Buffer.from(this.take(length));
    return Buffer.allocUnsafeSlow(length);
  }

  private close(onFrame: FrameListener): void {
    const whole = this.payload as Buffer;
    this.payload = undefined;
    this.payloadFill = 0;
    this.headerFill = 0;
    onFrame(whole, this.kind);
  }

  private broken(what: string): TroupeError {
    this.isBroken = true;
    return violation(what);
  }
}

/** Room for a batch of 128 small records and its header; the rest of a larger frame is read into its own memory. */
const STAGING_BYTES = 65_536;

function violation(what: string): TroupeError {
  return new TroupeError('PROTOCOL_VIOLATION', `Data lane: ${what}`);
}
