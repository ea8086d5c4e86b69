import { isTroupeError } from '../kernel/errors.js';

/** Checks of option values; a failed one throws a TypeError that names option, expectation and value. */
export function refuse(option: string, expected: string, value: unknown): never {
  throw new TypeError(`${option} must be ${expected}, got ${show(value)}`);
}

/** Unknown keys are refused, because a mistyped one would otherwise be a silent default. */
export function checkKeys(where: string, options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) refuse(where, 'an object of options', options);
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) throw new TypeError(`${where}: unknown option "${key}"; known are ${known.join(', ')}`);
  }
}

export function checkFunction(option: string, value: unknown): void {
  if (typeof value !== 'function') refuse(option, 'a function', value);
}

export function checkOptionalFunction(option: string, value: unknown): void {
  if (value !== undefined) checkFunction(option, value);
}

export function checkCount(option: string, value: unknown, least = 1): void {
  if (!Number.isSafeInteger(value) || (value as number) < least) {
    refuse(option, `a whole number of at least ${least}`, value);
  }
}

export function checkMs(option: string, value: unknown): void {
  if (typeof value !== 'number' || !(value >= 0)) refuse(option, 'a number of milliseconds of at least 0', value);
}

/** Infinity is one: no limit. */
export function checkNumber(option: string, value: unknown, least: number): void {
  if (typeof value !== 'number' || !(value >= least)) refuse(option, `a number of at least ${least}`, value);
}

/** More than nothing; Infinity for no limit. */
export function checkSpan(option: string, value: unknown): void {
  if (typeof value !== 'number' || !(value > 0)) refuse(option, 'a number of milliseconds above 0', value);
}

export function checkShare(option: string, value: unknown): void {
  if (typeof value !== 'number' || !(value >= 0 && value <= 1)) refuse(option, 'a number from 0 to 1', value);
}

export function checkOneOf(option: string, value: unknown, allowed: readonly string[]): void {
  if (!allowed.includes(value as string)) refuse(option, `one of ${allowed.join(', ')}`, value);
}

export function checkText(option: string, value: unknown): void {
  if (typeof value !== 'string' || value === '') refuse(option, 'a string that is not empty', value);
}

export function checkFlag(option: string, value: unknown): void {
  if (typeof value !== 'boolean') refuse(option, 'true or false', value);
}

export function checkSink(option: string, value: unknown): void {
  const isSink =
    typeof value === 'object' &&
    value !== null &&
    'write' in value &&
    typeof value.write === 'function' &&
    'close' in value &&
    typeof value.close === 'function';
  if (!isSink) refuse(option, 'a sink, such as toFile(path) or toArray()', value);
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'function') return 'a function';
  if (isTroupeError(value)) return value.code;
  if (typeof value !== 'object' || value === null) return String(value);
  return `an object with keys ${Object.keys(value).join(', ') || 'none'}`;
}
