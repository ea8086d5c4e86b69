import { constants } from 'node:fs';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { TroupeError } from '../../kernel/errors.js';
import { codeOf } from '../checkpoint/disk.js';
import { checkKeys, refuse } from '../options.js';
import type { Sink } from '../sink.js';
import { checkFormat, toLines, type LineFormat } from './json-lines.js';

export interface ToFileOptions {
  /** Default auto: text for strings, NDJSON for everything else. */
  format?: LineFormat;
  /** Adds to a file that is there; without it the file begins anew. Default false. */
  append?: boolean;
}

/** Characters that may wait while a write is open; beyond it the pipeline waits for the disk. */
const BUFFER_CHARS = 262_144;

/**
 * Writes one line for each value. Lines go to the file as soon as it takes them; `close` waits for fsync. The directory of the
 * file is made where only that is missing. A path that cannot be opened, a full disk, or a value that is no JSON ends the run with SINK_FAILED.
 *
 * With checkpoints a resumed run cuts the file to the length that it had at the checkpoint, and goes on there; a file
 * that is shorter than that is refused with CHECKPOINT_INVALID. A pipe or a device cannot be cut and takes no part.
 */
export function toFile(path: string, options: ToFileOptions = {}): Sink {
  if (typeof path !== 'string' || path === '') refuse('toFile', 'given a path', path);
  checkKeys('toFile', options, ['format', 'append']);
  const { format = 'auto', append = false } = options;
  checkFormat(format);
  if (typeof append !== 'boolean') refuse('append', 'true or false', append);
  return new FileSink(path, format, append ? 'a' : 'w');
}

/** What `prepare` gives. */
interface FileState {
  /** Bytes of the file that are durable and part of the checkpoint. */
  readonly length: number;
}

class FileSink implements Sink {
  /** Only of a regular file. */
  prepare: (() => Promise<FileState>) | undefined = undefined;
  #file: FileHandle | undefined;
  #buffer = '';
  /** Bytes in the file when everything in the buffer is written. */
  #length = 0;
  /** The name of a new file is durable, too. */
  #isNameSafe = false;
  /** The write that is open; it goes on until the buffer is empty. Never rejects. */
  #writing: Promise<void> | undefined;
  #failure: { readonly cause: unknown } | undefined;

  constructor(
    readonly name: string,
    private readonly format: LineFormat,
    private readonly flags: string,
  ) {}

  async open(resume?: { readonly state: unknown }): Promise<void> {
    this.#buffer = '';
    this.#failure = undefined;
    try {
      if (resume !== undefined) {
        this.#file = await this.#reopen((resume.state as FileState).length);
        return;
      }
      const file = await openNew(this.name, this.flags);
      this.#file = file;
      await this.#joinCheckpoints(file);
    } catch (cause) {
      await this.#file?.close();
      this.#file = undefined;
      throw this.#failed('open', cause);
    }
  }

  write(values: readonly unknown[]): void | Promise<void> {
    this.#check();
    const text = toLines(values, this.format);
    this.#buffer += text;
    this.#length += Buffer.byteLength(text);
    this.#writing ??= this.#drain(this.#file as FileHandle);
    if (this.#buffer.length > BUFFER_CHARS) return this.#writing.then(() => this.#check());
    return undefined;
  }

  async close(): Promise<void> {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    try {
      await this.#writing;
      this.#check();
      await file.sync().catch(ignoreNoSync);
    } catch (cause) {
      throw this.#failed('write', cause);
    } finally {
      await file.close();
    }
  }

  async abort(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#buffer = '';
    await this.#writing;
    await file?.close();
  }

  /** A file that is shorter has lost what the checkpoint holds for written. Nothing is changed before that is known. */
  async #reopen(length: number): Promise<FileHandle> {
    let file: FileHandle;
    try {
      file = await open(this.name, constants.O_WRONLY | constants.O_APPEND);
    } catch (cause) {
      if (!(cause instanceof Error && 'code' in cause && cause.code === 'ENOENT')) throw cause;
      throw new TroupeError('CHECKPOINT_INVALID', `${this.name} is gone; the checkpoint needs ${length} bytes of it`, {
        cause,
      });
    }
    this.#file = file;
    const facts = await file.stat();
    if (!facts.isFile() || facts.size < length) {
      const found = facts.isFile() ? `${facts.size} bytes long` : 'no regular file';
      throw new TroupeError(
        'CHECKPOINT_INVALID',
        `${this.name} is ${found}; the checkpoint needs ${length} bytes of it. Put the file back, or begin anew without resume`,
      );
    }
    await file.truncate(length);
    await this.#joinCheckpoints(file);
    return file;
  }

  async #joinCheckpoints(file: FileHandle): Promise<void> {
    const facts = await file.stat();
    this.#length = facts.size;
    this.#isNameSafe = false;
    this.prepare = facts.isFile() ? () => this.#prepare(file) : undefined;
  }

  /** After an fsync that failed the system may have forgotten what it could not write: the sink is not used any more. */
  async #prepare(file: FileHandle): Promise<FileState> {
    try {
      await this.#writing;
      this.#check();
      await file.datasync();
      if (!this.#isNameSafe) await syncDirectory(dirname(this.name));
      this.#isNameSafe = true;
      return { length: this.#length };
    } catch (cause) {
      this.#failure ??= { cause };
      throw this.#failed('write', cause);
    }
  }

  async #drain(file: FileHandle): Promise<void> {
    try {
      while (this.#buffer !== '' && this.#failure === undefined) {
        const text = this.#buffer;
        this.#buffer = '';
        // appendFile on a handle writes from where it stands and goes on after a partial write.
        await file.appendFile(text);
      }
    } catch (cause) {
      this.#failure = { cause };
    } finally {
      this.#writing = undefined;
    }
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failed('write', this.#failure.cause);
  }

  #failed(what: string, cause: unknown): TroupeError {
    if (cause instanceof TroupeError) return cause;
    const words = cause instanceof Error ? cause.message : String(cause);
    return new TroupeError('SINK_FAILED', `Cannot ${what} ${this.name}: ${words}`, { cause });
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync().catch(ignoreNoSync);
  } finally {
    await directory.close();
  }
}

/** Pipes and some devices have nothing to sync, and say so. */
function ignoreNoSync(cause: unknown): void {
  const isNoSync = cause instanceof Error && 'code' in cause && (cause.code === 'EINVAL' || cause.code === 'ENOTSUP');
  if (!isNoSync) throw cause;
}

/** Makes one directory at most: where more are missing the path is a mistake. */
async function openNew(path: string, flags: string): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (cause) {
    if (codeOf(cause) !== 'ENOENT') throw cause;
    try {
      await mkdir(dirname(path));
    } catch (obstacle) {
      // Somebody else may have made it a moment ago.
      if (codeOf(obstacle) !== 'EEXIST') throw cause;
    }
    const file = await open(path, flags);
    try {
      // Or after a crash it might be gone, with a file that a checkpoint counts on.
      await syncDirectory(dirname(dirname(path)));
    } catch (cause) {
      await file.close();
      throw cause;
    }
    return file;
  }
}
