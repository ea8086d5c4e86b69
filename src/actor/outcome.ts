import type { TroupeError } from '../kernel/errors.js';

/**
 * How one record ended. `version` is the model version that made the value, where the pool has a model; `model` its name,
 * where the pool holds many.
 */
export type Outcome<Out> =
  | { readonly ok: true; readonly value: Out; readonly version: string | undefined; readonly model?: string }
  | { readonly ok: false; readonly error: TroupeError };
