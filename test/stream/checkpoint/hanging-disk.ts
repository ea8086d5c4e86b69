import type { Disk, DiskFile } from '../../../src/stream/checkpoint/disk.js';
import type { MemoryDisk } from '../../../src/testing/memory-disk.js';

/** A disk one operation of which hangs until it is let go, and takes effect only then. */
export class HangingDisk implements Disk {
  /** Operations that were asked so far. */
  asked = 0;
  /** The operation, counted from 1, that hangs. */
  hangsAt = Infinity;
  /** What hangs now. */
  hanging: string | undefined;
  #letGo: (() => void) | undefined;

  constructor(readonly disk: MemoryDisk) {}

  letGo(): void {
    this.hanging = undefined;
    this.#letGo?.();
  }

  canonical = (path: string): Promise<string> => this.#ask('canonical', () => this.disk.canonical(path));
  makeDirectory = (path: string): Promise<void> => this.#ask('make', () => this.disk.makeDirectory(path));
  list = (path: string): Promise<readonly string[]> => this.#ask('list', () => this.disk.list(path));
  read = (path: string): Promise<Uint8Array> => this.#ask('read', () => this.disk.read(path));
  rename = (from: string, to: string): Promise<void> => this.#ask('rename', () => this.disk.rename(from, to));
  remove = (path: string): Promise<void> => this.#ask('remove', () => this.disk.remove(path));
  syncDirectory = (path: string): Promise<void> => this.#ask('sync', () => this.disk.syncDirectory(path));

  async create(path: string): Promise<DiskFile> {
    const file = await this.#ask('create', () => this.disk.create(path));
    return {
      write: (bytes) => this.#ask('write', () => file.write(bytes)),
      sync: () => this.#ask('sync', () => file.sync()),
      close: () => this.#ask('close', () => file.close()),
    };
  }

  async #ask<T>(what: string, call: () => Promise<T>): Promise<T> {
    this.asked += 1;
    if (this.asked === this.hangsAt) {
      this.hanging = what;
      await new Promise<void>((resolve) => (this.#letGo = resolve));
    }
    return call();
  }
}
