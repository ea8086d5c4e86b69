/**
 * Batch buffers that are used again. Memory that was touched just now is several times faster to fill than fresh memory:
 * 602 KB into a warm buffer take 29 us, into a fresh one 140 to 380 us, most of it page faults and cache misses.
 *
 * R1 A buffer is given only by whoever holds the last view of it. A buffer that went to a user (an actor's batch, the
 *    result of a lone record) is never given.
 * R2 A buffer is taken for exactly its own length, and whoever takes it writes every byte: nothing of an earlier batch
 *    can be seen in a later one.
 * R3 No more than COUNT_MAX buffers and BYTES_MAX bytes are held; the oldest go first.
 */
export class Recycler {
  private readonly held: ArrayBuffer[] = [];
  private heldBytes = 0;

  /** A buffer of this length: a warm one, or a fresh one that is not zeroed. */
  readonly take = (bytes: number): ArrayBuffer => {
    const { held } = this;
    for (let index = held.length - 1; index >= 0; index--) {
      const buffer = held[index] as ArrayBuffer;
      if (buffer.byteLength !== bytes) continue;
      held.splice(index, 1);
      this.heldBytes -= bytes;
      return buffer;
    }
    return unzeroed(bytes);
  };

  /** Offers a buffer. Too small, too large, shared, resizable and transferred ones are left to the garbage collector. */
  readonly give = (buffer: ArrayBufferLike): void => {
    const bytes = buffer.byteLength; // 0 once it was transferred.
    if (bytes < BYTES_MIN || bytes > BYTES_MAX || !isPlain(buffer)) return;
    if (this.held.includes(buffer)) return; // Given twice it would serve two batches.
    this.held.push(buffer);
    this.heldBytes += bytes;
    while (this.held.length > COUNT_MAX || this.heldBytes > BYTES_MAX) {
      this.heldBytes -= (this.held.shift() as ArrayBuffer).byteLength;
    }
  };

  /** Like `give`, when this view shows all of its buffer; a part of one may have neighbours that are still in use. */
  giveWhole(view: ArrayBufferView): void {
    if (view.byteLength === view.buffer.byteLength) this.give(view.buffer);
  }
}

/** Where packers get the memory of a batch from: `bytes` is above zero, and every byte of what comes is written. */
export type TakeBuffer = (bytes: number) => ArrayBuffer;

/** Whether a view shows all of a buffer that can be transferred and written to: whoever owns it owns the memory. */
export function ownsMemory(view: ArrayBufferView): boolean {
  return isPlain(view.buffer) && view.byteLength === view.buffer.byteLength;
}

/** Neither shared nor resizable, and of this realm. `resizable` is undefined on engines that know no such thing. */
function isPlain(buffer: ArrayBufferLike): buffer is ArrayBuffer {
  return buffer instanceof ArrayBuffer && (buffer as { resizable?: boolean }).resizable !== true;
}

/** Smaller ones are cheaper to allocate than to look for. */
const BYTES_MIN = 4096;
const BYTES_MAX = 16 * 2 ** 20;
/** maxInFlight batches under way and one being packed, with an input and an output each. */
const COUNT_MAX = 6;

/** A fresh buffer whose bytes mean nothing until they are written. */
export function unzeroed(bytes: number): ArrayBuffer {
  // Slow: outside of the shared pool of small Buffers, so that it can be transferred.
  return Buffer.allocUnsafeSlow(bytes).buffer as ArrayBuffer;
}
