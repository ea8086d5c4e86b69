import { ERROR_CODES, type ErrorCode, type ErrorDetails, type Ran, TroupeError } from '../kernel/errors.js';

/**
 * An error as plain data, because structured clone drops name, code and own fields, and because an error of foreign code
 * may hold anything: getters that throw, cycles, megabytes. `toFault` never throws and always returns a bounded object.
 */
export interface Fault {
  readonly name: string;
  readonly message: string;
  readonly code?: string | number;
  readonly stack?: string;
  readonly cause?: Fault;
  /** AggregateError's parts. */
  readonly errors?: readonly Fault[];
  /** Own enumerable fields that are plain data (string, number, boolean, null), at most 16. */
  readonly fields?: Readonly<Record<string, string | number | boolean | null>>;
}

/** Longest chain of causes that is kept. */
export const CAUSE_DEPTH_MAX = 8;
const PART_COUNT_MAX = 8;
const FIELD_COUNT_MAX = 16;
/** Errors in one fault altogether: causes of parts of causes must not multiply. */
const FAULT_COUNT_MAX = 32;
const MESSAGE_MAX = 8192;
const STACK_MAX = 8192;
const FIELD_MAX = 1024;

type Scalar = string | number | boolean | null;

/** Plain data of any thrown value. Never throws, whatever the value does when it is looked at. */
export function toFault(error: unknown): Fault {
  return convert(error, 0, { seen: new Set(), count: 0 });
}

/** The error again: a TroupeError where it was one, a built-in class where the name is one, else an Error of that name. */
export function fromFault(fault: Fault): Error {
  const cause = fault.cause === undefined ? undefined : fromFault(fault.cause);
  const error = isTroupeFault(fault) ? revive(fault, cause) : rebuild(fault, cause);
  if (fault.stack !== undefined) define(error, 'stack', fault.stack);
  return error;
}

/** What an error of foreign code asks to wait before it is tried again; undefined where it asks nothing sound. Never throws. */
export function retryAfterOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const retryAfterMs = read(error, 'retryAfterMs');
  return typeof retryAfterMs === 'number' && Number.isFinite(retryAfterMs) && retryAfterMs >= 0
    ? retryAfterMs
    : undefined;
}

interface Walk {
  readonly seen: Set<object>;
  count: number;
}

function convert(error: unknown, depth: number, walk: Walk): Fault {
  walk.count++;
  if (typeof error !== 'object' || error === null) {
    return { name: 'Error', message: `A value that is no Error was thrown: ${preview(error)}` };
  }
  walk.seen.add(error);
  const message = read(error, 'message');
  const name = read(error, 'name');
  const stack = read(error, 'stack');
  const code = read(error, 'code');
  const fault: { -readonly [K in keyof Fault]: Fault[K] } = {
    name: typeof name === 'string' && name !== '' ? cut(name, 256) : 'Error',
    message:
      typeof message === 'string'
        ? cut(message, MESSAGE_MAX)
        : `A value that is no Error was thrown: ${preview(error)}`,
  };
  if (typeof code === 'number' || typeof code === 'string')
    fault.code = typeof code === 'string' ? cut(code, 256) : code;
  if (typeof stack === 'string') fault.stack = cut(stack, STACK_MAX);
  const cause = read(error, 'cause');
  if (cause !== undefined && depth + 1 < CAUSE_DEPTH_MAX && isNew(cause, walk)) {
    fault.cause = convert(cause, depth + 1, walk);
  }
  const parts = partsOf(error);
  if (parts !== undefined) {
    const errors: Fault[] = [];
    for (const part of parts) {
      if (depth + 1 < CAUSE_DEPTH_MAX && isNew(part, walk)) errors.push(convert(part, depth + 1, walk));
    }
    fault.errors = errors;
  }
  const fields = fieldsOf(error);
  if (fields !== undefined) fault.fields = fields;
  return fault;
}

function isNew(value: unknown, walk: Walk): boolean {
  return walk.count < FAULT_COUNT_MAX && !(typeof value === 'object' && value !== null && walk.seen.has(value));
}

function partsOf(error: object): unknown[] | undefined {
  const parts = read(error, 'errors');
  try {
    return Array.isArray(parts) ? parts.slice(0, PART_COUNT_MAX) : undefined;
  } catch {
    return undefined; // A proxied array whose traps throw has no parts that could be told.
  }
}

/** Fields that have a place of their own in a fault, or that would reach the prototype when set again. */
const RESERVED = new Set([
  'name',
  'message',
  'stack',
  'code',
  'cause',
  'errors',
  '__proto__',
  'constructor',
  'prototype',
]);

function fieldsOf(error: object): Record<string, Scalar> | undefined {
  let keys: string[];
  try {
    keys = Object.keys(error);
  } catch {
    return undefined; // A proxy whose ownKeys trap throws has no fields that could be told.
  }
  let fields: Record<string, Scalar> | undefined;
  let count = 0;
  // Kept however many fields there are, and from a getter of the class too: a retry goes by it.
  const retryAfterMs = retryAfterOf(error);
  if (retryAfterMs !== undefined) {
    fields = { retryAfterMs };
    count = 1;
  }
  for (const key of keys) {
    if (count === FIELD_COUNT_MAX) break;
    if (RESERVED.has(key) || (key === 'retryAfterMs' && retryAfterMs !== undefined) || key.length > 256) continue;
    const value = read(error, key);
    if (value !== null && typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean')
      continue;
    fields ??= {};
    fields[key] = typeof value === 'string' ? cut(value, FIELD_MAX) : value;
    count++;
  }
  return fields;
}

/** A property that may throw when read; what cannot be read is not there. */
function read(target: object, key: string): unknown {
  try {
    return (target as Record<string, unknown>)[key];
  } catch {
    return undefined;
  }
}

function preview(value: unknown): string {
  try {
    if (typeof value === 'string') return cut(JSON.stringify(value), 256);
    if (typeof value !== 'object' || value === null) return cut(String(value), 256);
    return cut(JSON.stringify(value) ?? 'an object', 256);
  } catch {
    return 'a value that cannot be shown';
  }
}

function cut(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max)} ... (${text.length - max} characters cut)`;
}

function isTroupeFault(fault: Fault): fault is Fault & { readonly code: ErrorCode } {
  return fault.name === 'TroupeError' && typeof fault.code === 'string' && Object.hasOwn(ERROR_CODES, fault.code);
}

function revive(fault: Fault & { readonly code: ErrorCode }, cause: Error | undefined): TroupeError {
  const fields = fault.fields ?? {};
  const details: ErrorDetails = {};
  if (cause !== undefined) details.cause = cause;
  if (isRan(fields['ran'])) details.ran = fields['ran'];
  if (typeof fields['actor'] === 'string') details.actor = fields['actor'];
  if (typeof fields['replica'] === 'number') details.replica = fields['replica'];
  if (typeof fields['incarnation'] === 'number') details.incarnation = fields['incarnation'];
  if (typeof fields['modelVersion'] === 'string') details.modelVersion = fields['modelVersion'];
  if (typeof fields['attempt'] === 'number') details.attempt = fields['attempt'];
  if (typeof fields['step'] === 'string') details.step = fields['step'];
  if (typeof fields['reason'] === 'string') details.reason = fields['reason'];
  if (typeof fields['retryAfterMs'] === 'number') details.retryAfterMs = fields['retryAfterMs'];
  return new TroupeError(fault.code, fault.message, details);
}

function isRan(value: unknown): value is Ran {
  return value === 'not-started' || value === 'interrupted' || value === 'failed';
}

const BUILT_IN: ReadonlyMap<string, ErrorConstructor> = new Map([
  ['EvalError', EvalError],
  ['RangeError', RangeError],
  ['ReferenceError', ReferenceError],
  ['SyntaxError', SyntaxError],
  ['TypeError', TypeError],
  ['URIError', URIError],
]);

function rebuild(fault: Fault, cause: Error | undefined): Error {
  const options = cause === undefined ? undefined : { cause };
  const Class = BUILT_IN.get(fault.name) ?? Error;
  const error =
    fault.errors === undefined
      ? new Class(fault.message, options)
      : new AggregateError(fault.errors.map(fromFault), fault.message, options);
  if (error.name !== fault.name) define(error, 'name', fault.name);
  const fields = fault.fields;
  if (fields !== undefined) {
    for (const key of Object.keys(fields)) {
      if (!RESERVED.has(key)) Object.assign(error, { [key]: fields[key] });
    }
  }
  if (fault.code !== undefined) Object.assign(error, { code: fault.code });
  return error;
}

function define(error: Error, key: string, value: string): void {
  Object.defineProperty(error, key, { value, writable: true, configurable: true, enumerable: false });
}
