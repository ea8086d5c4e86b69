import { toFault } from '../wire/fault.js';

/**
 * Looks at what foreign code gave or threw. Records and errors may be proxies whose traps throw, or hold getters that do;
 * one such value must not end a run.
 */

/** `instanceof`, false where the value does not let itself be asked. */
export function isA<T>(value: unknown, Class: abstract new (...args: never) => T): value is T {
  try {
    return value instanceof Class;
  } catch {
    return false;
  }
}

/** What was thrown, in words. */
export function wordsOf(cause: unknown): string {
  try {
    return cause instanceof Error ? cause.message : String(cause);
  } catch {
    return toFault(cause).message;
  }
}
