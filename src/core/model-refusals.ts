import { TroupeError } from '../kernel/errors.js';
import { type DeathNotice, describeDeath } from './effects.js';
import { modelNotLoaded, modelTooLarge, type NotLoaded } from './failure.js';
import type { Cell } from './slots.js';
import type { KnownModel, ModelBook } from './model-book.js';
import type { ModelWants } from './model-wants.js';
import type { Outbox } from './outbox.js';
import type { Settlement } from './settlement.js';

export interface ModelRefusalsParts {
  readonly pool: string;
  readonly maxBytes: number;
  readonly book: ModelBook;
  readonly wants: ModelWants;
  readonly settlement: Settlement;
  readonly outbox: Outbox;
}

/** What becomes of records whose model cannot be loaded, now or ever. D6: of no others. */
export class ModelRefusals {
  readonly #pool: string;
  readonly #maxBytes: number;
  readonly #book: ModelBook;
  readonly #wants: ModelWants;
  readonly #settlement: Settlement;
  readonly #outbox: Outbox;

  constructor({ pool, maxBytes, book, wants, settlement, outbox }: ModelRefusalsParts) {
    this.#pool = pool;
    this.#maxBytes = maxBytes;
    this.#book = book;
    this.#wants = wants;
    this.#settlement = settlement;
    this.#outbox = outbox;
  }

  /** Why records of this model are refused now; undefined where they are taken. */
  of(key: string, now: number): TroupeError | undefined {
    const known = this.#book.peek(key);
    if (known === undefined) return undefined;
    if (this.isTooLarge(known)) return this.#tooLargeError(known, now);
    return known.failedUntil > now ? modelNotLoaded({ pool: this.#pool, detail: this.#detail(known, now) }) : undefined;
  }

  isTooLarge({ bytes }: KnownModel): boolean {
    return bytes !== undefined && bytes > this.#maxBytes;
  }

  /** Its load, or the search for its files, has failed. */
  failed(key: string, error: TroupeError, now: number): void {
    const known = this.#book.get(key);
    const retryAfterMs = known.failed(error, now);
    this.#outbox.tell({ name: 'model-failed', key, error, retryAfterMs });
    this.refuse(known, now);
  }

  /** The replica ended while it loaded it. */
  died(key: string, { replica, incarnation }: Cell, death: DeathNotice, now: number): void {
    const message = `Replica ${replica} of "${this.#pool}" ended while it loaded model "${key}": ${describeDeath(death)}`;
    const code = death.cause === 'oom' ? 'ACTOR_OOM' : death.cause === 'hung' ? 'ACTOR_HUNG' : 'ACTOR_CRASHED';
    const error = new TroupeError(code, message, { cause: death.error, actor: this.#pool, replica, incarnation });
    this.failed(key, error, now);
  }

  /** It is known now that it can never be loaded. */
  tooLarge(known: KnownModel, now: number): void {
    const error = this.#tooLargeError(known, now);
    this.#outbox.tell({ name: 'model-failed', key: known.key, error, retryAfterMs: Infinity });
    this.refuse(known, now);
  }

  /** What waits for it. */
  refuse(known: KnownModel, now: number): void {
    const waiting = this.#wants.takeWaiting(known.key);
    if (waiting.length === 0) return;
    const isTooLarge = this.isTooLarge(known);
    const code = isTooLarge ? 'MODEL_TOO_LARGE' : 'MODEL_LOAD_FAILED';
    const detail = this.#detail(known, now);
    for (const request of waiting)
      this.#settlement.refuse(request, code, isTooLarge ? modelTooLarge : modelNotLoaded, detail);
  }

  #tooLargeError(known: KnownModel, now: number): TroupeError {
    return modelTooLarge({ pool: this.#pool, detail: this.#detail(known, now) });
  }

  /** As it is now: an error is made of it later. */
  #detail({ key, bytes, error, failedUntil }: KnownModel, now: number): NotLoaded {
    return { key, known: { bytes, error, failedUntil }, maxBytes: this.#maxBytes, now };
  }
}
