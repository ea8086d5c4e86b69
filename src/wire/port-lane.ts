import type { MessagePort, Transferable } from 'node:worker_threads';
import type { ToEntry, ToHost } from './messages.js';
import type { Column, NumericArray } from './tensor.js';

/**
 * The data lane of a thread. Packed rows and columns are fresh buffers by then (never the caller's: transferring an array
 * twice delivers a zero-length one on Node 20), so they are transferred; below TRANSFER_BYTES_MIN a clone is cheaper.
 */

const TRANSFER_BYTES_MIN = 4096;

/** Throws DataCloneError when a value cannot be copied. Nothing has been sent then. */
export function postToEntry(port: MessagePort, message: ToEntry): void {
  post(port, message);
}

export function postToHost(port: MessagePort, message: ToHost): void {
  post(port, message);
}

function post(port: MessagePort, message: ToEntry | ToHost): void {
  const transfers =
    'payload' in message ? transfersOf(message) : message.kind === 'spent' ? message.buffers : undefined;
  const sent = shortOf(message);
  if (transfers === undefined) port.postMessage(sent);
  else port.postMessage(sent, transfers);
}

/**
 * The usual message, a packed batch or its reply without faults, as it crosses: a name costs more to clone than what it
 * names. All others cross as they are.
 */
type Short = readonly [
  code: typeof BATCH | typeof REPLY,
  incarnation: number,
  id: number,
  count: number,
  className: string,
  lengths: number | Uint32Array,
  data: NumericArray,
];
const BATCH = 0;
const REPLY = 1;

function shortOf(message: ToEntry | ToHost): Short | ToEntry | ToHost {
  const isReply = message.kind === 'reply';
  if ((!isReply && message.kind !== 'batch') || message.payload.kind !== 'packed') return message;
  if (isReply ? message.faults !== undefined : message.model !== undefined) return message;
  const { count, className, lengths, data } = message.payload;
  return [isReply ? REPLY : BATCH, message.incarnation, message.id, count, className, lengths, data];
}

/** What came over the port, as it was posted. */
export function fromPort(came: unknown): ToEntry | ToHost {
  if (!Array.isArray(came)) return came as ToEntry | ToHost;
  const [code, incarnation, id, count, className, lengths, data] = came as unknown as Short;
  const payload = { kind: 'packed', count, className, lengths, data } as const;
  return code === BATCH
    ? { kind: 'batch', incarnation, id, payload }
    : { kind: 'reply', incarnation, id, payload, faults: undefined };
}

function transfersOf(message: Extract<ToEntry | ToHost, { payload: unknown }>): Transferable[] | undefined {
  const { payload } = message;
  if (payload.kind === 'rows') return undefined;
  if (payload.kind === 'packed') {
    return payload.data.byteLength < TRANSFER_BYTES_MIN ? undefined : [payload.data.buffer as ArrayBuffer];
  }
  let transfers: ArrayBuffer[] | undefined;
  const { columns } = payload.columns;
  for (const name of Object.keys(columns)) {
    const { data } = columns[name] as Column;
    if (Array.isArray(data) || data.byteLength < TRANSFER_BYTES_MIN) continue;
    transfers ??= [];
    transfers.push(data.buffer as ArrayBuffer);
  }
  return transfers;
}
