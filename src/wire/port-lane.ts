import type { MessagePort, Transferable } from 'node:worker_threads';
import type { ToEntry, ToHost } from './messages.js';
import type { Column } from './tensor.js';

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
  const transfers = 'payload' in message ? transfersOf(message) : undefined;
  if (transfers === undefined) port.postMessage(message);
  else port.postMessage(message, transfers);
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
