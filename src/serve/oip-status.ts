import { type ErrorCode, isTroupeError, type TroupeError } from '../kernel/errors.js';
import { Refusal } from '../stream/http-body.js';

/** How a request ended, for a metric. */
export type ServedOutcome = 'ok' | 'invalid' | 'unavailable' | 'late' | 'failed' | 'gone';

export const SERVED_OUTCOMES: readonly ServedOutcome[] = ['ok', 'invalid', 'unavailable', 'late', 'failed', 'gone'];

/** What is not here is a fault of the server or of a model: 500. */
const STATUS_OF: ReadonlyMap<ErrorCode, number> = new Map([
  ...(['INPUT_INVALID', 'PARSE_FAILED', 'RECORD_TOO_LARGE', 'CANCELLED'] as const).map((code) => [code, 400] as const),
  ...(['MODEL_NOT_FOUND', 'VERSION_NOT_FOUND', 'POOL_NOT_FOUND', 'NAME_INVALID'] as const).map(
    (code) => [code, 404] as const,
  ),
  ['SIGNATURE_MISMATCH', 501],
  // Clients and what stands between try these again, and 429 many never do.
  ...(
    [
      'MAILBOX_FULL',
      'MAILBOX_DROPPED',
      'OVERLOADED',
      'NO_REPLICA',
      'BREAKER_OPEN',
      'POOL_STOPPED',
      'MODEL_LOAD_FAILED',
    ] as const
  ).map((code) => [code, 503] as const),
]);

/** Why what clients of Triton may ask for is 501, UNIMPLEMENTED. */
export const UNSERVED = {
  decoupled:
    'may answer a request several times (decoupled): ask it by generate, generate_stream, or ModelStreamInfer over gRPC',
  files: 'models are loaded as they lie on disk: files are not taken from clients',
  versions: 'a model serves one version at a time: give version_policy as latest of 1, or as specific of one version',
  repositories: 'repositories have no names here',
  sharedMemory: 'shared memory is not served',
  settings: 'settings of traces and logs are not served',
} as const;

/** An answer that says why there is no other. */
export interface Failed {
  readonly status: number;
  readonly message: string;
  /** Whole seconds from 1, with status 503: 0 would make some clients come back at once. */
  readonly retryAfterS: number | undefined;
  readonly outcome: ServedOutcome;
}

/** Any error as an answer. Of one that is not typed, which is a defect, nothing is told but that. */
export function failureOf(error: unknown): Failed {
  if (error instanceof Refusal) return failed(error.status, error.message, undefined);
  if (!isTroupeError(error)) return failed(500, 'a defect of the server', undefined);
  return failed(statusOf(error), error.message, error.retryAfterMs);
}

/** Codes of gRPC, by what HTTP says. */
const GRPC_CODES: ReadonlyMap<number, number> = new Map([
  [400, 3],
  [401, 16],
  [403, 7],
  [404, 5],
  [408, 4],
  [413, 8],
  [415, 12],
  [429, 8],
  [501, 12],
  [503, 14],
  [504, 4],
]);
const GRPC_CANCELLED = 1;
const GRPC_INTERNAL = 13;

export function grpcCodeOf(error: unknown): number {
  if (isTroupeError(error) && error.code === 'CANCELLED') return GRPC_CANCELLED;
  return GRPC_CODES.get(failureOf(error).status) ?? GRPC_INTERNAL;
}

/** Codes of gRPC with their names, and what HTTP says of the same. */
const GRPC_STATUSES: readonly (readonly [string, number])[] = [
  ['OK', 200],
  // Not by us: something on the way there gave it up.
  ['CANCELLED', 502],
  ['UNKNOWN', 500],
  ['INVALID_ARGUMENT', 400],
  ['DEADLINE_EXCEEDED', 504],
  ['NOT_FOUND', 404],
  ['ALREADY_EXISTS', 409],
  ['PERMISSION_DENIED', 403],
  ['RESOURCE_EXHAUSTED', 413],
  ['FAILED_PRECONDITION', 400],
  ['ABORTED', 502],
  ['OUT_OF_RANGE', 400],
  ['UNIMPLEMENTED', 501],
  ['INTERNAL', 500],
  ['UNAVAILABLE', 503],
  ['DATA_LOSS', 500],
  ['UNAUTHENTICATED', 401],
];

/** What the status of a server of others means; one that is none is UNKNOWN. */
export function grpcStatusOf(code: number): { readonly name: string; readonly status: number } {
  const [name, status] = GRPC_STATUSES[code] ?? ['UNKNOWN', 500];
  return { name, status };
}

function statusOf({ code, ran }: TroupeError): number {
  // Late in the queue is overload, late in the model is not; so for a model that is a server itself.
  if (code === 'DEADLINE_PASSED' || code === 'REMOTE_UNAVAILABLE') return ran === 'not-started' ? 503 : 504;
  return STATUS_OF.get(code) ?? 500;
}

function failed(status: number, message: string, retryAfterMs: number | undefined): Failed {
  const retryAfterS = status === 503 ? Math.max(1, Math.ceil((retryAfterMs ?? 0) / 1000)) : undefined;
  return { status, message, retryAfterS, outcome: outcomeOf(status) };
}

function outcomeOf(status: number): ServedOutcome {
  if (status < 500) return 'invalid';
  return status === 503 ? 'unavailable' : status === 504 ? 'late' : 'failed';
}
