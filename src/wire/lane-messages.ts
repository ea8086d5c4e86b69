import type { Fault } from './fault.js';
import { decodeWith, isCount, isFault, isFaultList } from './process-codec.js';
import type { Payload } from './rows.js';
import { PIECE_CREDIT } from './token-stream.js';

/**
 * What a client and a server of the framed lane say to each other over a Unix socket. One message carries a chunk of
 * records or of outcomes, and terms that are the same for all of a chunk stand in it once.
 *
 * A record has a number that its client gives once and never again. A message of outcomes has one of its own, `seq`, so
 * that a client that comes back says up to which it has heard.
 *
 * The decoder trusts nothing: every field that is used is checked here, with its length, before anybody acts on it.
 */
export const LANE_PROTOCOL = 2;
/** No message holds more records, whatever its limits are: counts are checked before anything is made of them. */
export const LANE_RECORDS_MAX = 65_536;
/** Of the names of pools, methods, keys and models, and of whoever connects. */
export const LANE_NAME_MAX = 1024;
export const LANE_CHANNELS_MAX = 1024;

/** One value for all records of a chunk, or a list of one for each. */
export type Folded<Value> = Value | readonly Value[];

export interface HelloMessage {
  readonly kind: 'hello';
  readonly protocol: number;
  /** Of this client and of no other; 32 hexadecimal digits. */
  readonly client: string;
  /** Outcomes up to this message have been heard. */
  readonly heard: number;
  /** How often the client lets itself be heard. */
  readonly heartbeatMs: number;
  readonly token?: string;
}

export interface RecordsMessage {
  readonly kind: 'records';
  readonly channel: number;
  /** The number of the first, where the others follow one by one; else of each, rising. */
  readonly ids: Folded<number>;
  /** True: the overflow rule of the pool decides about a full mailbox. False: they wait for room. */
  readonly asked: boolean;
  /** To the deadline; Infinity for none. */
  readonly remainingMs: Folded<number>;
  readonly priority: Folded<number>;
  readonly callTimeoutMs: Folded<number | undefined>;
  readonly key: Folded<string | undefined>;
  readonly model: Folded<string | undefined>;
  readonly traceparent: Folded<string | undefined>;
  readonly heard: number;
  /** Nothing more comes for now: batches need not wait to be full. */
  readonly flush: boolean;
  readonly payload: Payload;
}

export type ToServer =
  | HelloMessage
  | { readonly kind: 'open'; readonly channel: number; readonly pool: string }
  | RecordsMessage
  | { readonly kind: 'cancel'; readonly ids: readonly number[] }
  | { readonly kind: 'flush'; readonly channel: number }
  | {
      readonly kind: 'call';
      readonly id: number;
      readonly channel: number;
      readonly method: string;
      readonly args: readonly unknown[];
    }
  | { readonly kind: 'health' | 'stats'; readonly id: number; readonly channel: number }
  /** So many more pieces of the token stream that answers this record may come. */
  | { readonly kind: 'pull'; readonly id: number; readonly count: number }
  /** Nobody reads it any more. */
  | { readonly kind: 'quit'; readonly id: number }
  | { readonly kind: 'ping'; readonly heard: number }
  | { readonly kind: 'bye' };

export interface WelcomeMessage {
  readonly kind: 'welcome';
  readonly protocol: number;
  /** False: the server has nothing of this client; what it once sent is unknown there. */
  readonly resumed: boolean;
  /** Records the server has still, running or answered; no others of this client have run. */
  readonly known: readonly number[];
  /** Longest message it takes, and most records in one. */
  readonly frameBytes: number;
  readonly records: number;
  /** Most asked records that may be unanswered. */
  readonly asked: number;
}

export interface OutcomesMessage {
  readonly kind: 'outcomes';
  readonly seq: number;
  readonly ids: Folded<number>;
  readonly versions: Folded<string | undefined>;
  readonly models: Folded<string | undefined>;
  /** Records that failed, by position; what stands in their places of the payload means nothing. */
  readonly faults: readonly (readonly [number, Fault])[] | undefined;
  /** Places of those whose output is a token stream, whose pieces come when they are pulled. */
  readonly streams?: readonly number[];
  readonly payload: Payload;
}

/** So many records and bytes of a channel may be sent in all on this connection, those that ask not counted. */
export interface Allowance {
  readonly records: number;
  readonly bytes: number;
}

export type ToClient =
  | WelcomeMessage
  | { readonly kind: 'refused'; readonly fault: Fault }
  | ({
      readonly kind: 'opened';
      readonly channel: number;
      readonly repeatable: boolean;
      readonly attempts: number;
    } & Allowance)
  | { readonly kind: 'closed'; readonly channel: number; readonly fault: Fault }
  | OutcomesMessage
  | ({ readonly kind: 'grant'; readonly channel: number } & Allowance)
  | { readonly kind: 'answer'; readonly id: number; readonly fault?: Fault; readonly value?: unknown }
  /** Of the token stream that answers this record. */
  | { readonly kind: 'pieces'; readonly id: number; readonly values: readonly unknown[] }
  /** Once, behind its last piece; with why it is not whole. */
  | { readonly kind: 'ended'; readonly id: number; readonly fault?: Fault }
  | { readonly kind: 'pong' }
  | { readonly kind: 'leaving' };

/** One value where all are the same. */
export function folded<Value>(values: readonly Value[]): Folded<Value> {
  const [first] = values;
  for (let i = 1; i < values.length; i++) if (values[i] !== first) return values;
  return first as Value;
}

/** The number of the first where each is one more than the one before. */
export function foldedIds(ids: readonly number[]): Folded<number> {
  const [first = 0] = ids;
  for (let i = 1; i < ids.length; i++) if (ids[i] !== first + i) return ids;
  return first;
}

/** Of the record at this place. */
export function unfold<Value>(values: Folded<Value>, index: number): Value {
  return Array.isArray(values) ? ((values as readonly Value[])[index] as Value) : (values as Value);
}

export function unfoldId(ids: Folded<number>, index: number): number {
  return typeof ids === 'number' ? ids + index : (ids[index] as number);
}

/** Throws PROTOCOL_VIOLATION for whatever is no message to a server. */
export function decodeToServer(payload: Buffer, far: readonly Buffer[] = []): ToServer {
  return decodeWith<ToServer>(payload, far, checkToServer);
}

/** Throws PROTOCOL_VIOLATION for whatever is no message to a client. */
export function decodeToClient(payload: Buffer, far: readonly Buffer[] = []): ToClient {
  return decodeWith<ToClient>(payload, far, checkToClient);
}

type Fields = Readonly<Record<string, unknown>>;

function checkToServer(message: Fields): boolean {
  switch (message['kind']) {
    case 'hello':
      need(message, 'protocol', isCount);
      need(message, 'client', isClientId);
      need(message, 'heard', isCount);
      need(message, 'heartbeatMs', isSpan);
      need(message, 'token', isOptional(isName));
      return false;
    case 'open':
      need(message, 'channel', isChannel);
      need(message, 'pool', isName);
      return false;
    case 'records':
      checkRecords(message);
      return true;
    case 'cancel':
      need(message, 'ids', isIdList);
      return false;
    case 'flush':
      need(message, 'channel', isChannel);
      return false;
    case 'call':
    case 'health':
    case 'stats':
      need(message, 'id', isCount);
      need(message, 'channel', isChannel);
      if (message['kind'] !== 'call') return false;
      need(message, 'method', isName);
      need(message, 'args', Array.isArray);
      return false;
    case 'pull':
      need(message, 'id', isId);
      need(message, 'count', isCredit);
      return false;
    case 'quit':
      need(message, 'id', isId);
      return false;
    case 'ping':
      need(message, 'heard', isCount);
      return false;
    case 'bye':
      return false;
    default:
      throw new TypeError('a message of no known kind');
  }
}

function checkToClient(message: Fields): boolean {
  switch (message['kind']) {
    case 'welcome':
      for (const field of ['protocol', 'frameBytes', 'records', 'asked']) need(message, field, isCount);
      need(message, 'resumed', isFlag);
      need(message, 'known', isIdList);
      return false;
    case 'refused':
      need(message, 'fault', isFault);
      return false;
    case 'opened':
    case 'grant':
      for (const field of ['channel', 'records', 'bytes']) need(message, field, isCount);
      if (message['kind'] === 'grant') return false;
      need(message, 'repeatable', isFlag);
      need(message, 'attempts', isCount);
      return false;
    case 'closed':
      need(message, 'channel', isCount);
      need(message, 'fault', isFault);
      return false;
    case 'outcomes':
      checkOutcomes(message);
      return true;
    case 'answer':
      need(message, 'id', isCount);
      need(message, 'fault', isOptional(isFault));
      return false;
    case 'pieces':
      need(message, 'id', isId);
      need(message, 'values', isPieceList);
      return false;
    case 'ended':
      need(message, 'id', isId);
      need(message, 'fault', isOptional(isFault));
      return false;
    case 'pong':
    case 'leaving':
      return false;
    default:
      throw new TypeError('a message of no known kind');
  }
}

function checkRecords(message: Fields): void {
  const count = payloadCountOf(message);
  need(message, 'channel', isChannel);
  checkIds(message, count, true);
  need(message, 'asked', isFlag);
  need(message, 'flush', isFlag);
  need(message, 'heard', isCount);
  need(message, 'remainingMs', isFolded(isRemaining, count));
  need(message, 'priority', isFolded(isPriority, count));
  need(message, 'callTimeoutMs', isFolded(isOptional(isRemaining), count));
  for (const field of ['key', 'model', 'traceparent']) need(message, field, isFolded(isOptional(isName), count));
}

function checkOutcomes(message: Fields): void {
  const count = payloadCountOf(message);
  need(message, 'seq', isCount);
  checkIds(message, count, false); // In the order of their answers.
  for (const field of ['versions', 'models']) need(message, field, isFolded(isOptional(isName), count));
  need(message, 'streams', isOptional(isPlaceList(count)));
  const { faults } = message;
  if (faults === undefined) return;
  if (!isFaultList(faults) || (faults as [number][]).some(([index]) => index >= count))
    throw new TypeError('faults that are no list of them');
}

/** Of the payload as it stands in the message, before anything is made of it. */
function payloadCountOf({ payload }: Fields): number {
  const { kind, values, count } = (payload ?? {}) as Fields;
  const records = kind === 'rows' && Array.isArray(values) ? values.length : kind === 'packed' ? count : undefined;
  if (!isCount(records) || records === 0 || records > LANE_RECORDS_MAX)
    throw new RangeError('a payload without records');
  return records;
}

function checkIds({ ids }: Fields, count: number, rise: boolean): void {
  if (isId(ids) && isId(ids + count)) return;
  if (!Array.isArray(ids) || ids.length !== count) throw new TypeError('ids that are not those of the records');
  let last = 0;
  for (const id of ids as unknown[]) {
    if (!isId(id) || (rise && id <= last)) throw new TypeError('ids that do not rise');
    last = id;
  }
}

function need(message: Fields, field: string, is: (value: unknown) => boolean): void {
  if (!is(message[field])) throw new TypeError(`${field} of a message is not what it should be`);
}

function isFolded(is: (value: unknown) => boolean, count: number): (value: unknown) => boolean {
  return (value) => (Array.isArray(value) ? value.length === count && (value as unknown[]).every(is) : is(value));
}

function isOptional(is: (value: unknown) => boolean): (value: unknown) => boolean {
  return (value) => value === undefined || is(value);
}

function isIdList(value: unknown): boolean {
  return Array.isArray(value) && value.length <= 16 * LANE_RECORDS_MAX && (value as unknown[]).every(isId);
}

function isId(value: unknown): value is number {
  return isCount(value) && value > 0;
}

function isChannel(value: unknown): boolean {
  return isCount(value) && value < LANE_CHANNELS_MAX;
}

function isCredit(value: unknown): boolean {
  return isCount(value) && value > 0 && value <= PIECE_CREDIT;
}

function isPieceList(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.length <= PIECE_CREDIT;
}

function isPlaceList(count: number): (value: unknown) => boolean {
  return (value) =>
    Array.isArray(value) &&
    value.length <= count &&
    (value as unknown[]).every((place) => isCount(place) && place < count);
}

function isFlag(value: unknown): boolean {
  return typeof value === 'boolean';
}

/** Whether it can stand where a message has a name. One that cannot makes the whole message wrong. */
export function isName(value: unknown): boolean {
  return typeof value === 'string' && value.length <= LANE_NAME_MAX;
}

function isClientId(value: unknown): boolean {
  return typeof value === 'string' && /^[0-9a-f]{32}$/.test(value);
}

function isSpan(value: unknown): boolean {
  return typeof value === 'number' && value > 0 && value <= 3_600_000;
}

function isRemaining(value: unknown): boolean {
  return typeof value === 'number' && value >= 0;
}

function isPriority(value: unknown): boolean {
  return Number.isInteger(value) && Math.abs(value as number) <= 100;
}
