import { BYTES, VARINT, type Wire } from './proto-reader.js';

/** Writes one message of Protocol Buffers. Fields come in the order of the calls. */
export class ProtoWriter {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES);
  #length = 0;

  /** What is written so far. The memory is the writer's: write no more after this. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** int32, int64, uint64, bool or enum: whole, and within 64 bits. */
  number(field: number, value: number | bigint): void {
    this.#tag(field, VARINT);
    this.varint(value);
  }

  text(field: number, value: string): void {
    const length = Buffer.byteLength(value);
    this.head(field, length);
    this.#room(length);
    this.#length += this.#bytes.write(value, this.#length);
  }

  message(field: number, value: Uint8Array): void {
    this.head(field, value.length);
    this.#room(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  /** What stands before so many bytes, which somebody else puts there. */
  head(field: number, length: number): void {
    this.#tag(field, BYTES);
    this.varint(length);
  }

  varint(value: number | bigint): void {
    this.#room(MOST_BYTES);
    if (typeof value === 'bigint' || value < 0) {
      this.#long(BigInt.asUintN(64, BigInt(value)));
      return;
    }
    let left = value;
    while (left > 0x7f) {
      this.#bytes[this.#length++] = (left & 0x7f) | 0x80;
      // Not by shifting: that keeps 32 bits.
      left = Math.floor(left / 128);
    }
    this.#bytes[this.#length++] = left;
  }

  #long(value: bigint): void {
    let left = value;
    while (left > 0x7fn) {
      this.#bytes[this.#length++] = Number(left & 0x7fn) | 0x80;
      left >>= 7n;
    }
    this.#bytes[this.#length++] = Number(left);
  }

  #tag(field: number, wire: Wire): void {
    this.varint(field * 8 + wire);
  }

  #room(length: number): void {
    if (this.#length + length <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#length + length, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

const FIRST_BYTES = 256;
/** Of a varint. */
const MOST_BYTES = 10;
