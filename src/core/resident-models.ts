/**
 * The models that one replica holds, in the order of their last use, with the sum of their bytes.
 *
 * Owns what stands in the replica's memory as far as the host knows; the link does the loading. Who is loaded and who has
 * to go is decided in model-desk.ts.
 *
 * R1 what loads counts with its bytes from the moment it begins, and what unloads until it has ended, so the sum never
 * says less than what is there. R2 only what is `ready` is given batches. R3 one load at a time.
 */

import { invariant } from '../kernel/errors.js';
import type { Shelf } from './batcher.js';
import type { Flight } from './ledger.js';
import { RecentlyUsed } from './recently-used.js';

/** `closing`: given no more batches, and unloaded when those it has are answered. */
export type ResidentState = 'loading' | 'ready' | 'closing' | 'unloading';

/** Why a model had to go. */
export type EvictionReason = 'room' | 'ttl' | 'replaced' | 'asked' | 'too-large';

export class ResidentModel {
  state: ResidentState = 'loading';
  loadedAt = 0;
  /** When it was loaded, or a batch of it was answered, or a token stream of it came to its end last. */
  usedAt = 0;
  /** When the load or the unload under way began. */
  since: number;
  /** A batch of it was answered since it was loaded. */
  hasAnswered = false;
  sentCount = 0;
  /** Its token streams that run. */
  streams = 0;
  reason: EvictionReason = 'room';
  constructor(
    readonly key: string,
    public bytes: number,
    now: number,
  ) {
    this.since = now;
  }
}

/** Of the pool as a whole. */
export interface Holders {
  /** Replicas that serve and may run it. */
  holders(model: string | undefined): number;
  /** Of those, the idle ones. */
  idleHolders(model: string | undefined): number;
}

export class ResidentModels implements Shelf {
  /** What is to be loaded here as soon as there is room. */
  next: { readonly key: string; readonly bytes: number } | undefined = undefined;
  /** R3. */
  loading: ResidentModel | undefined = undefined;
  unloadingCount = 0;
  readonly #models = new RecentlyUsed<ResidentModel>();
  readonly #pool: Holders;

  constructor(
    readonly incarnation: number,
    pool: Holders,
  ) {
    this.#pool = pool;
  }

  get count(): number {
    return this.#models.count;
  }

  get bytes(): number {
    return this.#models.count === 0 ? 0 : this.#models.bytes;
  }

  /** Something is being loaded or unloaded, so that the replica's loop may stand still. */
  get isChanging(): boolean {
    return this.loading !== undefined || this.unloadingCount > 0;
  }

  get(key: string): ResidentModel | undefined {
    return this.#models.peek(key);
  }

  // R2. What is for no model, as a probe is, goes anywhere.
  mayRun(model: string | undefined): boolean {
    return model === undefined || this.#models.peek(model)?.state === 'ready';
  }

  holders(model: string | undefined): number {
    return this.#pool.holders(model);
  }

  idleHolders(model: string | undefined): number {
    return this.#pool.idleHolders(model);
  }

  /** R1, R3: its load begins. */
  load(key: string, bytes: number, now: number): void {
    invariant(this.loading === undefined && this.get(key) === undefined, 'R3: one load at a time, and none twice');
    this.loading = new ResidentModel(key, bytes, now);
    this.#models.put(key, this.loading, bytes);
    this.next = undefined;
  }

  /** It is loaded, and holds this much. */
  loaded(model: ResidentModel, bytes: number, now: number): void {
    this.loading = undefined;
    model.state = 'ready';
    model.bytes = bytes;
    model.loadedAt = now;
    model.usedAt = now;
    this.#models.put(model.key, model, bytes);
  }

  /** Its unload begins. */
  unload(model: ResidentModel, now: number): void {
    model.state = 'unloading';
    model.since = now;
    this.unloadingCount++;
  }

  /** It is gone: unloaded, or never came to be. */
  remove(model: ResidentModel): void {
    if (model.state === 'unloading') this.unloadingCount--;
    if (this.loading === model) this.loading = undefined;
    this.#models.remove(model.key);
  }

  sent(key: string): ResidentModel | undefined {
    const model = this.#models.peek(key);
    if (model !== undefined) model.sentCount++;
    return model;
  }

  answered(key: string, now: number): void {
    const model = this.#models.peek(key);
    if (model === undefined) return;
    model.hasAnswered = true;
    this.#used(model, now);
  }

  streamsBegan(key: string, count: number): void {
    const model = this.#models.peek(key);
    if (model !== undefined) model.streams += count;
  }

  streamEnded(key: string, now: number): void {
    const model = this.#models.peek(key);
    if (model === undefined) return;
    model.streams--;
    this.#used(model, now);
  }

  /** The one used longest ago first. */
  leastRecent(): IterableIterator<ResidentModel> {
    return this.#models.leastRecent();
  }

  #used(model: ResidentModel, now: number): void {
    model.usedAt = now;
    this.#models.touch(model.key);
  }
}

/** A batch or a token stream of it is with the replica that these are the flights of. */
export function isInUse(flights: readonly Flight[], { key, streams }: ResidentModel): boolean {
  return streams > 0 || isWith(flights, key);
}

/** A batch of this model is with the replica. */
export function isWith(flights: readonly Flight[], key: string): boolean {
  for (let i = 0; i < flights.length; i++) if ((flights[i] as Flight).requests[0]?.model === key) return true;
  return false;
}
