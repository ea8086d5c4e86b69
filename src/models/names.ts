import { TroupeError } from '../kernel/errors.js';

/**
 * The one grammar of every name that can reach a path, a metric label or another machine: systems, pools, pipelines,
 * models, aliases. A list of what is allowed, never of what is not; checked before any path is joined, and never after
 * decoding something first: a name with a per cent sign is no name.
 */

export const NAME_PATTERN = /^(?!\.)[A-Za-z0-9._-]{1,128}$/;
export const NAME_RULE = 'must be 1 to 128 of A-Z a-z 0-9 . _ - and not start with a dot';

/** A model, or one version of it by number or alias: `fr`, `fr@2`, `fr@stable`. */
export const MODEL_REF_PATTERN = /^(?!\.)[A-Za-z0-9._-]{1,128}(@(?!\.)[A-Za-z0-9._-]{1,128})?$/;

/** Positive whole numbers without leading zeros that a double holds exactly. */
const VERSION_PATTERN = /^[1-9]\d{0,15}$/;

/** The version that is the newest on offer; no alias may have this name. */
export const LATEST = 'latest';

export function isName(value: unknown): value is string {
  return typeof value === 'string' && NAME_PATTERN.test(value);
}

export function isVersion(value: unknown): value is string {
  return typeof value === 'string' && VERSION_PATTERN.test(value) && Number.isSafeInteger(Number(value));
}

/** The name itself; NAME_INVALID for anything else. `what` says whose name it is: `model`, `version`. */
export function checkName(what: string, value: unknown): string {
  if (isName(value)) return value;
  throw new TroupeError('NAME_INVALID', `The ${what} ${NAME_RULE}, got ${shownName(value)}`);
}

/** For messages: a name as it is, anything else as `shownName` writes it. */
export function plainName(value: unknown): string {
  return isName(value) ? value : shownName(value);
}

/** For messages: short, in quotes, control characters escaped. */
export function shownName(value: unknown): string {
  if (typeof value !== 'string') return typeof value;
  return value.length > 100
    ? `${JSON.stringify(value.slice(0, 100))}… (${value.length} characters)`
    : JSON.stringify(value);
}
