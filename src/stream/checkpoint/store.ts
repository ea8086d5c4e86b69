/**
 * The checkpoints in one directory. A checkpoint is a data file and a manifest, `000000000012.data` and `.manifest`.
 *
 * S1 `save` resolves when the checkpoint survives a power loss: data written, synced, renamed, directory synced, then
 *    the manifest likewise. A manifest therefore never stands there without its data, but through damage.
 * S2 nothing that is there is ever written to again. A step that failed fails the checkpoint; the next one begins with
 *    new files under a new number, so a failed fsync is never taken for a later success.
 * S3 what is damaged is put aside as `.corrupt`, never overwritten and never taken for "nothing there".
 * S4 of good checkpoints the last `keep` stay; the one that was read last stays until a newer one is safe.
 * S5 while an operation hangs nothing else is asked of the disk, and the directory stays locked: what ends late meets
 *    no file of a later save, of this run or of the next.
 */
import type { Clock } from '../../kernel/clock.js';
import { TroupeError, isTroupeError } from '../../kernel/errors.js';
import { BoundedDisk } from './bounded-disk.js';
import { codeOf, type Disk } from './disk.js';
import { FORMATS, decodeManifest, encodeManifest, sha256, type FormatTable, type Snapshot } from './format.js';
import { DirectoryLock, type Processes } from './lock.js';

const NAME = /^(\d{12})\.(data|manifest)$/;
const LEFTOVER = /^\d{12}\.(data|manifest)\.new$/;
const CORRUPT = /\.corrupt$/;

export interface StoreOptions {
  readonly directory: string;
  /** Good checkpoints that stay. */
  readonly keep: number;
  readonly disk: Disk;
  /** Longest that one operation of the disk may take. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly processes: Processes;
  /** Default FORMATS; tests give others. */
  readonly formats?: FormatTable;
}

export interface LoadedCheckpoint {
  readonly number: number;
  readonly snapshot: Snapshot;
  /** Files of newer ones that were damaged, by the names they have now. */
  readonly putAside: readonly string[];
}

export class CheckpointStore {
  readonly #options: Omit<StoreOptions, 'disk'> & { readonly disk: BoundedDisk };
  readonly #formats: FormatTable;
  readonly #lock: DirectoryLock;
  /** Of manifests that are there, ascending. */
  #numbers: number[] = [];
  #next = 1;
  #hasCorrupt = false;

  private constructor(options: StoreOptions, disk: BoundedDisk, lock: DirectoryLock) {
    this.#options = { ...options, disk };
    this.#formats = options.formats ?? FORMATS;
    this.#lock = lock;
  }

  /** Rejects with CHECKPOINT_FAILED when the directory cannot be made, read, or is in use. */
  static async open(options: StoreOptions): Promise<CheckpointStore> {
    const { directory, processes, clock, timeoutMs } = options;
    const disk = new BoundedDisk(options.disk, clock, timeoutMs);
    try {
      await disk.makeDirectory(directory);
      const lock = await DirectoryLock.take(disk, directory, processes);
      const store = new CheckpointStore(options, disk, lock);
      try {
        await store.#look();
        return store;
      } catch (cause) {
        await store.close().catch(() => undefined); // The first failure says what is wrong.
        throw cause;
      }
    } catch (cause) {
      throw failed(`Cannot use the checkpoint directory ${directory}`, cause);
    }
  }

  /**
   * The newest checkpoint that is whole; undefined when there never was one. Damaged ones are put aside. Rejects with
   * CHECKPOINT_INVALID when there are only damaged ones, or the newest is of a newer format.
   */
  async latest(): Promise<LoadedCheckpoint | undefined> {
    const { directory } = this.#options;
    const putAside: string[] = [];
    try {
      for (;;) {
        const number = this.#numbers[this.#numbers.length - 1];
        if (number === undefined) break;
        const snapshot = await this.#read(number);
        if (snapshot !== undefined) return { number, snapshot, putAside };
        for (const kind of ['manifest', 'data'] as const) putAside.push(...(await this.#putAside(number, kind)));
        this.#numbers.pop();
        this.#hasCorrupt = true;
      }
    } catch (cause) {
      throw failed(`Cannot read the checkpoints in ${directory}`, cause);
    }
    if (!this.#hasCorrupt) return undefined;
    throw new TroupeError(
      'CHECKPOINT_INVALID',
      `${directory} holds only damaged checkpoints, put aside as .corrupt: no run can go on from there. ` +
        'Put back a good copy, or begin anew without resume',
    );
  }

  /**
   * Begins anew: what is there is of no use any more. Every crash leaves the newest or none: one manifest goes after the
   * other, the newest last, each durably, and the data when all manifests have gone.
   */
  async clear(): Promise<void> {
    const { directory, disk } = this.#options;
    try {
      for (const number of this.#numbers) {
        await this.#remove(number, 'manifest');
        await disk.syncDirectory(directory);
      }
      for (const number of this.#numbers) await this.#remove(number, 'data');
      this.#numbers = [];
    } catch (cause) {
      throw failed(`Cannot clear the checkpoint directory ${directory}`, cause);
    }
  }

  /** S1. Gives the checkpoint's number. One at a time. `at`: ISO 8601. */
  async save(data: Uint8Array, at: string): Promise<number> {
    const { directory, disk, keep } = this.#options;
    const number = this.#next;
    this.#next += 1; // S2
    const what = `checkpoint ${number} in ${directory}`;
    try {
      await this.#write(number, 'data', data);
      await disk.syncDirectory(directory);
      const facts = { bytes: data.length, sha256: sha256(data) };
      await this.#write(number, 'manifest', encodeManifest({ format: this.#formats.current, number, at, data: facts }));
      await disk.syncDirectory(directory);
    } catch (cause) {
      await this.#sweep(number);
      throw failed(`Cannot write ${what}`, cause);
    }
    this.#numbers.push(number);
    try {
      while (this.#numbers.length > keep) {
        // The manifest first: data without one is no checkpoint.
        await this.#remove(this.#numbers[0] as number, 'manifest');
        await this.#remove(this.#numbers[0] as number, 'data');
        this.#numbers.shift();
      }
    } catch (cause) {
      throw failed(`Cannot remove a checkpoint older than ${what}`, cause);
    }
    return number;
  }

  async close(): Promise<void> {
    try {
      await this.#lock.release();
    } catch (cause) {
      throw failed(`Cannot remove the lock of ${this.#options.directory}`, cause);
    }
  }

  /** Finds what is there and removes what a crash left unfinished. */
  async #look(): Promise<void> {
    const { directory, disk } = this.#options;
    const names = await disk.list(directory);
    const found = { data: new Set<number>(), manifest: new Set<number>() };
    for (const name of names) {
      if (LEFTOVER.test(name)) await disk.remove(`${directory}/${name}`);
      if (CORRUPT.test(name)) this.#hasCorrupt = true;
      const number = Number(/^\d{12}/.exec(name)?.[0] ?? 0);
      this.#next = Math.max(this.#next, number + 1);
      const match = NAME.exec(name);
      if (match !== null) found[match[2] as 'data' | 'manifest'].add(number);
    }
    for (const number of found.data) {
      if (!found.manifest.has(number)) await disk.remove(this.#path(number, 'data'));
    }
    this.#numbers = [...found.manifest].sort((a, b) => a - b);
  }

  /** Undefined where it is damaged. */
  async #read(number: number): Promise<Snapshot | undefined> {
    const manifestBytes = await this.#readFile(this.#path(number, 'manifest'));
    const manifest = manifestBytes === undefined ? undefined : decodeManifest(manifestBytes);
    if (manifest === undefined || manifest.number !== number) return undefined;
    const reader = this.#formats.readers.get(manifest.format);
    if (reader === undefined) {
      const relation = manifest.format > this.#formats.current ? 'newer than' : 'older than all';
      throw new TroupeError(
        'CHECKPOINT_INVALID',
        `${this.#path(number, 'manifest')} has format ${manifest.format}, ${relation} those that this version reads (` +
          `${[...this.#formats.readers.keys()].join(', ')}). Use the version of Troupe that wrote it, or begin anew without resume`,
      );
    }
    const data = await this.#readFile(this.#path(number, 'data'));
    if (data === undefined || data.length !== manifest.data.bytes || sha256(data) !== manifest.data.sha256) {
      return undefined;
    }
    return reader(JSON.parse(Buffer.from(data).toString()));
  }

  /** Undefined where it is not there, or where the disk says that it cannot give it back. */
  async #readFile(path: string): Promise<Uint8Array | undefined> {
    try {
      return await this.#options.disk.read(path);
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT' || codeOf(cause) === 'EIO') return undefined;
      throw cause;
    }
  }

  async #write(number: number, kind: 'data' | 'manifest', bytes: Uint8Array): Promise<void> {
    const { disk } = this.#options;
    const path = this.#path(number, kind);
    const file = await disk.create(`${path}.new`);
    try {
      await file.write(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await disk.rename(`${path}.new`, path);
  }

  /** S3. Gives the new name; none where there is no file. */
  async #putAside(number: number, kind: 'data' | 'manifest'): Promise<string[]> {
    const path = this.#path(number, kind);
    try {
      await this.#options.disk.rename(path, `${path}.corrupt`);
      return [`${path}.corrupt`];
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return [];
      throw cause;
    }
  }

  /**
   * After a failed save: what lies there is of no use, also where only the last sync failed and it looks whole. What
   * cannot be removed now is removed by the next `open`, or is a whole checkpoint then.
   */
  async #sweep(number: number): Promise<void> {
    for (const kind of ['manifest', 'data'] as const) {
      for (const path of [`${this.#path(number, kind)}.new`, this.#path(number, kind)]) {
        await this.#options.disk.remove(path).catch(() => undefined); // The first failure says what is wrong.
      }
    }
  }

  async #remove(number: number, kind: 'data' | 'manifest'): Promise<void> {
    try {
      await this.#options.disk.remove(this.#path(number, kind));
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT') throw cause;
    }
  }

  #path(number: number, kind: 'data' | 'manifest'): string {
    return `${this.#options.directory}/${String(number).padStart(12, '0')}.${kind}`;
  }
}

function failed(what: string, cause: unknown): TroupeError {
  if (isTroupeError(cause)) return cause;
  const words = cause instanceof Error ? cause.message : String(cause);
  return new TroupeError('CHECKPOINT_FAILED', `${what}: ${words}`, { cause });
}
