import { promisify } from 'node:util';
import { deflate, gzip } from 'node:zlib';
import { systemClock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import { type ByteBudget, readBody, Refusal } from '../stream/http-body.js';
import { answer, type IncomingMessage, type ServerResponse } from '../stream/http-listener.js';
import type { TensorRecord } from '../wire/tensor.js';
import { inferAll } from './infer-call.js';
import { invalid, shownValue } from './oip-invalid.js';
import { recordsFrom, rawRequest, tensorsOf, wantedOutputs } from './oip-records.js';
import { decodeRequest, isRaw, type OipRequest } from './oip-request.js';
import { type EncodedResponse, encodeResponse } from './oip-response.js';
import { PLAIN_VERSION, type ServedModel, tensorsOfModel } from './served-models.js';
import type { ResolvedServe } from './serve-options.js';

/**
 * One inference request over HTTP: its body becomes records, the records become results, the results its answer.
 */

const HEADER_LENGTH = 'inference-header-content-length';
/** Smaller answers are sent as they are: packing them takes longer than sending. */
const PACKED_BYTES_MIN = 1024;
/** The lowest number a client can give is the highest priority, and one below that of the probes of readiness. */
const PRIORITY_TOP = 100;
const PRIORITY_LEAST = -100;

const PACKERS: readonly (readonly [string, (bytes: Uint8Array) => Promise<Uint8Array>])[] = [
  ['gzip', (bytes) => promisify(gzip)(bytes)],
  ['deflate', (bytes) => promisify(deflate)(bytes)],
];

/** Resolves to the number of records when the answer is on its way; rejects with what failed, before anything is sent. */
export async function infer(
  served: ServedModel,
  request: IncomingMessage,
  response: ServerResponse,
  options: ResolvedServe,
  budget: ByteBudget,
): Promise<number> {
  const gone = new AbortController();
  const onClose = (): void => gone.abort();
  response.once('close', onClose);
  let held = 0;
  try {
    const body = await readBody(request, options.maxBodyBytes, budget);
    if (body === undefined) throw new TroupeError('CANCELLED', 'The client has gone');
    if (body instanceof Refusal) throw body;
    ({ held } = body);
    const { encoded, records } = await answerTo(served, request, body.bytes, options, gone.signal);
    response.off('close', onClose);
    await send(request, response, encoded, options);
    return records;
  } finally {
    response.off('close', onClose);
    budget.give(held);
  }
}

async function answerTo(
  served: ServedModel,
  http: IncomingMessage,
  body: Buffer,
  { nonFinite, maxRecords, timeoutMs }: ResolvedServe,
  signal: AbortSignal,
): Promise<{ readonly encoded: EncodedResponse; readonly records: number }> {
  const receivedAt = systemClock.now();
  const signature = await tensorsOfModel(served);
  const length = textOf(http.headers[HEADER_LENGTH]);
  const request = isRaw(length) ? rawRequest(body, signature) : decodeRequest(body, length, nonFinite);
  const records = recordsFrom(request.inputs, signature, maxRecords);
  const wanted = wantedOutputs(request, signature);
  const { values, versions } = await inferAll(served.pool, records, {
    deadlineAt: receivedAt + timeoutOf(request, timeoutMs),
    priority: priorityOf(request),
    model: served.model,
    traceparent: textOf(http.headers['traceparent']),
    signal,
  });
  const names = versions.map((version) => version ?? PLAIN_VERSION);
  const other = served.version === undefined ? undefined : names.find((name) => name !== served.version);
  if (other !== undefined && served.model === undefined)
    throw new TroupeError('VERSION_NOT_FOUND', `Model "${served.name}" went over to version ${other} meanwhile`);
  // While a new version takes over by a share of the records, a request may have been answered by both.
  const modelVersion = names.join(',');
  const outputs = tensorsOf(values as readonly TensorRecord[], wanted);
  const encoded = encodeResponse({ modelName: served.name, modelVersion, id: request.id, outputs }, nonFinite);
  return { encoded, records: records.length };
}

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  { json, blobs }: EncodedResponse,
  { maxBodyBytes }: ResolvedServe,
): Promise<void> {
  const head = Buffer.from(json);
  const size = blobs.reduce((total, blob) => total + blob.length, head.length);
  if (size > maxBodyBytes) throw invalid(`the answer has ${size} bytes, more than ${maxBodyBytes}; ask for less`);
  // It counts the JSON as it is, packed or not; a client that finds it looks for bytes behind the JSON.
  if (blobs.length > 0 && !response.headersSent) response.setHeader('Inference-Header-Content-Length', head.length);
  const type = blobs.length > 0 ? 'application/octet-stream' : 'application/json';
  const packer = size < PACKED_BYTES_MIN ? undefined : packerFor(textOf(request.headers['accept-encoding']));
  if (packer === undefined) {
    answer(request, response, 200, [head, ...blobs], type);
    return;
  }
  const [name, pack] = packer;
  const packed = await pack(Buffer.concat([head, ...blobs]));
  if (!response.headersSent) response.setHeader('content-encoding', name);
  answer(request, response, 200, [packed], type);
}

function packerFor(accepted: string | undefined): (typeof PACKERS)[number] | undefined {
  const names = (accepted ?? '')
    .toLowerCase()
    .split(',')
    .map((part) => part.trim().replace(/\s*;.*$/, ''));
  return PACKERS.find(([name]) => names.includes(name) && !refusesCoding(accepted ?? '', name));
}

function refusesCoding(accepted: string, name: string): boolean {
  return new RegExp(`${name}\\s*;\\s*q=0(\\.0*)?\\s*(,|$)`, 'i').test(accepted);
}

/** `timeout` is in microseconds; 0 is none of its own. */
function timeoutOf({ parameters }: OipRequest, otherwiseMs: number): number {
  const timeout = wholeOf(parameters.get('timeout'), 'timeout');
  return timeout === 0 ? otherwiseMs : Math.min(timeout / 1000, otherwiseMs);
}

/** 1 is the highest, 0 none of its own. */
function priorityOf({ parameters }: OipRequest): number {
  const priority = wholeOf(parameters.get('priority'), 'priority');
  return priority === 0 ? 0 : Math.max(PRIORITY_LEAST, PRIORITY_TOP - priority);
}

function wholeOf(value: unknown, name: string): number {
  if (value === undefined) return 0;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  if (typeof value === 'bigint' && value >= 0n) return Number(value);
  throw invalid(`parameter ${name} must be a whole number from 0, got ${shownValue(value)}`);
}

/** Of a header that is given once. */
function textOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header.join(', ') : header;
}
