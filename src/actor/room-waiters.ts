import type { Mailbox } from '../core/mailbox.js';

/** A sender that was refused and wants to be called. */
interface RoomWaiter {
  readonly callback: () => void;
  /** Not before another record than these has left the mailbox; -1 where room alone will do. */
  readonly leftCount: number;
}

/** Senders that a full mailbox has refused, until they are called because there is room. */
export class RoomWaiters {
  readonly #mailbox: Mailbox;
  readonly #waiters = new Map<number, RoomWaiter>();

  constructor(mailbox: Mailbox) {
    this.#mailbox = mailbox;
  }

  get isEmpty(): boolean {
    return this.#waiters.size === 0;
  }

  add(sender: number, callback: () => void): void {
    const mailbox = this.#mailbox;
    mailbox.wantRoom(sender);
    // There is room for it and yet it was refused: its record needs more bytes than are free.
    const leftCount = mailbox.hasRoomFor(sender) ? mailbox.leftCount : -1;
    this.#waiters.set(sender, { callback, leftCount });
  }

  remove(sender: number): void {
    this.#waiters.delete(sender);
    this.#mailbox.gotRoom(sender);
  }

  /** Only those whose offer can fare better now: one that is refused again would come back at the end of every turn, for ever. */
  call(): void {
    const mailbox = this.#mailbox;
    for (const [sender, { callback, leftCount }] of [...this.#waiters]) {
      if (leftCount === mailbox.leftCount || !mailbox.hasRoomFor(sender)) continue;
      this.remove(sender);
      callback();
    }
  }
}
