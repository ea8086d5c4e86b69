import type { Effect, PoolNews } from './effects.js';
import type { Request } from './request.js';

/** What a pool core has decided and its edge has not taken yet: effects, and requests whose callers are to be told. */
export class Outbox {
  #effects: Effect[] = [];
  #settled: Request[] = [];
  /** Of both together; asked for more often than either is filled. */
  #count = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  emit(effect: Effect): void {
    this.#count++;
    this.#effects.push(effect);
  }

  tell(news: PoolNews): void {
    this.#count++;
    this.#effects.push({ kind: 'news', news });
  }

  settled(request: Request): void {
    this.#count++;
    this.#settled.push(request);
  }

  /** Effects since the last call, in order. `next`, empty, takes those to come: who looks often gives back what it has read. */
  takeEffects(next?: Effect[]): Effect[] {
    const effects = this.#effects;
    this.#count -= effects.length;
    if (next !== undefined) this.#effects = next;
    else if (effects.length > 0) this.#effects = [];
    return effects;
  }

  /** Requests settled since the last call, in order. `next` as in `takeEffects`. */
  takeSettled(next?: Request[]): Request[] {
    const settled = this.#settled;
    this.#count -= settled.length;
    if (next !== undefined) this.#settled = next;
    else if (settled.length > 0) this.#settled = [];
    return settled;
  }
}
