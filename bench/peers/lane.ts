export type Kind = 'thread' | 'process';

/** One way to have a Float32Array echoed by one worker, or by the pool of another process: ours or a peer's. */
export interface Lane {
  readonly id: string;
  readonly kind: Kind | 'remote';
  /** How it is set up, for the table. */
  readonly setup: string;
  open(): Promise<OpenLane>;
}

export interface OpenLane {
  ask(input: Float32Array): PromiseLike<Float32Array>;
  close(): Promise<unknown>;
}

/** A compiled file of bench/workers. */
export function workerUrl(name: string): URL {
  return new URL(`../workers/${name}.js`, import.meta.url);
}
