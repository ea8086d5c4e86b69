/**
 * Whose replica may start next, where many are to start at once: the replicas of a device that died, a large pool, a swap.
 * Started all together they take the processors from each other, and none is up before the last; so only some start at a
 * time. Told the time; who starts and who waits, and nothing of replicas.
 *
 * G1 at most `atOnce` starts are under way, not counting those that have been for `slowMs`: what takes so long waits for a
 * disk, a network or a device, and holds up nobody. So no start waits for ever, whatever another one waits for.
 * G2 next is one of the pool with the fewest starts under way, the first that came: a large pool does not hold up others.
 * G3 a start is done once: when it has come about, has failed or is wanted no more, waiting or begun.
 */

export interface StartGateLimits {
  readonly atOnce: number;
  readonly slowMs: number;
}

interface Begun {
  readonly pool: string;
  readonly at: number;
}

export class StartGate {
  readonly #limits: StartGateLimits;
  /** Pools of those who wait, by the number of the start, in the order they came. */
  readonly #waiting = new Map<number, string>();
  /** Those that count (G1), in the order they began. */
  readonly #begun = new Map<number, Begun>();
  #last = 0;

  constructor(limits: StartGateLimits) {
    this.#limits = limits;
  }

  get waitingCount(): number {
    return this.#waiting.size;
  }

  /** A replica of this pool is to start; `take` says when. The number by which the start is known. */
  ask(pool: string): number {
    this.#waiting.set(++this.#last, pool);
    return this.#last;
  }

  /** The starts that begin now. */
  take(now: number): readonly number[] {
    for (const [start, { at }] of this.#begun) {
      if (at + this.#limits.slowMs > now) break;
      this.#begun.delete(start); // G1
    }
    const taken: number[] = [];
    while (this.#waiting.size > 0 && this.#begun.size < this.#limits.atOnce) {
      const next = this.#next();
      this.#begun.set(next, { pool: this.#waiting.get(next) as string, at: now });
      this.#waiting.delete(next);
      taken.push(next);
    }
    return taken;
  }

  /** G3. Afterwards `take` may let others begin. */
  done(start: number): void {
    this.#waiting.delete(start);
    this.#begun.delete(start);
  }

  /** When `take` is needed at the latest, if nothing is done before; Infinity while nobody waits. */
  nextWakeAt(): number {
    if (this.#waiting.size === 0) return Infinity;
    const [oldest] = this.#begun.values();
    return oldest === undefined ? -Infinity : oldest.at + this.#limits.slowMs;
  }

  /** G2. */
  #next(): number {
    const counts = new Map<string, number>();
    for (const { pool } of this.#begun.values()) counts.set(pool, (counts.get(pool) ?? 0) + 1);
    let next = NaN;
    let fewest = Infinity;
    for (const [start, pool] of this.#waiting) {
      const count = counts.get(pool) ?? 0;
      if (count >= fewest) continue;
      next = start;
      fewest = count;
      if (count === 0) break;
    }
    return next;
  }
}
