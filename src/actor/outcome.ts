import type { BatchCall } from '../core/effects.js';
import type { TroupeError } from '../kernel/errors.js';

/**
 * How one record ended. `version` is the model version that made the value, where the pool has a model. `call` is the
 * batch whose end settled it, one object for all its records; undefined where it settled otherwise (expired, refused).
 */
export type Outcome<Out> =
  | {
      readonly ok: true;
      readonly value: Out;
      readonly version: string | undefined;
      readonly call?: BatchCall | undefined;
    }
  | { readonly ok: false; readonly error: TroupeError; readonly call?: BatchCall | undefined };
