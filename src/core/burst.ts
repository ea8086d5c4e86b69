/**
 * What is to be said of a thing that happens many times within a moment, such as the end of all replicas of a device: the
 * first time by itself and at once, the others of that moment together when it is over. Told the time.
 */

export interface BurstLimits {
  readonly windowMs: number;
  /** Different texts that are told; the rest is counted. */
  readonly textsMax: number;
  readonly textLengthMax: number;
}

/** Several times within a moment, the first included. */
export interface BurstSummary {
  readonly count: number;
  /** From the first to the last. */
  readonly spanMs: number;
  readonly heldCount: number;
  /** Texts and how often each was noted, the most frequent first. */
  readonly texts: readonly (readonly [text: string, count: number])[];
  /** Noted with yet other texts. */
  readonly otherCount: number;
}

export const BURST_LIMITS: BurstLimits = { windowMs: 1000, textsMax: 3, textLengthMax: 300 };
/** Distinct texts that are counted apart; bounded, whatever the texts hold. */
const KINDS_MAX = 50;

export class Burst {
  readonly #limits: BurstLimits;
  #count = 0;
  #firstAt = -Infinity;
  #lastAt = -Infinity;
  #heldCount = 0;
  readonly #texts = new Map<string, number>();

  constructor(limits: BurstLimits = BURST_LIMITS) {
    this.#limits = limits;
  }

  /** It has happened again. True: it is the first time of this moment, and to be told by itself. */
  note(text: string, heldCount: number, now: number): boolean {
    // A moment with one event alone needs no end.
    if (this.#count === 1 && now >= this.#firstAt + this.#limits.windowMs) this.#clear();
    const isFirst = this.#count === 0;
    if (isFirst) this.#firstAt = now;
    this.#count++;
    this.#lastAt = now;
    this.#heldCount += heldCount;
    const kind = text.slice(0, this.#limits.textLengthMax);
    const known = this.#texts.get(kind);
    if (known !== undefined || this.#texts.size < KINDS_MAX) this.#texts.set(kind, (known ?? 0) + 1);
    return isFirst;
  }

  /** When `take` has something to tell; Infinity for never. */
  dueAt(): number {
    return this.#count > 1 ? this.#firstAt + this.#limits.windowMs : Infinity;
  }

  /** Ends the moment. undefined: it had one event at most, which was told. */
  take(): BurstSummary | undefined {
    const count = this.#count;
    const sorted = [...this.#texts].sort(([, one], [, other]) => other - one);
    const texts = sorted.slice(0, this.#limits.textsMax);
    const summary: BurstSummary = {
      count,
      spanMs: this.#lastAt - this.#firstAt,
      heldCount: this.#heldCount,
      texts,
      otherCount: count - texts.reduce((sum, [, times]) => sum + times, 0),
    };
    this.#clear();
    return count > 1 ? summary : undefined;
  }

  #clear(): void {
    this.#count = 0;
    this.#heldCount = 0;
    this.#firstAt = -Infinity;
    this.#lastAt = -Infinity;
    this.#texts.clear();
  }
}
