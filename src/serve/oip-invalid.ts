import { TroupeError } from '../kernel/errors.js';

/** A request that is not what the protocol, or the model, says: status 400. */
export function invalid(message: string): TroupeError {
  return new TroupeError('INPUT_INVALID', message);
}

const NAME_CHARS_MAX = 100;
const VALUE_CHARS_MAX = 60;

/** A name of a client's choice, for a message. */
export function shownName(name: string): string {
  return JSON.stringify(name.length > NAME_CHARS_MAX ? `${name.slice(0, NAME_CHARS_MAX)}…` : name);
}

/** A value of a client's, for a message. */
export function shownValue(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value.length > VALUE_CHARS_MAX ? `${value.slice(0, VALUE_CHARS_MAX)}…` : value);
    case 'number':
    case 'bigint':
    case 'boolean':
      return String(value);
    case 'undefined':
      return 'nothing';
    default:
      return value === null ? 'null' : Array.isArray(value) ? 'an array' : 'an object';
  }
}
