/**
 * Models on disk, in Triton's layout: `<root>/<model>/<version>/...` with an optional `<root>/<model>/config.pbtxt`.
 *
 * Owns how names and versions become directories, and which versions are on offer. Does not own what is in the files of a
 * version (the actor reads them) nor when another version is loaded (the pool does). Looks anew at each call: what is on
 * disk is the only state.
 *
 * R1 a name or version fits the grammar before it is joined to a path. R2 it is found by listing, not by asking for it, so
 * that no file system's idea of equal names (case, Unicode) is ours. R3 below a root nothing is a link.
 */

import path from 'node:path';
import { TroupeError } from '../kernel/errors.js';
import {
  look,
  mayShareFiles,
  type ModelFileInfo,
  namesIn,
  objectionToDirectory,
  readSmallFile,
  realDirectory,
  refused,
  walkFiles,
  type Within,
} from './files.js';
import { contentHash } from './content-hash.js';
import { type ModelLabels, readLabels } from './labels.js';
import { type ModelConfigFile, readModelConfig } from './model-config.js';
import { checkName, isName, isVersion, LATEST, shownName } from './names.js';
import { modelsSchema, type ModelsOptions } from './options.js';
import { ModelWatch, type WatchOptions } from './watch.js';

export const CONFIG_FILE = 'config.pbtxt';
/** As the config file of Troupe itself. */
const CONFIG_BYTES_MAX = 1024 * 1024;
/** In messages; a model may have hundreds of versions. */
const SHOWN_MAX = 20;

/** One model, as it lies on disk now. */
export interface ModelListing {
  readonly name: string;
  /** Absolute, without links. */
  readonly dir: string;
  /** Ascending: what version_policy of config.pbtxt offers; all there are, without one. Of a pinned model, what is pinned. */
  readonly versions: readonly string[];
  /** There, but not on offer: by version_policy, or for want of a pinned hash. */
  readonly withheld: readonly string[];
  /** Own names and the versions they stand for, whether or not these are there. */
  readonly aliases: Readonly<Record<string, string>>;
  /** Entries that look like versions and are none. */
  readonly ignored: readonly { readonly name: string; readonly why: string }[];
  readonly config: ModelConfigFile | undefined;
}

/** A model of a root, or why it cannot be used. */
export type ListedModel = ModelListing | { readonly name: string; readonly problem: TroupeError };

export interface LocatedModel {
  readonly model: string;
  /** A number: what an alias or `latest` stands for now. */
  readonly version: string;
  /** Absolute `<root>/<model>/<version>`, without links. */
  readonly modelDir: string;
  readonly files: readonly ModelFileInfo[];
  /** What its files are to be; undefined where the model is not pinned. Not compared here: it is when it is loaded. */
  readonly hash: string | undefined;
  readonly config: ModelConfigFile | undefined;
  /** Of the classes of its outputs. */
  readonly labels: ModelLabels;
}

interface Place extends Within {
  readonly name: string;
}

/** What is said of versions, by model. */
type ByModel = ReadonlyMap<string, ReadonlyMap<string, string>>;

export class ModelRepository {
  /** Absolute, as given. */
  readonly roots: readonly string[];
  readonly #aliases: ByModel;
  /** By model and version; a model that stands here has no other versions. */
  readonly #hashes: ByModel;

  /** Wrong options throw; roots need not exist yet. */
  constructor(options: ModelsOptions = {}) {
    const { roots, aliases, hashes } = modelsSchema.parse(options);
    this.roots = roots.map((root) => path.resolve(root));
    this.#aliases = mapOfMaps(aliases);
    this.#hashes = mapOfMaps(hashes);
  }

  /** The same aliases and hashes over other roots. */
  withRoots(roots: readonly string[]): ModelRepository {
    const plain = (maps: ByModel): Record<string, Record<string, string>> =>
      Object.fromEntries([...maps].map(([model, names]) => [model, Object.fromEntries(names)]));
    return new ModelRepository({ roots: [...roots], aliases: plain(this.#aliases), hashes: plain(this.#hashes) });
  }

  /** The names in the roots, whether or not they can be used. */
  names(): readonly string[] {
    return [...new Set(this.roots.flatMap((root) => modelNames(realDirectory(root))))].sort();
  }

  /** Every model of every root, by name. A model that cannot be used is listed with its problem. */
  list(): readonly ListedModel[] {
    return this.names().map((name) => {
      try {
        return this.model(name);
      } catch (problem) {
        if (!(problem instanceof TroupeError)) throw problem;
        return { name, problem };
      }
    });
  }

  /**
   * `model`: a name in the roots, or the path of a model's directory. Throws NAME_INVALID, MODEL_NOT_FOUND (listing the
   * models there are), MODEL_REFUSED and MODEL_CONFIG_INVALID.
   */
  model(model: string): ModelListing {
    const place = this.#place(model);
    const config = readConfig(place);
    const { versions, ignored } = listVersions(place.dir);
    const hashes = this.#hashes.get(place.name);
    const allowed = offeredBy(config, versions);
    const offered = hashes === undefined ? allowed : new Set([...allowed].filter((version) => hashes.has(version)));
    return {
      name: place.name,
      dir: place.dir,
      versions: versions.filter((version) => offered.has(version)),
      withheld: versions.filter((version) => !offered.has(version)),
      aliases: Object.fromEntries(this.#aliases.get(place.name) ?? []),
      ignored,
      config,
    };
  }

  /** The number that `latest`, an alias or a number stands for now. Throws as `model` does, and VERSION_NOT_FOUND. */
  versionOf(model: string, version: string): string {
    checkName('version', version); // R1
    return this.#numberOf(this.model(model), version);
  }

  /** The model's config.pbtxt, where it has one. Throws as `model` does. */
  config(model: string): ModelConfigFile | undefined {
    return readConfig(this.#place(model));
  }

  /**
   * The directory of a version, which is `latest`, an alias or a number; every file in it is a plain file. Rejects as
   * `model` does, with VERSION_NOT_FOUND (listing the versions there are), with MODEL_REFUSED for links, pipes, devices,
   * and with MODEL_CONFIG_INVALID for labels that cannot be read.
   */
  async locate(model: string, version: string): Promise<LocatedModel> {
    checkName('version', version); // R1
    const listing = this.model(model);
    const number = this.#numberOf(listing, version);
    const place = this.#place(model);
    const within = this.#versionPlace(place, number);
    const files = await walkFiles(within);
    const hash = this.#hashes.get(listing.name)?.get(number);
    const { name, config } = listing;
    const labels = readLabels(place, config);
    return { model: name, version: number, modelDir: within.dir, files, hash, config, labels };
  }

  /**
   * What the files of a version are, in one line: `sha256:…` over path, length and bytes of each, in the order of their
   * paths. Equal for equal trees on any machine; reads every byte. Also of versions that are not on offer. Rejects as
   * `locate` does.
   */
  async hash(model: string, version: string): Promise<string> {
    checkName('version', version); // R1
    const listing = this.model(model);
    const number = listing.withheld.includes(version) ? version : this.#numberOf(listing, version);
    const within = this.#versionPlace(this.#place(model), number);
    return contentHash(within, await walkFiles(within));
  }

  /**
   * Tells when versions in the roots come, change or go, once they have come to rest; does nothing else about it. Close it
   * when it is of no more use. Wrong options, and a repository without roots, throw a TypeError.
   */
  watch(options: WatchOptions = {}): ModelWatch {
    return new ModelWatch(this, options);
  }

  #place(model: string): Place {
    if (this.roots.length > 0 && !/[/\\]/.test(model)) return this.#placeInRoots(checkName('model', model));
    // A path is the user's own word, links and all; from its last part on the grammar holds.
    const dir = realDirectory(model);
    return {
      name: checkName('directory of the model', path.basename(path.resolve(model))),
      dir,
      mayShare: mayShareFiles(path.dirname(dir)),
    };
  }

  #placeInRoots(name: string): Place {
    const real = this.roots.map(realDirectory);
    const holders = real.filter((root) => modelNames(root).includes(name));
    const [root, second] = holders;
    if (root === undefined) throw this.#noModel(name, real);
    if (second !== undefined)
      throw new TroupeError(
        'MODEL_REFUSED',
        `Model ${name} stands in two roots, ${root} and ${second}; remove or rename one`,
      );
    const dir = path.join(root, name);
    const facts = look(dir);
    if (facts === undefined) throw this.#noModel(name, real);
    const objection = objectionToDirectory(facts); // R3
    if (objection !== undefined) throw refused(dir, `it is ${objection}`);
    return { name, dir, mayShare: mayShareFiles(root) };
  }

  #noModel(name: string, roots: readonly string[]): TroupeError {
    const names = [...new Set(roots.flatMap(modelNames))].sort();
    return new TroupeError(
      'MODEL_NOT_FOUND',
      `There is no model ${name}; ${this.roots.join(', ')} ${this.roots.length > 1 ? 'hold' : 'holds'} ${some(names)}`,
    );
  }

  /** VERSION_NOT_FOUND where the words name no version that is on offer. */
  #numberOf(listing: ModelListing, wanted: string): string {
    const { versions, withheld, name, dir } = listing;
    const newest = versions.at(-1);
    const missing = (what: string): TroupeError =>
      new TroupeError('VERSION_NOT_FOUND', `Model "${name}" ${what}; ${this.#offer(listing)}`);
    if (newest === undefined && withheld.length === 0)
      throw new TroupeError('MODEL_NOT_FOUND', `${dir} has no version directory; expected ${path.join(dir, '1')}`);
    if (wanted === LATEST) {
      if (newest === undefined) throw missing('offers no version');
      return newest;
    }
    const target = this.#aliases.get(name)?.get(wanted);
    const number = target ?? wanted;
    const called = target === undefined ? wanted : `${target}, for which "${wanted}" stands`;
    if (versions.includes(number)) return number;
    if (withheld.includes(number) && this.#hashes.get(name)?.has(number) === false)
      throw missing(
        `has a version ${called}, but models.hashes pins the versions of this model and has no hash for it`,
      );
    if (withheld.includes(number))
      throw missing(`has a version ${called}, but version_policy in its ${CONFIG_FILE} does not offer it`);
    if (!isVersion(number)) throw missing(`has no version or alias ${shownName(wanted)}`);
    const ignored = listing.ignored.find((entry) => entry.name === number);
    if (ignored !== undefined) throw refused(path.join(dir, number), `it is ${ignored.why}`);
    throw missing(`has no version ${called}`);
  }

  #offer({ versions, name }: ModelListing): string {
    const aliases = [...(this.#aliases.get(name) ?? [])].map(([alias, version]) => `${alias} = ${version}`);
    const numbers = `it offers ${some(versions)}`;
    return aliases.length === 0 ? numbers : `${numbers}; aliases ${some(aliases)}`;
  }

  #versionPlace({ dir, mayShare }: Place, version: string): Within {
    const place = path.join(dir, version);
    const facts = look(place);
    const objection = facts === undefined ? 'gone' : objectionToDirectory(facts); // R3
    if (objection !== undefined) throw refused(place, `it is ${objection}`);
    if (realDirectory(place) !== place) throw refused(place, 'it lies behind a symbolic link');
    return { dir: place, mayShare };
  }
}

function mapOfMaps(record: Readonly<Record<string, Readonly<Record<string, string>>>>): ByModel {
  return new Map(Object.entries(record).map(([model, names]) => [model, new Map(Object.entries(names))] as const));
}

function readConfig(place: Place): ModelConfigFile | undefined {
  const file = path.join(place.dir, CONFIG_FILE);
  const bytes = readSmallFile(place, CONFIG_FILE, CONFIG_BYTES_MAX);
  if (bytes === undefined) return undefined;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new TroupeError('MODEL_CONFIG_INVALID', `${file}: expected UTF-8 text, found other bytes`, { cause });
  }
  return readModelConfig(text, file, place.name);
}

/** Directories that may be models, whatever is in them. */
function modelNames(root: string): string[] {
  return namesIn(root).filter((name) => isName(name) && look(path.join(root, name))?.isFile() === false);
}

function listVersions(dir: string): Pick<ModelListing, 'versions' | 'ignored'> {
  const versions: string[] = [];
  const ignored: { name: string; why: string }[] = [];
  for (const name of namesIn(dir)) {
    if (!/^\d+$/.test(name)) continue;
    const facts = look(path.join(dir, name));
    const why = isVersion(name)
      ? facts === undefined
        ? 'gone'
        : objectionToDirectory(facts)
      : 'no version: versions are whole numbers from 1, without leading zeros';
    if (why === undefined) versions.push(name);
    else ignored.push({ name, why });
  }
  return { versions: versions.sort((a, b) => Number(a) - Number(b)), ignored };
}

/** Without a policy every version may be asked for: a swap needs the old one and the new one. */
function offeredBy(file: ModelConfigFile | undefined, versions: readonly string[]): ReadonlySet<string> {
  const policy = file?.config.version_policy;
  if (policy?.latest !== undefined) return new Set(versions.slice(-(policy.latest.num_versions ?? 1)));
  if (policy?.specific !== undefined) return new Set((policy.specific.versions ?? []).map(String));
  return new Set(versions);
}

function some(names: readonly string[]): string {
  if (names.length === 0) return 'none';
  const last = names.slice(-SHOWN_MAX).join(', ');
  return names.length > SHOWN_MAX ? `${last} and ${names.length - SHOWN_MAX} older or earlier` : last;
}
