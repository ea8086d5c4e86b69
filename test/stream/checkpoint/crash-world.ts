/**
 * A world in which a run crashes: every operation on disk, source and sinks is counted, and from a chosen one on nothing
 * takes effect any more and nothing answers, as when the process is gone. What was durable is what the next run finds.
 */
import type { Processes } from '../../../src/stream/checkpoint/lock.js';
import type { Control, RecordInfo } from '../../../src/stream/envelope.js';
import { Stamped } from '../../../src/stream/envelope.js';
import type { Sink } from '../../../src/stream/sink.js';
import type { Acknowledgement, Source, SourceItem, SourceReader } from '../../../src/stream/source.js';
import { MemoryDisk } from '../../../src/testing/memory-disk.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';

const never = new Promise<never>(() => undefined);

/** One life; what it holds stays dead when the next one lives. */
class Process {
  /** Operations so far. */
  operations = 0;
  isDead = false;
  #onDeath: () => void = () => undefined;
  readonly death = new Promise<void>((resolve) => (this.#onDeath = resolve));

  /** `crashAt`: the operation that does not happen any more. */
  constructor(private readonly crashAt: number) {}

  /** Counts an operation; true while there is a process that can do it. */
  lives(): boolean {
    if (this.isDead) return false;
    this.operations += 1;
    if (this.operations < this.crashAt) return true;
    this.isDead = true;
    this.#onDeath();
    return false;
  }
}

export class CrashWorld {
  disk = new MemoryDisk();
  clock = new VirtualClock();
  processes: Processes = { pid: 1, startOf: String, isAlive: () => false };
  process = new Process(Infinity);
  crashes = 0;

  constructor(readonly random: () => number) {}

  /** A new process over what the old one left. */
  restart(crashAt: number): void {
    if (this.process.isDead) this.crashes += 1;
    const process = new Process(crashAt);
    const images = this.disk.crashImages();
    this.disk = new MemoryDisk(images[Math.floor(this.random() * images.length)]);
    this.disk.onOperation = () => (process.lives() ? undefined : new Gone());
    this.clock = new VirtualClock();
    this.processes = { ...this.processes, pid: this.processes.pid + 1 };
    this.process = process;
  }

  /** Of the disk: an operation of a process that is gone never answers. */
  get world(): { disk: MemoryDisk; clock: VirtualClock; processes: Processes } {
    const { disk, clock, processes } = this;
    const hanging = new Proxy(disk, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) =>
          (value.apply(target, args) as Promise<unknown>).catch((cause: unknown) => {
            if (cause instanceof Gone) return never;
            throw cause;
          });
      },
    });
    return { disk: hanging, clock, processes };
  }
}

class Gone extends Error {}

/** A file as a file is: what was not synced may be lost from the end, and it can be cut. */
export class CrashFile<T> {
  /** What is in the file, and the ids of the records. */
  written: { readonly value: T; readonly id: string }[] = [];
  controls: { readonly element: Control; readonly after: number }[] = [];
  #synced = 0;
  /** What the run that was resumed last knew beside the length. */
  resumed: { readonly length: number; readonly given: number } | undefined;

  constructor(
    readonly name: string,
    private readonly crash: CrashWorld,
    private readonly source: { readonly arrived: number },
  ) {}

  /** For the process that lives now. */
  sink(): Sink<T> {
    const { process } = this.crash;
    return {
      name: this.name,
      open: (resume) => (process.lives() ? this.#open(resume?.state as typeof this.resumed) : never),
      write: (values, records) => {
        for (const [index, value] of values.entries()) {
          if (!process.lives()) return never; // Torn between two records.
          this.written.push({ value, id: (records[index] as RecordInfo).id });
        }
        return undefined;
      },
      control: (element) => {
        if (!process.lives()) return never;
        this.controls.push({ element, after: this.written.length });
        return undefined;
      },
      prepare: async () => {
        const state = { length: this.written.length, given: this.source.arrived };
        await Promise.resolve();
        if (!process.lives()) return never;
        this.#synced = state.length;
        return state;
      },
      commit: () => (process.lives() ? undefined : never),
      close: () => {
        if (!process.lives()) return never;
        this.#synced = this.written.length;
        return undefined;
      },
    };
  }

  /** After a crash any beginning of what was not synced is left. */
  crashed(): void {
    const left = this.#synced + Math.floor(this.crash.random() * (this.written.length - this.#synced + 1));
    this.written.length = left;
  }

  #open(resumed: typeof this.resumed): void {
    this.resumed = resumed;
    const length = resumed?.length ?? 0;
    if (this.written.length < length) throw new Error(`${this.name} has lost what was durable`);
    this.written.length = length;
    this.controls = this.controls.filter(({ after }) => after <= length);
    this.#synced = length;
  }
}

export type SourceKind = 'replayable' | 'acknowledging' | 'neither';

/** The numbers from 0, of each kind of source there is. */
export class CrashSource implements Source<number> {
  readonly name = 'numbers';
  /** How many were given, ever. */
  given = 0;
  /** How many of them certainly came to the run: it has asked for the next ones. */
  arrived = 0;
  readonly acknowledged = new Set<number>();

  constructor(
    private readonly kind: SourceKind,
    private readonly size: number,
    private readonly crash: CrashWorld,
  ) {}

  open(from?: { readonly position: unknown }): SourceReader<number> | Promise<SourceReader<number>> {
    const { process } = this.crash;
    if (!process.lives()) return never;
    const todo = this.#todo(from?.position as number | undefined);
    let next = 0;
    const read = (max: number): Promise<readonly SourceItem<number>[] | undefined> => {
      if (!process.lives()) return never;
      this.arrived = this.given;
      const size = 1 + Math.floor(this.crash.random() * Math.min(max, 5));
      const numbers = todo.slice(next, next + size);
      next += numbers.length;
      for (const number of numbers) this.given = Math.max(this.given, number + 1);
      // Now and then nothing is there for a turn: a source is not always ready.
      const answer = numbers.length === 0 ? undefined : numbers.map((number) => this.#item(number));
      return this.crash.random() < 0.3
        ? new Promise((resolve) => setImmediate(() => resolve(answer)))
        : Promise.resolve(answer);
    };
    const close = (): void => undefined;
    switch (this.kind) {
      case 'replayable':
        return { read, close, position: () => todo[next] ?? this.size };
      case 'acknowledging':
        return { read, close, acknowledge: (outcomes) => this.#acknowledge(process, outcomes) };
      case 'neither':
        return { read, close };
    }
  }

  #todo(from: number | undefined): number[] {
    const all = Array.from({ length: this.size }, (_, number) => number);
    if (this.kind === 'replayable') return all.slice(from ?? 0);
    if (this.kind === 'neither') return all.slice(this.given);
    return all.filter((number) => !this.acknowledged.has(number));
  }

  #item(number: number): SourceItem<number> {
    return this.kind === 'acknowledging' ? new Stamped(number, { token: { number } }) : number;
  }

  #acknowledge(process: Process, outcomes: readonly Acknowledgement[]): void | Promise<void> {
    if (!process.lives()) return never;
    for (const { token } of outcomes) this.acknowledged.add((token as { number: number }).number);
    return undefined;
  }
}
