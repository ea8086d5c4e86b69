import { deserialize, serialize } from 'node:v8';
import { TroupeError } from '../kernel/errors.js';
import { numericClassNamed, numericClassOf } from './columns.js';
import { FRAME_HEADER_BYTES, writeFrameHeader } from './frame.js';
import type { ToEntry, ToHost } from './messages.js';
import { compact, type Payload } from './rows.js';
import type { Column, DType, NumericArray } from './tensor.js';

/**
 * Messages of the process data lane as frames. Payload: u32 length of the meta part, the meta part (v8 serialize, which is
 * safe here because only our own processes speak on this lane), then each numeric array as raw bytes, each starting on an
 * 8-byte boundary so that the receiver can use it where it lies.
 */

interface ColumnMeta {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Strings themselves, or the number of values among the raw bytes. */
  readonly data: readonly string[] | number;
}

type PayloadMeta =
  | { readonly kind: 'rows'; readonly values: readonly unknown[] }
  | {
      readonly kind: 'packed';
      readonly count: number;
      readonly className: string;
      readonly lengths: number | Uint32Array;
      readonly total: number;
    }
  | { readonly kind: 'columns'; readonly count: number; readonly columns: readonly ColumnMeta[] };

/** Up to here everything is copied into one buffer: one small write is cheaper than several pieces. */
const COPY_BYTES_MAX = 65_536;
const ALIGN = 8;
const PADDING = Buffer.alloc(ALIGN);

/** The pieces of one frame, in order. Pieces after the first may be the message's own arrays. Throws what v8 serialize throws. */
export function encodeMessage(message: ToEntry | ToHost): Buffer[] {
  const bulk: NumericArray[] = [];
  const meta = serialize('payload' in message ? { ...message, payload: metaOf(message.payload, bulk) } : message);
  const metaEnd = 4 + meta.byteLength;
  let total = metaEnd;
  for (const array of bulk) total = aligned(total) + array.byteLength;
  const isOneBuffer = total <= COPY_BYTES_MAX;
  const head = Buffer.allocUnsafe(FRAME_HEADER_BYTES + (isOneBuffer ? total : metaEnd));
  writeFrameHeader(head, 0, total);
  head.writeUInt32LE(meta.byteLength, FRAME_HEADER_BYTES);
  head.set(meta, FRAME_HEADER_BYTES + 4);
  const pieces: Buffer[] = [head];
  let at = metaEnd;
  for (const array of bulk) {
    const start = aligned(at);
    const bytes = Buffer.from(array.buffer, array.byteOffset, array.byteLength);
    if (isOneBuffer) {
      head.fill(0, FRAME_HEADER_BYTES + at, FRAME_HEADER_BYTES + start);
      head.set(bytes, FRAME_HEADER_BYTES + start);
    } else {
      if (start > at) pieces.push(PADDING.subarray(0, start - at));
      pieces.push(bytes);
    }
    at = start + array.byteLength;
  }
  return pieces;
}

/** A message again. Its numeric arrays are views over `payload`. Throws PROTOCOL_VIOLATION when the bytes are no message. */
export function decodeMessage(payload: Buffer): ToEntry | ToHost {
  try {
    const metaBytes = payload.readUInt32LE(0);
    const metaEnd = 4 + metaBytes;
    if (metaEnd > payload.byteLength) throw new RangeError(`meta part of ${metaBytes} bytes in ${payload.byteLength}`);
    const message = deserialize(payload.subarray(4, metaEnd)) as RawMessage;
    checkEnvelope(message);
    if (message.kind !== 'batch' && message.kind !== 'reply') return message as unknown as ToEntry | ToHost;
    const whole = restore(message.payload as PayloadMeta, new BulkReader(payload, metaEnd));
    return { ...message, payload: whole } as unknown as ToEntry | ToHost;
  } catch (error) {
    throw new TroupeError('PROTOCOL_VIOLATION', `Data lane: the bytes of a frame are no message`, { cause: error });
  }
}

interface RawMessage {
  readonly kind?: unknown;
  readonly incarnation?: unknown;
  readonly id?: unknown;
  readonly payload?: unknown;
  readonly fault?: unknown;
  readonly faults?: unknown;
}

function checkEnvelope(message: RawMessage): void {
  const { kind, incarnation, id, fault, faults } = message;
  const isKnown = kind === 'batch' || kind === 'abandon' || kind === 'reply' || kind === 'failed' || kind === 'crash';
  if (!isKnown) throw new TypeError(`message kind ${String(kind)}`);
  if (!isCount(incarnation)) throw new TypeError(`incarnation ${String(incarnation)}`);
  if (kind !== 'crash' && !isCount(id)) throw new TypeError(`batch id ${String(id)}`);
  if ((kind === 'failed' || kind === 'crash') && !isFault(fault)) throw new TypeError(`a ${kind} without its fault`);
  if (faults === undefined) return;
  const isList =
    Array.isArray(faults) && faults.every((entry) => Array.isArray(entry) && isCount(entry[0]) && isFault(entry[1]));
  if (!isList) throw new TypeError('faults that are no list of them');
}

function isFault(value: unknown): boolean {
  return typeof value === 'object' && value !== null && typeof (value as { message?: unknown }).message === 'string';
}

/** What would arrive of one value; throws when it cannot cross. */
export function copyThroughProcess(value: unknown): unknown {
  return deserialize(serialize(value));
}

function aligned(at: number): number {
  return Math.ceil(at / ALIGN) * ALIGN;
}

function metaOf(payload: Payload, bulk: NumericArray[]): PayloadMeta {
  switch (payload.kind) {
    case 'rows':
      return payload;
    case 'packed': {
      bulk.push(payload.data);
      const { kind, count, className, lengths, data } = payload;
      return { kind, count, className, lengths, total: data.length };
    }
    case 'columns': {
      const { count, columns } = payload.columns;
      const metas: ColumnMeta[] = [];
      for (const name of Object.keys(columns)) {
        const { dtype, shape, data } = columns[name] as Column;
        if (!Array.isArray(data)) bulk.push(data);
        metas.push({ name, dtype, shape, data: Array.isArray(data) ? data : data.length });
      }
      return { kind: 'columns', count, columns: metas };
    }
    default:
      return payload satisfies never;
  }
}

function restore(meta: PayloadMeta, reader: BulkReader): Payload {
  switch (meta.kind) {
    case 'rows':
      if (!Array.isArray(meta.values)) throw new TypeError('rows without values');
      // Their typed arrays are views over the frame by now, and one kept record would pin it.
      return { kind: 'rows', values: meta.values.map(compact) };
    case 'packed': {
      const { kind, count, className, lengths, total } = meta;
      checkLengths(count, lengths, total);
      return { kind, count, className, lengths, data: reader.take(numericClassNamed(className), total) };
    }
    case 'columns': {
      const columns: Record<string, Column> = Object.create(null) as Record<string, Column>;
      for (const { name, dtype, shape, data } of meta.columns) {
        const values = typeof data === 'number' ? reader.take(numericClassOf(dtype), data) : (data as string[]);
        columns[name] = { dtype, shape, data: values };
      }
      if (!isCount(meta.count)) throw new RangeError(`count ${String(meta.count)}`);
      return { kind: 'columns', columns: { count: meta.count, columns } };
    }
    default:
      throw new TypeError(`payload kind ${String((meta satisfies never as { kind?: unknown }).kind)}`);
  }
}

/** Hands out the raw arrays of a frame one after the other, never beyond its end. */
class BulkReader {
  private readonly payload: Buffer;
  private at: number;

  constructor(payload: Buffer, at: number) {
    this.payload = payload;
    this.at = at;
  }

  take(numericClass: ReturnType<typeof numericClassOf>, length: number): NumericArray {
    if (numericClass === undefined || !isCount(length)) throw new TypeError(`array of ${length} values`);
    const start = aligned(this.at);
    const end = start + length * numericClass.bytes;
    if (end > this.payload.byteLength) throw new RangeError(`array up to byte ${end} of ${this.payload.byteLength}`);
    this.at = end;
    return numericClass.over(this.payload.buffer as ArrayBuffer, this.payload.byteOffset + start, length);
  }
}

function checkLengths(count: number, lengths: number | Uint32Array, total: number): void {
  let sum = 0;
  if (typeof lengths === 'number') sum = lengths * count;
  else if (lengths.length !== count) throw new RangeError(`${lengths.length} lengths for ${count} records`);
  else for (const length of lengths) sum += length;
  if (!isCount(count) || sum !== total) throw new RangeError(`${count} records of ${sum} values, ${total} came`);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
