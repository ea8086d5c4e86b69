import type { Clock, Timer } from '../kernel/clock.js';

/** The one timer of a pool. One that is not needed now mostly rests: the next record comes before it does. */
export class PoolTimer {
  readonly #clock: Clock;
  readonly #onDue: () => void;
  #timer: Timer | undefined;
  #at = Infinity;
  /** It is not needed now, and does not keep the process alive. */
  #rests = false;

  constructor(clock: Clock, onDue: () => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  /** Not later than at `wakeAt`; Infinity for not at all. `rests`: the process need not stay alive for it. */
  arm(wakeAt: number, rests = false): void {
    if (rests && wakeAt !== Infinity) {
      if (wakeAt < this.#at) this.#set(wakeAt);
      if (!this.#rests) this.#timer?.hold?.(false);
      this.#rests = true;
      return;
    }
    const timer = this.#timer;
    if (wakeAt === Infinity && timer?.hold !== undefined) {
      // Nothing is held. What rests keeps no process alive.
      if (!this.#rests) timer.hold(false);
      this.#rests = true;
      return;
    }
    // A timer that comes early costs one empty tick; one that is moved for every record costs more.
    if (wakeAt === this.#at || (timer !== undefined && this.#at <= wakeAt && wakeAt !== Infinity)) {
      if (this.#rests) timer?.hold?.(true);
      this.#rests = false;
      return;
    }
    this.#set(wakeAt);
  }

  #set(wakeAt: number): void {
    this.cancel();
    this.#at = wakeAt;
    if (wakeAt !== Infinity) this.#timer = this.#clock.at(wakeAt, this.#fire);
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#forget();
  }

  readonly #fire = (): void => {
    this.#forget();
    this.#onDue();
  };

  #forget(): void {
    this.#timer = undefined;
    this.#rests = false;
    this.#at = Infinity;
  }
}
