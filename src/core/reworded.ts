import { type ErrorDetails, TroupeError } from '../kernel/errors.js';

/** The same error with another message: what happened afterwards belongs into it, and whoever holds the first keeps it. */
export function reworded(error: TroupeError, message: string, cause: unknown = error.cause): TroupeError {
  const { ran, actor, replica, incarnation, modelVersion, attempt, recordIds, retryAfterMs } = error;
  const details = { ran, cause, actor, replica, incarnation, modelVersion, attempt, recordIds, retryAfterMs };
  // The constructor leaves out what is undefined; the type of its details does not allow it to be said.
  return new TroupeError(error.code, message, details as ErrorDetails);
}
