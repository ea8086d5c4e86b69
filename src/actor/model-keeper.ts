/**
 * The edge of a pool that holds many models: finds their files, has links load and unload them, and changes versions.
 *
 * Decides nothing about what is loaded where; that is core/model-desk.ts. Everything here that waits tells the core when
 * it has ended, whatever the end.
 */

import { isDeepStrictEqual } from 'node:util';
import type { Effect, PoolNews } from '../core/effects.js';
import type { ModelDesk } from '../core/model-desk.js';
import { modelOf, versionOf } from '../core/model-key.js';
import type { PoolCore } from '../core/pool-core.js';
import type { Link } from '../host/link.js';
import type { Clock } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { shapeKey } from '../wire/columns.js';
import type { ModelDescription, ModelSpec } from '../wire/messages.js';
import type { Signature } from '../wire/tensor.js';
import type { ModelLabels } from '../models/labels.js';
import type { LocatedModel } from '../models/repository.js';
import type { ModelCatalog } from './model-catalog.js';
import { objectionToModel, type ReplicaLinks } from './replica-links.js';

type ModelEffect = Extract<Effect, { kind: 'locate' | 'load-model' | 'unload-model' }>;

/** Where the files of a model lie, and how much they hold. */
interface Place {
  readonly spec: ModelSpec;
  readonly bytes: number;
  readonly config: LocatedModel['config'];
  readonly labels: ModelLabels | undefined;
}

/** Models whose places, and whose tensors, are remembered: as many as the core knows. */
const MODELS_MAX = 4096;

export interface ModelKeeperParts {
  readonly pool: string;
  readonly core: PoolCore;
  readonly desk: ModelDesk;
  readonly links: ReplicaLinks;
  readonly catalog: ModelCatalog;
  readonly clock: Clock;
  readonly pin: readonly string[];
  readonly loadTimeoutMs: number;
  /** Carries out what the core has decided. */
  readonly afterEvent: () => void;
}

export class ModelKeeper {
  readonly #pool: string;
  readonly #core: PoolCore;
  readonly #desk: ModelDesk;
  readonly #links: ReplicaLinks;
  readonly #catalog: ModelCatalog;
  readonly #clock: Clock;
  readonly #pin: readonly string[];
  readonly #loadTimeoutMs: number;
  readonly #afterEvent: () => void;
  readonly #places = new Map<string, Place>();
  readonly #signatures = new Map<string, Signature | undefined>();
  /** Who waits for the pins, and for models that are to be there before anybody asks, by key. */
  #pinned: Deferred<void> | undefined;
  readonly #prepared = new Map<string, Deferred<void>>();

  constructor(parts: ModelKeeperParts) {
    this.#pool = parts.pool;
    this.#core = parts.core;
    this.#desk = parts.desk;
    this.#links = parts.links;
    this.#catalog = parts.catalog;
    this.#clock = parts.clock;
    this.#pin = parts.pin;
    this.#loadTimeoutMs = parts.loadTimeoutMs;
    this.#afterEvent = parts.afterEvent;
  }

  /** The key of what the caller named, or why there is none. */
  keyOf(ref: string): string | TroupeError {
    try {
      return this.#catalog.keyOf(ref);
    } catch (error) {
      if (isTroupeError(error)) return error;
      throw error;
    }
  }

  /** Records of one model and one shape may share a batch; before the first load of a model nobody knows the shapes. */
  bucketOf(key: string, input: unknown): string {
    const signature = this.#signatures.get(key);
    return signature === undefined ? key : `${key} ${shapeKey(input, signature)}`;
  }

  /** Names that are pinned but not there, or too much together, are told before anything is loaded. */
  async check(): Promise<void> {
    const { maxBytes } = this.#desk.limits;
    let bytes = 0;
    for (const key of this.#pinnedKeys()) bytes += (await this.#place(key)).bytes;
    if (bytes > maxBytes) throw this.#pinsTooLarge(bytes);
  }

  /** Loads what is pinned into every replica. Rejects where that fails. */
  async loadPins(): Promise<void> {
    if (this.#pin.length === 0) return;
    const pinned = deferred<void>();
    pinned.promise.catch(() => undefined);
    this.#pinned = pinned;
    for (const key of this.#pinnedKeys()) this.#desk.pin(key);
    this.#afterEvent();
    await pinned.promise;
  }

  /** Loads a model where none holds it, before the first record for it. Rejects with what its load threw. */
  async preload(ref: string): Promise<void> {
    const key = this.#catalog.keyOf(ref);
    await this.#prepare(key, undefined, () => undefined);
  }

  /** Has it go wherever it is held, when it has no work left; false: it is pinned. */
  unload(ref: string): boolean {
    const goes = this.#desk.dismiss(this.#catalog.keyOf(ref));
    this.#afterEvent();
    return goes;
  }

  /** Lets the plain name of a model mean another version, once that is loaded wherever the old one is. */
  async swap(model: string, version: string): Promise<{ readonly from: string; readonly to: string }> {
    const from = this.#catalog.keyOf(model);
    const to = this.#catalog.newestKey(model, version);
    if (from === to) return { from, to };
    try {
      await this.#prepare(to, from, () => {
        this.#catalog.move(model, to);
        this.#desk.replace(from, this.#pinnedKeys());
      });
      return { from, to };
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const message = `Model "${model}" of pool "${this.#pool}" stays at version ${versionOf(from) ?? 'none'}: ${why}`;
      const details = { cause, actor: this.#pool, step: 'loading', reason: 'load-failed' };
      throw new TroupeError('SWAP_ROLLED_BACK', message, details);
    }
  }

  /** The tensors of a model by its newest load, once it has been loaded. */
  signatureOf(ref: string): Signature | undefined {
    return this.#signatures.get(this.#catalog.keyOf(ref));
  }

  /** What the classes of its outputs are called; undefined where models have no files. Rejects as `locate` does. */
  async labelsOf(key: string): Promise<ModelLabels | undefined> {
    return (await this.#place(key)).labels;
  }

  names(): readonly string[] {
    return this.#catalog.names();
  }

  /** `then` runs while the model is still kept for its own sake. */
  async #prepare(key: string, from: string | undefined, then: () => void): Promise<void> {
    let done = this.#prepared.get(key);
    if (done === undefined) {
      done = deferred<void>();
      this.#prepared.set(key, done);
      this.#desk.prepare(key, from);
    }
    const { promise, reject } = done;
    const timer = this.#clock.at(this.#clock.now() + 2 * this.#loadTimeoutMs, () => {
      const what = `Model "${key}" of pool "${this.#pool}" was not loaded within twice loadTimeoutMs ${this.#loadTimeoutMs}; models.maxBytes may leave no room for it`;
      reject(new TroupeError('MODEL_LOAD_FAILED', what, { actor: this.#pool }));
    });
    this.#afterEvent();
    try {
      await promise;
      then();
    } finally {
      timer.cancel();
      this.#prepared.delete(key);
      this.#desk.letGo(key);
      this.#afterEvent();
    }
  }

  hear(news: PoolNews): void {
    switch (news.name) {
      case 'model-prepared':
        this.#prepared.get(news.key)?.resolve();
        return;
      case 'model-failed':
        this.#prepared.get(news.key)?.reject(news.error);
        if (this.#desk.isPinned(news.key)) this.#pinned?.reject(news.error);
        return;
      case 'model-loaded':
        this.#lookAtPins();
        return;
      case 'failed':
        this.#giveUp(news.error);
        return;
      case 'stopped':
        this.#giveUp(new TroupeError('POOL_STOPPED', `Pool "${this.#pool}" was stopped`, { actor: this.#pool }));
        return;
      default:
        return;
    }
  }

  carryOut(effect: ModelEffect): void {
    switch (effect.kind) {
      case 'locate':
        void this.#locate(effect.key);
        return;
      case 'load-model':
        void this.#load(effect);
        return;
      case 'unload-model':
        void this.#unload(effect);
        return;
    }
  }

  #giveUp(error: TroupeError): void {
    this.#pinned?.reject(error);
    for (const { reject } of this.#prepared.values()) reject(error);
  }

  #lookAtPins(): void {
    if (this.#pinned === undefined) return;
    let bytes = 0;
    for (const key of this.#pinnedKeys()) bytes += this.#desk.book.peek(key)?.bytes ?? 0;
    if (bytes > this.#desk.limits.maxBytes) this.#pinned.reject(this.#pinsTooLarge(bytes));
    else if (this.#desk.hasPins) this.#pinned.resolve();
    else return;
    this.#pinned = undefined;
  }

  /** A pin without a version goes with the model where that is swapped; one of a version stays what it is. */
  #pinnedKeys(): readonly string[] {
    return [...new Set(this.#pin.map((ref) => this.#catalog.keyOf(ref)))];
  }

  #pinsTooLarge(bytes: number): TroupeError {
    const message = `The pinned models of pool "${this.#pool}" hold ${bytes} bytes together, more than models.maxBytes ${this.#desk.limits.maxBytes} of a replica`;
    return new TroupeError('MODEL_TOO_LARGE', message, { actor: this.#pool });
  }

  async #locate(key: string): Promise<void> {
    try {
      const { bytes } = await this.#place(key);
      this.#desk.located(key, bytes, this.#clock.now());
    } catch (error) {
      this.#desk.locateFailed(key, this.#asTroupeError(error), this.#clock.now());
    }
    this.#afterEvent();
  }

  async #load({ cell, incarnation, key }: Extract<Effect, { kind: 'load-model' }>): Promise<void> {
    const link = this.#links.link(cell);
    if (link === undefined) return; // Its end is about to be told.
    try {
      const { spec, config } = await this.#place(key);
      const description = await link.loadModel(spec);
      if (config !== undefined) await this.#refuse(link, key, config, description);
      this.#describe(key, description);
      this.#desk.loaded(cell, incarnation, key, description.bytes, this.#clock.now());
    } catch (error) {
      this.#desk.loadFailed(cell, incarnation, key, this.#asTroupeError(error), this.#clock.now());
    }
    this.#afterEvent();
  }

  /** Rejects with SIGNATURE_MISMATCH where the model is not what its config.pbtxt declares; it is not held then. */
  async #refuse(
    link: Link,
    key: string,
    config: NonNullable<LocatedModel['config']>,
    { signature }: ModelDescription,
  ): Promise<void> {
    const problem = objectionToModel(`Model "${key}" of pool "${this.#pool}"`, config, signature);
    if (problem === undefined) return;
    let cause: unknown;
    try {
      await link.unloadModel(key);
    } catch (error) {
      cause = error;
    }
    throw new TroupeError('SIGNATURE_MISMATCH', problem, { actor: this.#pool, cause });
  }

  async #unload({ cell, incarnation, key }: Extract<Effect, { kind: 'unload-model' }>): Promise<void> {
    const link = this.#links.link(cell);
    if (link === undefined) return; // As above.
    let error: TroupeError | undefined;
    try {
      await link.unloadModel(key);
    } catch (cause) {
      error = this.#asTroupeError(cause);
    }
    this.#desk.unloaded(cell, incarnation, key, error, this.#clock.now());
    this.#afterEvent();
  }

  /** The newest description tells the shapes; what arrived before it is sorted by them now. */
  #describe(key: string, { signature, costs }: ModelDescription): void {
    const isOneShape = signature?.inputs.some(({ shape }) => shape.includes(-1)) !== true;
    this.#core.batcher.seed(isOneShape ? costs : [], key);
    const known = this.#signatures.get(key);
    if (!this.#signatures.has(key) && this.#signatures.size >= MODELS_MAX) this.#forgetSignature();
    this.#signatures.set(key, signature);
    if (!isDeepStrictEqual(known, signature))
      this.#core.mailbox.rebucket((request) => this.bucketOf(key, request.input), key);
  }

  /**
   * One of a model that no replica holds, the longest known first: its next load tells it again. Of one that is held it
   * stays, since records of two shapes must not share a batch.
   */
  #forgetSignature(): void {
    for (const key of this.#signatures.keys()) {
      if (this.#desk.holdings.isHeld(key)) continue;
      this.#signatures.delete(key);
      return;
    }
  }

  async #place(key: string): Promise<Place> {
    const known = this.#places.get(key);
    if (known !== undefined) return known;
    const located = await this.#catalog.locate(key);
    const bytes = located === undefined ? 0 : located.files.reduce((sum, file) => sum + file.bytes, 0);
    const place: Place = {
      spec: {
        key,
        model: modelOf(key),
        version: versionOf(key),
        modelDir: located?.modelDir,
        modelConfig: located?.config?.config,
        modelHash: located?.hash,
        warmUps: located?.config?.warmUps,
      },
      bytes,
      config: located?.config,
      labels: located?.labels,
    };
    if (this.#places.size >= MODELS_MAX) this.#places.delete(this.#places.keys().next().value as string);
    this.#places.set(key, place);
    return place;
  }

  #asTroupeError(error: unknown): TroupeError {
    if (isTroupeError(error)) return error;
    const message = error instanceof Error ? error.message : String(error);
    return new TroupeError('ACTOR_LOAD_FAILED', message, { cause: error, actor: this.#pool });
  }
}
