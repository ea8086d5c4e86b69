import { TroupeError } from '../../kernel/errors.js';
import { refuse } from '../options.js';
import type { Sink } from '../sink.js';

export interface ArraySink<T> extends Sink<T> {
  /** What was written, in order. Grows without bound. */
  readonly values: T[];
}

/** Appends every value to `array`, or to a new one in `values`. */
export function toArray<T = unknown>(array: T[] = []): ArraySink<T> {
  if (!Array.isArray(array)) refuse('toArray', 'given an array or nothing', array);
  return {
    name: 'array',
    values: array,
    write: (values) => {
      for (const value of values) array.push(value);
    },
    // Lets a run be resumed within the process that holds the array.
    prepare: () => array.length,
    open: (resume) => {
      if (resume === undefined) return;
      const length = resume.state as number;
      if (array.length < length) {
        throw new TroupeError(
          'CHECKPOINT_INVALID',
          `The array has ${array.length} values; the checkpoint needs ${length}`,
        );
      }
      array.length = length;
    },
    close: () => undefined,
  };
}
