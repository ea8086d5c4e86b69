import { constants } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { TroupeError } from '../../kernel/errors.js';
import { RecordFailure } from '../envelope.js';
import { checkCount, checkKeys, refuse } from '../options.js';
import type { Source, SourceReader } from '../source.js';
import { anyOf, parseGlob } from './glob.js';
import { fileUnreadable, walk, type WalkEntry } from './walk.js';

export interface FileRecord {
  /** Begins with the directory as it was given. */
  readonly path: string;
  readonly absolutePath: string;
  /** Size of the file in bytes. */
  readonly size: number;
  /** The whole file where it is small, else its first `headBytes` and last `tailBytes`. Owns its buffer. */
  readonly bytes: Uint8Array;
}

export interface FromFilesOptions {
  /** Default 1536. */
  headBytes?: number;
  /** Default 512. */
  tailBytes?: number;
  /** Enters directories behind symlinks; one that leads back up fails as a record. Symlinks to files are always read. Default false. */
  followSymlinks?: boolean;
  /** Glob patterns for paths relative to the directory, such as `.git` or `**\/node_modules`; an ignored directory is not entered. */
  ignore?: readonly string[];
}

/** Files that are open at the same time. */
const READ_AHEAD = 16;
/** Neither a FIFO that takes the place of a file nor a terminal can hold the open up. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/**
 * Gives one record for each regular file of a directory tree, or of a glob such as `src/**\/*.ts`, in a stable sorted
 * order. Of each file only a sample is read. A file or directory that vanished, may not be read, loops, or is special
 * fails alone with FILE_UNREADABLE; its `record` has `path` and `absolutePath`. A root that is not there ends the run
 * with SOURCE_FAILED.
 */
export function fromFiles(globOrDirectory: string, options: FromFilesOptions = {}): Source<FileRecord> {
  if (typeof globOrDirectory !== 'string' || globOrDirectory === '') {
    refuse('fromFiles', 'given a directory or a glob', globOrDirectory);
  }
  checkKeys('fromFiles', options, ['headBytes', 'tailBytes', 'followSymlinks', 'ignore']);
  const { headBytes = 1536, tailBytes = 512, followSymlinks = false, ignore = [] } = options;
  checkCount('headBytes', headBytes, 0);
  checkCount('tailBytes', tailBytes, 0);
  if (typeof followSymlinks !== 'boolean') refuse('followSymlinks', 'true or false', followSymlinks);
  if (!Array.isArray(ignore)) refuse('ignore', 'an array of glob patterns', ignore);
  return {
    name: globOrDirectory,
    open: async (from) => {
      const after = (from?.position as FilesPosition | undefined)?.after;
      const entries = await entriesOf(globOrDirectory, followSymlinks, ignore, after);
      return new FilesReader(entries, headBytes, tailBytes, after);
    },
    count: async () => {
      let count = 0;
      for await (const _ of await entriesOf(globOrDirectory, followSymlinks, ignore)) count++;
      return count;
    },
  };
}

async function entriesOf(
  given: string,
  followSymlinks: boolean,
  ignore: readonly string[],
  after?: string,
): Promise<AsyncGenerator<WalkEntry>> {
  const isThere = await stat(given).then(
    () => true,
    () => false,
  );
  // What is there by that very name is meant, also where the name looks like a pattern.
  const glob = isThere ? undefined : parseGlob(given);
  const root = glob === undefined ? given : glob.base === '' ? '.' : glob.base;
  let facts;
  try {
    facts = await stat(root);
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause);
    throw new TroupeError('SOURCE_FAILED', `Cannot read ${given}: ${words}`, { cause });
  }
  if (!facts.isDirectory()) return single(root, after);
  const entries = walk(root, { followSymlinks, isIgnored: anyOf(ignore), after });
  return glob === undefined ? entries : matching(entries, glob.test);
}

async function* single(path: string, after: string | undefined): AsyncGenerator<WalkEntry> {
  if (after !== path) yield { kind: 'file', relative: path, path };
}

/** A directory that cannot be listed stays in: what the pattern would have found there is not known. */
async function* matching(
  entries: AsyncGenerator<WalkEntry>,
  test: (relative: string) => boolean,
): AsyncGenerator<WalkEntry> {
  for await (const entry of entries) if (entry.kind === 'failed' || test(entry.relative)) yield entry;
}

/** Names stay in order when files come and go, numbers would not: what is new before `after` is not read. */
interface FilesPosition {
  /** Relative path of the last file that was given; undefined before the first. */
  readonly after?: string | undefined;
}

interface Job {
  readonly relative: string;
  readonly done: Promise<void>;
  result: FileRecord | RecordFailure | undefined;
}

/** Samples a few files at once and gives them in the order of the walk. */
class FilesReader implements SourceReader<FileRecord> {
  readonly #jobs: Job[] = [];
  #hasEnded = false;
  #isClosed = false;

  constructor(
    private readonly entries: AsyncGenerator<WalkEntry>,
    private readonly headBytes: number,
    private readonly tailBytes: number,
    private after: string | undefined,
  ) {}

  position(): FilesPosition {
    return this.after === undefined ? {} : { after: this.after };
  }

  async read(max: number): Promise<readonly (FileRecord | RecordFailure)[] | undefined> {
    const records: (FileRecord | RecordFailure)[] = [];
    while (records.length < max && !this.#isClosed) {
      await this.#fill();
      const job = this.#jobs.shift();
      if (job === undefined) break;
      await job.done;
      this.after = job.relative;
      if (job.result !== undefined) records.push(job.result);
    }
    return records.length > 0 ? records : undefined;
  }

  close(): void {
    this.#isClosed = true;
    this.#jobs.length = 0;
    // Jobs that run give their handles back themselves; a listing that hangs must not hold the run up.
    void this.entries.return(undefined).catch(() => undefined);
  }

  async #fill(): Promise<void> {
    while (!this.#hasEnded && !this.#isClosed && this.#jobs.length < READ_AHEAD) {
      const step = await this.entries.next();
      if (step.done === true) this.#hasEnded = true;
      else this.#jobs.push(this.#start(step.value));
    }
  }

  #start(entry: WalkEntry): Job {
    const path = join(entry.path);
    const input = { path, absolutePath: resolve(path) };
    const { relative } = entry;
    if (entry.kind === 'failed') {
      return { relative, done: Promise.resolve(), result: new RecordFailure(entry.error, input) };
    }
    const job: Job = {
      relative,
      result: undefined,
      done: sample(input.path, this.headBytes, this.tailBytes).then(
        (facts) => {
          job.result = { ...input, ...facts };
        },
        (cause: unknown) => {
          job.result = new RecordFailure(fileUnreadable(path, cause), input);
        },
      ),
    };
    return job;
  }
}

async function sample(
  path: string,
  headBytes: number,
  tailBytes: number,
): Promise<{ readonly size: number; readonly bytes: Uint8Array }> {
  const file = await open(path, OPEN_FLAGS);
  try {
    const facts = await file.stat();
    if (!facts.isFile()) throw new Error('it is not a regular file');
    const { size } = facts;
    if (size <= headBytes + tailBytes) {
      const bytes = new Uint8Array(size);
      return { size, bytes: bytes.subarray(0, await readFully(file, bytes, 0)) };
    }
    const bytes = new Uint8Array(headBytes + tailBytes);
    const head = await readFully(file, bytes.subarray(0, headBytes), 0);
    const tail = head < headBytes ? 0 : await readFully(file, bytes.subarray(headBytes), size - tailBytes);
    return { size, bytes: bytes.subarray(0, head + tail) };
  } finally {
    await file.close();
  }
}

/** How many bytes there were; fewer than asked for when the file has shrunk. */
async function readFully(file: FileHandle, into: Uint8Array, position: number): Promise<number> {
  let total = 0;
  while (total < into.length) {
    const { bytesRead } = await file.read(into, total, into.length - total, position + total);
    if (bytesRead === 0) break;
    total += bytesRead;
  }
  return total;
}
