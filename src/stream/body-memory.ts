/**
 * Memory of large bodies that is used again: a body of 1 MiB costs more to find fresh memory for, which the collector has
 * to take back later, than to copy.
 *
 * M1 what comes back is taken away from whoever still looks at it: its views are empty from then on, so that nobody ever
 *    sees bytes of another request.
 * M2 no more than `bytesMax` lie ready, and none that was not needed for IDLE_MS.
 */
import { type Clock, systemClock } from '../kernel/clock.js';

/** Smaller bodies are cheaper to find fresh memory for. */
export const REUSED_BYTES_MIN = 131_072;
/** Sizes are multiples of it, so that bodies of nearly one size can use one another's. */
const STEP_BYTES = 65_536;
/** So much larger than the body the memory may be. */
const SLACK = 1.25;
export const IDLE_MS = 5000;

export class BodyMemory {
  #free: ArrayBuffer[] = [];
  #freeBytes = 0;
  /** That have lain here since the last look. */
  #idleCount = 0;
  #isWatched = false;

  constructor(
    private readonly bytesMax: number,
    private readonly clock: Clock = systemClock,
  ) {}

  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** Memory that is ready; undefined where there is none of about this size. Its bytes mean nothing. */
  take(bytes: number): Buffer | undefined {
    for (let index = this.#free.length - 1; index >= 0; index--) {
      const buffer = this.#free[index] as ArrayBuffer;
      if (buffer.byteLength < bytes || buffer.byteLength > SLACK * bytes + STEP_BYTES) continue;
      this.#free.splice(index, 1);
      this.#freeBytes -= buffer.byteLength;
      this.#idleCount = Math.min(this.#idleCount, index);
      return Buffer.from(buffer);
    }
    return undefined;
  }

  /** Fresh memory that can come back. */
  make(bytes: number): Buffer {
    return Buffer.allocUnsafeSlow(Math.ceil(bytes / STEP_BYTES) * STEP_BYTES);
  }

  /** M1. For memory of `take` or `make`. */
  give({ buffer }: Buffer): void {
    const bytes = buffer.byteLength;
    if (bytes > this.bytesMax) return;
    while (this.#freeBytes + bytes > this.bytesMax) this.#drop(1);
    this.#free.push(structuredClone(buffer as ArrayBuffer, { transfer: [buffer as ArrayBuffer] }));
    this.#freeBytes += bytes;
    this.#watch();
  }

  /** M2. */
  #watch(): void {
    if (this.#isWatched) return;
    this.#isWatched = true;
    this.#idleCount = this.#free.length;
    const timer = this.clock.at(this.clock.now() + IDLE_MS, () => {
      this.#isWatched = false;
      this.#drop(this.#idleCount);
      if (this.#free.length > 0) this.#watch();
    });
    timer.hold?.(false);
  }

  /** The oldest. */
  #drop(count: number): void {
    for (const { byteLength } of this.#free.splice(0, count)) this.#freeBytes -= byteLength;
    this.#idleCount = Math.max(0, this.#idleCount - count);
  }
}
