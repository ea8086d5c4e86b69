import { type AskManyOptions, AskOwner, type AskOptions, plainRules, resolveAsk } from '../actor/ask.js';
import { AskMany, planAskMany } from '../actor/ask-many.js';
import type { Submission, Ticket } from '../actor/infer-target.js';
import type { Outcome } from '../actor/outcome.js';
import type { PoolClient } from '../actor/pool-client.js';
import type { PoolHealth } from '../actor/readiness.js';
import type { PoolStats } from '../actor/stats.js';
import type { Clock } from '../kernel/clock.js';
import type { TroupeError } from '../kernel/errors.js';
import { EventEmitter } from '../kernel/events.js';
import { giveUp } from '../wire/token-stream.js';
import type { LaneChannel } from './lane-book.js';
import { PoolElsewhere } from './pool-elsewhere.js';

/** What a remote pool needs of its connection. */
export interface PoolWay {
  readonly address: string;
  readonly clock: Clock;
  /** Undefined: no room, nothing was accepted. */
  offer(channel: LaneChannel<AnySubmission>, submission: AnySubmission): Ticket | undefined;
  /** As `offer`, by the overflow rule of the pool: always accepted, or settled with why not. */
  offerAsked(channel: LaneChannel<AnySubmission>, submission: AnySubmission): Ticket;
  flush(channel: LaneChannel<AnySubmission>): void;
  /** There may be room for somebody who waits for it. */
  look(): void;
  call(channel: LaneChannel<AnySubmission>, method: string, args: readonly unknown[]): Promise<unknown>;
  health(channel: LaneChannel<AnySubmission>): Promise<PoolHealth>;
  stats(channel: LaneChannel<AnySubmission>): Promise<PoolStats>;
}

export type AnySubmission = Submission<any, any>; // any: a connection does not know the record types

/** Events of a remote pool and what they carry. */
export interface RemotePoolEvents {
  'dead-letter': [{ input: unknown; error: TroupeError }];
}

/** A pool of another process, see `connect`. Everything is as of a pool of this process, but what changes it. */
export class RemotePool<In = unknown, Out = unknown> extends PoolElsewhere implements PoolClient<In, Out> {
  readonly name: string;
  protected readonly address: string;
  readonly #way: PoolWay;
  readonly #channel: LaneChannel<AnySubmission>;
  readonly #timeoutMs: number;
  readonly #waiters = new Map<number, () => void>();
  readonly #events = new EventEmitter<RemotePoolEvents>();
  #lastSender = 0;

  constructor(way: PoolWay, channel: LaneChannel<AnySubmission>, timeoutMs: number) {
    super();
    this.name = channel.name;
    this.address = way.address;
    this.#way = way;
    this.#channel = channel;
    this.#timeoutMs = timeoutMs;
  }

  ask(input: In, options?: AskOptions): Promise<Out> {
    const rules = options === undefined ? plainRules(this.#timeoutMs) : resolveAsk(options, this.#timeoutMs);
    return new Promise<Out>((resolve, reject) => {
      const { signal, timeoutMs, ...terms } = rules;
      const owner = new AskOwner<Out>(resolve, reject, signal);
      const deadlineAt = this.#way.clock.now() + timeoutMs;
      const settled = (outcome: Outcome<Out>): void => owner.settled(outcome);
      const ticket = this.#way.offerAsked(this.#channel, { ...terms, input, deadlineAt, settled });
      if (signal !== undefined) owner.watch(() => ticket.cancel(signal.reason));
    });
  }

  async askMany(inputs: Iterable<In>, options: AskManyOptions<In> = {}): Promise<Outcome<Out>[]> {
    return new AskMany<In, Out>(this, planAskMany(inputs, options, this.#timeoutMs), this.#way.clock).outcomes;
  }

  tell(input: In, options: Omit<AskOptions, 'signal'> = {}): void {
    const { timeoutMs, ...terms } = resolveAsk(options, this.#timeoutMs);
    const settled = (outcome: Outcome<Out>): void => {
      if (outcome.ok) giveUp(outcome.value);
      // Later: a listener that throws must not keep others from their outcomes.
      else process.nextTick(() => this.#events.emit('dead-letter', { input, error: outcome.error }));
    };
    this.#way.offerAsked(this.#channel, { ...terms, input, deadlineAt: this.#way.clock.now() + timeoutMs, settled });
  }

  async call(method: string, ...args: readonly unknown[]): Promise<unknown> {
    if (typeof method !== 'string')
      throw new TypeError(`call: expected the name of a method, got a value of type ${typeof method}`);
    return this.#way.call(this.#channel, method, args);
  }

  health(): Promise<PoolHealth> {
    return this.#way.health(this.#channel);
  }

  /** Of the pool at its server, with what all its clients sent. Rejects with POOL_NOT_FOUND or SERVER_UNREACHABLE. */
  stats(): Promise<PoolStats> {
    return this.#way.stats(this.#channel);
  }

  on<Name extends keyof RemotePoolEvents>(name: Name, listener: (...args: RemotePoolEvents[Name]) => void): this {
    this.#events.on(name, listener as never);
    return this;
  }

  off<Name extends keyof RemotePoolEvents>(name: Name, listener: (...args: RemotePoolEvents[Name]) => void): this {
    this.#events.off(name, listener as never);
    return this;
  }

  // ------------------------------------------------- InferTarget: the bulk path

  openSender(_name: string): number {
    return ++this.#lastSender;
  }

  closeSender(sender: number): void {
    this.#waiters.delete(sender);
  }

  offer(submission: Submission<In, Out>): Ticket | undefined {
    return this.#way.offer(this.#channel, submission);
  }

  onRoom(sender: number, callback: () => void): void {
    this.#waiters.set(sender, callback);
    this.#way.look();
  }

  flush(): void {
    this.#way.flush(this.#channel);
  }

  // ---------------------------------------------------- for its connection only

  get isAwaitedByNobody(): boolean {
    return this.#waiters.size === 0;
  }

  /** The one who has waited longest is called first, as long as there is room. */
  callWaiters(): void {
    for (const [sender, callback] of [...this.#waiters]) {
      if (!this.#channel.hasRoom) return;
      if (this.#waiters.delete(sender)) callback();
    }
  }

  /** All of them, where no room will come: their offers are answered with the reason. */
  callAllWaiters(): void {
    for (const [sender, callback] of [...this.#waiters]) if (this.#waiters.delete(sender)) callback();
  }
}
