import { deserialize, serialize } from 'node:v8';
import { TroupeError } from '../kernel/errors.js';
import { numericClassNamed, numericClassOf } from './columns.js';
import {
  FRAME_ARRAY,
  FRAME_BYTES_MAX,
  FRAME_HEADER_BYTES,
  FRAME_MESSAGE,
  FRAME_VALUES,
  writeFrameHeader,
} from './frame.js';
import type { ToEntry, ToHost } from './messages.js';
import { compact, type Payload } from './rows.js';
import type { Column, DType, NumericArray } from './tensor.js';

/**
 * Messages of the process data lane as frames. Payload: u32 length of the meta part, the meta part (v8 serialize, which is
 * safe here because only our own processes speak on this lane), then each small numeric array as raw bytes, each starting
 * on an 8-byte boundary so that the receiver can use it where it lies. An array of FAR_BYTES_MIN or more is far: it goes
 * before the message as a frame of its own, is written from where it is, and arrives in exactly its own memory.
 */

interface ColumnMeta {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Strings themselves, or the number of values among the raw bytes. */
  readonly data: readonly string[] | number;
  readonly isFar: boolean;
}

type PayloadMeta =
  | { readonly kind: 'rows'; readonly values: readonly unknown[] }
  | {
      readonly kind: 'packed';
      readonly count: number;
      readonly className: string;
      readonly lengths: number | Uint32Array;
      readonly total: number;
      readonly isFar: boolean;
    }
  | { readonly kind: 'columns'; readonly count: number; readonly columns: readonly ColumnMeta[] };

/** Below, copying into one buffer and one small write are cheaper than a frame and a wait for the socket. */
export const FAR_BYTES_MIN = 65_536;
const ALIGN = 8;

/** A message of any lane: plain data, and at most one payload. */
export interface Carried {
  readonly kind: string;
  readonly payload?: Payload;
}

/** Memory for the message frame; it is all written. */
export type AllocateFrame = (bytes: number) => Buffer;

/**
 * The pieces of one message, in order; the last one is from `allocate`, and what stands before it are the headers and the
 * bytes of far arrays: the message's own memory. Throws what v8 serialize throws.
 */
export function encodeMessage(
  message: ToEntry | ToHost | Carried,
  allocate: AllocateFrame = Buffer.allocUnsafe,
): Buffer[] {
  const near: NumericArray[] = [];
  const far: NumericArray[] = [];
  const carried = (message as Carried).payload;
  const meta = serialize(carried === undefined ? message : { ...message, payload: metaOf(carried, near, far) });
  let end = 4 + meta.byteLength;
  for (const array of near) end = aligned(end) + array.byteLength;
  // To the boundary: the next frame of the same read can be used where it lies, too.
  const total = aligned(end);
  let all = total;
  for (const array of far) all += array.byteLength;
  if (all > FRAME_BYTES_MAX) checkTotal(all);
  const pieces: Buffer[] = [];
  for (const array of far) {
    const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
    writeFrameHeader(header, 0, array.byteLength, FRAME_ARRAY);
    pieces.push(header, Buffer.from(array.buffer, array.byteOffset, array.byteLength));
  }
  const frame = allocate(FRAME_HEADER_BYTES + total);
  // Typed arrays among plain values lie in the frame: only a payload whose arrays are copied out of it may be lent.
  const isLendable = carried !== undefined && carried.kind !== 'rows';
  writeFrameHeader(frame, 0, total, isLendable ? FRAME_MESSAGE : FRAME_VALUES);
  frame.writeUInt32LE(meta.byteLength, FRAME_HEADER_BYTES);
  frame.set(meta, FRAME_HEADER_BYTES + 4);
  let at = FRAME_HEADER_BYTES + 4 + meta.byteLength;
  for (const array of near) {
    const start = aligned(at);
    frame.fill(0, at, start);
    frame.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), start);
    at = start + array.byteLength;
  }
  frame.fill(0, at);
  pieces.push(frame);
  return pieces;
}

function checkTotal(bytes: number): void {
  // Throws: the message of a frame that is too long says what to do.
  writeFrameHeader(Buffer.allocUnsafe(FRAME_HEADER_BYTES), 0, bytes);
}

/**
 * A message again. Its numeric arrays are views over `payload` and over `far`, the array frames that came before it. Throws
 * PROTOCOL_VIOLATION when the bytes are no message or the arrays not its own.
 */
export function decodeMessage(payload: Buffer, far: readonly Buffer[] = []): ToEntry | ToHost {
  return decodeWith<ToEntry | ToHost>(payload, far, checkEnvelope);
}

/** Throws where the message is none of its lane; says whether it carries a payload. Its fields may be anything. */
export type CheckEnvelope = (message: Readonly<Record<string, unknown>>) => boolean;

/** As `decodeMessage`, for the messages of any lane. */
export function decodeWith<Message>(payload: Buffer, far: readonly Buffer[], check: CheckEnvelope): Message {
  try {
    const metaBytes = payload.readUInt32LE(0);
    const metaEnd = 4 + metaBytes;
    if (metaEnd > payload.byteLength) throw new RangeError(`meta part of ${metaBytes} bytes in ${payload.byteLength}`);
    const message = deserialize(payload.subarray(4, metaEnd)) as RawMessage;
    const isBulk = check(message as Readonly<Record<string, unknown>>);
    const reader = new BulkReader(payload, metaEnd, far);
    const whole = isBulk ? restore(message.payload as PayloadMeta, reader) : undefined;
    reader.end();
    // Pieces, answers and arguments stand in it as they are, and one that is kept would pin its frame.
    if (whole === undefined) return compact(message) as Message;
    return { ...message, payload: whole } as Message;
  } catch (error) {
    throw new TroupeError('PROTOCOL_VIOLATION', `Data lane: the bytes of a frame are no message`, { cause: error });
  }
}

/** Of a data lane; `spent` is for threads alone. */
const KINDS: ReadonlySet<unknown> = new Set<(ToEntry | ToHost)['kind']>([
  'batch',
  'abandon',
  'reply',
  'failed',
  'crash',
  'pull',
  'end-stream',
  'piece',
  'stream-ended',
]);
const STREAM_KINDS: ReadonlySet<unknown> = new Set(['pull', 'end-stream', 'piece', 'stream-ended']);

interface RawMessage {
  readonly kind?: unknown;
  readonly incarnation?: unknown;
  readonly id?: unknown;
  readonly payload?: unknown;
  readonly fault?: unknown;
  readonly faults?: unknown;
  readonly model?: unknown;
  readonly index?: unknown;
  readonly count?: unknown;
  readonly streams?: unknown;
}

function checkEnvelope(message: RawMessage): boolean {
  const { kind, incarnation, id, fault, faults, model, streams } = message;
  if (!KINDS.has(kind)) throw new TypeError(`message kind ${String(kind)}`);
  if (!isCount(incarnation)) throw new TypeError(`incarnation ${String(incarnation)}`);
  if (kind !== 'crash' && !isCount(id)) throw new TypeError(`batch id ${String(id)}`);
  if ((kind === 'failed' || kind === 'crash') && !isFault(fault)) throw new TypeError(`a ${kind} without its fault`);
  if (model !== undefined && typeof model !== 'string') throw new TypeError(`model of type ${typeof model}`);
  if (STREAM_KINDS.has(kind)) checkStream(message);
  if (streams !== undefined && !(Array.isArray(streams) && streams.every(isCount)))
    throw new TypeError('streams that are no list of places');
  if (faults !== undefined && !isFaultList(faults)) throw new TypeError('faults that are no list of them');
  return kind === 'batch' || kind === 'reply';
}

function checkStream({ kind, index, count, fault }: RawMessage): void {
  if (!isCount(index)) throw new TypeError(`stream at place ${String(index)}`);
  if (kind === 'pull' && !isCount(count)) throw new TypeError(`credit of ${String(count)}`);
  if (kind === 'stream-ended' && fault !== undefined && !isFault(fault))
    throw new TypeError('an end without its fault');
}

/** A place and its fault each. */
export function isFaultList(value: unknown): boolean {
  return Array.isArray(value) && value.every((entry) => Array.isArray(entry) && isCount(entry[0]) && isFault(entry[1]));
}

export function isFault(value: unknown): boolean {
  return typeof value === 'object' && value !== null && typeof (value as { message?: unknown }).message === 'string';
}

/** What would arrive of one value; throws when it cannot cross. */
export function copyThroughProcess(value: unknown): unknown {
  return deserialize(serialize(value));
}

function aligned(at: number): number {
  return Math.ceil(at / ALIGN) * ALIGN;
}

function metaOf(payload: Payload, near: NumericArray[], far: NumericArray[]): PayloadMeta {
  const place = (array: NumericArray): boolean => {
    const isFar = array.byteLength >= FAR_BYTES_MIN;
    // What is read while its owner may make it smaller must not lose its pages meanwhile.
    if (isFar && (array.buffer as { resizable?: boolean }).resizable === true) far.push(array.slice());
    else (isFar ? far : near).push(array);
    return isFar;
  };
  switch (payload.kind) {
    case 'rows':
      return payload;
    case 'packed': {
      const { kind, count, className, lengths, data } = payload;
      return { kind, count, className, lengths, total: data.length, isFar: place(data) };
    }
    case 'columns': {
      const { count, columns } = payload.columns;
      const metas: ColumnMeta[] = [];
      for (const name of Object.keys(columns)) {
        const { dtype, shape, data } = columns[name] as Column;
        if (Array.isArray(data)) metas.push({ name, dtype, shape, data, isFar: false });
        else metas.push({ name, dtype, shape, data: data.length, isFar: place(data) });
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
      const { kind, count, className, lengths, total, isFar } = meta;
      checkLengths(count, lengths, total);
      return { kind, count, className, lengths, data: reader.take(numericClassNamed(className), total, isFar) };
    }
    case 'columns': {
      const columns: Record<string, Column> = Object.create(null) as Record<string, Column>;
      for (const { name, dtype, shape, data, isFar } of meta.columns) {
        const values = typeof data === 'number' ? reader.take(numericClassOf(dtype), data, isFar) : (data as string[]);
        columns[name] = { dtype, shape, data: values };
      }
      if (!isCount(meta.count)) throw new RangeError(`count ${String(meta.count)}`);
      return { kind: 'columns', columns: { count: meta.count, columns } };
    }
    default:
      throw new TypeError(`payload kind ${String((meta satisfies never as { kind?: unknown }).kind)}`);
  }
}

/** Hands out the raw arrays of a message one after the other, never beyond their end. */
class BulkReader {
  private readonly payload: Buffer;
  private readonly far: readonly Buffer[];
  private at: number;
  private farAt = 0;

  constructor(payload: Buffer, at: number, far: readonly Buffer[]) {
    this.payload = payload;
    this.at = at;
    this.far = far;
  }

  take(numericClass: ReturnType<typeof numericClassOf>, length: number, isFar: boolean): NumericArray {
    if (numericClass === undefined || !isCount(length)) throw new TypeError(`array of ${length} values`);
    const bytes = length * numericClass.bytes;
    if (isFar) {
      const array = this.far[this.farAt++];
      if (array?.byteLength !== bytes) throw new RangeError(`array of ${bytes} bytes, ${array?.byteLength} came`);
      return numericClass.over(array.buffer as ArrayBuffer, array.byteOffset, length);
    }
    const start = aligned(this.at);
    const end = start + bytes;
    if (end > this.payload.byteLength) throw new RangeError(`array up to byte ${end} of ${this.payload.byteLength}`);
    this.at = end;
    return numericClass.over(this.payload.buffer as ArrayBuffer, this.payload.byteOffset + start, length);
  }

  end(): void {
    if (this.farAt !== this.far.length) throw new RangeError(`${this.far.length} arrays came, ${this.farAt} are used`);
  }
}

function checkLengths(count: number, lengths: number | Uint32Array, total: number): void {
  let sum = 0;
  if (typeof lengths === 'number') sum = lengths * count;
  else if (lengths.length !== count) throw new RangeError(`${lengths.length} lengths for ${count} records`);
  else for (const length of lengths) sum += length;
  if (!isCount(count) || sum !== total) throw new RangeError(`${count} records of ${sum} values, ${total} came`);
}

export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
