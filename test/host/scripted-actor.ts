import { Worker } from 'node:worker_threads';
import { defineActor } from '../../src/actor/define-actor.js';

/** Records are commands: what each does to the replica that runs it. Anything else is echoed. */
export type Command =
  | { readonly do: 'throw'; readonly code?: string }
  | { readonly do: 'error' }
  | { readonly do: 'exit'; readonly code: number }
  | { readonly do: 'signal'; readonly signal: NodeJS.Signals }
  | { readonly do: string };

let unhandled = 0;

async function obey(command: Command): Promise<unknown> {
  switch (command.do) {
    case 'throw':
      throw Object.assign(new RangeError('as told'), { code: 'E_TOLD', shelf: 7 });
    case 'reject':
      await new Promise((resolve) => setImmediate(resolve));
      throw new TypeError('rejected as told');
    case 'error':
      return new RangeError('only this record');
    case 'reject-late':
      setImmediate(() => void Promise.reject(Object.assign(new Error('too late'), { code: 'E_LATE' })));
      return ++unhandled;
    case 'throw-late':
      setImmediate(() => {
        throw Object.assign(new Error('thrown late'), { code: 'E_THROWN_LATE' });
      });
      return await new Promise(() => undefined);
    case 'exit':
      process.exit((command as { code: number }).code);
      break;
    case 'abort':
      process.abort();
      break;
    case 'signal':
      process.kill(process.pid, (command as { signal: NodeJS.Signals }).signal);
      return await new Promise(() => undefined);
    case 'loop':
      for (;;);
    case 'wait':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      break;
    case 'never':
      return await new Promise(() => undefined);
    case 'heap': {
      // Many small objects: a single growing array ends a worker's whole process on Node 22 and later.
      let held: unknown;
      for (let at = 0; ; at++) held = { held, text: `some text ${at}` };
    }
    case 'buffers': {
      const held: Uint8Array[] = [];
      for (;;) {
        held.push(new Uint8Array(8 * 2 ** 20).fill(1));
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    case 'function':
      return () => 1;
    case 'print':
      process.stdout.write('printed by the actor\n');
      return 'printed';
    case 'thread':
      return await new Promise((resolve, reject) => {
        const worker = new Worker('require("node:worker_threads").parentPort.postMessage(1)', { eval: true });
        worker.once('message', resolve);
        worker.once('error', reject);
      });
    default:
      return command;
  }
  return undefined;
}

export default defineActor({
  load({ options, signal }) {
    if (options['load'] === 'throw') throw Object.assign(new Error('no weights'), { code: 'E_WEIGHTS' });
    if (options['load'] === 'never') {
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('load was aborted')), { once: true });
      });
    }
    if (options['load'] === 'loop') for (;;);
    if (options['load'] === 'exit') process.exit(0);
    return { loads: 1, unloadDelayMs: 0 };
  },
  async predict(batch: unknown[], { signal }) {
    if (batch.length === 1 && batch[0] === 'short') return [];
    if (batch.length === 1 && batch[0] === 'until-abandoned') {
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      return ['abandoned'];
    }
    const outputs: unknown[] = [];
    for (const record of batch) {
      const isCommand = typeof record === 'object' && record !== null && 'do' in record;
      outputs.push(isCommand ? await obey(record as Command) : record);
    }
    return outputs;
  },
  unload() {
    process.stderr.write('');
  },
  methods: {
    loads: (state: { loads: number }) => state.loads,
    add: (_state, a: number, b: number) => a + b,
    fail: () => {
      throw Object.assign(new Error('method failed'), { code: 'E_METHOD' });
    },
    never: () => new Promise(() => undefined),
  },
});
