import { TroupeError } from '../kernel/errors.js';

/**
 * An output that is an async iterable: its record is answered when it begins, and its pieces follow one by one. At most
 * PIECE_CREDIT of them are on the way or wait to be taken: who takes none stops the actor.
 */

export const PIECE_CREDIT = 16;

/** An async iterable, whatever else it is. False for what cannot be looked at. */
export function isTokenStream(value: unknown): value is AsyncIterable<unknown> {
  try {
    return (
      typeof value === 'object' &&
      value !== null &&
      typeof (value as Partial<AsyncIterable<unknown>>)[Symbol.asyncIterator] === 'function'
    );
  } catch {
    return false; // A getter or a proxy that throws; whoever uses it will say so.
  }
}

/** All pieces of a stream, for where there is no reader of pieces. Rejects with what ended it early, or RECORD_TOO_LARGE. */
export async function gathered(stream: AsyncIterable<unknown>, max: number): Promise<unknown[]> {
  const pieces: unknown[] = [];
  for await (const piece of stream) {
    if (pieces.length === max)
      throw new TroupeError(
        'RECORD_TOO_LARGE',
        `A token stream has more than ${max} pieces, which is all that is kept of one here`,
      );
    pieces.push(piece);
  }
  return pieces;
}

/** Gives up a stream that nobody will read. Whatever its end throws is nobody's. */
export function giveUp(value: unknown): void {
  if (!isTokenStream(value)) return;
  try {
    Promise.resolve(value[Symbol.asyncIterator]().return?.()).catch(() => undefined);
  } catch {
    // It could not even begin, so nothing is left to end.
  }
}
