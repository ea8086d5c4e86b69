/**
 * What has changed among the versions of a repository, told once it has come to rest: a version is being copied for as long
 * as it changes, and nobody is told of it before.
 *
 * Owns what was told and what is still in motion. Is shown what lies there and the time; looks at no disk and has no timer.
 *
 * W1 nothing is told that was not the same for settleMs, first look to last. W2 what is told differs from what was told
 * before of the same thing. W3 what lay there at the first look is known and not told. W4 it holds no more than two
 * fingerprints for each thing that is there or was told.
 */

/** One version, or the config.pbtxt of a model, as it lies there. */
export interface SeenThing {
  readonly model: string;
  /** Undefined for the model's config.pbtxt, or the model as a whole where it cannot be read. */
  readonly version: string | undefined;
  /** Equal exactly if nothing has changed. */
  readonly fingerprint: string;
  /** Something in it says that it is not finished: it rests only when that is gone. */
  readonly isUnfinished: boolean;
  /** The model cannot be read, so what it has in versions cannot be said: they count as they were. */
  readonly hidesVersions?: boolean;
}

export interface ToldChange<Thing extends SeenThing> {
  readonly kind: 'added' | 'changed' | 'removed';
  readonly thing: Thing;
}

interface Known<Thing> {
  thing: Thing;
  /** Undefined: it is told as not there. */
  told: string | undefined;
  /** What it was at the last look, undefined for gone, and since when it has been that. */
  now: string | undefined;
  since: number;
}

export class WatchCore<Thing extends SeenThing> {
  readonly #settleMs: number;
  readonly #known = new Map<string, Known<Thing>>();
  #hasLooked = false;

  constructor(settleMs: number) {
    this.#settleMs = settleMs;
  }

  /** One look at everything. What has come to rest in another state than was told, in the order of names. */
  look(things: readonly Thing[], now: number): readonly ToldChange<Thing>[] {
    const present = new Set<string>();
    const hidden = new Set<string>();
    for (const thing of things) {
      if (thing.hidesVersions === true) hidden.add(thing.model);
      const key = `${thing.model}/${thing.version ?? ''}`;
      present.add(key);
      this.#see(key, thing, now);
    }
    for (const [key, known] of this.#known) {
      if (present.has(key) || hidden.has(known.thing.model)) continue;
      if (known.told === undefined)
        this.#known.delete(key); // W4: it came and went untold
      else if (known.now !== undefined) Object.assign(known, { now: undefined, since: now });
    }
    this.#hasLooked = true;
    return this.#settled(now);
  }

  #see(key: string, thing: Thing, now: number): void {
    const { fingerprint, isUnfinished } = thing;
    const known = this.#known.get(key);
    if (known === undefined) {
      // W3: but what is unfinished at the first look is still to come.
      const told = this.#hasLooked || isUnfinished ? undefined : fingerprint;
      this.#known.set(key, { thing, told, now: fingerprint, since: now });
      return;
    }
    const isOther = known.now !== fingerprint || isUnfinished || known.thing.isUnfinished;
    known.thing = thing;
    if (isOther) Object.assign(known, { now: fingerprint, since: now });
  }

  #settled(now: number): readonly ToldChange<Thing>[] {
    const changes: ToldChange<Thing>[] = [];
    for (const [key, known] of this.#known) {
      // W1, W2
      if (known.now === known.told || now - known.since < this.#settleMs) continue;
      if (known.now !== undefined && known.thing.isUnfinished) continue;
      const kind = known.now === undefined ? 'removed' : known.told === undefined ? 'added' : 'changed';
      changes.push({ kind, thing: known.thing });
      known.told = known.now;
      if (known.now === undefined) this.#known.delete(key);
    }
    return changes.sort((a, b) => order(a.thing, b.thing));
  }
}

function order(a: SeenThing, b: SeenThing): number {
  if (a.model !== b.model) return a.model < b.model ? -1 : 1;
  return Number(a.version ?? 0) - Number(b.version ?? 0);
}
