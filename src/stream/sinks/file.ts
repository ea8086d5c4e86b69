import { open, type FileHandle } from 'node:fs/promises';
import { TroupeError } from '../../kernel/errors.js';
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
 * Writes one line for each value. Lines go to the file as soon as it takes them; `close` waits for fsync. A path that
 * cannot be opened, a full disk, or a value that is no JSON ends the run with SINK_FAILED.
 */
export function toFile(path: string, options: ToFileOptions = {}): Sink {
  if (typeof path !== 'string' || path === '') refuse('toFile', 'given a path', path);
  checkKeys('toFile', options, ['format', 'append']);
  const { format = 'auto', append = false } = options;
  checkFormat(format);
  if (typeof append !== 'boolean') refuse('append', 'true or false', append);
  return new FileSink(path, format, append ? 'a' : 'w');
}

class FileSink implements Sink {
  #file: FileHandle | undefined;
  #buffer = '';
  /** The write that is open; it goes on until the buffer is empty. Never rejects. */
  #writing: Promise<void> | undefined;
  #failure: { readonly cause: unknown } | undefined;

  constructor(
    readonly name: string,
    private readonly format: LineFormat,
    private readonly flags: string,
  ) {}

  async open(): Promise<void> {
    this.#buffer = '';
    this.#failure = undefined;
    try {
      this.#file = await open(this.name, this.flags);
    } catch (cause) {
      throw this.#failed('open', cause);
    }
  }

  write(values: readonly unknown[]): void | Promise<void> {
    this.#check();
    this.#buffer += toLines(values, this.format);
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

/** Pipes and some devices have nothing to sync, and say so. */
function ignoreNoSync(cause: unknown): void {
  const isNoSync = cause instanceof Error && 'code' in cause && (cause.code === 'EINVAL' || cause.code === 'ENOTSUP');
  if (!isNoSync) throw cause;
}
