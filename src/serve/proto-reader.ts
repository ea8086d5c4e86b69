import { TroupeError } from '../kernel/errors.js';

/**
 * Reads one message of Protocol Buffers, field by field, from bytes that a stranger sent. Allocates nothing but the texts it
 * is asked for: a message of millions of empty fields costs its reader time in proportion to its bytes, and no memory.
 *
 * R1 nothing is read beyond the end; a length, a varint or a text that goes past it is PARSE_FAILED.
 * R2 what is no field of ours is skipped, whatever it holds; groups, which nobody sends any more, are refused.
 */
export class ProtoReader {
  /** Of the field that `next` came to. */
  number = 0;
  wire: Wire = VARINT;
  #at = 0;
  #low = 0;
  #high = 0;

  constructor(private readonly bytes: Buffer) {}

  get isAtEnd(): boolean {
    return this.#at === this.bytes.length;
  }

  /** Goes to the next field, whose value has to be read or skipped before the one after it. */
  next(): boolean {
    if (this.isAtEnd) return false;
    this.#varint();
    const tag = this.#low;
    this.number = tag >>> 3;
    this.wire = (tag & 7) as Wire;
    if (this.#high !== 0 || this.number === 0) throw damaged(`there is no field number ${this.number}`);
    return true;
  }

  /** 64 bits without a sign; a bigint where a number cannot hold them. */
  uint(): number | bigint {
    this.#expect(VARINT);
    return this.nextUint();
  }

  /** 64 bits with a sign; a bigint where a number cannot hold them. */
  int(): number | bigint {
    this.#expect(VARINT);
    return this.nextInt();
  }

  bool(): boolean {
    this.#expect(VARINT);
    this.#varint();
    return this.#low !== 0 || this.#high !== 0;
  }

  double(): number {
    return this.fixed(FIXED64).readDoubleLE();
  }

  /** The bytes of a fixed field, in the memory of the message. */
  fixed(wire: typeof FIXED32 | typeof FIXED64): Buffer {
    this.#expect(wire);
    return this.#take(wire === FIXED32 ? 4 : 8);
  }

  /** The bytes of a message, a text or packed values, in the memory of the message. */
  slice(): Buffer {
    this.#expect(BYTES);
    this.#varint();
    if (this.#high !== 0) throw truncated();
    return this.#take(this.#low);
  }

  text(): string {
    return textOf(this.slice());
  }

  skip(): void {
    switch (this.wire) {
      case VARINT:
        this.#varint();
        return;
      case FIXED64:
      case FIXED32:
        this.#take(this.wire === FIXED32 ? 4 : 8);
        return;
      case BYTES:
        this.slice();
        return;
      default:
        throw damaged(`field ${this.number} has the wire type ${this.wire as number}`);
    }
  }

  /** The next of packed values, as `uint`. */
  nextUint(): number | bigint {
    this.#varint();
    const number = this.#high * 2 ** 32 + this.#low;
    return Number.isSafeInteger(number) ? number : (BigInt(this.#high) << 32n) | BigInt(this.#low);
  }

  /** The next of packed values, as `int`. */
  nextInt(): number | bigint {
    this.#varint();
    const number = (this.#high | 0) * 2 ** 32 + this.#low;
    return Number.isSafeInteger(number) ? number : (BigInt(this.#high | 0) << 32n) | BigInt(this.#low);
  }

  #expect(wire: Wire): void {
    if (this.wire !== wire) throw damaged(`field ${this.number} has the wire type ${this.wire}, expected ${wire}`);
  }

  #take(length: number): Buffer {
    const from = this.#at;
    if (length > this.bytes.length - from) throw truncated();
    this.#at = from + length;
    return this.bytes.subarray(from, this.#at);
  }

  #varint(): void {
    const { bytes } = this;
    let low = 0;
    let high = 0;
    for (let index = 0; ; index++) {
      if (this.#at === bytes.length) throw truncated();
      const byte = bytes[this.#at++] as number;
      const bits = byte & 0x7f;
      if (index < 4) low |= bits << (7 * index);
      else if (index === 4) {
        low |= bits << 28;
        high = bits >>> 4;
      } else if (index < 9) high |= bits << (7 * index - 32);
      else if (byte > 1) throw damaged('a number has more than 64 bits');
      else high |= bits << 31;
      if (byte < 0x80) break;
    }
    this.#low = low >>> 0;
    this.#high = high >>> 0;
  }
}

export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;
export type Wire = typeof VARINT | typeof FIXED64 | typeof BYTES | typeof FIXED32;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function textOf(bytes: Buffer): string {
  const text = bytes.toString();
  // It stands for what is no UTF-8, unless somebody wrote it.
  if (!text.includes('\ufffd')) return text;
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw damaged('a string is not UTF-8', cause);
  }
}

function truncated(): TroupeError {
  return damaged('it ends in the middle of a field');
}

function damaged(why: string, cause?: unknown): TroupeError {
  return new TroupeError('PARSE_FAILED', `the message is not what its .proto says: ${why}`, { cause });
}
