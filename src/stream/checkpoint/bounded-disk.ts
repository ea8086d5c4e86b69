/**
 * A disk that has to answer. An operation that does not within `timeoutMs` fails.
 *
 * B1 until it has answered after all, nothing else is asked of the disk and everything fails at once: what ends late
 *    races nothing that came after it, and a store that takes a new number for every try never meets its files again.
 * B2 what a late answer gives is given back: a file that is open by then is closed.
 */
import type { Clock } from '../../kernel/clock.js';
import { TOO_LATE, within } from '../within.js';
import type { Disk, DiskFile } from './disk.js';

export class BoundedDisk implements Disk {
  #hung: { readonly what: string; readonly answered: Promise<void> } | undefined;

  constructor(
    /** What it bounds: runs that have it in common have their files in common. */
    readonly disk: Disk,
    private readonly clock: Clock,
    private readonly timeoutMs: number,
  ) {}

  /** Resolves when the operation that hangs now has ended, well or badly; undefined where none hangs. Never rejects. */
  get answered(): Promise<void> | undefined {
    return this.#hung?.answered;
  }

  canonical(path: string): Promise<string> {
    return this.#ask(`look up ${path}`, () => this.disk.canonical(path));
  }

  makeDirectory(path: string): Promise<void> {
    return this.#ask(`make ${path}`, () => this.disk.makeDirectory(path));
  }

  list(path: string): Promise<readonly string[]> {
    return this.#ask(`list ${path}`, () => this.disk.list(path));
  }

  read(path: string): Promise<Uint8Array> {
    return this.#ask(`read ${path}`, () => this.disk.read(path));
  }

  async create(path: string): Promise<DiskFile> {
    const file = await this.#ask(
      `create ${path}`,
      () => this.disk.create(path),
      (late) => late.close(),
    );
    return {
      write: (bytes) => this.#ask(`write ${path}`, () => file.write(bytes)),
      sync: () => this.#ask(`sync ${path}`, () => file.sync()),
      close: async () => {
        // B2. The operation that hangs may be one on this very file.
        if (this.#hung !== undefined) void this.#hung.answered.then(() => file.close()).catch(() => undefined);
        else await this.#ask(`close ${path}`, () => file.close());
      },
    };
  }

  rename(from: string, to: string): Promise<void> {
    return this.#ask(`rename ${from}`, () => this.disk.rename(from, to));
  }

  remove(path: string): Promise<void> {
    return this.#ask(`remove ${path}`, () => this.disk.remove(path));
  }

  syncDirectory(path: string): Promise<void> {
    return this.#ask(`sync ${path}`, () => this.disk.syncDirectory(path));
  }

  async #ask<T>(what: string, call: () => Promise<T>, giveBack?: (late: T) => Promise<void>): Promise<T> {
    if (this.#hung !== undefined) throw new Error(`the disk has not answered yet: ${this.#hung.what}`); // B1
    const asked = call();
    const answer = await within(this.clock, this.timeoutMs, asked);
    if (answer !== TOO_LATE) return answer;
    const answered = asked
      .then(giveBack)
      .catch(() => undefined) // It has failed already, for its time was up.
      .then(() => {
        this.#hung = undefined;
      });
    this.#hung = { what, answered };
    throw new Error(`the disk did not answer within ${this.timeoutMs} ms (checkpoint.timeoutMs): ${what}`);
  }
}
