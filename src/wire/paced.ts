/**
 * Hands messages on in their order, with a turn of the event loop after every so many. A port reads up to a thousand messages
 * in one go, and where each answer makes room for the next batch there is always one more: a busy pool would keep timers and
 * sockets waiting for half a second.
 */
const MESSAGES_PER_TURN = 16;

export class Paced<Message> {
  readonly #heard: (message: Message) => void;
  #count = 0;
  /** What came since the pause began. */
  #waiting: Message[] | undefined;

  constructor(heard: (message: Message) => void) {
    this.#heard = heard;
  }

  readonly take = (message: Message): void => {
    if (this.#waiting !== undefined) {
      this.#waiting.push(message);
      return;
    }
    if (++this.#count % MESSAGES_PER_TURN === 0) {
      this.#waiting = [];
      setImmediate(this.goOn);
    }
    this.#heard(message);
  };

  /** Ends a pause. */
  readonly goOn = (): void => {
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    for (const message of waiting) this.#heard(message);
  };
}
