import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { defineActor } from '../../src/actor/define-actor.js';

interface Weights {
  readonly version: string;
  readonly bytes: Uint8Array;
  /** What its load took, as it sees it itself. */
  readonly loadMs: number;
}

export interface Weighed {
  readonly version: string;
  readonly pid: number;
  readonly loadMs: number;
}

/** Holds as many bytes as it is told to, after as long as it is told to take. */
export default defineActor<number, Weighed, Weights>({
  async load({ version = 'none', options }) {
    const from = performance.now();
    const bytes = new Uint8Array(Number(options['bytes'] ?? 0)).fill(1);
    await pause(Number(options['loadMs'] ?? 0));
    return { version, bytes, loadMs: performance.now() - from };
  },
  predict: (batch: number[], { state }) =>
    batch.map(() => ({ version: state.version, pid: process.pid, loadMs: state.loadMs })),
});
