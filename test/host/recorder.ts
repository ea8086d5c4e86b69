import type { Isolation } from '../../src/wire/definition.js';
import type { Death, Description, Link, RecordResult, ReplicaSpec } from '../../src/host/link.js';
import { startLink } from '../../src/host/start-link.js';
import type { TroupeError } from '../../src/kernel/errors.js';

export const SCRIPTED = new URL('./scripted-actor.js', import.meta.url).href;
export const TENSOR = new URL('./tensor-actor.js', import.meta.url).href;

export type Answered =
  | { readonly kind: 'reply'; readonly id: number; readonly results: readonly RecordResult[] }
  | { readonly kind: 'failed'; readonly id: number; readonly error: TroupeError };

/** A link with its events as promises, for tests. */
export interface Recorded {
  readonly link: Link;
  readonly ready: Promise<Description>;
  readonly exited: Promise<Death>;
  /** Everything told, in order, by event name. */
  readonly told: string[];
  /** Sends a batch and waits for its answer; rejects when the replica ends first. */
  ask(inputs: readonly unknown[]): Promise<Answered>;
  [Symbol.asyncDispose](): Promise<void>;
}

export function specOf(isolation: Isolation, changes: Partial<ReplicaSpec> = {}): ReplicaSpec {
  return {
    pool: 'tested',
    replica: 0,
    replicas: 1,
    incarnation: 3,
    isolation,
    actor: SCRIPTED,
    modelDir: undefined,
    version: undefined,
    options: {},
    device: 'cpu',
    maxBatchSize: 32,
    loadTimeoutMs: 60_000,
    heartbeatMs: 1000,
    stopTimeoutMs: 4000,
    memoryLimitBytes: undefined,
    ...changes,
  };
}

export function record(spec: ReplicaSpec): Recorded {
  const told: string[] = [];
  const waiting = new Map<number, { resolve(answer: Answered): void; reject(error: unknown): void }>();
  let nextId = 1;
  let onReady!: (description: Description) => void;
  let onExited!: (death: Death) => void;
  const ready = new Promise<Description>((resolve) => {
    onReady = resolve;
  });
  const exited = new Promise<Death>((resolve) => {
    onExited = resolve;
  });
  const settle = (answer: Answered): void => {
    told.push(answer.kind);
    waiting.get(answer.id)?.resolve(answer);
    waiting.delete(answer.id);
  };
  const link = startLink(spec, {
    ready: (description) => {
      told.push('ready');
      onReady(description);
    },
    reply: (id, results) => settle({ kind: 'reply', id, results }),
    failed: (id, error) => settle({ kind: 'failed', id, error }),
    exited: (death) => {
      told.push('exited');
      for (const waiter of waiting.values()) waiter.reject(death);
      waiting.clear();
      onExited(death);
    },
    stale: () => told.push('stale'),
  });
  return {
    link,
    ready,
    exited,
    told,
    ask: (inputs) =>
      new Promise((resolve, reject) => {
        const id = nextId++;
        waiting.set(id, { resolve, reject });
        link.send(id, inputs);
      }),
    async [Symbol.asyncDispose]() {
      link.stop({ now: true });
      await exited;
    },
  };
}
