/**
 * Walks a directory tree depth first, the names of each directory in the order of their UTF-16 code units, so that the
 * same tree always gives the same sequence. Memory: the names of one directory for each level.
 *
 * Only regular files come out. A directory that cannot be listed, a dangling or looping symlink and a special file
 * (which is never opened: a FIFO would hang, a device may act) come out as failures in their place.
 */
import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TroupeError } from '../../kernel/errors.js';
import type { PathTest } from './glob.js';

export interface WalkOptions {
  readonly followSymlinks: boolean;
  /** Told relative paths; an ignored directory is not entered. */
  readonly isIgnored: PathTest;
  /** A relative path: what comes up to and with it is left out, and directories before it are not listed. */
  readonly after?: string | undefined;
}

export type WalkEntry =
  | { readonly kind: 'file'; readonly relative: string; readonly path: string }
  | { readonly kind: 'failed'; readonly relative: string; readonly path: string; readonly error: TroupeError };

export function walk(root: string, options: WalkOptions): AsyncGenerator<WalkEntry> {
  // '' is the root itself, which comes only when it cannot be listed, and then alone.
  if (options.after === '') return nothing();
  return walkDirectory(root, '', options, [], options.after?.split('/') ?? []);
}

export function fileUnreadable(path: string, cause: unknown): TroupeError {
  // Node gives names as text; bytes that are no UTF-8 are lost, and the file cannot be opened by what is left.
  const isLossy = path.includes('\uFFFD') && cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
  const reason = isLossy ? 'its name is not UTF-8 (ENOENT)' : reasonOf(cause);
  return new TroupeError('FILE_UNREADABLE', `Cannot read ${path}: ${reason}`, { cause });
}

async function* nothing(): AsyncGenerator<WalkEntry> {}

/**
 * `above` holds the identities of the directories on the way down, to see a symlink that leads back. `after` is what is
 * left of the path behind which to begin; empty: everything is wanted.
 */
async function* walkDirectory(
  path: string,
  relative: string,
  options: WalkOptions,
  above: readonly string[],
  after: readonly string[],
): AsyncGenerator<WalkEntry> {
  const here = [...above];
  let entries: Dirent[];
  try {
    if (options.followSymlinks) here.push(identityOf(await stat(path)));
    entries = await listSorted(path);
  } catch (cause) {
    yield { kind: 'failed', relative, path, error: fileUnreadable(path, cause) };
    return;
  }
  const [first, ...rest] = after;
  for (const entry of entries) {
    if (first !== undefined && (entry.name < first || (entry.name === first && rest.length === 0))) continue;
    const below = entry.name === first ? rest : [];
    const child = {
      path: join(path, entry.name),
      relative: relative === '' ? entry.name : `${relative}/${entry.name}`,
    };
    if (options.isIgnored(child.relative)) continue;
    if (entry.isFile()) {
      yield { kind: 'file', ...child };
      continue;
    }
    if (entry.isDirectory()) {
      yield* walkDirectory(child.path, child.relative, options, here, below);
      continue;
    }
    // A symlink, a special file, or a file system that does not tell.
    try {
      const facts = await stat(child.path);
      if (facts.isFile()) yield { kind: 'file', ...child };
      else if (!facts.isDirectory()) throw new Error('it is not a regular file');
      else if (!entry.isSymbolicLink()) yield* walkDirectory(child.path, child.relative, options, here, below);
      else if (options.followSymlinks) {
        if (here.includes(identityOf(facts))) throw new Error('the symlink leads back to a directory above it');
        yield* walkDirectory(child.path, child.relative, options, here, below);
      }
    } catch (cause) {
      yield { kind: 'failed', ...child, error: fileUnreadable(child.path, cause) };
    }
  }
}

async function listSorted(path: string): Promise<Dirent[]> {
  const entries = await readdir(path, { withFileTypes: true });
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function identityOf(facts: { readonly dev: number; readonly ino: number }): string {
  return `${facts.dev}:${facts.ino}`;
}

function reasonOf(cause: unknown): string {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  switch (code) {
    case 'ENOENT':
      return 'it has vanished, or its symlink leads nowhere (ENOENT)';
    case 'EACCES':
    case 'EPERM':
      return `reading is not permitted (${code})`;
    case 'ELOOP':
      return 'its symlinks form a loop (ELOOP)';
    default:
      return cause instanceof Error ? cause.message : String(cause);
  }
}
