import type { PoolNews } from '../core/effects.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import type { TroupeError } from '../kernel/errors.js';

/** What somebody may wait for in the life of a pool. */
export type Milestone = 'rolled-out' | 'promoted' | 'resumed' | 'freed' | 'held' | 'drained' | 'stopped';

/** The promises of those who wait for a pool to get somewhere: made by them, settled by news of the core. */
export class Milestones {
  readonly #waits = new Map<Milestone, Deferred<void>>();

  /** Resolves at the next such milestone; everybody who waits for the same one shares the promise. */
  next(milestone: Milestone): Promise<void> {
    let wait = this.#waits.get(milestone);
    if (wait === undefined) {
      wait = deferred<void>();
      // Somebody may be gone by then; whoever still waits has the rejection in hand.
      wait.promise.catch(() => undefined);
      this.#waits.set(milestone, wait);
    }
    return wait.promise;
  }

  hear(news: PoolNews): void {
    switch (news.name) {
      case 'up':
        this.#reach('rolled-out');
        this.#reach('resumed');
        return;
      case 'failed':
        this.#fail('rolled-out', news.error);
        this.#fail('resumed', news.error);
        this.#fail('promoted', news.error);
        // A failed pool holds nothing any more.
        this.#reach('drained');
        return;
      case 'rollout-failed':
        this.#fail('rolled-out', news.error);
        return;
      case 'rollout':
        if (news.step === 'promoted') this.#reach('promoted');
        else if (news.error !== undefined) this.#fail('promoted', news.error);
        return;
      case 'freed':
      case 'held':
      case 'drained':
      case 'stopped':
        this.#reach(news.name);
        return;
      default:
        return;
    }
  }

  /** The pool stops: what was to come does not, what was to end has ended. */
  abandon(error: TroupeError): void {
    this.#fail('rolled-out', error);
    this.#fail('resumed', error);
    this.#fail('promoted', error);
    this.#reach('freed');
    this.#reach('held');
    this.#reach('drained');
  }

  #reach(milestone: Milestone): void {
    this.#take(milestone)?.resolve();
  }

  #fail(milestone: Milestone, error: TroupeError): void {
    this.#take(milestone)?.reject(error);
  }

  #take(milestone: Milestone): Deferred<void> | undefined {
    const wait = this.#waits.get(milestone);
    this.#waits.delete(milestone);
    return wait;
  }
}
