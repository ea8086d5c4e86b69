/**
 * A disk in memory that can lose power and fail. It keeps what is durable apart from what a running system sees, and
 * gives every state that a crash may leave behind.
 *
 * M1 content that was not synced is there after a crash whole, torn, as zeros, or not at all.
 * M2 of the changes of names since the last sync of the directory any choice may have become durable.
 * M3 content whose sync failed is lost, and a later sync does not bring it back, as with Linux's page cache.
 */
import type { Disk, DiskFile } from '../stream/checkpoint/disk.js';

interface Inode {
  readonly id: number;
  bytes: Uint8Array;
  isDurable: boolean;
  hasLost: boolean;
}

type NameChange =
  | { readonly kind: 'add'; readonly name: string; readonly inode: Inode }
  | { readonly kind: 'move'; readonly from: string; readonly to: string; readonly inode: Inode }
  | { readonly kind: 'remove'; readonly name: string };

export type DiskImage = ReadonlyMap<string, Uint8Array>;

export interface DiskOperation {
  readonly kind:
    | 'makeDirectory'
    | 'list'
    | 'read'
    | 'create'
    | 'write'
    | 'sync'
    | 'close'
    | 'rename'
    | 'remove'
    | 'syncDirectory';
  readonly path: string;
}

export class MemoryDisk implements Disk {
  readonly #names = new Map<string, Inode>();
  /** What a crash leaves in any case. */
  #durable = new Map<string, Inode>();
  #changes: NameChange[] = [];
  #nextInode = 1;
  /** Everything that was asked, in order. */
  readonly operations: DiskOperation[] = [];
  /** Told before each operation; gives the error with which it fails, if it is to. */
  onOperation: ((operation: DiskOperation, index: number) => Error | undefined) | undefined = undefined;
  /** Inodes whose sync was asked for after one that failed. */
  syncedAfterFailure = 0;

  constructor(image: DiskImage = new Map()) {
    for (const [name, bytes] of image) {
      const inode = { ...this.#inode(), bytes, isDurable: true };
      this.#names.set(name, inode);
      this.#durable.set(name, inode);
    }
  }

  /** What a running system sees. */
  get image(): DiskImage {
    return new Map([...this.#names].map(([name, { bytes }]) => [name, bytes]));
  }

  /** M1, M2. Every state that a loss of power may leave now, without repetitions of content. */
  crashImages(): DiskImage[] {
    let directories: Map<string, Inode>[] = [new Map(this.#durable)];
    for (const change of this.#changes) {
      directories = directories.flatMap((names) => [names, applied(names, change)]);
    }
    const images = new Map<string, DiskImage>();
    for (const names of directories) {
      for (const image of contentsOf([...names])) {
        const key = [...image]
          .map(([name, bytes]) => `${name}=${Buffer.from(bytes).toString('base64')}`)
          .sort()
          .join();
        images.set(key, image);
      }
    }
    return [...images.values()];
  }

  async canonical(path: string): Promise<string> {
    return path;
  }

  async makeDirectory(path: string): Promise<void> {
    this.#ask('makeDirectory', path);
  }

  async list(path: string): Promise<readonly string[]> {
    this.#ask('list', path);
    return [...this.#names.keys()]
      .filter((name) => name.startsWith(`${path}/`))
      .map((name) => name.slice(path.length + 1));
  }

  async read(path: string): Promise<Uint8Array> {
    this.#ask('read', path);
    return this.#find(path).bytes;
  }

  async create(path: string): Promise<DiskFile> {
    this.#ask('create', path);
    if (this.#names.has(path)) throw diskError('EEXIST', path);
    const inode = this.#inode();
    this.#names.set(path, inode);
    this.#changes.push({ kind: 'add', name: path, inode });
    return {
      write: async (bytes) => {
        // What fills up a disk leaves a part of the file behind.
        inode.bytes = bytes.slice(0, bytes.length >> 1);
        this.#ask('write', path);
        inode.bytes = bytes;
      },
      sync: async () => {
        if (inode.hasLost) this.syncedAfterFailure += 1;
        try {
          this.#ask('sync', path);
        } catch (cause) {
          inode.hasLost = true; // M3
          throw cause;
        }
        if (!inode.hasLost) inode.isDurable = true;
      },
      close: async () => this.#ask('close', path),
    };
  }

  async rename(from: string, to: string): Promise<void> {
    this.#ask('rename', from);
    const inode = this.#find(from);
    this.#names.delete(from);
    this.#names.set(to, inode);
    this.#changes.push({ kind: 'move', from, to, inode });
  }

  async remove(path: string): Promise<void> {
    this.#ask('remove', path);
    this.#find(path);
    this.#names.delete(path);
    this.#changes.push({ kind: 'remove', name: path });
  }

  async syncDirectory(path: string): Promise<void> {
    this.#ask('syncDirectory', path);
    this.#durable = new Map(this.#names);
    this.#changes = [];
  }

  #ask(kind: DiskOperation['kind'], path: string): void {
    const operation = { kind, path };
    const index = this.operations.push(operation) - 1;
    const failure = this.onOperation?.(operation, index);
    if (failure !== undefined) throw failure;
  }

  #find(path: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw diskError('ENOENT', path);
    return inode;
  }

  #inode(): Inode {
    return { id: this.#nextInode++, bytes: new Uint8Array(), isDurable: false, hasLost: false };
  }
}

export function diskError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

function applied(names: ReadonlyMap<string, Inode>, change: NameChange): Map<string, Inode> {
  const changed = new Map(names);
  switch (change.kind) {
    case 'add':
      changed.set(change.name, change.inode);
      break;
    case 'move':
      changed.delete(change.from);
      changed.set(change.to, change.inode);
      break;
    case 'remove':
      changed.delete(change.name);
      break;
    default:
      change satisfies never;
  }
  return changed;
}

/** M1. */
function contentsOf(names: readonly (readonly [string, Inode])[]): DiskImage[] {
  let images: Map<string, Uint8Array>[] = [new Map()];
  for (const [name, { bytes, isDurable, hasLost }] of names) {
    const torn = [new Uint8Array(), bytes.slice(0, bytes.length >> 1), new Uint8Array(bytes.length)];
    const contents = isDurable ? [bytes] : hasLost ? torn : [...torn, bytes];
    images = images.flatMap((image) => contents.map((content) => new Map(image).set(name, content)));
  }
  return images;
}
