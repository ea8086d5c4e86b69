import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { type Remote, wrap } from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';
import { Piscina } from 'piscina';
import Tinypool from 'tinypool';
import workerpool from 'workerpool';
import { type Lane, workerUrl } from './lane.js';
import { type Numbered, NumberedCalls } from './numbered.js';

/**
 * Peers with one worker thread. Each is set up as its documentation says for speed on a synchronous task: piscina keeps
 * atomics 'sync' and one task per worker, its defaults and fastest for such a task; where a peer lets several tasks share a
 * worker, a second lane shows that setting too.
 */
export const threadPeers: readonly Lane[] = [
  piscinaLane('piscina', 'defaults (atomics sync, one task per worker)', 1),
  piscinaLane('piscina-shared', 'atomics sync, concurrentTasksPerWorker 256', 256),
  {
    id: 'tinypool',
    kind: 'thread',
    setup: 'worker_threads, one task per worker',
    open: () => Promise.resolve(openTinypool('worker_threads')),
  },
  {
    id: 'comlink',
    kind: 'thread',
    setup: 'wrap over the worker',
    async open() {
      const worker = new Worker(workerUrl('echo-comlink'));
      await once(worker, 'online');
      const remote: Remote<{ echo(input: Float32Array): Float32Array }> = wrap(nodeEndpoint(worker));
      return { ask: (input) => remote.echo(input), close: () => worker.terminate() };
    },
  },
  {
    id: 'workerpool',
    kind: 'thread',
    setup: 'workerType thread',
    open() {
      const pool = workerpool.pool(fileURLToPath(workerUrl('echo-workerpool')), {
        workerType: 'thread',
        minWorkers: 1,
        maxWorkers: 1,
      });
      return Promise.resolve({
        ask: (input) => pool.exec('echo', [input]) as unknown as PromiseLike<Float32Array>,
        close: async () => pool.terminate(true),
      });
    },
  },
  {
    id: 'postMessage',
    kind: 'thread',
    setup: 'bare worker, one message per ask',
    async open() {
      const worker = new Worker(workerUrl('echo-port'));
      await once(worker, 'online');
      const calls = new NumberedCalls((message) => worker.postMessage(message));
      worker.on('message', (message: Numbered) => calls.answered(message));
      return { ask: (input) => calls.ask(input), close: () => worker.terminate() };
    },
  },
];

export function openTinypool(runtime: 'worker_threads' | 'child_process'): Awaited<ReturnType<Lane['open']>> {
  const pool = new Tinypool({
    filename: workerUrl('echo-task').href,
    runtime,
    serialization: 'advanced',
    minThreads: 1,
    maxThreads: 1,
  });
  return { ask: (input) => pool.run(input) as Promise<Float32Array>, close: () => pool.destroy() };
}

function piscinaLane(id: string, setup: string, concurrentTasksPerWorker: number): Lane {
  return {
    id,
    kind: 'thread',
    setup,
    open() {
      const pool = new Piscina<Float32Array, Float32Array>({
        filename: workerUrl('echo-task').href,
        minThreads: 1,
        maxThreads: 1,
        concurrentTasksPerWorker,
      });
      return Promise.resolve({ ask: (input) => pool.run(input), close: () => pool.destroy() });
    },
  };
}
