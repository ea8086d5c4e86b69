import { constants } from 'node:fs';
import { mkdir, open, readFile, readdir, realpath, rename, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * What a checkpoint store needs of a disk: the door of this folder to the file system, and the seam where tests put a
 * disk that loses power, fills up, or fails. Paths are joined with '/'.
 */
export interface Disk {
  /** One name for one directory that is there, however it is written. */
  canonical(path: string): Promise<string>;
  /** With its parents; for nobody else's eyes (0700). Nothing happens where it is there. */
  makeDirectory(path: string): Promise<void>;
  list(path: string): Promise<readonly string[]>;
  read(path: string): Promise<Uint8Array>;
  /** A new file, 0600; rejects with code EEXIST where something of the name is there, a symlink included. */
  create(path: string): Promise<DiskFile>;
  /** Atomic: `to` is afterwards the old or the new one. */
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes the names in the directory durable. */
  syncDirectory(path: string): Promise<void>;
}

export interface DiskFile {
  write(bytes: Uint8Array): Promise<void>;
  /** Makes the content durable. After a failure nothing is known of the file any more: it must not be tried again. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export const realDisk: Disk = {
  canonical: (path) => realpath(path),
  makeDirectory: (path) => makeDirectory(path),
  list: (path) => readdir(path),
  read: (path) => readFile(path),
  create: async (path) => {
    const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    return {
      // On a handle it goes on after a partial write, until all is taken.
      write: (bytes) => file.writeFile(bytes),
      sync: () => file.sync(),
      close: () => file.close(),
    };
  },
  rename: (from, to) => rename(from, to),
  remove: (path) => unlink(path),
  syncDirectory: async (path) => {
    const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  },
};

/** The system's code of a failed call, such as ENOENT. */
export function codeOf(cause: unknown): string | undefined {
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
}

/** mkdir with `recursive` never ends where a file system says ENOENT to every name, as /proc does. */
async function makeDirectory(path: string, isParentThere = false): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return;
    const parent = dirname(path);
    if (code !== 'ENOENT' || isParentThere || parent === path) throw cause;
    await makeDirectory(parent);
    await makeDirectory(path, true);
  }
}
