/**
 * Keeps two runs out of one directory: each puts a file `lock.<pid>` there and looks for those of others. Two that come
 * at the same time see each other and both withdraw; nobody ever removes the lock of a process that lives, so there is
 * no moment at which a stale one could be mistaken for a fresh one. For one machine: a process id says nothing on another.
 */
import { readFileSync } from 'node:fs';
import { TroupeError } from '../../kernel/errors.js';
import type { BoundedDisk } from './bounded-disk.js';
import { codeOf, type Disk } from './disk.js';

const LOCK = /^lock\.(\d+)$/;

/** Who is alive on this machine; a seam for tests. */
export interface Processes {
  readonly pid: number;
  /** Tells processes apart that were given the same id one after the other; '' where the system does not say. */
  startOf(pid: number): string;
  isAlive(pid: number): boolean;
}

export const realProcesses: Processes = {
  pid: process.pid,
  startOf: (pid) => {
    try {
      // Field 22, counted behind the name, which may hold spaces and brackets.
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
    } catch {
      return ''; // No /proc on this system, or the process has just gone: isAlive decides.
    }
  },
  isAlive: (pid) => {
    try {
      process.kill(pid, 0);
      return true;
    } catch (cause) {
      return codeOf(cause) === 'EPERM';
    }
  },
};

/** Directories in use by runs of this thread. */
const heldHere = new WeakMap<Disk, Set<string>>();

export class DirectoryLock {
  #isHeld = true;

  private constructor(
    private readonly disk: BoundedDisk,
    private readonly path: string,
    private readonly key: string,
  ) {}

  /** Rejects with CHECKPOINT_FAILED while another run uses the directory. */
  static async take(disk: BoundedDisk, directory: string, processes: Processes): Promise<DirectoryLock> {
    const key = await disk.canonical(directory);
    const held = heldBy(disk.disk);
    if (held.has(key)) throw inUse(directory, 'another run of this process');
    held.add(key);
    const name = `lock.${processes.pid}`;
    const path = `${directory}/${name}`;
    let isOurs = false;
    try {
      await removeStale(disk, directory, name, processes);
      const file = await disk.create(path);
      isOurs = true;
      try {
        await file.write(Buffer.from(processes.startOf(processes.pid)));
      } finally {
        await file.close();
      }
      const owner = await otherOwner(disk, directory, name, processes);
      if (owner === undefined) return new DirectoryLock(disk, path, key);
      throw inUse(directory, `process ${owner}; its lock is ${directory}/lock.${owner}`);
    } catch (cause) {
      // One whose making hangs may be there in the end.
      const isThere = isOurs || disk.answered !== undefined;
      await letGo(disk, isThere ? path : undefined, key).catch(() => undefined); // The first failure says what is wrong.
      throw cause;
    }
  }

  /** Rejects while an operation on the disk hangs; the directory is let go when it has ended. */
  async release(): Promise<void> {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    await letGo(this.disk, this.path, this.key);
  }
}

/** An operation that hangs may end on the files of whoever comes next, so that nobody comes before it has ended. */
async function letGo(disk: BoundedDisk, path: string | undefined, key: string): Promise<void> {
  const go = async (): Promise<void> => {
    heldBy(disk.disk).delete(key);
    if (path !== undefined) await remove(disk, path);
  };
  const { answered } = disk;
  if (answered === undefined) return go();
  void answered.then(go).catch(() => undefined); // A lock that is left is that of a dead process one day.
  throw new Error('the disk has not answered yet; the lock goes when it has');
}

function heldBy(disk: Disk): Set<string> {
  let held = heldHere.get(disk);
  if (held === undefined) heldHere.set(disk, (held = new Set()));
  return held;
}

/** A lock of our own id is of a process that had the id before us and is gone, unless its start is ours, too. */
async function removeStale(disk: Disk, directory: string, name: string, processes: Processes): Promise<void> {
  const path = `${directory}/${name}`;
  const start = processes.startOf(processes.pid);
  const written = await disk.read(path).catch((cause: unknown) => {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw cause;
  });
  if (written === undefined) return;
  if (start !== '' && Buffer.from(written).toString() === start) {
    throw inUse(directory, 'another thread of this process, or a run of it that could not remove its lock');
  }
  await remove(disk, path);
}

async function otherOwner(
  disk: Disk,
  directory: string,
  own: string,
  processes: Processes,
): Promise<number | undefined> {
  for (const name of await disk.list(directory)) {
    const pid = Number(LOCK.exec(name)?.[1]);
    if (Number.isNaN(pid) || name === own) continue;
    if (await isAlive(disk, `${directory}/${name}`, pid, processes)) return pid;
    await remove(disk, `${directory}/${name}`);
  }
  return undefined;
}

async function isAlive(disk: Disk, path: string, pid: number, processes: Processes): Promise<boolean> {
  if (!processes.isAlive(pid)) return false;
  let written: string;
  try {
    written = Buffer.from(await disk.read(path)).toString();
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return false;
    throw cause;
  }
  const start = processes.startOf(pid);
  // An empty one is being written just now, or by a system that does not say.
  return written === '' || start === '' || written === start;
}

async function remove(disk: Disk, path: string): Promise<void> {
  try {
    await disk.remove(path);
  } catch (cause) {
    if (codeOf(cause) !== 'ENOENT') throw cause;
  }
}

function inUse(directory: string, who: string): TroupeError {
  return new TroupeError(
    'CHECKPOINT_FAILED',
    `The checkpoint directory ${directory} is in use by ${who}. Every running pipeline needs a directory of its own`,
  );
}
