import { TroupeError } from '../kernel/errors.js';

/**
 * Frames of the process data lane: 8 bytes of header (magic 'TR', protocol version, a zero, payload length as u32 little
 * endian), then the payload. The decoder keeps at most one unfinished frame: it allocates exactly that payload once, when
 * its length is known and allowed, and copies each incoming byte once, so a peer that dribbles or splits costs nothing more.
 */
export const FRAME_VERSION = 1;
export const FRAME_HEADER_BYTES = 8;
/** No batch is larger: one column may hold 2 GiB, but a frame that long is a broken peer long before it is work. */
export const FRAME_BYTES_MAX = 1024 * 1024 * 1024;

const MAGIC_0 = 0x54;
const MAGIC_1 = 0x52;

/** Writes a header at `at`. Throws INPUT_INVALID when the payload is longer than a frame may be. */
export function writeFrameHeader(target: Buffer, at: number, payloadBytes: number): void {
  if (payloadBytes > FRAME_BYTES_MAX) {
    throw new TroupeError(
      'INPUT_INVALID',
      `A batch of ${payloadBytes} bytes cannot be sent to a process: at most ${FRAME_BYTES_MAX}; lower batching.maxBytes`,
    );
  }
  target[at] = MAGIC_0;
  target[at + 1] = MAGIC_1;
  target[at + 2] = FRAME_VERSION;
  target[at + 3] = 0;
  target.writeUInt32LE(payloadBytes, at + 4);
}

/** One whole frame in one buffer. */
export function encodeFrame(payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.byteLength);
  writeFrameHeader(frame, 0, payload.byteLength);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/** Puts frames together from chunks of any size. After it threw, it is dead: there is no way back into step. */
export class FrameDecoder {
  private readonly bytesMax: number;
  private readonly header = Buffer.alloc(FRAME_HEADER_BYTES);
  private headerFill = 0;
  private payload: Buffer | undefined;
  private payloadFill = 0;
  private isBroken = false;

  constructor(bytesMax = FRAME_BYTES_MAX) {
    this.bytesMax = bytesMax;
  }

  /** Bytes of the unfinished frame that are held. */
  get heldBytes(): number {
    return this.headerFill + this.payloadFill;
  }

  /**
   * Takes a chunk and calls `onFrame` with each payload that is complete, each in a buffer of its own that starts on an
   * 8-byte boundary. Throws PROTOCOL_VIOLATION on a wrong magic, version or length.
   */
  push(chunk: Uint8Array, onFrame: (payload: Buffer) => unknown): void {
    if (this.isBroken) throw violation('more bytes came after a broken frame');
    let at = 0;
    while (at < chunk.byteLength) {
      if (this.payload === undefined) {
        at += this.fillHeader(chunk, at);
        if (this.headerFill === FRAME_HEADER_BYTES) this.openPayload();
      } else {
        const take = Math.min(this.payload.byteLength - this.payloadFill, chunk.byteLength - at);
        this.payload.set(chunk.subarray(at, at + take), this.payloadFill);
        this.payloadFill += take;
        at += take;
      }
      if (this.payload !== undefined && this.payloadFill === this.payload.byteLength) {
        const whole = this.payload;
        this.payload = undefined;
        this.payloadFill = 0;
        this.headerFill = 0;
        onFrame(whole);
      }
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

  private openPayload(): void {
    const version = this.header[2];
    if (version !== FRAME_VERSION) throw this.broken(`protocol version ${version}, expected ${FRAME_VERSION}`);
    if (this.header[3] !== 0) throw this.broken(`reserved byte ${this.header[3]}, expected 0`);
    const length = this.header.readUInt32LE(4);
    if (length > this.bytesMax) throw this.broken(`a frame of ${length} bytes, more than ${this.bytesMax}`);
    // Slow: an ArrayBuffer of its own, so that columns can be views with their alignment. Not zeroed: pages are
    // touched only as bytes arrive.
    this.payload = Buffer.allocUnsafeSlow(length);
  }

  private broken(what: string): TroupeError {
    this.isBroken = true;
    return violation(what);
  }
}

function violation(what: string): TroupeError {
  return new TroupeError('PROTOCOL_VIOLATION', `Data lane: ${what}`);
}
