import { isTroupeError } from '../kernel/errors.js';
import { Refusal } from '../stream/http-body.js';
import { failureOf, type ServedOutcome } from './oip-status.js';

/** Errors as clients of OpenAI read them. */

/** A field of a request that is not what it must be: status 400. */
export class FieldRefusal extends Refusal {
  constructor(
    readonly param: string,
    message: string,
  ) {
    super(400, message);
  }
}

/** An answer that says why there is no other. */
export interface OpenAiFailure {
  readonly status: number;
  readonly body: string;
  readonly retryAfterS: number | undefined;
  readonly outcome: ServedOutcome;
}

/** Any error as an answer. `code` is ours in small letters: `model_not_found`, `mailbox_full` … */
export function openAiFailure(error: unknown): OpenAiFailure {
  const { status, message, retryAfterS, outcome } = failureOf(error);
  const code = error instanceof Refusal || isTroupeError(error) ? (error.code?.toLowerCase() ?? null) : null;
  const param = error instanceof FieldRefusal ? error.param : code === 'model_not_found' ? 'model' : null;
  return { status, body: errorBody(status, message, param, code), retryAfterS, outcome };
}

/** Of a request that was refused before anything of it was read. */
export function openAiErrorText(message: string, status: number): string {
  return errorBody(status, message, null, status === 401 ? 'invalid_api_key' : null);
}

function errorBody(status: number, message: string, param: string | null, code: string | null): string {
  return JSON.stringify({ error: { message, type: typeOf(status), param, code } });
}

function typeOf(status: number): string {
  if (status >= 500) return 'server_error';
  return status === 403 ? 'permission_error' : 'invalid_request_error';
}
