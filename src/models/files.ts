/**
 * The one way into the files of a model. A file below a model's directory is taken only when it is what its path says:
 * a regular file, in that very place, that nothing else in the file system is a name of.
 *
 * Does not own which directory is the model's: whoever names a root is trusted with it, symbolic links included.
 *
 * S1 what is judged is what was opened, never a path that may lead elsewhere a moment later. S2 no link is followed below
 * a root. S3 nothing that blocks or acts when opened (pipes, devices, sockets) is opened.
 *
 * S1 needs /proc, where Linux says what an open file is called. Without it the path is resolved before and after, which
 * leaves an attacker who renames directories at the right instants a chance.
 */

import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
} from 'node:fs';
import { type FileHandle, open, opendir } from 'node:fs/promises';
import path from 'node:path';
import type { Stats } from 'node:fs';
import { TroupeError } from '../kernel/errors.js';

/** More files, or deeper ones, than any model has. */
const FILES_MAX = 10_000;
const DEPTH_MAX = 32;

export interface ModelFileInfo {
  /** Below the directory that was walked, with `/`. */
  readonly path: string;
  readonly bytes: number;
  readonly modifiedMs: number;
  /** Another number is another file, whatever its name. */
  readonly inode: number;
}

/** The directory a user named, without links. Throws MODEL_NOT_FOUND. */
export function realDirectory(given: string): string {
  try {
    const real = realpathSync(given);
    if (lstatSync(real).isDirectory()) return real;
  } catch (cause) {
    throw new TroupeError('MODEL_NOT_FOUND', `${given} cannot be read: ${reasonOf(cause)}`, { cause });
  }
  throw new TroupeError('MODEL_NOT_FOUND', `${given} is not a directory`);
}

/** Undefined where nothing of that name is there. Throws MODEL_NOT_FOUND where it cannot be looked at. */
export function look(place: string): Stats | undefined {
  try {
    return lstatSync(place, { throwIfNoEntry: false });
  } catch (cause) {
    throw new TroupeError('MODEL_NOT_FOUND', `${place} cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

/** What a directory holds, in no order. Throws MODEL_NOT_FOUND. */
export function namesIn(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch (cause) {
    throw new TroupeError('MODEL_NOT_FOUND', `${dir} cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

/** What is wrong with something as a directory of a repository; undefined for nothing. */
export function objectionToDirectory(facts: Stats): string | undefined {
  if (facts.isDirectory()) return undefined;
  return facts.isSymbolicLink() ? 'a symbolic link' : `${kindOf(facts)}, not a directory`;
}

/**
 * Hard links are other names of one file, which may be anybody's: an archive can carry them out of its own tree. So a file
 * with a second name is refused, except below a node_modules directory: package managers link what they install from
 * their store, they wrote those files themselves, and no package can bring a link along.
 */
export function mayShareFiles(root: string): boolean {
  return root.split(path.sep).includes('node_modules');
}

/** What is wrong with something as a file of a model; undefined for nothing. */
function objectionToFile(facts: Stats, mayShare: boolean): string | undefined {
  if (facts.isSymbolicLink()) return 'it is a symbolic link; put the file itself there';
  if (!facts.isFile()) return `it is ${kindOf(facts)}, not a regular file`;
  if (facts.nlink > 1 && !mayShare)
    return `it has ${facts.nlink} names in the file system (hard links); put a copy of its own there`;
  return undefined;
}

function kindOf(facts: Stats): string {
  if (facts.isDirectory()) return 'a directory';
  if (facts.isFIFO()) return 'a named pipe';
  if (facts.isSocket()) return 'a socket';
  if (facts.isBlockDevice() || facts.isCharacterDevice()) return 'a device';
  return facts.isFile() ? 'a file' : 'of an unknown kind';
}

export interface Within {
  /** Real path, without links. */
  readonly dir: string;
  readonly mayShare: boolean;
}

/** Every file below `dir`, in the order of their bytes. Rejects with MODEL_REFUSED for anything that is not a plain file. */
export async function walkFiles({ dir, mayShare }: Within): Promise<readonly ModelFileInfo[]> {
  const files: ModelFileInfo[] = [];
  const visit = async (below: string, depth: number): Promise<void> => {
    if (depth > DEPTH_MAX) throw refused(path.join(dir, below), `directories are nested deeper than ${DEPTH_MAX}`);
    for await (const { name } of await openDirectory(path.join(dir, below))) {
      const relative = below === '' ? name : `${below}/${name}`;
      const place = path.join(dir, relative);
      const facts = look(place);
      if (facts === undefined) throw refused(place, 'it vanished, or its name is not UTF-8');
      if (facts.isDirectory()) await visit(relative, depth + 1);
      else {
        const objection = objectionToFile(facts, mayShare);
        if (objection !== undefined) throw refused(place, objection);
        files.push({ path: relative, bytes: facts.size, modifiedMs: facts.mtimeMs, inode: facts.ino });
        if (files.length > FILES_MAX) throw refused(dir, `it holds more than ${FILES_MAX} files`);
      }
    }
  };
  await visit('', 0);
  return files.sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
}

async function openDirectory(place: string): Promise<AsyncIterable<{ readonly name: string }>> {
  try {
    return await opendir(place);
  } catch (cause) {
    throw new TroupeError('MODEL_NOT_FOUND', `${place} cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

const FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/** The whole of a small text file, or undefined where there is none. Throws MODEL_REFUSED or MODEL_NOT_FOUND. */
export function readSmallFile(within: Within, name: string, bytesMax: number): Buffer | undefined {
  const place = path.join(within.dir, name);
  const facts = look(place);
  if (facts === undefined) return undefined;
  refuseFile(place, facts, within);
  const fd = attempt(place, () => openSync(place, FLAGS));
  try {
    const { size } = proveOpen(place, fd, within);
    if (size > bytesMax) throw refused(place, `it has ${size} bytes; at most ${bytesMax} are read`);
    const bytes = Buffer.alloc(size);
    let filled = 0;
    while (filled < size) {
      const count = readSync(fd, bytes, filled, size - filled, filled);
      if (count === 0) throw refused(place, 'it became shorter while it was read');
      filled += count;
    }
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/** An open file that was proved to be the one at its path. */
export interface OpenFile {
  readonly path: string;
  readonly bytes: number;
  /** Fills `target` from `position` of the file on. Rejects with MODEL_REFUSED where the file ends before. */
  read(target: Buffer, position: number): Promise<void>;
  close(): Promise<void>;
}

/** `name`: below `dir`, already checked not to lead out of it. Rejects with MODEL_NOT_FOUND or MODEL_REFUSED. */
export async function openFile(within: Within, name: string): Promise<OpenFile> {
  const place = path.join(within.dir, name);
  const seen = look(place);
  if (seen === undefined) throw new TroupeError('MODEL_NOT_FOUND', `There is no file ${place}`);
  refuseFile(place, seen, within); // S3: before it is opened
  const handle = await attemptOpen(place);
  try {
    const { size } = proveOpen(place, handle.fd, within);
    return {
      path: place,
      bytes: size,
      read: (target, position) => readFully(handle, place, target, position),
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function attemptOpen(place: string): Promise<FileHandle> {
  try {
    return await open(place, FLAGS);
  } catch (cause) {
    throw openingFailed(place, cause);
  }
}

async function readFully(handle: FileHandle, place: string, target: Buffer, position: number): Promise<void> {
  let filled = 0;
  while (filled < target.length) {
    const { bytesRead } = await handle.read(target, filled, target.length - filled, position + filled);
    if (bytesRead === 0) throw refused(place, 'it became shorter while it was read');
    filled += bytesRead;
  }
}

/** S1, S2: the facts of what was opened, if it is the plain file at `place` and at no other. */
function proveOpen(place: string, fd: number, { mayShare }: Within): Stats {
  const facts = attempt(place, () => fstatSync(fd));
  refuseFile(place, facts, { mayShare });
  const name = nameOfOpen(fd);
  if (name !== undefined ? name !== place : !isAt(place, facts))
    throw refused(place, 'it was replaced, or lies behind a symbolic link');
  return facts;
}

/** What the kernel calls the open file now; undefined where it does not say. */
function nameOfOpen(fd: number): string | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined; // no /proc here
  }
}

function isAt(place: string, facts: Stats): boolean {
  const isStraight = (): boolean => attempt(place, () => realpathSync(place)) === place;
  if (!isStraight()) return false;
  const now = look(place);
  return now !== undefined && now.dev === facts.dev && now.ino === facts.ino && isStraight();
}

function refuseFile(place: string, facts: Stats, { mayShare }: Pick<Within, 'mayShare'>): void {
  const objection = objectionToFile(facts, mayShare);
  if (objection !== undefined) throw refused(place, objection);
}

function attempt<T>(place: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    throw openingFailed(place, cause);
  }
}

function openingFailed(place: string, cause: unknown): TroupeError {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'ELOOP') return refused(place, 'it is a symbolic link; put the file itself there');
  if (code === 'ENOENT') return new TroupeError('MODEL_NOT_FOUND', `There is no file ${place}`, { cause });
  if (code === 'EACCES' || code === 'EPERM')
    return new TroupeError('MODEL_INVALID', `Reading ${place} is not permitted`, { cause });
  return new TroupeError('MODEL_NOT_FOUND', `${place} cannot be read: ${reasonOf(cause)}`, { cause });
}

/** MODEL_REFUSED naming the place and what is wrong there. */
export function refused(place: string, why: string): TroupeError {
  return new TroupeError('MODEL_REFUSED', `${place} is refused: ${why}`);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
