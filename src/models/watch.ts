import { type Clock, systemClock, type Timer } from '../kernel/clock.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { EventEmitter } from '../kernel/events.js';
import type { ModelFileInfo } from './files.js';
import type { ModelRepository } from './repository.js';
import { watchSchema } from './options.js';
import { type SeenThing, WatchCore } from './watch-core.js';

/** The edge of watch-core.ts: looks at the roots again and again, one look at a time, and tells what the core says. */

export interface WatchOptions {
  /** Time between two looks. Default 2,000. */
  readonly intervalMs?: number | undefined;
  /** A version is told once it has been the same for this long. Default 5,000. Slow or stalling copies want more. */
  readonly settleMs?: number | undefined;
}

export type ModelChange =
  | { readonly kind: 'added' | 'changed' | 'removed'; readonly model: string; readonly version: string }
  /** The config.pbtxt came, went or changed. */
  | { readonly kind: 'config'; readonly model: string }
  /** It is there and cannot be used; without a version, the model as a whole. */
  | { readonly kind: 'refused'; readonly model: string; readonly version?: string; readonly error: TroupeError };

export interface WatchEvents {
  change: [ModelChange];
  /** A root cannot be looked at. Told once, until a look succeeds again; nothing counts as removed meanwhile. */
  problem: [TroupeError];
}

interface Thing extends SeenThing {
  readonly error: TroupeError | undefined;
}

/** Wrong options throw a TypeError. Looks for the first time at once; the process stays alive for it in no case. */
export class ModelWatch implements AsyncDisposable {
  readonly #models: ModelRepository;
  readonly #clock: Clock;
  readonly #core: WatchCore<Thing>;
  readonly #intervalMs: number;
  readonly #events = new EventEmitter<WatchEvents>();
  #looking: Promise<void> | undefined;
  #timer: Timer | undefined;
  #isClosed = false;
  #hasProblem = false;

  constructor(models: ModelRepository, options: WatchOptions = {}, clock: Clock = systemClock) {
    const resolved = watchSchema.safeParse(options);
    if (!resolved.success) {
      const [issue] = resolved.error.issues;
      throw new TypeError(`watch: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'wrong options'}`);
    }
    if (models.roots.length === 0) throw new TypeError('watch: there are no roots to watch; give models.roots');
    this.#models = models;
    this.#clock = clock;
    this.#core = new WatchCore(resolved.data.settleMs);
    this.#intervalMs = resolved.data.intervalMs;
    void this.look();
  }

  /** Looks now instead of waiting for the next time; resolves when what there is to tell has been told. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      this.#arm();
    });
    return this.#looking;
  }

  on<Name extends keyof WatchEvents>(name: Name, listener: (...args: WatchEvents[Name]) => void): this {
    this.#events.on(name, listener as never);
    return this;
  }

  off<Name extends keyof WatchEvents>(name: Name, listener: (...args: WatchEvents[Name]) => void): this {
    this.#events.off(name, listener as never);
    return this;
  }

  /** Looks no more and tells nothing more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#looking;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #arm(): void {
    this.#timer?.cancel();
    if (this.#isClosed) return;
    this.#timer = this.#clock.at(this.#clock.now() + this.#intervalMs, () => void this.look());
    this.#timer.hold?.(false);
  }

  async #look(): Promise<void> {
    // Who listens from the same turn on hears of the first look.
    await Promise.resolve();
    if (this.#stopped()) return;
    let things: readonly Thing[];
    try {
      things = await thingsIn(this.#models);
    } catch (error) {
      if (!isTroupeError(error)) throw error;
      if (!this.#hasProblem && !this.#stopped()) this.#tell('problem', error);
      this.#hasProblem = true;
      return;
    }
    this.#hasProblem = false;
    if (this.#stopped()) return;
    for (const { kind, thing } of this.#core.look(things, this.#clock.now())) {
      this.#tell('change', changeOf(kind, thing));
    }
  }

  /** What a listener throws must neither stop the watch nor be lost. */
  #tell<Name extends keyof WatchEvents>(name: Name, ...args: WatchEvents[Name]): void {
    try {
      this.#events.emit(name, ...(args as never));
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  }

  /** It may have been closed since the last wait. */
  #stopped(): boolean {
    return this.#isClosed;
  }
}

function changeOf(kind: 'added' | 'changed' | 'removed', { model, version, error }: Thing): ModelChange {
  if (error !== undefined && kind !== 'removed')
    return version === undefined ? { kind: 'refused', model, error } : { kind: 'refused', model, version, error };
  return version === undefined ? { kind: 'config', model } : { kind, model, version };
}

/** Every version on offer and every config.pbtxt. Rejects where a root cannot be looked at. */
async function thingsIn(models: ModelRepository): Promise<readonly Thing[]> {
  const things: Thing[] = [];
  for (const listed of models.list()) {
    const { name: model } = listed;
    if ('problem' in listed) {
      things.push(refusedThing(model, undefined, listed.problem));
      continue;
    }
    const { config } = listed;
    if (config !== undefined)
      things.push({
        model,
        version: undefined,
        fingerprint: JSON.stringify(config.config),
        isUnfinished: false,
        error: undefined,
      });
    for (const version of listed.versions) {
      const thing = await versionThing(models, model, version);
      if (thing !== undefined) things.push(thing);
    }
  }
  return things;
}

async function versionThing(models: ModelRepository, model: string, version: string): Promise<Thing | undefined> {
  try {
    const { files } = await models.locate(model, version);
    // A directory is made before what is in it.
    if (files.length === 0) return undefined;
    const isUnfinished = files.some(({ path }) => UNFINISHED.test(path));
    return { model, version, fingerprint: fingerprintOf(files), isUnfinished, error: undefined };
  } catch (error) {
    if (!isTroupeError(error)) throw error;
    // It went while it was looked at; the next look will tell.
    if (error.code === 'VERSION_NOT_FOUND' || error.code === 'MODEL_NOT_FOUND') return undefined;
    return refusedThing(model, version, error);
  }
}

function refusedThing(model: string, version: string | undefined, error: TroupeError): Thing {
  const fingerprint = `${error.code} ${error.message}`;
  return { model, version, fingerprint, isUnfinished: false, hidesVersions: version === undefined, error };
}

/** Names that copying tools give to what they have not finished: rsync's `.name.Xy12Ab`, and endings of downloads. */
const UNFINISHED = /(^|\/)\.[^/]+$|\.(tmp|temp|part|partial|crdownload|download|filepart|swp)$|~$/i;

function fingerprintOf(files: readonly ModelFileInfo[]): string {
  return files.map(({ path, bytes, modifiedMs, inode }) => `${path}\0${bytes}\0${modifiedMs}\0${inode}`).join('\n');
}
