/**
 * Whether a model answers probe records as it should: every one of them, without a NaN, and what was expected of it where
 * that is known. Only looks at values; who is asked, and what follows, stands in rollouts.ts.
 */

import type { RecordResult } from '../host/link.js';
import { differenceOf, placeOfNaN } from './value-difference.js';

/** What a new version is asked before it is given work. */
export interface Verification {
  /** Probe records, one at least; every replica of the new version has to answer all of them. */
  readonly records: readonly unknown[];
  /**
   * What they must give, in the same order. Of an object the named fields count, others may be there; a list of numbers
   * stands for any array of numbers.
   */
  readonly expect?: readonly unknown[];
  /** How far a number may be off: by this much, or by this part of it where it is larger than 1. Default 0. */
  readonly tolerance?: number;
}

/** What is wrong with the answers, in words; undefined where nothing is. */
export function problemOf(results: readonly RecordResult[], verification: Verification): string | undefined {
  const { records, expect, tolerance = 0 } = verification;
  for (let at = 0; at < records.length; at++) {
    const result = results[at];
    const which = `probe ${at + 1} of ${records.length}`;
    if (result === undefined) return `${which} was not answered`;
    if (!result.ok) return `${which} failed: ${result.error.message}`;
    const nan = placeOfNaN(result.value, 'its result');
    if (nan !== undefined) return `${which}: ${nan} is NaN`;
    const difference =
      expect === undefined ? undefined : differenceOf(result.value, expect[at], tolerance, 'its result');
    if (difference !== undefined) return `${which}: ${difference}`;
  }
  return undefined;
}
