import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { unpackColumns } from '../wire/columns.js';
import { fromFault } from '../wire/fault.js';
import type { ReplyMessage } from '../wire/messages.js';
import { payloadCount, shareRows, unpackRows } from '../wire/rows.js';
import type { NumericArray } from '../wire/tensor.js';
import type { RecordResult } from './link.js';

/** Records refused before they were sent: position in the batch and why, in order. */
export type Refusals = readonly (readonly [number, TroupeError])[];

/** What the link must remember of a batch it sent, to put the answer together. */
export interface InFlightBatch {
  /** Records the caller gave. */
  readonly count: number;
  readonly refusals: Refusals;
  /** Results may be views over one buffer. */
  readonly shared: boolean;
  /** The key of the one it is for, where the replica holds many. */
  readonly model?: string | undefined;
}

/**
 * One result per record the caller gave; `copied` is told of the data of the reply that no result shows. Throws
 * PROTOCOL_VIOLATION when the reply does not hold as many as were sent.
 */
export function resultsOf(
  batch: InFlightBatch,
  reply: ReplyMessage,
  copied?: (data: NumericArray) => void,
): RecordResult[] {
  const { count, refusals, shared } = batch;
  const { payload } = reply;
  if (payloadCount(payload) !== count - refusals.length) {
    const message = `A batch of ${count - refusals.length} records was answered with ${payloadCount(payload)} results`;
    throw new TroupeError('PROTOCOL_VIOLATION', message);
  }
  const values =
    payload.kind === 'columns'
      ? unpackColumns(payload.columns, copied)
      : shared
        ? shareRows(payload, copied)
        : unpackRows(payload, copied);
  const { faults } = reply;
  const results: RecordResult[] = [];
  let nextRefusal = 0;
  let nextFault = 0;
  let sent = 0;
  for (let index = 0; index < count; index++) {
    const refusal = refusals[nextRefusal];
    if (refusal !== undefined && refusal[0] === index) {
      nextRefusal++;
      results.push({ ok: false, error: refusal[1] });
      continue;
    }
    const fault = faults?.[nextFault];
    if (fault !== undefined && fault[0] === sent) {
      nextFault++;
      results.push({ ok: false, error: asTroupeError(fromFault(fault[1])) });
    } else {
      results.push({ ok: true, value: values[sent] });
    }
    sent++;
  }
  return results;
}

/** Results of a batch of which no record could be sent. */
export function refusedResults(refusals: Refusals): RecordResult[] {
  return refusals.map(([, error]): RecordResult => ({ ok: false, error }));
}

/** The entry sends TroupeErrors only; anything else is a defect on the way and is said to be one. */
export function asTroupeError(error: Error): TroupeError {
  return isTroupeError(error)
    ? error
    : new TroupeError('INTERNAL', `An untyped error came: ${error.message}`, { cause: error });
}
