import { promisify } from 'node:util';
import { deflate, gzip } from 'node:zlib';
import { systemClock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import type { BodyMemory } from '../stream/body-memory.js';
import { busy, type ByteBudget, readBody, Refusal } from '../stream/http-body.js';
import { answer, type IncomingMessage, type ServerResponse } from '../stream/http-listener.js';
import { Departure } from './gone.js';
import { answerRequest, refuseLarge } from './oip-answer.js';
import { rawRequest } from './oip-records.js';
import { decodeRequest, isRaw, type KnownHead } from './oip-request.js';
import { type EncodedResponse, encodeResponse } from './oip-response.js';
import { type ServedModel, tensorsOfModel } from './served-models.js';
import type { ResolvedServe } from './serve-options.js';

/**
 * One inference request over HTTP: its body becomes records, the records become results, the results its answer.
 */

const HEADER_LENGTH = 'inference-header-content-length';
/** Smaller answers are sent as they are: packing them takes longer than sending. */
const PACKED_BYTES_MIN = 1024;

const PACKERS: readonly (readonly [string, (bytes: Uint8Array) => Promise<Uint8Array>])[] = [
  ['gzip', (bytes) => promisify(gzip)(bytes)],
  ['deflate', (bytes) => promisify(deflate)(bytes)],
];

/** What all requests of a server share. */
export interface InferParts {
  readonly options: ResolvedServe;
  readonly budget: ByteBudget;
  readonly memory: BodyMemory;
}

/** Resolves to the number of records when the answer is on its way; rejects with what failed, before anything is sent. */
export async function infer(
  served: ServedModel,
  request: IncomingMessage,
  response: ServerResponse,
  { options, budget, memory }: InferParts,
  known: KnownHead,
): Promise<number> {
  const gone = new Departure();
  /** Of the request, until it is answered; then of the answer, until nobody has to read it any more. */
  let held = 0;
  let isAnswered = false;
  response.on('close', () => {
    gone.abort();
    if (isAnswered) budget.give(held);
  });
  try {
    const length = textOf(request.headers[HEADER_LENGTH]);
    // Where the first tensor begins: what lies evenly need not be copied.
    const alignedAt = Number.parseInt(length ?? '', 10) || 0;
    const body = await readBody(request, options.maxBodyBytes, budget, { alignedAt: Math.max(0, alignedAt), memory });
    if (body === undefined) throw new TroupeError('CANCELLED', 'The client has gone');
    if (body instanceof Refusal) throw body;
    ({ held } = body);
    const receivedAt = systemClock.now();
    const signature = await tensorsOfModel(served);
    const asked = isRaw(length)
      ? rawRequest(body.bytes, signature)
      : decodeRequest(body.bytes, length, options.nonFinite, known);
    const traceparent = textOf(request.headers['traceparent']);
    const terms = { receivedAt, deadlineAt: Infinity, traceparent, signal: gone };
    const { response: answered, records } = await answerRequest(served, signature, asked, options, terms);
    const encoded = encodeResponse(answered, options.nonFinite);
    // Every record has its result; one that is what was asked, of an actor that gave back its input, keeps the memory.
    const { buffer } = body.bytes;
    if (!encoded.blobs.some((blob) => blob.buffer === buffer)) body.free?.();
    budget.give(held);
    held = 0;
    const size = sizeOf(encoded);
    refuseLarge(size, options);
    if (!budget.take(size)) throw busy();
    held = size;
    isAnswered = !gone.aborted;
    await send(request, response, encoded, size);
    return records;
  } finally {
    if (!isAnswered) budget.give(held);
  }
}

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  { json, blobs }: EncodedResponse,
  size: number,
): Promise<void> {
  const head = Buffer.from(json);
  // It counts the JSON as it is, packed or not; a client that finds it looks for bytes behind the JSON.
  const said = blobs.length > 0 ? ['Inference-Header-Content-Length', String(head.length)] : [];
  const type = blobs.length > 0 ? 'application/octet-stream' : 'application/json';
  const packer = size < PACKED_BYTES_MIN ? undefined : packerFor(textOf(request.headers['accept-encoding']));
  if (packer === undefined) {
    answer(request, response, 200, [head, ...blobs], type, said);
    return;
  }
  const [name, pack] = packer;
  const packed = await pack(Buffer.concat([head, ...blobs]));
  answer(request, response, 200, [packed], type, ['content-encoding', name, ...said]);
}

function sizeOf({ json, blobs }: EncodedResponse): number {
  return blobs.reduce((total, blob) => total + blob.length, Buffer.byteLength(json));
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

/** Of a header that is given once. */
function textOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header.join(', ') : header;
}
