import type { Ask } from './cells.js';
import type { Task } from './task.js';

/** The parts that are used of two peers whose types do not resolve. */
export interface Bthreads {
  readonly Pool: new (
    file: string,
    options: { readonly size: number },
  ) => {
    call(name: string, args: readonly unknown[]): Promise<unknown>;
    on(event: string, listener: (error: Error) => void): void;
  };
  readonly parent: { hook(name: string, handler: (task: Task) => unknown): void };
}

export interface ThreadsJs {
  readonly Pool: (
    spawnWorker: () => Promise<unknown>,
    size: number,
  ) => { queue(run: (worker: { readonly run: Ask }) => unknown): PromiseLike<unknown> };
  readonly spawn: (worker: object) => Promise<unknown>;
  readonly Worker: new (file: string) => object;
}

export interface ThreadsJsWorker {
  readonly expose: (api: Readonly<Record<string, (task: Task) => unknown>>) => void;
}
