import type { InferTarget, Submission, Ticket } from '../actor/infer-target.js';
import { TroupeError, isTroupeError } from '../kernel/errors.js';
import { wordsOf } from './foreign.js';

/** What an offer came to: a ticket where it was accepted, undefined for no room, an error where it never will be. */
export type Offered = Ticket | TroupeError | undefined;

/** A step's way into one pool: its sender, and its wait for room. */
export class Lane {
  readonly target: InferTarget<unknown, unknown>;
  readonly sender: number;
  readonly #onRoom: () => void;
  #isWaiting = false;

  /** `onRoom` is told once for each offer that found no room; offering is then worth another try. */
  constructor(target: InferTarget<unknown, unknown>, name: string, onRoom: () => void) {
    this.target = target;
    this.sender = target.openSender(name);
    this.#onRoom = onRoom;
  }

  /** True: an offer found no room, and the pool has not called back. */
  get isFull(): boolean {
    return this.#isWaiting;
  }

  offer(submission: Submission<unknown, unknown>): Offered {
    try {
      const ticket = this.target.offer(submission);
      if (ticket === undefined && !this.#isWaiting) {
        this.#isWaiting = true;
        this.target.onRoom(this.sender, this.#roomCame);
      }
      return ticket;
    } catch (cause) {
      if (isTroupeError(cause)) return cause;
      const message = `Pool "${this.target.name}" refused the record: ${wordsOf(cause)}`;
      return new TroupeError('INPUT_INVALID', message, { cause });
    }
  }

  close(): void {
    this.target.closeSender(this.sender);
  }

  readonly #roomCame = (): void => {
    this.#isWaiting = false;
    this.#onRoom();
  };
}
