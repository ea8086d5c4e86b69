import type { LocatedModel } from '../models/repository.js';

/** A version, and where its files lay when it was looked for; no `model` where the pool has none. */
export interface LocatedVersion {
  readonly version: string | undefined;
  readonly model: LocatedModel | undefined;
}

/**
 * Which files each generation of a pool's replicas goes by: those that were found when it was rolled out, `config.pbtxt`
 * included, whatever is on disk since. So a restart loads what was verified, and a roll-out that is refused leaves nothing
 * behind, also one to the very version that serves.
 *
 * A generation is known by its number from its first start on; what is rolled out waits for its number until then.
 */
export class GenerationFiles {
  readonly #byGeneration = new Map<number, LocatedVersion>();
  #next: LocatedVersion | undefined;
  #served: LocatedVersion | undefined;
  /** The last that nothing was left of: what it answered may still be on its way to those who asked. */
  #gone: LocatedVersion | undefined;

  /** What is rolled out from now on. */
  rollOut(located: LocatedVersion): void {
    this.#next = located;
  }

  /** The files of a replica that starts. A generation that no roll-out has told of loads anew what served before. */
  startOf(generation: number): LocatedModel | undefined {
    const known = this.#byGeneration.get(generation);
    if (known !== undefined) return known.model;
    const located = this.#next ?? this.#served ?? [...this.#byGeneration.values()].at(-1);
    this.#next = undefined;
    if (located !== undefined) this.#byGeneration.set(generation, located);
    return located?.model;
  }

  /** It serves from now on. */
  serves(generation: number): void {
    this.#served = this.#byGeneration.get(generation) ?? this.#served;
  }

  of(generation: number): LocatedModel | undefined {
    return this.#byGeneration.get(generation)?.model;
  }

  /** The newest files of a version that has answered just now. */
  ofVersion(version: string | undefined): LocatedModel | undefined {
    const left = [...this.#byGeneration.values()].reverse();
    return [...left, this.#gone].find((located) => located?.version === version)?.model;
  }

  /** The roll-out was given up: nothing of it starts again. */
  rolledBack(): void {
    if (this.#next === undefined) this.#forget(Math.max(...this.#byGeneration.keys()));
    this.#next = undefined;
  }

  /** Forgets generations of which nothing is left. */
  keep(generations: ReadonlySet<number>): void {
    for (const generation of this.#byGeneration.keys()) if (!generations.has(generation)) this.#forget(generation);
  }

  #forget(generation: number): void {
    this.#gone = this.#byGeneration.get(generation) ?? this.#gone;
    this.#byGeneration.delete(generation);
  }
}
