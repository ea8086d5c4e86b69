import { TroupeError } from '../kernel/errors.js';
import type { ModelLabels } from '../models/labels.js';
import type { Signature, TensorRecord } from '../wire/tensor.js';
import type { Gone } from './gone.js';
import { inferAll } from './infer-call.js';
import { invalid, shownValue } from './oip-invalid.js';
import { recordsFrom, tensorsOf, wantedOutputs } from './oip-records.js';
import type { OipRequest } from './oip-request.js';
import type { OipResponse } from './oip-response.js';
import { labelsOf, PLAIN_VERSION, type ServedModel } from './served-models.js';
import type { ResolvedServe } from './serve-options.js';

/** What a request that has been read is answered with, by whichever protocol it came. */

/** The lowest number a client can give is the highest priority, and one below that of the probes of readiness. */
const PRIORITY_TOP = 100;
const PRIORITY_LEAST = -100;

export interface RequestTerms {
  /** Instant of its last byte. */
  readonly receivedAt: number;
  /** Of the call that brought it; Infinity for none. */
  readonly deadlineAt: number;
  readonly traceparent: string | undefined;
  /** Its client has gone. */
  readonly signal: Gone;
}

/** Of a request, by whatever name it has them. */
export interface Parameters {
  readonly parameters: ReadonlyMap<string, unknown>;
}

export interface Answered {
  readonly response: OipResponse;
  readonly records: number;
}

/** The request becomes records, the records results, the results tensors. Rejects with what failed. */
export async function answerRequest(
  served: ServedModel,
  signature: Signature,
  request: OipRequest,
  { maxRecords, timeoutMs }: Pick<ResolvedServe, 'maxRecords' | 'timeoutMs'>,
  { receivedAt, deadlineAt, traceparent, signal }: RequestTerms,
): Promise<Answered> {
  const records = recordsFrom(request.inputs, signature, maxRecords);
  const wanted = wantedOutputs(request, signature);
  const { values, versions } = await inferAll(served.pool, records, {
    deadlineAt: Math.min(deadlineAt, receivedAt + timeoutOf(request, timeoutMs)),
    priority: priorityOf(request, served.pool.priorityLevels),
    model: served.model,
    traceparent,
    signal,
  });
  const modelVersion = versionOf(served, versions);
  const labels = await labelsFor(served, wanted, versions);
  const outputs = tensorsOf(values as readonly TensorRecord[], wanted, labels);
  return { response: { modelName: served.name, modelVersion, id: request.id, outputs }, records: records.length };
}

/** Undefined where no output is wanted as classes. */
export async function labelsFor(
  served: ServedModel,
  wanted: ReturnType<typeof wantedOutputs>,
  versions: readonly (string | undefined)[],
): Promise<ModelLabels | undefined> {
  const hasClasses = [...wanted.values()].some(({ classes }) => classes > 0);
  return hasClasses ? labelsOf(served, versions) : undefined;
}

/** As answers tell it. Throws VERSION_NOT_FOUND where it is not the one that was asked for. */
export function versionOf(served: ServedModel, versions: readonly (string | undefined)[]): string {
  const names = versions.map((version) => version ?? PLAIN_VERSION);
  const other = served.version === undefined ? undefined : names.find((name) => name !== served.version);
  if (other !== undefined && served.model === undefined)
    throw new TroupeError('VERSION_NOT_FOUND', `Model "${served.name}" went over to version ${other} meanwhile`);
  // While a new version takes over by a share of the records, a request may have been answered by both.
  return names.join(',');
}

/** The bytes of an answer have the same limit as those of a request. */
export function refuseLarge(size: number, { maxBodyBytes }: Pick<ResolvedServe, 'maxBodyBytes'>): void {
  if (size > maxBodyBytes) throw invalid(`the answer has ${size} bytes, more than ${maxBodyBytes}; ask for less`);
}

/** `timeout` is in microseconds; 0 is none of its own. */
export function timeoutOf({ parameters }: Parameters, otherwiseMs: number): number {
  const timeout = wholeOf(parameters.get('timeout'), 'timeout');
  return timeout === 0 ? otherwiseMs : Math.min(timeout / 1000, otherwiseMs);
}

/** 1 is the highest, 0 none of its own. Where the pool has levels, one that there is not is none either. */
export function priorityOf({ parameters }: Parameters, levels: ServedModel['pool']['priorityLevels']): number {
  const priority = wholeOf(parameters.get('priority'), 'priority');
  if (levels === undefined) return priority === 0 ? 0 : Math.max(PRIORITY_LEAST, PRIORITY_TOP - priority);
  if (priority === 0 || priority > levels.count) return 0;
  return Math.max(PRIORITY_LEAST, Math.min(PRIORITY_TOP - 1, levels.normal - priority));
}

function wholeOf(value: unknown, name: string): number {
  if (value === undefined) return 0;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  if (typeof value === 'bigint' && value >= 0n) return Number(value);
  throw invalid(`parameter ${name} must be a whole number from 0, got ${shownValue(value)}`);
}
