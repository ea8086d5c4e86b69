/**
 * A connection that comes back: what a session goes by, so that a restart of the system does not end it.
 *
 * S1 nothing is sent twice and nothing is kept for later: a verb that cannot be sent now is refused at once, and one that was
 * under way when the connection broke is told as such by the client. S2 one attempt at a time, with waits that grow and
 * differ, so that many sessions do not come back in step.
 */
import { type Clock, systemClock, type Timer } from '../kernel/clock.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { type Random, systemRandom } from '../kernel/random.js';
import { Calls, type TailOptions } from './calls.js';
import type { ControlClient } from './client.js';
import type { ControlEvent } from './event-log.js';
import type { VerbName } from './grammar.js';

export interface SteadyControlParts {
  /** Connected already; closed together with this. */
  readonly first: ControlClient;
  /** One attempt, to the same place. */
  readonly connect: () => Promise<ControlClient>;
  /** What a person is told: that the connection is lost, and that it is back. */
  readonly told: (words: string) => void;
  readonly clock?: Clock;
  readonly random?: Random;
}

const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 5000;

export class SteadyControl extends Calls implements AsyncDisposable {
  readonly #parts: SteadyControlParts;
  readonly #clock: Clock;
  readonly #random: Random;
  #client: ControlClient;
  /** Why there is no connection; undefined while there is one. */
  #trouble: TroupeError | undefined;
  #regaining: Promise<void> | undefined;
  #timer: Timer | undefined;
  #skipWait: () => void = () => undefined;
  #isClosed = false;

  constructor(parts: SteadyControlParts) {
    super();
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
    this.#random = parts.random ?? systemRandom;
    this.#client = parts.first;
    this.#use(parts.first);
  }

  /** Name of the system at the other end, or of the one that was there last. */
  get system(): string {
    return this.#client.system;
  }

  get pid(): number {
    return this.#client.pid;
  }

  async call(verb: VerbName, params: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#trouble !== undefined) throw this.#notSent(verb, this.#trouble);
    return this.#client.call(verb, params);
  }

  tail(pool?: string, options: TailOptions = {}): AsyncIterableIterator<ControlEvent> {
    if (this.#trouble !== undefined) throw this.#notSent('tail', this.#trouble);
    return this.#client.tail(pool, options);
  }

  /** Resolves to true when there is a connection, at once where there is one; to false when it was closed or `signal` aborts. */
  async connected(signal: AbortSignal): Promise<boolean> {
    // Whoever has just heard an error may come before the news of the lost connection.
    await Promise.resolve();
    while (this.#regaining !== undefined && !signal.aborted) {
      let aborted = (): void => undefined;
      const gaveUp = new Promise<void>((resolve) => (aborted = resolve));
      signal.addEventListener('abort', aborted);
      await Promise.race([this.#regaining, gaveUp]);
      signal.removeEventListener('abort', aborted);
    }
    return this.#trouble === undefined && !this.#isClosed && !signal.aborted;
  }

  /** Ends the connection, or the attempts to get it back. May be called twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#skipWait();
    await this.#regaining;
    await this.#client.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #use(client: ControlClient): void {
    this.#client = client;
    this.#trouble = undefined;
    void client.closed.then((error) => {
      if (error === undefined || this.#isClosed) return;
      this.#trouble = error;
      const regaining = this.#regain(error).finally(() => {
        // It may be lost again by now.
        if (this.#regaining === regaining) this.#regaining = undefined;
      });
      this.#regaining = regaining;
    });
  }

  async #regain(error: TroupeError): Promise<void> {
    const { connect, told } = this.#parts;
    told(`${error.message}. Trying to get back to ${this.system}; nothing is sent meanwhile.`);
    for (let attempt = 0; !this.#isClosed; attempt += 1) {
      await this.#wait(attempt);
      if (this.#isClosed) return;
      try {
        const client = await connect();
        this.#use(client);
        told(`Connected to ${client.system} again (pid ${client.pid}).`);
        return;
      } catch (failure) {
        if (!isTroupeError(failure)) throw failure;
        this.#trouble = failure;
      }
    }
  }

  /** S2. */
  #wait(attempt: number): Promise<void> {
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempt, 10));
    const waitMs = longest * (0.5 + this.#random() / 2);
    return new Promise((resolve) => {
      this.#skipWait = () => {
        this.#timer?.cancel();
        resolve();
      };
      this.#timer = this.#clock.at(this.#clock.now() + waitMs, resolve);
    });
  }

  /** S1. */
  #notSent(verb: VerbName, trouble: TroupeError): TroupeError {
    const message = `There is no connection to ${this.system} now, so ${verb} was not sent: ${trouble.message}; it is being tried again`;
    return new TroupeError('CONTROL_UNREACHABLE', message, { cause: trouble, ran: 'not-started' });
  }
}
