import type { InferTarget, Submission, Ticket } from '../../src/actor/infer-target.js';
import { TroupeError } from '../../src/kernel/errors.js';

/** A pool whose every step the test takes itself: it accepts up to `capacity` submissions and settles none by itself. */
export class HandTarget<In, Out> implements InferTarget<In, Out> {
  readonly name = 'hand';
  /** Accepted and not settled, in order of arrival. */
  readonly waiting: Submission<In, Out>[] = [];
  offered = 0;
  flushed = 0;
  cancelled = 0;
  openSenders = 0;
  mostWaiting = 0;
  #onRoom: (() => void)[] = [];
  #onChange: (() => void)[] = [];

  constructor(readonly capacity = Infinity) {}

  openSender(): number {
    this.openSenders += 1;
    return this.openSenders;
  }

  closeSender(): void {
    this.openSenders -= 1;
  }

  offer(submission: Submission<In, Out>): Ticket | undefined {
    if (this.waiting.length >= this.capacity) return undefined;
    this.offered += 1;
    this.waiting.push(submission);
    this.mostWaiting = Math.max(this.mostWaiting, this.waiting.length);
    this.#changed();
    return {
      cancel: () => {
        if (!this.waiting.includes(submission)) return;
        this.cancelled += 1;
        this.fail(submission, new TroupeError('CANCELLED', 'given up'));
      },
    };
  }

  onRoom(_sender: number, callback: () => void): void {
    this.#onRoom.push(callback);
  }

  flush(): void {
    this.flushed += 1;
    this.#changed();
  }

  answer(submission: Submission<In, Out>, value: Out): void {
    this.#take(submission);
    submission.settled({ ok: true, value, version: '7' });
    this.#room();
  }

  fail(submission: Submission<In, Out>, error: TroupeError): void {
    this.#take(submission);
    submission.settled({ ok: false, error });
    this.#room();
  }

  /** Resolves when `count` submissions wait. */
  async holds(count: number): Promise<void> {
    await this.when(() => this.waiting.length >= count);
  }

  async when(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#onChange.push(resolve));
  }

  #take(submission: Submission<In, Out>): void {
    const index = this.waiting.indexOf(submission);
    if (index < 0) throw new Error('settled twice');
    this.waiting.splice(index, 1);
  }

  #room(): void {
    for (const callback of this.#onRoom.splice(0)) callback();
    this.#changed();
  }

  #changed(): void {
    for (const callback of this.#onChange.splice(0)) callback();
  }
}

/** Every promise that can go on without outside help has gone on when this resolves. */
export async function settleDown(turns = 3): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** Answers by itself: each turn of the event loop it settles a random choice of what waits, in a random order. */
export class ShufflingTarget<In, Out> extends HandTarget<In, Out> {
  #isArmed = false;

  constructor(
    capacity: number,
    private readonly random: () => number,
    private readonly predict: (input: In) => Out | TroupeError,
  ) {
    super(capacity);
  }

  override offer(submission: Submission<In, Out>): Ticket | undefined {
    const ticket = super.offer(submission);
    this.#arm();
    return ticket;
  }

  #arm(): void {
    if (this.#isArmed) return;
    this.#isArmed = true;
    setImmediate(() => {
      this.#isArmed = false;
      const count = 1 + Math.floor(this.random() * this.waiting.length);
      for (let n = 0; n < count && this.waiting.length > 0; n += 1) {
        const submission = this.waiting[Math.floor(this.random() * this.waiting.length)] as Submission<In, Out>;
        const outcome = this.predict(submission.input);
        if (outcome instanceof TroupeError) this.fail(submission, outcome);
        else this.answer(submission, outcome);
      }
      if (this.waiting.length > 0) this.#arm();
    });
  }
}
