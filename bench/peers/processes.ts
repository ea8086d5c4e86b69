import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import workerpool from 'workerpool';
import { type Lane, workerUrl } from './lane.js';
import { type Numbered, NumberedCalls } from './numbered.js';
import { openTinypool } from './threads.js';

/** Peers with one child process; advanced serialization, since json turns typed arrays into plain objects. */
export const processPeers: readonly Lane[] = [
  {
    id: 'tinypool-process',
    kind: 'process',
    setup: 'child_process, one task per worker',
    open: () => Promise.resolve(openTinypool('child_process')),
  },
  {
    id: 'workerpool-process',
    kind: 'process',
    setup: 'workerType process, advanced serialization',
    open() {
      const pool = workerpool.pool(fileURLToPath(workerUrl('echo-workerpool')), {
        workerType: 'process',
        minWorkers: 1,
        maxWorkers: 1,
        forkOpts: { serialization: 'advanced', execArgv: [] },
      });
      return Promise.resolve({
        ask: (input) => pool.exec('echo', [input]) as unknown as PromiseLike<Float32Array>,
        close: async () => pool.terminate(true),
      });
    },
  },
  {
    id: 'fork',
    kind: 'process',
    setup: 'bare fork, advanced serialization, one message per ask',
    async open() {
      const child = fork(workerUrl('echo-fork'), { serialization: 'advanced', execArgv: [] });
      await once(child, 'spawn');
      const calls = new NumberedCalls((message) => child.send(message));
      child.on('message', (message) => calls.answered(message as Numbered));
      return {
        ask: (input) => calls.ask(input),
        async close() {
          const gone = once(child, 'exit');
          child.disconnect();
          await gone;
        },
      };
    },
  },
];
