import { systemClock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import { giveUp, isTokenStream } from '../wire/token-stream.js';

/** What an actor answered as pieces, whether it gave a stream or one whole. `read` checks a piece, and throws. */
export class PieceStream<Piece> {
  readonly #answer: unknown;
  readonly #read: (value: unknown) => Piece;
  readonly #pieces: AsyncIterator<unknown> | undefined;
  #wholeTaken = false;

  constructor(answer: unknown, read: (value: unknown) => Piece) {
    this.#answer = answer;
    this.#read = read;
    this.#pieces = isTokenStream(answer) ? answer[Symbol.asyncIterator]() : undefined;
  }

  /** The actor gave no stream: its one piece is all there is. */
  get isWhole(): boolean {
    return this.#pieces === undefined;
  }

  /** Undefined at the end. Rejects with what ended it early, or DEADLINE_PASSED. */
  async next(deadlineAt = Infinity): Promise<Piece | undefined> {
    if (this.#pieces === undefined) {
      if (this.#wholeTaken) return undefined;
      this.#wholeTaken = true;
      return this.#read(this.#answer);
    }
    const result = await within(this.#pieces.next(), deadlineAt, () => this.giveUp());
    return result.done === true ? undefined : this.#read(result.value);
  }

  /** Nobody wants the rest. May be called at any time. */
  readonly giveUp = (): void => giveUp(this.#answer);
}

function within<T>(what: Promise<T>, deadlineAt: number, late: () => void): Promise<T> {
  if (deadlineAt === Infinity) return what;
  return new Promise((resolve, reject) => {
    const timer = systemClock.at(deadlineAt, () => {
      late();
      reject(
        new TroupeError('DEADLINE_PASSED', 'The deadline passed before the answer was there', { ran: 'interrupted' }),
      );
    });
    what.then(resolve, reject).finally(() => timer.cancel());
  });
}
