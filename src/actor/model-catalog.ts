/**
 * Which models a pool of many has, by the names its callers use: `fr` (the newest version), `fr@2`, `fr@stable` (an
 * alias). Looks on disk, loads nothing.
 *
 * C1 what a name without a version means is looked up when it is first used, and stays: another version comes by `move`
 * alone, so no half-copied directory is ever picked up. C2 names that are not there are not remembered, and the list of
 * those that are is read at most once a second, so that asking for nonsense costs next to nothing.
 */

import { modelKey, modelOf, versionOf } from '../core/model-key.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { checkName, LATEST, plainName } from '../models/names.js';
import type { LocatedModel, ModelRepository } from '../models/repository.js';
import { locateModel } from './locate.js';
import type { ResolvedPoolOptions } from './pool-options.js';

const NAMES_KEPT_MS = 1000;
/** In messages. */
const SHOWN_MAX = 20;

export interface CatalogParts {
  readonly pool: string;
  readonly options: NonNullable<ResolvedPoolOptions['models']>;
  /** Where models lie; without roots the models are those of `options.list`, and have no files. */
  readonly repository: ModelRepository;
  readonly now: () => number;
}

export class ModelCatalog {
  readonly #pool: string;
  readonly #repository: ModelRepository;
  readonly #list: ReadonlySet<string> | undefined;
  readonly #now: () => number;
  /** What a name means, by the name; bounded by what there is on disk (C2). */
  readonly #keys = new Map<string, string>();
  #names: ReadonlySet<string> = new Set();
  #namesAt = -Infinity;

  constructor({ pool, options, repository, now }: CatalogParts) {
    this.#pool = pool;
    this.#repository = repository;
    this.#list = options.list === undefined ? undefined : new Set(options.list);
    this.#now = now;
  }

  get hasFiles(): boolean {
    return this.#repository.roots.length > 0;
  }

  /** The key of what the name means. Throws NAME_INVALID, MODEL_NOT_FOUND or VERSION_NOT_FOUND, saying what there is. */
  keyOf(ref: string): string {
    const known = this.#keys.get(ref);
    if (known !== undefined) return known;
    const { model, version } = this.#parse(ref);
    if (!this.#has(ref, model)) throw this.#missing(model);
    const key = modelKey(model, this.hasFiles ? this.#versionOf(model, version ?? LATEST) : version);
    this.#keys.set(ref, key);
    return key;
  }

  /** What the name would mean if it were looked up now; nothing is remembered. */
  newestKey(model: string, version: string): string {
    checkName('model', model);
    checkName('version', version);
    if (!this.#has(model, model)) throw this.#missing(model);
    if (!this.hasFiles)
      throw new TypeError(
        `swap: pool "${this.#pool}" gives its models by list, without files, so they have no versions`,
      );
    return modelKey(model, this.#versionOf(model, version));
  }

  /** Lets the plain name of the model mean another version. Those who name a version keep it. */
  move(model: string, key: string): void {
    this.#keys.set(model, key);
  }

  /** Where the files of a key lie; undefined where models have none. Rejects as `ModelRepository.locate` does. */
  async locate(key: string): Promise<LocatedModel | undefined> {
    const version = versionOf(key);
    return this.hasFiles && version !== undefined
      ? locateModel(this.#pool, this.#repository, modelOf(key), version)
      : undefined;
  }

  /** The names there are. */
  names(): readonly string[] {
    return [...this.#available()].sort();
  }

  #parse(ref: string): { model: string; version: string | undefined } {
    const at = ref.indexOf('@');
    const model = checkName('model', at < 0 ? ref : ref.slice(0, at));
    return { model, version: at < 0 ? undefined : checkName('version of the model', ref.slice(at + 1)) };
  }

  /** A list may hold names and names with versions; without files exactly these can be asked for. */
  #has(ref: string, model: string): boolean {
    if (this.#list !== undefined && !this.#list.has(ref) && !(this.hasFiles && this.#list.has(model))) return false;
    return !this.hasFiles || this.#available().has(model);
  }

  #available(): ReadonlySet<string> {
    if (!this.hasFiles) return this.#list ?? new Set();
    const now = this.#now();
    if (now - this.#namesAt >= NAMES_KEPT_MS) {
      const there = this.#repository.names();
      const list = this.#list;
      const isServed = (name: string): boolean =>
        list === undefined || list.has(name) || [...list].some((ref) => modelOf(ref) === name);
      this.#names = new Set(there.filter(isServed));
      this.#namesAt = now;
    }
    return this.#names;
  }

  #versionOf(model: string, version: string): string {
    try {
      return this.#repository.versionOf(model, version);
    } catch (error) {
      if (!isTroupeError(error)) throw error;
      throw new TroupeError(error.code, `Pool "${this.#pool}": ${error.message}`, { actor: this.#pool });
    }
  }

  #missing(model: string): TroupeError {
    const names = this.names();
    const shown = names.slice(0, SHOWN_MAX).join(', ');
    const rest = names.length > SHOWN_MAX ? ` and ${names.length - SHOWN_MAX} more` : '';
    const holds = names.length === 0 ? 'it has none' : `it has ${shown}${rest}`;
    const message = `Pool "${this.#pool}" has no model ${plainName(model)}; ${holds}`;
    return new TroupeError('MODEL_NOT_FOUND', message, { actor: this.#pool });
  }
}
