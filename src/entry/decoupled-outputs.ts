import { types } from 'node:util';
import { TroupeError } from '../kernel/errors.js';
import { recordProblem } from '../wire/columns.js';
import type { TensorSpec } from '../wire/tensor.js';
import { isTokenStream } from '../wire/token-stream.js';

/**
 * What predict of a decoupled signature returned: for each record a stream whose pieces are held against the outputs, or an
 * error. What is neither is a PROTOCOL_VIOLATION in its place.
 */
export function decoupledOutputs(outputs: readonly unknown[], specs: readonly TensorSpec[]): unknown[] {
  return outputs.map((output) => {
    if (isTokenStream(output)) return checkedPieces(output, specs);
    if (types.isNativeError(output) || output instanceof Error) return output;
    return new TroupeError(
      'PROTOCOL_VIOLATION',
      `predict of a decoupled signature must return an async iterable of outputs, or an Error, for each record, got ${typeof output}`,
    );
  });
}

/** Not a generator: its return() would wait for the piece that is being made. */
function checkedPieces(stream: AsyncIterable<unknown>, specs: readonly TensorSpec[]): AsyncIterable<unknown> {
  return {
    [Symbol.asyncIterator]: () => {
      const iterator = stream[Symbol.asyncIterator]();
      const quit = async (): Promise<void> => {
        await iterator.return?.();
      };
      return {
        next: async () => {
          const result = await iterator.next();
          const problem = result.done === true ? undefined : recordProblem(result.value, specs);
          if (problem === undefined) return result;
          // Whatever its end throws, this is what was wrong first.
          await quit().catch(() => undefined);
          const message = `A piece of a decoupled signature does not have its outputs: ${problem.replace(/^input /, 'output ')}`;
          throw new TroupeError('PROTOCOL_VIOLATION', message);
        },
        return: async () => {
          await quit();
          return { done: true, value: undefined };
        },
      };
    },
  };
}
