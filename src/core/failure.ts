import type { ErrorCode, Ran, TroupeError } from '../kernel/errors.js';

/**
 * Why a record got no result. The error itself is made when it is first read: an Error costs more than the rest of a
 * record's way through the pool, and of those dropped under overload most are never looked at.
 */
export class Failure {
  readonly code: ErrorCode;
  readonly ran: Ran;
  readonly #make: () => TroupeError;
  #error: TroupeError | undefined;

  /** `make` must not read what can change after the record has settled. */
  constructor(code: ErrorCode, ran: Ran, make: () => TroupeError) {
    this.code = code;
    this.ran = ran;
    this.#make = make;
    this.#error = undefined;
  }

  get error(): TroupeError {
    return (this.#error ??= this.#make());
  }
}
